"""A spec is a call written down: `make` reads, `text` writes, `difference` compares

Written by hand: no notebook makes it.
"""

# `spat(a=0.1, objective=trades(beta=6))` is such a text: Python's own syntax, literal arguments,
# names of spat_nb's public namespace. A name gives the function or class. A call that has all its
# arguments is made where the table of public names says so (`L2(0.5)`); any other gives a
# `functools.partial`, for whoever uses it to call: `pgd(steps=20)` waits for its ball, a network
# for the classes of the data, an objective for model, x, y and attack. A function of one's own
# stands as `package.module:name` or `file.py:name`, only where a person typed it.

from __future__ import annotations

from functools import partial

from .. import public
from . import outside as typed
from .calls import bind, call, is_made, parameters, required
from .grammar import LONGEST, Call, Named, parse, render, short
from .spec_tree import outsiders, remember, tree

__all__ = ["make", "text", "outsiders", "differences", "difference", "same"]
MISSING = Named("not given")  # an argument of one spec that the other has not


def make(
    text: str,  # a spec
    outside: bool = False,  # may it name what is not spat_nb's? Only where a person typed it
    now: bool = True,  # False: the outermost call is kept as a partial, for a slot that calls it
):  # function, class, partial, or what the call made
    """What a spec stands for

    TypeError where `text` is no text; ValueError, in one sentence, for whatever is wrong with it.
    """
    return _build(parse(text), outside, now)


def _build(node, outside, now=True):
    if isinstance(node, Named):
        return _named(node, outside)
    if isinstance(node, (tuple, list)):
        return type(node)(_build(v, outside) for v in node)
    if isinstance(node, dict):
        return {k: _build(v, outside) for k, v in node.items()}
    if not isinstance(node, Call):
        return node
    f, name = _named(node.what, outside), node.what.name
    args = [_build(v, outside) for v in node.args]
    keywords = {k: _build(v, outside) for k, v in node.keywords.items()}
    values = bind(f, name, args, keywords)
    if not now or not is_made(f, name, values):
        return partial(f, **values) if values else f
    made = call(f, name, args, keywords)
    remember(made, f, values)
    return made


def _named(node, outside):
    "The function or class of a name"
    name = node.name
    if node.outside and not outside:
        raise ValueError(
            f"{short(name)!r} is not spat_nb's: what is read from a file names only spat_nb's own, "
            "so type it on the command line, or in Python with outside=True."
        )
    if node.outside:
        return typed.find(name)
    if name not in public.KIND:
        end = public.nearest(name, public.KIND) or "; one of your own is typed as file.py:name."
        raise ValueError(f"{short(name)!r} is no public name of spat_nb{end}")
    if public.KIND[name] == "module":
        raise ValueError(f"{name!r} is a module of spat_nb; name a function or a class.")
    return public.resolve(name)


# ---- from an object to its spec


def text(
    obj,  # function, class, partial, dataclass, literal, or what a call of a public name made
    now: bool = True,  # False: for `make(text, now=False)`, where the outermost call is a partial
) -> str:  # one text only for equal specs
    "The spec of an object. ValueError, one sentence with the mend, where it has none"
    said = render(tree(obj, now))
    if len(said) <= LONGEST:
        return said
    raise ValueError(f"its spec has {len(said)} characters, and {LONGEST} is the limit; say less.")


# ---- two specs


def differences(
    a,  # a spec, as a text or an object
    b,  # another
) -> dict:  # slot, 'objective.beta' -> (its text in `a`, its text in `b`); '' is the whole
    """Where two specs differ, defaults filled in; nothing from outside is imported

    ValueError where one of the two is no spec, or has none.
    """
    found: dict[str, tuple] = {}
    _compare("", _tree(a), _tree(b), found)
    return found


def difference(
    a,  # a spec, as a text or an object
    b,  # another
) -> str:  # 'a is 0.1 in one, 0.2 in the other'; '' where there is none
    "What differs, in words. ValueError where one of the two is no spec, or has none"
    found = differences(a, b).items()
    return ", ".join(f"{k or 'it'} is {v} in one, {w} in the other" for k, (v, w) in found)


def same(
    a,  # a spec, as a text or an object
    b,  # another
) -> bool:
    "Do two specs say the same? ValueError where one of the two is no spec, or has none"
    return not differences(a, b)


def _tree(v):
    return parse(v) if isinstance(v, str) else tree(v, now=False)


def _is_number(v):
    return isinstance(v, (int, float)) and not isinstance(v, bool)


def _equal(a, b):
    return a == b and (type(a) is type(b) or _is_number(a) and _is_number(b))


def _compare(at, a, b, found):
    if isinstance(a, Named) and a == b:
        return
    (kind, one), (other_kind, other) = _inside(a), _inside(b)
    if kind is None or kind != other_kind:
        if kind != other_kind or not _equal(a, b):
            found[at] = render(a), render(b)
        return
    for k in dict.fromkeys([*one, *other]):
        slot = f"{at}.{k}" if at else str(k)
        _compare(slot, one.get(k, MISSING), other.get(k, MISSING), found)


def _inside(node):
    "(what must agree, slot -> value) of a call, a name, a row or a dict; None for a literal"
    if isinstance(node, (tuple, list)):
        return (type(node), len(node)), dict(enumerate(node))
    if isinstance(node, dict):
        return dict, node
    if node is MISSING or not isinstance(node, (Named, Call)):
        return None, {}
    return _call_inside(node if isinstance(node, Call) else Call(node, (), {}), node)


def _call_inside(call, node):
    "The arguments of a call by name, with the defaults of those that are not given"
    name = call.what.name
    positions = [str(i + 1) for i in range(len(call.args))]
    made, defaults = False, {}
    if not call.what.outside:
        told = parameters(_named(call.what, False), name)
        positions = list(told)
        given = {*call.keywords, *positions[: len(call.args)]}
        complete = all(k in given for k in required(told))
        made = isinstance(node, Call) and public.KIND[name] == "made" and complete
        defaults = _defaults(told)
    return (call.what, made), {
        **defaults,
        **dict(zip(positions, call.args, strict=False)),
        **call.keywords,
    }


def _defaults(told):
    found = {}
    for k, p in told.items():
        if p.default is not p.empty:
            try:
                found[k] = tree(p.default, now=False)
            except ValueError:
                pass  # what cannot be written cannot be given either
    return found
