"""What is known of an architecture of a library, and how one is named

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core.grammar import Call, parse

__all__ = ["Library", "split_name", "first_line"]


@dataclass(frozen=True)
class Library:
    "An architecture of a library: how it is built, and what its images are"

    name: str  # as it was typed: 'timm:resnet18'
    build: Callable  # (classes, channels) -> nn.Module with random weights
    channels: int | None = 3  # that it takes; None: as many as the images have
    pixels: tuple = ()  # (mean, std) of the pixels; (): not known
    size: int | None = None  # height and width that it was made for
    names: tuple = ()  # of its outputs, each a tuple of names for one thing; (): not known
    trained: Callable | None = None  # () -> nn.Module with the weights that lie beside it
    source: str = ""  # of what it says, in words: "timm's configuration"


def split_name(
    name: str,  # 'resnet18(img_size=32)'
) -> tuple:  # ('resnet18', its arguments)
    "An architecture's name and its arguments. ValueError where these are no literals"
    base, bracket, rest = name.partition("(")
    if not bracket:
        return name, {}
    call = parse(f"f({rest}")
    if not isinstance(call, Call) or call.args:
        raise ValueError(f"{name} is no call with named arguments; write {base}(img_size=64) say.")
    return base, call.keywords


def first_line(
    e: BaseException,  # that another library raised
) -> str:
    "What it says first, for a sentence"
    return (str(e).strip().splitlines() or [type(e).__name__])[0].rstrip(". ")[:150]
