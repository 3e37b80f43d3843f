"""Gradients for the pixels, and what is wrong with them"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from ..core.tensors import bview

__all__ = ["NoGradient", "Broken", "watched", "finite", "value_and_grad", "clip"]


class NoGradient(ValueError):
    "No gradient reaches the pixels"


# where the images are counted whose gradient was not finite
_broken: ContextVar[Broken | None] = ContextVar("broken", default=None)


class Broken:
    "How many images of one batch had a gradient that was not finite, at most"

    # of so many, at the worst point; a tensor as soon as there are some, so that nobody waits for a
    # GPU
    images: int | Tensor = 0
    n = 0  # images in the largest batch

    def note(self, bad):
        k = bad.sum()
        self.images = torch.maximum(k, self.images) if isinstance(self.images, Tensor) else k
        self.n = max(self.n, len(bad))

    def __bool__(self):
        return int(self.images) > 0

    def __str__(self):
        return f"the gradient is not finite at some pixels of {int(self.images)} of {self.n} images"


@contextmanager
def watched(
    tell: bool = True,  # warn at the end; only where nobody around counts already
):  # gives a `Broken`
    """Count the images whose gradient was not finite, for a while

    Parameters
    ----------
    tell : bool
        warn at the end; only where nobody around counts already (default: True)

    Yields
    ------
    gives a `Broken`
    """
    around = _broken.get()
    mine = Broken() if around is None or not tell else around
    mark = _broken.set(mine)
    try:
        yield mine
    finally:
        _broken.reset(mark)
    if tell and around is None and mine:
        warnings.warn(
            f"{mine}; infinity counts as the largest finite entry and NaN as 0 there, so that a"
            " search may miss what it could find: ask an attack without gradients too, such as"
            " square.",
            stacklevel=4,
        )


def finite(
    g: Tensor,  # (b,...) gradients
) -> Tensor:  # (b,...) the same where all is finite
    """Gradients without NaN (0 in its place) and infinity (the largest finite entry of its image,
    with its sign). How many images had some is counted, see `watched`

    Parameters
    ----------
    g : Tensor
        (b,...) gradients

    Returns
    -------
    Tensor
        (b,...) the same where all is finite
    """
    # elsewhere nobody waits for the answer
    cpu = g.device.type == "cpu"
    # a sum is quick, and may only overflow
    if cpu and math.isfinite(g.sum()):
        return g
    fine = g.isfinite()
    if cpu and fine.all():
        return g
    if (count := _broken.get()) is not None:
        count.note(~fine.flatten(1).all(1))
    top = torch.where(fine, g.abs(), 0).flatten(1).amax(1)
    top = bview(torch.where(top > 0, top, 1), g)
    return torch.where(fine, g, torch.where(g.isnan(), 0, g.sign()) * top)


def value_and_grad(
    f: Callable,  # x -> (value (b,), logits, won) or (value (b,),)
    x: Tensor,  # (b,...)
    # value (b,), gradient with respect to x (b,...), made `finite`, then what else f returned
) -> tuple:
    """`f(x)` and its gradient with respect to `x` alone; no `.grad` is touched. NoGradient, a
    ValueError, where no gradient reaches `x`

    Parameters
    ----------
    f : Callable
        x -> (value (b,), logits, won) or (value (b,),)
    x : Tensor
        (b,...)

    Returns
    -------
    tuple
        value (b,), gradient with respect to x (b,...), made `finite`, then what else f returned
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v, *aux = f(x)
        g = torch.autograd.grad(v.sum(), x, allow_unused=True)[0] if v.requires_grad else None
    if g is None:
        raise NoGradient(
            "no gradient flows from the loss back to x: the model or the loss cuts the graph;"
            " attack it without gradients."
        )
    return v.detach(), finite(g), *(a.detach() for a in aux)


def clip(
    x: Tensor,  # any shape
    lo: float = 0.0,  # lowest value
    hi: float = 1.0,  # highest value
) -> Tensor:  # the shape of `x`
    """Clamp, with a gradient of one inside the bounds and on them, and of none outside

    A pixel that is black or white can still move into the box. `Tensor.clamp` says so up to torch
    2.14; from 2.15 on its gradient on a bound is zero.

    Parameters
    ----------
    x : Tensor
        any shape
    lo : float
        lowest value (default: 0.0)
    hi : float
        highest value (default: 1.0)

    Returns
    -------
    Tensor
        the shape of `x`
    """
    inside = (x >= lo) & (x <= hi)
    return torch.where(inside, x, x.detach().clamp(lo, hi))
