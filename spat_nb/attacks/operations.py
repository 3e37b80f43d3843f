"The operations that bounds pass through: forward as values and boxes, backward as lines"

# A box is a pair (lo, hi) of tensors (b,...). A line is written by its coefficients (b,s,...), s of
# them for each image; an operation takes those of its output back to its inputs. Arithmetic with
# gradients: what trains by bounds uses the same operations.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .relax import Curve, lines

__all__ = [
    "Bend",
    "Conv",
    "Dense",
    "Input",
    "Operation",
    "Pool",
    "Product",
    "Scale",
    "Sum",
    "by_sign",
    "dot",
]


def dot(c: Tensor, v: Tensor) -> Tensor:
    "(b,s,...) coefficients times (b,...) or (...) values, summed over all but the first two"
    v = v.expand(c.shape[0], *c.shape[2:]) if v.ndim < c.ndim - 1 else v
    return torch.einsum("bsn,bn->bs", c.flatten(2), v.expand(len(c), *v.shape[1:]).flatten(1))


def by_sign(c: Tensor, low: Tensor, high: Tensor) -> Tensor:
    "c's positive part times `low` (b,...), its negative part times `high`"
    return c.clamp_min(0) * low[:, None] + c.clamp_max(0) * high[:, None]


def folded(c: Tensor, f: Callable) -> Tensor:
    "`f` of coefficients (b,s,...), images and lines as one batch"
    out = f(c.flatten(0, 1))
    return out.view(*c.shape[:2], *out.shape[1:])


class Operation:
    "One line of a program; by itself the input"

    bent = False  # does it need boxes of its inputs to be taken back?

    value: Callable[..., Tensor]  # of its inputs (b,...): its output (b,...)
    # of boxes of its inputs: the smallest box around its outputs
    box: Callable[..., tuple]

    def back(self, c: Tensor, shapes: list, boxes: list) -> tuple:
        """Of a line sum(c output) the coefficients for each input, and a constant (b,s), so that
        the new line lies nowhere above
        """
        raise NotImplementedError

    def stretch(self, norm: float, shape: tuple) -> float:
        "How much farther apart two outputs can be than two inputs of `shape`, in this norm"
        raise NotImplementedError


class Input(Operation):
    "The pixels"


class Scale(Operation):
    "Each entry times a number, plus a number: normalisation, batch norm in eval mode"

    def __init__(self, numbers: Callable, norm: nn.BatchNorm2d | None = None):
        self.numbers = numbers  # () -> factor, shift, which broadcast against (b,...)
        self.norm = norm  # the batch norm it came from

    def value(self, v):
        factor, shift = self.numbers()
        return v * factor + shift

    def box(self, box):
        ends = self.value(box[0]), self.value(box[1])
        return torch.minimum(*ends), torch.maximum(*ends)

    def back(self, c, shapes, boxes):
        factor, shift = (torch.as_tensor(t, dtype=c.dtype) for t in self.numbers())
        whole = shift.expand(1, *shapes[0][1:]) if shift.ndim else shift.expand(1, *c.shape[2:])
        return [c * factor], dot(c, whole)

    def stretch(self, norm, shape):
        return float(torch.as_tensor(self.numbers()[0]).detach().abs().max())


class Dense(Operation):
    "A linear layer"

    def __init__(self, weights: Callable):
        self.weights = weights  # () -> weight (no,ni), bias (no,) or None

    def value(self, v):
        return F.linear(v, *self.weights())

    def box(self, box):
        W, b = self.weights()
        mid, half = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
        mid, half = F.linear(mid, W, b), F.linear(half, W.abs())
        return mid - half, mid + half

    def back(self, c, shapes, boxes):
        W, b = self.weights()
        return [c @ W], 0 if b is None else c @ b

    def stretch(self, norm, shape):
        return float(torch.linalg.matrix_norm(self.weights()[0].detach(), norm))


class Conv(Operation):
    "A convolution with zeros around"

    def __init__(self, layer: nn.Conv2d):
        self.layer = layer
        # a padding that is a word is refused where the network is read
        self.how: tuple[Any, ...] = layer.stride, layer.padding, layer.dilation, layer.groups

    def value(self, v):
        return F.conv2d(v, self.layer.weight, self.layer.bias, *self.how)

    def box(self, box):
        W, b = self.layer.weight, self.layer.bias
        mid, half = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
        mid, half = F.conv2d(mid, W, b, *self.how), F.conv2d(half, W.abs(), None, *self.how)
        return mid - half, mid + half

    def back(self, c, shapes, boxes):
        W, b = self.layer.weight, self.layer.bias
        (stride, padding, dilation, groups), size = self.how, shapes[0][2:]
        least = [
            (c.shape[3 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (W.shape[2 + i] - 1)
            for i in (0, 1)
        ]
        rest = [size[i] - least[i] - 1 for i in (0, 1)]  # what the stride left over
        back = folded(
            c,
            lambda v: F.conv_transpose2d(v, W, None, stride, padding, rest, groups, dilation),
        )
        return [back], 0 if b is None else c.sum((3, 4)) @ b

    def stretch(self, norm, shape):
        W = self.layer.weight.detach()
        rows = W.abs().sum((1, 2, 3)).max()
        if norm == float("inf"):
            return float(rows)
        # an input reaches at most the outputs of its group, by each weight once
        columns = W.abs().view(self.how[3], -1, *W.shape[1:]).sum((1, 3, 4)).max()
        patches = (W.shape[2] * W.shape[3]) ** 0.5 * torch.linalg.matrix_norm(W.flatten(1), 2)
        # a group's patches are its own; the flat kernel of all groups is longer than each of them
        return float(torch.minimum((rows * columns).sqrt(), patches))


class Pool(Operation):
    "Means over places, and other shapes of the same numbers: linear, without negative weights"

    def __init__(self, f: Callable, shrink: Callable = lambda shape: 1.0):
        self.f = f  # (b,...) -> (b,...), linear
        self.shrink = shrink  # shape of an input -> bound of the spectral norm

    def value(self, v):
        return self.f(v)

    def box(self, box):
        return self.f(box[0]), self.f(box[1])

    def back(self, c, shapes, boxes):
        flat = c.flatten(0, 1)
        with torch.enable_grad():
            v = torch.zeros(len(flat), *shapes[0][1:], dtype=c.dtype, device=c.device)
            v.requires_grad_()
            back = torch.autograd.grad(self.f(v), v, flat, create_graph=c.requires_grad)[0]
        return [back.view(*c.shape[:2], *back.shape[1:])], 0

    def stretch(self, norm, shape):
        return self.shrink(shape) if norm == 2 else 1.0


class Sum(Operation):
    "a + b or, with sign -1, a - b"

    def __init__(self, sign: int = 1):
        self.sign = sign

    def value(self, v, w):
        return v + self.sign * w

    def box(self, a, b):
        b = b if self.sign > 0 else (-b[1], -b[0])
        return a[0] + b[0], a[1] + b[1]

    def back(self, c, shapes, boxes):
        return [c, self.sign * c], 0


class Product(Operation):
    "a b, between the mean of the two planes below and above it (McCormick 1976)"

    bent = True

    def value(self, v, w):
        return v * w

    def box(self, a, b):
        corners = torch.stack([p * q for p in a for q in b])
        return corners.amin(0), corners.amax(0)

    def back(self, c, shapes, boxes):
        (pl, pu), (ql, qu) = boxes
        p_mid, q_mid = (pl + pu) / 2, (ql + qu) / 2
        low, high = -(pl * ql + pu * qu) / 2, -(pl * qu + pu * ql) / 2
        return [c * q_mid[:, None], c * p_mid[:, None]], by_sign(c, low, high).flatten(2).sum(2)


class Bend(Operation):
    "An activation, each entry by itself, between two lines"

    bent = True

    def __init__(self, curve: Curve):
        self.curve = curve

    def value(self, v):
        return self.curve.f(v)

    def box(self, box):
        return self.curve.box(*box)

    def back(self, c, shapes, boxes):
        low, high = lines(self.curve, *boxes[0])
        constant = by_sign(c, low[1], high[1]).flatten(2).sum(2)
        return [by_sign(c, low[0], high[0])], constant

    def stretch(self, norm, shape):
        return self.curve.steepest
