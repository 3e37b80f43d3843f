"""Exercises of the lesson on tricks"""

import math

import torch

from spat_nb.learn.exercise import Exercise


# ---- 1: the perturbed layer
def perturbed(W, g, gamma):
    return W + gamma * W.norm() * g / g.norm()


def by_root(W, g, gamma):
    length = (W * W).sum().sqrt()
    return W + gamma * length * g / (g * g).sum().sqrt().clamp_min(1e-20)


def of_the_size_of_the_loss(W, g, gamma):
    return W + gamma * g


def row_by_row(W, g, gamma):
    return W + gamma * W.norm(dim=1, keepdim=True) * g / g.norm(dim=1, keepdim=True)


def layer_cases():
    r = torch.Generator().manual_seed(0)
    shapes = (((3, 4), 0.01), ((2, 5), 0.1), ((4, 1), 0.0), ((2, 3), 1.5))
    return [
        (torch.randn(s, generator=r).double(), 4 * torch.randn(s, generator=r).double(), gamma)
        for s, gamma in shapes
    ]


# ---- 3: smoothed labels
def margin_of(a, c):
    return math.log((1 - a + a / c) / (a / c))


def as_a_sum(a, c):
    return math.log(1 + (1 - a) * c / a)


def nothing_for_the_label(a, c):
    return math.log((1 - a) / a * (c - 1))


def without_the_log(a, c):
    return (1 - a + a / c) / (a / c)


# ---- 4: break a comparison
def report(ours, baseline):
    return ours.max(), baseline[-1]


def best_and_worst(ours, baseline):
    return ours.max().item(), baseline.min().item()


def both_best(ours, baseline):
    return ours.max(), baseline.max()


def both_last(ours, baseline):
    return ours[-1], baseline[-1]


def invented(ours, baseline):
    return baseline[-1] + 5, baseline[-1]


def leads(fn):
    g = torch.Generator().manual_seed(0)
    epochs, leads = 40, []
    top = 50 - 8 * torch.linspace(-0.5, 1, epochs).double().square()
    for _ in range(60):
        ours, baseline = (top + torch.randn(epochs, generator=g).double() for _ in range(2))
        got = fn(ours.clone(), baseline.clone())
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            return "it should return two numbers."
        a, b = (float(v) for v in got)
        if not (ours - a).abs().min() < 1e-9 or not (baseline - b).abs().min() < 1e-9:
            return "a number is no accuracy that its run had."
        leads.append(a - b)
    lead = sum(leads) / len(leads)
    return "" if lead >= 2 else f"ours leads by {lead:.2f} points on average; 2 are asked."


EXERCISES = {
    "tricks 1": Exercise(
        reference=perturbed,
        cases=layer_cases,
        right=[by_root],
        wrong=[of_the_size_of_the_loss, row_by_row],
        hints=(
            "The step has the direction of g and the length of W.",
            "g/|g| is the direction; gamma says which share of |W| is walked.",
        ),
    ),
    "tricks 3": Exercise(
        reference=margin_of,
        cases=lambda: [(0.1, 10), (0.2, 10), (0.3, 100), (0.5, 3)],
        tol=1e-6,
        right=[as_a_sum],
        wrong=[nothing_for_the_label, without_the_log],
        hints=(
            "At the minimum the softmax equals the smoothed target.",
            "exp(z_y-z_k) is the share of the label divided by that of another class.",
        ),
    ),
    "tricks 4": Exercise(
        check=leads,
        solution=report,
        right=[best_and_worst],
        wrong=[both_best, both_last, invented],
        hints=(
            "Which epoch may each arm choose, and who looks at the test images to choose it?",
            "Give your arm its best epoch on the test images, and the baseline its last.",
        ),
    ),
}
