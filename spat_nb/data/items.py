"""Data sets of torch or Hugging Face, read image by image: they need not fit into memory

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..core.checks import check_images, check_labels
from ..core.progress import bar
from .batches import ImageSet
from .draws import rng
from .images import to_rgb
from .pairs import Pairs, item_pair, label_number
from .streams import centre

__all__ = ["Items", "from_dataset", "is_dataset"]

LABELS = ("targets", "labels", "y")  # attributes by which data sets tell their labels
PROBES = 8  # items whose label is compared with what such an attribute says


def _is_picture(v):
    "Is this an image of Pillow?"
    return hasattr(v, "getbands")


def _picture(img, size):
    "A picture as bytes (ch,h,w): grey stays grey, all else is colour"
    import numpy as np

    img = img if img.mode == "L" else to_rgb(img)
    array = np.array(img if size is None else centre(img, size))
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


def _pixels(v, size):
    "The pixels (ch,h,w) of an item, floats in [0,1]"
    if _is_picture(v):
        return _picture(v, size).float() / 255
    x = torch.as_tensor(v)
    if x.ndim == 2:
        x = x[None]
    if x.ndim == 3 and x.shape[0] > 4 >= x.shape[2]:  # an array (h,w,ch)
        x = x.permute(2, 0, 1)
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    return x


class _Read(torch.utils.data.Dataset):
    "Item by item, as pixels"

    def __init__(self, items, chosen):
        self.items, self.chosen = items, chosen

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, k):
        return self.items.pixels(int(self.chosen[k]))


def _stack(images):
    shapes = {tuple(x.shape) for x in images}
    if len(shapes) > 1:
        raise ValueError(
            f"images have different shapes, {' and '.join(map(str, sorted(shapes)[:2]))}; "
            "make them one size: size=224, on the command line --size 224."
        )
    return torch.stack(images)


@dataclass(eq=False, repr=False)
class Items(ImageSet):
    """Images that stay in their data set and are read when their batch comes; else like `Batches`

    Parameters
    ----------
    data : Sequence
        data[i] is (image, label, ...), or a dict: Pillow's images, bytes, or floats in [0,1]
    y : Tensor
        (n,) int64 labels of the items at `index`
    classes : tuple
        c class names
    index : Tensor
        (n,) positions in `data`
    batch_size : int
        images per batch; the last one may be smaller (default: 128)
    shuffle : bool
        a new order in each epoch (default: False)
    augment : Callable | None
        (x float, generator) -> x, for each batch (default: None)
    seed : int
        of order and augmentation (default: 0)
    side : int | None
        make pictures of Pillow so many pixels high and wide; None: as they are (default: None)
    workers : int
        processes that read ahead; 0: none (default: 0)
    device : str
        where the batches go (default: "cpu")
    """

    data: Sequence  # data[i] is (image, label, ...), or a dict
    y: Tensor  # (n,) int64 labels of the items at `index`
    classes: tuple  # c class names
    index: Tensor  # (n,) positions in `data`
    batch_size: int = 128  # images per batch; the last one may be smaller
    shuffle: bool = False  # a new order in each epoch
    augment: Callable | None = None  # (x float, generator) -> x, for each batch
    seed: int = 0  # of order and augmentation
    side: int | None = (
        None  # make Pillow's pictures so many pixels high and wide; None: as they are
    )
    workers: int = 0  # processes that read ahead; 0: none
    device: str = "cpu"  # where the batches go

    def __post_init__(self):
        check_labels(self.y, len(self.index))
        self._check()

    @property
    def shape(self):
        "(ch,h,w) of an image"
        return tuple(self.pixels(int(self.index[0])).shape)

    def pixels(
        self,
        i: int,  # position in `data`
    ) -> Tensor:  # (ch,h,w) in [0,1]
        "One image. TypeError where the item holds none"
        image, _ = item_pair(self.data, i)
        try:
            return _pixels(image, self.side)
        except (TypeError, ValueError, RuntimeError) as e:
            raise TypeError(
                f"item {i} of the data set is a {type(image).__name__}, which is no image"
                f" ({' '.join(str(e).split())[:100]}); give Pillow's images or tensors (ch,h,w)."
            ) from None

    def take(self, i):
        return replace(self, index=self.index[i], y=self.y[i])

    def epoch(self, e=0, start=0):
        "The batches of epoch `e`. TypeError or ValueError where an item is no image in [0,1]"
        idx = self.indices(e, start)
        loader = torch.utils.data.DataLoader(
            _Read(self, self.index),
            batch_sampler=[i.tolist() for i in idx],
            num_workers=self.workers,
            collate_fn=_stack,
            pin_memory=str(self.device).startswith("cuda"),
            generator=rng(self.seed, e, "workers"),
        )
        for k, (i, x) in enumerate(zip(idx, loader), start):
            x = check_images(x).to(self.device, non_blocking=True)
            if self.augment:
                x = self.augment(x, rng(self.seed, e, k))
            yield x, self.y[i].to(self.device)

    def tensors(self):
        "All images at once; mind the memory"
        x, y = zip(*self.with_(shuffle=False, augment=None).epoch())
        return torch.cat(x), torch.cat(y)


# ---- from a data set


def is_dataset(
    data,  # anything
) -> bool:
    "Does it give single items by number, as a set or as a loader that batches such a set plainly?"
    if isinstance(data, torch.utils.data.DataLoader):
        plain = data.batch_size is not None and data.collate_fn is default_collate
        ordered = type(data.sampler).__name__ in ("SequentialSampler", "RandomSampler")
        return plain and ordered and is_dataset(data.dataset)
    if isinstance(data, torch.utils.data.IterableDataset):
        return False
    foreign = isinstance(data, torch.utils.data.Dataset) or hasattr(data, "column_names")
    return foreign and hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _known_labels(data):
    "The labels that a data set tells without reading its images; None where it does not"
    if isinstance(data, torch.utils.data.Subset):
        all_of = _known_labels(data.dataset)
        return None if all_of is None else all_of[torch.as_tensor(data.indices)]
    if isinstance(data, torch.utils.data.TensorDataset):
        return data.tensors[1] if len(data.tensors) > 1 else None
    column = next((k for k in _columns(data) if k in ("label", "labels", "fine_label")), None)
    told = data[column] if column else None
    for name in LABELS:
        told = _attribute(data, name) if told is None else told
    if told is None or not len(told) == len(data):
        return None
    try:
        return torch.as_tensor(list(told)) if not isinstance(told, Tensor) else told
    except (TypeError, ValueError, RuntimeError):
        return None


def _attribute(data, name):
    "What an attribute holds; None where it holds nothing that can be counted"
    value: Any = getattr(data, name, None)
    return value if hasattr(value, "__len__") and len(value) else None


def _columns(data):
    names = getattr(data, "column_names", ())
    return names if isinstance(names, list) else ()


def _label_of(data, i):
    return label_number(item_pair(data, i)[1], i)


def _read_labels(data):
    "Labels of all items, read one after the other"
    n = len(data)
    return torch.tensor([_label_of(data, i) for i in bar(range(n), desc="labels")])


def _labels(data):
    "(n,) int64 labels: as the data set tells them, where its items say the same, else read"
    told = _known_labels(data)
    if told is not None and told.ndim == 1 and not told.is_floating_point():
        probes = torch.linspace(0, len(data) - 1, min(PROBES, len(data))).long().tolist()
        if all(_label_of(data, i) == int(told[i]) for i in probes):
            return told.long().cpu()
    return _read_labels(data).long()


def _class_names(data, y):
    "The names that the data set knows; numbers where it knows none"
    features = getattr(data, "features", None) or {}
    for name in ("label", "labels", "fine_label"):
        names = getattr(features.get(name) if hasattr(features, "get") else None, "names", None)
        if names:
            return tuple(map(str, names))
    return Pairs(data).classes or tuple(map(str, range(int(y.max()) + 1)))


def _refuse_change(items):
    "ValueError where an image is another one when it is read again: no set to judge on"
    first = int(items.index[0])
    once, again = items.pixels(first), items.pixels(first)
    if not torch.equal(once.nan_to_num(), again.nan_to_num()):  # NaN is refused by its name later
        raise ValueError(
            "the data set gives other pixels each time an image is read; take the augmentation out"
            " of the images that are judged."
        )


def from_dataset(
    data,  # a map-style Dataset of torch, a DataLoader of one, or a Dataset of Hugging Face
    size: int | None = None,  # make Pillow's pictures so high and wide; None, tensors: as they are
    batch_size: int | None = None,  # images per batch; default: the loader's, or 128
    device="cpu",  # where the batches go
) -> Items:
    """A data set as the package judges it: with labels, class names, subsets, and batches

    TypeError or ValueError where its items hold no images and labels, or change when read again
    """
    workers = 0
    if isinstance(data, torch.utils.data.DataLoader):
        workers, batch_size = data.num_workers, batch_size or data.batch_size
        data = data.dataset
    n = len(cast(Any, data))
    if n == 0:
        raise ValueError("the data holds no images; check how it was split.")
    y = _labels(data)
    items = Items(
        data,
        y,
        _class_names(data, y),
        torch.arange(n),
        batch_size or 128,
        side=size,
        workers=workers,
        device=str(device),
    )
    _refuse_change(items)
    return items
