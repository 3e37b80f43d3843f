"""What robustness costs which class"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..attacks.losses import hard_labels
from ..core.evalmode import eval_mode
from ..core.protocols import AttackFunction, ModelFunction
from ..core.tensors import logits
from ..measure.record import Record

__all__ = ["rho", "account", "tally", "class_means", "class_errors", "pooled"]


def rho(
    avg: float,  # of the method, in any unit
    worst: float,  # of the method
    avg0: float,  # of its baseline, above 0
    worst0: float,  # of its baseline, above 0
) -> float:
    """Relative gain of the worst class minus relative loss of the average.

    ValueError where the baseline is 0
    """
    if not (avg0 > 0 and worst0 > 0):
        raise ValueError(
            f"the baseline has average {avg0} and worst class {worst0}; rho divides by both."
        )
    return (worst - worst0) / worst0 - (avg0 - avg) / avg0


def account(
    new: Record,  # answers of the method
    base: Record,  # answers to the same images
    attack: str,  # a column of both
    weak: int,  # the class that is to be helped, chosen on other images
    takers: list,  # the classes it is taken for
) -> dict:  # all in points (of 100) but rho
    """What a method gives and takes: average and worst class, the class it meant to help, and what
    the confounding classes lose
    """
    (a, a0), (v, v0) = zip(
        *(
            (torch.tensor(r.per_class(attack).accuracy.tolist()), r.accuracy(attack))
            for r in (new, base)
        )
    )
    lo, hi = new.interval(attack)
    return dict(
        clean=100 * new.accuracy(),
        average=100 * v,
        lo=100 * lo,
        hi=100 * hi,
        worst=100 * a.min().item(),
        which=new.weakest(attack)[0],
        rho=rho(v, a.min().item(), v0, a0.min().item()) if a0.min() > 0 else math.nan,
        helped=100 * (a - a0)[weak].item(),
        confounds=100 * (a - a0)[takers].mean().item(),
    )


def tally(
    v: Tensor,  # (b,) or (b,m) values
    y: Tensor,  # (b,) labels
    c: int,  # number of classes
) -> Tensor:  # (c,) or (c,m)
    "Sum the values of each class, without a graph. ValueError for soft targets"
    return F.one_hot(hard_labels(y, "tally"), c).T.to(v.device, torch.float32) @ v.detach().float()


@torch.no_grad()
def class_means(
    f: Callable,  # (model, x, y) -> values (b,m)
    model: ModelFunction,  # in any mode, restored after
    data,  # `Batches`
) -> Tensor:  # (m,c) mean of each class; 0 for a class without images
    "Measure each class on a data set"

    def one(v):
        return torch.cat([v, torch.ones_like(v[:, :1])], 1)

    with eval_mode(model):
        t: Any = sum(tally(one(f(model, x, y).float()), y, data.c) for x, y in data)
    return (t[:, :-1] / t[:, -1:].clamp_min(1)).T


def class_errors(
    model: ModelFunction,  # pixels to logits
    data,  # `Batches`
    attack: AttackFunction,  # attack(model, x, y)
) -> Tensor:  # (2,c) in [0,1]
    "Clean error and boundary error of each class; 1 minus their sum is its robust accuracy"

    def f(model, x, y):
        ok, held = (logits(model, v).argmax(1) == y for v in (x, attack(model, x, y)))
        return torch.stack([~ok, ok & ~held], 1)

    return class_means(f, model, data)


def pooled(
    learner,  # the Learner; one that runs on many devices sums
    t: Tensor,  # of this process
    mean: bool = False,  # of the processes, where all have seen the same images
) -> Tensor:
    "What all processes have seen together; a run on one device: `t` itself"
    many = getattr(learner, "devices", None)
    return t if many is None else many.sum(t.clone()) / (many.of if mean else 1)
