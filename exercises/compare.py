"""Exercises of the lesson that compares all results"""

import torch

from spat_nb.learn.exercise import Exercise


# ---- 1: a front of three goods
def front3(clean, robust, minutes):
    rows = list(zip(clean, robust, [-m for m in minutes]))
    found = []
    for own in rows:
        rivals = [r for r in rows if r != own]
        found.append(not any(all(a >= b for a, b in zip(r, own)) for r in rivals))
    return found


def by_differences(clean, robust, minutes):
    p = list(zip(clean, robust, (-m for m in minutes)))
    return [not any(q != r and min(a - b for a, b in zip(q, r)) >= 0 for q in p) for r in p]


def long_is_good(clean, robust, minutes):
    return front3(clean, robust, [-m for m in minutes])


def without_minutes(clean, robust, minutes):
    return front3(clean, robust, [0 for _ in minutes])


def strictly(clean, robust, minutes):
    p = list(zip(clean, robust, (-m for m in minutes)))
    return [not any(min(a - b for a, b in zip(q, r)) > 0 for q in p) for r in p]


def tables():
    return [
        ([0.9, 0.9, 0.8], [0.5, 0.5, 0.6], [1.0, 2.0, 1.0]),
        ([1.0], [1.0], [1.0]),
        ([0.9, 0.8, 0.7], [0.7, 0.8, 0.9], [3.0, 2.0, 1.0]),
        ([0.9, 0.8, 0.7, 0.9], [0.7, 0.6, 0.5, 0.7], [3.0, 2.0, 4.0, 3.0]),
        ([0.5, 0.6], [0.5, 0.4], [5.0, 6.0]),
    ]


# ---- 3: luck
def lucky(m):
    return 1 - 0.975**m


def by_steps(m):
    none = 1.0
    for _ in range(m):
        none *= 0.975
    return 1 - none


def added(m):
    return 0.025 * m


# ---- 4: the seed that is published
def choose(scores):
    return int((scores[0] - scores[1:].amax(0)).argmax())


def of_the_mean(scores):
    return int((scores[0] - scores.mean(0)).argmax())


def first(scores):
    return 0


def own_best(scores):
    return int(scores.mean(0).argmax())


def wins_often(fn):
    g = torch.Generator().manual_seed(0)
    won = 0
    for _ in range(200):
        scores = 78 + 2 * torch.randn(4, 5, generator=g)
        k = fn(scores.clone())
        k = int(k) if not isinstance(k, bool) else -1
        if not 0 <= k < 5:
            return "it should return a seed from 0 to 4."
        won += bool(scores[0, k] == scores[:, k].max())
    return "" if won >= 120 else f"your row is first in {won} of 200 tables; 120 are asked."


EXERCISES = {
    "compare 1": Exercise(
        reference=front3,
        cases=tables,
        right=[by_differences],
        wrong=[long_is_good, without_minutes, strictly],
        hints=(
            "A row is beaten by another that is nowhere worse, and not the same.",
            "Turn the minutes round: of -minutes, more is better, as for the two others.",
        ),
    ),
    "compare 3": Exercise(
        reference=lucky,
        cases=lambda: [(1,), (5,), (20,), (45,)],
        tol=1e-9,
        right=[by_steps],
        wrong=[added],
        hints=(
            "What is the probability that none of them is called supported?",
            "Independent chances multiply: .975 for each claim.",
        ),
    ),
    "compare 4": Exercise(
        check=wins_often,
        solution=choose,
        right=[of_the_mean],
        wrong=[first, own_best],
        hints=(
            "For which seed is your row furthest ahead of the best of the others?",
            "scores[1:].amax(0) is the best of the others, seed by seed.",
        ),
    ),
}
