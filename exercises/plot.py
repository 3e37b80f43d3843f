"""Exercises of the lesson on reading figures"""

import torch

from spat_nb.learn.exercise import Exercise


# ---- 2: shares
def shares(m):
    sums = torch.einsum("ij->i", m)
    sums = torch.where(sums > 0, sums, torch.ones_like(sums))
    return torch.einsum("ij,i->ij", m, sums.reciprocal())


def by_clamping(m):
    return m / m.sum(1, keepdim=True).clamp_min(1e-12)


def of_the_columns(m):
    return m / m.sum(0).clamp_min(1e-12)


def of_the_whole(m):
    return m / m.sum()


def with_zeros_divided(m):
    return m / m.sum(1, keepdim=True)


def counts():
    rows = (
        [[3.0, 1.0], [0.0, 2.0]],
        [[0.0, 0.0], [1.0, 4.0]],
        [[5.0, 1.0, 2.0], [0.0, 7.0, 3.0], [2.0, 2.0, 6.0]],
        [[0.25, 0.5], [0.1, 0.1]],
    )
    return [(torch.tensor(r),) for r in rows]


# ---- 3: whiskers
def whiskers(v, lo, hi):
    return torch.stack([v - lo, hi - v])


def row_by_row(v, lo, hi):
    out = torch.zeros(2, len(v))
    for i in range(len(v)):
        out[0, i], out[1, i] = v[i] - lo[i], hi[i] - v[i]
    return out


def ends(v, lo, hi):
    return torch.stack([lo, hi])


def upper_first(v, lo, hi):
    return torch.stack([hi - v, v - lo])


def in_columns(v, lo, hi):
    return torch.stack([v - lo, hi - v]).T


def intervals():
    three = ([0.62, 0.9, 0.55], [0.52, 0.83, 0.45], [0.71, 0.94, 0.64])
    return [
        tuple(torch.tensor(v) for v in three),
        (torch.tensor([0.5]), torch.tensor([0.5]), torch.tensor([0.75])),
    ]


# ---- 4: the largest change
def worst_change(d):
    best = d[:, 0]
    for k in (1, 2):
        best = torch.where(d[:, k].abs() > best.abs(), d[:, k], best)
    return best


def by_gathering(d):
    return d.gather(1, d.abs().argmax(1, keepdim=True))[:, 0]


def largest_number(d):
    return d.amax(1)


def without_its_sign(d):
    return d.abs().amax(1)


def mean_change(d):
    return d.mean(1)


def changes():
    g = torch.Generator().manual_seed(1)
    return [
        (torch.tensor([-0.1, 0.0, 0.05]).view(1, 3, 1, 1),),
        (torch.tensor([[0.1, -0.2, 0.0], [0.3, -0.1, -0.3]]).view(2, 3, 1, 1),),
        (torch.tensor([[0.1, 0.2, -0.2], [-0.1, 0.1, 0.1]]).view(2, 3, 1, 1),),
        (torch.randn(2, 3, 4, 5, generator=g),),
    ]


# ---- 5: an axis that misleads
def limits(a, b):
    low = (3 * a - b) / 2
    return low, low + (b - low) / 0.9


def by_the_step(a, b):
    step = (b - a) / 2  # length of the first bar
    return a - step, a - step + 3 * step / 0.9


def from_zero(a, b):
    return 0.0, b / 0.9


def from_the_first(a, b):
    return a, a + (b - a) / 0.9


EXERCISES = {
    "plot 2": Exercise(
        reference=shares,
        cases=counts,
        right=[by_clamping],
        wrong=[of_the_columns, of_the_whole, with_zeros_divided],
        hints=(
            "(c,c)/(c,) divides the columns: the sums need the shape (c,1).",
            "A row of zeros has the sum 0; divide it by anything else.",
        ),
    ),
    "plot 3": Exercise(
        reference=whiskers,
        cases=intervals,
        right=[row_by_row],
        wrong=[ends, upper_first, in_columns],
        hints=(
            "matplotlib wants lengths, not ends.",
            "Each is a difference with v, and neither is negative; torch.stack puts one above the"
            " other.",
        ),
    ),
    "plot 4": Exercise(
        reference=worst_change,
        cases=changes,
        right=[by_gathering],
        wrong=[largest_number, without_its_sign, mean_change],
        hints=(
            "Keep the first channel, and let the others challenge it one by one.",
            "A challenger wins where its size is strictly larger; torch.where takes over its value"
            " with the sign.",
        ),
    ),
    "plot 5": Exercise(
        reference=limits,
        cases=lambda: [(50.0, 52.0), (78.0, 80.5), (10.0, 40.0)],
        tol=1e-6,
        right=[by_the_step],
        wrong=[from_zero, from_the_first],
        hints=(
            "The length of a bar is its value minus the lower end: b - low = 3 (a - low).",
            "Then (b - low) shall be nine tenths of (high - low).",
        ),
    ),
}
