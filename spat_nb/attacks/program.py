"""A network, read as a list of operations: what a bound walks through, forward and back"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from ..core.precision import Fast
from ..models.layers import Normalize
from ..models.library import first_line
from .operations import Bend, Conv, Dense, Input, Operation, Pool, Product, Scale, Sum
from .relax import CURVES, leaky

__all__ = ["Program", "program_of"]


@dataclass
class Program:
    "Operations in the order in which they are computed; the last one gives the logits"

    steps: list  # of (Operation, numbers of the steps that feed it)

    def values(self, x: Tensor) -> list:  # (b,...) of each step
        "What each operation gives for the images"
        found: list[Tensor] = []
        for op, feeds in self.steps:
            found.append(x if isinstance(op, Input) else op.value(*[found[i] for i in feeds]))
        return found

    def norms(self) -> list:  # the operations that are batch norms
        "Those whose numbers change in training"
        return [op for op, _ in self.steps if isinstance(op, Scale) and op.norm is not None]


class _Tracer(fx.Tracer):
    "Layers of torch, normalisation, and heads that say what they are, are one operation each"

    def is_leaf_module(self, m, name):
        one = isinstance(m, Normalize) or hasattr(m, "linear_twin")
        return one or super().is_leaf_module(m, name)


def _refuse(what) -> Any:
    raise TypeError(
        f"no bound is written for {what}; known are linear layers, convolutions, batch norm,"
        f" {', '.join(CURVES)}, leaky_relu, sums, products, means and reshapes, and a last layer"
        " with `linear_twin`."
    )


def _batch_norm(layer):
    "Factor and shift of a batch norm: of its running statistics, or of those in `layer.seen`"

    def numbers():
        mean, var = getattr(layer, "seen", None) or (layer.running_mean, layer.running_var)
        factor = (var + layer.eps).rsqrt()
        factor = factor if layer.weight is None else factor * layer.weight
        shift = -mean * factor
        shift = shift if layer.bias is None else shift + layer.bias
        return factor.view(-1, 1, 1), shift.view(-1, 1, 1)

    if layer.running_mean is None:
        _refuse("batch norm without running statistics")
    return Scale(numbers, layer)


def _normalize(layer):
    def numbers():
        factor = 1 / layer.std[0]
        return factor, -layer.mean[0] * factor

    return Scale(numbers)


def _conv(layer):
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        _refuse(f"a convolution with padding {layer.padding!r} of {layer.padding_mode}")
    return Conv(layer)


def _adaptive(layer):
    if layer.output_size not in (1, (1, 1)):
        _refuse(f"adaptive pooling to {layer.output_size}")
    return _mean((2, 3), True)


def _mean(dims, keepdim=False):
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if 0 in dims:
        _refuse("a mean over the images")
    return Pool(
        lambda v: v.mean(dims, keepdim),
        lambda shape: math.prod(shape[d] for d in dims) ** -0.5,
    )


def _average(layer):
    "Each output is the mean of as many inputs as all others: then no norm grows"
    if layer.padding not in (0, (0, 0)) or layer.ceil_mode or layer.divisor_override:
        _refuse("average pooling with padding, ceil_mode or divisor_override")
    return Pool(layer)


def _leaky(layer):
    if not 0 <= layer.negative_slope <= 1:
        _refuse(f"leaky_relu with the slope {layer.negative_slope} outside [0,1]")
    return Bend(leaky(layer.negative_slope))


# options that change nothing of what is computed
FREE_OPTIONS = {"inplace"}
# function -> options of its own that are read
READ_OPTIONS = {"mean": {"dim", "keepdim"}, "flatten": {"start_dim"}}


def _check_options(name, node):
    "What a function is given besides its inputs must not go unread"
    unread = {*node.kwargs} - FREE_OPTIONS - READ_OPTIONS.get(name, set())
    # silu(x, True) is in place; a second number of another curve is an option
    if name in CURVES and len(node.args) > (2 if name in ("relu", "silu") else 1):
        unread.add(f"{node.args[1]}")
    if unread:
        _refuse(f"{name} with the option {', '.join(sorted(unread))}")


LAYERS: dict[type, Callable] = {
    nn.Linear: lambda m: Dense(lambda: (m.weight, m.bias)),
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _batch_norm,
    Normalize: _normalize,
    nn.Flatten: lambda m: Pool(m),
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.LeakyReLU: _leaky,
    nn.ReLU: lambda m: Bend(CURVES["relu"]),
    nn.Sigmoid: lambda m: Bend(CURVES["sigmoid"]),
    nn.Tanh: lambda m: Bend(CURVES["tanh"]),
    nn.SiLU: lambda m: Bend(CURVES["silu"]),
    nn.GELU: lambda m: Bend(CURVES["gelu"]) if m.approximate == "none" else _refuse(m),
    nn.Softplus: lambda m: (
        Bend(CURVES["softplus"]) if (m.beta, m.threshold) == (1, 20) else _refuse(m)
    ),
}
SILENT = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in eval mode


class _Reader:
    "From the trace of a network to a program"

    def __init__(self, model, trace):
        self.model, self.trace = model, trace
        self.steps: list[tuple[Operation, tuple]] = []
        self.at: dict[fx.Node, Any] = {}  # node -> number of its step; a function of a constant

    def read(self) -> Program:
        for node in self.trace.nodes:
            if node.op == "output":
                last = node.args[0]
                if not isinstance(last, fx.Node) or self.at.get(last) != len(self.steps) - 1:
                    _refuse(f"a network that returns {last}")
            else:
                self.at[node] = self.node(node)
        return Program(self.steps)

    def add(self, op, *feeds):
        self.steps.append((op, feeds))
        return len(self.steps) - 1

    def node(self, node):
        if node.op == "placeholder":
            return self.add(Input())
        if node.op == "get_attr":
            name = node.target
            return lambda: operator.attrgetter(name)(self.model)
        args = [self.at[a] if isinstance(a, fx.Node) else a for a in node.args]
        feeds = [i for a, i in zip(node.args, args) if isinstance(a, fx.Node) and not callable(i)]
        if node.op == "call_module":
            return self.layer(self.model.get_submodule(node.target), feeds[0])
        name = node.target if isinstance(node.target, str) else node.target.__name__
        if not feeds:
            return _refuse(f"{name} of numbers alone")
        return self.call(name.strip("_"), node, args, feeds)

    def layer(self, m, feed):
        if isinstance(m, SILENT):
            return feed
        if hasattr(m, "linear_twin"):
            return self.add(Dense(m.linear_twin), feed)
        made = LAYERS.get(type(m))
        if made is None:
            return _refuse(f"the layer {type(m).__name__}")
        return self.add(made(m), feed)

    def call(self, name, node, args, feeds):
        _check_options(name, node)
        if name in CURVES:
            return self.add(Bend(CURVES[name]), feeds[0])
        if name in ("add", "iadd", "sub", "mul", "imul", "truediv", "neg"):
            first = isinstance(node.args[0], fx.Node)
            return self.arithmetic(name.removeprefix("i"), args, feeds, first)
        if name == "mean":
            dims = args[1] if len(args) > 1 else node.kwargs.get("dim")
            keep = (args[2] if len(args) > 2 else False) or node.kwargs.get("keepdim", False)
            return self.add(_mean(dims, keep), feeds[0])
        if name == "flatten":
            start = args[1] if len(args) > 1 else node.kwargs.get("start_dim", 0)
            if start == 1 and len(args) < 3 and "end_dim" not in node.kwargs:
                return self.add(Pool(lambda v: v.flatten(1)), feeds[0])
        if name in ("adaptive_avg_pool2d",) and args[1] in (1, (1, 1)):
            return self.add(_mean((2, 3), True), feeds[0])
        return _refuse(f"the function {name}")

    def arithmetic(self, name, args, feeds, first):
        if name == "neg":
            return self.add(Scale(lambda: (-1.0, 0.0)), feeds[0])
        if len(feeds) == 2:
            pair = {"add": Sum(), "sub": Sum(-1), "mul": Product()}
            return self.add(pair[name], *feeds) if name in pair else _refuse("a quotient")
        other = args[1] if first else args[0]
        if not isinstance(other, (int, float)):
            return _refuse(f"{name} with a tensor of the network's own")
        return self.add(Scale(_with_number(name, float(other), first)), feeds[0])


def _with_number(name, k, first):
    "factor, shift of `v name k` or, not `first`, of `k name v`"
    numbers = {
        "add": (1.0, k),
        "mul": (k, 0.0),
        "sub": (1.0, -k) if first else (-1.0, k),
    }
    if name == "truediv":
        if not first:
            _refuse("a quotient")
        numbers["truediv"] = (1 / k, 0.0)
    return lambda: numbers[name]


def program_of(
    model: nn.Module,  # pixels to logits, in eval mode
) -> Program:
    "Read a network. TypeError in one sentence where it does what no bound is written for"
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; a bound reads the layers of an nn.Module, so give"
            " the network itself."
        )
    if isinstance(model, Fast) and model.dtype is None:
        model = model.model  # the same network, its numbers in another order
    try:
        trace = _Tracer().trace(model)
    except Exception as e:
        raise TypeError(
            f"the layers of {type(model).__name__} cannot be read ({first_line(e)}); its forward"
            " must not branch on the values of its images."
        ) from e
    return _Reader(model, trace).read()
