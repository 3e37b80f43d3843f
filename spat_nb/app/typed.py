"A recipe from what was typed after `spat_nb train`"

from __future__ import annotations

from dataclasses import fields

from ..core.settings import settings
from ..training.methods import METHODS, SHORT, changed, method
from ..training.recipe import Recipe

__all__ = ["OLD_MODELS", "recipe_of", "row_told"]

# how networks were called before they were specs
OLD_MODELS = {
    "small": "SmallCNN",
    "preact10": "PreActResNet10",
    "preact18": "PreActResNet18",
    "preact34": "PreActResNet34",
    "wrn28": "WideResNet(depth=28)",
    "wrn34": "WideResNet(depth=34)",
}
# objectives whose names alone have always meant their whole row: TRADES starts near the image
OLD_OBJECTIVES = ("standard", "pgd_at", "trades")


def row_told(
    name: str,  # key of `METHODS`
) -> str:  # "objective='trades(beta=6)', start='gaussian(sigma=0.001)'"
    "The slots that a method sets"
    return ", ".join(f"{k}={v!r}" for k, v in METHODS[name].fields.items())


def _method_of(a):
    "The row that is meant, by --method or by the old way of writing it; None: none"
    if a.method is None and a.objective in OLD_OBJECTIVES:
        return a.objective
    return a.method


def recipe_of(
    a,  # what was typed: a value for each flag, None where it was not given
) -> tuple:  # Recipe, name of the row of METHODS that it follows or None
    "ValueError or TypeError in one sentence that begins with the name of the flag"
    name = _method_of(a)
    if name is not None and name not in METHODS:
        raise ValueError(f"method: there is no {name!r}; there are {', '.join(METHODS)}.")
    known = [f.name for f in fields(Recipe)]
    given = {k: v for k, v in vars(a).items() if k in known and v is not None}
    if a.method is None and name is not None:
        given.pop("objective")
    given["model"] = OLD_MODELS.get(a.model, a.model)
    given.setdefault("precision", settings().precision)
    given = {k: v for k, v in given.items() if v is not None}
    recipe = (
        changed(Recipe(data=given.pop("data")), **given) if name is None else method(name, **given)
    )
    return _with_short_words(recipe, a), name


def _with_short_words(recipe, a):
    "The recipe with single arguments changed, each under the name of its flag"
    for word in SHORT:
        value = getattr(a, word, None)
        if value is None:
            continue
        try:
            recipe = changed(recipe, **{word: value})
        except (TypeError, ValueError) as e:
            raise type(e)(f"{word}: {e}") from None
    return recipe
