"""Exercises of the lesson on intervals that may be looked at at any time"""

import numpy as np

from spat_nb.learn.exercise import Exercise

# ---- 2. the largest stakes


def largest_stakes(m):
    return 1 / m, 1 / (1 - m)


def as_list(m):
    return [m**-1, (1 - m) ** -1]


def turned(m):
    return 1 / (1 - m), 1 / m


def halved(m):
    return 0.5 / m, 0.5 / (1 - m)


def stake_cases():
    return [(m,) for m in (0.5, 0.25, 0.1, 0.9, 0.731)]


# ---- 3. the cheat


def wins(fn):
    g = np.random.default_rng(3)
    rows = [(g.random(20) < 0.5).astype(int).tolist() for _ in range(200)]
    reached = 0
    for row in rows:
        stakes = fn(list(row))
        if len(stakes) != len(row):
            return f"cheat returns {len(stakes)} stakes for {len(row)} images."
        if not all(0 <= s <= 2 for s in stakes):
            return "a stake is below 0 or above 2."
        end = 1.0
        for value, stake in zip(row, stakes):
            end *= 1 + stake * (value - 0.5)
        reached += end > 20
    if reached < 190:
        return f"the capital ends above 20 in {reached} of {len(rows)} rows; 190 are asked."
    return ""


def cheat(x):
    return [2.0 if value else 0.0 for value in x]


def milder(x):
    return [1.9 * value for value in x]


def honest(x):
    return [1.0 for _ in x]


def timid(x):
    return [0.2 if value else 0.0 for value in x]


EXERCISES = {
    "anytime 2": Exercise(
        reference=largest_stakes,
        cases=stake_cases,
        right=[as_list],
        wrong=[turned, halved],
        hints=(
            "The worst image for a stake on more is a wrong one, x = 0.",
            "1 - stake * m must not be negative; for the other side put 1 - m in its place.",
        ),
    ),
    "anytime 3": Exercise(
        check=wins,
        solution=cheat,
        right=[milder],
        wrong=[honest, timid],
        hints=(
            "Where x is 1 a stake gains, where it is 0 it loses. You know which is which.",
            "Stake everything on the right images and nothing on the others.",
        ),
    ),
}
