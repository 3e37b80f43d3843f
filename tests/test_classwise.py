"""Class-wise measures: known truths, the six data sets through tiny official files, a 3-class toy
whose confusions are known, homing
"""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import MAKERS, folder  # noqa: F401, the fixture
from torch import nn

from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.classwise import (
    agreement,
    bootstrap,
    confusion,
    confusion_plot,
    diagnosis,
    disparity,
    epochs,
    families,
    homing,
    norms,
    viewer,
)
from spat_nb.core.settings import settings as reader
from spat_nb.data.batches import Batches
from spat_nb.data.sources import get_data
from spat_nb.measure.intervals import wilson
from spat_nb.measure.record import Record
from spat_nb.models.networks import SmallCNN


def gen(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _closed():
    import matplotlib

    matplotlib.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def record(C, name="pgd20", classes=None):
    "The record whose confusion under `name` is C"
    C = torch.as_tensor(C)
    K = len(C)
    y = torch.arange(K).repeat_interleave(C.sum(1))
    p = torch.cat([torch.arange(K).repeat_interleave(row) for row in C])
    return Record(y, {"clean": y, name: p}, classes or tuple(f"c{k}" for k in range(K)))


class Line(nn.Module):
    "The answer is the nearest of the centres"

    def __init__(self, c=(0.2, 0.5, 0.8)):
        super().__init__()
        self.c = torch.as_tensor(c)

    def forward(self, x):
        return -20 * (x.flatten(1) - self.c) ** 2


def line(n=100, sd=0.05):
    y = torch.arange(3).repeat_interleave(n)
    x = (0.2 + 0.3 * y + sd * torch.randn(3 * n, generator=gen(0))).clamp(0, 1).view(-1, 1, 1, 1)
    return Batches((x * 255).round().byte(), y, ("left", "middle", "right"))


# ---- measures on counts


@settings(max_examples=60, deadline=None)
@given(K=st.integers(2, 30), seed=st.integers(0, 999))
def test_symmetry_and_disparity(K, seed):
    g = gen(seed)
    C = torch.randint(0, 20, (K, K), generator=g)
    S = C + C.T
    p = torch.randperm(K, generator=g)
    assert confusion.symmetry(S) == 1 and 0 <= confusion.symmetry(C) <= 1
    assert (
        torch.allclose(confusion.symmetry(C), confusion.symmetry(C.T))
        and torch.allclose(confusion.symmetry(C), confusion.symmetry(C[p][:, p]))
        and torch.allclose(confusion.symmetry(C), confusion.symmetry(C - C.diag().diag()))
    )
    D = confusion.if_symmetric(C, 50)
    assert (
        torch.equal((D + D.mT).sum(0), 50 * (S + 0.0).double())
        and (D >= 0).all()
        and confusion.symmetry(D).shape == (50,)
    )
    R = torch.rand(K, generator=g).double()
    d = disparity.disparity(R)
    assert (
        abs(d["CV"] - ((R - R.mean()) ** 2).mean()) < 1e-12
        and d["MCD"] == R.max() - R.min()
        and d["worst"] == R.min()
    )
    # Popoviciu
    assert d["worst"] <= d["bottom"] <= d["mean"] and d["CV"] <= d["MCD"] ** 2 / 4 + 1e-12
    o = confusion.neighbours(C)
    assert sorted(o) == list(range(K))

    def link(o):
        return sum((S[a, b] / 1.0 for a, b in zip(o, o[1:] + o[:1])), torch.tensor(0.0))

    if K > 3 and (C.sum(1) == C.sum(1)[0]).all():
        assert link(o) >= link(list(range(K))) - 1e-6


def test_zero_one():
    "Spec 7 and 8"
    d = disparity.disparity([0.0, 1.0])
    assert (d["CV"], d["MCD"]) == (0.25, 1.0)
    assert (
        confusion.symmetry([[5, 2], [2, 9]]) == 1
        and confusion.symmetry([[5, 2], [0, 9]]) == 0
        and confusion.symmetry(torch.zeros(3, 3)) == 1
    )


def test_two_opt_is_at_least_as_good_as_a_thousand_orders():
    S = torch.rand(9, 9, generator=gen(2))
    S = S / S.sum(1, keepdim=True)

    def gain(o):
        return sum((S[a, b] + S[b, a]).item() for a, b in zip(o, [*o[1:], o[0]]))

    C = (S * 1e6).round()
    assert gain(confusion.neighbours(C)) > torch.tensor(
        [gain(torch.randperm(9, generator=gen(k)).tolist()) for k in range(1000)]
    ).quantile(0.99)


def test_bootstrap_against_a_loop():
    "Pairing, missing classes, and the mean of many draws"
    y = torch.tensor([4] * 7 + [1] * 30)
    ok = torch.rand(3, 37, generator=gen(1)) < 0.6
    ok[2] = ~ok[0]
    d = bootstrap.redraw(y, ok, 3000, seed=5)
    # one draw for all rows
    assert d.shape == (3000, 3, 2) and torch.allclose(
        d[:, 0] + d[:, 2], torch.ones(3000, 2).double()
    )
    assert torch.allclose(
        bootstrap.rates(y, ok), torch.stack([ok[:, y == k].double().mean(1) for k in (1, 4)], 1)
    )
    assert (d.mean(0) - bootstrap.rates(y, ok)).abs().max() < 0.015
    lo, hi = bootstrap.basic(bootstrap.rates(y, ok)[0, 0], d[:, 0, 0], lo=0, hi=1)
    a, b = wilson(int(ok[0, y == 1].sum()), 30)
    # for one share: about Wilson's
    assert abs(lo - a) < 0.08 and abs(hi - b) < 0.08
    assert torch.equal(
        bootstrap.basic(torch.tensor(0.0), torch.tensor([math.nan, 1.0, 1.0, 1.0]))[0],
        torch.tensor(-1.0).double(),
    )


def test_null_of_the_minimum():
    "The worst of ten equal classes lies 1.54 standard errors below them"
    d = disparity.disparity(disparity.if_equal(torch.full((10,), 1000), 0.5, 4000))
    se = (0.25 / 1000) ** 0.5
    assert (
        abs((0.5 - d["worst"].mean()) / se - 1.539) < 0.05
        and abs(d["CV"].mean() / (0.9 * se**2) - 1) < 0.05
    )


def test_spearman_against_scipy_on_batches():
    from scipy.stats import rankdata, spearmanr

    a, b = torch.randint(0, 5, (2, 6, 11), generator=gen(0))
    assert torch.allclose(
        agreement.spearman(a, b), torch.tensor([spearmanr(p, q).statistic for p, q in zip(a, b)])
    )
    assert (
        agreement.ranks(a).numpy() == rankdata(a.numpy(), axis=1) - 1
    ).all() and agreement.spearman(torch.ones(3), torch.arange(3)).isnan()


def test_superclasses():
    fine = sorted(c for f in families.FAMILIES[1].values() for c in f)
    home = {c: i for i, cs in enumerate(families.FAMILIES[1].values()) for c in cs}
    assert [len(f) for f in families.FAMILIES[1].values()] == [5] * 20 and families.families(
        fine
    ) is families.FAMILIES[1]
    C = torch.zeros(100, 100).long()
    for i, a in enumerate(fine):
        C[i, i] = 90
        C[i, next(j for j, b in enumerate(fine) if home[b] == home[a] and b != a)] = 7
        C[i, next(j for j, b in enumerate(fine) if home[b] != home[a])] = 3
    f = families.in_family(C, fine, families.FAMILIES[1])
    assert (
        (f["k"], f["n"], f["share"]) == (700, 1000, 0.7)
        and abs(f["chance"] - 4 / 99) < 1e-12
        and (f["lo"], f["hi"]) == wilson(700, 1000)
    )
    ten = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    f = families.in_family(torch.ones(10, 10), ten, families.families(ten))
    assert (f["k"], f["n"]) == (6 * 5 + 4 * 3, 90) and abs(f["chance"] - 42 / 90) < 1e-12


# ---- records


def test_toy_by_construction():
    """Spec 11: three classes on a line.

    The outer two fall into the middle one only, the middle one falls both ways and is the weakest
    """
    d = diagnosis.diagnose(
        Line(), line(), Linf(0.12), precision="float32", progress=False, times=100
    )
    assert list(d.record.preds) == ["clean", "fgsm", "pgd20", "cw20"]
    for name in d.record.attacks:
        C = d.record.confusion(name)
        assert C[0, 2] == C[2, 0] == 0 and min(C[0, 1], C[1, 0], C[1, 2], C[2, 1]) > 5
        # on paper: a point falls where a border (.35, .65) is nearer than .12
        x, y = line().tensors()
        x = x.flatten()
        falls = torch.stack(
            [
                (x + 0.12 > 0.35) & (y == 0),
                ((x - 0.12 < 0.35) | (x + 0.12 > 0.65)) & (y == 1),
                (x - 0.12 < 0.65) & (y == 2),
            ]
        ).any(0)
        # nobody falls who need not
        assert falls[~d.record.correct(name)].all()
        # a random start may climb to the farther border; from x the nearer one is found
        assert name != "fgsm" or torch.equal(d.record.correct(name), ~falls)
    t = d.table("fgsm")
    assert (
        t.index[0] == "middle"
        and t.loc["left", "taken for"] == t.loc["right", "taken for"] == "middle"
    )
    assert d.direction()["symmetry"] > 0.5 and "Who attacks whom" in repr(d)
    m = d.measures().loc["worst"]
    assert (m.value["worst"] == d.record.per_class("worst").accuracy.min()) and (m.lo <= m.hi).all()


def test_gain_slope_finds_the_sign():
    """Weak classes lose more: below 0; strong classes lose more: above; on independent failures of
    equal size the interval holds 0 in most runs
    """

    def two(Rw, Rs, n=600):
        y, u = torch.arange(len(Rw)).repeat_interleave(n), torch.rand(len(Rw) * n, generator=gen(0))

        def fall(R):
            return torch.where(u < torch.tensor(R).repeat_interleave(n), y, (y + 1) % len(Rw))

        return Record(y, {"clean": y, "a": fall(Rw), "b": fall(Rs)}, tuple("vwxyz"[: len(Rw)]))

    down, up = two([0.9, 0.7, 0.5], [0.88, 0.62, 0.35]), two([0.9, 0.7, 0.5], [0.75, 0.62, 0.48])
    assert agreement.gain_slope(down, "a", "b")[2] < 0 < agreement.gain_slope(up, "a", "b")[1]
    assert (
        agreement.gain_slope(down, "a", "b", scale=torch.log)[2] < 0
        and agreement.gains(down, "a", "b").index[0] == "x"
    )
    assert math.isnan(
        agreement.gain_slope(two([0.9, 0.5], [0.5, 0.0]), "a", "b", times=5, scale=torch.log)[0]
    )


def test_measures_skip_classes_without_images_and_save(tmp_path):
    r = record(torch.tensor([[8, 2, 0], [3, 7, 0], [0, 0, 0]]))
    m = disparity.measures(r, "pgd20", times=50)
    assert m.value["MCD"] == pytest.approx(0.1) and m.value["mean"] == pytest.approx(0.75)
    d = diagnosis.Diagnosis(r, times=50)
    assert list(d.table().index) == ["c1", "c0"]
    d.html(tmp_path / "d.html")
    page = (tmp_path / "d.html").read_text()
    assert (
        page.count("data:image/png;base64,") == 2
        and page.count('class="bars"') == 1
        and "http" not in page
    )
    r.save(tmp_path / "r.json")
    assert repr(diagnosis.Diagnosis(Record.load(tmp_path / "r.json"), times=50)) == repr(d)


# ---- the data sets of the paper


def walk(data, ball, tmp_path):
    "Diagnose an untrained network on `data`; every table and picture is made"
    net = SmallCNN(classes=data.c, width=2, channels=data.shape[0], size=data.shape[1])
    d = diagnosis.diagnose(
        net,
        data,
        dict(fgsm=fgsm(ball), pgd2=pgd(ball, 2)),
        precision="float32",
        progress=False,
        times=30,
    )
    assert (
        len(d.record.y) == data.n
        and d.table().n.sum() == data.n
        and tuple(d.record.classes) == tuple(data.classes)
    )
    assert d.record.confusion("pgd2").sum() == data.n
    d.html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("data:image/png") == 2
    return d


@pytest.mark.parametrize("name", MAKERS)
def test_official_formats(name, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    walk(get_data(name, device="cpu", root=tmp_path).test, Linf(8 / 255), tmp_path)


def test_folders(folder, tmp_path):  # noqa: F811
    walk(
        get_data("imagefolder", device="cpu", root=folder, size=16, batch_size=4).test,
        L2(0.5),
        tmp_path,
    )


def test_real_sets_where_present(tmp_path):
    seen = []
    for name, kw in dict(
        digits={},
        mnist={},
        cifar10={},
        cifar100={},
        svhn={},
        stl10={},
        imagefolder=dict(root=reader().data / "imagenette", size=32),
    ).items():
        try:
            data = get_data(name, device="cpu", **kw).test
        except FileNotFoundError:
            continue
        d = walk(data.subset(40), Linf(8 / 255), tmp_path)
        seen.append(name)
        assert (d.groups is not None) == (name in ("cifar10", "cifar100"))
    assert "digits" in seen


@pytest.mark.parametrize("K", [2, 3, 100])
def test_pictures_name_every_class(K):
    C = torch.randint(0, 30, (K, K), generator=gen(K))
    names = [f"class {k}" for k in range(K)]
    ax = confusion_plot.heat(C, names)
    assert sorted(t.get_text() for t in ax.get_yticklabels()) == sorted(names)
    ax = confusion_plot.graph(C, names)
    texts = [t.get_text() for t in ax.texts]
    assert set(names) <= set(texts) and 0 < len(ax.patches) <= min(2 * K, 60)
    assert len(confusion.attackers(C, names, 10**6)) == ((C > 0).sum() - (C.diag() > 0).sum())


# ---- homing


def test_homing_counts_and_controls():
    data = line()

    def place(part):
        return Line(
            torch.stack([(part.x[part.y == k].float() / 255).mean() for k in range(part.c)])
        )

    t = homing.homing(place, place(data), data, data, fgsm(Linf(0.12)), 0, 1, others=[2]).set_index(
        "network"
    )
    n = t.n.iloc[0]
    assert 10 < n < 100 and (t.n == n).all()
    # the way to 1 is closed, or open
    assert (
        t.loc["without j", "fresh"] == t.loc["cut off", "fresh"] == n
        and t.loc["without another", "fresh"] <= 0.1 * n
    )
    t = homing.homing(place, place(data), data, data, fgsm(Linf(0.45)), 0, 1).set_index("network")
    # a strong attack crosses to the far class
    assert t.loc["without j", "saved"] < t.n.iloc[0]
    two_ways = homing.homing(place, place(data), data, data, fgsm(Linf(0.35)), 1, 0).set_index(
        "network"
    )
    # homing by (a), not by (b): a fresh attack takes the other way
    assert (
        two_ways.loc["without j", "saved"]
        == two_ways.n.iloc[0]
        > two_ways.loc["without j", "fresh"]
    )


def test_without_and_cut_agree_on_labels():
    data = line()
    p = homing.without(data, 1)
    assert (
        p.classes == ("left", "right")
        and p.y.bincount().tolist() == [100, 100]
        and torch.equal(p.x, data.x[data.y != 1])
    )
    x, y = p.tensors()
    assert (homing.Cut(Line(), 1)(x).argmax(1) == y).all()


def test_weight_norms():
    net = SmallCNN()
    assert torch.allclose(norms.head_norms(net), net.head.weight.double().norm(dim=1))
    net.head.weight.data = torch.arange(1, 11.0)[:, None].expand(10, 64).clone()
    C = torch.diag(torch.arange(10) * 3 + 2) + torch.roll(
        torch.diag(40 - torch.arange(10) * 3), 1, 1
    )
    rho, lo, hi = norms.norm_agreement(net, record(C), "pgd20")
    assert rho == pytest.approx(1) and lo > 0.9


# ---- viewer


def test_viewer_is_quick_and_lazy():
    test = get_data("digits", device="cpu").test
    net = SmallCNN()
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    w = viewer.viewer(
        net,
        test,
        dict(fgsm=lambda e: fgsm(Linf(e)), pgd20=lambda e: pgd(Linf(e), 20)),
        (0.05, 0.15),
    )
    (k, name, e), first = w.children[0].children, w.children[1].value
    name.value = "pgd20"
    passes.clear()
    k.value = 3
    e.value = 0.15
    # each change: 20 steps on one batch, and a few looks
    assert w.children[1].value != first and len(passes) <= 2 * 25, len(passes)
    code = (
        "import sys, spat_nb.classwise; print([m for m in ('ipywidgets', 'matplotlib', 'pandas',"
        " 'scipy', 'sklearn') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_viewer_without_ipywidgets(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"pip install 'spat_nb\[lab\]'"):
        viewer.viewer(SmallCNN(), get_data("digits", device="cpu").test, {}, (0.1,))


@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: disparity.disparity([0.5, math.nan]), ValueError, "1 of 2 accuracies are NaN"),
        (lambda: diagnosis.diagnose(Line(), line(), 8 / 255), TypeError, "or a ball such as"),
        (
            lambda: diagnosis.diagnose(
                Line((0.1, 0.2)), line(), {}, precision="float32", progress=False
            ),
            ValueError,
            "2 classes but the data has 3",
        ),
        (
            lambda: families.in_family(torch.ones(2, 2), "ab", {"v": "a"}),
            ValueError,
            "'b' is in no family",
        ),
        (
            lambda: agreement.agreement(torch.tensor([0, 1]), {"a": torch.ones(2).bool()}),
            ValueError,
            "two attacks or networks",
        ),
        (
            lambda: homing.homing(None, Line(), line(), line(), fgsm(Linf(0.1)), 1, 1),
            ValueError,
            "must all differ",
        ),
        (
            lambda: homing.homing(None, Line(), line(), line(), fgsm(Linf(0.1)), 0, 2),
            ValueError,
            "no image of class 0 is taken for 2",
        ),
        (lambda: homing.without(line(), 3), ValueError, "class 3 is not among the 3"),
        (lambda: norms.head_norms(Line()), TypeError, "no linear layer"),
        (lambda: epochs.PerClass(line(), 1.5), ValueError, "every is 1.5"),
        (lambda: epochs.plot_epochs({}, "x"), ValueError, "no records"),
        (
            lambda: viewer.view(Line(), line().take(torch.arange(50)), fgsm(Linf(0.1)), 2),
            ValueError,
            "class 2 has no images here",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words) as e:
        call()
    assert "\n" not in str(e.value)
