"""The worst cases of a judgement: images that fall at the smallest radius, with what was changed"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attacks.threat import Ball
from ..core import spec
from ..core.evalmode import device_of, eval_mode
from ..core.protocols import ModelFunction
from ..core.tensors import own
from ..core.threads import fitting_threads
from .battery import chosen_attacks
from .feed import batches_of
from .journal import marks_of
from .report import Report
from .stages import logits_of, stream_for
from .stopping import in_order

__all__ = ["Case", "Cases", "worst_cases"]

PARTS = (0.25, 0.5, 0.75, 1.0)  # of the radius, at which it is tried
LOOK = 64  # images that are looked at


@dataclass(frozen=True, eq=False)
class Case:
    """An image that falls

    Parameters
    ----------
    row : int
        its number among the images that were judged, from 0
    x : Tensor
        (ch,h,w) as it is, pixels in [0,1]
    x_adv : Tensor
        (ch,h,w) attacked
    label : str
        class that it is of
    answer : str
        class that the network says after the attack
    radius : float
        of the ball in which it fell
    """

    row: int  # its number among the images that were judged, from 0
    x: Tensor  # (ch,h,w) as it is, pixels in [0,1]
    x_adv: Tensor  # (ch,h,w) attacked
    label: str  # class that it is of
    answer: str  # class that the network says after the attack
    radius: float  # of the ball in which it fell


@dataclass(frozen=True, eq=False)
class Cases:
    """What was found, and how

    Parameters
    ----------
    shown : tuple
        of Case, the smallest radius first (default: ())
    told : str
        how they were found, or why there are none, in a sentence (default: "")
    """

    shown: tuple = ()  # of Case, the smallest radius first
    told: str = ""  # how they were found, or why there are none, in a sentence


def worst_cases(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data,  # what was judged: `Batches`, tensors (x, y), or what yields batches (x, y)
    report: Report,  # of this network on these images
    most: int = 6,  # cases to show
    outside: bool = False,  # may specs name what is not ours? Only where a person typed them
) -> Cases:
    """Run one attack again on a few images that fell, at growing radii, and keep the images

    It is the attack that most images fell to, of those that can be made in a smaller ball.

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data
        what was judged: `Batches`, tensors (x, y), or what yields batches (x, y)
    report : Report
        of this network on these images
    most : int
        cases to show (default: 6)
    outside : bool
        may specs name what is not ours? Only where a person typed them (default: False)

    Returns
    -------
    Cases
    """
    try:
        ball = spec.make(report.ball, outside=outside)
    except (ValueError, TypeError):
        return Cases(told=f"The ball {report.ball} cannot be made again from its name.")
    names = [k for k in report.attacks if _made(report, k, ball, outside) is not None]
    if not names:
        return Cases(told="No attack of this report can be run again from its name.")
    name = min(names, key=report.record.accuracy)
    fell = report.record.correct() & ~report.record.correct(name)
    rows = fell.nonzero()[:LOOK, 0].tolist()
    if not rows:
        return Cases(told=f"No image that was answered right fell to {name}.")
    if report.stopped is not None:
        data = in_order(data, report.record.info["seed"], report.stopped.images)
    x, y = _images(data, rows, device_of(model))
    if not _same(x, y, report.record, rows):
        return Cases(told="The data came in another order when it was read again.")
    seed = report.record.info.get("seed")
    found = []
    with eval_mode(model), fitting_threads(model, x):
        for part in PARTS:
            small = replace(ball, eps=part * ball.eps)
            with stream_for(x.device, seed, "cases", name, part):
                x_adv = _attacked(_made(report, name, small, outside), model, x, y)
            if x_adv is None:
                continue
            cases, stands = _fallen(model, x, x_adv, y, small, rows, report.record.classes)
            found += cases
            x, y = x[stands], y[stands]
            rows = [r for r, kept in zip(rows, stands.tolist()) if kept]
            if not rows:
                break
    if not found:
        return Cases(told=f"No image fell when {name} was run again on those that fell to it.")
    tried = ", ".join(f"{part * ball.eps:.4g}" for part in PARTS)
    told = (
        f"{report.attacks[name]} was run again, with seed {seed}, on the first"
        f" {min(int(fell.sum()), LOOK)} of {int(fell.sum())} images that fell to it, at radius"
        f" {tried}. Shown are those that fell at the smallest radius, the surest wrong answers"
        " first."
    )
    return Cases(tuple(found[:most]), told)


def _made(report, name, ball, outside):
    "The attack, made in this ball from its spec; None where that cannot be done"
    try:
        attack, _ = chosen_attacks({name: report.attacks[name]}, ball, outside)[name]
    except (ValueError, TypeError):
        return None
    is_cascade = isinstance(getattr(attack, "members", None), dict)
    own_ball = getattr(attack, "ball", ball)
    return None if is_cascade or own_ball != ball else attack


def _attacked(attack, model, x, y):
    "The images of an attack; None where it cannot be made or run at this radius"
    try:
        x_adv = attack(model, x.clone(), y.clone())
    except (RuntimeError, TypeError, ValueError):
        return None
    return x_adv if x_adv.shape == x.shape and bool(x_adv.isfinite().all()) else None


def _images(data, rows, device):
    "(x, y) of these rows, which grow"
    wanted = set(rows)
    seen = 0
    xs, ys = [], []
    for x, y in batches_of(data):
        here = [r - seen for r in range(seen, seen + len(y)) if r in wanted]
        if here:
            xs.append(own(x[here]).to(device or x.device))
            ys.append(own(y[here]).to(device or x.device))
        seen += len(y)
        if seen > rows[-1]:
            break
    if not xs:  # what gives its batches only once
        return torch.empty(0), torch.empty(0)
    return torch.cat(xs), torch.cat(ys)


def _same(x, y, record, rows):
    "Are these the images that were judged?"
    if len(y) != len(rows) or not torch.equal(y.cpu(), record.y[rows]):
        return False
    return record.marks is None or record.marks[rows].tolist() == marks_of(x)


def _fallen(model, x, x_adv, y, ball: Ball, rows, classes):
    "(cases, which images stand): what fell inside the ball, the surest wrong answers first"
    z = logits_of(model, x_adv)
    inside = ball.inside(x_adv, x)
    answers = z.argmax(1)
    fell = (answers != y) & inside
    margins = z.gather(1, answers[:, None])[:, 0] - z.gather(1, y[:, None])[:, 0]
    order = sorted(fell.nonzero()[:, 0].tolist(), key=lambda i: (-margins[i].item(), i))
    cases = [
        Case(
            rows[i],
            x[i].cpu(),
            x_adv[i].detach().cpu(),
            str(classes[int(y[i])]),
            str(classes[int(answers[i])]),
            ball.eps,
        )
        for i in order
    ]
    return cases, ~fell
