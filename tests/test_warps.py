"""Rotations, shifts, tints and smooth noise: what is rendered, the closed forms, the same engine in
parameters; and corruptions that are the same for the same image
"""

from functools import partial

import pytest
import torch

from spat_nb import (
    L2,
    Colour,
    Linf,
    Rotation,
    Shift,
    Smooth,
    apgd,
    corrupted,
    evaluate,
    get_data,
    judge,
    margin,
    parametric,
    pgd,
    spec,
    trust,
    zoo,
)
from spat_nb.attacks.families import Family
from spat_nb.attacks.parametric import ParameterBall, in_parameters
from spat_nb.core.rng import generator
from spat_nb.data.corruptions import KINDS
from spat_nb.measure.corruptions import corruption_table

rand = partial(torch.rand, dtype=torch.float64)
FAMILIES = [Rotation(30), Shift(2), Colour(), Smooth(0.1)]
near = partial(torch.testing.assert_close, rtol=0, atol=1e-9)
W = torch.randn(3, 8, 8, dtype=torch.float64, generator=generator(3))
X = 0.4 + 0.2 * rand(5, 3, 8, 8, generator=generator(4))
Y = torch.zeros(5, dtype=torch.long)


def linear(x):
    up = (x * W.to(x)).flatten(1).sum(1)
    return torch.stack([-up, up], 1)


def gained(x_adv):
    return (linear(x_adv) - linear(X))[:, 1]


# ---- what is rendered
@pytest.mark.parametrize("family", FAMILIES, ids=spec.text)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 9)])
def test_no_change_is_the_image_and_all_stay_in_the_box(family, shape):
    x = rand(20, *shape, generator=generator(0))
    t = torch.zeros(20, family.count(shape), dtype=torch.float64)
    near(family.render(x, t), x)
    v = family.render(x, 2 * rand(t.shape, generator=generator(1)) - 1)
    assert v.shape == x.shape and v.min() >= 0 and v.max() <= 1
    assert (v != x).flatten(1).any(1).all()


def test_a_quarter_turn_and_whole_shifts():
    x = rand(2, 3, 8, 8, generator=generator(0))
    one = torch.ones(2, 1, dtype=torch.float64)
    near(Rotation(90).render(x, one), x.rot90(1, (2, 3)))
    near(Rotation(90).render(x, -one), x.rot90(-1, (2, 3)))
    down, right = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    moved = Shift(2).render(x, down.expand(2, 2))
    near(moved[:, :, 2:], x[:, :, :-2])
    assert moved[:, :, :2].abs().max() < 1e-9  # black comes in
    near(Shift(1).render(x, right.expand(2, 2))[..., 1:], x[..., :-1])


def test_a_rotation_of_a_wide_image_keeps_lengths():
    # a point two pixels right of the centre comes to lie two pixels above it, in any format
    x = torch.zeros(1, 1, 7, 13, dtype=torch.float64)
    x[0, 0, 3, 8] = 1
    v = Rotation(90).render(x, torch.ones(1, 1, dtype=torch.float64))
    assert v.flatten().argmax().item() == 1 * 13 + 6 and abs(v.max().item() - 1) < 1e-9


def test_smooth_noise_stays_in_linf_and_is_smooth():
    f = Smooth(0.1, sigma=2.0)
    x = torch.full((20, 1, 16, 16), 0.5, dtype=torch.float64)
    t = 2 * rand(20, 256, generator=generator(0)) - 1
    v = f.render(x, t)
    assert Linf(0.1).inside(v, x).all()
    corner = f.render(x, torch.ones_like(t))
    assert Linf(0.1).inside(corner, x).all() and (corner - x).max() > 0.09  # the middle gets there
    d = v - x

    def rough(d):
        return d.diff(dim=3).square().mean() / d.square().mean()

    assert rough(d) < 0.2 * rough(t.view_as(d))


# ---- the cube of parameters
@pytest.mark.parametrize("family", FAMILIES, ids=spec.text)
def test_in_parameters_it_is_a_cube(family):
    model, rows, ball = in_parameters(linear, X, family)
    torch.testing.assert_close(model(rows), linear(X))
    z = rows + torch.randn(rows.shape, dtype=torch.float64, generator=generator(0))
    p = ball.project(z, rows)
    assert ball.inside(p, rows).all() and torch.equal(ball.project(p, rows), p)
    draws = ball.uniform(rows.repeat(200, 1), generator(1))
    assert ball.inside(draws, rows.repeat(200, 1)).all()
    gap = (p - z).norm(dim=1).repeat(200)
    assert ((draws - z.repeat(200, 1)).norm(dim=1) >= gap - 1e-12).all()
    assert not ball.inside(rows + 0.01, rows).any()  # pixels may not move


def test_a_knob_moves_and_a_pixel_does_not():
    ball, d = ParameterBall(0.5, count=2), torch.tensor([[0.3, -0.9, 0.4]])
    assert ball.norm(d).item() == pytest.approx(0.9)
    near(ball.shrink(d), torch.tensor([[0.3, -0.5, 0.0]]))
    assert ball.ascent(d).tolist() == [[1, -1, 0]]


# ---- closed forms
def optimum(family):
    if isinstance(family, Colour):
        tint = family.gain * (W * X).sum((2, 3)).abs() + family.bias * W.sum((1, 2)).abs()
        return tint.sum(1)
    if isinstance(family, Smooth):
        return family.eps * family.blur(W[None]).abs().sum().expand(5)
    m = family.count((3, 8, 8))
    axis = torch.linspace(-1, 1, 401 if m == 1 else 61, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * m).view(-1, m)
    return torch.stack([gained(family.render(X, p.expand(5, m))) for p in points]).amax(0)


CLOSED = [Colour(0.1, 0.05), Colour(0.0, 0.1), Smooth(0.1, 1.5), Rotation(20), Shift(1)]


@pytest.mark.parametrize("family", CLOSED, ids=spec.text)
def test_an_attack_meets_the_optimum_on_a_linear_model(family):
    found = gained(parametric(family, steps=20, grid=100, generator=generator(0))(linear, X, Y))
    best = optimum(family)
    assert (found >= 0.95 * best).all() and (found <= 1.01 * best + 1e-9).all(), found / best


def test_without_a_step_the_grid_is_all():
    found = gained(parametric(Rotation(20), steps=0, grid=9)(linear, X, Y))
    points = torch.linspace(-1, 1, 9, dtype=torch.float64)
    scan = [gained(Rotation(20).render(X, p.expand(5, 1))) for p in points]
    near(found, torch.stack(scan).amax(0))
    more = gained(parametric(Rotation(20), steps=10, grid=9)(linear, X, Y))
    assert (more >= found - 1e-12).all()


def test_the_other_attacks_of_the_house_do_it_too():
    model, rows, ball = in_parameters(linear, X, Colour(0.1, 0.05))
    for attack in (pgd(ball, 20, loss=margin, best=True), apgd(ball, 20, loss=margin)):
        found = (model(attack(model, rows, Y)) - model(rows))[:, 1]
        assert (found >= 0.95 * optimum(Colour(0.1, 0.05))).all()


# ---- judges
@pytest.mark.parametrize("family", FAMILIES, ids=spec.text)
def test_every_judge_takes_the_family(family):
    net = zoo.load("digits/pgd_at/w16", "cpu")
    x, y = (t[:24] for t in get_data("digits", device="cpu").test.tensors())
    kept = x.clone()
    attack = parametric(family, steps=3, grid=9, generator=generator(0))
    assert spec.make(spec.text(family)) == family
    record = evaluate(net, (x, y), a=attack, progress=False)
    assert record.accuracy("a") <= record.accuracy("clean") and torch.equal(x, kept)
    typed = f"parametric({spec.text(family)}, steps=2)"
    report = judge(net, (x, y), Linf(0.1), attacks=typed, progress=False)
    (told,) = report.attacks.values()
    assert told == f"parametric(family={spec.text(family)}, steps=2)"
    model, rows, ball = in_parameters(net, x, family)
    card = trust(model, (rows, y), ball, cost=0.1, progress=False)
    of = {c.name: c for c in card.checks}
    assert of["G1 ball"].figure == 0 and of["G1 box"].figure == 0
    assert of["G5 grey"].verdict == "not asked" and "same grey one" in of["G5 grey"].note
    assert of["G6 square"].verdict == "not asked" and of["G5 falls"].figure is not None


def test_a_float64_function_and_a_network_in_half_are_attacked():
    x_adv = parametric(Shift(1), steps=2)(linear, X, Y)
    assert x_adv.dtype == torch.float64
    net = zoo.load("digits/standard/w16", "cpu").bfloat16()
    x, y = (t[:8] for t in get_data("digits", device="cpu").test.tensors())
    assert parametric(Rotation(10), steps=2)(net, x, y).dtype == torch.float32


def test_what_is_refused():
    for make, said in (
        (lambda: Rotation(0), "degrees is 0"),
        (lambda: Shift(-1), "pixels is -1"),
        (lambda: Colour(0, 0), "gain is 0 and bias 0"),
        (lambda: Smooth(0.1, 0), "sigma is 0"),
        (lambda: parametric(Rotation(5), grid=-1), "grid is -1"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
    with pytest.raises(TypeError, match="give a family"):
        parametric(L2(0.5))
    with pytest.raises(NotImplementedError, match="outline"):
        Family().render(X, Y)


# ---- corruptions
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 9, 14)])
def test_the_same_image_gets_the_same_corruption(kind, shape):
    x = torch.rand(6, *shape, generator=generator(0))
    v = corrupted(x, kind, 3)
    assert v.shape == x.shape and v.dtype == x.dtype and v.min() >= 0 and v.max() <= 1
    assert torch.equal(v, corrupted(x, kind, 3))
    assert torch.equal(v[2:4], corrupted(x[2:4], kind, 3, first=2))
    far = [(corrupted(x, kind, s) - x).square().mean().item() for s in range(1, 6)]
    assert far == sorted(far) and far[0] > 0, far  # a higher severity moves further
    drawn = not torch.equal(corrupted(x, kind, 3, seed=1), v)
    assert drawn == (kind in ("noise", "salt", "fog"))


def test_kinds_draw_their_own_noise():
    x = torch.full((1, 1, 8, 8), 0.5)
    assert not torch.equal(corrupted(x, "noise", 1) > 0.5, corrupted(x, "salt", 5) > 0.5)


def test_a_table_of_corruptions_is_what_evaluate_says():
    net = zoo.load("digits/standard/w16", "cpu")
    x, y = (t[:40] for t in get_data("digits", device="cpu").test.tensors())
    table = corruption_table(net, [(x[:25], y[:25]), (x[25:], y[25:])], ("noise", "jpeg"), (1, 5))
    assert [*table.index] == ["noise", "jpeg", "mean"] and [*table.columns] == [1, 5, "mean"]
    same = evaluate(net, (corrupted(x, "noise", 5), y), progress=False).accuracy()
    assert table.loc["noise", 5] == pytest.approx(same)
    assert table.loc["mean", "mean"] == pytest.approx(
        table.loc[["noise", "jpeg"], [1, 5]].mean().mean()
    )


def test_corruptions_refuse():
    x = torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match="kind is 'rain'; the kinds are noise"):
        corrupted(x, "rain")
    with pytest.raises(ValueError, match="severity is 6"):
        corrupted(x, "noise", 6)
    with pytest.raises(ValueError, match="give images"):
        corrupted(x.flatten(1), "noise")
