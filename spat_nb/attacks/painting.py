"""What the Square attack paints: random windows, signs, and the bumps of its L2 version"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.rng import rand_like
from .balls import L2
from .threat import Ball

__all__ = ["bump", "coin", "shift", "tiles", "window"]


def coin(
    x: Tensor,  # gives shape, dtype and device
    generator: torch.Generator | None,  # random stream; None: torch's own
) -> Tensor:  # in the shape and dtype of `x`
    "-1 or +1 in the shape of `x`"
    return torch.where(rand_like(x, generator=generator) < 0.5, -1.0, 1.0).to(x.dtype)


@lru_cache
def _corner(s, w, device):
    "Numbers (s*s,) of the pixels in the first window of side `s` of an image that is `w` wide"
    k = torch.arange(s, device=device)
    return (k[:, None] * w + k).flatten()


def window(
    x: Tensor,  # (b,ch,h,w) gives shape and device
    s: int,  # side
    generator: torch.Generator | None,  # random stream; None: torch's own
) -> Tensor:  # (b,1,s*s) int64
    "Numbers of the pixels in a random window, counted row by row; every place equally likely"
    one, (h, w) = x[:, 0, 0, 0], x.shape[2:]
    top, left = ((rand_like(one, generator=generator) * (n - s + 1)).long() for n in (h, w))
    return (top * w + left)[:, None, None] + _corner(s, w, x.device)


def _unit(v):
    return v / v.square().sum((-2, -1), keepdim=True).sqrt().clamp_min(1e-12)


def _hill(h, w, like):
    """sum_{j=d+1}^{n+1} 1/j^2 at distance d (in the sup norm) from the middle of an h x w window, n
    the largest distance; of length 1
    """
    rows, cols = (abs(torch.arange(n, device=like.device) - n // 2) for n in (h, w))
    tail = (
        (1 / torch.arange(max(h, w) // 2 + 1, 0, -1, device=like.device, dtype=like.dtype) ** 2)
        .cumsum(0)
        .flip(0)
    )
    return _unit(tail[torch.maximum(rows[:, None], cols)])


def bump(
    s: int,  # side of the window
    like: Tensor,  # gives dtype and device
) -> Tensor:  # (s,s), of length 1
    "A hill above a valley, the pattern of the L2 attack (Andriushchenko et al. 2020)"
    return _unit(torch.cat([_hill(s // 2, s, like), -_hill(s - s // 2, s, like)]))


def tiles(
    x: Tensor,  # (b,ch,h,w) clean images
    ball: Ball,  # around them
    generator: torch.Generator | None = None,  # random stream; default: torch's own
) -> Tensor:  # (b,ch,h,w) first point
    """Start at a quilt of bumps, lying or standing, with a sign for each channel, of length eps in
    all
    """
    s = max(min(x.shape[2:]) // 5, 1)
    rows, cols = (n // s for n in x.shape[2:])

    def spread(v):
        return v.repeat_interleave(s, 2).repeat_interleave(s, 3)

    b, coins = bump(s, x), [coin(x[:, :k, :rows, :cols], generator) for k in (1, x.shape[1])]
    quilt = spread(coins[1]) * torch.where(
        spread(coins[0]) > 0, b.repeat(rows, cols), b.T.repeat(rows, cols)
    )
    top, left = ((n - s * k) // 2 for n, k in zip(x.shape[2:], (rows, cols)))
    quilt = F.pad(quilt, (left, x.shape[3] - s * cols - left, top, x.shape[2] - s * rows - top))
    return x + ball.eps * ball.ascent(quilt)


def shift(
    best: Tensor,  # (b,ch,h,w) best points so far
    x: Tensor,  # (b,ch,h,w) clean images
    s: int,  # side of the square
    ball: L2,  # threat model
    generator: torch.Generator | None = None,  # random stream
) -> Tensor:  # (b,ch,h,w) proposals
    """L2 (algorithm 3): empty one window, and spend what it held, and what the box had left over,
    on a bump in another
    """
    s = min(max(s, 3) + (max(s, 3) + 1) % 2, *x.shape[2:])
    d, here, there, b = (
        (best - x).flatten(2),
        window(x, s, generator),
        window(x, s, generator),
        bump(s, x),
    )

    def size(v):
        return v.square().sum(2, keepdim=True)

    new = coin(d[:, :, :1], generator) * torch.where(
        coin(d[:, :1, :1], generator) > 0, b.flatten(), b.T.flatten()
    )
    held = d.gather(2, here.expand(-1, d.shape[1], -1))
    new = new + held / size(held).sqrt().clamp_min(1e-12)
    empty = torch.zeros_like(here, dtype=d.dtype).expand_as(held)
    rest = d.scatter(2, here.expand_as(held), empty).scatter(2, there.expand_as(held), empty)
    spare = (ball.eps**2 - size(d).sum(1, keepdim=True)).clamp_min(0) / d.shape[1] + size(d - rest)
    d = rest.scatter(
        2, here.expand_as(held), new / size(new).sqrt().clamp_min(1e-12) * spare.sqrt()
    )
    return x + ball.eps * ball.ascent(d).view_as(x)
