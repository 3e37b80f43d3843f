"""The table of slots: every method as the few fields of a recipe that it changes"""

from __future__ import annotations

from dataclasses import fields, replace

from ..core import spec
from ..core.slots import name_of, with_slots
from .method_rows import METHODS, Method
from .recipe import Recipe

__all__ = ["Method", "METHODS", "SHORT", "changed", "method", "method_table"]

# short words: where in a recipe they stand
SHORT = {
    "eps": ("ball", "eps"),
    "steps": ("attack", "steps"),
    "start": ("attack", "start"),
    "inner": ("attack", "loss"),
    "width": ("model", "width"),
    "act": ("model", "act"),
    "head": ("model", "head"),
    "beta": ("objective", "beta"),
}


def changed(
    recipe: Recipe,  # that stays as it is
    **changes,  # fields of a Recipe, or short words: see `SHORT`
) -> Recipe:  # a new one
    "The recipe with these changes. ValueError or TypeError in one sentence where one does not fit"
    names = [f.name for f in fields(Recipe)]
    if odd := {*changes} - {*names, *SHORT}:
        raise ValueError(
            f"a recipe has no field {min(odd)!r}; it has {', '.join(names)}, "
            f"and the short words {', '.join(SHORT)}."
        )
    plain = {k: v for k, v in changes.items() if k in names}
    new = recipe.but(**plain)
    for word, value in changes.items():
        if word in SHORT and word not in names:
            new = _with_word(new, word, value)
    return new


def _with_word(recipe, word, value):
    "The recipe with one short word set"
    slot, argument = SHORT[word]
    if word == "eps":
        eps = spec.make(value) if isinstance(value, str) else value
        return recipe.but(ball=replace(recipe.made("ball"), eps=eps))
    text = getattr(recipe, slot)
    if word == "width" and name_of(text) == "WideResNet":
        argument = "widen"
    return recipe.but(**{slot: with_slots(text, True, **{argument: value})})


def method(
    name: str,  # a row of `METHODS`
    **changes,  # `data`, and whatever else shall differ, as in `changed`; these win over the row
) -> Recipe:
    """The recipe of a method: method('trades', data='cifar10', eps='8/255', width=16)

    ValueError for an unknown one

    Parameters
    ----------
    name : str
        a row of `METHODS`
    **changes
        `data`, and whatever else shall differ, as in `changed`; these win over the row

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        for an unknown one

    Examples
    --------
    >>> from spat_nb import method
    >>> method("trades", data="cifar10").attack
    'pgd(steps=5, start=gaussian())'
    """
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; there are {', '.join(METHODS)}.")
    row = METHODS[name].fields
    data = changes.pop("data", "digits")
    asked = {k for k in changes if k in SHORT}
    first = {k: v for k, v in changes.items() if k not in SHORT}
    # slots of the reader's come first, so that the row's head goes into the reader's network
    recipe = changed(Recipe(data=data), **first)
    recipe = changed(recipe, **{k: v for k, v in row.items() if k not in changes})
    return changed(recipe, **{k: changes[k] for k in asked})


def method_table():  # pandas.DataFrame, a row per method
    "The slots that each method changes, and the fields of a recipe that set them"
    import pandas as pd

    rows = {}
    for name, m in METHODS.items():
        slots = {k: getattr(m, k) for k in ("target", "inner", "start", "step", "outer", "net")}
        told = ", ".join(f"{k}={v!r}" for k, v in m.fields.items())
        rows[name] = {**slots, "recipe": told, "says": m.says}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
