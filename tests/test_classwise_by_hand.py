"""Class-wise measures on invented answers and on three classes on a line: the truth is known"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from asserting import assert_close, assert_eq, assert_fails
from scipy.stats import spearmanr
from torch import nn

from spat_nb import (
    Batches,
    Learner,
    Linf,
    Record,
    SmallCNN,
    diagnose,
    evaluate,
    fgsm,
    get_data,
    pgd,
    pgd_at,
    wilson,
    zoo,
)
from spat_nb.classwise.agreement import agreement, gain_slope, gains, ranks, spearman
from spat_nb.classwise.bootstrap import basic, rates, redraw
from spat_nb.classwise.confusion import attackers, if_symmetric, neighbours, shares, symmetry
from spat_nb.classwise.confusion_plot import graph, heat
from spat_nb.classwise.diagnosis import Diagnosis, usual
from spat_nb.classwise.disparity import disparity, if_equal, measures
from spat_nb.classwise.epochs import PerClass, plot_epochs
from spat_nb.classwise.families import FAMILIES, families, in_family
from spat_nb.classwise.homing import Cut, homing, without
from spat_nb.classwise.norms import head_norms, norm_agreement
from spat_nb.classwise.viewer import view, viewer
from spat_nb.core.rng import generator

ball = Linf(0.15)
data = get_data("digits", device="cpu", batch_size=64, valid=537)


def made(R, n=90, seed=0):
    """A record of invented answers: class k is right with probability R_k, and otherwise answered
    k+1
    """
    y = torch.arange(len(R)).repeat_interleave(n)
    ok = torch.rand(len(y), generator=generator(seed)) < torch.as_tensor(R).repeat_interleave(n)
    return Record(
        y,
        {"clean": y, "pgd20": torch.where(ok, y, (y + 1) % len(R))},
        tuple(map(str, range(len(R)))),
    )


class OnALine(nn.Module):
    "Three classes with centres .2, .5 and .8 in the single pixel; logits -20 (x-centre)^2"

    def forward(self, x):
        return -((x.flatten(1) - torch.tensor([0.2, 0.5, 0.8])) ** 2) * 20


y3 = torch.arange(3).repeat_interleave(100)
x3 = (
    (0.2 + 0.3 * y3 + 0.05 * torch.randn(300, generator=generator(0)))
    .clamp(0.07, 0.93)
    .view(-1, 1, 1, 1)
)
line = evaluate(OnALine(), (x3, y3), "float32", progress=False, fgsm=fgsm(Linf(0.12)))

COARSE = [
    4,
    1,
    14,
    8,
    0,
    6,
    7,
    7,
    18,
    3,
    3,
    14,
    9,
    18,
    7,
    11,
    3,
    9,
    7,
    11,
    6,
    11,
    5,
    10,
    7,
    6,
    13,
    15,
    3,
    15,
    0,
    11,
    1,
    10,
    12,
    14,
    16,
    9,
    11,
    5,
    5,
    19,
    8,
    8,
    15,
    13,
    14,
    17,
    18,
    10,
    16,
    4,
    17,
    4,
    2,
    0,
    17,
    4,
    18,
    17,
    10,
    3,
    2,
    12,
    12,
    16,
    12,
    1,
    9,
    19,
    2,
    10,
    0,
    1,
    16,
    12,
    9,
    13,
    15,
    13,
    16,
    19,
    2,
    4,
    6,
    19,
    5,
    5,
    8,
    19,
    18,
    1,
    2,
    15,
    6,
    0,
    17,
    8,
    14,
    13,
]


def test_disparity():
    d = disparity(torch.tensor([0.0, 1.0]))
    assert_eq([d[k].item() for k in ("mean", "worst", "CV", "MCD")], [0.5, 0.0, 0.25, 1.0])
    R = torch.rand(7, 20, generator=generator(0)).double()
    many = disparity(R)
    # a batch of results is each result
    for i in range(7):
        for k, v in disparity(R[i]).items():
            assert_close(v, many[k][i], eps=1e-12)
    shifted, mixed = (
        disparity(R / 2 + 0.25),
        disparity(R[:, torch.randperm(20, generator=generator(1))]),
    )
    # a square, and a length
    assert_close(shifted["CV"], many["CV"] / 4)
    assert_close(shifted["MCD"], many["MCD"] / 2)
    for k in many:
        assert_close(mixed[k], many[k])  # classes have no order
    assert_close(many["bottom"], R.sort(1).values[:, :4].mean(1))  # 20% of 20 classes
    assert_fails(
        lambda: disparity(torch.tensor([0.5, float("nan")])), contains="1 of 2 accuracies are NaN"
    )


def test_luck_alone():
    n90 = torch.full((10,), 90)
    luck = disparity(if_equal(n90, 0.7, 20000))
    se = (0.7 * 0.3 / 90) ** 0.5
    # E max of ten normals = 1.539
    assert_close(((0.7 - luck["worst"].mean()) / se).item(), 1.54, eps=0.08)
    assert_close(luck["CV"].mean().item(), 0.9 * se**2, eps=2e-5)  # E CV = (K-1)/K p(1-p)/n
    assert_eq(if_equal(torch.tensor([5, 1]), 1.0, 3), torch.ones(3, 2).double())


def test_drawn_again():
    y = torch.tensor([0] * 40 + [2] * 60)
    ok = torch.rand(2, 100, generator=generator(0)) < 0.7
    ok[1] &= ok[0]
    draws = redraw(y, ok, 4000)
    R = rates(y, ok)
    assert_eq(tuple(draws.shape), (4000, 2, 2))  # no image of class 1
    # centred on what was measured
    assert_close(draws.mean(0), R, eps=5e-3)
    # a share's standard error
    assert_close(draws.std(0), (R * (1 - R) / torch.tensor([40.0, 60.0])).sqrt(), eps=4e-3)
    # paired: the same images for both rows
    assert (draws[:, 1] <= draws[:, 0]).all()
    assert torch.equal(redraw(y, ok, 5), redraw(y, ok, 5)) and not torch.equal(
        redraw(y, ok, 5), redraw(y, ok, 5, seed=1)
    )


def coverage(truth, n=90, runs=300, times=300):
    "How often each 95% interval holds the truth"
    N, g = torch.full((runs, len(truth)), float(n)), generator(0)
    seen = torch.binomial(N, truth.expand_as(N), generator=g) / n
    draws = disparity(
        torch.binomial(N.expand(times, -1, -1), seen.expand(times, -1, -1), generator=g) / n
    )
    t, v = disparity(truth), disparity(seen)

    def inside(k, lo, hi):
        return ((lo <= t[k] + 1e-9) & (t[k] <= hi + 1e-9)).double().mean().item()

    return {
        k: (
            inside(k, *draws[k].quantile(torch.tensor([0.025, 0.975]).double(), dim=0)),
            inside(k, *basic(v[k], draws[k])),
        )
        for k in ("worst", "bottom", "CV", "MCD")
    }


def test_what_each_interval_holds():
    truths = {
        "classes .30 to .95": torch.linspace(0.3, 0.95, 10),
        "classes .60 to .80": torch.linspace(0.6, 0.8, 10),
        "all equal at .70": torch.full((10,), 0.7),
    }
    covered = {name: coverage(R) for name, R in truths.items()}

    def sure(name, i):
        return min(v[i] for v in covered[name].values())

    # 90 images of each of 10 classes, 300 runs
    assert sure("classes .30 to .95", 1) > 0.8 and sure("classes .60 to .80", 1) > 0.8
    assert sure("classes .60 to .80", 0) < 0.7 and sure("all equal at .70", 0) < 0.05
    v = torch.tensor([0.5, 0.6])
    draws = torch.stack([v + 0.1 * t for t in torch.linspace(-1, 1, 201)]).double()
    # symmetric draws: the same as the middle 95%
    assert_close(
        torch.stack(basic(v.double(), draws)), torch.stack([v - 0.095, v + 0.095]), eps=1e-6
    )
    assert_eq(
        basic(torch.tensor(0.9).double(), torch.full((9,), 0.4).double(), hi=1.0),
        (torch.tensor(1.0).double(),) * 2,
    )


def test_measures_of_equal_and_unequal_classes():
    same, apart = (
        measures(made([0.7] * 10), "pgd20"),
        measures(made([0.3, 0.5] + [0.8] * 8), "pgd20"),
    )
    assert_close(
        apart.value["MCD"],
        disparity(
            rates(made([0.3, 0.5] + [0.8] * 8).y, made([0.3, 0.5] + [0.8] * 8).correct("pgd20"))
        )["MCD"].item(),
    )
    assert (
        apart.value["MCD"] > apart.equal_hi["MCD"]
        and same.equal_lo["MCD"] < same.value["MCD"] < same.equal_hi["MCD"]
    )


def test_watching_changes_nothing():
    tiny = data.train.subset(128)

    def short(*calls):
        torch.manual_seed(0)
        return (
            Learner(
                SmallCNN(width=4),
                tiny,
                pgd_at,
                pgd(ball, 1),
                3,
                precision="float32",
                callbacks=calls,
            )
            .fit()
            .model
        )

    watch = PerClass(data.valid.subset(50), 2, pgd3=pgd(ball, 3))
    # watching changes nothing
    for a, b in zip(short().state_dict().values(), short(watch).state_dict().values()):
        assert torch.equal(a, b)
    # every second epoch, and the last
    assert_eq(list(watch.records), [2, 3])
    again = PerClass(None)
    again.load(watch.state())
    assert all(
        torch.equal(again.records[e].preds["pgd3"], r.preds["pgd3"])
        for e, r in watch.records.items()
    )
    assert_fails(lambda: PerClass(tiny, 0), contains="every is 0")


def test_a_history_is_drawn():
    axes = plot_epochs({1: made([0.2, 0.9, 0.8]), 2: made([0.5, 0.9, 0.8])}, "pgd20", mark=1)
    plt.close()
    assert_eq([t.get_text() for t in axes[0].get_legend().get_texts()], ["0"])
    assert_close(
        axes[1].lines[2].get_ydata(),
        [
            disparity(rates(r.y, r.correct("pgd20")))["MCD"]
            for r in (made([0.2, 0.9, 0.8]), made([0.5, 0.9, 0.8]))
        ],
    )
    assert_fails(lambda: plot_epochs({}, "pgd10"), contains="no records")


def test_symmetry():
    S = torch.rand(6, 6, generator=generator(0)).double()
    # mirror images; a one-way street
    assert_eq(symmetry(S + S.T).item(), 1.0)
    assert_eq(symmetry(S.triu(1)).item(), 0.0)
    assert_close(symmetry(S), symmetry(7 * S))
    assert_close(symmetry(S), symmetry(S + torch.eye(6) * 9))
    assert_eq(symmetry(torch.eye(3)).item(), 1.0)
    C = torch.tensor([[5, 30, 0], [10, 9, 4], [0, 0, 7]])
    D = if_symmetric(C, 4000)
    # pairs keep their sum, and are even on average
    assert_eq((D + D.mT).unique(dim=0).shape[0], 1)
    assert_close(D.mean(0)[0, 1].item(), 20.0, eps=0.3)
    assert_eq(shares(torch.tensor([[3, 1], [0, 0]])), torch.tensor([[0.75, 0.25], [0, 0]]).double())
    # spec: a toy whose confusions are known by construction
    C = line.confusion("fgsm")
    assert C[0, 2] == C[2, 0] == 0 and min(C[0, 1], C[1, 0], C[1, 2], C[2, 1]) > 10


def test_an_order_of_neighbours_and_the_list():
    ring = torch.zeros(12, 12)
    true = torch.tensor([10, 9, 1, 6, 4, 11, 3, 7, 2, 0, 8, 5])
    # a chain, hidden by a shuffle
    for a, b in zip(true[:-1], true[1:]):
        ring[a, b], ring[b, a] = 5.0, 3.0
    o = neighbours(ring + 20 * torch.eye(12))
    # found, and cut where the chain ends
    assert o in (true.tolist(), true.flip(0).tolist())
    assert_eq(sorted(neighbours(torch.rand(100, 100, generator=generator(0)))), list(range(100)))
    assert_eq([sorted(neighbours(torch.eye(k))) for k in (2, 3)], [[0, 1], [0, 1, 2]])
    t = attackers(line.confusion("fgsm"), line.classes)
    assert set(zip(t["class"], t["taken for"])) == {("0", "1"), ("1", "0"), ("1", "2"), ("2", "1")}
    assert_eq((t.lo[0], t.hi[0]), wilson(int(t.k[0]), 100))
    assert t.share.is_monotonic_decreasing


def test_the_heat_map():
    ax = heat(line.confusion("fgsm"), line.classes)
    plt.close()
    shown = ax.images[0].get_array()
    assert shown.mask.diagonal().all() if hasattr(shown, "mask") else shown.isnan().diagonal().all()
    assert_eq(
        sorted(t.get_text() for t in ax.texts),
        sorted(
            f"{100 * v:.0f}"
            for v in shares(line.confusion("fgsm")).fill_diagonal_(0).flatten().tolist()
            if v
        ),
    )


def test_the_graph():
    ax = graph(line.confusion("fgsm"), line.classes)
    plt.close()
    assert_eq(len(ax.patches), 4)  # the four arrows we know
    widths = {a.get_linewidth() for a in ax.patches}
    assert_close(max(widths), 4.9)
    assert_eq(len(graph(line.confusion("fgsm"), line.classes, edges=1).patches), 1)
    graph(torch.eye(3) * 5, "abc")
    plt.close("all")


# the data set numbers its classes alphabetically
fine = sorted(c for cs in FAMILIES[1].values() for c in cs)


def test_families_are_those_that_everybody_uses():
    # the coarse labels that everybody uses
    assert_eq(
        [[i for i, cs in enumerate(FAMILIES[1].values()) if c in cs] for c in fine],
        [[k] for k in COARSE],
    )
    assert families(fine) is FAMILIES[1] and families("abc") is None and len(fine) == 100
    flat = in_family(torch.ones(100, 100), fine, families(fine))
    assert_eq((flat["k"], flat["n"]), (400, 9900))
    assert_close((flat["share"], flat["chance"]), (4 / 99, 4 / 99))
    assert_fails(
        lambda: in_family(torch.ones(2, 2), ("cat", "unicorn"), FAMILIES[0]),
        contains="'unicorn' is in no family",
    )


def invented(seed=0, inside=0.5):
    "Counts (100,100) with a known share of errors in the family"
    g = generator(seed)
    home = torch.tensor(COARSE)
    near = (home[:, None] == home).double().fill_diagonal_(0)
    far = 1 - near - torch.eye(100)
    taste = torch.rand(100, 100, generator=g) ** 4
    pull = inside * (near * taste) / (near * taste).sum(1, keepdim=True) + (1 - inside) * (
        far * taste
    ) / (far * taste).sum(1, keepdim=True)
    C = torch.zeros(100, 100).long()
    for k, n in enumerate(torch.randint(20, 81, (100,), generator=g).tolist()):
        C[k] += torch.multinomial(pull[k], n, True, generator=g).bincount(minlength=100)
        C[k, k] += 100 - n
    return C


def test_invented_families_are_found():
    C100 = invented()
    found = in_family(C100, fine, families(fine))
    order = [COARSE[k] for k in neighbours(C100)]
    side = sum(a == b for a, b in zip(order, order[1:]))
    assert (
        abs(found["share"] - 0.5) < 5 * (0.25 / found["n"]) ** 0.5 and side > 60
    )  # five deviations


def test_ranks_and_agreement():
    assert_eq(ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist(), [2.5, 0.0, 2.5, 1.0])
    u = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert_eq((spearman(u, u**3).item(), spearman(u, -u).item()), (1.0, -1.0))
    assert spearman(u, torch.ones(4)).isnan()

    # parity with scipy, ties included
    for s in range(5):
        a, b = torch.randint(0, 6, (2, 12), generator=generator(s)).double()
        assert_close(spearman(a, b).item(), spearmanr(a, b).statistic, eps=1e-12)
    r = made([0.3, 0.5, 0.7, 0.9], 200)
    twin = made([0.3, 0.5, 0.7, 0.9], 200, seed=1)
    t = agreement(
        r.y,
        {"a": r.correct("pgd20"), "the same": r.correct("pgd20"), "twin": twin.correct("pgd20")},
    )
    assert_eq(t.rho.tolist(), [1.0, 1.0, 1.0])
    assert_eq((t.lo[0], t.hi[0]), (1.0, 1.0))
    assert_fails(lambda: agreement(r.y, {"a": r.correct()}), contains="needs two")


def test_gains():
    def two(Rw, Rs, n=400, seed=0):
        """Invented answers under a weak and a strong attack; the strong one fells what the weak one
        fells
        """
        y, u = (
            torch.arange(len(Rw)).repeat_interleave(n),
            torch.rand(len(Rw) * n, generator=generator(seed)),
        )

        def fall(R):
            return torch.where(u < torch.as_tensor(R).repeat_interleave(n), y, (y + 1) % len(Rw))

        return Record(
            y, {"clean": y, "weak": fall(Rw), "strong": fall(Rs)}, tuple(map(str, range(len(Rw))))
        )

    flat, steep = (
        two([0.9, 0.8, 0.7, 0.6, 0.5], [0.8, 0.7, 0.6, 0.5, 0.4]),
        two([0.9, 0.8, 0.7, 0.6, 0.5], [0.88, 0.74, 0.6, 0.46, 0.32]),
    )
    g = gains(steep, "weak", "strong")
    assert_close(g.gain, g.weak - g.strong)
    assert_eq(g.index[0], "4")
    w, s = rates(steep.y, torch.stack([steep.correct("weak"), steep.correct("strong")]))

    # it is the least-squares line
    assert_close(
        gain_slope(steep, "weak", "strong")[0], np.polyfit((w + s) / 2, w - s, 1)[0], eps=1e-9
    )
    (_, lo, hi), (_, _, top) = (
        gain_slope(flat, "weak", "strong"),
        gain_slope(steep, "weak", "strong"),
    )
    assert lo < 0 < hi and top < 0  # told apart
    assert_close(
        gain_slope(steep, "weak", "strong", scale=torch.log)[0],
        np.polyfit((w.log() + s.log()) / 2, w.log() - s.log(), 1)[0],
        eps=1e-9,
    )
    # the same loss everywhere is a larger share of little
    assert gain_slope(flat, "weak", "strong", scale=torch.log)[2] < 0


def test_a_diagnosis_is_its_record():
    d = diagnose(
        OnALine(),
        (x3, y3),
        dict(fgsm=fgsm(Linf(0.12)), small=fgsm(Linf(0.06))),
        precision="float32",
        progress=False,
        times=50,
    )
    assert_eq(d.strongest, "fgsm")
    assert torch.equal(d.record.confusion("fgsm"), line.confusion("fgsm"))
    # two neighbours: the weakest
    t = d.table()
    assert_eq(t.loc["0", "taken for"], "1")
    assert_eq(t.loc["2", "taken for"], "1")
    assert_eq(t.index[0], "1")
    C = line.confusion("fgsm")
    assert_eq(tuple(t.loc["1", ["fgsm lo", "fgsm hi"]]), wilson(int(C[1, 1]), 100))
    with tempfile.TemporaryDirectory() as tmp:
        d.html(Path(tmp) / "a.html")
        page = (Path(tmp) / "a.html").read_text()
        assert_eq(page.count("data:image/png"), 2)
        assert "Who attacks whom" in page and "Linf(0.12)" in page and 'src="http' not in page
        # nothing is stored but answers
        d.record.save(Path(tmp) / "r.json")
        assert_eq(repr(Diagnosis(Record.load(Path(tmp) / "r.json"), times=50)), repr(d))
    assert_fails(lambda: diagnose(OnALine(), (x3, y3), 0.1), contains="attacks is 0.1")
    assert_eq(list(usual(Linf(0.1))), ["fgsm", "pgd20", "cw20"])


def test_without_a_class():
    p = without(data.train, 3)
    assert_eq((p.n, p.c, p.classes[3]), (data.train.n - int((data.train.y == 3).sum()), 9, "4"))
    kept = data.train.y != 3
    # names stay with their images
    assert torch.equal(p.x, data.train.x[kept]) and [p.classes[k] for k in p.y] == [
        data.train.classes[k] for k in data.train.y[kept]
    ]
    z = OnALine()(x3)
    assert_close(Cut(OnALine(), 1)(x3), z[:, [0, 2]])
    assert_fails(lambda: without(data.train, 10), contains="class 10 is not among the 10")


def test_homing_on_a_line():
    class Centres(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c = c

        def forward(self, x):
            return -((x.flatten(1) - self.c) ** 2) * 20

    def place(part):
        return Centres(
            torch.stack([(part.x[part.y == k].float() / 255).mean() for k in range(part.c)])
        )

    three = Batches((x3 * 255).round().byte(), y3, tuple("abc"))
    t = homing(place, place(three), three, three, fgsm(Linf(0.12)), 0, 1, others=[2]).set_index(
        "network"
    )
    # the only way out is closed
    assert_eq(t.loc["without j", ["saved", "fresh"]].tolist(), [t.n.iloc[0]] * 2)
    assert_eq(t.loc["cut off", "fresh"], t.n.iloc[0])
    # a way that nobody took (up to the bytes' rounding)
    assert t.loc["without another", "saved"] <= 2 and t.loc["without another", "fresh"] <= 2
    assert_eq(
        (t.loc["without j", "fresh_lo"], t.loc["without j", "fresh_hi"]),
        wilson(t.n.iloc[0], t.n.iloc[0]),
    )
    assert_fails(
        lambda: homing(place, place(three), three, three, fgsm(Linf(0.1)), 0, 2),
        contains="no image of class 0 is taken for 2",
    )
    assert_fails(
        lambda: homing(place, place(three), three, three, fgsm(Linf(0.1)), 0, 0),
        contains="they must all differ",
    )


def test_norms_of_the_head():
    head = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    head[1].weight.data = torch.tensor([[3.0, 4, 0, 0], [0, 0, 1, 0], [0, 2, 0, 0]])
    assert_eq(head_norms(head).tolist(), [5.0, 1.0, 2.0])
    # the order of the norms is the order of the classes
    r3 = made([0.9, 0.2, 0.5], 300)
    assert_eq(norm_agreement(head, r3, "pgd20")[0], 1.0)
    assert_fails(lambda: head_norms(OnALine()), contains="has no linear layer")
    free = spearman(
        torch.rand(5000, 10, generator=generator(0)), torch.rand(5000, 10, generator=generator(1))
    ).abs()
    assert_close(free.quantile(0.95).item(), 0.63, eps=0.03)  # the sentence above


def test_the_viewer():
    net = zoo.load("digits/pgd_at/w16", "cpu")
    test = data.test
    axes = view(net, test, fgsm(Linf(0.0)), 4, show=3)
    # eps 0: the clean answers
    assert_eq(
        [t.get_text() for t in axes[0].get_xticklabels()],
        [test.classes[k] for k in net(test.tensors()[0][test.y == 4][:3]).argmax(1)],
    )
    assert_close(sum(b.get_width() for b in axes[1].patches), 100.0, eps=1e-4)
    plt.close("all")
    assert_fails(
        lambda: view(net, test.take((test.y != 4).nonzero()[:, 0]), fgsm(ball), 4),
        contains="class 4 has no images here",
    )
    w = viewer(
        net,
        test,
        dict(fgsm=lambda e: fgsm(Linf(e)), pgd20=lambda e: pgd(Linf(e), 20)),
        (0.05, 0.1, 0.15, 0.2),
    )
    before, (k, name, e) = w.children[1].value, w.children[0].children
    k.value = 8
    name.value = "pgd20"
    e.value = 0.15
    assert w.children[1].value != before and before[:4] == b"\x89PNG"


def halves(y, ok, n, runs=200):
    """How often two disjoint halves of n images per class name the same weakest class; and the mean
    of their worst accuracies
    """
    g, same, low = generator(0), 0, 0.0
    idx = [(y == k).nonzero()[:, 0] for k in y.unique()]
    for _ in range(runs):
        cut = [i[torch.randperm(len(i), generator=g)] for i in idx]
        a, b = (torch.stack([ok[c[s : s + n]].double().mean() for c in cut]) for s in (0, n))
        same, low = (
            same + int(a.argmin() == b.argmin()) / runs,
            low + (a.min() + b.min()).item() / 2 / runs,
        )
    return same, low


def test_the_fewer_images_the_lower_the_worst_class():
    net = zoo.load("digits/pgd_at/w16", "cpu")
    test = data.test
    ok = evaluate(net, test, progress=False, pgd20=pgd(ball, 20)).correct("pgd20")
    seen = {n: halves(test.y, ok, n) for n in (4, 16)}
    assert seen[4][1] < seen[16][1]


def test_a_correlation_with_itself():
    def tempting(r):
        w, s = rates(r.y, torch.stack([r.correct("weak"), r.correct("strong")]))
        return np.polyfit(s, w - s, 1)[0]

    def loose(seed, n=30):
        "Equal gain in each of ten equal classes; the two attacks fail on images of their own"
        y, u = (
            torch.arange(10).repeat_interleave(n),
            torch.rand(2, 10 * n, generator=generator(seed)),
        )
        return Record(
            y,
            {
                "clean": y,
                **{
                    k: torch.where(u[i] < p, y, (y + 1) % 10)
                    for i, (k, p) in enumerate((("weak", 0.7), ("strong", 0.6)))
                },
            },
            tuple("0123456789"),
        )

    naive, fair = zip(
        *[
            (tempting(loose(s)), gain_slope(loose(s), "weak", "strong", times=2)[0])
            for s in range(100)
        ]
    )
    assert np.mean(naive) < -0.8 and abs(np.mean(fair)) < 0.3
