"""Anybody's network as one that takes pixels and gives logits: what is missing is put around it

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from ..core.evalmode import device_of, eval_mode
from .inputs import follows_gradient, input_layers
from .library import first_line
from .outputs import Logits, logits_path, picked, told_path

__all__ = ["Adapted", "adapt"]


class Adapted(nn.Module):
    """A network with what was put around it: pixels in [0,1] go in, logits (b,c) come out

    Parameters
    ----------
    model : Callable
        the network as it came
    before : nn.Sequential
        pixels to what `model` takes
    after : Logits
        what `model` returns to logits
    extra : tuple
        more arguments of `model`, the same for every image (default: ())
    notes : list
        what was done, sentences (default: ())
    gradient : bool
        does a gradient reach the pixels? (default: True)
    """

    def __init__(
        self,
        model: Callable,  # the network as it came
        before: nn.Sequential,  # pixels to what `model` takes
        after: Logits,  # what `model` returns to logits
        extra: tuple = (),  # more arguments of `model`, the same for every image
        notes=(),  # what was done, sentences
        gradient: bool = True,  # does a gradient reach the pixels?
    ):
        super().__init__()
        self.model = model
        self.before = before
        self.after = after
        self.extra = extra
        self.notes = list(notes)
        self.gradient = gradient

    def forward(self, x):
        extra = [v.to(x.device) if isinstance(v, Tensor) else v for v in self.extra]
        return self.after(self.model(self.before(x), *extra))

    def train(self, mode: bool = True):
        "Also where a part was given its mode when it was exported"
        self.training = mode
        for part in self.children():
            with suppress(NotImplementedError):
                part.train(mode)
        return self


def _dtype(model):
    "In what the weights of a network are; float32 where it has none"
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p.dtype for p in weights if p.is_floating_point()), torch.float32)


def _asked(model, before, extra, x):
    "What the network returns. ValueError in one sentence where it cannot take such images"
    try:
        with torch.no_grad(), eval_mode(model):
            return model(before(x.to(_dtype(model))), *extra)
    except Exception as e:
        if isinstance(e, torch.OutOfMemoryError):
            raise
        shape = "x".join(map(str, x.shape[1:]))
        raise ValueError(
            f"the network cannot take images of {shape} ({type(e).__name__}: {first_line(e)}); "
            "resize them to what it was made for with --size, in Python size=, or give a "
            "preprocessing."
        ) from e


def _are_probabilities(z):
    "Does each row sum to 1? A few rows near 1 may be chance"
    near = 1e-5 if len(z) < 4 else 1e-3
    sums = z.detach().float().sum(1)
    return z.shape[1] > 1 and bool((z >= 0).all() & ((sums - 1).abs() < near).all())


def _path(out, n, output, classes):
    "Where the logits lie: where it was said, else where there is one for each class, else anywhere"
    if output is not None:
        return tuple(output)
    path = logits_path(out, n, classes)
    return logits_path(out, n) if path is None else path


def _output_layer(out, n, output, classes, chosen):
    "The layer behind the network, and notes. TypeError or ValueError where there are no logits"
    path = _path(out, n, output, classes)
    if path is None:
        raise TypeError(
            f"the network returned a {type(out).__name__} in which no logits (b,c) can be found; "
            "give output=, the names and numbers that lead to them."
        )
    notes = [f"output: {told_path(out, path)}."] if path else []
    z = picked(out, path)
    if z.ndim == 1 or z.numel() == n:
        notes.append(
            "output: it returns one logit z; (0, z) stands for the two classes, so that their "
            "softmax is its sigmoid."
        )
        return Logits(path, one=True, chosen=chosen, outputs=2), notes
    z = z.flatten(1)
    soft = _are_probabilities(z)
    if soft:
        notes.append(
            "output: it returns probabilities; their logarithm stands for the logits. Where one "
            "is rounded to 0 or 1 its gradient is lost."
        )
    c = z.shape[1]
    if chosen is not None:
        chosen = tuple(chosen)
        if c <= max(chosen):
            raise ValueError(f"output {max(chosen)} was chosen, but the network has {c} outputs.")
    return Logits(path, soft=soft, chosen=chosen, outputs=c), notes


def adapt(
    model: Callable,  # a network as it comes
    x: Tensor,  # (b,ch,h,w) some of the images it will be given, pixels in [0,1]
    *,
    mean=None,  # of the pixels: numbers, 'imagenet', 'half', or 'none'; default: none is subtracted
    std=None,  # their standard deviation, likewise
    size: int | None = None,  # resize the images to so many pixels, inside of the network
    channels: int | None = None,  # that the network takes; grey images go into all of them
    preprocess: Callable | None = None,  # pixels (b,ch,h,w) in [0,1] to what the network takes
    # what stands in for the gradient of `preprocess`; default: its own, the identity where it has
    # none
    stand_in: Callable | None = None,
    extra: tuple = (),  # more arguments of the network, the same for every image
    output: tuple | None = None,  # where in what it returns the logits lie; default: looked for
    classes: int | None = None,  # of the data, where that tells logits from other things
    # outputs of the network, in the order of the data's classes; the largest of the others comes
    # last. None: all as they are
    chosen: tuple | None = None,
) -> Adapted:  # in eval mode; `.notes` says what was done, `.gradient` whether pixels have one
    """A network that takes pixels in [0,1] and gives logits, whatever it took and gave before: it
    is shown a batch, and what is missing is put around it.

    Parameters
    ----------
    model : Callable
        a network as it comes
    x : Tensor
        (b,ch,h,w) some of the images it will be given, pixels in [0,1]
    mean
        of the pixels: numbers, 'imagenet', 'half', or 'none'; default: none is subtracted
    std
        their standard deviation, likewise (default: None)
    size : int | None
        resize the images to so many pixels, inside of the network (default: None)
    channels : int | None
        that the network takes; grey images go into all of them (default: None)
    preprocess : Callable | None
        pixels (b,ch,h,w) in [0,1] to what the network takes (default: None)
    stand_in : Callable | None
        what stands in for the gradient of `preprocess`; default: its own, the identity where it has
        none
    extra : tuple
        more arguments of the network, the same for every image (default: ())
    output : tuple | None
        where in what it returns the logits lie; default: looked for
    classes : int | None
        of the data, where that tells logits from other things (default: None)
    chosen : tuple | None
        outputs of the network, in the order of the data's classes; the largest of the others comes
        last. None: all as they are (default: None)

    Returns
    -------
    Adapted
        in eval mode; `.notes` says what was done, `.gradient` whether pixels have one

    Raises
    ------
    ValueError or TypeError
        in one sentence where network and images do not fit, or no logits come out

    Examples
    --------
    >>> import torch
    >>> from spat_nb import adapt
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1))
    >>> model = adapt(net, torch.rand(2, 3, 8, 8), mean="half")
    >>> model(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 2])
    """
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}, which cannot be called.")
    if not (isinstance(x, Tensor) and x.ndim == 4 and len(x)):
        raise ValueError("x is no batch of images; give a tensor (b,ch,h,w) with pixels in [0,1].")
    x = x.detach().float()[:8]
    device = device_of(model)
    if device is not None:
        x = x.to(device)
    before, notes = input_layers(
        x,
        _dtype(model),
        mean=mean,
        std=std,
        size=size,
        channels=channels,
        preprocess=preprocess,
        stand_in=stand_in,
    )
    out = _asked(model, before, extra, x)
    after, more = _output_layer(out, len(x), output, classes, chosen)
    made = Adapted(model, before, after.to(x.device), extra, [*notes, *more])
    made.train(False)
    with eval_mode(made):
        made.gradient = follows_gradient(lambda v: made(v.to(_dtype(model))), x[:2])
    if not made.gradient:
        made.notes.append(
            "gradient: none reaches the pixels, or it is zero at each, so that attacks have "
            "nothing but the answers to go by: it is judged by queries."
        )
    return made
