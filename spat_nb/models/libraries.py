"""Architectures of timm, torchvision and transformers, and what these say of their images

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ..core.grammar import Call, parse

__all__ = ["LIBRARIES", "Library", "is_library", "open_library", "count_in"]


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
        raise ValueError(f"{text} cannot be built ({_line(e)}); change its arguments.") from None


def _split(name):
    "('resnet18', its arguments) of 'resnet18(img_size=32)'. ValueError where they are no literals"
    base, bracket, rest = name.partition("(")
    if not bracket:
        return name, {}
    call = parse(f"f({rest}")
    if not isinstance(call, Call) or call.args:
        raise ValueError(f"{name} is no call with named arguments; write {base}(img_size=64) say.")
    return base, call.keywords


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
    base, given = _split(name)
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

    base, given = _split(name)
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


# ---- transformers


def _hf(text, name, pretrained):
    _repaired()  # image processors import it
    from transformers import AutoConfig, AutoModelForImageClassification

    where = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    config = _hf_config(AutoConfig, text, where)
    pixels, size = _hf_pixels(where, config)

    def build(classes, channels):
        sized = type(config).from_dict({**config.to_dict(), "num_labels": classes})
        return AutoModelForImageClassification.from_config(sized)

    def trained():
        try:
            model, told = AutoModelForImageClassification.from_pretrained(
                where, local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError) as e:
            raise FileNotFoundError(f"{text} has no weights here ({_line(e)}).") from None
        if told["missing_keys"]:
            raise ValueError(
                f"the weights of {text} lack {min(told['missing_keys'])}, which would be drawn at "
                "random; take a checkpoint that was trained to classify images."
            )
        return model

    names = [config.id2label[i] for i in sorted(config.id2label)] if config.id2label else []
    is_named = names and not all(n.startswith("LABEL_") for n in names)
    return Library(
        text,
        build,
        channels=getattr(config, "num_channels", 3),
        pixels=pixels,
        size=size,
        names=tuple((n,) for n in names) if is_named else (),
        trained=trained if _hf_has_weights(where) else None,
        source="its preprocessor's configuration",
    )


def _line(e):
    return (str(e).strip().splitlines() or [type(e).__name__])[0].rstrip(". ")[:150]


def _hf_config(auto, text, where):
    try:
        return auto.from_pretrained(where, local_files_only=True)
    except (OSError, ValueError) as e:
        raise FileNotFoundError(
            f"{text} is no folder of transformers, and not in its cache ({_line(e)}); give the "
            "folder that save_pretrained wrote, or fetch it first: hf download OWNER/NAME."
        ) from None


def _hf_file(where, name):
    "The path of a file of a checkpoint on this machine, or None"
    from transformers.utils import cached_file

    try:
        return cached_file(
            where, name, local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
    except (OSError, ValueError):
        return None


def _hf_has_weights(where):
    kinds = ("model.safetensors", "pytorch_model.bin")
    return any(_hf_file(where, f"{k}{end}") for k in kinds for end in ("", ".index.json"))


def _hf_pixels(where, config):
    "((mean, std) or (), size or None) as the preprocessor of a checkpoint says"
    size = getattr(config, "image_size", None)
    size = size[0] if isinstance(size, (list, tuple)) else size
    file = _hf_file(where, "preprocessor_config.json")
    if file is None:
        return (), size
    told = json.loads(Path(file).read_text(encoding="utf-8"))
    sides = told.get("crop_size") if told.get("do_center_crop") else told.get("size")
    if isinstance(sides, dict):
        sides = sides.get("height") or sides.get("shortest_edge")
    size = size or sides
    if not told.get("do_normalize", True) or "image_mean" not in told:
        return (), size
    mean, std = ((v,) if isinstance(v, float) else tuple(v) for v in _mean_std(told))
    return (mean, std), size


def _mean_std(told):
    "Of pixels in [0,1]: a processor may multiply bytes by another number than 1/255"
    if not told.get("do_rescale", True):
        factor = 255.0
    else:
        factor = 255 * told.get("rescale_factor", 1 / 255)
    pair = []
    for key in ("image_mean", "image_std"):
        values = told[key] if isinstance(told[key], list) else [told[key]]
        pair.append([v / factor for v in values])
    return pair


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
