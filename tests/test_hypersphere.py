"""The hypersphere head and its margin: files, invariances at random, the pieces that must not see
the scale, and every arm of the study
"""

import copy
import math
import re
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, tensor
from torch.nn import functional as F

from spat_nb import Free, alp, boosted, fgsm, gaussian, kl, mart, tempered, trades, zoo
from spat_nb.attacks.attack import Attack, pgd
from spat_nb.attacks.balls import Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, dlr, margin
from spat_nb.attacks.wrapped import dlr_targeted
from spat_nb.core.rng import generator
from spat_nb.core.tensors import logits
from spat_nb.data.sources import Data, get_data
from spat_nb.models.networks import PreActResNet18, SmallCNN
from spat_nb.models.saving import load, model_info, save
from spat_nb.papers.hypersphere import Hypersphere, gradient_ratio, margin_ce
from spat_nb.papers.hypersphere_scale import at_taus, rescaled
from spat_nb.studies import finding, rows, runner, work
from spat_nb.studies import sizes as sizes_room
from spat_nb.training import building
from spat_nb.training.objectives import pgd_at

sizes = dict(
    b=st.integers(1, 5), d=st.integers(1, 9), c=st.integers(2, 7), seed=st.integers(0, 999)
)


def case(b, d, c, seed, **kw):
    torch.manual_seed(seed)
    return (
        Hypersphere(d, c, **kw).double(),
        torch.randn(b, d, dtype=torch.float64),
        torch.randint(0, c, (b,)),
    )


@settings(max_examples=40, deadline=None)
@given(**sizes, scale=st.floats(0.5, 64), k=st.floats(1e-3, 1e3))
def test_only_directions_count(b, d, c, seed, scale, k):
    head, h, y = case(b, d, c, seed, scale=scale)
    z = head(h)
    assert z.shape == (b, c) and (z.abs() <= scale * (1 + 1e-12)).all()
    torch.testing.assert_close(head(k * h), z)
    torch.testing.assert_close(z, scale * F.cosine_similarity(h[:, None], head.weight[None], dim=2))
    head.weight.data *= k * torch.linspace(1, 3, c, dtype=torch.float64)[:, None]
    torch.testing.assert_close(head(h), z)


@settings(max_examples=40, deadline=None)
@given(**sizes, m=st.floats(0, 1), loss=st.sampled_from(("ce", "margin_ce", "margin")))
def test_no_slope_along_feature_or_row(b, d, c, seed, m, loss):
    head, h, y = case(b, d, c, seed, scale=10.0)
    h.requires_grad_()
    f = dict(ce=ce, margin_ce=margin_ce(m, 10.0), margin=margin)[loss]
    g, G = torch.autograd.grad(f(head(h), y).sum(), (h, head.weight))
    assert (g * h).sum(1).abs().max() < 1e-11 and (G * head.weight).sum(1).abs().max() < 1e-11


@settings(max_examples=40, deadline=None)
@given(**sizes, m=st.floats(0, 1.2), scale=st.floats(0.5, 30))
def test_margin_ce_is_the_fraction(b, d, c, seed, m, scale):
    head, h, y = case(b, d, c, seed)
    cos = head.cosines(h).detach()
    i = torch.arange(b)
    top, rest = (
        (scale * (cos[i, y] - m)).exp(),
        (scale * cos).exp().scatter(1, y[:, None], 0.0).sum(1),
    )
    # -log top/(top+rest)
    torch.testing.assert_close(
        margin_ce(m, scale)(scale * cos, y), (rest / top).log1p(), atol=1e-12, rtol=1e-9
    )
    assert (
        margin_ce(m, scale)(scale * cos, y) >= ce(scale * cos, y) - 1e-12
    ).all() and torch.equal(margin_ce(0.0, scale)(scale * cos, y), ce(scale * cos, y))


def test_switches_are_independent_and_the_official_projection_differs_by_the_radial_part():
    for fn in (True, False):
        for wn in (True, False):
            head, h, _ = case(4, 5, 3, 0, fn=fn, wn=wn, scale=2.0)
            a = h / h.norm(dim=1, keepdim=True) if fn else h
            W = head.weight / head.weight.norm(dim=1, keepdim=True) if wn else head.weight
            torch.testing.assert_close(head(h), 2 * a @ W.T)
    ours, h, y = case(4, 5, 3, 0)
    theirs = case(4, 5, 3, 0, project=True)[0]
    torch.testing.assert_close(ours(h), theirs(h))
    ours.weight.data = theirs.weight.data.clone()
    torch.testing.assert_close(theirs.weight.norm(dim=1), torch.ones(3, dtype=torch.float64))
    a, b = (torch.autograd.grad(ce(m(h), y).sum(), m.weight)[0] for m in (ours, theirs))
    W = ours.weight.detach()
    torch.testing.assert_close(a, b - (b * W).sum(1, keepdim=True) * W)
    assert not torch.allclose(a, b)
    # two passes in one loss, as TRADES has them
    (ce(theirs(h), y) + ce(theirs(2 * h), y)).sum().backward()


@pytest.mark.parametrize(
    "make", [partial(SmallCNN, width=4), partial(PreActResNet18, width=4, channels=1)]
)
@pytest.mark.parametrize(
    "head",
    [
        Hypersphere,
        partial(Hypersphere, scale=10.0),
        partial(Hypersphere, scale=4.0, fn=False, project=True),
    ],
)
def test_files_name_the_head(tmp_path, make, head):
    torch.manual_seed(0)
    net = make(head=head).eval()
    x = torch.rand(3, 1, 8, 8)
    save(net, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert torch.equal(net(x), again(x)) and model_info(tmp_path / "a.safetensors")["model"][
        "head"
    ].startswith("Hypersphere")
    assert (again.head.scale, again.head.fn, again.head.project) == (
        net.head.scale,
        net.head.fn,
        net.head.project,
    )
    one = rescaled(net, 1.0)
    save(one, tmp_path / "b.safetensors")
    assert (
        load(tmp_path / "b.safetensors").head.scale == 1.0
        and torch.equal(one(x), net.head.cosines(net.features(x)))
        and net.head.scale != 1.0
    )


def test_what_must_not_see_the_scale_does_not():
    torch.manual_seed(0)
    net = SmallCNN(width=4, head=partial(Hypersphere, scale=8.0)).double().eval()
    x, y = torch.rand(12, 1, 8, 8, dtype=torch.float64), torch.arange(12) % 10

    def go(m, loss):
        return Attack(Linf(0.1), 5, loss=loss, generator=generator(0))(m, x, y)

    for loss in (margin, dlr, dlr_targeted((y + 1) % 10)):
        torch.testing.assert_close(go(rescaled(net, 1.0), loss), go(net, loss))
    assert not torch.allclose(go(rescaled(net, 1.0), ce), go(net, ce))
    for name, a in at_taus(Linf(0.1), (0.125, 1.0), 5).items():
        a = replace(a, generator=generator(0))
        b = replace(a, loss=ce, generator=generator(0))
        if name.startswith("ce"):
            assert torch.equal(a(net, x, y), b(rescaled(net, 8 * float(name[4:])), x, y))


def test_ce_at_s_and_dlr_agree_where_both_have_arrived():
    "On one feature that is free to move: the sign of cos_y - max other at the end is the same"
    torch.manual_seed(0)
    head = Hypersphere(6, 4, 10.0).double()

    def model(x):
        return head(x.flatten(1) - 0.5)

    x = torch.rand(64, 1, 2, 3, dtype=torch.float64)
    y = model(x).argmax(1)
    for eps in (0.03, 0.08):
        a, b = (
            pgd(Linf(eps), 40, eps / 8, loss=f, generator=generator(0)).run(model, x, y)[2]
            for f in (ce, dlr)
        )
        assert (a != b).sum() <= 2 and a.any() and not a.all()


def test_numbers_that_can_be_known():
    cos = torch.tensor([[0.7, 0.25, 0.1] + 7 * [0.0]], dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.long)
    for s, share in ((1, 0.1368), (5, 0.2875), (10, 0.5563), (15, 0.7874)):
        z = (s * cos).requires_grad_()
        g = torch.autograd.grad(ce(z, y).sum(), z)[0][0, 1:]
        assert (g[0] / g.sum()).item() == pytest.approx(share, abs=5e-5)
    z = (64 * cos).float().requires_grad_()
    assert torch.autograd.grad(ce(z, y).sum(), z)[0][0, 0] == 0
    corner = torch.tensor([[1.0] + 9 * [-1 / 9]], dtype=torch.float64)
    for s, m, want in (
        (1.0, 0.0, 1.376935),
        (1.0, 0.2, 1.530112),
        (10.0, 0.0, 1.345e-4),
        (10.0, 0.2, 9.93e-4),
    ):
        assert margin_ce(m, s)(s * corner, y).item() == pytest.approx(want, rel=5e-4)
    assert torch.tensor(11.1).half().exp().isinf()
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            margin_ce(0.2, 64.0)(logits(lambda v: (64 * v).half(), corner.float()), y)
            .isfinite()
            .all()
        )


def test_gradient_ratio_leaves_all_as_it_was():
    torch.manual_seed(0)
    net = SmallCNN(width=4, head=Hypersphere)
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        r = gradient_ratio(net, x, y, pgd(Linf(0.1), 3), margin_ce(0.1, 15.0))
    assert (
        net.training
        and all(p.grad is None for p in net.parameters())
        and all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values()))
    )
    assert {*r} == {k for k, _ in net.named_parameters() if k != "head.weight"} and all(
        v > 0 and math.isfinite(v) for v in r.values()
    )


@pytest.mark.parametrize(
    "call,error,says",
    [
        (lambda: Hypersphere(4, 3, 0.0), ValueError, "scale is 0.0"),
        (lambda: Hypersphere(4, 3, math.nan), ValueError, "scale is nan"),
        (lambda: margin_ce(-0.1, 10.0), ValueError, "m is -0.1"),
        (lambda: margin_ce(0.1, math.inf), ValueError, "scale is inf"),
        (
            lambda: margin_ce(0.1, 1.0)(torch.zeros(2, 3), torch.ones(2, 3) / 3),
            ValueError,
            "needs labels",
        ),
        (lambda: rescaled(SmallCNN(), 1.0), TypeError, "only a Hypersphere"),
        (lambda: rescaled(SmallCNN(head=Hypersphere), -1.0), ValueError, "scale is -1"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_one_step_moves_both_parts():
    torch.manual_seed(0)
    net = SmallCNN(width=4, head=partial(Hypersphere, scale=10.0))
    x, y = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    pgd_at(net, x, y, pgd(Linf(0.1), 2), loss=margin_ce(0.1, 10.0)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("arm", finding.find_study("hypersphere").arms)
def test_every_arm_of_the_study_runs(arm, tmp_path, monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    tiny = sizes_room.Size(
        "digits",
        "SmallCNN(width=2)",
        "Linf(0.15)",
        1,
        0.1,
        256,
        1,
        steps=1,
        strong=partial(pgd, steps=1),
        judged=4,
        trusted=4,
        cost=0.02,
        precision="float32",
    )
    few = Data(
        *(
            part.subset(k)
            for part, k in zip(get_data("digits", device="cpu", batch_size=64), (128, 20, 20))
        )
    )
    monkeypatch.setattr(building, "get_data", lambda *_, **kw: few)
    monkeypatch.setitem(sizes_room.SIZES, "laptop", tiny)
    # the same for all arms, and tested elsewhere
    monkeypatch.setattr(work, "trust", lambda *_, **kw: SimpleNamespace(checks=[], n=4))
    assert (
        runner.run(
            "hypersphere",
            "laptop",
            seeds=[0],
            arms=[arm],
            quiet=True,
            device="cpu",
            say=lambda *_: None,
        )
        == 1
    )
    (d,) = rows.runs_of("hypersphere")
    assert (
        {"clean", "pgd20", "cw20", "ce x0.1", "dlr", "apgd_ce x0.1", "aa"} <= {*d["attacks"]}
        and 0 <= d["extra"]["transfer"] <= 1
        and d["extra"]["ratio"] > 0
    )


def frameworks(m, s, ball, steps=5):
    """name -> (objective, attack) with a Hypersphere head of scale s"""
    he = margin_ce(m, s)
    return {
        "PGD-AT": (partial(pgd_at, loss=he), pgd(ball, steps)),
        "ALP": (partial(alp, beta=0.5 / s**2, loss=he), pgd(ball, steps)),
        "TRADES": (partial(trades, beta=6.0, loss=he), pgd(ball, steps, start=gaussian())),
        "MART": (partial(mart, loss=partial(boosted, loss=he)), pgd(ball, steps, start=gaussian())),
        "Fast-AT": (
            partial(pgd_at, loss=he),
            pgd(ball, 1, 1.25 * ball.eps, loss=tempered(ce, 1 / s)),
        ),
        "Free-AT": (Free(ball, loss=he), None),
    }


def fraction(cos, y, m, s):
    """-log of e^{s(cos_y - m)} over itself plus the others"""
    top = (s * (cos[range(len(y)), y] - m)).exp()
    return -(top / (top + (s * cos).exp().sum(1) - (s * cos[range(len(y)), y]).exp())).log()


class One(nn.Module):
    """Logits (0, w x)"""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(tensor(3.0).double())

    def forward(self, x):
        v = self.w * x.flatten(1)
        return torch.cat([0 * v, v], 1)


def perfect(s, m=0.0, K=10):
    return math.log(1 + (K - 1) * math.exp(-s * (K / (K - 1) - m)))


def needed(P, K):
    return (K - 1) / K * math.log((K - 1) * P / (1 - P))


def test_the_table_of_scales():
    cos = tensor([0.7, 0.25, 0.1] + 7 * [0.0], dtype=torch.float64)

    def share(s):
        return (s * cos[1:]).softmax(0)[0].item()

    close([share(s) for s in (1, 5, 10, 15)], [0.1368, 0.2875, 0.5563, 0.7874], eps=0.0001)
    equal((64 * cos).float().softmax(0)[0].item(), 1.0)


def test_least_losses_and_scales():
    close([perfect(1), perfect(1, 0.2)], [1.376935, 1.530112], eps=1e-06)
    close([perfect(10), perfect(10, 0.2)], [0.0001345, 0.000993], eps=1e-06)
    close([needed(0.999, 10), needed(0.999, 100)], [8.19, 11.39], eps=0.005)


def test_each_switch_gives_its_half():
    torch.manual_seed(0)
    h, y = (torch.randn(6, 5, dtype=torch.float64), tensor([0, 1, 2, 3, 3, 0]))

    def make(**kw):
        return Hypersphere(5, 4, 10.0, **kw).double()

    head = make()
    by_hand = 10 * h @ head.weight.T / (h.norm(dim=1)[:, None] * head.weight.norm(dim=1))
    close(head(h), by_hand, eps=1e-12)
    assert torch.equal(head(h), 10 * head.cosines(h))
    assert head(h).abs().max() <= 10 and sum(p.numel() for p in head.parameters()) == 20
    close(
        value_and_grad(lambda v: (head.cosines(v)[:, 2],), h)[1],
        torch.stack(
            [
                (torch.eye(5) - torch.outer(n, n))
                @ F.normalize(head.weight[2].detach(), dim=0)
                / v.norm()
                for v in h
                for n in [v / v.norm()]
            ]
        ),
        eps=1e-12,
    )

    def longer(head, rows=False):
        "Largest change of the logits when all features (or rows) are stretched, each by its factor"
        k, twin = (torch.linspace(0.3, 9, 24, dtype=torch.float64), copy.deepcopy(head))
        if rows:
            twin.weight.data = twin.weight.data * k[:4, None]
            return (twin(h) - head(h)).abs().max().item()
        return (head(h * k[:6, None]) - head(h)).abs().max().item()

    def radial(head):
        return (value_and_grad(lambda v: (ce(head(v), y),), h)[1] * h).sum(1).abs().max().item()

    def rows_radial(head):
        return (
            (torch.autograd.grad(ce(head(h), y).sum(), head.weight)[0] * head.weight)
            .sum(1)
            .abs()
            .max()
            .item()
        )

    for fn in (True, False):
        for wn in (True, False):
            one = make(fn=fn, wn=wn)
            seen = (
                longer(one) < 1e-12,
                radial(one) < 1e-12,
                longer(one, rows=True) < 1e-12,
                rows_radial(one) < 1e-12,
            )
            equal(seen, (fn, fn, wn, wn))
    equal(make(fn=False, wn=False)(h).shape, (6, 4))
    assert torch.equal(one(h), 10 * F.linear(h, one.weight))
    with pytest.raises(Exception, match=re.escape("scale is 0.0")):
        Hypersphere(5, 4, 0.0)


def test_the_official_projection_differs_by_the_radial_part():
    h, y = (torch.randn(6, 5, dtype=torch.float64), tensor([0, 1, 2, 3, 3, 0]))

    def make(**kw):
        return Hypersphere(5, 4, 10.0, **kw).double()

    ours, theirs = (make(), make(project=True))
    ours.weight.data = theirs.weight.data = F.normalize(ours.weight.data, dim=1)
    a, b = (torch.autograd.grad(ce(m(h), y).mean(), m.weight)[0] for m in (ours, theirs))
    W = ours.weight.detach()
    close(ours(h), theirs(h), eps=1e-12)
    close(a, b - (b * W).sum(1, keepdim=True) * W, eps=1e-12)
    assert (b * W).sum(1).abs().max() > 0.001
    theirs.weight.data *= 7
    theirs.eval()(h)
    close(theirs.weight.norm(dim=1), 7 * torch.ones(4), eps=1e-09)
    theirs.train()(h)
    close(theirs.weight.norm(dim=1), torch.ones(4), eps=1e-12)


def test_a_file_names_head_scale_and_switches():
    torch.manual_seed(0)
    net = SmallCNN(width=4, head=partial(Hypersphere, scale=10.0, wn=False))
    with tempfile.TemporaryDirectory() as d:
        save(net, Path(d) / "he.safetensors")
        again = load(Path(d) / "he.safetensors")
    x1 = torch.rand(3, 1, 8, 8)
    assert torch.equal(again(x1), net.eval()(x1))
    equal((again.head.scale, again.head.fn, again.head.wn), (10.0, True, False))


def test_margin_ce_against_the_fraction_and_the_simplex():
    h, y = torch.randn(6, 5, dtype=torch.float64), tensor([0, 1, 2, 3, 3, 0])
    head = Hypersphere(5, 4, 10.0).double()
    cos_ = head.cosines(h).detach()
    for m, s in ((0.0, 1.0), (0.2, 1.0), (0.1, 10.0), (0.3, 20.0)):
        close(margin_ce(m, s)(s * cos_, y), fraction(cos_, y, m, s), eps=1e-10)
    corner = tensor([[1.0] + 9 * [-1 / 9]], dtype=torch.float64)
    zero = tensor([0])
    for m, s in ((0.0, 1.0), (0.2, 1.0), (0.0, 10.0), (0.2, 10.0)):
        close(margin_ce(m, s)(s * corner, zero).item(), perfect(s, m), eps=1e-12)
    assert torch.equal(margin_ce(0.0, 10.0)(10 * cos_, y), ce(10 * cos_, y))
    close(
        margin_ce(0.0, 1.0)(cos_, y), ce(F.normalize(h) @ F.normalize(head.weight).T, y), eps=1e-12
    )
    close(margin_ce(10 / 9, 10.0)(10 * corner, zero).item(), math.log(10), eps=1e-12)
    assert (
        tensor(11.1).half().exp().isinf()
        and margin_ce(0.2, 64.0)(64 * corner.float(), zero).isfinite().all()
    )
    with pytest.raises(Exception, match=re.escape("needs labels (b,)")):
        margin_ce(0.1, 10.0)(cos_, cos_.softmax(1))
    with pytest.raises(Exception, match=re.escape("m is -0.1")):
        margin_ce(-0.1, 10.0)


def test_where_scale_and_margin_enter():
    torch.manual_seed(1)
    s, m, ball = (10.0, 0.1, Linf(0.15))
    net = SmallCNN(width=4, head=partial(Hypersphere, scale=s)).double().eval()
    xs, ys = (torch.rand(8, 1, 8, 8, dtype=torch.float64), torch.arange(8))
    near = ball.uniform(xs, generator(0))
    C, Ca = (net.head.cosines(net.features(v)).detach() for v in (xs, near))

    def L(cos):
        return fraction(cos, ys, m, s).mean()

    P, Q = ((s * C).softmax(1), (s * Ca).softmax(1))
    KL = (P * (P / Q).log()).sum(1)
    wrong = torch.where(F.one_hot(ys, 10) == 1, 0.0, Q).amax(1)
    want = {
        "PGD-AT": L(Ca),
        "ALP": 0.5 * L(C) + 0.5 * L(Ca) + 0.5 * ((C - Ca) ** 2).mean(),
        "TRADES": L(C) + 6 * KL.mean(),
        "MART": L(Ca) - (1.0001 - wrong).log().mean() + 5 * ((1 - P[range(8), ys]) * KL).mean(),
        "Fast-AT": L(Ca),
    }
    for name, v in want.items():
        close(
            frameworks(m, s, ball)[name][0](net, xs, ys, lambda *_: near).item(),
            v.item(),
            eps=1e-10,
        )
    free = frameworks(m, s, ball)["Free-AT"][0]
    free.before_fit(None)
    loss = free(net, near, ys)
    loss.backward()
    net.zero_grad()
    close(loss.item(), L(Ca).item(), eps=1e-10)

    def slope(attack, y):
        return value_and_grad(lambda v: (attack.loss(net(v), y),), near)[1]

    def of(f):
        return value_and_grad(lambda v: (f(net.head.cosines(net.features(v))),), near)[1]

    close(8 * free.leaf.grad, of(lambda c: fraction(c, ys, m, s)), eps=1e-10)
    rows = {k: a for k, (_, a) in frameworks(m, s, ball).items()}
    close(slope(rows["PGD-AT"], ys), of(lambda c: ce(s * c, ys)), eps=1e-10)
    close(slope(rows["TRADES"], P), of(lambda c: kl(s * c, P)), eps=1e-10)
    close(slope(rows["Fast-AT"], ys), of(lambda c: ce(c, ys)), eps=1e-10)


def test_attack_and_head_take_the_same_factor():
    xt, yt = get_data("digits", device="cpu").test.tensors()
    H, s, ball = zoo.load("digits/he/w16", "cpu"), 10.0, Linf(0.15)
    some, labels = (xt[:40], yt[:40])
    with torch.no_grad():
        assert torch.equal(rescaled(H, 1.0)(some), H.head.cosines(H.features(some)))

    def fixed(loss):
        return pgd(ball, 5, loss=loss, generator=generator(0))

    twin = rescaled(H, 2 * s)
    for loss in (margin, dlr):
        assert torch.equal(fixed(loss)(twin, some, labels), fixed(loss)(H, some, labels))
    assert torch.equal(fixed(ce)(twin, some, labels), fixed(tempered(ce, 2.0))(H, some, labels))
    equal((twin.head.scale, twin.config["head"].keywords["scale"], H.head.scale), (2 * s, 2 * s, s))
    equal(list(at_taus(ball, (0.5,))), ["ce x0.5", "margin", "dlr"])
    equal(at_taus(ball)["dlr"].lr, ball.eps / 4)
    with pytest.raises(Exception, match=re.escape("only a Hypersphere has a scale")):
        rescaled(SmallCNN(), 1.0)


def test_the_ratio_of_one_weight_is_known():
    def p(x):
        return 1 / (1 + math.exp(-3 * x))

    one, x_ = (One(), tensor([[[[0.5]]]]).double())
    close(
        gradient_ratio(one, x_, tensor([1]), fgsm(Linf(0.2)))["w"],
        (1 - p(0.3)) * 0.3 / ((1 - p(0.5)) * 0.5),
        eps=1e-12,
    )
    xt, yt = get_data("digits", device="cpu").test.tensors()
    H = zoo.load("digits/he/w16", "cpu")
    before = copy.deepcopy(H.train().state_dict())
    same = gradient_ratio(H, xt, yt, lambda m, x, y: x)
    close(list(same.values()), [1.0] * len(same), eps=1e-05)
    assert (
        H.training
        and all((torch.equal(a, b) for a, b in zip(before.values(), H.state_dict().values())))
        and ("head.weight" not in same)
    )


def test_the_scale_twice_is_a_scale_of_225():
    c_ = torch.rand(5, 10, dtype=torch.float64) * 2 - 1
    y_ = torch.arange(5)
    close(
        ce(15 * (15 * c_) - 15 * 0.2 * F.one_hot(y_, 10), y_),
        margin_ce(15 * 0.2 / 225, 225.0)(225 * c_, y_),
        eps=1e-10,
    )
