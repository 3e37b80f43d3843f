"""Which run is it? In what two recipes differ, and what names a run together with its code"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ..core import spec
from ..core.identity import fingerprint, made_of
from ..core.slots import name_of
from .fields import SLOTS
from .recipe import Recipe

__all__ = ["Difference", "difference", "identity", "run_name"]


class Difference(dict):
    "slot -> (value in the one, value in the other); prints a line for each"

    def __str__(self):
        return "\n".join(f"{k}: {a} -> {b}" for k, (a, b) in self.items()) or "no difference"

    def said(self) -> str:
        "In one line"
        return " and ".join(f"{k} {a}, not {b}" for k, (a, b) in self.items())


def difference(
    a: Recipe | dict,  # the one, or its dict
    b: Recipe | dict,  # the other
) -> Difference:
    "In which slots two recipes differ: what is written in another way but says the same does not"
    one, other = (r.as_dict() if isinstance(r, Recipe) else r for r in (a, b))
    keys = [*one, *(k for k in other if k not in one)]
    pairs = {k: (one.get(k), other.get(k)) for k in keys}
    return Difference({k: v for k, v in pairs.items() if not _says_the_same(k, *v)})


def _says_the_same(name, a, b):
    "Are two values of a field equal? Of specs it counts what they say"
    if a == b or name not in (*SLOTS, "callbacks", "augment"):
        return a == b
    if name == "callbacks":
        a, b = (f"[{', '.join(map(str, v))}]" if isinstance(v, list) else v for v in (a, b))
    if not isinstance(a, str) or not isinstance(b, str) or "usual" in (a, b):
        return False
    try:
        return spec.same(a, b)
    except ValueError:  # a spec of another version
        return False


def _is_own(key):
    "Does this part of an identity hold the source of a function or class?"
    return re.match(r"(function|class) ", key) is not None


def identity(
    recipe: Recipe,  # of the run
) -> dict:  # recipe: specs; code: slot -> hash of source that is not ours
    """What names a run: two runs are the same where this is equal

    ValueError where a slot holds a lambda
    """
    code = {}
    for name in (*SLOTS, "callbacks", "augment"):
        parts = made_of(recipe.made(name), ours=False)
        if any(_is_own(k) for k in parts):
            code[name] = fingerprint(parts)
    return {"recipe": recipe.as_dict(), "code": code}


def run_name(
    recipe: Recipe,  # of the run
) -> str:  # 'digits-pgd_at-SmallCNN-s0-1a2b3c'
    "A name for the folder of a run: what a person looks for, and a few letters of its identity"
    data = Path(recipe.data).stem if recipe.data.lower().endswith(".npz") else recipe.data
    told = [data, name_of(recipe.objective), name_of(str(recipe.model)), f"s{recipe.seed}"]
    mark = hashlib.sha1(json.dumps(identity(recipe), sort_keys=True).encode()).hexdigest()[:6]
    return re.sub("[^A-Za-z0-9_.+=-]+", "_", "-".join([*told, mark]))
