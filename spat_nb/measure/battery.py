"""The attacks that networks are judged by: one standard battery, and any that is named"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from ..attacks.attack import pgd
from ..attacks.filling import attack_in
from ..attacks.threat import Ball, a_ball
from ..core import spec
from ..core.digest import describe
from ..core.slots import argument, name_of, normal, split_specs

__all__ = [
    "NAMES",
    "STANDARD",
    "attack_told",
    "chosen_attacks",
    "named_attacks",
    "standard_battery",
]

# what every network is judged by, unless somebody asks for something else
STANDARD = "fgsm, pgd(steps=20)"
# names under which results are recorded
NAMES = {"autoattack": "aa", "pgd(steps=20, loss=margin)": "cw20"}


def quarter_steps(
    ball: Ball,  # threat model
    **slots,  # of `pgd`
) -> Callable:  # the attack
    "PGD as it is judged by: where nobody says `lr`, a step is a quarter of the radius"
    return pgd(ball, **{"lr": ball.eps / 4, **slots})


def standard_battery(
    ball: Ball,  # threat model
) -> dict:  # name -> attack
    "The attacks of `STANDARD`"
    return named_attacks(STANDARD, ball)


def _name(text):
    "The row of the table: 'pgd20' for pgd(steps=20), 'aa' for autoattack"
    return NAMES.get(text) or f"{name_of(text)}{argument(text, 'steps') or ''}"


def _free(name, taken):
    "`name`, with a number where it would come twice"
    same = [k for k in taken if k == name or k.startswith(f"{name} ")]
    return f"{name} {len(same) + 1}" if same else name


def _told_its_ball(attack, ball):
    "A plain function does not say where it must stay; so told, an image outside of it is noticed"
    if not inspect.isfunction(attack) or hasattr(attack, "ball"):
        return attack
    told = partial(attack)
    told.ball = ball  # type: ignore[attr-defined]  # a partial takes attributes
    return told


def _of_spec(text, ball, outside):
    "(attack, its spec) of one spec. ValueError where it names nothing"
    name_of(text)
    maker = spec.make(text, outside, now=False)
    if maker is pgd or (isinstance(maker, partial) and maker.func is pgd):
        maker = partial(quarter_steps, **getattr(maker, "keywords", {}))
    return _told_its_ball(attack_in(maker, ball, text), ball), text


def named_attacks(
    attacks,  # 'fgsm, pgd(steps=20)', a list of specs or attacks, or a dict name -> one of these
    ball: Ball,  # threat model
    outside: bool = False,  # may a text name what is not ours? Only where a person typed it
) -> dict:  # name -> attack(model, x, y)
    """The attacks, each in the ball

    ValueError in one sentence for one that does not fit it, or that nobody knows
    """
    return {k: attack for k, (attack, _) in chosen_attacks(attacks, a_ball(ball), outside).items()}


def chosen_attacks(
    attacks,  # as in `named_attacks`
    ball: Ball,  # threat model
    outside: bool = False,  # may a text name what is not ours?
) -> dict:  # name -> (attack, its spec or what else tells it)
    "The attacks, each in the ball, and how each is written"
    if isinstance(attacks, dict):
        return {k: _one(k, v, ball, outside) for k, v in attacks.items()}
    out: dict[str, tuple] = {}
    for attack in attacks if isinstance(attacks, (list, tuple)) else [attacks]:
        if not isinstance(attack, str):
            name = getattr(attack, "__name__", type(attack).__name__.lower())
            out[_free(name, out)] = _one(name, attack, ball, outside)
            continue
        for text in split_specs(attack):
            written = normal(text, outside)
            out[_free(_name(written), out)] = _of_spec(written, ball, outside)
    return out


def _one(name, attack, ball, outside):
    "(attack, what tells it) of one that has a name already"
    if isinstance(attack, str):
        return _of_spec(normal(attack, outside), ball, outside)
    made = _told_its_ball(attack_in(attack, ball, name), ball)
    try:
        return made, spec.text(attack)
    except (TypeError, ValueError):
        return made, describe(made)


def attack_told(
    attack,  # (model, x, y) -> x_adv
) -> str:
    "Its spec where it has one, else what describes it"
    try:
        return spec.text(attack)
    except (TypeError, ValueError):
        return describe(attack)
