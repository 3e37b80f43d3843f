"""Exercises of the lesson on precision"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. does a step survive?


def survives(v, step):
    p = torch.tensor(v).bfloat16()
    return bool(p + step != p)


def in_float(v, step):
    return v + step != v


def survive_cases():
    return [
        (0.9, 0.001),
        (0.9, 1 / 255),
        (0.1, 0.001),
        (0.1, 0.0001),
        (0.0, 1e-9),
        (0.5, -1 / 255),
        (0.5, 0.0015),
        (0.5, -0.0015),
        (0.25, -0.0003),
        (0.6, -0.0015),
    ]


# ---- 3. break an attack by rounding


def above_a_half():
    return 0.5, 0.0015


def gets_stuck(fn):
    v, step = fn()
    if not 0 <= v <= 0.55:
        return f"v is {v:g}; find a pixel in [0, 0.55]."
    if step < 0.0005:
        return f"the step is {step:g}; take at least 0.0005."
    low = torch.tensor(v).bfloat16()
    exact = torch.tensor(v)
    began = low.clone()
    for _ in range(20):
        low, exact = low + step, exact + step
    if exact - v < 0.01:
        return f"in float32 the pixel moves by {exact - v:.4f} only; take larger steps."
    if low != began:
        return f"in bfloat16 the pixel moves too, from {began:.4f} to {low:.4f}."
    return ""


EXERCISES = {
    "precision 2": Exercise(
        reference=survives,
        cases=survive_cases,
        wrong=[in_float, lambda v, step: abs(step) > 0.002],
        hints=(
            "What a bfloat16 tensor and a Python float add up to is rounded to bfloat16.",
            "Round first, then add, and compare two numbers that are both in bfloat16.",
        ),
    ),
    "precision 3": Exercise(
        check=gets_stuck,
        solution=above_a_half,
        right=[lambda: (0.51, 0.0010), lambda: (0.3, 0.0006)],
        wrong=[lambda: (0.9, 0.001), lambda: (0.1, 0.001), lambda: (0.5, 0.003)],
        hints=(
            "Between one half and one, numbers are 2**-8 apart; below one half they are closer.",
            "A step of less than half that distance is rounded away, and 20 steps must add up to"
            " 0.01.",
        ),
    ),
}
