"""Exercises of the lesson on a lean AutoAttack"""

import torch

from spat_nb import Linf, get_data, lean, square, zoo
from spat_nb.core.remarks import remarks
from spat_nb.learn.exercise import Exercise

# ---- 2. the nearest class


def distances(W, z, y):
    far = (z[y] - z) / (W[y] - W).norm(dim=1)
    far[y] = torch.inf
    return far


def in_a_loop(W, z, y):
    far = torch.full_like(z, torch.inf)
    for k in range(len(z)):
        if k != y:
            far[k] = (z[y] - z[k]) / ((W[y] - W[k]) ** 2).sum().sqrt()
    return far


def margins_alone(W, z, y):
    far = z[y] - z
    far[y] = torch.inf
    return far


def of_each_class(W, z, y):
    far = (z[y] - z) / W.norm(dim=1)
    far[y] = torch.inf
    return far


def squared(W, z, y):
    far = (z[y] - z) / (W[y] - W).square().sum(1)
    far[y] = torch.inf
    return far


def distance_cases():
    g = torch.Generator().manual_seed(0)
    cases = []
    for c, d in ((3, 2), (5, 7), (10, 64)):
        W = torch.randn(c, d, generator=g, dtype=torch.float64)
        z = W @ torch.rand(d, generator=g, dtype=torch.float64)
        cases.append((W, z, int(z.argmax())))
    return cases


# ---- 3. a network that hides


def gap(fn):
    net, ball = zoo.load("digits/standard/w16", "cpu"), Linf(0.15)
    x, y = get_data("digits", device="cpu").test.subset(40).tensors()
    hidden = fn(net)
    if not callable(hidden):
        return f"hide returns a {type(hidden).__name__}; give a function from pixels to logits."
    with torch.no_grad(), torch.random.fork_rng(devices=[]), remarks():
        torch.manual_seed(0)
        same = (hidden(x).argmax(1) == net(x).argmax(1)).double().mean().item()
        if same < 0.98:
            return f"it answers {same:.0%} of the clean digits as the network does; 98% are asked."
        attacks = {"lean": lean(ball, sample=0), "Square": square(ball, queries=1500)}
        left = {
            k: (hidden(a(hidden, x, y)).argmax(1) == y).double().mean().item()
            for k, a in attacks.items()
        }
    if left["lean"] - left["Square"] < 0.4:
        told = ", ".join(f"{v:.0%} stand under {k}" for k, v in left.items())
        return f"{told}: 40 points between them are asked."
    return ""


def rounded(net):
    return lambda v: net((v * 64).round() / 64)


def in_steps(net):
    return lambda v: net((v * 32).floor() / 32 + 1 / 64)


def open_book(net):
    return net


def sharper(net):
    return lambda v: 100 * net(v)


EXERCISES = {
    "lean 2": Exercise(
        reference=distances,
        cases=distance_cases,
        right=[in_a_loop],
        wrong=[margins_alone, of_each_class, squared],
        hints=(
            "The margin to class k is linear too: its gradient is the difference of two rows of W.",
            "Divide z[y] - z by the length of these differences; at y both are zero.",
        ),
    ),
    "lean 3": Exercise(
        check=gap,
        solution=rounded,
        right=[in_steps],
        wrong=[open_book, sharper],
        hints=(
            "Which step of a computation has a gradient of zero nearly everywhere?",
            "Round the pixels to so many shades that no digit changes its answer.",
        ),
    ),
}
