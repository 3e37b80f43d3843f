"""Exercises of the lesson on paired comparison"""

import math

import torch

from spat_nb import paired, wilson
from spat_nb.learn.exercise import Exercise

# ---- 2. the sign test


def sign_test(right_a, right_b):
    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    m, s = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(math.comb(m, i) for i in range(s + 1)) / 2**m)


def with_scipy(right_a, right_b):
    from scipy.stats import binomtest

    m = int((right_a ^ right_b).sum())
    return binomtest(int((right_a & ~right_b).sum()), m).pvalue if m else 1.0


def one_sided(right_a, right_b):
    return sign_test(right_a, right_b) / 2


def of_all_images(right_a, right_b):
    m, s = len(right_a), int(min(right_a.sum(), right_b.sum()))
    return min(1.0, 2 * sum(math.comb(m, i) for i in range(s + 1)) / 2**m)


def mask(*runs):
    return torch.cat([torch.full((n,), bool(v)) for v, n in runs])


def sign_cases():
    A = mask((1, 150), (1, 12), (0, 1), (0, 37))
    B = mask((1, 150), (0, 12), (1, 1), (0, 37))
    g = torch.Generator().manual_seed(0)
    x = torch.rand(2, 90, generator=g) < torch.tensor([[0.8], [0.65]])
    return [
        (A, B),
        (B, A),
        (A, A),
        (mask((1, 3), (0, 3)), mask((0, 3), (1, 3))),
        (mask((1, 4), (0, 1)), mask((0, 4), (0, 1))),
        (x[0], x[1]),
        (x[1], x[0]),
    ]


# ---- 3. a narrow win


def refutes(fn):
    for n in (40, 200, 1000):
        a, b = fn(n)
        if a.shape != (n,) or b.shape != (n,) or a.dtype != torch.bool or b.dtype != torch.bool:
            return f"narrow_win({n}) should return two bool masks of {n} images."
        if 2 * a.sum() != n:
            return f"A is right on {int(a.sum())} of {n} images, not on half of them."
        if paired(a, b)[1] <= 0:
            return f"with {n} images the paired interval begins at {paired(a, b)[1]:.4f}."
        if wilson(int(a.sum()), n)[0] > wilson(int(b.sum()), n)[1]:
            return f"with {n} images the two Wilson intervals do not overlap."
        if (a ^ b).sum() > 5:
            return f"A and B differ on {int((a ^ b).sum())} of {n} images; fewer are enough."
    return ""


def narrow_win(n):
    image = torch.arange(n)
    return image < n // 2, image < n // 2 - 5


def at_the_end(n):
    a, b = torch.zeros(2, n, dtype=torch.bool)
    a[n // 2 :] = True
    b[n // 2 + 5 :] = True
    return a, b


def generous(n):
    image = torch.arange(n)
    return image < n // 2, image < n // 2 - 8


EXERCISES = {
    "paired 2": Exercise(
        reference=sign_test,
        cases=sign_cases,
        right=[with_scipy],
        wrong=[one_sided, of_all_images],
        hints=(
            "Images on which both are right, or both wrong, say nothing. Count the two other kinds"
            " with & and ~.",
            "m is the sum of both counts and s the smaller one; the factor 2 is for the two sides,"
            " and no probability exceeds 1.",
        ),
    ),
    "paired 3": Exercise(
        check=refutes,
        solution=narrow_win,
        right=[at_the_end],
        wrong=[generous],
        hints=(
            "Which images widen the interval of the difference? None on which only B is right is of"
            " use.",
            "Let B be right on a part of A's images, and try how many of them it must miss.",
        ),
    ),
}
