"""The ball of a latent space: projection, steepest step, draws, and its limits"""

import pytest
import torch

from spat_nb import L2, Linf, ce, evaluate, get_data, pgd, zoo
from spat_nb.core.rng import generator
from spat_nb.papers.latent import Latent, LatentAT, principal
from spat_nb.studies.latent import chance
from spat_nb.training.fit import fit

data = get_data("digits", device="cpu", batch_size=64)
x, y = data.test.subset(30).tensors()
basis = principal(data.train.tensors()[0], 6)


def test_the_directions_are_those_of_most_variance():
    v = data.train.tensors()[0].flatten(1).double()
    rows = principal(v, 64)
    assert torch.allclose(rows @ rows.T, torch.eye(64).double(), atol=1e-8)
    spread = ((v - v.mean(0)) @ rows.T).var(0)
    assert (spread.diff() <= 1e-9).all()
    assert spread.sum().item() == pytest.approx(v.var(0).sum().item())
    free = chance(basis)
    assert torch.allclose(free @ free.T, torch.eye(6), atol=1e-5)


def test_all_directions_are_the_plain_ball():
    whole = Latent(0.5, basis=principal(data.train.tensors()[0], 64))
    d = torch.randn(10, 1, 8, 8, generator=generator(0))
    assert torch.allclose(whole.shrink(d), L2(0.5).shrink(d), atol=1e-5)
    assert torch.allclose(whole.ascent(d), L2(0.5).ascent(d), atol=1e-5)


def test_its_projection_is_the_nearest_point():
    ball = Latent(0.4, basis=basis)
    d = torch.randn(1, 1, 8, 8, generator=generator(1))
    near = ball.shrink(d)
    codes = torch.randn(5000, 6, generator=generator(2))
    rivals = ball.shrink((codes @ basis).view(-1, 1, 8, 8))
    assert torch.allclose(ball.shrink(near), near, atol=1e-6)
    assert ((rivals - d).flatten(1).norm(dim=1) >= (near - d).norm() - 1e-5).all()


def test_its_step_is_the_steepest_of_the_code():
    net = zoo.load("digits/pgd_at/w16", "cpu").eval().double()
    xs, rows = x.double(), basis.double()
    code = torch.zeros(30, 6, dtype=torch.double, requires_grad=True)
    h = torch.autograd.grad(ce(net(xs + (code @ rows).view_as(xs)), y).sum(), code)[0]
    pixels = xs.clone().requires_grad_()
    g = torch.autograd.grad(ce(net(pixels), y).sum(), pixels)[0]
    want = ((h / h.norm(dim=1, keepdim=True)) @ rows).view_as(xs)
    # the rows were fitted in float32
    assert torch.allclose(Latent(1.0, basis=rows).ascent(g), want, atol=1e-5)


def test_its_draws_fill_the_latent_ball():
    ball = Latent(2.0, basis=basis)
    d = ball.noise(torch.zeros(4000, 1, 8, 8), generator(0))
    code = d.flatten(1) @ basis.T
    assert torch.allclose((code @ basis).view_as(d), d, atol=1e-5)
    far = code.norm(dim=1) / 2
    assert far.max() <= 1 + 1e-5
    assert (far**6).mean().item() == pytest.approx(0.5, abs=0.02)  # uniform in six dimensions
    assert code.mean(0).abs().max() < 0.06


def test_attacks_run_in_it_and_are_judged():
    net = zoo.load("digits/pgd_at/w16", "cpu").eval()
    ball = Latent(0.8, basis=basis)
    x_adv = pgd(ball, 5)(net, x, y)
    assert ball.norm(x_adv - x).max() <= 0.8 + 1e-5 and 0 <= x_adv.min() and x_adv.max() <= 1
    seen = evaluate(net, (x, y), progress=False, latent=pgd(ball, 5), cube=pgd(Linf(0.15), 5))
    assert seen.accuracy("latent") <= seen.accuracy("clean")


def test_what_is_refused():
    for rows in (None, torch.ones(2, 64)):
        with pytest.raises(ValueError, match="orthonormal"):
            Latent(0.5, basis=rows)
    for k in (0, 65):
        with pytest.raises(ValueError, match=f"k is {k}"):
            principal(data.train.tensors()[0], k)
    with pytest.raises(ValueError, match="eps is -1"):
        LatentAT(-1.0)
    with pytest.raises(ValueError, match="has no ball yet"):
        LatentAT()(zoo.load("digits/pgd_at/w16", "cpu"), x, y, pgd(Linf(0.15), 2))
    with pytest.raises(ValueError, match="k is 65"):
        fit(zoo.load("digits/pgd_at/w16", "cpu"), data.train, LatentAT(k=65), pgd(Linf(0.15), 2), 1)
