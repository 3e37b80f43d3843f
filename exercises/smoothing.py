"""Exercises of the lesson on smoothing"""

import torch
from scipy.stats import binom

from spat_nb.learn.exercise import Exercise
from spat_nb.measure.smoothing import lower_share, smoothed_radius

# ---- 2. certify from counts


def two_draws(chosen, counted, sigma, alpha):
    first = int(chosen.argmax())
    share = lower_share(int(counted[first]), int(counted.sum()), alpha)
    radius = smoothed_radius(share, sigma)
    return (first, radius) if radius > 0 else (-1, 0.0)


def by_sorting(chosen, counted, sigma, alpha):
    first = int(chosen.sort(descending=True, stable=True).indices[0])
    radius = smoothed_radius(lower_share(int(counted[first]), int(counted.sum()), alpha), sigma)
    return (-1, 0.0) if radius <= 0 else (first, radius)


def one_draw(chosen, counted, sigma, alpha):
    return two_draws(counted, counted, sigma, alpha)


def share_as_counted(chosen, counted, sigma, alpha):
    first = int(chosen.argmax())
    radius = smoothed_radius(int(counted[first]) / int(counted.sum()), sigma)
    return (first, radius) if radius > 0 else (-1, 0.0)


def never_abstains(chosen, counted, sigma, alpha):
    answer, radius = two_draws(chosen, counted, sigma, alpha)
    return (int(chosen.argmax()), radius)


def count_cases():
    t = torch.tensor
    return [
        (t([1, 90, 9]), t([20, 960, 20]), 0.25, 0.001),
        (t([60, 40]), t([480, 520]), 0.25, 0.001),
        (t([40, 60]), t([480, 520]), 0.5, 0.001),
        (t([0, 100]), t([1, 999]), 0.5, 0.05),
        (t([60, 40]), t([400, 600]), 0.25, 0.001),
        (t([51, 49]), t([490, 510]), 0.25, 0.01),
    ]


# ---- 3. no abstention


def often_wrong(fn):
    p = float(fn())
    if not 0 <= p <= 1:
        return f"p is {p}; a share lies between 0 and 1."
    if abs(p - 0.5) < 0.001:
        return f"p is {p}; at one half no class is the right one."
    wrong = binom.sf(50, 100, min(p, 1 - p))
    if wrong < 0.3:
        return f"with p = {p} the wrong class is certified in {wrong:.1%} of all draws."
    return ""


def nearly_even():
    return 0.49


def from_above():
    return 0.505


def clear():
    return 0.4


def even():
    return 0.5


EXERCISES = {
    "smoothing 2": Exercise(
        reference=two_draws,
        cases=count_cases,
        right=[by_sorting],
        wrong=[one_draw, share_as_counted, never_abstains],
        hints=(
            "Which draw may choose the class, and which may count it?",
            "lower_share(counted[first], counted.sum(), alpha), then the radius; 0 abstains.",
        ),
    ),
    "smoothing 3": Exercise(
        check=often_wrong,
        solution=nearly_even,
        right=[from_above],
        wrong=[clear, even],
        hints=(
            "When does the wrong side win a majority of 100 votes often?",
            "The spread of the count is about 5 votes. Put p within a fifth of that of one half.",
        ),
    ),
}
