"""Exercises of the lesson on a kernel in place of a ball"""

import torch

from spat_nb.learn.exercise import Exercise
from spat_nb.papers.arks import kernel

# ---- 2. the best move


def in_the_exponent(g, sigma):
    return g * sigma**2


def by_a_grid(g, sigma):
    d = torch.linspace(0, 2 * g * sigma**2 + 1e-9, 200001).double()
    return d[(-(d**2) / (2 * sigma**2) + g * d).argmax()].item()


def one_sigma(g, sigma):
    return sigma


def without_the_half(g, sigma):
    return 2 * g * sigma**2


# ---- 3. a small product


def is_far(fn):
    for shape in ((6, 1, 8, 8), (3, 3, 32, 32)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        u = torch.as_tensor(fn(x.clone())).float()
        if u.shape != x.shape:
            return f"its shape is {tuple(u.shape)}, not {shape}."
        if not (0 <= u.min() and u.max() <= 1):
            return "its pixels leave [0,1]."
        if 20 * kernel(u, x, 0.5).max() > 1e-3:
            return f"the largest product is {20 * kernel(u, x, 0.5).max():.3g}."
    return ""


def farthest_corner(x):
    return (x < 0.5).float()


def inverted(x):
    return 1 - x


def one_pixel(x):
    u = x.clone()
    u[:, 0, 0, 0] = 1 - u[:, 0, 0, 0].round()
    return u


def same(x):
    return x


EXERCISES = {
    "arks 2": Exercise(
        reference=in_the_exponent,
        cases=lambda: [(1.0, 0.5), (3.0, 0.2), (0.5, 2.0)],
        tol=1e-4,
        right=[by_a_grid],
        wrong=[one_sigma, without_the_half],
        hints=(
            "A product of two exponentials has one exponent.",
            "-d^2 / (2 sigma^2) + g d: where is its derivative 0?",
        ),
    ),
    "arks 3": Exercise(
        check=is_far,
        solution=farthest_corner,
        right=[inverted],
        wrong=[one_pixel, same],
        hints=(
            "The kernel falls with the distance: go far.",
            "Every pixel can be moved by at least a half.",
        ),
    ),
}
