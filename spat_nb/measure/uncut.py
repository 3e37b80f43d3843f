"""A model whose gradient flows through what would round it off or cut it

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.protocols import ModelFunction

__all__ = ["Uncut", "uncut"]

# steps whose gradient is zero: the identity stands in for them
LEVEL = {"round", "floor", "ceil", "trunc", "fix"}
# jumps: a smooth jump stands in for them
JUMPS = {"sign", "sgn"}
CUTS = {"detach", "detach_"}


class _Instead(torch.autograd.Function):
    "The value of the second, with the gradient of the first"

    @staticmethod
    def forward(ctx, smooth, value):
        return value.view_as(value)

    @staticmethod
    def backward(ctx, *grads):
        return grads[0], None


_plain_apply = torch.autograd.Function.apply.__func__  # type: ignore[attr-defined]


def _instead(smooth, value):
    return _plain_apply(_Instead, smooth, value)


def _identity_backward(cls, *args, **kw):
    "A backward pass that was written by hand is left out where the shape stays the same"
    out = _plain_apply(cls, *args, **kw)
    first = next((a for a in args if isinstance(a, Tensor) and a.is_floating_point()), None)
    if isinstance(out, Tensor) and first is not None and out.shape == first.shape:
        return _instead(first, out)
    return out


def _smooth_jump(v):
    return (v / v.detach().abs().mean().clamp_min(1e-30)).tanh()


class _Through(TorchFunctionMode):
    "Operations that end a gradient, replaced on the way back"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        if name in CUTS or func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0]
        if func is torch.autograd.grad:
            kwargs["create_graph"] = True
        if func is torch._C._set_grad_enabled and not args[0]:
            return None
        value = func(*args, **kwargs)
        if name in LEVEL:
            return _instead(args[0], value)
        return _instead(_smooth_jump(args[0]), value) if name in JUMPS else value


class Uncut(nn.Module):
    "The same answers as the model; see `uncut`"

    def __init__(
        self,
        model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    ):
        super().__init__()
        self.model = model

    def forward(self, x):
        if not torch.is_grad_enabled():
            return self.model(x)
        through = patch.object(torch.autograd.Function, "apply", classmethod(_identity_backward))
        with _Through(), through:
            return self.model(x)


def uncut(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
) -> Uncut:  # the same answers, another gradient
    """BPDA (Athalye et al. 2018) without reading the model: on the way back the identity stands in
    for `round`, `floor`, `detach`, `no_grad` and every backward pass that was written by hand, a
    tanh for `sign`; a gradient that the model takes itself is unrolled

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)

    Returns
    -------
    Uncut
        the same answers, another gradient
    """
    return Uncut(model)
