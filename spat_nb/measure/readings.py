"""Ways to read the same pixels: what a network may have been trained on instead of what it gets

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..models.inputs import PIXELS

__all__ = ["Reading", "readings", "KNOWN_NORMALISATIONS"]

# name -> (mean, std) that libraries put before a network
KNOWN_NORMALISATIONS = {
    "ImageNet's mean and std": PIXELS["imagenet"],
    "mean and std 0.5": PIXELS["half"],
}
Pixels = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reading:
    "One way to read the pixels"

    name: str  # what the network gets: 'pixels from 0 to 255'
    mend: str  # what to do where this is the right one
    pixels: Pixels  # (b,ch,h,w) in [0,1] -> what the model is called with instead


def _column(values, x):
    return torch.tensor(values, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)


def _normalised(x, mean, std):
    return (x - _column(mean, x)) / _column(std, x)


def _undone(x, mean, std):
    return x * _column(std, x) + _column(mean, x)


def _plain(x):
    return x


def _times_255(x):
    return 255 * x


def _swapped(x):
    return x.flip(1)


def _inverted(x):
    return 1 - x


def _turned(x):
    return x.transpose(2, 3)


def _both(first: Pixels, then: Pixels, x):
    return then(first(x))


def _flags(mean, std):
    "As they are typed on the command line"
    return f"--mean {','.join(f'{v:g}' for v in mean)} --std {','.join(f'{v:g}' for v in std)}"


def _same(one, other, channels):
    "Do two normalisations say the same?"
    if one is None:
        return False
    pairs = zip((*one,), (*other,), strict=True)
    spread = [torch.tensor(v).expand(channels) for pair in pairs for v in pair]
    return all(torch.allclose(a, b, atol=1e-3) for a, b in zip(spread[::2], spread[1::2]))


def _scales(channels, normalisation) -> Iterator[tuple[str, str, Pixels]]:
    "(name, mend, pixels -> what the network behind the given normalisation is to get)"
    if normalisation is not None:
        alone = "the network normalises by itself, or not at all: --mean 0 --std 1"
        yield "plain pixels from 0 to 1", alone, _plain
    yield "pixels from 0 to 255", "it wants whole bytes: --mean 0 --std 0.00392157", _times_255
    for name, (mean, std) in KNOWN_NORMALISATIONS.items():
        if len(mean) not in (1, channels) or _same(normalisation, (mean, std), channels):
            continue
        mend = f"normalise before the network: {_flags(mean, std)}"
        yield f"pixels normalised by {name}", mend, partial(_normalised, mean=mean, std=std)
        if normalisation is None:
            mend = "the model seems to normalise twice: take one of the two layers out"
            yield (
                f"pixels normalised once less by {name}",
                mend,
                partial(_undone, mean=mean, std=std),
            )


def readings(
    shape: tuple,  # (ch,h,w) of an image
    normalisation: tuple | None = None,  # (mean, std) of what stands before the network, tuples
) -> list[Reading]:  # the simplest mistakes first
    """What may have gone wrong between the pixels and the network

    A reading undoes the normalisation that stands before the network: then the network itself gets
    what the name says.
    """
    channels, height, width = shape
    taken = channels  # by the network: grey images may go into all of its channels
    undo: Pixels = _plain
    if normalisation is not None:
        taken = max(channels, *map(len, normalisation))
        undo = partial(_undone, mean=normalisation[0], std=normalisation[1])
    found = [
        Reading(name, mend, partial(_both, scale, undo))
        for name, mend, scale in _scales(taken, normalisation)
    ]
    if channels == 3:
        swap = "it was trained on blue, green, red: flip the channels before the network"
        with_blue_first = [
            Reading(
                f"{r.name}, blue first", f"{swap}; {r.mend}", partial(_both, _swapped, r.pixels)
            )
            for r in found
        ]
        found += [Reading("blue, green, red for red, green, blue", swap, _swapped)]
        found += with_blue_first
    found.append(Reading("bright for dark", "it was trained on inverted images", _inverted))
    if height == width:
        turned = "it was trained on transposed images: swap height and width"
        found.append(Reading("rows for columns", turned, _turned))
    return found
