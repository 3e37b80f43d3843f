"""Opening data sets: the official files, bundled digits, folders of images, arrays"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.paths import shell
from .arrays import read_arrays
from .batches import Batches
from .draws import crop_flip
from .images import read_parts
from .streams import Stream, resized_crop
from .vision import torchvision

__all__ = [
    "SOURCES",
    "Source",
    "array_parts",
    "bundled_digits",
    "file_of",
    "folder_parts",
    "open_part",
    "unknown_set",
    "usual_augment",
]


@dataclass(frozen=True)
class Source:
    "What we must know of a data set: how to open it and what is usual with it"

    valid: int  # images held out of the training images for validation
    augment: Callable | None = None  # usual augmentation of the training images
    kind: str = ""  # its class in torchvision.datasets
    place: str = ""  # what that class looks for in the data folder; {} is the part
    arg: str = "train"  # that class's argument for the part


SOURCES = dict(
    digits=Source(180),
    mnist=Source(1000, None, "MNIST", "MNIST/raw"),
    cifar10=Source(1000, crop_flip(4), "CIFAR10", "cifar-10-batches-py"),
    cifar100=Source(1000, crop_flip(4), "CIFAR100", "cifar-100-python"),
    svhn=Source(1000, crop_flip(4, False), "SVHN", "{}_32x32.mat", "split"),
    stl10=Source(500, crop_flip(12), "STL10", "stl10_binary", "split"),
    imagefolder=Source(10000, resized_crop()),
)


def file_of(name, root):
    """The .npz file that `name` means: a path, or NAME.npz in the folder of the data, unless
    torchvision's files of that name are there. None where it means another set
    """
    if str(name).lower().endswith(".npz"):
        path = Path(name).expanduser()
        return root / path if not path.exists() and (root / path).exists() else path
    s, path = SOURCES.get(str(name)), root / f"{name}.npz"
    if s and not any(
        (root / s.place.format(part)).exists() for part in ("train", "test") if s.place
    ):
        return path if s.place and path.is_file() else None
    return path if not s and path.is_file() else None


def unknown_set(name, root):
    "The sentence for a name that is no data set"
    if Path(str(name)).is_dir():
        return (
            f"{name} is a folder; write get_data('imagefolder', root={str(name)!r}), or on the"
            f" command line {shell('--data', 'imagefolder', '--root', name)}."
        )
    have = [*SOURCES, *sorted(p.stem for p in root.glob("*.npz") if p.stem not in SOURCES)]
    near = difflib.get_close_matches(str(name).lower(), have, 1, 0.5)
    return (
        f"unknown data set {name!r}; {f'did you mean {near[0]!r}? Known' if near else 'known'} are"
        f" {', '.join(have)}, and .npz files."
    )


def usual_augment(shape):
    """Augmentation of images (ch,h,w) that we know nothing of: photographs, in colour, are shifted
    by up to an eighth and mirrored; grey images, which may be digits, are left alone
    """
    return crop_flip(min(shape[1:]) // 8) if shape[0] == 3 else None


def bundled_digits():
    "Scikit-learn's bundled 1797 images of 8x8 pixels with values 0 to 16"
    from sklearn.datasets import load_digits

    d = load_digits()
    return (
        torch.tensor(d.images * 255 / 16).round().byte()[:, None],
        torch.tensor(d.target).long(),
        tuple("0123456789"),
    )


def _make(s, root, part):
    "Bytes (n,ch,h,w), labels and class names of one part, from torchvision's data set"
    d = getattr(torchvision("datasets"), s.kind)(
        str(root), download=False, **{s.arg: part if s.arg == "split" else part == "train"}
    )
    x, y = (
        torch.as_tensor(d.data),
        torch.as_tensor(d.labels if s.arg == "split" else d.targets).long(),
    )
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2) if x.shape[3] == 3 else x
    return (
        x.contiguous(),
        y,
        tuple("0123456789") if s.kind in ("MNIST", "SVHN") else tuple(d.classes),
    )


def open_part(name, root, part, download):
    """The bytes of a part, labels and class names. FileNotFoundError where nothing is there,
    ValueError for damaged files, ConnectionError for a failed download
    """
    s, mend = (
        SOURCES[name],
        f"`spat_nb data {name}` in a shell, or get_data({name!r}, download=True)",
    )
    place = root / s.place.format(part)
    try:
        return _make(s, root, part)
    except Exception as e:
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
    if download:
        # brings much of Python's network code
        from .fetch import fetch

        try:
            fetch(name, root)
        except ConnectionError as e:
            raise ConnectionError(
                f"could not download {name} to {root} ({e}); check the connection and run {mend}"
                " again: what has arrived is kept."
            ) from None
        return _make(s, root, part)
    if place.exists():
        raise ValueError(f"{name} in {place} is incomplete or damaged ({why}); run {mend}.")
    raise FileNotFoundError(
        f"no {name} in {root} ({place.relative_to(root)} is missing); run {mend}, or set"
        " SPAT_NB_DATA to the folder that holds it."
    )


def folder_parts(root, **kw):
    """A stream for each part under `root` that holds folders (see `images.PARTS`), or one for
    `root` itself
    """
    return [
        Stream(files, torch.tensor(labels), tuple(classes), **kw)
        for files, labels, classes in read_parts(root).values()
    ]


def array_parts(path, dev, **kw):
    "`Batches` for each part of an .npz file, in the order train, valid, test"
    a = read_arrays(path)
    more = dict(superclasses=a.superclasses, superclass_of_class=a.superclass_of_class, **kw)
    return [Batches(x.to(dev), y.to(dev), a.classes, **more) for x, y in a.parts.values()]
