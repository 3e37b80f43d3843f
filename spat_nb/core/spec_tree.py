"""From an object to the tree of its spec, and what of it is not spat_nb's own

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import inspect
import sys
import types
import weakref
from dataclasses import fields, is_dataclass
from functools import partial
from numbers import Integral, Real

from .. import public
from . import outside as typed
from .calls import bind, is_made, parameters, required
from .grammar import DEEPEST, Call, Named, is_key, render

_made: dict[int, tuple] = {}  # id -> (weak reference, tree, outsiders) of what cannot tell its spec


def tree(
    obj,  # function, class, partial, dataclass, literal, or what a call of a public name made
    now: bool = True,  # False: a partial that has all its arguments is written as a call
):  # what `grammar.parse` gives for its spec
    "The spec of an object as a tree. ValueError, one sentence with the mend, where it has none"
    return _Writer().tree(obj, now=now)


def outsiders(
    obj,  # what `text` takes
) -> list:  # functions and classes, each once
    "What of a spec is not spat_nb's own: whose source belongs to the identity of a run"
    writer = _Writer()
    writer.tree(obj, now=False)
    return writer.outsiders


def remember(
    made,  # what a call gave
    f,  # what was called
    values: dict,  # argument -> value
):
    "Keep the spec of a made object that could not tell it, as long as the object lives"
    try:
        _Writer().tree(made)
        return
    except ValueError:
        writer, key = _Writer(), id(made)
    try:
        node = writer.finished(f, values, 0)
        gone = weakref.ref(made, lambda _: _made.pop(key, None))
    except (TypeError, ValueError):  # nothing can be kept beside it: it stays without a spec
        return
    _made[key] = gone, node, writer.outsiders


class _Writer:
    "Objects to trees, with a list of all that is not ours"

    def __init__(self):
        self.outsiders = []

    def tree(self, obj, depth=0, now=True):
        if depth > DEEPEST:
            raise ValueError(f"a spec has at most {DEEPEST} things inside each other; use fewer.")
        if obj is None or isinstance(obj, bool) or type(obj) is str:
            return obj
        if isinstance(obj, Real):
            return int(obj) if isinstance(obj, Integral) else float(obj)
        if type(obj) in (tuple, list):
            return type(obj)(self.tree(v, depth + 1) for v in obj)
        if type(obj) is dict:
            return self._dict(obj, depth)
        return self._named_or_made(obj, depth, now)

    def _dict(self, obj, depth):
        odd = next((k for k in obj if not is_key(k)), None)
        if odd is not None:
            raise ValueError(f"the key {odd!r} has no spec; keys are numbers, texts or None.")
        return {k: self.tree(v, depth + 1) for k, v in obj.items()}

    def _named_or_made(self, obj, depth, now):
        if name := _public_name(obj):
            return Named(name)
        if isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)):
            return self._function(obj, depth)
        if isinstance(obj, partial):
            return self._partial(obj, depth, now)
        if is_dataclass(obj):
            return self._instance(obj, depth)
        return self._remembered(obj) or _refuse(obj)

    def _function(self, obj, depth):
        ours = (getattr(obj, "__module__", None) or "").split(".")[0] == "spat_nb"
        if not ours and (name := typed.spelled(obj)):
            self._note(obj)
            return Named(name, outside=True)
        return self._closure(obj, depth) or self._remembered(obj) or _refuse(obj)

    def _note(self, obj):
        if not any(obj is o for o in self.outsiders):
            self.outsiders.append(obj)

    def _remembered(self, obj):
        gone, node, outsiders = _made.get(id(obj), (lambda: None, None, ()))
        if gone() is not obj:
            return None
        for o in outsiders:
            self._note(o)
        return node

    def _head(self, f):
        "The name of what is called"
        node = self.tree(f)
        if isinstance(node, Named):
            return node
        raise ValueError(f"{render(node)} is called, and has no name; write a def around it.")

    def _partial(self, obj, depth, now):
        head = self._head(obj.func)
        if obj.args:
            raise ValueError(f"a partial of {head.name} holds values by position; name them.")
        values = bind(obj.func, head.name, (), obj.keywords)
        if not values:
            return head
        if now and is_made(obj.func, head.name, values):
            raise ValueError(
                f"a partial of {head.name} has all that a call needs, so its spec would be the "
                "call itself; call it, or let it end in '-> nn.Module' if it makes layers."
            )
        return Call(head, (), {k: self.tree(v, depth + 1) for k, v in values.items()})

    def _instance(self, obj, depth):
        if public.KIND.get(_public_name(type(obj)), "made") != "made":
            return self._remembered(obj) or _refuse(obj)
        try:
            values = {v.name: getattr(obj, v.name) for v in fields(obj) if v.init}
            return self.finished(type(obj), values, depth)
        except (AttributeError, ValueError):
            if node := self._remembered(obj):
                return node
            raise

    def _closure(self, f, depth):
        "What a factory returned, by the values that it carries"
        factory, values = _factory(f)
        return None if factory is None else self.finished(factory, values, depth)

    def finished(self, f, values, depth):
        "A call with all its arguments: the required ones by position, others where they differ"
        told, head = parameters(f, _called(f)), self._head(f)
        needed = [k for k in required(told) if told[k].kind is not inspect.Parameter.KEYWORD_ONLY]
        nodes = {k: self.tree(v, depth + 1) for k, v in values.items()}
        args = tuple(nodes.pop(k) for k in needed)
        more = {k: v for k, v in nodes.items() if not _is_default(told, k, values[k])}
        return Call(head, args, more)


def _called(obj):
    return getattr(obj, "__name__", type(obj).__name__)


def _public_name(obj):
    "Its public name; '' where it has none"
    if not callable(obj):
        return ""
    name = getattr(obj, "__name__", None)
    for k in [name] if isinstance(name, str) else public.KIND:
        module = sys.modules.get(public.HOME.get(k, ""))
        if public.KIND.get(k) != "module" and getattr(module, k, None) is obj:
            return k
    return ""


def _is_default(told, k, v):
    default = told[k].default if k in told else inspect.Parameter.empty
    if v is default:
        return True
    return type(v) is type(default) and isinstance(v, (int, float, str, tuple)) and v == default


def _factory(f):
    "The public or importable function that returned the closure `f`, and its arguments"
    code = getattr(f, "__code__", None)
    outer, _, inner = code.co_qualname.partition(".<locals>.") if code else ("", "", "")
    home = sys.modules.get(f.__globals__.get("__name__", "")) if code else None
    factory = getattr(home, outer, None) if outer.isidentifier() and inner else None
    consts = getattr(inspect.unwrap(factory), "__code__", None) if factory else None
    if code is None or consts is None or not any(c is code for c in consts.co_consts):
        return None, {}
    try:
        cells = {
            k: c.cell_contents for k, c in zip(code.co_freevars, f.__closure__ or (), strict=True)
        }
        told = parameters(factory, outer)
    except ValueError:  # a cell is empty, or the factory tells no arguments
        return None, {}
    if any(k not in cells for k in told):
        return None, {}
    return factory, {k: cells[k] for k in told}


def _refuse(obj):
    "One sentence, with the mend, about an object that has no spec"
    kind, home = type(obj).__name__, getattr(obj, "__module__", None) or ""
    if not isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)):
        mend = "the class or function that makes it" if callable(obj) else "numbers, texts or names"
        raise ValueError(f"a {kind} has no spec; give {mend}.")
    if home.split(".")[0] == "spat_nb" and "<locals>" not in obj.__qualname__:
        raise ValueError(f"{home}.{obj.__name__} has no public name; write a def around it.")
    code = getattr(obj, "__code__", None)
    place = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
    what = "a lambda" if obj.__name__ == "<lambda>" else obj.__name__
    raise ValueError(
        f"{what}{place} has no name that a spec could hold; make it a def at the top of a module "
        "or file, which is file.py:name, and give it arguments for what it carries."
    )
