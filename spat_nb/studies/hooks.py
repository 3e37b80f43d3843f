"How a result tells of the functions of its row, which no recipe holds"

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import PurePath

from ..core import spec
from ..core.grammar import Call, Named, parse, render

__all__ = ["told", "by_name"]


def told(
    name: str,  # of the field, for a sentence
    value,  # function, class, partial, spec or number
):  # number, or text: 'classwise.py:power', 'target(data=...)'
    """A value of a row, the same on every machine: what lies in a file goes by the file's name.

    ValueError in one sentence for a lambda and whatever else has no name
    """
    if isinstance(value, (int, float)):
        return value
    try:
        if isinstance(value, str):
            value = spec.make(value, True, now=False)
        return render(_near(_tree(value)))
    except (TypeError, ValueError) as e:
        raise type(e)(f"{name}: {e}") from None


def by_name(
    text: str,  # a spec
) -> str:
    "The same with files by their names alone: where they lie is no part of a row"
    return render(_near(parse(text))) if ":" in text else text


def _tree(value):
    "The tree of a spec that may also name our own functions that are not public: those of a study"
    if isinstance(value, partial) and not value.args:
        head = _tree(value.func)
        if isinstance(head, Named) and head.outside:
            return Call(head, (), {k: _tree(v) for k, v in value.keywords.items()})
    if _is_of_a_study(value):
        return Named(f"{value.__module__}:{value.__name__}", outside=True)
    return parse(spec.text(value, now=False))


def _is_of_a_study(value):
    home, name = getattr(value, "__module__", None) or "", getattr(value, "__name__", "")
    return home.startswith("spat_nb.studies.") and getattr(sys.modules[home], name, None) is value


def _near(node):
    "The tree with files by their names alone, and our modules as files"
    if isinstance(node, Named):
        where, colon, name = node.name.rpartition(":")
        where = re.sub(r"^spat_nb\.studies\.(\w+)$", r"\1.py", where)
        return Named(f"{PurePath(where).name}{colon}{name}", node.outside)
    if isinstance(node, Call):
        keywords = {k: _near(v) for k, v in node.keywords.items()}
        return Call(_near(node.what), tuple(map(_near, node.args)), keywords)
    if isinstance(node, (tuple, list)):
        return type(node)(map(_near, node))
    if isinstance(node, dict):
        return {k: _near(v) for k, v in node.items()}
    return node
