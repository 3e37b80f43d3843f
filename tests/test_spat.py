"""SPAT: nothing changes at a = 0, flips against derivatives, class gradients against single passes,
and the arms of its study
"""

import copy
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.attacks.ascent import at_x, gaussian, uniform
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.targets import apgd_t
from spat_nb.attacks.wrapped import smooth
from spat_nb.core.precision import fast
from spat_nb.core.rng import generator
from spat_nb.data.sources import get_data
from spat_nb.models.networks import SmallCNN
from spat_nb.papers.spat import Watch, blurred, flip_rates, flips, preserving, spat
from spat_nb.papers.spat_shared import (
    agreement,
    ambiguity,
    at_strength,
    class_grads,
    matched,
    oracle,
    shared,
    shared_index,
    strength,
)
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
