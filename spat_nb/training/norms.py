"""Batch norms that share their sums"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SharedNorm", "share_norms"]


class _Sum(torch.autograd.Function):
    "The sum over all processes; its gradient is the sum of theirs"

    @staticmethod
    def forward(ctx, x):
        y = x.clone()
        torch.distributed.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx, g):
        return _Sum.forward(ctx, g.contiguous())


class SharedNorm(_BatchNorm):
    """Batch norm that takes mean and variance over the shares of all processes: two sums more for
    each layer and pass in train mode
    """

    if TYPE_CHECKING:  # `share_norms` takes no norms without them
        running_mean: Tensor
        running_var: Tensor
        num_batches_tracked: Tensor
        momentum: float

    def _get_name(self):
        return "BatchNorm2d"

    # a checkpoint asks what the network looks like
    def __identity__(self):
        return nn.BatchNorm2d

    def _check_input_dim(self, x):
        pass

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        half, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
        over, n = [0, *range(2, x.ndim)], x.numel() // x.shape[1]
        s = _Sum.apply(torch.cat([x.sum(over), (x * x).sum(over), x.new_full((1,), n)]))
        mean, square = (s[:-1] / s[-1]).chunk(2)
        var = (square - mean**2).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            for kept, new in (
                (self.running_mean, mean),
                (self.running_var, var * s[-1] / (s[-1] - 1)),
            ):
                kept.lerp_(new.to(kept.dtype), self.momentum)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        return (
            (x - mean.view(shape)) * ((var + self.eps).rsqrt() * self.weight).view(shape)
            + self.bias.view(shape)
        ).to(half)


def share_norms(
    model: nn.Module,  # changed in place; weights and names stay
) -> nn.Module:
    """Let every batch norm of `model` be a `SharedNorm`.

    ValueError for one without weights, running statistics or momentum
    """
    for m in model.modules():
        if not isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            continue
        if not (m.affine and m.track_running_stats and m.momentum):
            raise ValueError(
                f"{m} cannot be shared; give it affine=True, track_running_stats=True and a"
                " momentum."
            )
        # it has the same parts, and another forward
        m.__class__ = SharedNorm  # type: ignore[assignment]
    return model
