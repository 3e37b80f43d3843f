"""Programs that take batches of one size alone, fed with batches of any size

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .outputs import logits_path, picked

__all__ = ["InPieces", "content_hash", "fixed_batch"]


def content_hash(
    path,  # of a file
) -> str:  # hexadecimal digits
    "What a file is, for those who compare"
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class InPieces(nn.Module):
    """A program that takes batches of one size: the images go in piece by piece, and the last piece
    is filled up with copies

    Parameters
    ----------
    model : Callable
        the program
    size : int
        images that it takes at once
    """

    def __init__(
        self,
        model: Callable,  # the program
        size: int,  # images that it takes at once
    ):
        super().__init__()
        self.model = model
        self.size = size

    def forward(self, x):
        lacking = -len(x) % self.size
        full = torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])]) if lacking else x
        outs = [self.model(part) for part in full.split(self.size)]
        path = logits_path(outs[0], self.size)
        if path is None:
            raise TypeError("the program returns no logits (b,c).")
        return torch.cat([picked(out, path) for out in outs])[: len(x)]


def _answers(model, x):
    "What the program says; None where it cannot take so many images"
    try:
        with torch.no_grad():
            out = model(x)
    except Exception:
        return None
    path = logits_path(out, len(x))
    return None if path is None else picked(out, path)


def fixed_batch(
    model: nn.Module,  # a program
    x: Tensor,  # (b,...) what it takes
    size: int | None,  # of the batch it was made for, where its file says so
) -> tuple:  # (the program, or it in pieces; a note or '')
    "Feed a program in pieces where it takes batches of one size alone"
    x = x[:1].expand(3, *x.shape[1:]).contiguous()
    three, one = _answers(model, x), _answers(model, x[:1])
    if three is not None and one is not None and torch.allclose(three[:1], one, atol=1e-3):
        return model, ""
    for guess in (size, 1):
        pieces = InPieces(model, guess) if guess else None
        if pieces is not None and _answers(pieces, x) is not None:
            told = "one image" if guess == 1 else f"{guess} images"
            return pieces, f"batches: the program takes {told} at a time, and is fed so."
    return model, ""  # it takes other images: that is for `adapt` to say
