"Data sets as arrays in one .npz file. Written by hand: no notebook makes it"

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

NEEDED = ("x_train", "y_train", "x_test", "y_test")


NAMES = ("classes", "superclasses")


SAVE = "np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"


class Arrays(NamedTuple):
    "What a file holds"

    # 'train', 'valid' (where it is there), 'test' -> (x (n,ch,h,w) bytes, y (n,) int64)
    parts: dict
    classes: tuple  # c names
    superclasses: tuple  # names, or ()
    superclass_of_class: tuple  # c numbers, or ()


def _open(path):
    "The arrays of a file, read when they are asked for"
    import zipfile

    import numpy as np

    if path.is_dir():
        raise ValueError(
            f"{path} is a folder; give an .npz file, or get_data('imagefolder',"
            f" root={str(path)!r})."
        )
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path.")
    try:
        npz = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        # numpy would advise to unpickle it
        why = "no zip archive of arrays" if "pickle" in str(e) else " ".join(str(e).split())
        raise ValueError(
            f"{path} is no .npz file, or damaged ({why}); write it with {SAVE}."
        ) from None
    if not isinstance(npz, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} holds a single array; write several with {SAVE}.")
    return npz


def image_height(
    path: Path,  # an .npz file
) -> int | None:  # None where it cannot be told
    "The height of a file's images, from the header of `x_train`: no image is read"
    import zipfile

    from numpy.lib import format as npy

    try:
        with zipfile.ZipFile(path) as archive, archive.open("x_train.npy") as member:
            version = npy.read_magic(member)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape = read(member)[0]
    except Exception:  # zipfile, zlib and numpy each have errors of their own
        return None  # whoever reads the file says what is wrong with it
    return shape[1] if len(shape) > 2 else None


def _get(path, npz, key):
    "One array. ValueError where it is of Python objects, or damaged"
    try:
        return npz[key]
    # zlib, zipfile and numpy each have errors of their own
    except Exception as e:
        if "allow_pickle" in str(e):
            raise ValueError(
                f"{path}: {key} is an array of Python objects, which only a pickle could hold; save"
                " numbers, or texts of dtype '<U'."
            ) from None
        raise ValueError(
            f"{path}: {key} is damaged ({' '.join(str(e).split()) or type(e).__name__}); write the"
            " file again."
        ) from None


def _shaped(path, key, x):
    "(n,h,w,ch) of an array of images"
    mend = "give (n,h,w), or (n,h,w,ch) with 1 to 4 channels"
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise ValueError(f"{path}: {key} has shape {x.shape}; {mend}.")
    if x.shape[3] > 4:
        raise ValueError(
            f"{path}: {key} has shape {x.shape};"
            f" {mend}{f', {key}.transpose(0, 2, 3, 1) here' if x.shape[1] <= 4 else ''}."
        )
    if 0 in x.shape:
        raise ValueError(
            f"{path}: {key} has shape {x.shape} and holds no image; {mend} and at least one image."
        )
    return x


def _images(path, key, x):
    "Bytes (n,ch,h,w) of an array of images; floats in [0,1] are rounded to 256 values"
    import numpy as np

    x = _shaped(path, key, x)
    if x.dtype.kind == "f":
        lo, hi = x.min(), x.max()
        if not (0 <= lo and hi <= 1):
            raise ValueError(
                f"{path}: {key} ranges from {lo:g} to {hi:g}; give uint8, or floats in [0,1]"
                " (divide by the largest value that a pixel can have)."
            )
        x = np.concatenate(
            [
                (part.astype(np.float64) * 255).round().astype(np.uint8)
                for part in np.array_split(x, -(-len(x) // 4096))
            ]
        )
    if x.dtype != np.uint8:
        raise ValueError(f"{path}: {key} has dtype {x.dtype}; give uint8, or floats in [0,1].")
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def _labels(path, key, y, n):
    "(n,) int64 labels"
    import numpy as np

    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            f"{path}: {key} has shape {y.shape}; give one label per image,"
            f" (n,){f', {key}.argmax(1) of one-hot rows' if y.ndim == 2 else ''}."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: {key} has dtype {y.dtype}; labels are whole numbers that count from 0, their"
            " names go to classes."
        )
    if len(y) != n:
        raise ValueError(f"{path}: {key} has {len(y)} labels for {n} images; give one for each.")
    if y.min() < 0:
        raise ValueError(f"{path}: {key} holds label {y.min()}; labels count from 0.")
    if y.max() > 2**31:
        raise ValueError(f"{path}: {key} holds label {y.max()}, which numbers no class.")
    return torch.from_numpy(y.astype(np.int64))


def _names(path, key, v):
    "A tuple of different texts"
    if v.ndim != 1 or v.dtype.kind not in "US":
        raise ValueError(
            f"{path}: {key} has shape {v.shape} and dtype {v.dtype}; give one text per class,"
            " np.array(['cat', 'dog'])."
        )
    names = tuple(
        t.decode("utf-8", "replace") if isinstance(t, bytes) else str(t) for t in v.tolist()
    )
    twice = next((t for i, t in enumerate(names) if t in names[:i]), None)
    if twice is not None:
        raise ValueError(f"{path}: {key} holds {twice!r} twice; give each class a name of its own.")
    return names


def _classes(path, given, parts):
    "The names of the classes, and a look whether all labels are among them"
    largest, smallest = (f(int(f(y)) for _, y in parts.values()) for f in (max, min))
    if given is None and smallest > 0:
        raise ValueError(
            f"{path}: the labels run from {smallest} to {largest}; count from 0, or name all"
            " classes in classes."
        )
    images = sum(len(y) for _, y in parts.values())
    if given is None and largest >= images:
        raise ValueError(
            f"{path}: a label is {largest}, but there are only {images} images; number the classes"
            " 0, 1, 2, ..., or name all of them in classes."
        )
    names = tuple(map(str, range(largest + 1))) if given is None else given
    for part, (_, y) in parts.items():
        if int(y.max()) >= len(names):
            raise ValueError(
                f"{path}: y_{part} holds label {int(y.max())} but classes has {len(names)} names;"
                " give a name for every label."
            )
    return names


def _superclasses(path, found, c):
    "(names, number of each class), or two times ()"
    have = [k for k in ("superclasses", "superclass_of_class") if k in found]
    if not have:
        return (), ()
    if len(have) == 1:
        raise ValueError(
            f"{path} has {have[0]} without"
            f" {({'superclasses', 'superclass_of_class'} - {*have}).pop()}; give both or none."
        )
    names, of = found["superclasses"], found["superclass_of_class"]
    if of.shape != (c,) or of.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: superclass_of_class has shape {of.shape} and dtype {of.dtype}; give a whole"
            f" number for each of the {c} classes."
        )
    if not (of.min() >= 0 and of.max() < len(names)):
        raise ValueError(
            f"{path}: superclass_of_class runs from {of.min()} to {of.max()}; numbers of the"
            f" {len(names)} superclasses run from 0 to {len(names) - 1}."
        )
    return names, tuple(of.tolist())


def read_arrays(
    path,  # of an .npz file
) -> Arrays:
    """Read a data set from an .npz file.

    FileNotFoundError, or ValueError in one sentence that names file and key
    """
    path = Path(path).expanduser()
    with _open(path) as npz:
        keys = [*npz.files]
        missing = [k for k in NEEDED if k not in keys] + [
            k
            for k, twin in (("x_valid", "y_valid"), ("y_valid", "x_valid"))
            if twin in keys and k not in keys
        ]
        if missing:
            raise ValueError(
                f"{path} has no {', '.join(missing)} (it holds {', '.join(keys[:8]) or 'nothing'});"
                f" write it with {SAVE}."
            )
        parts = {}
        for part in ("train", "valid", "test"):
            if f"x_{part}" not in keys:
                continue
            x = _images(path, f"x_{part}", _get(path, npz, f"x_{part}"))
            parts[part] = x, _labels(path, f"y_{part}", _get(path, npz, f"y_{part}"), len(x))
        found = {k: _names(path, k, _get(path, npz, k)) for k in NAMES if k in keys}
        if "superclass_of_class" in keys:
            found["superclass_of_class"] = _get(path, npz, "superclass_of_class")
    shapes = {part: tuple(x.shape[1:]) for part, (x, _) in parts.items()}
    for part, shape in shapes.items():
        if shape != shapes["train"]:
            raise ValueError(
                f"{path}: x_{part} holds images (ch,h,w) = {shape} but x_train {shapes['train']};"
                " give one size and number of channels."
            )
    classes = _classes(path, found.get("classes"), parts)
    return Arrays(parts, classes, *_superclasses(path, found, len(classes)))
