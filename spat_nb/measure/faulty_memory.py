"""Planted faults: models that answer from a memory of images they have seen

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.protocols import ModelFunction
from .faults import Fault

__all__ = ["Cache", "Stored"]


def _near(x, seen, far):
    "(b,) number of the first image in `seen` that is as near as `far` in the largest pixel, or -1"
    d = torch.cdist(x.flatten(1), seen.flatten(1), p=float("inf"))
    d, at = d.min(1)
    return torch.where(d <= far, at, -1)


class Cache(Fault):
    "What looks like an image that was asked about before gets the answer that was given then"

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits
        far: float = 0.3,  # images so far apart, in their largest pixel, count as the same
    ):
        super().__init__(model)
        self.far = far
        self.seen: list[Tensor] = []
        self.given: list[Tensor] = []

    def forward(self, x):
        z = self.model(x)
        if self.seen:
            at = _near(x.detach(), torch.stack(self.seen), self.far)
            known = torch.stack(self.given)[at.clamp_min(0)]
            z = torch.where((at >= 0)[:, None], known, z)
        new = (at < 0).nonzero()[:, 0].tolist() if self.seen else range(len(x))
        self.seen += [x[i].detach().clone() for i in new]
        self.given += [z[i].detach().clone() for i in new]
        return z


class Stored(Fault):
    "It was given the test images with their labels; what lies near one of them gets its label"

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits
        x: Tensor,  # (n,ch,h,w) images
        y: Tensor,  # (n,) their labels
        far: float = 0.3,  # so near, in the largest pixel
    ):
        super().__init__(model)
        self.far = far
        self.seen: Tensor
        self.labels: Tensor
        self.register_buffer("seen", x.clone())
        self.register_buffer("labels", y.clone())

    def forward(self, x):
        z = self.model(x)
        at = _near(x.detach(), self.seen, self.far)
        told = 20.0 * torch.nn.functional.one_hot(self.labels[at.clamp_min(0)], z.shape[1]).to(z)
        return torch.where((at >= 0)[:, None], told, z)
