"""Exercises of the lesson on exercises"""

import math

import torch

from spat_nb.learn.exercise import Exercise, judged_by

# ---- 2. the position of the smallest entry


def worst(v):
    best = 0
    for i in range(len(v)):
        if v[i] < v[best]:
            best = i
    return best


def last_of_equals(v):
    return len(v) - 1 - v[::-1].index(min(v))


def worst_cases():
    return [([3, 1, 2],), ([5],), ([2, 1, 1],), ([-1, 0, -1],), ([0, -7, 3, -7],), ([4, 3, 2, 1],)]


# ---- 3. break a function that claims to be the sign of a number


def sgn(x):
    return x / abs(x + 1e-3)


def exposes(find):
    x = find()
    true = (x > 0) - (x < 0)
    if x == -1e-3:
        return ""  # it even divides by 0
    if round(sgn(x), 1) == true:
        return f"sgn({x:g}) is {sgn(x):.1f}, and that is the sign."
    return ""


def counterexample():
    return 1e-3


# ---- 4. when are two tensors the same?


def agree(a, b):
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-3, equal_nan=True)


def broadcasting(a, b):
    return torch.allclose(a, b, rtol=0, atol=1e-3)


def pairs():
    t, n = torch.tensor, math.nan
    return [
        (t([1.0, 2.0]), t([1.0, 2.0005])),
        (t([1.0, 2.0]), t([1.0, 2.01])),
        (t([1.0, 2.0]), t([1.0, 2.002])),
        (t([1.0, 1.0]), t([[1.0], [1.0]])),
        (t([1.0]), t([1.0, 1.0])),
        (t([n]), t([n])),
        (t([n]), t([1.0])),
        (t([1000.0]), t([1000.5])),
        (t([1000.0]), t([1000.005])),
        (t([-1.0]), t([1.0])),
    ]


# ---- 5. break a judge: write a wrong function that its cases do not catch


def shrink(d, eps):
    return d.clamp(-eps, eps)


def blind_cases():
    t = torch.tensor
    return [(t([0.3, 0.02]), 0.1), (t([0.0, 0.1]), 0.1)]


def slips_through(fn):
    verdict, text = judged_by(Exercise(reference=shrink, cases=blind_cases), fn)
    if verdict != "right":
        return f"the blind judge caught it: {text}"
    d = torch.tensor([[-0.3, 0.2, -0.05, 0.0], [7.0, -7.0, 0.1, -0.1]])
    if torch.equal(fn(d.clone(), 0.1), shrink(d, 0.1)):
        return "it slips through, but it is right on other numbers too; make it wrong."
    return ""


def one_sided(d, eps):
    return torch.minimum(d, torch.tensor(eps))


EXERCISES = {
    "exercise 2": Exercise(
        reference=worst,
        cases=worst_cases,
        right=[lambda v: v.index(min(v))],
        wrong=[last_of_equals],
        hints=(
            "Walk along the list and remember the position of the best so far.",
            "What is strictly smaller takes its place; so of equals the first stays.",
        ),
    ),
    "exercise 3": Exercise(
        check=exposes,
        solution=counterexample,
        right=[lambda: -1e-4, lambda: -0.001],
        wrong=[lambda: 5.0, lambda: -5.0],
        hints=(
            "A small number was added so that nobody divides by 0. For which x does it matter?",
            "For an x that is as small as that number.",
        ),
    ),
    "exercise 4": Exercise(
        reference=agree,
        cases=pairs,
        wrong=[broadcasting],
        hints=(
            "Shapes first: what broadcasts is not the same.",
            "`torch.allclose` has a switch for NaN, and its relative tolerance is not 0 by itself.",
        ),
    ),
    "exercise 5": Exercise(
        check=slips_through,
        solution=one_sided,
        right=[lambda d, eps: d.clamp(max=eps), lambda d, eps: torch.where(d > eps, eps, d)],
        wrong=[shrink, lambda d, eps: d * 0.5],
        hints=(
            "Both of the judge's cases have only numbers of one kind. Which kind is missing?",
            "Forget the lower end of the interval.",
        ),
    ),
}
