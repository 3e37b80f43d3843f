"""Networks within whatever is called a model, and their modes"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from weakref import ReferenceType

import torch
from torch import Tensor, nn

from .protocols import ModelFunction

__all__ = ["as_it_is", "networks", "settled"]

_PLAIN = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    type,
    Tensor,
    torch.dtype,
    torch.device,
    torch.Generator,
    ModuleType,
)


# what torch keeps in every layer: its weights, its layers, its mode
_OF_A_LAYER = frozenset(vars(nn.Module()))


_SHORT = 256  # longer lists hold data, not networks


_FAR = 6  # steps from the model at which the search ends


@cache
def _library(name):
    """Does the module called `name` belong to Python, to an installed package or to spat_nb? Their
    globals hold no network of the reader's
    """
    top = (name or "builtins").split(".")[0]
    if top == "builtins":
        return False  # what was made by exec says so too
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return (
        top in sys.stdlib_module_names
        or top == "spat_nb"
        or "site-packages" in file
        or "dist-packages" in file
    )


@cache
def _names(code: CodeType):
    "The names that a function looks up, with those of the functions inside of it"
    inner = [n for c in code.co_consts if isinstance(c, CodeType) for n in _names(c)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


@cache
def _methods(cls):
    "The functions that the reader wrote into a class, or into one that it inherits from"
    written = [v for c in cls.__mro__ if not _library(c.__module__) for v in vars(c).values()]
    return tuple(
        getattr(v, "__func__", getattr(v, "fget", v))
        for v in written
        if isinstance(v, (FunctionType, classmethod, staticmethod, property))
    )


def _contents(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return None  # not filled yet


def _of_function(f):
    "What a function carries with it, and the globals that it reads"
    yield from map(_contents, f.__closure__ or ())
    yield from f.__defaults__ or ()
    yield from (f.__kwdefaults__ or {}).values()
    yield from vars(f).values()
    if _library(f.__module__):
        return
    names = _names(f.__code__)
    for name in names:
        v = f.__globals__.get(name)
        if not isinstance(v, ModuleType):
            yield v
        elif not _library(v.__name__):
            yield from (vars(v)[n] for n in names if n in vars(v))


def _of_network(m):
    """What its layers hold beside weights and layers: a list of networks, say, or a hook; and their
    methods
    """
    for layer in m.modules():
        yield from map(vars(layer).get, vars(layer).keys() - _OF_A_LAYER)
        yield from (
            h for hooks in (layer._forward_pre_hooks, layer._forward_hooks) for h in hooks.values()
        )
        yield from _methods(type(layer))  # type: ignore[arg-type]  # a class has a hash


def _of_object(obj):
    "The attributes and methods of any other object"
    yield from getattr(obj, "__dict__", {}).values()
    for c in type(obj).__mro__:
        slots = vars(c).get("__slots__", ())
        yield from (getattr(obj, s, None) for s in ([slots] if isinstance(slots, str) else slots))
    yield from _methods(type(obj))  # type: ignore[arg-type]  # a class has a hash


def _step(obj) -> Iterator:
    "What lies one step away from `obj`"
    if isinstance(obj, nn.Module):
        yield from _of_network(obj)
    elif isinstance(obj, FunctionType):
        yield from _of_function(obj)
    elif isinstance(obj, MethodType):
        yield from (obj.__self__, obj.__func__)
    elif isinstance(obj, partial):
        yield from (obj.func, *obj.args, *obj.keywords.values())
    elif isinstance(obj, ReferenceType):
        yield obj()
    elif isinstance(obj, dict):
        yield from obj.values() if len(obj) <= _SHORT else ()
    elif isinstance(obj, (list, tuple, set, frozenset)):
        yield from obj if len(obj) <= _SHORT else ()
    else:
        yield from _of_object(obj)


class as_it_is:
    """A model that is run in the mode that it is in: `networks` finds nothing in it. For those who
    want to see what train mode does to an attack

    Parameters
    ----------
    model : ModelFunction
        pixels to logits
    """

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits
    ):
        self.model = model

    def __call__(self, x):
        return self.model(x)


def networks(
    model: ModelFunction,  # a network, or any callable around networks
    # of nn.Module, each once: `model` itself, and what lies in closures, attributes, lists,
    # partials, and in globals that its functions read
) -> list:
    """The networks that a call of `model` may run

    Parameters
    ----------
    model : ModelFunction
        a network, or any callable around networks

    Returns
    -------
    list
        of nn.Module, each once: `model` itself, and what lies in closures, attributes, lists,
        partials, and in globals that its functions read
    """
    found, seen, near = {}, set(), [model]
    for _ in range(_FAR):
        far: list = []
        for obj in near:
            if isinstance(obj, (*_PLAIN, as_it_is)) or id(obj) in seen:
                continue
            seen.add(id(obj))
            if isinstance(obj, nn.Module):
                found[id(obj)] = obj
                seen.update(id(m) for m in obj.modules())
            far += _step(obj)
        near = far
    return list(found.values())


def _lazy(layer):
    # torch types it as a method of a protocol of its own
    return (
        isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params()  # type: ignore[misc]
    )


@contextmanager
def settled(
    nets: list,  # of nn.Module, from `networks`
):
    """Put `nets` in eval mode for a while, outside of `torch.inference_mode`; then every layer gets
    its own mode back.

    Parameters
    ----------
    nets : list
        of nn.Module, from `networks`

    Raises
    ------
    ValueError
        where lazy layers have no weights yet
    """
    layers = list(dict.fromkeys(m for net in nets for m in net.modules()))
    if lazy := [m for m in layers if _lazy(m)]:
        raise ValueError(
            f"the model has a {type(lazy[0]).__name__} that has no weights yet; show it a batch"
            " once, model(x), and train it before it is attacked."
        )
    # a frozen TorchScript module has none
    was = {m: m.training for m in layers if hasattr(m, "training")}
    inside = torch.is_inference_mode_enabled()
    for net in nets if was else ():
        # an exported one was given its mode when it was exported
        with suppress(NotImplementedError):
            net.eval()
    try:
        with (
            torch.inference_mode(False) if inside else nullcontext(),
            torch.no_grad() if inside else nullcontext(),
        ):
            yield
    finally:
        for m, flag in was.items():
            m.training = flag
