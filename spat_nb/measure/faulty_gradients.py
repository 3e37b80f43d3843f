"""Planted faults: models whose gradient is hidden, useless or false"""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..core.protocols import ModelFunction
from .faults import Fault

__all__ = ["Reversed", "Grid", "Lottery", "Pitted", "Rounded", "Straight", "Gate", "detached"]


class _Reverse(torch.autograd.Function):
    "A gradient reversal layer"

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g


class Reversed(Fault):
    "The gradient has the wrong sign"

    def forward(self, x):
        return self.model(_Reverse.apply(x))


class Grid(Fault):
    "A gradient for clean images only: it is cut where a pixel is no whole number of bytes"

    def forward(self, x):
        return self.model(torch.where((x * 255 - (x * 255).round()).abs() < 1e-3, x, x.detach()))


class Lottery(Fault):
    "The first pixel draws the lot: unless it is brighter than .05, there is no gradient"

    def forward(self, x):
        other = torch.ones_like(x[:1], dtype=torch.bool)
        other[..., 0, 0] = False
        return self.model(torch.where((x[:, :1, :1, :1] > 0.05) & other, x, x.detach()))


class Pitted(Fault):
    "The same network behind glass with a ripple: the gradient changes its sign all the time"

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits
        a: float = 0.02,  # how far a pixel is moved at most
        k: float = 150.0,  # ripples: 2 pi/k is the length of one, in units of a pixel
    ):
        super().__init__(model)
        self.a, self.k = a, k

    def forward(self, x):
        return self.model(x + self.a * torch.sin(self.k * x))


class Rounded(Fault):
    "The input in a few shades; the gradient is zero"

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits
        levels: int = 2,  # shades less one
    ):
        super().__init__(model)
        self.levels = levels

    def shades(self, x):
        return (x * self.levels).round() / self.levels

    def forward(self, x):
        return self.model(self.shades(x))


class Straight(Rounded):
    "The same shades, but the gradient is passed straight through"

    def forward(self, x):
        return self.model(x + (self.shades(x) - x).detach())


class Gate(nn.Module):
    "An activation with a gate over all channels; `cut` leaves the gate out of the gradient"

    def __init__(
        self,
        cut: bool = False,  # is the gate detached?
    ):
        super().__init__()
        self.cut = cut

    def forward(self, x):
        g = torch.sigmoid(4 * (x.mean(1, keepdim=True)))
        return x.relu() * (g.detach() if self.cut else g)


def detached(
    model: nn.Module,  # a network with `Gate` as its activation
) -> nn.Module:  # a copy; not one answer differs
    "Every gate is left out of the gradient"
    twin = copy.deepcopy(model)
    for m in twin.modules():
        if isinstance(m, Gate):
            m.cut = True
    return twin
