"Temperature-PGD is PGD, CW and what lies between, whatever the scale of the logits"

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.wrapped import tempered
from spat_nb.classwise.budgets import equal_budget
from spat_nb.classwise.temperature import (
    log_odds,
    m_tau,
    safe_ce,
    slopeless,
    temperature_pgd,
    zero_gradients,
)
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.networks import SmallCNN
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at, standard


def slope(loss, z, y):
    return value_and_grad(lambda z: (loss(z, y),), z)[1]


class Scaled(nn.Module):
    def __init__(self, model, s):
        super().__init__()
        self.model, self.s = model, s

    def forward(self, x):
        return self.s * self.model(x)


@settings(max_examples=30, deadline=None)
@given(
    c=st.integers(2, 12),
    tau=st.floats(1e-2, 1e2),
    size=st.floats(0.01, 30),
    seed=st.integers(0, 99),
)
def test_algebra(c, tau, size, seed):
    """CE = softplus(tau M); the slope of M is w - e_y, of length 1 at the label whatever tau is; M
    rises with tau up to the margin plus log(c-1)/tau
    """
    g = torch.Generator().manual_seed(seed)
    z, y = (
        size * torch.randn(9, c, dtype=torch.float64, generator=g),
        torch.randint(c, (9,), generator=g),
    )
    M = m_tau(tau)(z, y)
    torch.testing.assert_close(
        F.softplus(tau * M, threshold=40), ce(tau * z, y), atol=1e-11, rtol=1e-9
    )
    d = slope(m_tau(tau), z, y)
    e = F.one_hot(y, c).double()
    # rounding of tau z, up to 3000
    torch.testing.assert_close(
        d, (tau * z).masked_fill(e > 0, -math.inf).softmax(1) - e, atol=1e-12, rtol=0
    )
    assert ((M - margin(z, y)) >= -1e-9).all() and (
        M - margin(z, y) <= math.log(max(c - 1, 1)) / tau + 1e-9
    ).all()


@settings(max_examples=40, deadline=None)
@given(c=st.integers(2, 8), lead=st.floats(0, 1000), seed=st.integers(0, 99))
def test_the_safe_loss_always_has_its_slope(c, lead, seed):
    z = torch.randn(5, c, generator=torch.Generator().manual_seed(seed))
    z[:, 0] = z.amax(1) + lead
    y = torch.zeros(5, dtype=torch.long)
    assert (
        not torch.stack(slopeless(safe_ce, z, y)).any()
        and not torch.stack(slopeless(m_tau(50.0), z, y)).any()
    )
    u = log_odds(z, y)
    assert torch.equal(safe_ce(z, y)[u > -11], ce(z, y)[u > -11])
    # a rival rises, so does the loss
    hi = safe_ce(z + 0.5 * F.one_hot(torch.ones_like(y), c), y)
    assert (hi >= safe_ce(z, y)).all()


def test_numbers_of_the_specification():
    z, y = torch.tensor([[120.0, 0.0, -3.0]]), torch.tensor([0])
    assert (
        torch.equal(slope(m_tau(100.0), z, y), torch.tensor([[-1.0, 1.0, 0.0]]))
        and not slope(tempered(ce, 100.0), z, y).any()
    )

    def two(lead):
        return slopeless(ce, torch.tensor([[lead, 0.0]]), y)

    assert (
        not two(16.5)[0]
        and two(16.7)[0]
        and not two(16.7)[1]
        and not two(103.0)[1]
        and two(105.0)[1]
    )
    assert (m_tau(1e4)(z.double(), y) - margin(z.double(), y)).abs() < 1e-9


@pytest.fixture(scope="module")
def nets():
    "A sure network and a PGD-AT one on digits"
    data = get_data("digits", device="cpu", batch_size=64)

    def fit(objective, attack=None, epochs=5):
        torch.manual_seed(0)
        return (
            Learner(
                SmallCNN(width=8),
                data.train,
                objective,
                attack,
                epochs,
                lr=0.1,
                precision="float32",
            )
            .fit()
            .model.eval()
        )

    return data, fit(standard), fit(pgd_at, pgd(Linf(0.15), 3))


def test_tau_one_is_pgd_and_a_scale_is_nothing(nets):
    data, *models = nets
    x, y = (t[:100] for t in data.test.tensors())

    def go(a, m):
        return replace(a, generator=torch.Generator().manual_seed(1))(m, x, y)

    for m in models:
        for ball in (Linf(0.15), L2(1.0)):
            assert torch.equal(go(temperature_pgd(ball, 1.0, 8), m), go(pgd(ball, 8), m))
            for s, tau in ((2.0, 1.0), (0.125, 3.0)):
                assert torch.equal(
                    go(temperature_pgd(ball, tau / s, 5), Scaled(m, s)),
                    go(temperature_pgd(ball, tau, 5), m),
                )
    off = (
        go(temperature_pgd(Linf(0.15), 5 / 0.05, 5), Scaled(m, 0.05))
        - go(temperature_pgd(Linf(0.15), 5.0, 5), m)
    ).abs()
    assert (off > 1e-6).double().mean() < 1e-3


def test_a_scale_that_means_nothing_moves_pgd(nets):
    "That the minimum over tau stays is shown in the notebook, on a PGD-AT network"
    data, sure, _ = nets
    ball = Linf(0.15)
    few = data.test.subset(200)
    seen = {
        s: (
            evaluate(
                Scaled(sure, s).eval(), few, precision="float32", progress=False, pgd=pgd(ball, 20)
            ).accuracy("pgd")
        )
        for s in (1.0, 0.05, 50.0)
    }
    assert (
        seen[50.0] > seen[1.0] + 0.3
        and seen[0.05] > seen[1.0] + 0.02
        and zero_gradients(pgd(ball, 20), Scaled(sure, 50.0).eval(), *few.tensors()) > 0.5
    )


def test_bad_input():
    for f, words in (
        (lambda: temperature_pgd(Linf(0.1), 0.0), "tau is 0.0"),
        (lambda: m_tau(math.inf), "tau is inf"),
        (lambda: equal_budget(Linf(0.1), 1.0, 19), "at least 20"),
        (lambda: log_odds(torch.zeros(2, 3), torch.full((2, 3), 1 / 3)), "needs labels"),
    ):
        with pytest.raises(ValueError, match=words):
            f()
