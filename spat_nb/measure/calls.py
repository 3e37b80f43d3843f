"""Which attack a flag calls for, and with which numbers

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from .forgetful import forgetful
from .standins import inner_networks

__all__ = ["CALLS", "SIMPLEST", "attacks_for", "numbers_for"]

# what knows nothing of the model comes first
SIMPLEST = (
    "other_losses",
    "more_starts",
    "average_answers",
    "mean_gradient",
    "without_gradients",
    "through_the_cut",
    "inner_gradient",
    "taught_gradient",
    "no_memory",
)

HIDDEN = ("through_the_cut", "inner_gradient", "taught_gradient", "without_gradients")
RUGGED = ("more_starts", "mean_gradient")
# check -> names of attacks in `measure.adaptive`
CALLS = {
    "G1 logits": ("other_losses", "taught_gradient"),
    "G1 float32": ("other_losses",),
    "G1 repeats": ("average_answers", "inner_gradient"),
    "G1 alone": ("average_answers", "inner_gradient"),
    "G1 mode": ("average_answers", "inner_gradient", "no_memory"),
    "G1 search": ("through_the_cut", "inner_gradient", "without_gradients"),
    # an attack that breaks the rules is replaced by one that keeps them
    "G1 ball": ("other_losses",),
    "G1 box": ("other_losses",),
    "G1 reach": ("other_losses",),
    "G1 manners": ("other_losses",),
    "G1 numbers": ("taught_gradient", "without_gradients"),
    "G2 order": ("more_starts", *HIDDEN[:2]),
    "G3 loss": ("other_losses", *HIDDEN[:3]),
    "G3 doubling": ("more_starts", "other_losses"),
    "G4 starts": (*RUGGED, "through_the_cut"),
    "G5 falls": (*HIDDEN, "no_memory"),
    "G5 grey": (*HIDDEN, "no_memory"),
    "G6 square": HIDDEN,
    "G6 transfer": ("taught_gradient", "inner_gradient", "through_the_cut"),
    "G7 zero": ("other_losses", *HIDDEN, "no_memory"),
    "G7 finite": HIDDEN[1:],
    "G7 true": HIDDEN,
    "G8 losses": ("other_losses",),
    "G8 scale": ("other_losses",),
    "G9 stronger": ("other_losses", *RUGGED),
    "G9 claim": ("other_losses",),
}
# where answers are random, every gate sees that; one roll of a gradient tells little
OF_DICE = ("average_answers", "inner_gradient", "other_losses", "no_memory")


def attacks_for(
    card,  # of `trust`, with what it stands on
) -> dict:  # name of an attack -> the checks that call for it
    "The attacks that the flags of a card call for, those with most calls first"
    called: dict[str, list] = {}
    for check in card.checks:
        if check.verdict == "flag":
            for name in CALLS.get(check.name, ()):
                called.setdefault(name, []).append(check.name)
    if "G1 repeats" in {c.name for c in card.checks if c.verdict == "flag"}:
        called = {k: v for k, v in called.items() if k in OF_DICE}
    if "no_memory" in called and forgetful(card.ground.net, card.ground.x) is None:
        del called["no_memory"]  # it remembers nothing
    if not inner_networks(card.ground.net, card.ground.x[:32]):
        called.pop("inner_gradient", None)
    order = sorted(called, key=lambda k: -len(called[k]))
    return {k: tuple(called[k]) for k in order}


def numbers_for(
    name: str,  # of an attack
    ground,  # of the card
) -> dict:  # for its other parameters
    "What an attack is told of the model, and how much it may cost"
    if name == "inner_gradient":
        found = inner_networks(ground.net, ground.x[:32])
        return {"inner": found[0]} if found else {}
    if name == "without_gradients":
        return {"queries": max(100, round(1000 * min(ground.cost, 1)))}
    return {}
