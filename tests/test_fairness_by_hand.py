"""Recipes for the weakest class: each is its baseline while it knows nothing, and keeps what it
promises of its weights afterwards
"""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import torch
from asserting import assert_close, assert_eq, assert_fails
from torch import nn, tensor

from spat_nb import (
    CFA,
    CFOL,
    DAFA,
    FAWA,
    FRL,
    T1,
    WAT,
    CFATrades,
    Linf,
    Record,
    at_x,
    evaluate,
    fgsm,
    gaussian,
    get_data,
    margin,
    pgd,
    pgd_at,
    trades,
    zoo,
)
from spat_nb.classwise.accounts import account, class_errors, class_means, rho, tally
from spat_nb.classwise.fairness import dafa_weights, trades_parts
from spat_nb.classwise.heads import biased, fit_bias, fit_power, normalised, score
from spat_nb.classwise.radii import Radii, at, resized
from spat_nb.core.rng import generator

ball, quiet = Linf(0.15), dict(precision="float32", progress=False)
inner, hard = pgd(ball, 3), pgd(ball, 10, loss=margin)
tr, fixed4 = replace(inner, start=gaussian()), replace(inner, start=at_x)
data = get_data("digits", device="cpu", batch_size=64)
net = zoo.load("digits/pgd_at/w16", "cpu")
x, y = data.test.tensors()
xs, ys = x[:8], y[:8]
cdf = torch.special.ndtr


def attacked_hits():
    torch.manual_seed(5)
    return net(inner(net, x[:40], y[:40])).argmax(1) == y[:40]


def shares(d):
    return 2 * cdf((0.03 + d) / 0.05) - 1, cdf((0.03 - d) / 0.05)  # middle, outer


def once(objective, attack):
    torch.manual_seed(5)
    return objective(net.eval(), x[:40], y[:40], attack)


class OnALine(nn.Module):
    "Centres .2, .5 and .8 in the single pixel; `b` is added to the middle class"

    def __init__(self, b=0.0):
        super().__init__()
        self.b = tensor([0.0, b, 0.0])

    def forward(self, x):
        return -20 * (x.flatten(1) - tensor([0.2, 0.5, 0.8])) ** 2 + self.b


def test_the_first_step_is_free_and_the_network_agrees():
    d = torch.zeros((), dtype=torch.float64, requires_grad=True)
    mid, out = shares(d)
    (slope,) = torch.autograd.grad((mid + 2 * out) / 3, d)
    assert_close(slope.item(), 0.0, eps=1e-12)
    # where all three are equal, by bisection
    lo, hi = 0.0, 0.05
    for _ in range(60):
        half = (lo + hi) / 2
        a, b = shares(tensor(half).double())
        lo, hi = (half, hi) if a < b else (lo, half)
    shares(tensor(lo).double())[0].item()
    yl = torch.arange(3).repeat_interleave(2000)
    xl = (
        (0.2 + 0.3 * yl + 0.05 * torch.randn(6000, generator=generator(0)))
        .clamp(0, 1)
        .view(-1, 1, 1, 1)
    )
    for d in (0.0, lo):
        seen = evaluate(
            OnALine(12 * d), (xl, yl), "float32", progress=False, fgsm=fgsm(Linf(0.12))
        ).per_class("fgsm")
        # five deviations of 2,000 draws
        for k, want in zip(range(3), (shares(tensor(d))[i].item() for i in (1, 0, 1))):
            assert_close(seen.accuracy.iloc[k], want, eps=0.056)
        print(
            f"d = {d:.4f}: seen {[round(v, 3) for v in seen.accuracy]}, closed"
            f" {[round(shares(tensor(d))[i].item(), 3) for i in (1, 0, 1)]}"
        )


def test_published_rho_and_an_account_by_hand():
    published = dict(
        FRL=(44.68, 25.84, 0.11),
        CFA=(50.78, 27.62, 0.32),
        BAT=(45.89, 17.82, -0.24),
        WAT=(46.30, 28.55, 0.27),
        DAFA=(49.05, 30.53, 0.42),
    )
    for avg, worst, want in published.values():
        assert_close(rho(avg, worst, 49.80, 21.31), want, eps=0.006)
    assert_fails(lambda: rho(0.5, 0.1, 0.5, 0.0), contains="worst class 0.0")
    y3 = tensor([0, 0, 1, 1])

    def rec(*p):
        return Record(y3, {"clean": y3, "a": tensor(p)}, ("p", "q"))

    assert_eq(
        {
            k: v
            for k, v in account(rec(0, 0, 1, 0), rec(0, 1, 1, 1), "a", 0, [1]).items()
            if k in ("average", "worst", "which", "helped", "confounds", "rho")
        },
        dict(average=75.0, worst=50.0, which="q", rho=0.0, helped=50.0, confounds=-50.0),
    )


def test_sums_means_and_errors_by_class():
    assert_eq(tally(tensor([1.0, 2.0, 5.0]), tensor([0, 2, 0]), 3), tensor([6.0, 0.0, 2.0]))
    assert_eq(
        class_means(lambda m, x, y: torch.stack([y, y * 0 + 3], 1), net, data.valid),
        torch.stack([torch.arange(10.0), torch.full((10,), 3.0)]),
    )
    err = class_errors(net, data.valid, fixed := replace(hard, start=at_x))
    r = evaluate(net, data.valid, **quiet, a=fixed)
    assert_close(1 - err[0], tensor(r.per_class().accuracy.tolist()), eps=1e-6)
    assert_close(1 - err.sum(0), tensor(r.per_class("a").accuracy.tolist()), eps=1e-6)
    assert_eq(at(tensor([5.0, 6.0, 7.0]), tensor([2, 0])), tensor([7.0, 5.0]))


def test_radii_of_one_change_nothing_and_mixed_ones_are_each_their_own():
    one, xs, ys = pgd(ball, 5, start=at_x), x[:8], y[:8]
    v = tensor([1.0, 0.5, 2.0, 0.0, 1.0, 0.25, 1.5, 0.5])

    def go(a):
        return replace(a, generator=generator(3))(net, xs, ys)

    assert torch.equal(go(resized(pgd(ball, 5), torch.ones(8))), go(pgd(ball, 5)))
    alone = torch.cat(
        [
            pgd(Linf(0.15 * s), 5, start=at_x)(net, xs[i : i + 1], ys[i : i + 1])
            for i, s in enumerate(v.tolist())
        ]
    )
    assert (resized(one, v)(net, xs, ys) - alone).abs().max() < 1e-6
    mixed = go(resized(pgd(ball, 5), v))
    assert (
        Radii(0.15, v=v).inside(mixed, xs).all()
        and torch.equal(mixed[3], xs[3])
        and not ball.inside(mixed, xs).all()
    )
    assert_fails(lambda: resized(lambda m, x, y: x, v), contains="made for Linf")


def test_t1_is_pgd_at_at_first_and_stays_in_its_range():
    t1 = T1(data.valid)
    fixed4 = replace(inner, start=at_x)
    # tau = 1 is PGD-AT
    assert torch.equal(t1(net, x[:9], y[:9], fixed4), pgd_at(net, x[:9], y[:9], fixed4))
    t1.update(tensor([0.2, 0.6]).repeat(5))
    assert_close(t1.tau[:2], tensor([math.exp(-0.1), math.exp(0.1)]))
    assert t1.tau[0] < 1
    for _ in range(20):
        t1.update(tensor([0.2, 0.6]).repeat(5))
    assert_eq(t1.tau[:2], tensor([0.5, 2.0]))


def test_heads_after_training():
    m = normalised(net, 1.0)
    n = m.head.weight.norm(dim=1)
    assert_close(n, n.mean().expand(10), eps=1e-5)
    assert_close(n.mean(), net.head.weight.norm(dim=1).mean(), eps=1e-5)
    assert torch.equal(normalised(net, 0.0)(xs), net(xs)) and torch.equal(
        biased(net, torch.zeros(10))(xs), net(xs)
    )
    assert_close(biased(net, torch.arange(10.0))(xs), net(xs) + torch.arange(10.0), eps=1e-5)
    before_fit = [p.clone() for p in net.parameters()]
    near = pgd(ball, 5, loss=margin, start=at_x)
    b, g = fit_bias(net, data.valid, near), fit_power(net, data.valid, near)
    scores = [
        score(1 - class_errors(m, data.valid, near).sum(0))
        for m in (net, biased(net, b), normalised(net, g))
    ]
    assert (
        scores[1] >= scores[0]
        and scores[2] >= scores[0]
        and all(torch.equal(a, b) for a, b in zip(before_fit, net.parameters()))
    )


def test_the_two_terms_of_trades():
    clean, far, _ = once(trades_parts, tr)
    assert torch.equal(
        clean.mean() + 6 * far.mean(), once(trades, tr)
    ) and clean.shape == far.shape == (40,)


def test_an_average_with_a_gate():
    lin = nn.Linear(2, 1)
    stub = SimpleNamespace(epoch=1, model=lin, net=lin, attack=None)
    ema = FAWA(0.75, start=1)
    ema.after_epoch(stub)
    assert_fails(lambda: ema.restore(lin), contains="nothing was averaged")
    for stub.epoch, w in ((2, 1.0), (3, 5.0), (4, 5.0)):
        lin.weight.data.fill_(w)
        ema.after_epoch(stub)
    assert_close(
        ema.restore(lin).weight.data, torch.full((1, 2), 0.75 * (0.75 * 1 + 0.25 * 5) + 0.25 * 5)
    )
    gate = FAWA(start=0, valid=data.valid, least=1.1)
    gate.after_epoch(SimpleNamespace(epoch=9, model=net, net=net, attack=fixed4))
    assert gate.weights is None


def test_cfa():
    cfa = CFA(10)
    # first epoch: plain radius
    assert torch.equal(once(cfa, inner), once(pgd_at, inner))
    hit = attacked_hits()
    cfa.after_epoch(None)
    want = tally(hit, y[:40], 10) / tally(hit == hit, y[:40], 10).clamp_min(1)
    assert_close(cfa.t, want)
    assert not cfa.seen.any() and torch.equal(
        once(cfa, inner), once(lambda m, x, y, a: pgd_at(m, x, y, resized(a, 0.5 + want[y])), inner)
    )
    # l2 + t_k = 1: plain beta
    even = CFATrades(10)
    even.l2 = 0.3
    assert_close(once(even, tr).item(), once(trades, tr).item() / 7, eps=1e-5)


def test_wat():
    wat = WAT(data.valid)
    # w = K/(K+1), twice
    assert_close(once(wat, tr).item(), once(trades, tr).item() * 20 / 11, eps=1e-4)
    wat.total = torch.arange(11.0)
    assert_close(wat.w.sum().item(), 10.0, eps=1e-4)
    assert (wat.w.diff() > 0).all()


def test_dafa():
    S = tensor([[0.4, 0.3, 0.3], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
    # by hand
    assert_close(
        dafa_weights(S),
        tensor([1 + 0.3 * 0.6 + 0.3 * 0.8, 1 - 0.3 * 0.6 + 0.2 * 0.8, 1 - 0.3 * 0.8 - 0.2 * 0.8]),
    )
    S = torch.rand(50, 7, 7, generator=generator(1)).mul(3).softmax(2)
    assert all(abs(dafa_weights(s, 0.3).sum().item() - 7) < 1e-5 for s in S)
    assert_eq(dafa_weights(torch.full((4, 4), 0.25)), torch.ones(4))
    assert_fails(
        lambda: dafa_weights(tensor([[0.4, 0.6], [0.1, 0.9]]), 9.0), contains="use a lam below 9"
    )
    dafa = DAFA(10, warmup=1)
    assert torch.equal(once(dafa, tr), once(trades, tr))
    want = dafa_weights(dafa.S / dafa.S.sum(1, keepdim=True))
    dafa.after_epoch(SimpleNamespace(epoch=1))
    assert torch.equal(dafa.V, want) and want.std() > 0 and not dafa.S.any()


def test_frl():
    frl = FRL(data.valid)
    assert_close(once(frl, tr).item(), once(partial(trades, beta=1.5), tr).item(), eps=1e-5)
    frl.update(torch.stack([tensor([0.5] + [0.1] * 9), tensor([0.1] * 9 + [0.6])]))
    assert_close(frl.lam[1, 9].item(), 0.1 * (0.6 - 0.15 - 0.07), eps=1e-6)
    assert_close(frl.v[9].item(), math.exp(0.4 * 0.38), eps=1e-5)
    for e in torch.rand(40, 2, 10, generator=generator(2)):
        frl.update(e)
    assert_close(frl.w.sum(1), torch.ones(2), eps=1e-5)
    assert (
        (frl.w >= 0.05 - 1e-6).all()
        and (frl.lam[:2].sum(1) <= 0.5 + 1e-6).all()
        and (frl.v >= 0.98).all()
        and (frl.v <= 3).all()
    )


def test_cfol():
    hit = attacked_hits()
    cfol = CFOL(data.train, eta=0.05)
    assert torch.equal(once(cfol, inner), once(pgd_at, inner))
    cfol.after_step(None)
    # eta loss/q, q = 1/K at first
    assert_close(cfol.w, 0.05 * tally(~hit, y[:40], 10) / 0.1, eps=1e-5)
    assert_close(cfol.q.sum().item(), 1.0, eps=1e-6)
    assert (cfol.q >= 0.05).all()
    cfol.w = tensor([50.0] + [0.0] * 9)
    drawn = torch.cat([yb for _, yb in cfol.epoch(3)])
    assert_close((drawn == 0).double().mean().item(), 0.55, eps=0.06)
    assert_eq(len(drawn), 20 * 64)
    # a killed run goes on with the same batch
    assert all(torch.equal(a, b) for a, b in zip(next(cfol.epoch(3, 2)), [*cfol.epoch(3)][2]))


def test_the_lowest_of_ten_equal_classes():
    heads = (torch.rand(20000, 10, 36, generator=generator(0)) < 0.6).double().mean(2)
    se = (0.6 * 0.4 / 36) ** 0.5
    assert_close((0.6 - heads.min(1).values.mean().item()) / se, 1.54, eps=0.06)
