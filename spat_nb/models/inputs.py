"""What stands before a network that was made elsewhere: channels, size, numbers of the pixels

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Normalize

__all__ = [
    "PIXELS",
    "pixel_numbers",
    "Resized",
    "Coloured",
    "StraightThrough",
    "Step",
    "follows_gradient",
    "input_layers",
]

# mean and standard deviation of the pixels, by the word that stands for them
PIXELS: dict = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
}
WORDS = (*PIXELS, "none")


def _said(name, value):
    "A word, or a row of numbers. ValueError or TypeError in one sentence"
    if value is None or isinstance(value, str) and value in WORDS:
        return value
    if isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; give numbers, or one of {', '.join(WORDS)}.")
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers):
        raise TypeError(f"{name} is {value!r}; give numbers, or one of {', '.join(WORDS)}.")
    return tuple(map(float, numbers))


def pixel_numbers(
    mean=None,  # of the pixels: numbers, or a word of `PIXELS`; 'none': they go in as they are
    std=None,  # their standard deviation, likewise; default: that of the word
):  # (mean, std); () for 'none'; None where nobody says
    "What a network subtracts, and divides by. ValueError in one sentence where the two do not fit"
    mean, std = _said("mean", mean), _said("std", std)
    if mean is None and std is None:
        return None
    if "none" in (mean, std):
        if {mean, std} - {"none", None}:
            raise ValueError(f"mean is {mean} and std is {std}; 'none' stands for both of them.")
        return ()
    pair = []
    for i, (name, own, other) in enumerate((("mean", mean, std), ("std", std, mean))):
        if own is None and not isinstance(other, str):
            raise ValueError(
                f"{name} is not given, and the other of the two is {other}; give both."
            )
        own = other if own is None else own
        pair.append(PIXELS[own][i] if isinstance(own, str) else own)
    return tuple(pair)


class Resized(nn.Module):
    """Images made so many pixels high and wide, inside of the network: bilinear, antialiased, with
    a gradient. Those that have the size already stay as they are

    Parameters
    ----------
    size : int
        height and width in pixels
    """

    def __init__(
        self,
        size: int,  # height and width in pixels
    ):
        super().__init__()
        self.size = size

    def forward(self, x):
        if x.shape[-2:] == (self.size, self.size):
            return x
        return F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)

    def extra_repr(self):
        return str(self.size)


class Coloured(nn.Module):
    """Grey images given to every channel of a network for colour

    Parameters
    ----------
    channels : int
        that the network takes
    """

    def __init__(
        self,
        channels: int,  # that the network takes
    ):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return x.expand(-1, self.channels, -1, -1) if x.shape[1] == 1 else x

    def extra_repr(self):
        return str(self.channels)


class _Instead(torch.autograd.Function):
    "The value of the second, with the gradient of the first"

    @staticmethod
    def forward(ctx, stand_in, value):
        return value.view_as(value)

    @staticmethod
    def backward(ctx, *grads):
        return grads[0], None


class StraightThrough(nn.Module):
    """A step without a gradient, and one that stands in for it on the way back: BPDA (Athalye et
    al. 2018). The value is that of the step itself.

    Parameters
    ----------
    step : Callable
        pixels (b,ch,h,w) in [0,1] to what the network takes
    stand_in : Callable | None
        differentiable and of the same shape; default: the pixels as they are, resized where the
        step changes height and width

    Raises
    ------
    ValueError
        where the shapes of the two differ
    """

    def __init__(
        self,
        step: Callable,  # pixels (b,ch,h,w) in [0,1] to what the network takes
        # differentiable and of the same shape; default: the pixels as they are, resized where the
        # step changes height and width
        stand_in: Callable | None = None,
    ):
        super().__init__()
        self.step = step
        self.stand_in = stand_in

    def forward(self, x):
        with torch.no_grad():
            value = self.step(x.detach())
        near = x if self.stand_in is None else self.stand_in(x)
        if self.stand_in is None and near.shape[:2] == value.shape[:2]:
            near = self._fitted(near, value.shape[2:])
        if near.shape != value.shape:
            raise ValueError(
                f"the preprocessing gives shape {tuple(value.shape)}, and what stands in for its "
                f"gradient {tuple(near.shape)}; give a stand_in= of the same shape."
            )
        return _Instead.apply(near.to(value.dtype), value)

    @staticmethod
    def _fitted(x, size):
        if x.shape[2:] == size:
            return x
        return F.interpolate(x, tuple(size), mode="bilinear", antialias=True)


def follows_gradient(
    step: Callable,  # (b,...) to a tensor
    x: Tensor,  # (b,...) images to try it on
) -> bool:
    "Does a gradient that is not zero come back through `step`?"
    x = x.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            y = step(x)
            if not (isinstance(y, Tensor) and y.requires_grad and y.is_floating_point()):
                return False
            # weights that differ, so that a sum that is always the same hides nothing
            weights = torch.linspace(0.5, 1.5, y.numel(), device=y.device, dtype=y.dtype)
            g = torch.autograd.grad((y * weights.view_as(y)).sum(), x, allow_unused=True)[0]
    except (RuntimeError, NotImplementedError):  # an operation that has no backward pass
        return False
    return g is not None and bool((g != 0).any())


def _preprocessing(step, stand_in, x):
    "(layer, note) of a preprocessing that lies outside of the network"
    if stand_in is None and follows_gradient(step, x):
        layer = step if isinstance(step, nn.Module) else Step(step)
        return layer, "preprocessing: yours comes first; gradients go through it."
    layer = StraightThrough(step, stand_in)
    what = "the identity" if stand_in is None else getattr(stand_in, "__name__", "your stand-in")
    return layer, (
        "preprocessing: yours comes first. It has no gradient of its own, so that on the way "
        f"back {what} stands in for it (BPDA)."
    )


class Step(nn.Module):
    """A function as a layer

    Parameters
    ----------
    step : Callable
        (b,...) to a tensor
    """

    def __init__(
        self,
        step: Callable,  # (b,...) to a tensor
    ):
        super().__init__()
        self.step = step

    def forward(self, x):
        return self.step(x)


def _numbers(values):
    return ", ".join(f"{v:.4g}" for v in values)


def input_layers(
    x: Tensor,  # (b,ch,h,w) some images, pixels in [0,1]
    dtype: torch.dtype = torch.float32,  # of the network's weights
    *,
    mean=None,  # the rest is as in `adapt`
    std=None,
    size: int | None = None,
    channels: int | None = None,
    preprocess: Callable | None = None,
    stand_in: Callable | None = None,
) -> tuple:  # (layers in a row, a note on each)
    "What stands before a network. ValueError in one sentence where it does not fit the images"
    layers: list = []
    notes = []
    pixels = pixel_numbers(mean, std)
    if preprocess is not None:
        layer, note = _preprocessing(preprocess, stand_in, x)
        layers.append(layer)
        notes.append(note)
    if channels not in (None, x.shape[1]) and not layers:
        if x.shape[1] != 1:
            raise ValueError(
                f"images have {x.shape[1]} channels but the network takes {channels}; "
                "give a preprocess= that makes them fit."
            )
        layers.append(Coloured(channels))
        notes.append(f"channels: the grey images go into all {channels} channels.")
    if size is not None and x.shape[-2:] != (size, size):
        layers.append(Resized(size))
        told = "x".join(map(str, x.shape[-2:]))
        notes.append(
            f"size: images of {told} pixels are resized to {size}x{size} inside of the network, "
            "and attacked as they are."
        )
    if pixels:
        mean, std = pixels
        layers.append(Normalize(_channels(layers, x), mean, std).to(dtype))
        notes.append(
            f"normalisation: the first layer subtracts {_numbers(mean)} and divides by "
            f"{_numbers(std)}."
        )
    return nn.Sequential(*layers).to(x.device).eval(), notes


def _channels(layers, x):
    "How many channels come out of the layers"
    with torch.no_grad():
        return nn.Sequential(*layers)(x).shape[1]
