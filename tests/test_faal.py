"""The worst mixture of classes: conditions of its optimum, limits, another optimiser, and FAAL by
hand
"""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from spat_nb import Linf, at_x, get_data, pgd, pgd_at, zoo
from spat_nb.classwise.faal import faal, worst_mixture
from spat_nb.core.rng import generator

data = get_data("digits", device="cpu", batch_size=64)
x, y = data.test.subset(60).tensors()
inner = pgd(Linf(0.15), 3, start=at_x)


def far(p):
    "KL(uniform || p)"
    return -(len(p) * p).log().mean().item()


def draws(c=10):
    return [torch.randn(c, generator=generator(s), dtype=torch.float64) for s in range(5)]


@pytest.mark.parametrize("r", [1e-3, 0.5, 3.0])
def test_conditions_of_an_optimum(r):
    for a in draws():
        p = worst_mixture(a, r)
        assert abs(p.sum().item() - 1) < 1e-12 and (p > 0).all()
        assert abs(far(p) - r) < 1e-7 * max(r, 1)  # on the boundary of the set
        # 1/p_k is mu - a_k up to a factor: the steps between classes are those of a
        s = (1 / p - 1 / p[0])[1:] / (a[0] - a)[1:]
        assert torch.allclose(s, s[0].expand_as(s), rtol=1e-6) and s[0] > 0


def test_two_classes_in_closed_form():
    for r in (0.01, 0.5, 2.0):
        top = (1 + math.sqrt(1 - math.exp(-2 * r))) / 2
        assert torch.allclose(worst_mixture(torch.tensor([0.3, -0.2]), r), two(top), atol=1e-9)


def two(top):
    return torch.tensor([top, 1 - top], dtype=torch.float64)


def test_limits():
    a = draws()[0]
    even = torch.full((10,), 0.1, dtype=torch.float64)
    assert torch.equal(worst_mixture(a, 0.0), even)
    assert torch.allclose(worst_mixture(a, 1e-10), even, atol=1e-4)
    far_off = worst_mixture(a, 20.0)
    assert far_off.argmax() == a.argmax() and far_off.max() > 1 - 1e-6
    assert torch.equal(worst_mixture(torch.ones(10), 0.5), even)  # nobody is worst
    shared = worst_mixture(torch.tensor([1.0, 1.0, 0.0, 0.0]), 20.0)
    assert torch.allclose(shared, two(0.5)[[0, 0, 1, 1]] * torch.tensor([1, 1, 0, 0]), atol=1e-6)
    with pytest.raises(ValueError, match="r is -1"):
        worst_mixture(a, -1)


def test_only_the_differences_count():
    a = draws()[1]
    assert torch.allclose(worst_mixture(a), worst_mixture(7 * a - 3), atol=1e-9)
    order = torch.randperm(10, generator=generator(0))
    assert torch.allclose(worst_mixture(a)[order], worst_mixture(a[order]), atol=1e-12)


def test_another_optimiser_finds_no_more():
    for a in draws():
        n, q = a.numpy(), np.full(10, 0.1)
        found = minimize(
            lambda p: -(p @ n),
            q,
            jac=lambda p: -n,
            method="SLSQP",
            bounds=[(1e-9, 1)] * 10,
            constraints=[
                {"type": "eq", "fun": lambda p: p.sum() - 1, "jac": lambda p: np.ones(10)},
                {
                    "type": "ineq",
                    "fun": lambda p: 0.5 - (q * np.log(q / p)).sum(),
                    "jac": lambda p: q / p,
                },
            ],
            options={"maxiter": 500, "ftol": 1e-13},
        ).x
        mine = worst_mixture(a, 0.5).numpy()
        assert mine @ n >= found @ n - 1e-9 and abs(mine - found).max() < 1e-3


def test_without_a_radius_it_is_pgd_at():
    net = zoo.load("digits/pgd_at/w16", "cpu").eval()
    assert torch.allclose(faal(net, x, y, inner, r=0.0), pgd_at(net, x, y, inner), atol=1e-6)


def test_by_hand():
    net = zoo.load("digits/pgd_at/w16", "cpu").eval()
    few, labels = x[y < 8], y[y < 8]  # two classes have no images
    z = net(inner(net, few, labels))
    margins = []
    for k in range(10):
        p = z[labels == k].softmax(1)
        wrong = p[:, [j for j in range(10) if j != k]].amax(1) if len(p) else p[:, 0]
        margins.append((wrong - p[:, k]).mean().item() if len(p) else -1.0)
    w = worst_mixture(torch.tensor(margins), 0.5).float()
    want = (10 * w[labels] * F.cross_entropy(z, labels, reduction="none")).mean()
    assert torch.allclose(faal(net, few, labels, inner), want, atol=1e-6)
    with pytest.raises(ValueError, match="faal"):
        faal(net, x, F.one_hot(y, 10).float(), inner)
