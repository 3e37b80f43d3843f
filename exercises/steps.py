"""Exercises of the lesson on steps"""

import torch

from spat_nb import Linf, steepest
from spat_nb.attacks.ascent import ascend, at_x
from spat_nb.attacks.steps import adaptive
from spat_nb.learn.exercise import Exercise

# ---- 2. the schedule


def checkpoints(n):
    first, less, least = (int(share * n) or 1 for share in (0.22, 0.03, 0.06))
    ends, at, k = [], 0, first
    while at + k <= n:
        at += k
        ends.append(at)
        k = k - less if k - less > least else least
    return ends


def for_a_hundred(n):
    return [int(n * p) for p in (0.22, 0.41, 0.57, 0.7, 0.8, 0.87, 0.93, 0.99)]


def without_a_least(n):
    k, at, ends = max(int(0.22 * n), 1), 0, []
    while k > 0 and at + k <= n:
        at += k
        ends.append(at)
        k -= max(int(0.03 * n), 1)
    return ends


def schedule_cases():
    return [(n,) for n in (100, 20, 50, 7, 1, 0, 133, 1000)]


# ---- 3. the first question


def few_rises(losses, rho):
    rises = (losses[1:] > losses[:-1]).sum(0)
    return rises <= rho * (len(losses) - 1)


def by_diff(losses, rho):
    return (losses.diff(dim=0) > 0).double().mean(0) <= rho


def strictly_fewer(losses, rho):
    return (losses.diff(dim=0) > 0).double().mean(0) < rho


def plateaus_count(losses, rho):
    return (losses.diff(dim=0) >= 0).double().mean(0) <= rho


def per_point(losses, rho):
    return (losses[1:] > losses[:-1]).sum(0) <= rho * len(losses)


def rises_cases():
    t, g = torch.tensor, torch.Generator().manual_seed(0)
    return [
        (t([[1.0], [2.0], [3.0], [2.5], [3.5]]), 0.75),
        (t([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0], [4.0, 1.0], [5.0, 1.0]]), 0.75),
        (t([[1.0], [2.0], [3.0], [2.0]]), 0.5),
        (torch.randn(23, 50, generator=g).cumsum(0), 0.5),
        (torch.randn(9, 40, generator=g).cumsum(0), 0.25),
        (torch.randn(6, 40, generator=g), 0.4),
    ]


# ---- 4. a loss that defeats APGD


def best_of(rule, lr, f):
    seen = []

    def record(s):
        seen.append(s.val.item())

    ascend(lambda x: (f(x),), torch.zeros(1, 1), Linf(1.0), 20, rule, at_x, lr, recorder=record)
    return max(seen)


def defeats_apgd(f):
    grid = torch.linspace(0, 1, 2001)[:, None]
    values = f(grid)
    if values.shape != (2001,):
        return f"for (2001,1) it should return (2001,), not {tuple(values.shape)}."
    if not values.isfinite().all() or values.min() < -1e-6 or values.max() > 1 + 1e-6:
        return "some values lie outside of [0,1]."
    fixed = best_of(steepest, 0.05, f)
    if fixed < 0.95:
        return f"PGD with a step of 0.05 only reaches {fixed:.2f}; 0.95 is asked."
    auto = best_of(adaptive, 2.0, f)
    if auto > 0.6:
        return f"APGD reaches {auto:.2f}; it should stay at 0.6 or below."
    return ""


def peak_and_plateau(x):
    peak = 1 - 2.5 * (x[:, 0] - 0.4).abs()
    return torch.where(x[:, 0] < 0.7, peak, 0.5 + 0 * x[:, 0])


def peak_and_a_far_hill(x):
    # above 0 where PGD begins: the gradient of a clamp on its bound is zero from torch 2.15 on
    peak = 1 - 2.4 * (x[:, 0] - 0.4).abs()
    return torch.where(x[:, 0] < 0.75, peak, 0.55 * x[:, 0])


def one_tent(x):
    return 1 - (x[:, 0] - 0.4).abs()


def too_narrow(x):
    return (1 - 50 * (x[:, 0] - 0.42).abs()).clamp_min(0) + 0 * x[:, 0]


EXERCISES = {
    "steps 2": Exercise(
        reference=checkpoints,
        cases=schedule_cases,
        wrong=[for_a_hundred, without_a_least],
        hints=(
            "The first stretch has .22 n steps; each one is .03 n shorter than the one before.",
            "No stretch is shorter than .06 n. Round each of the three numbers down, and lift it"
            " to 1, before you use it.",
        ),
    ),
    "steps 3": Exercise(
        reference=few_rises,
        cases=rises_cases,
        right=[by_diff],
        wrong=[strictly_fewer, plateaus_count, per_point],
        hints=(
            "k+1 points have k differences: `losses.diff(dim=0)`.",
            "Only what is strictly above 0 is a rise; exactly 75% of rises is not enough.",
        ),
    ),
    "steps 4": Exercise(
        check=defeats_apgd,
        solution=peak_and_plateau,
        right=[peak_and_a_far_hill],
        wrong=[one_tent, too_narrow],
        hints=(
            "APGD's first step has length 2: from 0 it lands at the other end of the box.",
            "What must the loss look like there, so that nothing leads back? APGD goes on from its"
            " best point.",
        ),
    ),
}
