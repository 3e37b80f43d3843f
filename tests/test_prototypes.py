"""Prototypes, rules and heads: closed forms at random, files, the attacks that match, and every arm
of the study
"""

import itertools
import json
import math
import re
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, tensor
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
    drawn,
    hyperspherical,
    repulsive,
    separation,
    simplex,
)
from spat_nb.papers.prototype_attacks import Aimed, Through, Transfer, refutation
from spat_nb.papers.prototype_rules import RULES, cosine, dot, l2, linf
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


class FlatHead(nn.Module):
    """A Prototypes head on the pixels themselves"""

    def __init__(self, head):
        super().__init__()
        self.head = head.double()

    def forward(self, x):
        return self.head(x.flatten(1) - 0.5)


def gram(K):
    return torch.eye(K) * (1 + 1 / (K - 1)) - 1 / (K - 1)


def test_what_rules_see():
    torch.manual_seed(0)
    h, P = (torch.randn(500, 6).double(), torch.randn(5, 6).double())

    def said(rule, h, P):
        return RULES[rule](h, P).argmax(1)

    close(linf(P, P).diagonal(), torch.zeros(5).double())
    close(l2(P, P).diagonal(), torch.zeros(5).double())
    close(cosine(P, P).diagonal(), torch.ones(5).double())
    close(linf(h, P), -torch.cdist(h, P, p=math.inf), eps=1e-12)
    close(l2(h, P), -torch.cdist(h, P).square(), eps=1e-09)
    k = torch.rand(500, 1).double() * 9 + 0.1
    assert (
        torch.equal(said("dot", k * h, P), said("dot", h, P))
        and torch.equal(said("dot", h / h.abs().amax(1, keepdim=True), P), said("dot", h, P))
        and torch.equal(said("cosine", k * h, P), said("cosine", h, P))
    )
    U = F.normalize(P, dim=1)
    assert (
        torch.equal(said("dot", h, U), said("l2", h, U))
        and torch.equal(said("dot", h, U), said("cosine", h, U))
        and (not torch.equal(said("dot", h, P), said("l2", h, P)))
    )
    two, out = (tensor([[1.0, 0.0], [3.0, 3.0]]), tensor([[1.0, 0.2]]))
    equal([said(k, out, two).item() for k in ("dot", "linf", "l2", "cosine")], [1, 0, 0, 0])


def test_repulsion_grows_without_bound():
    pairs = 10 * 9 // 2
    close(
        repulsive(10, 100, epochs=1),
        repulsive(10, 100, mean=True, lr=0.01 * pairs, epochs=1),
        eps=1e-05,
    )

    def total(P):
        return F.pdist(P, math.inf).sum().item()

    path = [repulsive(10, 100, epochs=e) for e in range(0, 60, 3)]
    assert all((total(b) > total(a) for a, b in zip(path, path[1:]))) and torch.equal(
        path[0], drawn(10, 100)
    )
    largest = {e: repulsive(10, 100, epochs=e).abs().max().item() for e in (0, 100, 200, 400)}
    assert largest[400] > 1.8 * largest[200] > 3 * largest[100]
    for seed in range(4):
        P = repulsive(10, 100, seed)
        far = F.pdist(P, math.inf)
        assert 17 < far.min() < 23 and far.mean() > 25 and (P.abs().max() > 50)
    before = torch.get_rng_state()
    assert torch.equal(repulsive(4, 5, 3), repulsive(4, 5, 3))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(Exception, match=re.escape("classes is 1")):
        repulsive(1, 5)


def test_simplex_and_hyperspherical():
    for K, d in ((2, 1), (3, 2), (4, 3), (10, 9), (10, 64), (100, 99), (100, 256)):
        for seed in (None, 0):
            P = simplex(K, d, seed)
            close(P @ P.T, gram(K), eps=2e-06)
            close(P.sum(0), torch.zeros(d), eps=1e-05)
    equal(simplex(10, 20)[0].tolist(), [1.0] + 19 * [0.0])
    U = torch.linalg.qr(torch.randn(20, 10)).Q
    etf = ((10 / 9) ** 0.5 * U @ (torch.eye(10) - 1 / 10)).T
    close(etf @ etf.T, gram(10), eps=1e-05)
    S = hyperspherical(10, 64)
    close(S.norm(dim=1), torch.ones(10), eps=1e-05)
    assert -1 / 9 - 0.001 <= (S @ S.T - 2 * torch.eye(10)).max() < -0.05 and torch.equal(
        S, hyperspherical(10, 64)
    )
    with pytest.raises(Exception, match=re.escape("at most d+1 = 10 corners")):
        simplex(11, 9)
    with pytest.raises(Exception, match=re.escape("classes is 1")):
        simplex(1, 9)
    with pytest.raises(Exception, match=re.escape("classes is 1")):
        hyperspherical(1, 9)


def test_separation_by_hand():
    s = separation(tensor([[1.0, 0.0], [3.0, 4.0], [2.0, 0.0]]))
    close(
        [s["min Linf"], s["mean Linf"], s["min L2"], s["mean L2"], s["max |P|"]],
        [1.0, 3.0, 1.0, (20**0.5 + 1 + 17**0.5) / 3, 4.0],
        eps=1e-06,
    )
    equal([s["self linf"], s["self l2"]], [1.0, 1.0])
    close(s["self dot"], 1 / 3, eps=1e-06)
    s = separation(simplex(10, 9))
    close(
        [s["cos min"], s["cos max"], s["min L2"], s["mean L2"]],
        [-1 / 9, -1 / 9, (20 / 9) ** 0.5, (20 / 9) ** 0.5],
        eps=1e-05,
    )


def test_self_decision_over_all_points():
    cases = {f"{k}, K=10, d=100": f(10, 100, 0) for k, f in POINTS.items()} | {
        "repulsive (50 epochs), K=100, d=100": repulsive(100, 100, epochs=50),
        "repulsive (50 epochs), K=100, d=500": repulsive(100, 500, epochs=50),
    }
    figures = pd.DataFrame({k: separation(P) for k, P in cases.items()}).T
    assert (figures.filter(like="K=10,", axis=0)["self dot"] == 1).all() and figures.loc[
        "repulsive (50 epochs), K=100, d=100", "self dot"
    ] < 0.5


def test_the_head_and_its_file():
    torch.manual_seed(0)
    f = torch.randn(7, 6)
    for (name, rule), (other, metric) in itertools.product(RULES.items(), RULES.items()):
        head = Prototypes(6, 5, "hyperspherical", name, other)
        h = head.embed(f)
        assert torch.equal(head.eval()(f), rule(h, head.P)) and torch.equal(
            head.train()(f), metric(h, head.P)
        )
    consistent = Prototypes(6, 5, "repulsive", "linf")
    h = consistent.embed(50 * f)
    assert torch.equal(
        consistent.eval()(50 * f).argmax(1), torch.cdist(h, consistent.P, p=math.inf).argmin(1)
    ) and torch.equal(consistent.eval()(f), consistent.train()(f))
    equal([k for k, _ in consistent.named_parameters()], ["embed.weight", "embed.bias"])
    assert not consistent.P.requires_grad
    paper = partial(Prototypes, points="repulsive", rule="dot", metric="linf", width=100)
    filed = Prototypes
    xh = torch.rand(3, 1, 8, 8)
    with tempfile.TemporaryDirectory() as folder:
        for head in (
            filed,
            partial(filed, **paper.keywords),
            partial(filed, points="random", rule="cosine", scale=3.0, seed=7),
        ):
            net = SmallCNN(width=4, head=head).eval()
            save(net, Path(folder) / "net.safetensors")
            again = load(Path(folder) / "net.safetensors")
            assert (
                torch.equal(again(xh), net(xh))
                and torch.equal(again.train()(xh), net.train()(xh))
                and torch.equal(again.head.P, net.head.P)
            )
    with pytest.raises(Exception, match=re.escape("rule is 'nearest'")):
        Prototypes(6, 5, rule="nearest")
    with pytest.raises(Exception, match=re.escape("points is 'grid'")):
        Prototypes(6, 5, "grid")
    with pytest.raises(Exception, match=re.escape("9 classes in 7 dimensions")):
        Prototypes(6, 9, width=7)
    with pytest.raises(Exception, match=re.escape("scale is 0.0")):
        Prototypes(6, 5, scale=0.0)


def test_gradients_of_the_losses():
    torch.manual_seed(1)
    h, P, y = (3 * torch.randn(8, 6).double(), torch.randn(5, 6).double(), torch.arange(8) % 5)

    def slope(rule, loss):
        return value_and_grad(lambda v: (loss(rule(v, P), y),), h)[1]

    g = slope(linf, pull)
    equal((g != 0).sum(1).tolist(), [1] * 8)
    close(g.abs().sum(1), torch.ones(8).double())
    equal(g.abs().argmax(1), (h - P[y]).abs().argmax(1))
    close(slope(l2, pull), 2 * (h - P[y]), eps=1e-12)
    close(slope(l2, ce), 2 * (F.one_hot(y, 5) - l2(h, P).softmax(1)) @ -P, eps=1e-09)
    assert (
        F.pairwise_distance(h, P[y], p=math.inf, eps=1e-06) - pull(linf(h, P), y)
    ).abs().max() <= 1e-06 + 1e-12
    close(pull_cos(cosine(h, P), y), (1 - F.cosine_similarity(h, P[y], dim=1)).square(), eps=1e-12)
    with pytest.raises(Exception, match=re.escape("pull needs labels")):
        pull(linf(h, P), torch.ones(8, 5) / 5)
    with pytest.raises(Exception, match=re.escape("pull_cos needs labels")):
        pull_cos(linf(h, P), torch.ones(8, 5) / 5)


def test_240_combinations():
    torch.manual_seed(0)
    xg, yg, turn = torch.rand(12, 1, 8, 8), torch.arange(12) % 10, itertools.cycle(POINTS)
    grid = itertools.product(
        RULES, RULES, (pull, pull_cos, ce), (standard, pgd_at, trades, alp, mart)
    )
    for rule, metric, loss, objective in grid:
        net = SmallCNN(
            width=2, head=partial(Prototypes, points=next(turn), rule=rule, metric=metric, width=12)
        ).train()
        v = objective(net, xg, yg, pgd(Linf(0.1), 1), loss=loss)
        v.backward()
        grads = torch.cat([p.grad.flatten() for p in (net.body[0].weight, net.head.embed.weight)])
        assert v.isfinite() and grads.isfinite().all() and (grads != 0).any(), (
            rule,
            metric,
            loss,
            objective,
        )


def test_through_another_rule():
    def on_line(**kw):
        head = Prototypes(2, 2, lambda *_: tensor([[-1.0], [1.0]]), width=1, **kw)
        with torch.no_grad():
            head.embed.weight[:], head.embed.bias[:] = (tensor([[3.0, 1.0]]), 0.8)
        return FlatHead(head).eval()

    m = on_line(rule="dot", metric="linf")
    x1, one = tensor([[[[0.6, 0.6]]]], dtype=torch.float64), tensor([1])

    def end(attack):
        return m.head.embed(attack(m, x1, one).flatten(1) - 0.5).item()

    climb = partial(pgd, Linf(0.375), 20, 0.375 / 4, start=at_x)
    close([end(Through(climb(loss=pull), "linf")), end(climb(loss=margin))], [2.7, -0.3], eps=1e-06)
    close([end(Through(climb(loss=margin), r)) for r in ("linf", "l2")], [1.2, -0.3], eps=1e-06)
    assert m.head.rule is dot and torch.equal(
        Transfer(climb(loss=margin), m)(None, x1, one), climb(loss=margin)(m, x1, one)
    )
    with pytest.raises(Exception, match=re.escape("range")):
        Through(climb(), "l2")(m, 2 * x1, one)
    assert m.head.rule is dot
    with pytest.raises(Exception, match=re.escape("no Prototypes head")):
        Through(climb(), "l2")(nn.Linear(2, 2), x1, one)
    with pytest.raises(Exception, match=re.escape("rule is 'l7'")):
        Through(climb(), "l7")(m, x1, one)


def test_radius_in_closed_form():
    torch.manual_seed(2)
    head = Prototypes(12, 6, "simplex", "l2", width=8)
    m = FlatHead(head).eval()
    x = 0.35 + 0.3 * torch.rand(40, 1, 3, 4).double()
    y = m(x).argmax(1)
    A, P, h = (head.embed.weight.detach(), head.P, head.embed(x.flatten(1) - 0.5).detach())
    lead = (l2(h, P).gather(1, y[:, None]) - l2(h, P)) / 2
    need = (
        (lead / ((P[None] - P[y][:, None]) @ A).abs().sum(2))
        .scatter(1, y[:, None], math.inf)
        .amin(1)
    )
    i = (need < 0.3).nonzero()[:, 0]
    assert len(i) > 15
    for j in i[:8].tolist():
        for k, falls in ((1.01, True), (0.99, False)):
            b = Linf(k * need[j].item())
            for attack in (Aimed(pgd(b, 20)), Aimed(pgd(b, 20), rule="l2")):
                equal((m(attack(m, x[[j]], y[[j]])).argmax(1) != y[[j]]).item(), falls)
    b = Linf(0.2)
    for name, attack in refutation(b, "l2", steps=4, queries=20, draws=5, source=m).items():
        x_adv = attack(m, x, y)
        assert b.inside(x_adv, x).all() and m.head.rule is l2, name
    equal([*refutation(b)], ["ce", "margin", "each class", "square", "noise"])


def test_cosine_over_the_batch():
    torch.manual_seed(0)
    P = simplex(10, 16, 0)
    y = torch.randint(0, 10, (8,))
    h = P[y] + 0.5 * torch.randn(8, 16)
    changed = h.clone()
    changed[0] = torch.randn(16)
    moved = {
        d: (F.cosine_similarity(changed, P[y], dim=d) != F.cosine_similarity(h, P[y], dim=d))
        .sum()
        .item()
        for d in (1, 0)
    }
    equal(moved, {1: 1, 0: 16})
    stretched = h * torch.linspace(0.1, 9, 8)[:, None]
    close(
        F.cosine_similarity(stretched, P[y], dim=1), F.cosine_similarity(h, P[y], dim=1), eps=1e-05
    )
    assert (
        F.cosine_similarity(stretched, P[y], dim=0) - F.cosine_similarity(h, P[y], dim=0)
    ).abs().max() > 0.1


def test_a_hundred_classes():
    rows = {}
    for name, P in {
        "random": drawn(100, 100),
        "repulsive, 50 epochs": repulsive(100, 100, epochs=50),
        "repulsive mean, 50 epochs": repulsive(100, 100, mean=True, epochs=50),
        "simplex": simplex(100, 100, 0),
    }.items():
        big = (P.abs() > 0.5 * P.abs().max()).any(0).sum().item()
        rows[name] = {
            "accuracy at training loss 0, dot": separation(P)["self dot"],
            "the same, linf": separation(P)["self linf"],
            "coordinates with an entry above half the largest": big,
            "largest cosine": separation(P)["cos max"],
        }
    assert (
        rows["repulsive, 50 epochs"]["accuracy at training loss 0, dot"] < 0.5
        and rows["repulsive, 50 epochs"]["the same, linf"] == 1
    )


def test_the_default_dtype_of_before_is_not_kept():
    "Prototypes are placed once for each default dtype: neither head meets the other's"
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        first = Prototypes(12, 5, points="repulsive", seed=11)
    finally:
        torch.set_default_dtype(before)
    second = Prototypes(12, 5, points="repulsive", seed=11)
    assert (first.P.dtype, second.P.dtype) == (torch.float64, before)
    assert second(torch.rand(2, 12)).dtype == before
    with torch.device("meta"):
        assert Prototypes(12, 5, seed=11).P.device.type == "meta"
    assert Prototypes(12, 5, seed=11).P.device.type == "cpu"
