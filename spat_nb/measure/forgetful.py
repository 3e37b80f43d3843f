"""A model that has forgotten which images it has seen

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import copy
from collections import deque

import torch
from torch import Tensor, nn

from ..core.protocols import ModelFunction
from ..core.tensors import logits

__all__ = ["Fresh", "forgetful"]

FAR = 1e4  # where a remembered image is moved to, in pixels
GREY = 1 / 255  # one grey level
KEEPERS = (list, dict, set, deque)


def _remembered(module):
    "name -> what a layer may remember in: containers, and tensors that are no weights"
    inside = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    tensors = {k: b for k, b in module.named_buffers(recurse=False)}
    kept = {k: v for k, v in {**inside, **tensors}.items() if isinstance(v, (Tensor, *KEEPERS))}
    return {k: v for k, v in kept.items() if not isinstance(v, nn.Parameter)}


def _sizes(modules):
    return {(m, k): len(v) for m in modules for k, v in _remembered(m).items() if _has_len(v)}


def _has_len(v):
    return not isinstance(v, Tensor) or v.ndim > 0


def _empty(v):
    return v[:0].clone() if isinstance(v, Tensor) else type(v)()


def _holds(v, x):
    "(m,) bool: which rows of a tensor are images of `x`, but for a grey level"
    fits = isinstance(v, Tensor) and v.ndim > 1 and v.is_floating_point()
    if not fits or v[0].numel() != x[0].numel():
        return None
    # the sup norm of each pair; few images of a data set fit in memory, and so do these
    seen = torch.cdist(v.flatten(1).to(x), x.flatten(1), p=float("inf")).amin(1) < GREY
    return seen if seen.any() else None


class Fresh(nn.Module):
    "The model as it was before it had seen an image, for every question anew; see `forgetful`"

    def __init__(
        self,
        model: nn.Module,  # a copy, without a memory
        kept: dict,  # (layer, name) -> the empty memory
    ):
        super().__init__()
        self.model = model
        self.memory = [(module, name, empty) for (module, name), empty in kept.items()]

    def forward(self, x):
        for module, name, empty in self.memory:
            setattr(module, name, copy.copy(empty))
        return self.model(x)


def forgetful(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]: images that it may know
) -> Fresh | None:  # None where the model keeps nothing
    """A copy of the model whose memory is empty before every question. Memory is what grows when
    images are shown that nobody has seen, and every row of a tensor that is an image of `x`

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    x : Tensor
        (b,ch,h,w) pixels in [0,1]: images that it may know

    Returns
    -------
    Fresh | None
        None where the model keeps nothing
    """
    if not isinstance(model, nn.Module) or not len(x):
        return None
    model = copy.deepcopy(model)
    modules = list(model.modules())
    before = _sizes(modules)
    logits(model, torch.rand_like(x[:4]))
    grown = {at for at, size in _sizes(modules).items() if size != before.get(at, 0)}
    kept = {(m, k): _empty(_remembered(m)[k]) for m, k in grown}
    moved = False
    for module in modules:
        for name, v in _remembered(module).items():
            if (module, name) not in kept and (rows := _holds(v, x)) is not None:
                v[rows] = FAR
                moved = True
    return Fresh(model, kept) if kept or moved else None
