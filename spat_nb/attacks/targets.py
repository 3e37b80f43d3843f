"""Any attack, towards one wrong class after another

Where few images are still answered right, a pass over them hardly keeps the processor busy. So
`in_turn` deals out the next few targets at once, as many as fill one pass: the same images side by
side, each copy with a target of its own. With many images it deals one target at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.checks import check_labels, check_logits
from ..core.tensors import logits
from .ascent import worst
from .attack import Attack
from .door import door
from .losses import missed
from .steps import apgd
from .threat import Ball
from .wrapped import dlr_targeted, margin_targeted

__all__ = ["TOGETHER", "Targeted", "apgd_t", "in_turn"]

# numbers that the images of one pass over several targets may hold: 4096 digits, 85 images of
# CIFAR-10
TOGETHER = 2**18


def in_turn(
    # (b,m) targets of each image in the order in which they are tried; (b,m,w) if one try has w of
    # them
    ks: Tensor,
    x: Tensor,  # (b,...) images
    # () -> (n,) numbers of the images that still stand; asked anew before each deal
    standing: Callable,
    # yields i (n,), j (n*r,): i repeated r times, and k (n*r,) or (n*r,w): the targets of j
):
    """Deal out the targets column by column to the images that still stand, several columns at once
    where these images are few
    """
    while ks.shape[1] and len(i := standing()):
        r = min(max(1, TOGETHER // (len(i) * x[0].numel())), ks.shape[1])
        yield i, i.repeat(r), ks[i, :r].transpose(0, 1).flatten(0, 1)
        ks = ks[:, r:]


@dataclass(frozen=True)
class Targeted:
    """`attack` towards one wrong class after another (`in_turn`), the most likely first, each
    only on the samples that still stand; keeps each sample's worst point.

    Parameters
    ----------
    attack : Attack
        its loss is replaced
    targets : int
        wrong classes to try, from the 2nd ranked on (default: 9)
    loss : Callable
        t (b,) -> loss(z, y); with fewer than 4 classes `margin_targeted` takes its place (default:
        dlr_targeted)

    Raises
    ------
    ValueError
        where `targets` is below 1
    """

    attack: Attack  # its loss is replaced
    targets: int = 9  # wrong classes to try, from the 2nd ranked on
    # t (b,) -> loss(z, y); with fewer than 4 classes `margin_targeted` takes its place
    loss: Callable = dlr_targeted

    def __post_init__(self):
        if self.targets < 1:
            raise ValueError(
                f"targets is {self.targets}; give the number of wrong classes to try, 9 for ten"
                " classes."
            )

    @property
    def ball(self):
        "The ball of its attack"
        return self.attack.ball

    def __call__(self, model, x, y):
        """Attack `x` (b,ch,h,w) with labels `y` (b,); samples that are wrong already come back as
        they are
        """
        return self.run(model, x, y)[0]

    # x_adv (b,ch,h,w), its loss (b,), does it fool the model? (b,)
    def run(self, model, x, y) -> tuple:
        "The same, with the loss towards its target, and whether the model is fooled"
        with door(model, x, y) as (m, x, y):
            with torch.no_grad():
                z = check_logits(logits(m, x), len(x))
            check_labels(y, c=z.shape[1])
            kept = x, x.new_full((len(x),), -torch.inf), missed(z, y)
            ranked = z.topk(min(self.targets + 1, z.shape[1]), 1).indices[:, 1:]
            loss = margin_targeted if self.loss is dlr_targeted and z.shape[1] < 4 else self.loss

            def standing():
                return (~kept[2]).nonzero()[:, 0]

            for i, j, t in in_turn(ranked, x, standing):
                new = replace(self.attack, loss=loss(t)).run(model, x[j], y[j])
                for one in zip(*(v.split(len(i)) for v in new)):
                    kept = tuple(
                        k.index_put((i,), n)
                        for k, n in zip(kept, worst(one, tuple(k[i] for k in kept)))
                    )
            return kept


def apgd_t(
    ball: Ball,  # Linf or L2
    steps: int = 100,  # number of steps, per target
    targets: int = 9,  # wrong classes to try
    **kw,  # other slots of `apgd`
) -> Targeted:
    """Targeted APGD (Croce & Hein 2020): `dlr_targeted` towards the 2nd to (targets+1)th ranked
    class

    Parameters
    ----------
    ball : Ball
        Linf or L2
    steps : int
        number of steps, per target (default: 100)
    targets : int
        wrong classes to try (default: 9)
    **kw
        other slots of `apgd`

    Returns
    -------
    Targeted
    """
    return Targeted(apgd(ball, steps, **kw), targets)
