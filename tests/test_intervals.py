"""Intervals: of a share, and of the difference of two shares over the same images"""

import math

import torch
from asserting import assert_close, assert_eq, assert_fails

from spat_nb.measure.intervals import wilson
from spat_nb.measure.versus import paired

z = 1.959963984540054


def mask(*runs):
    return torch.cat([torch.full((n,), bool(v)) for v, n in runs])


A = mask((1, 150), (1, 12), (0, 1), (0, 37))
B = mask((1, 150), (0, 12), (1, 1), (0, 37))


def test_the_ends_of_wilson_solve_their_equation_and_published_ones_come_out():
    for k, n in ((3, 10), (50, 100), (1, 36), (9999, 10_000)):
        # the roots
        for p in wilson(k, n):
            assert_close(abs(k / n - p), z * math.sqrt(p * (1 - p) / n), eps=1e-12)
        # the mirror
        assert_close(wilson(n - k, n), [1 - p for p in wilson(k, n)[::-1]], eps=1e-12)
    assert_eq(wilson(0, 36)[0], 0.0)
    assert_close(wilson(0, 36)[1], z * z / (36 + z * z), eps=1e-12)
    for k, n, want in (
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ):
        assert_close(wilson(k, n), want, eps=5e-5)
    # surer is wider
    assert wilson(18, 36, 0.99)[0] < wilson(18, 36, 0.95)[0]
    # nothing seen, nothing known
    assert_eq(wilson(0, 0), (0.0, 1.0))
    assert_fails(lambda: wilson(5, 4), contains="5 successes of 4")
    assert_fails(lambda: wilson(5, 9, 95), contains="level is 95")


def textbook(k, n, z=1.959964):
    "The usual interval, shown to see it fail"
    half = z * math.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


def coverage(interval, n, p):
    "Probability that `interval` of k successes in n tries contains p; for a tensor of p"
    k = torch.arange(n + 1.0)
    ends = torch.tensor([interval(int(i), n) for i in k]).double()
    prob = torch.distributions.Binomial(n, p[:, None].double()).log_prob(k.double()).exp()
    return (prob * ((ends[:, 0] <= p[:, None]) & (p[:, None] <= ends[:, 1]))).sum(1)


def test_wilson_holds_what_it_says_and_the_textbook_does_not():
    p = torch.linspace(0.005, 0.995, 199).double()
    ours, usual = (coverage(f, 36, p) for f in (wilson, textbook))
    assert_close(ours.mean().item(), 0.95, eps=0.01)
    assert ours.min() > 0.8 and usual.min() < 0.2


def test_a_hundred_times_the_images_a_tenth_of_the_width():
    halves = [(hi - lo) / 2 for lo, hi in (wilson(n // 2, n) for n in (100, 10_000))]
    # a hundred times the images, a tenth of the width
    assert_close(halves[0] / halves[1], 10.0, eps=0.2)
    assert halves[0] > 0.09


def test_paired_is_the_formula_and_symmetric():
    d, lo, hi = paired(A, B)
    # the formula, by hand
    assert_close(
        (d, lo, hi),
        (
            11 / 200,
            11 / 202 - z * math.sqrt(14 - 121 / 202) / 202,
            11 / 202 + z * math.sqrt(14 - 121 / 202) / 202,
        ),
        eps=1e-12,
    )
    # the other way round
    assert_close(paired(B, A), (-d, -hi, -lo), eps=1e-12)
    # the two intervals overlap; the difference is not zero
    assert wilson(162, 200)[0] < wilson(151, 200)[1] and lo > 0
    # agreement on 200 images is no certainty
    same = paired(A, A)
    assert same[0] == 0 and same[1] == -same[2] < 0
    assert (
        paired(mask((1, 9)), mask((0, 9)))[0] == 1 and paired(mask((1, 9)), mask((0, 9)))[2] == 1.0
    )
    assert paired(A, B, 0.99)[1] < lo
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert_eq(paired(A[order], B[order]), (d, lo, hi))
    assert_fails(lambda: paired(A, B[1:]), contains="shapes (200,) and (199,)")
    assert_fails(lambda: paired(A, B.int()), contains="torch.int32")
    assert_fails(lambda: paired(A, B, 95), contains="level is 95")
    assert_fails(lambda: paired(A[:0], B[:0]), contains="(0,)")


def test_strangers_would_overlap():
    d, lo, hi = paired(A, B)
    wide = z * math.sqrt(0.81 * 0.19 / 200 + 0.755 * 0.245 / 200)
    assert d - wide < 0 < lo


def by_cells(q_a, q_b, n=36):
    """Probability that the paired interval holds the true difference, and its mean width, where an
    image is 'only A' with probability q_a and 'only B' with q_b
    """
    k = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    b, c = torch.tensor(k).double().T
    logp = (
        math.lgamma(n + 1)
        - torch.lgamma(b + 1)
        - torch.lgamma(c + 1)
        - torch.lgamma(n - b - c + 1)
        + torch.xlogy(b, torch.tensor(q_a))
        + torch.xlogy(c, torch.tensor(q_b))
        + torch.xlogy(n - b - c, torch.tensor(1 - q_a - q_b))
    )
    ends = torch.tensor(
        [paired(mask((1, i), (0, n - i)), mask((0, i), (1, j), (0, n - i - j)))[1:] for i, j in k]
    ).double()
    return (logp.exp() * ((ends[:, 0] <= q_a - q_b) & (q_a - q_b <= ends[:, 1]))).sum().item(), (
        logp.exp() * (ends[:, 1] - ends[:, 0])
    ).sum().item()


def test_the_paired_interval_holds_what_it_says():
    held = {
        (q, r): by_cells(q, r)[0] for q in (0.02, 0.05, 0.1, 0.2, 0.4) for r in (0.02, 0.1, 0.3)
    }
    assert min(held.values()) > 0.93
    strangers = 2 * z * math.sqrt(0.5 / 36)
    assert by_cells(0.05, 0.05)[1] < 0.6 * strangers
