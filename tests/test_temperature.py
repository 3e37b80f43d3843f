"Temperature-PGD is PGD, CW and what lies between, whatever the scale of the logits"

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spat_nb import Record, at_x, zoo
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.wrapped import tempered
from spat_nb.classwise.budgets import best_tau, equal_budget
from spat_nb.classwise.temperature import (
    log_odds,
    m_tau,
    safe_ce,
    slopeless,
    temperature_pgd,
    zero_gradients,
)
from spat_nb.core.rng import generator
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.networks import SmallCNN
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at, standard


def gradient(loss, z, y):
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
    """CE = softplus(tau M); the gradient of M is w - e_y, of length 1 at the label whatever tau is;
    M rises with tau up to the margin plus log(c-1)/tau
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
    d = gradient(m_tau(tau), z, y)
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
def test_the_safe_loss_always_has_its_gradient(c, lead, seed):
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
        torch.equal(gradient(m_tau(100.0), z, y), torch.tensor([[-1.0, 1.0, 0.0]]))
        and not gradient(tempered(ce, 100.0), z, y).any()
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


def test_m_is_the_bracket_and_refuses_what_is_no_temperature():
    z = 3 * torch.randn(200, 10, dtype=torch.float64, generator=generator(0))
    y = torch.arange(200) % 10
    label = F.one_hot(y, 10).to(z)
    for tau in (0.1, 1.0, 7.0):
        bracket = (tau * z).masked_fill(label > 0, -math.inf).softmax(1) - label
        assert (gradient(m_tau(tau), z, y) - bracket).abs().max() < 1e-13
    with pytest.raises(ValueError, match="tau is 0.0"):
        m_tau(0.0)
    with pytest.raises((TypeError, ValueError), match=r"use y.argmax\(1\)"):
        log_odds(z, z.softmax(1))
    with pytest.raises(ValueError, match="tau is -1.0"):
        temperature_pgd(Linf(0.1), -1.0)
    with pytest.raises(ValueError, match="grads is 6"):
        equal_budget(Linf(0.1), 2.0, 6)


def test_where_float32_loses_the_gradient():
    lead = torch.arange(10, 120, 0.1)
    z = F.pad(lead[:, None], (0, 1))
    y = torch.zeros(len(lead), dtype=torch.long)
    label, everything = slopeless(ce, z, y)
    assert 16 < lead[label].min() < 17.5 and 103 < lead[everything].min() < 105
    assert not torch.stack(slopeless(m_tau(1.0), z, y)).any()
    z = torch.tensor([[120.0, 0.0, -3.0]])
    assert torch.equal(gradient(m_tau(100.0), z, y[:1]), torch.tensor([[-1.0, 1.0, 0.0]]))
    assert not gradient(tempered(ce, 100.0), z, y[:1]).any()


def test_the_safe_loss_is_cross_entropy_and_then_the_odds():
    u = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    z = torch.stack([-u, torch.zeros_like(u)], 1).float()
    y = torch.zeros(len(u), dtype=torch.long)
    v = safe_ce(z, y)
    assert torch.equal(gradient(safe_ce, z, y)[u > -11.9], gradient(ce, z, y)[u > -11.9])
    assert (v[u < -12] - (log_odds(z, y) + 11.9577)[u < -12]).abs().max() < 1e-3
    # below: the gradient of M, bit for bit
    assert torch.equal(gradient(safe_ce, z[:100], y[:100]), gradient(m_tau(1.0), z[:100], y[:100]))


def test_on_a_line_the_safe_attack_reaches_the_optimum():
    steep = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    steep[1].weight.data = torch.tensor([[1.0] * 4, [-1.0] * 4])
    steep[1].bias.data = torch.tensor([300.0, 0.0])
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    moved = temperature_pgd(Linf(0.1), 5.0, start=at_x)(steep, x, y)
    assert (moved - (x - 0.1)).abs().max() < 1e-6
    assert torch.equal(pgd(Linf(0.1), start=at_x)(steep, x, y), x)


def test_a_scale_that_is_no_power_of_two_changes_rounding_alone():
    net, ball = zoo.load("digits/pgd_at/w16", "cpu").eval(), Linf(0.15)
    x, y = (v[:120] for v in get_data("digits", device="cpu").test.tensors())

    def run(attack, model):
        return replace(attack, generator=generator(1))(model, x, y)

    scaled = run(temperature_pgd(ball, 5 / 3, 5), Scaled(net, 3.0).eval())
    off = (scaled - run(temperature_pgd(ball, 5.0, 5), net)).abs()
    assert (off > 1e-6).double().mean() < 1e-2
    sharp, cw = (
        log_odds(net(run(a, net)), y).mean().item()
        for a in (temperature_pgd(ball, 1e4), pgd(ball, 20, loss=margin))
    )
    # tau -> infinity: as strong as CW
    assert abs(sharp - cw) < 0.05


def test_the_best_tau_is_the_first_of_the_lowest():
    answers = {"clean": [0, 0, 1], "tau 0.5": [0, 1, 1], "tau 2": [1, 1, 1], "tau 4": [1, 1, 1]}
    made = Record(
        torch.tensor([0, 0, 1]),
        {k: torch.tensor(v) for k, v in answers.items()},
        ("a", "b"),
        dict(tau={"tau 0.5": 0.5, "tau 2": 2.0, "tau 4": 4.0}),
    )
    assert best_tau(made) == 2.0


def test_a_cut_autoattack_keeps_its_share_of_the_budget():
    calls = []

    def counted(x):
        calls.append(len(x))
        return net(x)

    net = zoo.load("digits/pgd_at/w16", "cpu").eval()
    x, y = (v[6:8] for v in get_data("digits", device="cpu").test.tensors())
    members = equal_budget(Linf(0.15), 2.0, 60)["aa"].members
    spent = {}
    for name in ("apgd_ce", "apgd_t"):
        calls.clear()
        members[name](counted, x, y)
        spent[name] = len(calls)
    assert spent["apgd_ce"] <= 9 and spent["apgd_t"] <= 30
