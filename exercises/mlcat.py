"""Exercises of the lesson on what robust overfitting is made of"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. the weights of a batch


def at_least_one(losses, least):
    return (least / losses).clamp_min(1)


def by_cases(losses, least):
    return torch.where(losses < least, least / losses, torch.ones_like(losses))


def left_out(losses, least):
    return (losses >= least).float()


def without_floor(losses, least):
    return least / losses


def at_most_one(losses, least):
    return (least / losses).clamp_max(1)


# ---- 3. an honest gap


def chosen_by_validation(valid, test):
    return test[valid.index(max(valid))] - test[-1]


def by_a_loop(valid, test):
    best = 0
    for k, v in enumerate(valid):
        if v > valid[best]:
            best = k
    return test[best] - test[-1]


def chosen_by_test(valid, test):
    return max(test) - test[-1]


def on_validation(valid, test):
    return max(valid) - valid[-1]


def last_of_the_best(valid, test):
    k = max(range(len(valid)), key=lambda i: (valid[i], i))
    return test[k] - test[-1]


def histories():
    return [
        ([0.2, 0.5, 0.45, 0.4], [0.25, 0.4, 0.42, 0.38]),
        ([0.3, 0.5, 0.5], [0.3, 0.5, 0.4]),
        ([0.1, 0.2, 0.3], [0.4, 0.1, 0.2]),
    ]


EXERCISES = {
    "mlcat 2": Exercise(
        reference=at_least_one,
        cases=lambda: [
            (torch.tensor([0.3, 1.0, 2.0, 3.0]), 1.5),
            (torch.tensor([0.01, 0.5, 0.6]), 0.5),
        ],
        right=[by_cases],
        wrong=[left_out, without_floor, at_most_one],
        hints=(
            "A detached factor is a number: the gradient is multiplied by just that.",
            "max(1, least/loss), image by image.",
        ),
    ),
    "mlcat 3": Exercise(
        reference=chosen_by_validation,
        cases=histories,
        right=[by_a_loop],
        wrong=[chosen_by_test, on_validation, last_of_the_best],
        hints=(
            "Two lists: one is there to choose, the other to report.",
            "The place of the largest value of `valid`, and what `test` has there.",
        ),
    ),
}
