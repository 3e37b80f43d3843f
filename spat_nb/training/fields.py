"""The fields of a recipe: what a data set is usually trained with, and what a field may hold"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from ..attacks.filling import open_names
from ..core import spec
from ..core.grammar import Named
from ..core.slots import normal
from ..data.arrays import image_height

__all__ = [
    "BEST",
    "PRESETS",
    "SLOTS",
    "field_number",
    "field_spec",
    "refuse_attack",
    "typed_value",
    "usual",
]

# what a data set is usually trained with; augmentation is the data's own
PRESETS = {
    "digits": {"model": "SmallCNN", "ball": "Linf(0.15)", "epochs": 15, "lr": 0.1, "batch": 64},
    "mnist": {"model": "SmallCNN", "ball": "Linf(0.3)", "epochs": 3, "lr": 0.05, "batch": 128},
    "imagefolder": {
        "model": "PreActResNet18",
        "ball": "Linf(4/255)",
        "epochs": 8,
        "lr": 0.1,
        "batch": 64,
    },
    "default": {
        "model": "PreActResNet18",
        "ball": "Linf(8/255)",
        "epochs": 8,
        "lr": 0.2,
        "batch": 128,
    },
}
SMALL = 16  # pixels: images up to this height are trained as the digits are
# fields that hold specs, as text; what they name is made when a run begins
SLOTS = ("model", "ball", "objective", "attack", "optimiser", "schedule")
# whose weights are kept: best under PGD-10, best on clean validation images, or the last ones
BEST = ("robust", "clean", "last")


def usual(
    data: str,  # data set, as in `get_data`
) -> dict:  # field -> value
    "What a data set is usually trained with; of an .npz file the size of its images decides"
    known = PRESETS.get(data, PRESETS["default"])
    if isinstance(data, str) and data.lower().endswith(".npz"):
        height = image_height(Path(data).expanduser())
        if height is not None and height <= SMALL:
            return PRESETS["digits"]
    return known


def field_spec(name, value):
    "The text of a slot's spec. TypeError or ValueError in one sentence that names the slot"
    try:
        if name == "ball":  # made already: it waits for nothing
            return spec.text(spec.make(value, outside=True) if isinstance(value, str) else value)
        return normal(value, outside=True)
    except (TypeError, ValueError) as e:
        raise type(e)(f"{name}: {e}") from None


def field_number(name, value, least=-math.inf, whole=False, above=False):
    "Check a number. ValueError or TypeError in one sentence"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}; give a number.")
    if whole and value != int(value):
        raise ValueError(f"{name} is {value!r}; give a whole number.")
    if not math.isfinite(value) or value < least or (above and value == least):
        raise ValueError(
            f"{name} is {value!r}; give a number {'above' if above else 'of at least'} {least:g}."
        )
    return int(value) if whole else float(value)


def refuse_attack(
    written: str,  # spec of an objective
    objective,  # what it names
) -> None:
    "ValueError where an objective is an attack: a function that asks for a ball first"
    maker = objective.func if isinstance(objective, partial) else objective
    if not isinstance(maker, type) and list(open_names(objective))[:1] == ["ball"]:
        raise ValueError(
            f"objective is {written}, an attack; give it as attack={written!r}, and an objective "
            "such as pgd_at, trades or spat."
        )


def typed_value(node):
    "A value of a recipe's text; a quoted 'file.py:name' is a text here"
    if isinstance(node, Named):
        return node.name
    return [typed_value(v) for v in node] if isinstance(node, (list, tuple)) else node
