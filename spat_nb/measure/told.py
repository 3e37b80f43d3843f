"""What is judged, and where, in words"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..models.adapters import Adapted
from ..models.net import count

__all__ = ["heading", "images_told", "network_told", "told_privacy"]


def heading(
    network: str,  # name or make, and number of parameters
    data: str,  # name, number and shape of the images
    ball: str,  # threat model, as a spec
    device: str,  # on which the network runs
    threads: int,  # of the CPU
    precision: str = "float32",  # how the network runs while it is attacked
) -> list:  # of lines
    "What is worked on, and where: the first lines of all that is printed"
    several = "s" if threads != 1 else ""
    return [
        f"network  {network}",
        f"data     {data}",
        f"ball     {ball}",
        f"device   {device}, {threads} thread{several}, {precision}",
    ]


def network_told(
    model: Callable,  # pixels to logits
    name: str = "",  # what it is called; default: its make alone
) -> str:
    "The make of a network and its number of parameters"
    made = _make(model)
    return f"{name}: {made}" if name else made


def _make(model):
    "The make of a network; of one with something put around it, the network's own"
    model = model.model if isinstance(model, Adapted) else model
    if not isinstance(model, nn.Module):
        return getattr(model, "__name__", type(model).__name__)
    if isinstance(getattr(model, "config", None), dict):
        return repr(model)
    return f"{type(model).__name__}: {count(model):,} parameters"


def images_told(
    n: int,  # images
    classes: int,  # of how many classes
    shape: tuple | None = None,  # (ch,h,w) of one
    source: str = "",  # where they are from: 'digits, test'
) -> str:
    "What is judged, in words"
    size = f" of {'x'.join(map(str, shape))}" if shape is not None else ""
    told = f"{n:,} images{size}, {classes} classes"
    return f"{source}: {told}" if source else told


def told_privacy(
    found: dict,  # of `papers.rpg.privacy`
) -> str:
    "What a network tells of its training images, in a sentence without its full stop"
    return (
        f"a threshold on the confidence tells training images from others with a score of"
        f" {found['split']:.3f} (1/2 is a guess; {found['optimistic']:.3f} where the threshold is"
        f" chosen on the images it is judged by); attacked images are {found['intensity']:.3g}"
        " times as loud as clean ones"
    )
