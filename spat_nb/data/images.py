"Image files and folders of them, read as they lie. Written by hand: no notebook makes it"

from __future__ import annotations

import os
from pathlib import Path

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


PARTS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}


# what systems leave behind
NO_CLASSES = (
    "__macosx",
    "__pycache__",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)


ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")


# ---- one file


def _deep(img):
    """Grey bytes of an image with more than 8 bits: whole numbers from 0 to 65535, floats in [0,1]
    or to 65535. ValueError for other ranges
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(img).astype(np.float64)
    lo, hi = values.min(), values.max()
    share = img.mode == "F" and 0 <= lo and hi <= 1
    if not share and not (0 <= lo and hi <= 65535 and (img.mode != "F" or hi > 255)):
        raise ValueError(
            f"its pixels range from {lo:g} to {hi:g}, which is neither [0,1] nor 16 bits"
        )
    return Image.fromarray((values * (255 if share else 1 / 257)).round().astype(np.uint8))


def upright(
    img,  # a PIL image
):
    "Turned as its EXIF note says; as it is where the note cannot be read"
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(img)
    except Exception:
        return img


def to_rgb(
    img,  # a PIL image of any mode
):
    """A PIL image in 8-bit colour: 16 bits and floats by their range, transparent parts on white,
    all else as Pillow converts it
    """
    from PIL import Image

    if img.mode[0] == "I" or img.mode == "F":
        return _deep(img).convert("RGB")
    if img.mode not in ALPHA and "transparency" not in img.info:
        return img.convert("RGB")
    img = img.convert("LA").convert("RGBA") if img.mode == "La" else img.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", img.size, "white"), img).convert("RGB")


def read_image(
    path,  # of a file
):
    "The image of a file, upright and in 8-bit colour. OSError in one sentence that names the file"
    from PIL import Image

    try:
        if os.path.getsize(path) == 0:
            raise ValueError("it is empty")
        with Image.open(path) as f:
            return to_rgb(upright(f))
    except Image.DecompressionBombError as e:
        raise OSError(
            f"{path} has too many pixels ({str(e).split(' pixels')[0].split('(')[-1]}); make it"
            " smaller, or take it out of the folder."
        ) from None
    # Pillow raises OSError, SyntaxError, ValueError, EOFError and more
    except Exception as e:
        why = " ".join(str(e).replace(f"{str(path)!r}", "").split()) or type(e).__name__
        raise OSError(
            f"{path} is no readable image ({why}); take it out of the folder, or fetch it again."
        ) from None


# ---- a folder


def _hidden(name):
    return name.startswith(".") or name.lower() in NO_CLASSES


def _folders(root):
    return (
        sorted(p for p in root.iterdir() if p.is_dir() and not _hidden(p.name))
        if root.is_dir()
        else []
    )


def _images(folder):
    "Paths of the images in `folder` and below, in the order of torchvision's ImageFolder"
    found = []
    for here, _folders, names in sorted(os.walk(folder, followlinks=True)):
        if any(_hidden(part) for part in Path(here).relative_to(folder).parts):
            continue
        found += [
            os.path.join(here, name)
            for name in sorted(names)
            if name.lower().endswith(ENDINGS) and not _hidden(name)
        ]
    return found


# 'train', 'valid', 'test' -> folder; {'': root} where the classes stand in `root` itself
def find_parts(
    root,  # a folder that holds train/ and val/ or test/, or a folder per class
) -> dict:  # part -> folder
    """Which folders of `root` hold which part.

    FileNotFoundError where there are no folders, ValueError where it is not clear what they are
    """
    root = Path(root)
    folders = _folders(root)
    if not folders:
        raise FileNotFoundError(
            f"no folders of images in {root}; give root=, where train/ and val/ or test/ hold a"
            " folder per class."
        )
    named = {part: [p for p in folders if p.name.lower() in words] for part, words in PARTS.items()}
    for part, have in named.items():
        if len(have) > 1:
            raise ValueError(
                f"{root} has {' and '.join(p.name + '/' for p in have)}, which could each be the"
                f" {part} part; keep one of them."
            )
    found = {part: have[0] for part, have in named.items() if have and _folders(have[0])}
    flat = [have[0] for have in named.values() if have and not _folders(have[0])]
    if flat and (found or len(flat) == len(folders)) and (full := [p for p in flat if _images(p)]):
        raise ValueError(
            f"{full[0]} holds images but no folder per class; sort them into folders named by"
            " class, or move it away."
        )
    return found or {"": root}


def read_folder(
    folder,  # that holds a folder per class
) -> tuple:  # paths, labels, class names
    """The images of a folder that holds a folder per class.

    FileNotFoundError for a class without images
    """
    classes = [p.name for p in _folders(Path(folder))]
    files, labels = [], []
    for k, name in enumerate(classes):
        have = _images(os.path.join(folder, name))
        if not have:
            raise FileNotFoundError(
                f"a class without images under {folder}: {name!r} holds no file that ends in"
                f" {', '.join(ENDINGS)}; fill or remove its folder."
            )
        files += have
        labels += [k] * len(have)
    return files, labels, classes


def read_parts(
    root,  # as `find_parts` wants it
) -> dict:  # part -> (paths, labels, class names)
    """All parts under `root`; classes are matched by name, letter by letter. ValueError where a
    class is not in every part
    """
    found = find_parts(root)
    parts = {part: read_folder(folder) for part, folder in found.items()}
    first = next(iter(parts))
    for part, (_, _, classes) in parts.items():
        odd = sorted({*classes} ^ {*parts[first][2]})
        if not odd:
            continue
        twin = next((a for a in odd for b in odd if a < b and a.lower() == b.lower()), None)
        mend = (
            f"it is written in two ways ({', '.join(b for b in odd if b.lower() == twin.lower())});"
            " write it in one."
            if twin
            else "each part needs a folder for every class."
        )
        raise ValueError(
            f"the class {twin or odd[0]!r} is in one of {found[first]} and {found[part]} only;"
            f" {mend}"
        )
    return parts
