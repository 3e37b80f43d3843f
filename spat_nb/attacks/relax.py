from __future__ import annotations
import math
from collections.abc import Callable
from dataclasses import dataclass
import torch
from torch import Tensor
from torch.nn import functional as F
@dataclass(frozen=True)
class Curve:
    "An activation, and what a bound has to know of it"

    f: Callable  # each entry by itself
    steepest: float  # the largest |f'|
    bend: float = math.inf  # the largest |f''|; infinity: two straight pieces that meet at 0
    lowest: tuple | None = None  # (where f is least, how little); None: f only rises
    flat: float = 0.0  # of two straight pieces: the slope of the left one

    @property
    def kinked(self) -> bool:
        "Two straight pieces: nothing is lost where l and u lie on one side of 0"
        return math.isinf(self.bend)

    def box(
        self,
        l: Tensor,  # lowest inputs
        u: Tensor,  # highest inputs
    ) -> tuple:  # lowest and highest outputs
        "The least and the largest value between l and u"
        a, b = self.f(l), self.f(u)
        if self.lowest is None:
            return a, b
        at, least = self.lowest
        inside = (l < at) & (at < u)
        return torch.where(inside, least, torch.minimum(a, b)), torch.maximum(a, b)


def leaky(
    a: float = 0.0,  # slope of the left piece, in [0,1]; 0 is ReLU
) -> Curve:
    "max(v, a v)"
    return Curve(lambda v: torch.maximum(v, a * v), 1.0, flat=a)


CURVES = {
    "relu": leaky(),
    "sigmoid": Curve(torch.sigmoid, 0.25, 0.09623),  # 1/(6 sqrt 3)
    "tanh": Curve(torch.tanh, 1.0, 0.7699),  # 4/(3 sqrt 3)
    "softplus": Curve(F.softplus, 1.0, 0.25),
    "silu": Curve(F.silu, 1.09985, 0.5, (-1.2784645, -0.2784646)),
    "gelu": Curve(F.gelu, 1.12891, 0.7979, (-0.7517916, -0.1699713)),
}
def lines(
    curve: Curve,  # an activation
    l: Tensor,  # (...) lowest inputs
    u: Tensor,  # (...) highest inputs
    cells: int = 32,  # of a smooth curve: pieces between l and u that are looked at
) -> tuple:  # (slope, constant) of the line below and of the line above
    """Two straight lines with the activation between them wherever the input lies in [l,u]. ReLU's
    as in CROWN (Zhang et al. 2018): the chord above; below 0 or v, whichever leaves less room. Of
    a smooth curve both have the chord's slope, and a grid and |f''| say how far they must stand off
    """
    width = (u - l).clamp_min(1e-30)
    slope = (curve.f(u) - curve.f(l)) / width
    if curve.kinked:
        straight = (l >= 0) | (u <= 0)
        one, flat = torch.ones_like(l), torch.full_like(l, curve.flat)
        side = torch.where(l >= 0, one, flat)
        above = torch.where(straight, side, slope)
        below = torch.where(straight, side, torch.where(u > -l, one, flat))
        # the chord meets the curve at u; on one side of 0 the constant is 0
        shift = torch.where(straight, 0, curve.f(u) - above * u)
        return (below, torch.zeros_like(l)), (above, shift)
    low, high = torch.full_like(l, math.inf), torch.full_like(l, -math.inf)
    for i in range(cells + 1):
        v = l + (u - l) * (i / cells)
        rest = curve.f(v) - slope * v
        low, high = torch.minimum(low, rest), torch.maximum(high, rest)
    between = curve.bend * ((u - l) / cells).square() / 8  # how far f can stray inside a cell
    return (slope, low - between), (slope, high + between)
