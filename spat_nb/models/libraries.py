"""Architectures of timm and torchvision, and what these say of their images

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from .checkpoints import open_checkpoint
from .library import Library, first_line, split_name

__all__ = ["LIBRARIES", "is_library", "open_library", "count_in"]


def is_library(
    text: str,  # as it was typed
) -> bool:
    "Does this name an architecture of a library?"
    return text.partition(":")[0] in LIBRARIES and ":" in text


def open_library(
    text: str,  # 'timm:resnet18', 'torchvision:resnet50', 'hf:folder', 'timm:resnet18(...)'
    pretrained: bool = False,  # with the library's own weights
) -> Library:
    "An architecture. ImportError, FileNotFoundError, or ValueError in one sentence"
    library, _, name = text.partition(":")
    try:
        found = LIBRARIES[library](text, name, pretrained)
        return replace(found, build=partial(_built, text, found.build))
    except ImportError as e:
        raise ImportError(
            f"{text} needs {e.name or library}, which is not installed; "
            f'run: pip install "spat_nb[{"hf" if library == "hf" else "models"}]".'
        ) from None


def _built(text, build, classes, channels):
    "A network of an architecture. ValueError in one sentence where its arguments do not fit"
    try:
        return build(classes, channels)
    except Exception as e:
        raise ValueError(
            f"{text} cannot be built ({first_line(e)}); change its arguments."
        ) from None


def _unknown(text, name, known):
    near = difflib.get_close_matches(name, known, 1, 0.5)
    library = text.partition(":")[0]
    end = f"; did you mean {library}:{near[0]}?" if near else "."
    return ValueError(f"{text} is no architecture of {library}{end}")


def _repaired():
    "torchvision, which timm imports too, also where its operators were built for another machine"
    from spat_nb.data.vision import torchvision

    return torchvision("models")


# ---- torchvision


def _torchvision(text, name, pretrained):
    models = _repaired()
    base, given = split_name(name)
    known = models.list_models(module=models)
    if base not in known:
        raise _unknown(text, base, known)

    def build(classes, channels):
        return models.get_model(base, weights=None, **{"num_classes": classes, **given})

    weights = models.get_model_weights(base).DEFAULT
    usual = weights.transforms()
    size = usual.crop_size[0] if isinstance(usual.crop_size, (list, tuple)) else usual.crop_size

    def trained():
        model = build(len(weights.meta["categories"]), 3)
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        model.load_state_dict(state)
        return model

    return Library(
        text,
        build,
        pixels=(tuple(usual.mean), tuple(usual.std)),
        size=size,
        names=tuple((n,) for n in weights.meta["categories"]),
        trained=trained if pretrained else None,
        source="torchvision's weights",
    )


# ---- timm


def _timm(text, name, pretrained):
    _repaired()
    import timm

    base, given = split_name(name)
    if not timm.is_model(base.partition(".")[0]):
        raise _unknown(text, base, timm.list_models())

    def build(classes, channels):
        kw = {"num_classes": classes, "in_chans": channels, **given}
        return timm.create_model(base, pretrained=False, **kw)

    told = timm.get_pretrained_cfg(base)
    config = told.to_dict() if told is not None else {}
    size = config.get("input_size")
    return Library(
        text,
        build,
        channels=None,
        pixels=(tuple(config["mean"]), tuple(config["std"])) if config.get("mean") else (),
        size=given.get("img_size") or (size[-1] if size else None),
        trained=(lambda: timm.create_model(base, pretrained=True, **given)) if pretrained else None,
        source="timm's configuration",
    )


def _hf(text, name, pretrained):
    return open_checkpoint(text, name)


LIBRARIES: dict[str, Callable] = {"timm": _timm, "torchvision": _torchvision, "hf": _hf}


# ---- what weights were made for


def count_in(
    build: Callable,  # number -> network
    state: dict,  # name -> tensor, of such a network
) -> int | None:  # None where no weight says it
    "The number that weights were made for: what `build(2)` and `build(3)` differ in"
    try:
        with torch.device("meta"):
            two, three = build(2).state_dict(), build(3).state_dict()
    except Exception:
        return None
    for key, v in two.items():
        w = three.get(key)
        if key not in state or w is None or w.shape == v.shape or state[key].ndim != v.ndim:
            continue
        axis = next(i for i, (a, b) in enumerate(zip(v.shape, w.shape)) if a != b)
        return state[key].shape[axis]
    return None
