"""Weights of a blur

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gaussian_weights"]


def gaussian_weights(
    sigma: float,  # deviation, in pixels, above 0
    like: Tensor,  # of whose device and dtype they are
) -> Tensor:  # (2r+1,), r = 3 sigma rounded up, at least 1; their sum is 1
    "The weights of a Gaussian's mean along a line of pixels"
    r = max(1, math.ceil(3 * sigma))
    i = torch.arange(-r, r + 1, device=like.device, dtype=like.dtype)
    k = (-(i**2) / (2 * sigma**2)).exp()
    return k / k.sum()
