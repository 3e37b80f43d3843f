"""Balls: projections are nearest, steps are the best there are, draws are even, and the mistakes
that change a radius are what the lesson says they are
"""

import dataclasses
import math
from functools import partial

import pytest
import torch
from torch import tensor

from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.threat import Ball
from spat_nb.core.checks import check_images
from spat_nb.core.rng import generator, seed_everything

close = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
near = partial(torch.testing.assert_close, rtol=0, atol=1e-5)

X = tensor([[0.98, 0.98, 0.50]])
Z = tensor([[1.3, 0.70, 0.52]])  # above the box, below the cube, inside both
D = tensor([[0.3, -0.4, 0.0]])
G = tensor([[3.0, -4.0, 0.0]])
FAR = torch.randn(50, 1, 8, 8, dtype=torch.float64, generator=generator(0))


class Darker(Ball):
    "Pixels may only get darker"

    def norm(self, d):
        return d.flatten(1).abs().amax(1)

    def shrink(self, d):
        return d.clamp(-self.eps, 0)


def nearest_gap(ball, d):
    "How far `shrink(d)` is from being nearest (b,): 0 for the projection"
    p = ball.shrink(d)
    r = d - p
    return ball.eps * (r * ball.ascent(r)).flatten(1).sum(1) - (r * p).flatten(1).sum(1)


def gain(ball, g):
    "What the step of `ball` gains on a linear function with gradient `g`"
    return (g * ball.ascent(g)).flatten(1).sum(1)


# ---- the outline
def test_the_outline_cuts_at_its_box():
    torch.testing.assert_close(Darker(0.1).project(Z, X), tensor([[0.98, 0.88, 0.50]]))
    assert torch.equal(Darker(0.0).project(Z, X), X)
    assert Darker(0.1, lo=0.9).project(Z, X).min() == tensor(0.9)


def test_inside_asks_for_ball_and_box():
    moved = torch.cat([X, X - 0.1, X - 0.2, X + 0.1])
    assert Darker(0.1).inside(moved, X.expand(4, -1)).tolist() == [True, True, False, False]


def test_balls_are_equal_by_value_and_frozen():
    assert Darker(0.1) == Darker(0.1)
    assert Darker(0.1) != Darker(0.2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ball(0.1).eps = 0.2


@pytest.mark.parametrize("eps", [-0.1, math.nan, math.inf])
def test_a_radius_is_a_finite_number(eps):
    with pytest.raises(ValueError, match=f"eps is {eps}"):
        Ball(eps)


@pytest.mark.parametrize("make", [Linf, L1])
def test_a_negative_radius_is_refused(make):
    with pytest.raises(ValueError, match="eps is -"):
        make(-0.1)


def test_a_box_has_a_lower_and_an_upper_side():
    with pytest.raises(ValueError, match="lo must lie below hi"):
        Ball(0.1, lo=1.0, hi=0.0)


def test_the_outline_has_no_norm():
    with pytest.raises(NotImplementedError, match="Ball is an outline"):
        Ball(0.1).project(Z, X)


def test_a_share_lies_between_0_and_1():
    with pytest.raises(ValueError, match="share is 2"):
        L1(1.0, share=2)


# ---- projections
def test_linf_clamps_each_pixel():
    ball = Linf(0.1)
    p = ball.project(Z, X)
    near(p, tensor([[1.0, 0.88, 0.52]]))
    assert torch.equal(ball.project(p, X), p)
    others = ball.uniform(X.expand(1000, -1), generator(0))
    assert ball.inside(others, X.expand(1000, -1)).all() and ball.inside(p, X).all()
    assert ((others - Z).norm(dim=1) >= (p - Z).norm() - 1e-6).all()


def test_shrink_by_hand():
    assert torch.equal(Linf(0.35).shrink(D), D.clamp(-0.35, 0.35))
    near(L2(0.35).shrink(D), D * 0.35 / 0.5)
    near(L1(0.35).shrink(D), D.sign() * (D.abs() - 0.175).clamp_min(0))
    near(L1(0.5).shrink(tensor([[-0.3, 0.1, 0.6]])), tensor([[-0.1, 0.0, 0.4]]))
    near(L1(0.5).shrink(tensor([[0.6, 0.3, 0.1]])), tensor([[0.4, 0.1, 0.0]]))


def test_norms_and_gains_by_hand():
    by_hand = {Linf(1.0): (4.0, 7.0), L2(1.0): (5.0, 5.0), L1(1.0, share=0): (7.0, 4.0)}
    for ball, (norm, best) in by_hand.items():
        assert (ball.norm(G).item(), gain(ball, G).item()) == (norm, best)


def test_no_gradient_no_step_and_zero_stays_zero():
    nothing = torch.zeros(1, 3)
    assert Linf(0.1).ascent(nothing).abs().sum() == 0
    assert L2(0.1).shrink(nothing).abs().sum() == 0
    assert L2(0.1).ascent(nothing).abs().sum() == 0


def test_l2_is_the_nearest_point():
    ball = L2(2.0)
    p = ball.shrink(FAR)
    assert (ball.norm(p) <= 2 + 1e-12).all()
    assert nearest_gap(ball, FAR).abs().max() < 1e-12
    assert nearest_gap(ball, 2 * FAR).abs().max() < 1e-12
    assert (FAR - p).norm() < (FAR - 0.99 * p).norm()
    close(ball.shrink(p), p)


@pytest.mark.parametrize("ball", [L2(20.0), L1(1000.0)])
def test_what_is_inside_stays_bit_for_bit(ball):
    assert torch.equal(ball.shrink(FAR), FAR)


def shrink_by_bisection(d, eps):
    a = d.flatten(1).abs()
    lo, hi = torch.zeros(len(a), 1, dtype=a.dtype), a.amax(1, keepdim=True)
    for _ in range(100):
        t = (lo + hi) / 2
        big = (a - t).clamp_min(0).sum(1, keepdim=True) > eps
        lo, hi = torch.where(big, t, lo), torch.where(big, hi, t)
    return (d.flatten(1).sign() * (a - hi).clamp_min(0)).view_as(d)


@pytest.mark.parametrize("eps", [0.0, 0.1, 2.0, 30.0, 1000.0])
def test_l1_is_the_nearest_point(eps):
    ball = L1(eps, share=0)
    p = ball.shrink(FAR)
    close(p, shrink_by_bisection(FAR, eps))
    assert (ball.norm(p) <= eps + 1e-12).all()
    assert nearest_gap(ball, FAR).abs().max() < 1e-11
    close(ball.shrink(p), p)


def test_l1_of_radius_0_lets_nothing_through():
    "Equal pixels: rounding once let some through"
    for c in torch.rand(200, generator=generator(1)):
        assert L1(0.0).shrink(c.expand(1, 192)).abs().max() == 0


def test_l1_moves_a_share_of_the_pixels():
    u = L1(1.0, share=0.1).ascent(FAR)  # 6 of 64 pixels
    assert (u != 0).flatten(1).sum(1).unique().tolist() == [6]
    near(L1(1.0).norm(u), torch.ones(50, dtype=torch.float64))
    largest = FAR.flatten(1).abs().topk(6, 1).values
    near((FAR * u).flatten(1).sum(1), largest.mean(1))


def test_ball_and_box_do_not_commute():
    x, z, ball = tensor([[0.7, 0.2]]), tensor([[1.5, 1.0]]), L2(0.5)
    ball_first = ball.project(z, x)
    box_first = x + ball.shrink(z.clamp(0, 1) - x)
    assert ball.inside(ball_first, x).all() and ball.inside(box_first, x).all()
    assert not torch.allclose(ball_first, box_first)
    axis = torch.linspace(0, 1, 1001)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(-1, 2)
    grid = grid[ball.inside(grid, x.expand_as(grid))]
    nearest = (grid - z).norm(dim=1).min()
    assert nearest < min((ball_first - z).norm(), (box_first - z).norm()) - 0.02


def nearest_in_both(z, x, ball):
    "The nearest point of L2 ball and box, clamp(x + s (z-x), 0, 1), by bisection over s"

    def p(s):
        return (x + s[:, None] * (z - x)).clamp(0, 1)

    lo, hi = torch.zeros(len(x), dtype=x.dtype), torch.ones(len(x), dtype=x.dtype)
    all_of_it = ball.norm(p(hi) - x) <= ball.eps
    for _ in range(60):
        s = (lo + hi) / 2
        out = ball.norm(p(s) - x) > ball.eps
        lo, hi = torch.where(out, lo, s), torch.where(out, s, hi)
    return p(torch.where(all_of_it, torch.ones_like(lo), lo))


def dykstra(z, x, ball, rounds=3000):
    "Nearest point of two convex sets: project on each in turn, handing back what each took away"
    p, u, v = z, torch.zeros_like(z), torch.zeros_like(z)
    for _ in range(rounds):
        q = x + ball.shrink(p + u - x)
        u = p + u - q
        p = (q + v).clamp(0, 1)
        v = q + v - p
    return p


def test_project_is_not_the_nearest_point_of_ball_and_box():
    x = torch.rand(6, 20, dtype=torch.float64, generator=generator(5))
    z = x + 0.6 * torch.randn(6, 20, dtype=torch.float64, generator=generator(6))
    for eps in (0.5, 1.5, 9.0):
        torch.testing.assert_close(
            nearest_in_both(z, x, L2(eps)), dykstra(z, x, L2(eps)), rtol=0, atol=1e-5
        )
    best = (nearest_in_both(z, x, L2(0.5)) - z).norm(dim=1)
    ours = (L2(0.5).project(z, x) - z).norm(dim=1)
    assert (best <= ours * (1 + 1e-9)).all() and (1 - best / ours).mean() > 0


# ---- steps
DUALS = {
    Linf(1.0): lambda g: g.flatten(1).abs().sum(1),
    L2(1.0): lambda g: g.flatten(1).pow(2).sum(1).sqrt(),
    L1(1.0, share=0): lambda g: g.flatten(1).abs().amax(1),
}


@pytest.mark.parametrize("ball", DUALS, ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("shape", [(1, 5), (7, 3), (8, 3, 8, 8)])
def test_the_best_step_gains_the_dual_norm(ball, shape):
    "With equal entries L2's and Linf's best steps coincide up to scale; these differ in size"
    g = torch.randn(shape, dtype=torch.float64, generator=generator(2))
    u = ball.ascent(g)
    torch.testing.assert_close(ball.norm(u), torch.ones(len(g), dtype=torch.float64))
    torch.testing.assert_close(gain(ball, g), DUALS[ball](g))
    for seed in range(20):
        other = (g * ball.noise(g, generator(seed))).flatten(1).sum(1)
        assert (other <= gain(ball, g) + 1e-12).all()
    assert torch.equal(ball.ascent(0 * g), 0 * g)


# ---- draws
def ks(u):
    "Largest gap between the cumulative curve of the draws `u` and that of uniform draws in [0,1]"
    u = u.double().sort().values
    i = torch.arange(len(u) + 1) / len(u)
    return torch.maximum((u - i[:-1]).abs(), (u - i[1:]).abs()).max().item()


N = 20_000
LIMIT = 3 / N**0.5  # honest draws exceed it once in thirty million times (Kolmogorov, Smirnov)
BALLS = [Linf(0.3), L2(0.3), L1(0.3)]


@pytest.mark.parametrize("n", [1, 2, 3, 64])
@pytest.mark.parametrize("ball", BALLS, ids=lambda b: type(b).__name__)
def test_draws_are_even(ball, n):
    "(|d|/eps)^n is uniform, and no side is preferred; in L1, P(|d_1| > t eps) = (1-t)^n"
    v = ball.noise(torch.zeros(N, n, dtype=torch.float64), generator(n))
    assert ks((ball.norm(v) / 0.3) ** n) < LIMIT
    assert (v.mean(0).abs() < 5 * v.std(0) / N**0.5).all()
    if isinstance(ball, L1):
        assert ks((1 - v[:, 0].abs() / 0.3) ** n) < LIMIT


def test_an_even_radius_is_no_even_draw():
    v = L2(1.0).noise(torch.zeros(N, 2), generator(0))
    assert ks(v.norm(dim=1)) > 10 * LIMIT
    rng = generator(0)
    wrong = L2(1.0).ascent(torch.randn(800, 2, generator=rng)) * torch.rand(800, 1, generator=rng)
    right = L2(1.0).noise(torch.zeros(800, 2), generator(0))
    assert abs((right.norm(dim=1) < 0.5).float().mean() - 0.25) < 0.05
    assert abs((wrong.norm(dim=1) < 0.5).float().mean() - 0.5) < 0.05


@pytest.mark.parametrize("ball", [L2(1.0), L1(1.0)], ids=lambda b: type(b).__name__)
def test_draws_are_those_of_the_cube_that_fall_into_the_ball(ball):
    cube = torch.rand(8 * N, 3, generator=generator(3)) * 2 - 1
    slow = cube[ball.norm(cube) <= 1][:N, 0].sort().values
    fast = ball.noise(torch.zeros(N, 3), generator(4))[:, 0].contiguous()
    # both curves are samples
    assert ks(torch.searchsorted(slow, fast) / len(slow)) < LIMIT * (1 + N / len(slow)) ** 0.5


def test_linf_draws_have_mean_and_variance_of_a_uniform():
    u = Linf(0.1).noise(torch.zeros(1000, 8), generator(0))
    assert u.abs().max() <= 0.1
    assert u.mean().abs() < 0.002 and (u.var() - 0.1**2 / 3).abs() < 1e-4


def test_in_many_dimensions_draws_lie_at_the_rim():
    r = L2(1.0).norm(L2(1.0).noise(torch.zeros(2000, 3, 8, 8), generator(0)))
    assert abs(r.mean() - 192 / 193) < 1e-3
    length = L2(1.0).norm(Linf(0.1).noise(torch.zeros(2000, 192), generator(0))).mean()
    assert abs(length - 0.8) < 0.01


# ---- what holds in every ball
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (1, 3), (5, 1, 8, 8), (3, 3, 32, 32)])
def test_every_ball(shape, dtype):
    seed_everything(0)
    state = torch.random.get_rng_state()
    n = torch.Size(shape[1:]).numel()
    x = torch.rand(shape, dtype=dtype, generator=generator(n))
    wild = x + torch.randn(shape, dtype=dtype, generator=generator(n + 1))
    balls = [Linf(0.1), L2(0.1 * n**0.5), L1(0.1 * n), L1(3e-3 * n), Linf(0.0), L2(0.0), L1(0.0)]
    for ball in balls:
        for v in (ball.project(wild, x), ball.uniform(x, generator(1))):
            assert ball.inside(v, x).all() and v.shape == x.shape and v.dtype == dtype
            assert v.numel() == 0 or (v.min() >= 0 and v.max() <= 1)
            torch.testing.assert_close(ball.project(v, x), v, rtol=0, atol=1e-6)
            if ball.eps == 0:
                assert torch.equal(v, x)
        assert torch.equal(ball.uniform(x, generator(1)), ball.uniform(x, generator(1)))
        if len(x):
            assert not ball.inside(x + 2, x).any()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_inside_allows_for_rounding_in_each_pixel():
    "Each pixel of x+d is rounded to float32; in L1 the roundings of all pixels add up"
    x = 0.3 + 0.4 * torch.rand(64, 3, 32, 32, generator=generator(0))
    ball = L1(12.0)
    p = ball.project(x + 0.03 * torch.rand(x.shape, generator=generator(1)), x)
    assert (ball.norm(p - x) - ball.eps > 1e-6).any()
    assert ball.inside(p, x).all()
    assert not ball.inside(x + 1.01 * (p - x), x).any()


# ---- normalised images
def test_a_normalised_radius_is_another_radius():
    sigma = tensor([0.247, 0.2435, 0.2616])
    assert 1.07 < sigma[2] / sigma[1] < 1.08 and 3.8 < 1 / sigma.mean() < 4.1


def test_the_box_destroys_normalised_images():
    x = torch.rand(16, 3, 8, 8, generator=generator(0))
    normalised = (x - 0.5) / tensor([0.247, 0.2435, 0.2616]).view(3, 1, 1)
    assert (Linf(0.0).project(normalised, normalised) != normalised).float().mean() > 0.6
    assert torch.equal(Linf(0.0).project(x, x), x)
    with pytest.raises(ValueError, match="do not normalise before the model"):
        check_images(normalised)


def test_a_ball_of_ones_own():
    class Brightness(Ball):
        "All pixels of an image move by the same amount"

        def norm(self, d):
            return d.flatten(1).abs().amax(1)

        def shrink(self, d):
            mean = d.flatten(1).mean(1).clamp(-self.eps, self.eps)
            return mean.view(-1, *[1] * (d.ndim - 1)).expand_as(d)

        def noise(self, x, generator=None):
            return self.shrink(self.eps * torch.randn(x.shape, generator=generator))

    x = torch.full((4, 1, 2, 2), 0.5)
    assert Brightness(0.2).inside(Brightness(0.2).uniform(x, generator(0)), x).all()
