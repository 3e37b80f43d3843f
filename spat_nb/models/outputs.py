"""Logits out of whatever a network returns: tuples, dicts, objects, one logit, probabilities

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["logits_path", "picked", "told_path", "Logits"]

# how logits are called in what networks return, the likeliest first
NAMES = ("logits", "out", "output", "outputs", "scores", "pred", "prediction", "predictions", "cls")
DEEPEST = 3  # a tuple in a dict in an object


def _flat(z):
    "(b,c) of (b,c,1,1), which a convolution as the last layer gives"
    return z.flatten(1) if z.ndim == 4 and z.shape[2:] == (1, 1) else z


def _are_logits(z, n, classes):
    "Could these be logits of `n` images?"
    if not (isinstance(z, Tensor) and z.is_floating_point() and z.ndim >= 1 and len(z) == n):
        return False
    z = _flat(z)
    if z.ndim > 2:
        return False
    outputs = z.shape[1] if z.ndim == 2 else 1
    return classes is None or outputs == classes or (outputs == 1 and classes == 2)


def _parts(out):
    "(key, part) of what was returned, the likeliest first; a key is a name or a number"
    if isinstance(out, Mapping):
        names = [*(k for k in NAMES if k in out), *(k for k in out if k not in NAMES)]
        return [(k, out[k]) for k in names if isinstance(k, (str, int))]
    if isinstance(out, (tuple, list)) and not hasattr(out, "_fields"):
        return list(enumerate(out))
    named = [k for k in NAMES if isinstance(getattr(out, k, None), (Tensor, tuple, list))]
    fields = getattr(out, "_fields", ())
    return [(k, getattr(out, k)) for k in dict.fromkeys([*named, *fields])]


def logits_path(
    out,  # what a network returned
    n: int,  # for so many images
    classes: int | None = None,  # outputs that it has; None: not known
    depth: int = DEEPEST,  # how deep to look
) -> tuple | None:  # of names and numbers; () is the thing itself, None: there are no logits
    "Where in `out` the logits lie"
    if isinstance(out, Tensor):
        return () if _are_logits(out, n, classes) else None
    if not depth:
        return None
    for key, part in _parts(out):
        path = logits_path(part, n, classes, depth - 1)
        if path is not None:
            return (key, *path)
    return None


def picked(
    out,  # what a network returned
    path: tuple,  # from `logits_path`
):  # what lies there
    "Follow a path"
    for key in path:
        is_item = isinstance(out, Mapping) or isinstance(key, int)
        out = out[key] if is_item else getattr(out, key)
    return out


def told_path(
    out,  # what a network returned
    path: tuple,  # from `logits_path`
) -> str:  # "it returns a dict; ['logits'] of it is taken for the logits"
    "What was returned, and where in it the logits lie, in words"
    kind, way = type(out).__name__, ""
    for key in path:
        is_item = isinstance(out, Mapping) or isinstance(key, int)
        way += f"[{key!r}]" if is_item else f".{key}"
        out = picked(out, (key,))
    return f"it returns a {kind}; {way} of it is taken for the logits"


class Logits(nn.Module):
    """The logits (b,c) of what a network returned

    Parameters
    ----------
    path : tuple
        where they lie, from `logits_path` (default: ())
    one : bool
        the network gives one logit z; then (0, z) stands for the two classes (default: False)
    soft : bool
        the network gives probabilities; then their logarithm stands for the logits (default: False)
    chosen : tuple | None
        outputs of the network in the order of the data's classes; the largest of the others, where
        there are any, comes last. None: all as they are (default: None)
    outputs : int
        of the network; needed with `chosen` (default: 0)
    """

    chosen: Tensor | None
    others: Tensor | None

    def __init__(
        self,
        path: tuple = (),  # where they lie, from `logits_path`
        one: bool = False,  # the network gives one logit z; then (0, z) stands for the two classes
        # the network gives probabilities; then their logarithm stands for the logits
        soft: bool = False,
        # outputs of the network in the order of the data's classes; the largest of the others,
        # where there are any, comes last. None: all as they are
        chosen: tuple | None = None,
        outputs: int = 0,  # of the network; needed with `chosen`
    ):
        super().__init__()
        self.path = path
        self.one = one
        self.soft = soft
        rest = sorted({*range(outputs)} - {*(chosen or ())})
        self.register_buffer("chosen", None if chosen is None else torch.tensor(chosen))
        self.register_buffer("others", torch.tensor(rest) if chosen and rest else None)

    def forward(self, out):
        z = _flat(picked(out, self.path))
        if self.one:
            z = z.view(len(z), 1)
            z = torch.cat([torch.zeros_like(z), z], 1)
        if self.soft:
            z = z.clamp_min(1e-30).log()
        if self.chosen is None:
            return z
        parts = [z.index_select(1, self.chosen)]
        if self.others is not None:
            parts.append(z.index_select(1, self.others).amax(1, keepdim=True))
        return torch.cat(parts, 1)

    def extra_repr(self):
        return f"path={self.path}, one={self.one}, soft={self.soft}"
