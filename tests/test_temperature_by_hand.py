"""Temperature against its algebra, float32 at its limits, and attacks at a counted budget"""

import functools
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import torch
from asserting import assert_close, assert_eq, assert_fails
from torch import nn, tensor
from torch.nn import functional as F

from spat_nb import (
    Linf,
    Record,
    at_x,
    ce,
    evaluate,
    get_data,
    margin,
    pgd,
    temperature_pgd,
    tempered,
    zoo,
)
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.classwise.budgets import TAUS, best_tau, equal_budget, tau_sweep
from spat_nb.classwise.temperature import log_odds, m_tau, safe_ce, slopeless, zero_gradients
from spat_nb.core.rng import generator

ball, quiet = Linf(0.15), dict(precision="float32", progress=False)


@functools.cache
def world():
    names = {"PGD-AT": "pgd_at", "TRADES": "trades"}
    nets = {name: zoo.load(f"digits/{k}/w16", "cpu") for name, k in names.items()}
    data = get_data("digits", device="cpu", batch_size=64)
    x, y = data.test.tensors()
    return SimpleNamespace(nets=nets, net=nets["PGD-AT"], data=data, x=x, y=y)


def run(attack, model):
    w = world()
    return replace(attack, generator=generator(1))(model, w.x[:120], w.y[:120])


def gradient(loss, z, y):
    return value_and_grad(lambda z: (loss(z, y),), z)[1]


def bracket(z, y, tau):
    "-e_y + w, from the formula"
    e = F.one_hot(y, z.shape[1]).to(z)
    return (tau * z).masked_fill(e > 0, -math.inf).softmax(1) - e


class Scaled(nn.Module):
    "A network whose logits are multiplied by s: every answer stays"

    def __init__(self, model, s):
        super().__init__()
        self.model, self.s = model, s

    def forward(self, x):
        return self.s * self.model(x)


def test_the_algebra():
    z, y = (
        3 * torch.randn(200, 10, dtype=torch.float64, generator=generator(0)),
        torch.arange(200) % 10,
    )
    for tau in (0.1, 1.0, 7.0):
        assert (
            F.softplus(tau * m_tau(tau)(z, y), threshold=40) - ce(tau * z, y)
        ).abs().max() < 1e-12
        assert (gradient(m_tau(tau), z, y) - bracket(z, y, tau)).abs().max() < 1e-13
    assert (m_tau(1e4)(z, y) - margin(z, y)).abs().max() < 1e-3
    mean = (z.sum(1) - z.gather(1, y[:, None])[:, 0]) / 9 - z.gather(1, y[:, None])[:, 0]
    assert (m_tau(1e-6)(z, y) - math.log(9) / 1e-6 - mean).abs().max() < 1e-4
    assert_fails(lambda: m_tau(0.0), contains="tau is 0.0")
    assert_fails(lambda: log_odds(z, z.softmax(1)), contains="use y.argmax(1)")


def test_where_float32_loses_its_gradient():
    lead = torch.arange(10, 120, 0.1)
    # logits (lead, 0), float32
    z = F.pad(lead[:, None], (0, 1))
    y = torch.zeros(len(lead), dtype=torch.long)
    label, everything = slopeless(ce, z, y)
    assert 16 < lead[label].min() < 17.5 and 103 < lead[everything].min() < 105
    assert not torch.stack(slopeless(m_tau(1.0), z, y)).any()
    # tau = 100, label 0
    z = tensor([[120.0, 0.0, -3.0]])
    assert (
        torch.equal(gradient(m_tau(100.0), z, y[:1]), tensor([[-1.0, 1.0, 0.0]]))
        and not gradient(tempered(ce, 100.0), z, y[:1]).any()
    )


def test_safe_ce_meets_cross_entropy_and_goes_on():
    u = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    z32 = torch.stack([-u, torch.zeros_like(u)], 1).float()
    y = torch.zeros(len(u), dtype=torch.long)
    v = safe_ce(z32, y)
    # rises, and is never flat
    assert (v.diff() >= 0).all() and not torch.stack(slopeless(safe_ce, z32, y)).any()
    assert torch.equal(v[u > -11.9], ce(z32, y)[u > -11.9]) and torch.equal(
        gradient(safe_ce, z32, y)[u > -11.9], gradient(ce, z32, y)[u > -11.9]
    )
    assert_close(v[u < -12], (log_odds(z32, y) + 11.9577)[u < -12], eps=1e-3)
    # below: M's slope, bit for bit
    assert torch.equal(
        gradient(safe_ce, z32[:100], y[:100]), gradient(m_tau(1.0), z32[:100], y[:100])
    )


def test_a_lead_of_300():
    flat, steep = (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(2))
    # label 0 leads by 300
    for m, s in ((flat, 0.0), (steep, 1.0)):
        m[1].weight.data = s * tensor([[1.0] * 4, [-1.0] * 4])
        m[1].bias.data = tensor([300.0, 0.0])
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    assert_eq(
        [
            zero_gradients(a, m, x, y)
            for m in (flat, steep)
            for a in (pgd(Linf(0.1), 4), temperature_pgd(Linf(0.1)))
        ],
        [1.0, 1.0, 1.0, 0.0],
    )
    assert (
        temperature_pgd(Linf(0.1), 5.0, start=at_x)(steep, x, y) - (x - 0.1)
    ).abs().max() < 1e-6 and torch.equal(pgd(Linf(0.1), start=at_x)(steep, x, y), x)
    assert_fails(lambda: temperature_pgd(Linf(0.1), -1.0), contains="tau is -1.0")


def test_tau_1_is_pgd_and_scales_are_taus():
    w = world()
    nets = w.nets
    net = w.net
    y = w.y
    for m in nets.values():
        assert torch.equal(run(temperature_pgd(ball, 1.0), m), run(pgd(ball, 20), m))
    for s, tau in ((4.0, 1.0), (0.25, 5.0), (1024.0, 20.0)):
        assert torch.equal(
            run(temperature_pgd(ball, tau / s, 5), Scaled(net, s)),
            run(temperature_pgd(ball, tau, 5), net),
        )
    off = (
        run(temperature_pgd(ball, 5 / 3, 5), Scaled(net, 3.0))
        - run(temperature_pgd(ball, 5.0, 5), net)
    ).abs()
    # s = 3: to rounding
    assert (off > 1e-6).double().mean() < 1e-2
    ends = [
        log_odds(net(run(a, net)), y[:120]).mean().item()
        for a in (temperature_pgd(ball, 1e4), pgd(ball, 20, loss=margin))
    ]
    # tau -> infinity: as strong as CW
    assert_close(ends[0], ends[1], eps=0.05)


def test_the_best_of_a_grid():
    made = Record(
        tensor([0, 0, 1]),
        {
            "clean": tensor([0, 0, 1]),
            "tau 0.5": tensor([0, 1, 1]),
            "tau 2": tensor([1, 1, 1]),
            "tau 4": tensor([1, 1, 1]),
        },
        ("a", "b"),
        dict(tau={"tau 0.5": 0.5, "tau 2": 2.0, "tau 4": 4.0}),
    )
    assert_eq(best_tau(made), 2.0)


def test_the_soft_end_is_useless_and_the_sharp_end_flat():
    w = world()
    nets = w.nets
    data = w.data
    valid = {
        name: tau_sweep(
            m, data.valid, partial(temperature_pgd, ball), (0.1, 1.0, 20.0, 100.0), **quiet
        )
        for name, m in nets.items()
    }
    for r in valid.values():
        assert (
            r.accuracy("tau 0.1") > r.accuracy("tau 1")
            and abs(r.accuracy("tau 20") - r.accuracy("tau 100")) < 0.03
        )


def test_a_scale_that_means_nothing_changes_pgd_and_not_the_grid():
    w = world()
    net = w.net
    data = w.data
    found = {}
    stands = None
    for s in (1.0, 0.05, 50.0):
        m = Scaled(net, s).eval()
        r = tau_sweep(m, data.valid, partial(temperature_pgd, ball), **quiet)
        p = evaluate(
            m, data.valid, **quiet, pgd=pgd(ball, 20), naive=pgd(ball, 20, loss=tempered(ce, 20.0))
        )
        stands = p.correct("pgd") if s == 1 else stands
        found[s] = dict(
            pgd=p.accuracy("pgd"),
            turned=int((p.correct("pgd") != stands).sum()),
            lowest=min(r.accuracy(k) for k in r.attacks),
            best=best_tau(r),
            zero=zero_gradients(pgd(ball, 20), m, *data.valid.tensors()),
        )
    # PGD's verdict changes
    assert (
        min(found[s]["turned"] for s in (0.05, 50.0)) >= 0.03 * data.valid.n
        and min(found[0.05]["pgd"], found[50.0]["pgd"]) > found[1.0]["pgd"] + 0.02
    )
    # the minimum over tau hardly
    assert (
        max(f["lowest"] for f in found.values()) - min(f["lowest"] for f in found.values()) <= 0.03
    )
    assert found[50.0]["zero"] > 0.3 > found[1.0]["zero"] == 0


def test_a_budget_is_counted():
    w = world()
    net = w.net
    x = w.x
    y = w.y

    def gradients(attack, model, x, y):
        "How many gradients an attack asks for"
        from unittest.mock import patch

        with patch("torch.autograd.grad", wraps=torch.autograd.grad) as g:
            attack(model, x, y)
        return g.call_count

    costs = {
        k: gradients(a, net, x[:2], y[:2])
        for k, a in equal_budget(ball, 2.0, 60).items()
        if k != "aa"
    }
    assert_eq(set(costs.values()), {60})
    aa = equal_budget(ball, 2.0, 60)["aa"].members
    climbs = {
        k: gradients(m, lambda x: net(x) * 1.0, x[6:8], y[6:8])
        for k, m in aa.items()
        if "apgd" in k
    }
    assert climbs["apgd_ce"] == 8 and climbs["apgd_t"] <= 24
    assert_fails(lambda: equal_budget(ball, 2.0, 6), contains="grads is 6")


def test_naive_cross_entropy_stands_still_and_nothing_warns():
    w = world()
    net = w.net
    data = w.data
    # a network that is ten times as sure
    sure = Scaled(net, 10.0).eval()
    xv, yv = data.valid.tensors()
    rows = []
    for tau in (1.0, 5.0, 20.0, 100.0):
        naive, safe = pgd(ball, 20, loss=tempered(ce, tau)), temperature_pgd(ball, tau)

        def acc(a):
            return (
                (sure(replace(a, generator=generator(0))(sure, xv, yv)).argmax(1) == yv)
                .double()
                .mean()
                .item()
            )

        rows.append(
            (
                tau,
                zero_gradients(naive, sure, xv, yv),
                acc(naive),
                zero_gradients(safe, sure, xv, yv),
                acc(safe),
            )
        )
    assert all(safe_zero == 0 for _, _, _, safe_zero, _ in rows)
    _, zero, naive_left, _, safe_left = rows[-1]
    assert zero > 0.5 and naive_left > safe_left + 0.05


def test_the_tau_of_a_scaled_network():
    w = world()
    net = w.net
    x = w.x
    y = w.y

    def same(tau, m):
        return replace(temperature_pgd(ball, tau, 5, start=at_x))(m, x[:8], y[:8])

    apart = {t: (same(t, Scaled(net, 50.0)) - same(5.0, net)).abs().max().item() for t in TAUS}
    assert min(apart, key=apart.get) == 0.1
