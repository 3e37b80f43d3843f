"""Do the arguments of a call in a spec fit, and is the call made at once or kept for later?

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from dataclasses import fields, is_dataclass

from .. import public

MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
TRIALS = {"Linf": 8 / 255, "L0": 1}  # ball -> radius, in which an open attack is tried


def parameters(
    f,  # function, class or partial
    name: str,  # what it is called in a sentence
) -> dict:  # name -> inspect.Parameter
    "The arguments that `f` takes. ValueError where it tells none"
    try:
        return dict(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        raise ValueError(f"{name} takes no arguments in a spec; write its name alone.") from None


def required(
    told: dict,  # of `parameters`
) -> list:  # of names
    "The arguments without which a call fails"
    return [k for k, p in told.items() if p.default is p.empty and p.kind not in MANY]


def _own(name):
    "The kind of a public name; None for one from outside the package"
    return None if ":" in name else public.KIND[name]


def _slots(f, told):
    "Names that `f` knows: its own, and the fields of what it returns, to which **kw goes"
    names = [k for k, p in told.items() if p.kind not in MANY]
    if not any(p.kind == p.VAR_KEYWORD for p in told.values()):
        return names
    given = _returned(f)
    more = [v.name for v in fields(given) if v.init] if is_dataclass(given) else []
    return list(dict.fromkeys([*names, *more]))


@functools.lru_cache(maxsize=512)
def _returned(f):
    "The class of what `f` returns, by its annotation; None where it has none that can be read"
    try:
        return typing.get_type_hints(f).get("return")
    except Exception:
        return None


def _unknown(name, k, known):
    end = public.nearest(k, known) or "."
    listed = f" It knows {', '.join(known)}." if known else " It takes none."
    return f"{name} has no argument {k!r}{end}{listed}"


def bind(
    f,  # function, class or partial
    name: str,  # its name in the spec
    args,  # by position
    keywords: dict,  # by name
) -> dict:  # argument -> value, in the order of the signature
    "Which argument gets which value? ValueError, one sentence with the mend, where they do not fit"
    kind, told = _own(name), parameters(f, name)
    if kind == "works" and (args or keywords):
        raise ValueError(f"{name} works or measures; a spec may name it, but only Python calls it.")
    needed, known = required(told), _slots(f, told)
    later = needed if kind == "" else []
    passed_on = any(p.kind == p.VAR_KEYWORD for p in told.values())
    if passed_on and kind is not None and not is_dataclass(_returned(f)):
        passed_on = False  # PyTorch's layers without arguments say that they take any
    _check_names(name, keywords, known, later, passed_on)
    try:
        bound = inspect.signature(f).bind_partial(*args, **keywords).arguments
    except TypeError as e:
        takes = f"It knows {', '.join(known)}." if known else "It takes none."
        raise ValueError(f"{name} cannot take this: {e}. {takes}") from None
    missing = [k for k in needed if k not in bound]
    starred = any(told[k].kind == inspect.Parameter.VAR_POSITIONAL for k in bound)
    if args and (kind == "" or missing or starred):
        raise ValueError(_by_name(name, later or missing, [k for k in known if k not in later]))
    more = next((k for k, p in told.items() if p.kind == p.VAR_KEYWORD), "")
    values = {**bound, **dict(sorted(bound.get(more, {}).items()))}
    values.pop(more, None)
    if kind == "made" and values and missing == ["ball"]:
        _trial(f, name, values)
    return values


def _trial(f, name, values):
    "ValueError where the call works in no ball: what one refuses, another may take"
    refused = []
    for ball, eps in TRIALS.items():
        try:
            call(f, name, [], {**values, "ball": public.resolve(ball)(eps)})
            return
        except ValueError as e:
            if not isinstance(e.__cause__, TypeError):
                raise  # a number that fits nowhere; a ball of the wrong kind is a TypeError
            refused.append(e)
    raise refused[0]


def _check_names(name, keywords, known, later, passed_on):
    for k in keywords:
        if k in later:
            raise ValueError(f"{name} gets {k} from whoever calls it; leave it out.")
        if k not in known and not passed_on:
            raise ValueError(_unknown(name, k, [k for k in known if k not in later]))


def _by_name(name, later, free):
    why = f"gets {', '.join(later)} later, so" if later else "is called later, so"
    mend = f"write {free[0]}=..., say" if free else "write its name alone"
    return f"{name} {why} nothing can be given to it by position; {mend}."


def is_made(
    f,  # function, class or partial
    name: str,  # its name in the spec
    values: dict,  # of `bind`
) -> bool:
    "Is a call of `f` made at once? Where nothing is missing, and the result is no layer or network"
    if any(k not in values for k in required(parameters(f, name))):
        return False
    return _own(name) == "made" or _own(name) is None and not _makes_layers(f)


def _makes_layers(f):
    "Is it a factory of layers or networks? These are made later, anew for each network"
    from torch import nn

    made = f if isinstance(f, type) else _returned(f)
    return isinstance(made, type) and issubclass(made, nn.Module)


def call(
    f,  # function, class or partial
    name: str,  # its name in the spec
    args,  # by position
    keywords: dict,  # by name
):
    "The call itself. ValueError, in one sentence, whatever goes wrong in it"
    try:
        return f(*args, **keywords)
    except Exception as e:
        odd = re.search(r"unexpected keyword argument '(\w+)'", str(e))
        if odd and odd[1] in keywords:
            raise ValueError(_unknown(name, odd[1], _slots(f, parameters(f, name)))) from None
        why = " ".join(str(e).split()) or type(e).__name__
        raise ValueError(f"{name}(...) cannot be made: {why}") from e
