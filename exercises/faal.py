"""Exercises of the lesson on the worst mixture of classes"""

import math

import torch

from spat_nb.classwise.faal import worst_mixture
from spat_nb.learn.exercise import Exercise

# ---- 2. the radius for a weight


def kl_from_even(p):
    return -0.5 * math.log(4 * p * (1 - p))


def in_two_terms(p):
    return -0.5 * math.log(2 * p) - 0.5 * math.log(2 * (1 - p))


def other_way_round(p):
    return p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))


# ---- 3. the other way round


def softmaxed(a, tau):
    return (a / tau).softmax(0)


def shifted(a, tau):
    w = ((a - a.max()) / tau).exp()
    return w / w.sum()


def overflows(a, tau):
    w = (a / tau).exp()
    return w / w.sum()


def inverted(a, tau):
    return (-a / tau).softmax(0)


# ---- 4. weight for nobody


def is_wasted(fn):
    for y in (torch.arange(40) % 7, torch.tensor([0, 3, 3, 9, 1]), torch.arange(64) % 9):
        a = torch.as_tensor(fn(y.clone())).float()
        if a.shape != (10,) or a.abs().max() > 1:
            return "margins are ten numbers in [-1,1]."
        total = (10 * worst_mixture(a, 3.0)[y]).sum().item()
        if not total < len(y) / 2:
            return f"of {len(y)} images the weights add up to {total:.1f}."
    return ""


def on_the_absent(y):
    return 1 - 2 * torch.zeros(10).index_fill(0, y, 1.0)


def on_one_absent(y):
    a = torch.full((10,), -1.0)
    a[next(k for k in range(10) if k not in y.tolist())] = 1.0
    return a


def on_the_present(y):
    return 2 * torch.zeros(10).index_fill(0, y, 1.0) - 1


def even(y):
    return torch.zeros(10)


EXERCISES = {
    "faal 2": Exercise(
        reference=kl_from_even,
        cases=lambda: [(p,) for p in (0.5, 0.6, 0.75, 0.9, 0.999)],
        right=[in_two_terms],
        wrong=[other_way_round],
        hints=(
            "The distance is KL(u || p) with u = (1/2, 1/2): a mean of two logarithms.",
            "log(1/2 / p) and log(1/2 / (1-p)), half of each.",
        ),
    ),
    "faal 3": Exercise(
        reference=softmaxed,
        cases=lambda: [
            (torch.tensor([0.3, -0.8, 0.1]), tau) for tau in (10.0, 1.0, 0.1, 0.01, 1e-3)
        ],
        right=[shifted],
        wrong=[overflows, inverted],
        hints=(
            "softmax divides by the sum and keeps clear of overflow.",
            "(a / tau).softmax(0)",
        ),
    ),
    "faal 4": Exercise(
        check=is_wasted,
        solution=on_the_absent,
        right=[on_one_absent],
        wrong=[on_the_present, even],
        hints=(
            "Weight that goes to a class without images trains nothing.",
            "Which classes are absent? Give them the largest margin.",
        ),
    ),
}
