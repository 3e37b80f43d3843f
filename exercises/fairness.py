"""Exercises of the lesson on the weakest class"""

import torch
from torch import tensor

from spat_nb.classwise.accounts import rho
from spat_nb.learn.exercise import Exercise

# ---- 2. one round of a bias


def next_bias(b, R, step):
    return b + step * (R.mean() - R)


def by_hand(b, R, step):
    middle = sum(R.tolist()) / len(R)
    return torch.stack([v + step * (middle - r) for v, r in zip(b, R)])


def to_those_who_have(b, R, step):
    return b + step * (R - R.mean())


def to_the_best(b, R, step):
    return b + step * (R.max() - R)


def bias_cases():
    g = torch.Generator().manual_seed(1)
    return [
        (torch.zeros(3), tensor([0.2, 0.5, 0.8]), 1.0),
        (tensor([1.0, -1.0]), tensor([0.4, 0.4]), 2.0),
        (torch.randn(6, generator=g), torch.rand(6, generator=g), 0.5),
    ]


# ---- 4. a bad bargain


def is_praised(fn):
    avg, worst, avg0, worst0 = (float(v) for v in fn())
    if not all(0 < v <= 100 for v in (avg, worst, avg0, worst0)):
        return "percent lie between 0 and 100, and the baseline above 0."
    if worst > avg or worst0 > avg0:
        return "the worst class is above the average."
    if avg > avg0 - 10:
        return f"the average falls by {avg0 - avg:.1f} points."
    return "" if rho(avg, worst, avg0, worst0) >= 0.5 else "rho is below 0.5."


def praised():
    return 40.0, 10.0, 50.0, 5.0


def extreme():
    return 30.0, 3.0, 60.0, 1.0


def honest():
    return 49.05, 30.53, 49.80, 21.31


def impossible():
    return 30.0, 40.0, 50.0, 10.0


EXERCISES = {
    "fairness 2": Exercise(
        reference=next_bias,
        cases=bias_cases,
        right=[by_hand],
        wrong=[to_those_who_have, to_the_best],
        hints=(
            "A class that is less robust than the average shall get more.",
            "What is added sums to 0: compare every R with the mean of all.",
        ),
    ),
    "fairness 4": Exercise(
        check=is_praised,
        solution=praised,
        right=[extreme],
        wrong=[honest, impossible],
        hints=(
            "Both terms are parts of a baseline. Which baseline makes a small gain look large?",
            "Let the worst class start near 0: a few points are then a gain of 100%.",
        ),
    ),
}
