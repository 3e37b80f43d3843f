"""torchvision, imported when it is needed, also where its operators were built for another kind of
machine. Written by hand: no notebook makes it
"""

from __future__ import annotations

import importlib

MISSING = "operator torchvision::nms does not exist"


OPERATORS = ("nms", "qnms")


_library = None  # the declarations go when this object goes


def _declare():
    """Declare the two operators that torchvision looks up while it is imported; they get no body,
    and nothing here calls them
    """
    global _library
    import torch

    _library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def mended() -> bool:
    "Did the import of torchvision need the two declarations?"
    return _library is not None  # did the import need the two declarations?


def torchvision(
    part: str = "",  # a module inside it, such as 'transforms.v2'; default: torchvision itself
):
    """Import torchvision, or a `part` of it. PyPI's wheel is built for CUDA, and on CPU-only torch
    its import fails for want of `nms`: then, and only then, declare it and import again.
    `torchvision.io` and `ops.nms` stay unavailable there; Pillow opens images.
    """
    name = ".".join(filter(None, ("torchvision", part)))
    try:
        return importlib.import_module(name)
    except RuntimeError as e:
        if MISSING not in str(e) or _library is not None:
            raise
    _declare()
    return importlib.import_module(name)
