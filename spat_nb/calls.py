"""The slots of a spec, as text: which function it names, what it is given, and the same with other slots"""

from __future__ import annotations

import inspect
import re
from functools import partial

from . import spec

__all__ = ["split_specs", "call_parts", "call_text", "with_slots", "opened", "normal"]


def split_specs(
    text: str,  # 'fgsm, pgd(steps=20)'
) -> list:  # of texts
    "The specs of a text, which stand between commas outside of all brackets and quotes. ValueError where brackets do not close"
    parts = [""]
    depth = 0
    quote = ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        if char == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += char
        if depth < 0:
            break
    if depth or quote:
        raise ValueError(f"{text[:80]!r} has a bracket or a quote without its partner; close it.")
    return [p.strip() for p in parts if p.strip()]


def call_parts(
    text: str,  # 'pgd(steps=20)'
) -> tuple:  # name, positional specs, {keyword: spec}; None in place of the latter two where nothing is called
    "What a spec names, and what it is given"
    m = re.fullmatch(r"([^()\[\]{}'\"]*[\w])\s*\((.*)\)", text.strip(), re.DOTALL)
    if not m:
        return text.strip(), None, None
    positional = []
    named = {}
    for part in split_specs(m[2]):
        key = re.match(r"([A-Za-z_]\w*)\s*=(?!=)\s*", part)
        if key:
            named[key[1]] = part[key.end() :]
        else:
            positional.append(part)
    return m[1].strip(), positional, named


def call_text(
    name: str,  # of the function
    positional=(),  # specs
    named: dict | None = None,  # keyword -> spec
) -> str:
    "The spec of a call"
    given = [*positional, *(f"{k}={v}" for k, v in (named or {}).items())]
    return f"{name}({', '.join(given)})" if given else name


def with_slots(
    text: str,  # 'SmallCNN(width=16)'
    **slots: str | None,  # keyword -> spec; None takes the keyword away
) -> str:
    "The same call with other keyword arguments"
    name, positional, named = call_parts(text)
    named = {**(named or {}), **slots}
    return call_text(name, positional or (), {k: v for k, v in named.items() if v is not None})


def opened(
    text: str,  # 'SmallCNN(width=16)'
    outside: bool = False,  # may it name what is not ours? Only where a person typed it
):  # the class or function, or a partial of it
    "What a spec names, not called yet even where all its arguments are there: a run makes its own network and its own listeners"
    name, positional, named = call_parts(text)
    f = spec.make(name, outside=outside)
    if not positional and not named:
        return f
    args = [spec.make(v, outside=outside) for v in positional]
    kwargs = {k: spec.make(v, outside=outside) for k, v in named.items()}
    try:
        inspect.signature(f).bind_partial(*args, **kwargs)
    except TypeError as e:
        raise ValueError(
            f"{text}: {e}; the arguments of {name} are {', '.join(inspect.signature(f).parameters)}."
        ) from None
    return partial(f, *args, **kwargs)


def normal(
    text: str,  # "pgd( steps = 5,lr=.1 )"
    outside: bool = False,  # as in `opened`
) -> str:  # 'pgd(steps=5, lr=0.1)'
    "The same spec in the one way in which it is kept: spaces and numbers as Python writes them"
    name, positional, named = call_parts(text)
    if positional is None:
        value = spec.make(name, outside=outside)
        plain = value is None or isinstance(value, (bool, int, float, str, tuple, list, dict))
        return spec.text(value) if plain else name
    args = [normal(v, outside) for v in positional]
    return call_text(name, args, {k: normal(v, outside) for k, v in named.items()})
