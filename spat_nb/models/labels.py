"""Which output of a network stands for which class of the data

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

__all__ = ["read_labels", "imagenet_names", "are_wnids", "outputs_for"]

WNID = re.compile(r"n\d{8}")
MOST = 3  # names that a sentence lists


def are_wnids(
    names,  # of classes
) -> bool:
    "Are these numbers of WordNet, by which ImageNet's folders are called?"
    return len(names) > 0 and all(WNID.fullmatch(str(n)) for n in names)


def imagenet_names() -> tuple:  # of 1000 tuples of names
    "Numbers of WordNet and words for ImageNet's 1000 classes. ImportError where timm is missing"
    from spat_nb.data.vision import torchvision

    try:
        torchvision("models")  # timm imports it
        from timm.data import ImageNetInfo
    except ImportError:
        raise ImportError(
            "labels imagenet needs timm, which lists ImageNet's classes, and which is not "
            'installed; run: pip install "spat_nb[models]".'
        ) from None
    told = ImageNetInfo()
    numbers = told.label_names()
    words = [told.label_name_to_description(n) for n in numbers]
    return tuple((n, w, *w.split(",")) for n, w in zip(numbers, words))


def read_labels(
    path,  # of a text file, a name a line; or JSON: a list, index -> name, or name -> index
) -> tuple:  # of tuples: the names of each output
    "The names of a network's outputs. FileNotFoundError, or ValueError in one sentence"
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"labels: no file {path}; give a text file with a name a line, a JSON file, or the "
            "words imagenet or folder."
        )
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() != ".json":
        return tuple((line.strip(),) for line in text.splitlines() if line.strip())
    try:
        value = json.loads(text)
    except ValueError:
        raise ValueError(f"labels: {path} is no whole JSON file; write it again.") from None
    if isinstance(value, list):
        return tuple(_names(v) for v in value)
    by_index = _by_index(value)
    if by_index is None or sorted(by_index) != list(range(len(by_index))):
        raise ValueError(
            f"labels: {path} does not number its classes from 0 on; write a list of names, or a "
            'dict such as {"0": "cat", "1": "dog"}.'
        )
    return tuple(by_index[i] for i in range(len(by_index)))


def _names(v):
    return tuple(map(str, v)) if isinstance(v, list) else (str(v),)


def _by_index(value):
    "index -> names; None where it is no such dict"
    if not isinstance(value, dict):
        return None
    if all(isinstance(v, int) for v in value.values()):  # class_to_idx of torchvision
        return {v: (k,) for k, v in value.items()}
    if all(k.isdecimal() for k in value):
        return {int(k): _names(v) for k, v in value.items()}
    return None


def _plain(name):
    "A name as it is compared: small letters, blanks"
    return " ".join(re.sub(r"[_\-]+", " ", str(name)).lower().split())


def outputs_for(
    classes,  # names of the data's classes
    names: tuple,  # of each output, a tuple of names
) -> tuple:  # (an output for each class or None; what is wrong, or '')
    "The outputs that stand for the classes, found by name"
    found: dict[str, set] = {}
    for i, those in enumerate(names):
        for name in those:
            found.setdefault(_plain(name), set()).add(i)
    chosen = [found.get(_plain(c), set()) for c in classes]
    lost = [str(c) for c, outputs in zip(classes, chosen) if not outputs]
    if lost:
        more = f" and {len(lost) - MOST} more" if len(lost) > MOST else ""
        return None, f"no output is called {', '.join(lost[:MOST])}{more}"
    twice = [str(c) for c, outputs in zip(classes, chosen) if len(outputs) > 1]
    if twice:
        return None, f"several outputs are called {twice[0]}"
    picked = tuple(min(outputs) for outputs in chosen)
    if len({*picked}) < len(picked):
        return None, "two classes have one output"
    return picked, ""
