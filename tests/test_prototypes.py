"""Prototypes, rules and heads: closed forms at random, files, the attacks that match, and every arm
of the study
"""

import itertools
import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spat_nb.attacks.ascent import at_x
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, margin
from spat_nb.core.precision import Fast
from spat_nb.data.sources import Data, get_data
from spat_nb.models.networks import PreActResNet18, SmallCNN
from spat_nb.models.saving import load, model_info, save
from spat_nb.papers.points import (
    POINTS,
    RULES,
    cosine,
    dot,
    drawn,
    hyperspherical,
    l2,
    linf,
    repulsive,
    separation,
    simplex,
)
from spat_nb.papers.prototype_attacks import Aimed, Through, refutation
from spat_nb.papers.prototypes import Prototypes, pull, pull_cos, ruled
from spat_nb.studies import finding, rows, runner, sizes, work
from spat_nb.training import building
from spat_nb.training.objectives import alp, mart, pgd_at, standard, trades


@settings(max_examples=40, deadline=None)
@given(K=st.integers(2, 30), more=st.integers(0, 8), seed=st.one_of(st.none(), st.integers(0, 99)))
def test_simplex_gram(K, more, seed):
    P = simplex(K, K - 1 + more, seed).double()
    want = torch.eye(K, dtype=torch.float64) * (1 + 1 / (K - 1)) - 1 / (K - 1)
    torch.testing.assert_close(P @ P.T, want, atol=2e-6, rtol=0)
    torch.testing.assert_close(P.sum(0), torch.zeros(K - 1 + more).double(), atol=2e-5, rtol=0)
    with pytest.raises(
        ValueError,
        match=f"{K + 1} classes in {K - 1} dimensions: a simplex has at most d\\+1 = {K} corners",
    ):
        simplex(K + 1, K - 1)


def test_no_arrangement_has_a_smaller_largest_cosine_and_hpn_comes_near():
    for K, d in ((3, 2), (10, 32)):
        for f in POINTS.values():
            s = separation(f(K, d, 0))
            assert s["cos max"] >= -1 / (K - 1) - 1e-5
        assert separation(hyperspherical(K, d, 0))["cos max"] < -1 / (K - 1) + 0.1


@settings(max_examples=30, deadline=None)
@given(K=st.integers(2, 12), d=st.integers(1, 20), seed=st.integers(0, 99), mean=st.booleans())
def test_repulsion_only_ever_repels(K, d, seed, mean):
    far = [
        F.pdist(repulsive(K, d, seed, mean, e), math.inf).double().sum().item()
        for e in (0, 1, 2, 5, 10)
    ]
    assert (
        all(b > a for a, b in zip(far, far[1:]))
        and torch.equal(repulsive(K, d, seed, mean, 0), drawn(K, d, seed))
        and drawn(K, d, seed).abs().max() <= 1
    )
    pairs = K * (K - 1) / 2
    # mean = sum / pairs
    torch.testing.assert_close(
        repulsive(K, d, seed, True, 3, 0.01 * pairs),
        repulsive(K, d, seed, False, 3, 0.01),
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_figures_of_the_specification():
    """Independent runs of the official code's definition, seeds of their own: one row for each way
    in which it goes
    """
    a = [separation(repulsive(10, 100, s)) for s in range(4)]
    assert all(
        17 < s["min Linf"] < 23
        and 40 < s["mean Linf"] < 60
        and 62 < s["max |P|"] < 83
        and s["self dot"] >= 0.9
        for s in a
    )
    s = separation(repulsive(10, 100, 0, mean=True))
    assert (
        s["min Linf"] == pytest.approx(2.05, abs=0.1)
        and s["mean Linf"] == pytest.approx(2.48, abs=0.1)
        and s["cos max"] < 0.3
    )
    s = separation(repulsive(100, 100, 0, epochs=50))
    assert (
        s["self dot"] == pytest.approx(0.39, abs=0.08)
        and 225 < s["mean Linf"] < 260
        and 360 < s["max |P|"] < 395
        and s["cos max"] > 0.98
    )
    s = separation(drawn(100, 500))
    assert s["mean Linf"] == pytest.approx(1.92, abs=0.03) and s["self dot"] == 1


@settings(max_examples=40, deadline=None)
@given(
    b=st.integers(1, 5),
    d=st.integers(2, 9),
    c=st.integers(2, 7),
    seed=st.integers(0, 999),
    k=st.floats(1e-2, 1e2),
)
def test_rules(b, d, c, seed, k):
    torch.manual_seed(seed)
    h, P, y = torch.randn(b, d).double(), torch.randn(c, d).double(), torch.randint(0, c, (b,))
    torch.testing.assert_close(
        linf(h, P), -torch.stack([torch.stack([(u - v).abs().max() for v in P]) for u in h])
    )
    torch.testing.assert_close(
        l2(h, P), 2 * dot(h, P) - (h * h).sum(1, keepdim=True) - (P * P).sum(1)
    )
    torch.testing.assert_close(cosine(k * h, P), dot(F.normalize(h, dim=1), F.normalize(P, dim=1)))
    torch.testing.assert_close(dot(k * h, P), k * dot(h, P))
    U = F.normalize(P, dim=1)
    assert torch.equal(dot(h, U).argmax(1), l2(h, U).argmax(1))
    g = value_and_grad(lambda v: (pull(linf(v, P), y),), h)[1]
    assert (g.abs() == 1).sum(1).eq(1).all() and (g != 0).sum(1).eq(1).all()
    # no sample sees another
    each = torch.cat([pull_cos(cosine(h[[i]], P), y[[i]]) for i in range(b)])
    torch.testing.assert_close(pull_cos(cosine(h, P), y), each)
    assert {separation(P)[f"self {r}"] for r in ("linf", "l2", "cosine")} == {1.0}


def test_dot_is_nearest_only_for_equal_lengths():
    P = torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    h = torch.tensor([[1.0, 0.2]])
    assert [r(h, P).argmax().item() for r in RULES.values()] == [1, 0, 0, 0] and separation(P)[
        "self dot"
    ] == 0.5


def test_the_batch_axis_fault():
    torch.manual_seed(0)
    P, y = simplex(6, 16, 0), torch.arange(8) % 6
    h = P[y] + torch.randn(8, 16)
    other = h.clone()
    other[3] = torch.randn(16)
    a, b = F.cosine_similarity(h, P[y], dim=0), F.cosine_similarity(other, P[y], dim=0)
    assert (
        a.shape == (16,)
        and (a != b).all()
        and (pull_cos(cosine(h, P), y) != pull_cos(cosine(other, P), y)).nonzero().tolist() == [[3]]
    )


def test_everything_combines():
    torch.manual_seed(0)
    x, y, turn = (
        torch.rand(6, 1, 8, 8),
        torch.arange(6),
        itertools.cycle(itertools.product(RULES, RULES)),
    )
    for points, loss, objective in itertools.product(
        POINTS, (pull, pull_cos, ce), (standard, pgd_at, trades, alp, mart)
    ):
        rule, metric = next(turn)
        head = partial(Prototypes, points=points, rule=rule, metric=metric, width=9)
        net = SmallCNN(width=2, head=head).train()
        v = objective(net, x, y, pgd(Linf(0.1), 1), loss=loss)
        v.backward()
        assert (
            v.isfinite()
            and all(p.grad.isfinite().all() for p in net.parameters())
            and net.body[0].weight.grad.abs().max() > 0
            and net.head.P.grad is None
        ), (points, rule, metric, loss, objective)


@pytest.mark.parametrize(
    "make", [partial(SmallCNN, width=4), partial(PreActResNet18, width=4, channels=1)]
)
@pytest.mark.parametrize(
    "head",
    [
        Prototypes,
        partial(Prototypes, points="repulsive", rule="dot", metric="linf", width=100),
        partial(Prototypes, points="hyperspherical", rule="cosine", seed=4, scale=2.0),
    ],
)
def test_files_name_the_head(tmp_path, make, head):
    torch.manual_seed(0)
    net, x = make(head=head), torch.rand(3, 1, 8, 8)
    save(net, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    for mode in (True, False):
        assert torch.equal(net.train(mode)(x), again.train(mode)(x))
    assert (
        model_info(tmp_path / "a.safetensors")["model"]["head"].startswith("Prototypes")
        and torch.equal(net.head.P, again.head.P)
        and (again.head.rule, again.head.metric) == (net.head.rule, net.head.metric)
    )


def test_prototypes_are_fixed_and_their_own():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    nn.Linear(9, 9)
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    a, b = Prototypes(9, 5, "repulsive"), Prototypes(9, 5, "repulsive")
    # no draw but the layer's
    torch.set_rng_state(state)
    Prototypes(9, 5, "repulsive")
    assert torch.equal(torch.get_rng_state(), after)
    a.P.add_(1.0)
    assert (
        not torch.equal(a.P, b.P)
        and torch.equal(b.P, Prototypes(9, 5, "repulsive").P)
        and not torch.equal(b.P, Prototypes(9, 5, "repulsive", seed=1).P)
    )
    head = Prototypes(9, 5, "repulsive", "linf").bfloat16()
    assert head(torch.randn(2, 9).bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert Prototypes(9, 5, rule="dot")(torch.randn(2, 9)).dtype == torch.float32


class Flat(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head.double()

    def forward(self, x):
        return self.head(x.flatten(1) - 0.5)


def test_the_climb_that_runs_the_wrong_way():
    head = Prototypes(2, 2, lambda *_: torch.tensor([[-1.0], [1.0]]), "dot", "linf", width=1)
    m, x, y = Flat(head).eval(), torch.full((1, 1, 1, 2), 0.6).double(), torch.tensor([1])
    with torch.no_grad():
        head.embed.weight[:], head.embed.bias[:] = torch.tensor([[3.0, 1.0]]), 0.8
    for eps in (0.05, 0.2, 0.375):

        def at(a):
            return head.embed(a(m, x, y).flatten(1) - 0.5).item()

        a = partial(pgd, Linf(eps), 30, start=at_x)
        assert at(Through(a(loss=pull), "linf")) == pytest.approx(1.2 + 4 * eps, abs=1e-6) and at(
            a(loss=margin)
        ) == pytest.approx(1.2 - 4 * eps, abs=1e-6) == at(Through(a(loss=margin), "l2"))
        assert (m(a(loss=margin)(m, x, y)).argmax() != 1) == (4 * eps > 1.2) and m(
            Through(a(loss=pull), "linf")(m, x, y)
        ).argmax() == 1


@pytest.mark.parametrize("ball", [Linf, L2])
def test_aimed_attacks_reach_the_closed_form(ball):
    torch.manual_seed(2)
    head = Prototypes(12, 6, "simplex", width=8)
    m = Flat(head).eval()
    x = 0.4 + 0.2 * torch.rand(60, 1, 3, 4).double()
    with torch.no_grad():
        y, z = m(x).argmax(1), m(x)
    w = (head.P[None] - head.P[y][:, None]) @ head.embed.weight.detach()
    reach = w.abs().sum(2) if ball is Linf else w.norm(dim=2)
    need = ((z.gather(1, y[:, None]) - z) / 2 / reach).scatter(1, y[:, None], math.inf).amin(1)
    i = (need < (0.35 if ball is Linf else 0.6)).nonzero()[:6, 0]
    assert len(i) == 6
    for j in i.tolist():
        for k in (0.99, 1.01):
            for a in (
                Aimed(pgd(ball(k * need[j].item()), 10, start=at_x)),
                Aimed(pgd(ball(k * need[j].item()), 10, start=at_x), rule="l2"),
            ):
                assert (m(a(m, x[[j]], y[[j]])).argmax(1) != y[[j]]).item() == (k > 1)


def test_the_lab_keeps_to_ball_and_model():
    torch.manual_seed(0)
    net = SmallCNN(
        width=4, head=partial(Prototypes, points="repulsive", rule="dot", metric="linf", width=20)
    ).train()
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    ball = Linf(0.1)
    x0 = x.clone()
    for m in (net, Fast(net)):
        for k, a in refutation(
            ball, "linf", steps=2, queries=10, draws=3, source=SmallCNN(width=2)
        ).items():
            x_adv = a(m, x, y)
            assert ball.inside(x_adv, x).all() and a.ball == ball, k
            assert (
                net.training
                and net.head.rule is dot
                and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
                and torch.equal(x, x0)
            )
    with pytest.raises(ZeroDivisionError):
        with ruled(net, "l2"):
            assert net.head.rule is l2
            raise ZeroDivisionError
    assert net.head.rule is dot


@pytest.mark.parametrize(
    "call,error,says",
    [
        (lambda: simplex(11, 9), ValueError, "give d >= 10"),
        (lambda: simplex(1, 3), ValueError, "classes is 1"),
        (lambda: repulsive(1, 3), ValueError, "classes is 1"),
        (lambda: hyperspherical(0, 3), ValueError, "classes is 0"),
        (lambda: Prototypes(4, 9), ValueError, "9 classes in 4 dimensions"),
        (lambda: Prototypes(4, 3, points="corners"), ValueError, "points is 'corners'.*simplex"),
        (lambda: Prototypes(4, 3, metric="l1"), ValueError, "metric is 'l1'.*linf"),
        (
            lambda: Prototypes(4, 3, lambda K, d, s: torch.zeros(d, K)),
            ValueError,
            r"shape \(4, 3\).*\(3,4\)",
        ),
        (lambda: Prototypes(4, 3, scale=math.nan), ValueError, "scale is nan"),
        (lambda: pull(torch.zeros(2, 3), torch.ones(2, 3) / 3), ValueError, "pull needs labels"),
        (
            lambda: pull_cos(torch.zeros(2, 3), torch.ones(2, 3) / 3),
            ValueError,
            "pull_cos needs labels",
        ),
        (
            lambda: Through(pgd(Linf(0.1)), "l2")(
                SmallCNN(), torch.rand(2, 1, 8, 8), torch.zeros(2).long()
            ),
            TypeError,
            "SmallCNN|Net has no Prototypes head",
        ),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("arm", finding.find_study("prototypes").arms)
def test_every_arm_of_the_study_runs(arm, tmp_path, monkeypatch):
    from spat_nb.studies import prototypes as P

    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    tiny = sizes.Size(
        "digits",
        "SmallCNN(width=3)",
        "Linf(0.15)",
        1,
        0.1,
        256,
        1,
        steps=1,
        judged=4,
        trusted=4,
        cost=0.02,
        precision="float32",
        strong=fgsm,
    )
    few = Data(
        *(
            part.subset(k)
            for part, k in zip(get_data("digits", device="cpu", batch_size=64), (64, 10, 6))
        )
    )
    monkeypatch.setattr(building, "get_data", lambda *_, **kw: few)
    monkeypatch.setitem(sizes.SIZES, "laptop", tiny)
    monkeypatch.setattr(P, "refutation", lambda *a: refutation(*a, steps=1, queries=5, draws=2))
    monkeypatch.setattr(P, "RADII", (8, 128))
    monkeypatch.setattr(P, "DRAWS", 2)
    monkeypatch.setattr(work, "trust", lambda *a, **kw: SimpleNamespace(checks=(), n=4))
    assert (
        runner.run(
            "prototypes",
            "laptop",
            seeds=[0],
            arms=[arm],
            quiet=True,
            device="cpu",
            say=lambda *_: None,
        )
        == 1
    )
    (d,) = rows.runs_of("prototypes")
    has = arm not in ("standard", "PGD-AT")
    assert {"clean", "pgd20", "cw20", "each class", "square", "noise", "aa"} <= {
        *d["attacks"]
    } and has == ({"training loss", "surrogate", "features"} <= {*d["attacks"]}) == (
        "training loss" in d["extra"]
    )
    assert (
        0 <= d["extra"]["transfer"] <= 1
        and {*d["extra"]["margin"]} == {"8", "128"}
        and json.dumps(d["extra"])
    )
