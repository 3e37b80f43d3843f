"""ARKS: its code by hand, the two limits, and what its kernel is"""

import math

import pytest
import torch
from torch.nn import functional as F

from spat_nb import Linf, get_data, pgd, pgd_at, standard, zoo
from spat_nb.papers.arks import arks, kernel
from spat_nb.studies.arks import study
from spat_nb.training.costs import passes

x, y = get_data("digits", device="cpu").test.subset(30).tensors()


@pytest.fixture
def net():
    return zoo.load("digits/pgd_at/w16", "cpu").eval()


def by_hand(net, x, y, sigma, steps, lr):
    "`epoch_ARKS` of christinakouridi/arks, with the whole kernel of which it uses the diagonal"
    u = x.clone().requires_grad_()
    opt = torch.optim.Adam([u], lr=lr, amsgrad=True)

    def product():
        k = torch.exp(torch.cdist(u.flatten(1), x.flatten(1)) ** 2 * (-0.5 / sigma**2))
        return torch.dot(torch.diag(k), F.cross_entropy(net(u), y, reduction="none")) / len(y)

    for _ in range(steps):
        opt.zero_grad()
        (-product()).backward()
        opt.step()
    u = u.detach()
    return u, product()


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_it_is_its_code(net, sigma):
    rule = arks(sigma, steps=8, lr=0.02)
    net, xs = net.double(), x.double()
    u, loss = by_hand(net, xs, y, sigma, 8, 0.02)
    assert torch.allclose(rule.worst(net, xs, y), u, atol=1e-6)
    assert torch.allclose(rule(net, xs, y), loss, atol=1e-6)


def test_a_wide_kernel_is_ascent_without_a_wall(net):
    u = x.clone().requires_grad_()
    adam = torch.optim.Adam([u], 0.01, amsgrad=True, maximize=True)
    for _ in range(5):
        u.grad = torch.autograd.grad(F.cross_entropy(net(u), y), u)[0]
        adam.step()
    for sigma in (1e6, math.inf):
        mine = arks(sigma, steps=5).worst(net, x, y)
        assert torch.allclose(mine, u.detach(), atol=1e-5)
        assert torch.equal(kernel(mine, x, sigma), torch.ones(30))
    assert (u.min() < 0 or u.max() > 1) and ((u - x).abs() < 0.06).all()


def test_a_narrow_kernel_is_plain_training_in_theory_only(net):
    plain = standard(net, x, y).item()
    assert arks(1e-3, steps=0)(net, x, y).item() == pytest.approx(plain, abs=1e-6)
    # the best of a line of images: at x itself
    direction = torch.autograd.grad(F.cross_entropy(net(v := x.clone().requires_grad_()), y), v)[0]
    line = [x + t * direction.sign() for t in torch.linspace(0, 0.1, 41)]
    rule = arks(1e-3)
    with torch.no_grad():
        best = torch.stack([rule.product(net, u, x, y) for u in line]).amax(0)
    assert best.mean().item() == pytest.approx(plain, abs=1e-4)
    # steps of a fixed length leave so narrow a kernel, and all weight is lost
    assert rule(net, x, y).item() < 1e-6


def test_the_images_are_data(net):
    rule = arks(0.5, steps=2)
    loss = rule(net, x, y)
    u = rule.worst(net, x, y)
    grads = torch.autograd.grad(loss, list(net.parameters()))
    want = torch.autograd.grad(
        (kernel(u, x, 0.5) * F.cross_entropy(net(u), y, reduction="none")).mean(),
        list(net.parameters()),
    )
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, want))
    with pytest.raises(ValueError, match="sigma is 0"):
        arks(0.0)


def test_its_rows_take_the_work_of_pgd(net):
    recipe = study.recipe("laptop", "ARKS 0.5")
    made = recipe.made("objective")()
    usual = study.recipe("laptop", "PGD-AT")
    attack = pgd(Linf(0.15), usual.made("attack").keywords["steps"])
    mine = passes(made, None, net, x, y)
    assert mine == pytest.approx(passes(pgd_at, attack, net, x, y), rel=0.02)
    assert made.steps * made.lr == pytest.approx(0.15)
