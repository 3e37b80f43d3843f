"""The images to judge on, from what a person typed: a set by name, a folder, a file of one's own

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..core import outside
from ..core.settings import default_device
from .batches import Batches, ImageSet
from .images import find_parts, read_folder
from .items import from_dataset, is_dataset
from .pairs import in_memory, is_pair, pair
from .sources import Data, get_data
from .streams import Stream

__all__ = ["is_ones_own", "open_judged"]

SIZE = 224  # of pictures in files, where nobody says another
# parts of a data set, the first that is there is judged on
ORDER = ("test", "valid", "validation", "val", "dev")
HUGGING_FACE = "hf:"


def is_ones_own(
    name: str,  # as it was typed
) -> bool:
    "Is it a folder, `file.py:name`, `package.module:name` or `hf:...`, which no recipe can name?"
    name = str(name)
    if name.startswith(HUGGING_FACE) or Path(name).expanduser().is_dir():
        return True
    where, _, attribute = name.rpartition(":")
    return attribute.isidentifier() and len(where) > 1  # C:\\data is a path of Windows


def open_judged(
    # a folder of images, 'file.py:name', 'package.module:name', 'hf:FOLDER' or 'hf:NAME', or what
    # `get_data` knows
    name: str,
    part: str | None = None,  # 'val'; default: test, else validation, else all there is
    size: int | None = None,  # height and width in pixels; default: 224 of files, else as they are
    root: str | None = None,  # as in `get_data`
    device: str | None = None,  # where the batches go; default: the reader's setting
    batch_size: int = 128,  # images per batch
    workers: int = 0,  # processes that read files ahead
) -> tuple[ImageSet, str]:  # the images, and where they are from in words: 'flowers/val, all'
    """Open the images to judge on; nothing is trained on them, so a lone folder is taken whole

    What is typed as `file.py:name` is imported: a Dataset, a DataLoader, tensors (x, y), or a
    function without arguments that returns one of these. ValueError, TypeError or
    FileNotFoundError in one sentence where it is none.
    """
    dev = default_device(device)
    if name.startswith(HUGGING_FACE):
        found, told = _hugging_face(name[len(HUGGING_FACE) :], part)
        images: Any = from_dataset(found, size, batch_size, dev)
        return images, f"{name}, {told}"
    folder = Path(name).expanduser()
    if folder.is_dir():
        if _is_saved_by_datasets(folder):
            raise ValueError(f"{name} was saved by Hugging Face's datasets; write hf:{name}.")
        return _of_folder(folder, part, size or SIZE, dev, batch_size, workers)
    if is_ones_own(name):
        return _of_object(name, part, size, dev, batch_size)
    if part not in (None, "test"):
        raise ValueError(f"split is {part!r}; of {name} the test images are judged: leave it out.")
    more: dict[str, Any] = dict(root=root, size=size or SIZE, workers=workers)
    data = get_data(name, device=device, batch_size=batch_size, **more)
    return data.test, f"{name}, test"


# ---- a folder


def _of_folder(folder, part, size, dev, batch_size, workers):
    "The part of a folder of images that is judged"
    parts = find_parts(folder)
    if parts.keys() == {""}:  # classes lie in it directly
        if part is not None:
            raise ValueError(f"{folder} has no parts such as {part}/; leave the split out.")
        chosen, told = folder, "all images"
    else:
        named = {path.name: path for path in parts.values()}
        chosen = named.get(part) if part else parts.get("test", parts.get("valid"))
        if chosen is None:
            have = ", ".join(sorted(named))
            asked = f"no {part}/" if part else "neither test/ nor val/"
            raise ValueError(f"{folder} has {asked}, but {have}; choose one: --split {min(named)}.")
        told = chosen.name
    files, labels, classes = read_folder(chosen)
    kept = dict(batch_size=batch_size, size=size, workers=workers, device=str(dev))
    return Stream(files, torch.tensor(labels), tuple(classes), **kept), f"{folder}, {told}"


# ---- Hugging Face's data sets, from this machine alone


def _is_saved_by_datasets(folder):
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _hugging_face(place, part):
    "A data set that lies on this machine: a folder of `save_to_disk`, or a name in the cache"
    try:
        import datasets
    except ImportError:
        raise ValueError(
            "hf:... needs the package datasets, which is not installed; pip install 'spat_nb[hf]'."
        ) from None
    folder = Path(place).expanduser()
    if folder.is_dir() and _is_saved_by_datasets(folder):
        found = datasets.load_from_disk(str(folder))
    else:
        found = _cached(datasets, place)
    return _part_of(found, part, place)


def _cached(datasets, place):
    "From the cache, without a look at the network"
    before = datasets.config.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE")
    datasets.config.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        return datasets.load_dataset(place)
    except Exception as e:
        why = " ".join(str(e).split())[:120] or type(e).__name__
        raise FileNotFoundError(
            f"hf:{place} is no folder that save_to_disk wrote and not in the cache ({why}); "
            "download it first, and give the folder of dataset.save_to_disk(folder)."
        ) from None
    finally:
        datasets.config.HF_HUB_OFFLINE = before[0]
        if before[1] is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before[1]


def _part_of(found, part, place):
    "(images, their name) of a data set, or of the part that is judged"
    if not hasattr(found, "keys"):
        if part is not None:
            raise ValueError(f"hf:{place} has no parts, so none is {part!r}; leave the split out.")
        return found, "all images"
    wanted = (part,) if part else ORDER
    name = next((p for p in wanted if p in found), None)
    if name is None:
        asked = repr(part) if part else "test or validation part"
        have = ", ".join(found)
        raise ValueError(
            f"hf:{place} has no {asked}, but {have}; choose one: --split {next(iter(found))}."
        )
    return found[name], name


# ---- a file of one's own


def _of_object(name, part, size, dev, batch_size):
    "What a typed name means, as images to judge on"
    found = outside.find(name)
    if callable(found) and not is_dataset(found) and not isinstance(found, ImageSet):
        try:
            found = found()
        except TypeError as e:
            raise TypeError(
                f"{name} cannot be called without arguments ({' '.join(str(e).split())}); give a"
                " Dataset, a DataLoader, (x, y), or a function that returns one."
            ) from None
    told = f"{name}, all images"
    if isinstance(found, Data):
        found, told = _chosen_part(found, part, name)
    elif part is not None:
        raise ValueError(f"{name} has no parts, so none is {part!r}; leave the split out.")
    if isinstance(found, ImageSet):
        return found, told
    if is_dataset(found):
        return from_dataset(found, size, batch_size, dev), told
    if is_pair(found):
        x, y = pair(found)
        found = torch.utils.data.TensorDataset(x, y)
        return from_dataset(found, size, batch_size, dev), told
    images = in_memory(found, batch_size=batch_size)
    return _moved(images, dev), told


def _chosen_part(data, part, name):
    "(images, where they are from) of a triple of parts"
    if part not in (None, *Data._fields):
        raise ValueError(f"split is {part!r}; {name} has {', '.join(Data._fields)}.")
    return getattr(data, part or "test"), f"{name}, {part or 'test'}"


def _moved(images: Batches, dev) -> Batches:
    return images.with_(x=images.x.to(dev), y=images.y.to(dev))
