"""Attacks made for what a flag says; each fits into a cell, which `as_cell` prints

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import inspect
import re
import textwrap

from ..attacks.attack import pgd
from ..attacks.balls import L1, L2, Linf
from ..attacks.cascade import Cascade
from ..attacks.losses import margin
from ..attacks.pixels import pixel_search
from ..attacks.rays import rays
from ..attacks.sparse import L0, Patch
from ..attacks.spsa import spsa
from ..attacks.square import square
from ..attacks.steps import apgd
from ..attacks.targets import apgd_t
from ..core import spec
from ..models.inputs import StraightThrough
from .forgetful import forgetful
from .standins import averaged, fitted
from .uncut import uncut

__all__ = [
    "as_cell",
    "average_answers",
    "inner_gradient",
    "mean_gradient",
    "more_starts",
    "no_memory",
    "other_losses",
    "taught_gradient",
    "thorough",
    "through_the_cut",
    "without_gradients",
]


def thorough(
    ball,  # threat model
    steps: int = 50,  # of PGD; half as many towards each class
    targets: int = 9,  # wrong classes
    **slots,  # of both attacks: eot, generator
) -> Cascade:
    """PGD on the margin, then APGD towards one class after another: no scale of the logits matters

    Parameters
    ----------
    ball
        threat model
    steps : int
        of PGD; half as many towards each class (default: 50)
    targets : int
        wrong classes (default: 9)
    **slots
        of both attacks: eot, generator

    Returns
    -------
    Cascade
    """
    first = pgd(ball, steps, loss=margin, best=True, **slots)
    if isinstance(ball, L1):
        return Cascade({"pgd": first, "again": pgd(ball, steps, loss=margin, **slots)}, ball)
    towards = apgd_t(ball, max(1, steps // 2), targets, **slots)
    return Cascade({"pgd": first, "towards": towards}, ball)


def other_losses(model, x, y, ball, steps=50):
    "Losses that depend on no scale of the logits, towards every class"
    return thorough(ball, steps, targets=10)(model, x, y)


def more_starts(model, x, y, ball, steps=50, starts=5):
    "Many starts, and APGD, whose first steps are long"
    members = {"starts": pgd(ball, steps, loss=margin, best=True, restarts=starts)}
    if not isinstance(ball, L1):
        members["long steps"] = apgd(ball, 2 * steps, loss=margin)
    return Cascade(members, ball)(model, x, y)


def average_answers(model, x, y, ball, steps=50, eot=20):
    "EoT: gradients averaged over many answers of a model that rolls dice"
    attack = pgd(ball, steps, loss=margin, best=True, eot=eot)
    return attack(model, x, y)


def through_the_cut(model, x, y, ball, steps=50):
    "BPDA: backward, the identity stands in for what rounds, cuts or searches"
    return thorough(ball, steps)(uncut(model), x, y)


def inner_gradient(model, x, y, ball, steps=50, inner="model"):
    "BPDA: forward the model, backward a network within it that mostly agrees"
    stand_in = model.get_submodule(inner)
    return thorough(ball, steps)(StraightThrough(model, stand_in), x, y)


def taught_gradient(model, x, y, ball, steps=50):
    "BPDA: forward the model, backward a network that was taught its answers"
    stand_in = fitted(model, x, ball)
    return thorough(ball, steps)(StraightThrough(model, stand_in), x, y)


def mean_gradient(model, x, y, ball, steps=30, draws=8):
    "Forward the model, backward its mean answer to noisy copies: ripples average out"
    stand_in = averaged(model, ball, draws)
    attack = pgd(ball, steps, loss=margin, best=True)
    return attack(StraightThrough(model, stand_in), x, y)


def without_gradients(model, x, y, ball, queries=1000):
    "Questions only: Square, probes with wide steps, and what asks for no more than the answer"
    members = {"square": square(ball, queries)} if isinstance(ball, (Linf, L2)) else {}
    if isinstance(ball, (L0, Patch)):
        members["pixels"] = pixel_search(ball, queries)
    members["probes"] = spsa(ball, queries, delta=0.03)
    if isinstance(ball, Linf):
        members["answers"] = rays(ball, queries)
    return Cascade(members, ball)(model, x, y)


def no_memory(model, x, y, ball, steps=50):
    "Every question goes to a fresh copy, which has seen no image before"
    return thorough(ball, steps)(forgetful(model, x) or model, x, y)


def _source(recipe):
    "The lines of a recipe"
    return textwrap.dedent(inspect.getsource(recipe)).rstrip()


def as_cell(
    recipe,  # a function of this room
    ball,  # threat model
    **numbers,  # for its other parameters
) -> str:  # at most 20 lines
    "A cell that defines the recipe and `attack`, which fits wherever an attack does"
    source = _source(recipe)
    names = sorted(set(re.findall(r"\b[A-Za-z_]\w*\b", source.split('"""')[-1])) & {*_PUBLIC})
    try:
        written = spec.text(ball)
    except (TypeError, ValueError):  # a ball of the reader's own is there already
        written = ""
    kind = re.findall(r"[A-Za-z_]\w*(?=\()", written)  # of a union its members too
    imports = ", ".join(sorted({*names, *kind}))
    given = "".join(f", {k}={v!r}" for k, v in numbers.items())
    lines = [
        "from functools import partial",
        "",
        *textwrap.wrap(f"from spat_nb import {imports}", 96, subsequent_indent="    "),
        "",
        source,
        "",
        *([f"ball = {written}"] if written else []),
        f"attack = partial({recipe.__name__}, ball=ball{given})",
    ]
    return "\n".join(lines)


# names of recipes' parts that a reader takes from spat_nb
_PUBLIC = {
    "Cascade", "L0", "L1", "L2", "Linf", "Patch", "StraightThrough", "apgd", "averaged", "fitted",
    "forgetful", "margin", "pgd", "pixel_search", "rays", "spsa", "square", "thorough", "uncut",
}  # fmt: skip
