"""Exercises of the lesson on Sparta"""

import torch
from torch.nn import functional as F

from spat_nb.learn.exercise import Exercise


# ---- 2: as near to ReLU as you like
def tap(tol):
    return 0.2784645 / tol


def tap_by_log(tol):
    return torch.exp(
        torch.tensor(0.2784645).double().log() - torch.tensor(tol).double().log()
    ).item()


def without_the_maximum(tol):
    return 1 / tol


def upside_down(tol):
    return tol / 0.2784645


# ---- 3: the bill
def bill(widths, k, shared):
    each = k * k + 2
    return each * sum(set(widths) if shared else widths)


def bill_by_loops(widths, k, shared):
    total, seen = 0, []
    for w in widths:
        if not (shared and w in seen):
            total += w * k**2 + 2 * w
        seen.append(w)
    return total


def without_batch_norm(widths, k, shared):
    return k * k * sum(set(widths) if shared else widths)


def never_shared(widths, k, shared):
    return (k * k + 2) * sum(widths)


RESNET = [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4


# ---- 4: a map that the gate lets pass
def sneak():
    v = torch.zeros(5, 5)
    v[1:4, 1:4] = 0.225
    v[2, 2] = 1
    return v


def speck():
    v = torch.zeros(5, 5)
    v[2, 2] = 1
    return v


def too_much():
    v = torch.zeros(5, 5)
    v[:, 2] = 1
    return v


def passes(fn):
    v = fn()
    if not isinstance(v, torch.Tensor) or v.shape != (5, 5):
        return "it should return a map of shape (5, 5)."
    v = v.double()
    if not ((v >= 0) & (v <= 1)).all():
        return "a value lies outside [0,1]."
    if v[2, 2] != 1:
        return "the middle should be 1."
    if v.sum() > 2.8 + 1e-4:
        return f"the sum is {v.sum():.3g}; at most 2.8 is allowed."
    gate = torch.sigmoid(20 * (F.avg_pool2d(v[None, None], 3, 1, 1) - 0.2))[0, 0, 2, 2].item()
    return "" if gate >= 0.9 else f"the gate passes {gate:.2f} of the middle; .9 is asked."


EXERCISES = {
    "sparta 2": Exercise(
        reference=tap,
        cases=lambda: [(0.1,), (0.01,), (1e-4,)],
        right=[tap_by_log],
        wrong=[without_the_maximum, upside_down],
        hints=(
            "For x > 0 the difference is x(1-sigma(kx)). Write u for kx.",
            "It is u/(1+e^u), divided by k; the task says how large the numerator gets.",
        ),
    ),
    "sparta 3": Exercise(
        reference=bill,
        cases=lambda: [
            (RESNET, 3, False),
            (RESNET, 3, True),
            (RESNET, 5, True),
            ([16, 32, 64], 1, False),
        ],
        right=[bill_by_loops],
        wrong=[without_batch_norm, never_shared],
        hints=(
            "A kernel has k*k taps per channel, and there is a batch norm behind it.",
            "Batch norm has a weight and a bias per channel. Shared: each width once, as in a set.",
        ),
    ),
    "sparta 4": Exercise(
        check=passes,
        solution=sneak,
        wrong=[speck, too_much],
        hints=(
            "The gate sees the mean over 3 x 3 places only. How large must their sum be for .9?",
            "About 2.79. The middle is 1; spread the rest over its eight neighbours.",
        ),
    ),
}
