"""What an attack has to say of its own run: kept beside the numbers where they are kept

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["remark", "remarks"]

_heard: ContextVar[list | None] = ContextVar("remarks", default=None)


def remark(
    sentence: str,  # what the reader of the number should know
) -> None:
    "Say it once: to whoever listens (`evaluate` does, and keeps it), else as a warning"
    kept = _heard.get()
    if kept is None:
        warnings.warn(sentence, stacklevel=3)
    elif sentence not in kept:
        kept.append(sentence)


@contextmanager
def remarks() -> Iterator[list]:  # gives the sentences, as they come
    "Listen for a while"
    mine: list = []
    mark = _heard.set(mine)
    try:
        yield mine
    finally:
        _heard.reset(mark)
