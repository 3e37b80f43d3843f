"""SPAT: nothing changes at a = 0, flips against derivatives, class gradients against single passes,
and the arms of its study
"""

import copy
import json
import math
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, tensor
from torch.nn import functional as F

from spat_nb.attacks.ascent import at_x, gaussian, uniform
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, kl, margin
from spat_nb.attacks.targets import apgd_t
from spat_nb.attacks.wrapped import smooth
from spat_nb.core.precision import fast
from spat_nb.core.rng import generator
from spat_nb.data.sources import get_data
from spat_nb.models.networks import SmallCNN
from spat_nb.papers.spat import Watch, blurred, flip_rates, flips, preserving, spat
from spat_nb.papers.spat_meaning import (
    ambiguity,
    at_strength,
    class_directed,
    matched,
    oracle,
    shared_index,
    strength,
)
from spat_nb.papers.spat_shared import agreement, class_grads, shared, spat_shared
from spat_nb.studies.job import Job
from spat_nb.studies.spat import diagnose, signs, study
from spat_nb.training.objectives import mart, pgd_at, trades


def batch(n=16, seed=0):
    return torch.rand(n, 1, 8, 8, generator=generator(seed)), torch.randint(
        0, 10, (n,), generator=generator(seed)
    )


def trained(objective, start, steps=3):
    "All parameters and statistics after a few steps, and the random stream behind them"
    torch.manual_seed(0)
    net = SmallCNN(width=4)
    opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for i in range(steps):
        opt.zero_grad()
        objective(net.train(), *batch(seed=i), pgd(Linf(0.1), 3, start=start)).backward()
        opt.step()
    return torch.cat([t.flatten() for t in net.state_dict().values()]), torch.rand(())


@pytest.mark.parametrize(
    "objective,start", [(pgd_at, uniform), (trades, gaussian()), (mart, gaussian())]
)
def test_without_smoothing_it_is_the_objective_bit_for_bit(objective, start):
    plain, zero, some = (
        trained(objective, start),
        trained(partial(spat, a=0.0, objective=objective), start),
        trained(partial(spat, a=0.3, objective=objective), start),
    )
    assert (
        torch.equal(plain[0], zero[0])
        and torch.equal(plain[1], zero[1])
        and not torch.equal(plain[0], some[0])
    )


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)])
def test_examples_are_those_of_a_smoothed_target(ball):
    "Changing the loss and changing the target are the same climb, up to rounding of the gradients"
    torch.manual_seed(0)
    net = SmallCNN(width=4).double().eval()
    x, y = batch()
    x = x.double()

    def attack():
        return pgd(ball, 4, generator=generator(1))

    by_target = attack()(net, x, smooth(y, 0.3, 10, torch.float64))
    assert (preserving(attack(), 0.3)(net, x, y) - by_target).abs().max() < 1e-9
    seen = []
    spat(net, x, y, replace(attack(), loss=lambda z, t: seen.append(t) or ce(z, t)), a=0.3)
    assert all(torch.equal(t, smooth(y, 0.3, 10, torch.float64)) for t in seen) and len(seen) == 4


@settings(max_examples=60, deadline=None)
@given(
    K=st.integers(2, 12),
    a=st.floats(0.01, 0.99),
    spread=st.floats(0, 8),
    lead=st.floats(-4, 20),
    seed=st.integers(0, 2**31),
)
def test_flips_are_signs_of_derivatives(K, a, spread, lead, seed):
    "One infinitesimal step uphill in the logits, by forward differentiation"
    z, y = (
        spread * torch.randn(32, K, dtype=torch.float64, generator=generator(seed)),
        torch.randint(0, K, (32,), generator=generator(seed)),
    )
    z[range(32), y] += lead
    up = value_and_grad(lambda z: (blurred(ce, a)(z, y),), z)[1]
    got = flips(z, y, a)
    truth = {
        "margin flip": lambda z: -margin(z, y),
        "probability flip": lambda z: -ce(z, y),
        "coefficient flip": lambda z: z.gather(1, y[:, None])[:, 0],
    }
    for k, f in truth.items():
        slope = torch.func.jvp(f, (z,), (up,))[1]
        clear = slope.abs() > 1e-12
        assert torch.equal(got[k][clear], (slope > 0)[clear]), k
    m, p, c = got.values()
    assert (~m | p).all() and (~p | c).all()


def test_no_flip_without_smoothing_and_every_flip_for_the_sure():
    z = torch.tensor([[200.0, 0, 0, 0], [2.0, 0, 0, 0]])
    y = torch.zeros(2, dtype=torch.int64)
    assert not any(v.any() for v in flips(z, y, 0.0).values()) and all(
        v[0] for v in flips(z, y, 0.01).values()
    )


def test_watch_sees_what_the_attack_did():
    torch.manual_seed(0)
    net = SmallCNN(width=4).eval()
    x, y = batch()
    w = Watch(y, 0.2)
    attack = pgd(Linf(0.1), 5, generator=generator(0))
    end = preserving(replace(attack, recorder=w), 0.2)(net, x, y)
    seen = w.steps()
    assert {v.shape for v in seen.values()} == {(5, 16)} and len(w.rows) == 6
    with torch.no_grad():
        assert torch.allclose(w.rows[-1]["ce"], ce(net(end), y)) and torch.allclose(
            w.rows[-1]["margin"], margin(net(end), y)
        )
    t = flip_rates(net, x, y, replace(attack, generator=generator(0)), 0.2, list("abcdefghij"))
    assert abs(t.loc["all", "p_y rose"] - seen["p_y rose"].double().mean().item()) < 1e-12 and {
        *t.index
    } == {*("abcdefghij"[k] for k in y.tolist()), "all"}


@pytest.mark.parametrize("precision", ["float32", "channels_last"])
def test_class_gradients_are_single_passes(precision):
    torch.manual_seed(0)
    net = SmallCNN(width=4).train()
    x, _ = batch(6)
    before = [t.clone() for t in net.state_dict().values()]
    G = class_grads(fast(net, precision), x)
    assert (
        net.training
        and all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values()))
        and all(p.grad is None for p in net.parameters())
    )
    net.eval()
    for c in range(10):
        torch.testing.assert_close(
            G[c],
            value_and_grad(lambda x: (net(x).log_softmax(1)[:, c],), x)[1],
            atol=1e-6,
            rtol=1e-4,
        )
    A = agreement(net, x)
    assert A.max() <= 0.8 + 1e-6 and A.shape == x.shape


def test_shared_masks():
    torch.manual_seed(0)
    net = SmallCNN(width=4).eval()
    # where all answers are alike, hardly any pixel is shared
    for p in net.head.parameters():
        p.data *= 20
    x, y = batch()
    x = 0.25 + 0.5 * x

    def run(**kw):
        return pgd(
            Linf(0.1),
            3,
            start=at_x,
            generator=generator(0),
            **({"step": partial(shared, model=net, **kw)} if kw else {}),
        )(net, x, y)

    assert (agreement(net, x) >= 0.5).flatten(1).any(1).all()
    assert (
        torch.equal(run(t=0.0), run())
        and torch.equal(run(t=0.9), x)
        and torch.equal(run(t=0.0, random=True), run())
    )
    half, dealt = run(t=0.5), run(t=0.5, random=True)
    assert strength(net, x, y, lambda *_: half) < strength(
        net, x, y, lambda *_: run()
    ) and not torch.equal(half, dealt)
    # the generator alone decides
    assert shared_index(net, x, half).mean() > shared_index(net, x, dealt).mean() and torch.equal(
        run(t=0.5, random=True), dealt
    )
    weighed = run(t=None, random=False)
    assert Linf(0.1).inside(weighed, x).all() and not torch.equal(weighed, run())


@settings(max_examples=15, deadline=None)
@given(eps=st.floats(0.01, 0.29), seed=st.integers(0, 999))
def test_matched_finds_the_radius(eps, seed):
    torch.manual_seed(seed)
    line = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    x, y = batch(8, seed)
    x, y = 0.4 + 0.2 * x.double(), y % 3
    full = fgsm(Linf(0.3))
    want = strength(line, x, y, fgsm(Linf(eps)))
    found = matched(line, x, y, full, want, 10)
    assert (
        abs(found.ball.eps - eps) <= 0.3 / 2**10
        and found.lr == pytest.approx(found.ball.eps)
        and found.start is full.start
    )


def test_the_control_is_as_hard_as_spat():
    torch.manual_seed(0)
    net = SmallCNN(width=4)
    x, y = batch(32)
    y = net.eval()(x).argmax(1)
    # a sure network: smoothing matters
    for p in net.head.parameters():
        p.data *= 30
    attack, seen, before = pgd(Linf(0.1), 4), [], copy.deepcopy(net)

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.detach()) if self.training else None
            return net.train(self.training)(x)

    torch.manual_seed(1)
    at_strength(Spy().train(), x, y, attack, a=0.3, halvings=8)
    want = strength(before, x, y, replace(preserving(attack, 0.3), generator=generator(0)))
    ours, full = (
        strength(before, x, y, lambda *_: seen[-1]),
        strength(before, x, y, replace(attack, generator=generator(0))),
    )
    assert len(seen) == 1 and want < 0.8 * full and abs(ours - want) < 0.1 * full


def test_oracle_and_ambiguity():
    x, _ = batch(12)
    y = torch.arange(12) % 3

    def says(v):
        return lambda x: nn.functional.one_hot(v, 3).float()

    wrong, other = (y + 1) % 3, (y + 2) % 3
    t = (
        oracle({"right": says(y), "same": says(wrong), "other": says(other)}, says(wrong), x, y)
        .groupby("judge")[["kept", "same"]]
        .mean()
    )
    assert (
        t.loc["right"].tolist() == [1, 0]
        and t.loc["same"].tolist() == [0, 1]
        and t.loc["other"].tolist() == [0, 0]
    )
    entropy, lead = ambiguity(lambda x: torch.tensor([[0.0, 0.0, -200.0]]).expand(12, 3), x)
    assert torch.allclose(entropy, torch.tensor(2.0).log()) and lead.abs().max() < 1e-6


@pytest.mark.parametrize(
    "make,text",
    [
        (lambda: preserving(apgd_t(Linf(0.1)), 0.2), "attack is a Targeted"),
        (lambda: preserving(lambda m, x, y: x, 0.2), "attack is a function"),
        (lambda: preserving(pgd(Linf(0.1)), 1.5), "a is 1.5"),
        (lambda: preserving(pgd(Linf(0.1)), float("nan")), "a is nan"),
        (
            lambda: spat(SmallCNN(width=4), *batch(), pgd(Linf(0.1), loss=margin), a=0.2),
            "margin needs labels",
        ),
    ],
)
def test_bad_input(make, text):
    with pytest.raises((TypeError, ValueError), match=text):
        make()


def test_random_signs_are_as_long():
    x, _ = batch(64)
    x_adv = (x + 0.1 * torch.randn(x.shape, generator=generator(2)).sign()).clamp(0, 1)

    def length(v):
        return (v - x).flatten(1).norm(dim=1).mean()

    v = signs(x, x_adv, 0.1)
    assert abs(length(v) / length(x_adv) - 1) < 0.05 and v.min() >= 0 and v.max() <= 1


@pytest.mark.parametrize("name", study.arms)
def test_every_arm_takes_a_step(name):
    "Each objective has a finite slope on real images, and its text tells it from the others"
    torch.manual_seed(0)
    net = SmallCNN(width=4).train()
    x, y = batch()
    recipe = study.recipe("laptop", name)
    loss = recipe.made("objective")(net, x, y, recipe.made("attack")(Linf(0.1), steps=2))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in net.parameters())
    texts = [str(j.config) for j in map(partial(job, size="laptop"), study.arms)]
    assert len({*texts}) == len(study.arms) <= 8


def job(name, size):
    return Job(study, name, size, 0, torch.device("cpu"))


def test_the_diagnosis_of_a_run(monkeypatch, tmp_path):
    "Numbers that fit into a file, for all attacks and classes; the witness is trained once"
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    data = get_data("digits", device="cpu", batch_size=64, n=192)
    brief = dict(epochs=1, steps=2, precision="float32")
    j = Job(
        replace(study, sizes={"laptop": brief}), "PGD-AT", "laptop", 0, torch.device("cpu"), data
    )
    torch.manual_seed(0)
    net = SmallCNN(width=4).eval()
    d = diagnose(net, j, SimpleNamespace(classes=data.train.classes), n=60)
    (made,) = tmp_path.rglob("judge*")
    at = made.stat().st_mtime_ns
    again = diagnose(net, j, SimpleNamespace(classes=data.train.classes), n=60)
    assert json.loads(json.dumps(d)) == d == again and made.stat().st_mtime_ns == at
    assert {*d["images"]} == {"PGD", "0.1", "0.2", "0.3", "matched 0.1", "random signs"} and {
        *d["flips"]["0.1"]
    } == {*data.train.classes, "all"}
    assert all(0 <= v["kept"] <= 1 and 0 <= v["M3"] <= 0.8 for v in d["images"].values())


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


class Linear(nn.Module):
    """z = W (x - .5) + b"""

    def __init__(self, W, b=None):
        super().__init__()
        self.W, self.b = (
            nn.Parameter(W),
            nn.Parameter(torch.zeros(len(W)).to(W) if b is None else b),
        )

    def forward(self, x):
        return (x.flatten(1) - 0.5) @ self.W.T + self.b


def weights_after(objective, steps=3, start=at_x):
    """A small network's parameters and statistics after a few steps of SGD"""
    torch.manual_seed(0)
    net = SmallCNN(width=4)
    opt = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(steps):
        opt.zero_grad()
        objective(
            net.train(),
            torch.rand(16, 1, 8, 8),
            torch.randint(0, 10, (16,)),
            pgd(Linf(0.1), 3, start=start),
        ).backward()
        opt.step()
    return torch.cat([t.flatten() for t in net.state_dict().values()])


def test_a_smoothed_target_is_that_of_pytorch():
    torch.manual_seed(0)
    Z, Y = (3 * torch.randn(200, 10).double(), torch.randint(0, 10, (200,)))
    for a in (0.0, 0.1, 0.2, 0.5):
        q = smooth(Y, a, 10, torch.float64)
        close(q.sum(1), torch.ones(200).double(), eps=1e-12)
        close(q.gather(1, Y[:, None])[:, 0], f64([1 - a + a / 10] * 200), eps=1e-12)
        close(q.amin(1), f64([a / 10] * 200), eps=1e-12)
        close(
            blurred(ce, a)(Z, Y),
            F.cross_entropy(Z, Y, reduction="none", label_smoothing=a),
            eps=1e-12,
        )
        close(blurred(ce, a)(Z, F.one_hot(Y, 10).double()), blurred(ce, a)(Z, Y), eps=1e-12)
        close(blurred(ce, a)(0 * Z, Y), f64([math.log(10)] * 200), eps=1e-12)
    for K, a, gap, least in (
        (10, 0.1, 4.5109, 0.500288),
        (10, 0.2, 3.7136, 0.866894),
        (10, 0.3, 3.1918, None),
        (10, 0.5, 2.3979, None),
        (100, 0.1, 6.8035, None),
        (100, 0.2, 5.994, None),
        (100, 0.3, 5.4567, None),
        (100, 0.5, 4.6151, None),
    ):
        z = torch.zeros(1, K).double()
        z[0, 0] = math.log((1 - a + a / K) / (a / K))
        v, g = value_and_grad(lambda z: (blurred(ce, a)(z, tensor([0])),), z)
        assert (
            g.abs().max() < 1e-12
            and abs(z[0, 0] - gap) < 0.0001
            and (least is None or abs(v - least) < 1e-06)
        )
    half = blurred(ce, 0.3)
    assert (half((Z + Z.flip(0)) / 2, Y) <= (half(Z, Y) + half(Z.flip(0), Y)) / 2 + 1e-12).all()
    one = F.one_hot(Y, 10).double()
    close(blurred(ce, 0.1 * 10 / 9)(Z, Y), ce(Z, 0.9 * one + 0.1 / 9 * (1 - one)), eps=1e-12)
    with pytest.raises(Exception, match=re.escape("a is 1.2")):
        blurred(ce, 1.2)
    equal(blurred(ce, 0.3).__name__, "smoothed(ce, 0.3)")


def test_without_smoothing_the_iterates_are_those_of_pgd():
    Y = torch.randint(0, 10, (200,))
    for objective, start in ((pgd_at, uniform), (trades, gaussian()), (mart, gaussian())):
        plain = weights_after(objective, start=start)
        assert torch.equal(
            weights_after(partial(spat, a=0.0, objective=objective), start=start), plain
        )
        assert not torch.equal(
            weights_after(partial(spat, a=0.2, objective=objective), start=start), plain
        )
    path = []
    for a in (None, 0.0):
        points = []
        attack = pgd(Linf(0.1), 4, generator=generator(0), recorder=lambda s: points.append(s.x))
        torch.manual_seed(0)
        (attack if a is None else preserving(attack, a))(
            SmallCNN(width=4), torch.rand(8, 1, 8, 8), Y[:8]
        )
        path.append(torch.stack(points))
    assert torch.equal(*path)


def test_one_step_on_a_linear_model_is_known():
    torch.manual_seed(1)
    W, x, y = (
        torch.randn(5, 12).double(),
        0.3 + 0.4 * torch.rand(40, 1, 3, 4).double(),
        torch.randint(0, 5, (40,)),
    )
    line = Linear(W)
    p, q = (line(x).softmax(1).detach(), smooth(y, 0.3, 5, torch.float64))
    slope = (p - q) @ W
    x_adv = preserving(fgsm(Linf(0.01)), 0.3)(line, x, y)
    close((x_adv - x).flatten(1), 0.01 * slope.sign(), eps=1e-12)
    tiny = preserving(fgsm(Linf(1e-06)), 0.3)(line, x, y)
    close(
        (blurred(ce, 0.3)(line(tiny), y) - blurred(ce, 0.3)(line(x), y)) / 1e-06,
        slope.abs().sum(1),
        eps=0.001,
    )
    aims = []

    def spy(z, t):
        aims.append(t.detach())
        return ce(z, t)

    spat(line, x, y, pgd(Linf(0.05), 2, start=gaussian(), loss=spy), a=0.3, objective=trades)
    close(aims[0], 0.7 * p + 0.3 / 5, eps=1e-12)
    assert not any(t.requires_grad for t in aims)
    with pytest.raises(Exception, match=re.escape("attack is a Targeted")):
        spat(line, x, y, apgd_t(Linf(0.1)), a=0.2)
    with pytest.raises(Exception, match=re.escape("a is -0.1")):
        preserving(pgd(Linf(0.1)), -0.1)


def test_two_readings_of_one_gradient():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 16, 7)).double()
    x, y, a, K = (torch.rand(12, 2, 6, 6).double(), torch.randint(0, 7, (12,)), 0.3, 7)

    def slope(f):
        return value_and_grad(lambda x: (f(net(x)),), x)[1]

    at_y, lse = (lambda z: z.gather(1, y[:, None])[:, 0], lambda z: z.logsumexp(1))
    left = slope(lambda z: blurred(ce, a)(z, y))
    one = slope(lambda z: ce(z, y)) + a * (slope(at_y) - slope(lambda z: z.mean(1)))
    two = (1 - a) * slope(lambda z: lse(z) - at_y(z)) + a * slope(lambda z: lse(z) - z.mean(1))
    lam = a / (1 - a)
    S2 = slope(
        lambda z: (
            ce(z, y) + lam * torch.stack([ce(z, torch.full_like(y, c)) for c in range(K)]).mean(0)
        )
    )
    u = f64([[1 / K] * K] * 12)
    for _name, other in (("(1)", one), ("(2)", two), ("S2/(1+lam)", S2 / (1 + lam))):
        assert (left - other).abs().max() < 1e-10
    close(
        (lse(net(x)) - net(x).mean(1)).detach(), (kl(net(x), u) + math.log(K)).detach(), eps=1e-10
    )

    def shift(f):
        return (f(net(x) + x.flatten(1).sum(1, keepdim=True)) - f(net(x))).abs().max().item()

    assert shift(lambda z: lse(z) - z.mean(1)) < 1e-10 < 1 < shift(lambda z: z.mean(1))


def test_each_flip_implies_the_next():
    torch.manual_seed(0)
    Z, Y = (
        (torch.rand(20000, 1) * 6).double() * torch.randn(20000, 10).double(),
        torch.randint(0, 10, (20000,)),
    )
    Z[range(20000), Y] += torch.rand(20000).double() * 15
    P = Z.softmax(1)

    def at(v):
        return v.gather(1, Y[:, None])[:, 0]

    rival = P.scatter(1, Y[:, None], 0).argmax(1)
    for a in (0.05, 0.1, 0.2, 0.5):
        d = P - smooth(Y, a, 10, torch.float64)
        dp = P * (d - (P * d).sum(1, keepdim=True))
        truth = dict(
            margin=at(d) - d.gather(1, rival[:, None])[:, 0],
            probability=at(dp) / at(P),
            coefficient=at(d),
        )
        ours = flips(Z, Y, a)
        for k, v in truth.items():
            clear = v.abs() > 1e-12
            assert torch.equal(ours[f"{k} flip"][clear], (v > 0)[clear]), (a, k)
        m, p, c = ours.values()
        assert (~m | p).all() and (~p | c).all()


def test_flips_turn_at_the_thresholds_of_the_table():
    def answer(*p):
        return f64([p]).log()

    def rest(py, K):
        return answer(py, *[(1 - py) / (K - 1)] * (K - 1))

    for K, row in (
        (10, (0.955, 0.91, 0.82, 0.73, 0.55)),
        (100, (0.9505, 0.901, 0.802, 0.703, 0.505)),
    ):
        for a, t in zip((0.05, 0.1, 0.2, 0.3, 0.5), row):
            equal(
                [
                    v.item()
                    for s in (1e-09, -1e-09)
                    for v in flips(rest(t + s, K), tensor([0]), a).values()
                ],
                [True] * 3 + [False] * 3,
            )
            d = rest(t, K).softmax(1) - smooth(tensor([0]), a, K, torch.float64)
            assert abs(d[0, 0] - d[0, 1]) < 1e-12
    odd = answer(0.83, 0.17, *[1e-300] * 8)
    d = odd.softmax(1) - smooth(tensor([0]), 0.2, 10, torch.float64)
    close(d[0, 0].item(), 0.01, eps=1e-09)
    close((odd.softmax(1) * (d - (odd.softmax(1) * d).sum()))[0, 0].item(), -0.0198, eps=0.0001)
    sure = tensor([[25.0, 0, 0, 0]])
    assert (
        1 - sure.softmax(1)[0, 0] == 0
        and all(flips(sure, tensor([0]), 1e-09).values())
        and (not any(flips(sure, tensor([0]), 1e-11).values()))
    )


def test_flip_rates_where_logits_are_pixels():
    line = Linear(4 * f64([[1.0, 0.0], [-1.0, 0.0]]))
    x = f64([[0.9, 0.5], [0.55, 0.5], [0.65, 0.5], [0.3, 0.5]])[:, None, None]
    y = torch.zeros(4, dtype=torch.int64)
    r = flip_rates(line, x, y, pgd(Linf(0.01), 3, 0.001, start=at_x), 0.2, ["only"])
    equal(r.loc["only", "coefficient flip"], r.loc["only", "p_y rose"])
    equal(r.loc["all"].tolist(), [0.25] * 5)
    equal(
        flip_rates(line, x, y, pgd(Linf(0.01), 3, start=at_x), 0.0).loc["all"].tolist(), [0.0] * 5
    )


def test_agreement_masks_and_measures():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 10)
    ).double()
    x = torch.rand(12, 2, 6, 6).double()
    G = class_grads(net, x)
    assert net.training and all(p.grad is None for p in net.parameters())
    net.eval()
    byhand = torch.stack(
        [value_and_grad(lambda x: (net(x).log_softmax(1)[:, c],), x)[1] for c in range(10)]
    )
    close(G, byhand, eps=1e-12)
    assert (net(x).softmax(1).T[..., None, None, None] * G).sum(0).abs().max() < 1e-12
    A = agreement(net, x)
    assert A.max() <= 1 - 2 / 10 + 1e-12
    rows = Linear(torch.randn(1, 12).double().expand(4, 12).clone())
    x4 = torch.rand(3, 1, 3, 4).double()
    equal(agreement(rows, x4, of=lambda z: z), torch.ones_like(x4))
    assert agreement(rows, x4).max() <= 1 - 2 / 4 + 1e-12
    mixed = Linear(f64([[1.0, 1.0, -1.0], [1.0, -1.0, 2.0], [1.0, -2.0, 0.0]]))
    close(
        agreement(mixed, f64([[[[0.5] * 3]]]), of=lambda z: z)[0, 0, 0],
        f64([1.0, 1 / 3, 0.0]),
        eps=1e-12,
    )
    y = torch.randint(0, 10, (12,))

    def attack(steps=4, **kw):
        return pgd(Linf(0.1), steps, start=at_x, generator=generator(0), **kw)

    def S3(steps=4, **kw):
        return attack(steps, step=partial(shared, model=net, **kw))(net, x, y)

    assert torch.equal(S3(t=0.0), attack()(net, x, y)) and torch.equal(S3(t=1.0), x)
    assert torch.equal(S3(1, t=0.5) != x, (A >= 0.5) & (attack(1)(net, x, y) != x))
    grey = 0.25 + 0.5 * x
    moved = [
        (attack(1, step=partial(shared, model=net, t=0.5, random=r))(net, grey, y) != grey)
        .flatten(1)
        .sum(1)
        for r in (False, True)
    ]
    assert torch.equal(*moved) and Linf(0.1).inside(S3(), x).all()
    assert torch.equal(weights_after(partial(spat_shared, t=0.0)), weights_after(pgd_at))
    r = oracle({"itself": net, "reversed": lambda x: -net(x)}, net, x, y)
    right = net(x).argmax(1) == y
    equal(r[r.judge == "itself"].kept.tolist(), right.tolist())
    equal(r[r.judge == "itself"].same.tolist(), (~right).tolist())
    assert not r[r.judge == "reversed"].same.any() and len(r) == 24
    entropy, lead = ambiguity(Linear(torch.zeros(10, 72).double()), x)
    close(entropy, f64([math.log(10)] * 12), eps=1e-06)
    close(lead, torch.zeros(12).double())
    one_pixel = x.clone()
    one_pixel[:, 1, 2, 3] += 0.01
    close(shared_index(net, x, one_pixel), A[:, 1, 2, 3], eps=1e-09)
    W = torch.randn(5, 72).double()
    line = Linear(W)
    close(
        class_directed(line, x, x + 0.1 * (W[3] - W.mean(0)).view(1, 2, 6, 6)),
        torch.ones(12).double(),
        eps=1e-09,
    )
    assert class_directed(line, x, x - 0.1 * (W - W.mean(0))[3].view(1, 2, 6, 6)).max() < 0.9


def test_matched_on_a_linear_model_has_a_formula():
    w = f64([3.0, -1.0, 2.0])
    line, one = (Linear(torch.stack([w / 2, -w / 2])), f64([[[[0.6, 0.45, 0.5]]]]))
    m, full = ((line(one)[0, 0] - line(one)[0, 1]).item(), fgsm(Linf(0.3)))
    zero = tensor([0])
    for eps in (0.05, 0.123, 0.2):
        want = math.log(1 + math.exp(-(m - eps * w.abs().sum().item())))
        found = matched(line, one, zero, full, want, 12)
        close(found.ball.eps, eps, eps=0.3 / 2**12)
        close(found.lr, found.ball.eps)
        close(strength(line, one, zero, found), want, eps=0.001)
    assert (
        matched(line, one, zero, full, 0.0, 12).ball.eps < 0.0001
        and matched(line, one, zero, full, 99.0, 12).ball.eps > 0.2999
    )
    assert torch.isclose(
        at_strength(line, one, zero, full, a=0.0, halvings=14),
        pgd_at(line, one, zero, full),
        rtol=0.001,
    )


def test_the_engine_takes_a_class_wise_target():
    torch.manual_seed(0)
    line, ball, x, y = (
        Linear(torch.randn(10, 64)),
        Linf(0.15),
        torch.rand(9, 1, 8, 8),
        torch.arange(9),
    )
    confused = torch.randint(1, 30, (10, 10)) * (1 - torch.eye(10))
    target = 0.8 * F.one_hot(y, 10) + 0.2 * (confused / confused.sum(1, keepdim=True))[y]
    assert ball.inside(pgd(ball, 2)(line, x, target), x).all()
