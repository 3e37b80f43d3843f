"What a layer is given, read or changed on the way"

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

__all__ = ["at_inputs"]


@contextmanager
def at_inputs(
    layers,  # of modules
    change: Callable,  # (k, input of layer k) -> what it gets instead; None: as it is
):
    "For as long as it lasts, layer k gets what `change` makes of its input"

    def hook(k):
        return lambda module, args: change(k, args[0])

    hooks = [m.register_forward_pre_hook(hook(k)) for k, m in enumerate(layers)]
    try:
        yield
    finally:
        for h in hooks:
            h.remove()
