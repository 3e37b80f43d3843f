"""Bounds of a network over a ball: boxes forward (IBP), lines backward (CROWN)"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .balls import L1, L2, Linf
from .operations import Bend, Conv, Dense, by_sign, dot
from .program import Program
from .threat import Ball

__all__ = ["Start", "boxes_of", "lowest", "margins_below", "rivals"]

LINES = 128  # lines that are taken back at once


@dataclass
class Start:
    "Where the pixels may be: a ball around each image, which may have a radius of its own"

    x: Tensor  # (b,...) clean images
    eps: Tensor  # (b,) radii
    ball: Ball  # norm and pixel box; its own radius plays no part

    def __post_init__(self):
        if not isinstance(self.ball, (Linf, L2, L1)):
            raise TypeError(
                f"ball is {self.ball}; a bound is written for Linf, L2 and L1, so give one of them."
            )

    def box(self) -> tuple:
        "Each pixel by itself"
        eps = self.eps.view(-1, *[1] * (self.x.ndim - 1))
        return (self.x - eps).clamp_min(self.ball.lo), (self.x + eps).clamp_max(self.ball.hi)

    def lowest(self, c: Tensor) -> Tensor:  # (b,s)
        "The least of the sums c x' over all x' of the ball, or a little less"
        in_box = by_sign(c, *self.box()).flatten(2).sum(2)
        if isinstance(self.ball, Linf):
            return in_box
        flat = c.flatten(2)
        dual = flat.norm(dim=2) if isinstance(self.ball, L2) else flat.abs().amax(2)
        return torch.maximum(in_box, dot(c, self.x) - self.eps[:, None] * dual)


def lowest(
    program: Program,
    at: int,  # number of a step
    c: Tensor,  # (b,s,...) coefficients of its output: s lines for each image
    boxes: list,  # (lo, hi) of all steps before
    start: Start,
) -> Tensor:  # (b,s)
    """How low can sum(c output) fall in the ball? At least as high as this: each line is taken
    back, step by step, to the pixels (CROWN, Zhang et al. 2018)
    """
    open_lines, constant = {at: c}, c.new_zeros(c.shape[:2])
    for i in range(at, 0, -1):
        if i not in open_lines:
            continue
        op, feeds = program.steps[i]
        shapes = [boxes[j][0].shape for j in feeds]
        new, k = op.back(open_lines.pop(i), shapes, [boxes[j] for j in feeds])
        constant = constant + k
        for j, line in zip(feeds, new):
            open_lines[j] = open_lines[j] + line if j in open_lines else line
    return constant + start.lowest(open_lines[0]) if 0 in open_lines else constant


def _ancestors(program, at):
    "The operations that step `at` depends on, itself among them"
    seen, left = set(), [at]
    while left:
        i = left.pop()
        if i not in seen:
            seen.add(i)
            left += program.steps[i][1]
    return [program.steps[i][0] for i in sorted(seen)]


def _wanted(program, at, start, tight):
    "Is the box of step `at` worth a way back? Only those that a bent operation reads count"
    readers = [op for op, feeds in program.steps if at in feeds and op.bent]
    ops = _ancestors(program, at)
    flat = not any(op.bent for op in ops)
    one = sum(isinstance(op, (Conv, Dense)) for op in ops) <= 1
    if not readers:
        return False
    if isinstance(start.ball, Linf):
        return tight and not (flat and one)  # of one layer of weights the box is exact
    return tight or flat


def _open(program, at, box):
    "(b,m) entries of step `at`, flattened, that are worth the way: for a kink, those around it"
    lo, hi = (t.flatten(1) for t in box)
    readers = [op for op, feeds in program.steps if at in feeds and op.bent]
    if not all(isinstance(op, Bend) and op.curve.kinked for op in readers):
        return torch.arange(lo.shape[1], device=lo.device).expand_as(lo)
    around = (lo < 0) & (hi > 0)
    # each image's own first; where another image has more, some that need it less
    return around.int().argsort(1, descending=True)[:, : int(around.sum(1).max())]


def _tightened(program, at, boxes, start, box):
    "The box of step `at`, cut to what the way back says"
    lo, hi = (t.flatten(1).clone() for t in box)
    for entries in _open(program, at, box).split(LINES, 1):
        c = lo.new_zeros(*entries.shape, lo.shape[1]).scatter_(2, entries[:, :, None], 1)
        c = c.view(*entries.shape, *box[0].shape[1:])
        low = lowest(program, at, c, boxes, start)
        high = -lowest(program, at, -c, boxes, start)
        lo.scatter_(1, entries, torch.maximum(lo.gather(1, entries), low))
        hi.scatter_(1, entries, torch.minimum(hi.gather(1, entries), high))
    # two bounds of one number may cross by rounding
    return torch.minimum(lo, hi).view_as(box[0]), torch.maximum(lo, hi).view_as(box[0])


def boxes_of(
    program: Program,
    start: Start,
    tight: bool,  # cut each box that an activation reads by a way back; False: boxes alone
) -> list:  # (lo, hi) of each step
    """Interval bounds of every step (IBP, Gowal et al. 2018)

    In L2 and L1 what lies before the first activation is bounded by the dual norm, which is exact
    """
    boxes = [start.box()]
    for at, (op, feeds) in enumerate(program.steps):
        if at == 0:
            continue
        box = op.box(*[boxes[j] for j in feeds])
        if _wanted(program, at, start, tight):
            box = _tightened(program, at, boxes, start, box)
        boxes.append(box)
    return boxes


def rivals(
    y: Tensor,  # (b,) labels
    c: int,  # number of classes
    like: Tensor,  # gives dtype and device
) -> tuple:  # (b,c-1,c) coefficients e_y - e_k; (b,c-1) the classes k
    "The differences of logits that a certificate needs above 0"
    ks = torch.arange(c, device=y.device).expand(len(y), c)
    ks = ks[ks != y[:, None]].view(len(y), c - 1)
    one = torch.eye(c, dtype=like.dtype, device=like.device)
    return one[y][:, None] - one[ks], ks


def margins_below(
    program: Program,
    start: Start,
    y: Tensor,  # (b,) labels
    tight: bool = True,  # boxes inside are cut by a way back (CROWN), or not (IBP)
    lines: bool = True,  # the margins are taken back to the pixels; False: through one layer
    boxes: list | None = None,  # what `boxes_of` gave
) -> Tensor:  # (b,c-1), class y left out
    "z_y - z_k is nowhere in the ball lower than this"
    boxes = boxes_of(program, start, tight) if boxes is None else boxes
    last = len(program.steps) - 1
    c, _ = rivals(y, boxes[last][0].shape[1], boxes[last][0])
    bound = _through_the_last(program, last, c, boxes)
    lines = lines or not any(op.bent for op, _ in program.steps)  # then the way back is exact
    return torch.maximum(bound, lowest(program, last, c, boxes, start)) if lines else bound


def _through_the_last(program, last, c, boxes):
    "The margins by the box in front of the last layer, whose two rows are one row of differences"
    op, feeds = program.steps[last]
    shapes = [boxes[j][0].shape for j in feeds]
    new, constant = op.back(c, shapes, [boxes[j] for j in feeds])
    parts = [by_sign(line, *boxes[j]).flatten(2).sum(2) for j, line in zip(feeds, new)]
    return sum(parts) + constant
