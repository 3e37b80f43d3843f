"""Anything that gives images and labels: tensors, arrays, data sets, loaders"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.checks import check_images
from .batches import Batches

__all__ = ["is_pair", "split_pair", "item_pair", "label_number", "pair", "Pairs", "in_memory"]

_IMAGES, _LABELS = (
    ("image", "images", "img", "pixel_values", "x", "inputs", "input", "data"),
    ("label", "labels", "y", "target", "targets", "fine_label"),
)


def _labels(y):
    "Labels as check_labels wants them: (b,1) becomes (b,), all whole numbers int64"
    y = torch.as_tensor(y)
    if y.ndim == 2 and y.shape[1] == 1 and not y.is_floating_point():
        y = y[:, 0]
    return y if y.is_floating_point() else y.long()


def is_pair(
    data,  # anything
) -> bool:
    "Are these tensors (x, y), rather than batches of them?"
    return isinstance(data, (tuple, list)) and len(data) == 2 and hasattr(data[0], "shape")


def split_pair(
    batch,  # (x, y), (x, y, more), or a dict of which one key means images and another labels
) -> tuple:  # x, y as they are
    """Which part of a batch, or of an item, is the image, and which the label.

    TypeError or ValueError where it is not clear
    """
    if isinstance(batch, Mapping):
        keys = [next((k for k in words if k in batch), None) for words in (_IMAGES, _LABELS)]
        if None in keys:
            raise ValueError(
                f"a batch is a dict with the keys {', '.join(map(repr, batch))}; give 'image' and"
                " 'label', or pairs (x, y)."
            )
        x, y = (batch[k] for k in keys)
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        x, y = batch[:2]
    else:
        raise TypeError(
            "a batch is a"
            f" {type(batch).__name__}{f' of {len(batch)}' if isinstance(batch, (tuple, list)) else ''};"  # noqa: E501
            " give pairs (x, y) of images and labels."
        )
    return x, y


def item_pair(
    data,  # a map-style Dataset
    i: int,  # position in it
) -> tuple:  # (image, label) as they are
    "One item. ValueError that names it where it cannot be read, TypeError where it is no pair"
    try:
        item = data[i]
    except OSError as e:
        why = " ".join(str(e).split())[:120] or type(e).__name__
        raise ValueError(
            f"item {i} of the data set cannot be read ({why}); take it out, or fetch it again."
        ) from None
    return split_pair(item)


def label_number(
    y,  # a label as an item gives it
    i: int,  # position of the item, for the sentence
) -> int:
    "The class as a number. ValueError where it is none, or no whole one"
    try:
        told = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError):
        told = None
    if told is None or told.numel() != 1 or not float(told).is_integer():
        raise ValueError(
            f"item {i} of the data set has the label {' '.join(str(y).split())[:60]}; give the "
            "number of its class, a whole one from 0."
        )
    return int(told)


def pair(
    batch,  # (x, y), (x, y, more), or a dict of which one key means images and another labels
) -> tuple:  # x, y: tensors, labels int64 where they are whole numbers
    """Images and labels of a batch from elsewhere.

    TypeError or ValueError where it is not clear which they are

    Parameters
    ----------
    batch
        (x, y), (x, y, more), or a dict of which one key means images and another labels

    Returns
    -------
    tuple
        x, y: tensors, labels int64 where they are whole numbers

    Raises
    ------
    TypeError or ValueError
        where it is not clear which they are
    """
    x, y = split_pair(batch)
    if isinstance(x, (tuple, list)) and not any(isinstance(v, Tensor) for v in x):
        raise TypeError(
            f"the images of a batch are a list of {type(x[0]).__name__ if x else 'nothing'}; give a"
            " tensor (b,ch,h,w)."
        )
    try:
        x, y = (
            torch.stack(list(x)) if isinstance(x, (tuple, list)) else torch.as_tensor(x),
            _labels(y),
        )
    except (RuntimeError, TypeError, ValueError) as e:
        raise TypeError(
            f"a batch of {type(x).__name__} and {type(y).__name__} holds no images and labels"
            f" ({' '.join(str(e).split())[:120].rstrip('. ')}); give tensors (b,ch,h,w) and (b,)."
        ) from None
    if x.ndim == 3 and y.ndim == 0:
        raise ValueError(
            "the data gives single images; give batches, torch.utils.data.DataLoader(data,"
            " batch_size=128)."
        )
    return x, y


class Pairs:
    """Batches (x, y) of a DataLoader, a Dataset or a list; triples and dicts are unpacked, empty
    batches left out.

    Parameters
    ----------
    data
        a DataLoader, a Dataset, or a list of batches

    Raises
    ------
    TypeError
        for what is none of these
    """

    def __init__(
        self,
        data,  # a DataLoader, a Dataset, or a list of batches
    ):
        what = repr(data) if isinstance(data, str) else f"a {type(data).__name__}"
        if isinstance(data, (str, Tensor, Mapping)) or not (
            hasattr(data, "__iter__") or hasattr(data, "__getitem__")
        ):
            raise TypeError(
                f"data is {what}; give Batches (get_data('digits').test, say), tensors (x, y), a"
                " Dataset, or a DataLoader."
            )
        self.data = data
        # items, not batches
        single = isinstance(data, torch.utils.data.Dataset) or not hasattr(data, "__iter__")
        self.loader = torch.utils.data.DataLoader(data, batch_size=128) if single else data

    @property
    def classes(self):
        "The names that the data set knows, through DataLoader and Subset"
        d = self.data
        while not hasattr(d, "classes") and hasattr(d, "dataset"):
            d = d.dataset
        return tuple(map(str, getattr(d, "classes", ())))

    @property
    def n(self):
        "How many images there are; None where nobody can say"
        if isinstance(self.data, list):
            return sum(len(pair(b)[1]) for b in self.data)
        try:
            return (
                len(
                    getattr(self.data, "dataset", self.data if self.loader is not self.data else ())
                )
                or None
            )
        except TypeError:
            return None

    def __iter__(self):
        try:
            for batch in self.loader:
                x, y = pair(batch)
                if len(x):
                    yield x, y
        except (TypeError, RuntimeError) as e:
            if (
                self.loader is self.data
                or "default_collate" not in str(e)
                and "stack expects" not in str(e)
            ):
                raise
            mend = (
                "transform=ToTensor()"
                if "default_collate" in str(e)
                else "a transform that makes all images of one size"
            )
            raise TypeError(
                "the items of the data set cannot be put into a batch"
                f" ({' '.join(str(e).split())[:120]}); give it {mend}."
            ) from None


def in_memory(
    data,  # a DataLoader, a Dataset, or what else yields (x, y), pixels in [0,1] and not augmented
    **kw,  # more for `Batches`: batch_size, shuffle, augment, seed
) -> Batches:
    """Read all images once and keep them as bytes: 256 values per pixel.

    Parameters
    ----------
    data
        a DataLoader, a Dataset, or what else yields (x, y), pixels in [0,1] and not augmented
    **kw
        more for `Batches`: batch_size, shuffle, augment, seed

    Returns
    -------
    Batches

    Raises
    ------
    TypeError or ValueError
        where they are no images in [0,1]
    """
    data = Pairs(data)
    parts = [((check_images(x) * 255).round().byte(), y) for x, y in data]
    if not parts:
        raise ValueError("the data holds no images; check how it was split.")
    x, y = (torch.cat(t) for t in zip(*parts))
    return Batches(x, y, data.classes or tuple(map(str, range(int(y.max()) + 1))), **kw)
