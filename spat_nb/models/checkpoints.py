"""Checkpoints of transformers: a folder, or what lies in its cache; nothing is fetched

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

from spat_nb.data.vision import torchvision

from .library import Library, first_line

__all__ = ["open_checkpoint"]


def open_checkpoint(
    text: str,  # as it was typed: 'hf:folder'
    name: str,  # a folder, or owner/name in the cache
) -> Library:
    "A checkpoint of transformers on this machine. FileNotFoundError or ImportError"
    torchvision("models")  # image processors import it
    from transformers import AutoConfig, AutoModelForImageClassification

    where = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    config = _hf_config(AutoConfig, text, where)
    pixels, size = _hf_pixels(where, config)

    def build(classes, channels):
        sized = type(config).from_dict({**config.to_dict(), "num_labels": classes})
        return AutoModelForImageClassification.from_config(sized)

    def trained():
        try:
            with _quiet():
                model, told = AutoModelForImageClassification.from_pretrained(
                    where,
                    local_files_only=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
        except (OSError, ValueError) as e:
            raise FileNotFoundError(f"{text} has no weights here ({first_line(e)}).") from None
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


@contextmanager
def _quiet():
    "Without the bars and the tables that transformers prints while it reads weights"
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _hf_config(auto, text, where):
    try:
        return auto.from_pretrained(where, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as e:
        raise FileNotFoundError(
            f"{text} is no folder of transformers, and not in its cache ({first_line(e)}); give "
            "the folder that save_pretrained wrote, or fetch it first: hf download OWNER/NAME."
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
