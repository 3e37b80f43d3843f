"""What all searches for the smallest change share: the nearest point seen, checks, a warning"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from ..core.checks import check_labels, check_logits
from ..core.protocols import ModelFunction
from ..core.tensors import alike, bview, logits
from .balls import L2, Linf
from .door import door
from .gradients import value_and_grad
from .losses import margin, missed, ruled_out
from .threat import Ball

__all__ = ["Nearest", "Search", "counts", "fools", "hair", "seek", "unit_of"]


def hair(
    z: Tensor,  # (b,c) logits
) -> Tensor:  # (b,) > 0
    "How far rounding may move a difference of two logits: 1e-5 of their range"
    z = z.detach()
    return 1e-5 * (z.amax(1) - z.masked_fill(ruled_out(z), math.inf).amin(1))


# (b,) bool: another class wins, and not by rounding alone, or there is no answer
def fools(
    z: Tensor,  # (b,c) logits
    y: Tensor,  # (b,) labels
) -> Tensor:  # (b,) bool
    "Does another class win by more than rounding, or is the answer NaN?"
    return (margin(z, y) > hair(z)) | z.isnan().any(1)


class Nearest:
    "Of all points seen, each sample's nearest one that fools the model"

    def __init__(
        self,
        x: Tensor,  # (b,...) clean images
        ball: Ball,  # gives norm and box
    ):
        # x itself where nothing is found,
        self.x0, self.x, self.ball = x, x.clone(), ball
        # at the distance infinity
        self.d = torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)

    def see(self, x, won):
        "Look at points `x` (b,...), of which `won` (b,) fool the model"
        d = self.ball.norm(x - self.x0)
        up = won & (d < self.d)
        self.x, self.d = torch.where(bview(up, x), x, self.x), torch.where(up, d, self.d)

    def take(self, at, other):
        "Merge what a search over the samples `at` found, or over several copies of them in a row"
        for x, d in zip(other.x.split(len(at)), other.d.split(len(at))):
            up = d < self.d[at]
            self.x[at[up]], self.d[at[up]] = x[up], d[up]

    def home(self, f, y, n):
        """Halve the last stretch back to x `n` times: where the half still fools the model, go on
        from there
        """
        # share of the stretch that does not fool, that does
        end, a, b = self.x, torch.zeros_like(self.d), torch.ones_like(self.d)
        for _ in range(n):
            mid = (a + b) / 2
            x = (self.x0 + bview(mid, end) * (end - self.x0)).clamp(self.ball.lo, self.ball.hi)
            with torch.no_grad():
                won = fools(f(x), y)
            self.see(x, won)
            a, b = torch.where(won, a, mid), torch.where(won, mid, b)
        return self


def unit_of(
    norm: type,  # the class Linf or L2
) -> Ball:  # of radius 1
    "The ball by which a distance is measured. TypeError for what is neither Linf nor L2"
    if norm in (Linf, L2):
        return norm(1.0)
    raise TypeError(
        f"norm is {norm!r}; give the class Linf or L2. A radius is for within(attack, Linf(8/255))."
    )


def counts(
    **named,  # name=number
):
    "Refuse what is no count. ValueError for a number below 0, or one that is not whole"
    for k, v in named.items():
        if v < 0 or v != int(v):
            raise ValueError(f"{k} is {v}; give a whole number >= 0.")


def _warn_flat(f, x, y):
    "Say so where nothing was found because there was no gradient to follow"
    g = value_and_grad(lambda x: (margin(f(x), y),), x)[1]
    n = int((~(g != 0)).flatten(1).all(1).sum())
    if n:
        warnings.warn(
            f"nothing found for {len(x)} images, of which {n} have gradient 0: that is"
            " masking, not robustness; try an attack without gradients.",
            stacklevel=4,
        )


def seek(
    model: ModelFunction,  # pixels (b,...) to logits (b,c)
    x: Tensor,  # (b,...) clean images
    y: Tensor,  # (b,) labels, or (b,c) probabilities
    search,  # what looks for the nearest point of those that are answered right
):
    """What all of them share: checks, eval mode, float32 or float64, and a search over those images
    only that are answered right
    """
    with door(model, x, y) as (m, x, y):
        x_adv, f = x.clone(), lambda x: alike(logits(m, x), x)
        with torch.no_grad():
            z = check_logits(f(x), len(x))
        check_labels(y, c=z.shape[1])
        y = y.argmax(1) if y.ndim == 2 else y
        if not (right := ~missed(z, y)).any():
            return x_adv
        best = search(f, x[right], y[right], z[right])
        if (lost := best.d.isinf()).any():
            _warn_flat(f, best.x0[lost], y[right][lost])
        x_adv[right] = best.x
    return x_adv


class Search:
    "An attack that looks for the smallest change, wherever that lies; an outline without `_search`"

    def _search(self, f, x, y, z) -> Nearest:
        "f: images to logits; x, y: images that are answered right, with labels; z: their logits"
        raise NotImplementedError(f"{type(self).__name__} is an outline; define _search.")

    def __call__(self, model: ModelFunction, x: Tensor, y: Tensor) -> Tensor:
        """x_adv (b,...), the nearest point found; x itself where it is answered wrong or nothing
        was found
        """
        return seek(model, x, y, self._search)
