"""What a spec leaves open is filled in by the run

The ball of an attack, the classes of a network, the data of an objective
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from functools import partial

from spat_nb.core.protocols import AttackFunction

from .balls import Ball

__all__ = ["open_names", "filled", "attack_in", "objective_in"]


def open_names(
    factory: Callable,  # class, function or partial
) -> dict:  # name -> inspect.Parameter of what is not bound yet
    "The arguments that `factory` can still be given"
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # builtins may have no signature
        return {}
    bound = factory.keywords if isinstance(factory, partial) else {}
    return {k: p for k, p in parameters.items() if k not in bound}


def _required(names):
    "Of the parameters those that a call must give"
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in names.values() if p.default is p.empty and p.kind not in many]


def filled(
    factory: Callable,  # class, function or partial
    **known,  # what the run knows, by the name of the parameter
):  # what `factory` makes
    """Call `factory` with those of the known values that it asks for and that its spec left open

    ValueError where it asks for more
    """
    wanted = open_names(factory)
    missing = [p.name for p in _required(wanted) if p.name not in known]
    if missing:
        name = getattr(getattr(factory, "func", factory), "__name__", repr(factory))
        raise ValueError(
            f"{name} asks for {', '.join(missing)}, which a run does not know: it knows "
            f"{', '.join(known)}. Write {name}({missing[0]}=...)."
        )
    return factory(**{k: v for k, v in known.items() if k in wanted})


def _is_class(thing):
    return isinstance(thing.func if isinstance(thing, partial) else thing, type)


def _is_open(thing):
    "Is `thing` a class, function or partial that still wants to be called to make the real thing?"
    if _is_class(thing):
        return True
    if not (inspect.isfunction(thing) or isinstance(thing, partial)):
        return False
    names = open_names(thing)
    if "ball" in names or "norm" in names:
        return True
    if any(p.kind == p.VAR_POSITIONAL for p in names.values()):
        return False
    return len(_required(names)) <= 1  # an attack takes network, images and labels


def attack_in(
    attack,  # an attack, or what makes one in a ball: `pgd`, partial(pgd, steps=20), ball -> attack
    ball: Ball,  # threat model
    told: str = "",  # what the attack is called in sentences; default: its repr
) -> AttackFunction:  # (model, x, y) -> x_adv
    """The attack in this ball; a smallest-change attack is kept `within` it

    ValueError in one sentence where it does not fit the ball
    """
    told = told or getattr(attack, "__name__", repr(attack))
    try:
        return _inside(_made(attack, ball), ball)
    except (TypeError, ValueError) as e:
        why = " ".join(str(e).split()).rstrip(".")
        raise ValueError(f"{told} cannot be run in {ball}: {why}.") from None


def _made(attack, ball):
    "What `attack` makes in this ball; itself where it is made already"
    if not _is_open(attack):
        return attack
    if isinstance(attack, partial) and _is_open(attack.keywords.get("attack")):
        attack = partial(attack, attack=attack_in(attack.keywords["attack"], ball))
    wanted = open_names(attack)
    if "ball" in wanted or "norm" in wanted or _is_class(attack):
        return filled(attack, ball=ball, norm=type(ball))
    return (
        attack(ball) if wanted else attack()
    )  # a function of a reader's, who calls the ball otherwise


def _inside(attack, ball):
    """`attack` kept in the ball

    ValueError where it was made for another one, TypeError where it is no attack
    """
    if not callable(attack):
        raise TypeError(f"{attack!r} is no attack; give a name such as pgd, or attack(model, x, y)")
    inner = getattr(attack, "attack", None)
    if is_dataclass(attack) and not isinstance(attack, type) and _is_open(inner):
        attack = replace(attack, attack=attack_in(inner, ball))
    own = getattr(attack, "ball", None)
    if own is None and _looks_anywhere(attack):
        from .nearest import within

        return within(attack, ball)
    if own is not None and type(own) is not type(ball):
        raise ValueError(f"it was made for {own}")
    return attack


def _looks_anywhere(attack):
    "Does it look for the smallest change, wherever that lies?"
    if not is_dataclass(attack) or hasattr(attack, "attack"):
        return False
    from .search import Search

    return isinstance(attack, Search)


def objective_in(
    objective,  # (model, x, y, attack) -> loss, or a class of such: `Free`, `T1`
    **known,  # what the run knows: ball, train, valid, c, epochs
) -> Callable:
    "The objective of a run; a class is made anew for each run, since it remembers what it has seen"
    return filled(objective, **known) if _is_class(objective) else objective
