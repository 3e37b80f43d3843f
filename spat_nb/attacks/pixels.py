"""Few pixels, or one square, by questions alone: random search at the corners of the box

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.rng import rand_like
from .oracle import BlackBox, those
from .painting import coin
from .sparse import L0, Patch, Sparse

__all__ = ["Pixels", "pixel_search", "repaint", "swap"]


def _corners(x, ball, generator):
    "Every number of `x` at the darkest or the brightest pixel"
    return torch.where(coin(x, generator) > 0, ball.hi, ball.lo).to(x.dtype)


def swap(
    best: Tensor,  # (b,ch,h,w) best points so far
    x: Tensor,  # (b,ch,h,w) clean images
    share: float,  # of the pixels that change place, in (0,1]; at least one does
    ball: L0,  # threat model
    generator: torch.Generator | None = None,  # random stream
) -> Tensor:  # (b,ch,h,w) proposals
    "L0: some changed pixels go back to x, as many others go to a corner of the box"
    k = min(int(ball.eps), x[0, 0].numel())
    moved = ball.changed(best - x).flatten(1)
    kept = max(k - max(1, round(share * k)), 0)
    luck = rand_like(best[:, 0], generator=generator).flatten(1)
    # changed pixels first, in random order; then the others, in random order
    old = (luck + moved.to(luck.dtype)).topk(kept, 1).indices
    fresh = (luck - 2 * moved.to(luck.dtype)).topk(k - kept, 1).indices
    stays = torch.zeros_like(moved).scatter(1, old, True) & moved
    comes = torch.zeros_like(moved).scatter(1, fresh, True)

    def over(at):
        return at.view_as(best[:, 0])[:, None]

    return torch.where(over(comes), _corners(x, ball, generator), torch.where(over(stays), best, x))


def repaint(
    best: Tensor,  # (b,ch,h,w) best points so far
    x: Tensor,  # (b,ch,h,w) clean images
    share: float,  # of the image over which the square moves, and of the square that is painted
    ball: Patch,  # threat model
    generator: torch.Generator | None = None,  # random stream
) -> Tensor:  # (b,ch,h,w) proposals
    "A patch moves with what it shows, a part of it gets one colour, or both, by two coins"
    one = x[:, 0, 0, 0]
    slides = coin(one, generator) > 0
    paints = (coin(one, generator) > 0) | ~slides
    moved = torch.where(_over(slides), _slid(best, x, share, ball, generator), best)
    window = ball.places(ball.changed(moved - x).to(x.dtype))
    side = max(1, round(share**0.5 * ball.eps))
    # a square inside the window, each place of it as likely
    luck = rand_like(best[:, 0], generator=generator) + 10 * window
    spot = Patch(side, ball.lo, ball.hi).places(luck) & window
    colour = _corners(x[:, :, :1, :1], ball, generator)
    return torch.where(_over(paints) & spot[:, None], colour, moved)


def _over(v):
    return v[:, None, None, None]


def _slid(best, x, share, ball, generator):
    "What changed, somewhere else: near by or anywhere; cut at the border"
    one, size = x[:, 0, 0, 0], max(x.shape[2:])
    near = rand_like(one, generator=generator) < 0.5
    reach = torch.where(near, max(1, round(share * size / 2)), size - 1) + 0.999
    down, right = ((rand_like(one, -1, 1, generator) * reach).long().tolist() for _ in range(2))
    changed = ball.changed(best - x)
    out = [
        torch.where(at.roll(by, (0, 1)), v.roll(by, (1, 2)), clean)
        for at, v, clean, by in zip(changed, best, x, zip(down, right))
    ]
    return torch.stack(out)


@dataclass(frozen=True)
class Pixels:
    "Random search over places and corners (in the manner of Sparse-RS, Croce et al. 2022)"

    share: float = 0.8  # of the changed pixels that the first proposals replace; it falls

    balls = (Sparse,)
    images = True  # it knows height and width

    def __call__(self, ask, x, ball, generator):
        propose = swap if isinstance(ball, L0) else repaint
        i, t = ask.live, 0
        if len(i):
            corners = _corners(x[i], ball, generator)
            places = ball.uniform(x[i], generator)
            changed = ball.changed(places - x[i])[:, None]
            ask(torch.where(changed, corners, x[i]), i)
        while len(i := ask.live):
            share = self.share * max(1 - t / ask.queries, 0.0) ** 2
            new = propose(those(ask.best, i), those(x, i), share, ball, generator)
            ask(ball.project(new, those(x, i)), i)
            t += 1


def pixel_search(
    ball: Sparse,  # L0 or Patch
    queries: int = 1000,  # questions per image at most
    share: float = 0.8,  # of the changed pixels that the first proposals replace, in (0,1]
    **kw,  # loss, generator
) -> BlackBox:
    """Few pixels, or a patch, without gradients: random search over places and corners of the box
    (in the manner of Sparse-RS, Croce et al. 2022; its schedule is not ours).

    TypeError for another ball.

    Parameters
    ----------
    ball : Sparse
        L0 or Patch
    queries : int
        questions per image at most (default: 1000)
    share : float
        of the changed pixels that the first proposals replace, in (0,1] (default: 0.8)
    **kw
        loss, generator

    Returns
    -------
    BlackBox

    Raises
    ------
    TypeError
        for another ball
    ValueError
        where share is out of range

    Examples
    --------
    >>> import torch
    >>> from spat_nb import L0, SmallCNN, pixel_search
    >>> model, x, y = SmallCNN(channels=3), torch.rand(2, 3, 32, 32), torch.tensor([3, 5])
    >>> x_adv = pixel_search(L0(5), queries=10)(model, x, y)
    >>> L0(5).inside(x_adv, x)
    tensor([True, True])
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it is a share of the changed pixels, in (0,1].")
    return BlackBox(ball, Pixels(share), queries, **kw)
