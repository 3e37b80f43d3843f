"""Activations: formulas at random, what a gate sees, frozen gates that stay, every objective with
every activation, and every arm of the studies
"""

import copy
import math
import re
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, tensor
from torch.nn import functional as F

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, margin
from spat_nb.core.rng import generator
from spat_nb.data.sources import Data, get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.layers import activation
from spat_nb.models.net import count
from spat_nb.models.networks import PreActResNet18, PreActResNet34, SmallCNN, WideResNet
from spat_nb.models.saving import load, model_info, save
from spat_nb.papers.activations import DYReLU, FReLU, Gate, PSSiLU, SmoothReLU
from spat_nb.papers.gate_costs import context, overhead
from spat_nb.papers.gate_moves import by_width, freeze, gates, move
from spat_nb.papers.gates import _watched, cut, gate_values, held, off_centre, saturated, wired
from spat_nb.papers.sparta import ACTIVATIONS, PooledSparta, Sparta, elsewhere
from spat_nb.studies import finding, job, rows, runner, sizes, work
from spat_nb.training import building
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import alp, mart, pgd_at, standard, trades

LEARNING = [k for k, a in ACTIVATIONS.items() if list(activation(a, 4).parameters())]


def made(make, c=4, std=0.5):
    "The activation with other weights than its first ones, float64, eval mode"
    act = activation(make, c).double().eval()
    if isinstance(act, Gate):
        [nn.init.normal_(p, std=std) for p in act.parameters() if p.ndim]
    return act


def state(m):
    return {k: v.clone() for k, v in m.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@settings(max_examples=30, deadline=None)
@given(v=st.floats(-60, 60), r=st.floats(0.3, 40), b=st.floats(-2, 0.9), c=st.floats(-4, 4))
def test_formulas_at_random(v, r, b, c):
    x = torch.full((1, 1, 1, 1), v, dtype=torch.float64)
    beta = torch.tensor(r).double().item() ** 2
    assert SmoothReLU(r).double()(x).item() == pytest.approx(
        v - math.log(1 + beta * v) / beta if v > 0 else 0, abs=1e-5, rel=1e-6
    )
    sig = 1 / (1 + math.exp(-c * v)) if c * v > -700 else 0.0
    assert PSSiLU(b, c).double()(x).item() == pytest.approx(
        v * (sig - b) / (1 - b), abs=1e-4, rel=1e-4
    )
    p = Sparta(1, k=1).double().eval()
    p.around[1].eps = 1e-30
    nn.init.constant_(p.around[0].weight, c)
    assert p(x).item() == pytest.approx(v * sig, abs=1e-5, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    b=st.integers(1, 3),
    c=st.integers(1, 5),
    h=st.integers(1, 7),
    w=st.integers(1, 7),
    k=st.sampled_from((1, 3, 5)),
    seed=st.integers(0, 99),
    rectify=st.booleans(),
    full=st.booleans(),
)
def test_sparta_is_its_formula(b, c, h, w, k, seed, rectify, full):
    torch.manual_seed(seed)
    x = torch.randn(b, c, h, w, dtype=torch.float64)
    s = made(partial(Sparta, k=k, rectify=rectify, full=full), c)
    conv, bn = s.around
    nn.init.normal_(bn.running_mean)
    nn.init.uniform_(bn.running_var, 0.5, 2)
    T = F.conv2d(x, conv.weight, padding=k // 2, groups=1 if full else c)
    g = 1 / (
        1
        + torch.exp(
            -(
                (T - bn.running_mean[:, None, None])
                / (bn.running_var[:, None, None] + bn.eps).sqrt()
                * bn.weight[:, None, None]
                + bn.bias[:, None, None]
            )
        )
    )
    torch.testing.assert_close(s(x), (2 * x.clamp_min(0) if rectify else x) * g)
    torch.testing.assert_close(s.gate(x), g)
    v = PooledSparta(k).double()
    nn.init.normal_(v.conv.weight)
    m = torch.stack([x.mean(1), x.amax(1)], 1)
    torch.testing.assert_close(
        v(x), 2 * x.relu() * F.conv2d(m, v.conv.weight, padding=k // 2).sigmoid()
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_shape_dtype_slope_and_start(name):
    act = made(ACTIVATIONS[name])
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64)
    assert act(x).shape == x.shape and copy.deepcopy(act).float()(x.float()).dtype == torch.float32
    for p in act.parameters():
        p.requires_grad_(False)
    assert torch.autograd.gradcheck(act, (x.clone().requires_grad_(),))
    for at in (0.0, 40.0, -40.0):
        assert (
            value_and_grad(lambda v: (act(v).flatten(1).sum(1),), torch.full_like(x, at))[1]
            .isfinite()
            .all()
        )
    new = activation(ACTIVATIONS[name], 4).double().eval()
    base = (
        F.silu
        if name in ("PSSiLU", "Sparta (V2)", "Sparta 1x1")
        else F.relu
        if isinstance(new, Gate) and name != "SmoothReLU"
        else None
    )
    if base:
        torch.testing.assert_close(new(x), base(x), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_gate_sees_its_window_and_nothing_else(k):
    s = made(partial(Sparta, k=k))
    x = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    y = x.clone()
    y[0, 1, 4, 4] += 1
    moved = (s(x) - s(y)).abs()[0] > 1e-12
    r = k // 2
    want = torch.zeros(4, 9, 9, dtype=torch.bool)
    want[1, 4 - r : 5 + r, 4 - r : 5 + r] = True
    assert torch.equal(moved, want)
    # equal there, different around
    a = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    a[..., 4, 4] = x[..., 4, 4]
    assert torch.equal(s(a)[..., 4, 4], s(x)[..., 4, 4]) == (k == 1) and torch.equal(
        a.relu()[..., 4, 4], x.relu()[..., 4, 4]
    )


def test_the_shuffled_gate_is_the_gate_of_another_place():
    v = torch.arange(32.0).view(1, 2, 4, 4)
    assert torch.equal(elsewhere(elsewhere(v)), v) and not (elsewhere(v) == v).any()
    torch.manual_seed(0)
    a = made(Sparta)
    b = made(partial(Sparta, shuffle=True))
    b.load_state_dict(a.state_dict())
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(b.gate(x), a.gate(x).roll((3, 3), (2, 3)))
    torch.testing.assert_close(b(x), x * b.gate(x))


def test_parameters_of_the_specification():
    base = count(build18())
    for act, more in (
        (Sparta, 42944),
        (FReLU, 42944),
        (partial(Sparta, rectify=True), 42944),
        (by_width(Sparta), 10560),
        (PooledSparta, 1666),
        (PSSiLU, 34),
        (nn.PReLU, 17),
    ):
        assert count(build18(act=act)) - base == more
    full = count(build18(act=partial(Sparta, full=True))) - base
    assert (
        full - 2 * 3904 == 9 * (5 * 64**2 + 4 * 128**2 + 4 * 256**2 + 4 * 512**2)
        and 0.0038 < 42944 / base < 0.0039
    )
    with torch.device("meta"):
        assert count(WideResNet(34, 10, act=Sparta)) - count(WideResNet(34, 10)) == 123376


def build18(**kw):
    with torch.device("meta"):
        return PreActResNet18(**kw)


objectives = {"standard": standard, "PGD-AT": pgd_at, "TRADES": trades, "ALP": alp, "MART": mart}


@pytest.mark.parametrize("objective", objectives)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_objective_with_every_activation(name, objective):
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=ACTIVATIONS[name])
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    before = state(net)
    opt = torch.optim.SGD(net.parameters(), 0.05)
    # the second step reaches what stands behind a weight that began at 0
    for _ in range(2):
        opt.zero_grad()
        loss = objectives[objective](net.train(), x, y, pgd(Linf(0.1), 1, start=gaussian()))
        loss.backward()
        opt.step()
        assert loss.isfinite() and net.training
    assert all(
        not torch.equal(before[k], p)
        for k, p in net.named_parameters()
        if p.numel() > 8 and "around.0" not in k and "coef.0" not in k
    )
    assert all(p.isfinite().all() for p in net.state_dict().values())


@pytest.mark.parametrize("name", LEARNING)
def test_frozen_gates_stay_bit_for_bit(name):
    torch.manual_seed(0)
    net = freeze(SmallCNN(width=4, act=ACTIVATIONS[name]))
    before = {k: state(m) for k, m in gates(net).items()}
    first = net.body[0].weight.detach().clone()
    data = get_data("digits", device="cpu", batch_size=64, n=64)
    Learner(net, data.train, pgd_at, pgd(Linf(0.1), 1), 1, 0.1, precision="float32").fit()
    assert all(
        same(v, state(m)) for v, m in zip(before.values(), gates(net).values())
    ) and not torch.equal(first, net.body[0].weight)
    evaluate(net.train(), data.test.subset(10), "float32", progress=False, a=pgd(Linf(0.1), 1))
    assert (
        net.training
        and not any(
            m.training for g in gates(net).values() for m in g.modules() if isinstance(g, Gate)
        )
        and all(p.grad is None for g in gates(net).values() for p in g.parameters())
    )
    x = torch.rand(4, 1, 8, 8)
    assert (
        (value_and_grad(lambda v: (ce(net(v), torch.arange(4)),), x)[1] != 0)
        .flatten(1)
        .any(1)
        .all()
    )


def test_gates_move_between_depths():
    torch.manual_seed(0)
    a, b = (f(width=4, channels=1, act=by_width(Sparta)) for f in (PreActResNet18, PreActResNet34))
    for m in gates(a).values():
        nn.init.normal_(m.around[0].weight)
        nn.init.normal_(m.around[1].running_mean)
    assert all(not same(state(m), state(n)) for m, n in zip(gates(a).values(), gates(b).values()))
    assert (
        move(a, b) is b
        and all(
            same(state(m), state(n)) and m is not n
            for m, n in zip(gates(a).values(), gates(b).values())
        )
        and len(gates(b)) == 4
    )
    n18, n34 = (
        sum(isinstance(m, Sparta) for _, m in n.named_modules(remove_duplicate=False))
        for n in (a, b)
    )
    assert (n18, n34) == (17, 33)
    s = SmallCNN(act=Sparta)
    before = state(s)
    move(SmallCNN(act=partial(Sparta, shuffle=True)), s)
    assert same(
        {k: v for k, v in before.items() if "around" not in k},
        {k: v for k, v in state(s).items() if "around" not in k},
    )


@pytest.mark.parametrize(
    "act",
    [
        Sparta,
        partial(Sparta, k=5, rectify=True),
        partial(Sparta, shuffle=True),
        PooledSparta,
        FReLU,
        DYReLU,
        PSSiLU,
        SmoothReLU,
    ],
)
def test_files_name_the_activation(tmp_path, act):
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=act).eval()
    x = torch.rand(3, 1, 8, 8)
    save(net, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    said = model_info(tmp_path / "a.safetensors")["model"]["act"]
    assert torch.equal(net(x), again(x))
    assert said.split("(")[0] == getattr(act, "func", act).__name__


def test_shared_gates_survive_a_file(tmp_path):
    torch.manual_seed(0)
    net = PreActResNet18(width=4, channels=1, act=by_width(Sparta)).eval()
    x = torch.rand(2, 1, 8, 8)
    save(net, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors", act=by_width(Sparta))
    assert torch.equal(net(x), again(x)) and len(gates(again)) == 4


def test_twins_answer_alike_and_leave_the_network_alone():
    torch.manual_seed(0)
    x, y = torch.rand(6, 1, 8, 8, dtype=torch.float64), torch.arange(6)
    for act in (Sparta, FReLU, PooledSparta, by_width(Sparta)):
        net = SmallCNN(width=4, act=act).double().eval()
        before = state(net)
        for m in gates(net).values():
            [nn.init.normal_(p) for p in m.parameters()]
        twin = wired(net, lambda: torch.Tensor.detach)
        assert torch.equal(twin(x), net(x))
        start = state(net)

        def slope(m):
            return value_and_grad(lambda v: (margin(m(v), y),), x)[1]

        assert not torch.allclose(slope(twin), slope(net))
        ends = {
            f.__name__: f(pgd(Linf(0.1), 3, generator=generator(0)))(net, x, y) for f in (cut, held)
        }
        assert all(Linf(0.1).inside(v, x).all() for v in ends.values()) and not torch.equal(
            ends["cut"], ends["held"]
        )
        # at the clean image they are one
        one = {
            f.__name__: f(pgd(Linf(0.1), 1, start=lambda x, b, g: x))(net, x, y)
            for f in (cut, held)
        }
        torch.testing.assert_close(one["cut"], one["held"])
        assert (
            same(start, state(net))
            and not same(before, start)
            and all(m.wire is None for m in gates(net).values())
        )
    shared = PreActResNet18(width=4, channels=1, act=by_width(Sparta)).eval()
    assert [len(v) for v in gate_values(shared, torch.rand(2, 1, 8, 8)).values()] == [5, 4, 4, 4]
    assert (
        all(0 <= v <= 1 for v in saturated(shared, torch.rand(2, 1, 8, 8), 0.4).values())
        and max(saturated(shared, torch.rand(2, 1, 8, 8)).values()) < 0.5
    )


def test_what_hides_a_slope_is_found():
    """Gates with huge weights saturate; cut finds what the plain attack finds where the gate has no
    slope of its own
    """
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=Sparta).eval()
    x = torch.rand(16, 1, 8, 8)
    soft = saturated(net, x)
    for m in gates(net).values():
        nn.init.constant_(m.around[1].weight, 1e4)
    assert all(v > 0.9 for v in saturated(net, x).values()) and all(v < 0.1 for v in soft.values())
    y = net(x).argmax(1)

    def go(f):
        return f(pgd(Linf(0.05), 2, generator=generator(0)))(net, x, y)

    assert (go(cut) == go(lambda a: a)).double().mean() > 0.9


@settings(max_examples=20, deadline=None)
@given(r=st.floats(0, 1), seed=st.integers(0, 99), a=st.floats(0.1, 9), b=st.floats(-5, 5))
def test_context(r, seed, a, b):
    torch.manual_seed(seed)
    x, e = torch.randn(2, 40, 2, 12, 12)
    y = r**0.5 * e + (1 - r) ** 0.5 * x
    assert (
        context(x, y) == pytest.approx(r, abs=0.07)
        and context(x, a * y + b) == pytest.approx(context(x, y), abs=1e-6)
        and context(x, x.relu()) < 0.01
        and context(x, x * 0 + b) == 0
    )


def test_off_centre():
    net = SmallCNN(width=4, act=partial(Sparta, k=5))
    assert list(off_centre(net).values()) == [0.0] * 3
    for m in gates(net).values():
        nn.init.constant_(m.around[0].weight, -0.3)
    assert (
        list(off_centre(net).values()) == pytest.approx([24 / 25] * 3)
        and list(off_centre(SmallCNN(width=4, act=partial(Sparta, k=1))).values()) == [0.0] * 3
        and off_centre(SmallCNN(act=PSSiLU)) == {}
    )


def test_overhead():
    t = overhead(partial(SmallCNN, width=4), torch.rand(4, 1, 8, 8), rounds=1)
    assert list(t.index) == list(ACTIVATIONS) and (t.ms > 0).all() and t["more_%"].iloc[0] == 0
    assert "ms" not in overhead(PreActResNet34, acts={"ReLU": nn.ReLU, "Sparta": Sparta})


@pytest.mark.parametrize(
    "call,error,says",
    [
        (lambda: Sparta(4, 2), ValueError, "k is 2"),
        (lambda: Sparta(4, 0), ValueError, "k is 0"),
        (lambda: FReLU(4, 4), ValueError, "k is 4"),
        (lambda: PooledSparta(-1), ValueError, "k is -1"),
        (lambda: PSSiLU(1.0), ValueError, "b is 1.0"),
        (lambda: SmoothReLU(0.0), ValueError, "root is 0"),
        (lambda: gates(SmallCNN()), ValueError, "no activation with weights"),
        (lambda: freeze(SmallCNN()), ValueError, "act=Sparta"),
        (
            lambda: cut(pgd(Linf(0.1)))(SmallCNN(), torch.rand(1, 1, 8, 8), torch.tensor([0])),
            ValueError,
            "no activation with weights",
        ),
        (
            lambda: move(PreActResNet18(width=2, act=Sparta), PreActResNet34(width=2, act=Sparta)),
            ValueError,
            "17 gates but the target 33",
        ),
        (
            lambda: move(SmallCNN(width=2, act=Sparta), SmallCNN(width=4, act=Sparta)),
            ValueError,
            "does not fit",
        ),
        (
            lambda: gate_values(SmallCNN(act=nn.PReLU), torch.rand(1, 1, 8, 8)),
            ValueError,
            "no gate in",
        ),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize(
    "name,arm", [(s, a) for s in ("sparta", "sparta_transfer") for a in finding.studies()[s].arms]
)
def test_every_arm_of_the_studies_runs(name, arm, tmp_path, monkeypatch):

    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    tiny = sizes.Size(
        "digits",
        "SmallCNN",
        "Linf(0.15)",
        1,
        0.1,
        64,
        1,
        steps=1,
        judged=4,
        trusted=4,
        cost=0.02,
        precision="float32",
        strong=partial(pgd, steps=1),
    )
    few = Data(
        *(
            part.subset(k)
            for part, k in zip(get_data("digits", device="cpu", batch_size=64), (32, 10, 10))
        )
    )
    monkeypatch.setitem(sizes.SIZES, "laptop", tiny)
    monkeypatch.setattr(
        building,
        "get_data",
        lambda name, **kw: (
            few if name == "digits" else Data(*(p.with_(x=F.pad(p.x, [10] * 4)) for p in few))
        ),
    )
    monkeypatch.setattr(type(few.test), "subset", lambda self, n, *a, **kw: self)
    # one real card is enough
    if arm != "Sparta (V2)":
        monkeypatch.setattr(work, "trust", lambda *_, **kw: SimpleNamespace(checks=(), n=4))
    assert (
        runner.run(
            name, "laptop", seeds=[0], arms=[arm], quiet=True, device="cpu", say=lambda *_: None
        )
        == 1
    )
    (d,) = rows.runs_of(name)
    assert {"clean", "pgd20", "cw20", "aa"} <= {*d["attacks"]} and all(
        0 <= v <= 1 for k in ("saturated", "off_centre") for v in d["extra"].get(k, {}).values()
    )
    act = d["config"]["recipe"]["model"]
    assert ("cut" in d["attacks"]) == ("act=Sparta" in act) and [
        r for r in d["history"] if "robust" in r
    ]


def test_on_cifar_the_gates_move_from_resnet_18_to_34(monkeypatch):
    from spat_nb.papers.gate_moves import by_width, freeze
    from spat_nb.studies import sparta_transfer as T

    x = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
    part = get_data("digits", device="cpu").test.subset(20).with_(x=x)
    monkeypatch.setattr(building, "get_data", lambda *_, **kw: Data(part, part, part))
    run = job.Job(
        finding.studies()["sparta_transfer"], "deeper: frozen gates", "mini", 0, torch.device("cpu")
    )
    donor, net = T.noise(run), T.deep(run, by_width(T.Sparta))
    assert (
        type(donor).__name__ == "Net"
        and sum(1 for m in net.modules() if isinstance(m, nn.Conv2d))
        > sum(1 for m in donor.modules() if isinstance(m, nn.Conv2d)) + 12
    )
    freeze(move(donor, net))
    for a, b in zip(gates(donor).values(), gates(net).values()):
        assert all(
            torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values())
        )
    assert len(gates(net)) == 4 and net(x[:2] / 255).shape == (2, 10)


def test_eight_averages():
    from spat_nb.studies.sparta_transfer import eight

    # 32 x 32, its rim cut off
    d = get_data("digits", device="cpu").test
    big = d.with_(x=F.pad(d.x.repeat_interleave(4, 2).repeat_interleave(4, 3), [-2] * 4))
    inner = eight(big).x[:, :, 1:-1, 1:-1]
    assert eight(big).shape == (1, 8, 8) and torch.equal(inner, d.x[:, :, 1:-1, 1:-1])


def test_activations_against_their_formulas():
    torch.manual_seed(0)
    x = 3 * torch.randn(4, 6, 5, 5, dtype=torch.float64)
    for r in (0.7, 2.0, 20.0):
        b = r * r
        want = torch.where(x > 0, x - torch.log(1 + b * x.clamp_min(0)) / b, 0.0)
        close(SmoothReLU(r).double()(x).detach(), want, eps=1e-06)
    close(SmoothReLU(3000.0).double()(x).detach(), x.relu(), eps=1e-05)
    for b, c in ((0.2, 1.0), (-0.5, 3.0)):
        close(
            PSSiLU(b, c).double()(x).detach(),
            (x / (1 + torch.exp(-c * x)) - b * x) / (1 - b),
            eps=1e-06,
        )
    close(PSSiLU().double()(x).detach(), F.silu(x), eps=1e-12)
    for f in (FReLU(6), DYReLU(6)):
        assert torch.equal(f.double().eval()(x), x.relu())
    fr = FReLU(6).double().eval()
    nn.init.normal_(fr.around[0].weight)
    nn.init.uniform_(fr.around[1].weight)
    nn.init.uniform_(fr.around[1].bias)
    T = (
        F.conv2d(x, fr.around[0].weight, padding=1, groups=6)
        / (1 + 1e-05) ** 0.5
        * fr.around[1].weight[:, None, None]
        + fr.around[1].bias[:, None, None]
    )
    close(fr(x).detach(), torch.where(x > T, x, T).detach(), eps=1e-09)
    dy = DYReLU(6).double()
    nn.init.normal_(dy.coef[2].weight)

    def by_place(dy, x):
        """DY-ReLU, value by value"""
        w1, b1, w2, b2 = (p.detach() for p in dy.parameters())
        out = x.clone()
        for i in range(len(x)):
            t = 2 / (1 + torch.exp(-(w2 @ (w1 @ x[i].mean((1, 2)) + b1).relu() + b2))) - 1
            for ch in range(x.shape[1]):
                a1, a2, c1, c2 = t[4 * ch : 4 * ch + 4]
                out[i, ch] = torch.stack(
                    [(1 + a1) * x[i, ch] + 0.5 * c1, a2 * x[i, ch] + 0.5 * c2]
                ).amax(0)
        return out

    close(dy(x).detach(), by_place(dy, x), eps=1e-12)
    with pytest.raises(Exception, match=re.escape("b is 1.0")):
        PSSiLU(1.0)
    with pytest.raises(Exception, match=re.escape("root is 0")):
        SmoothReLU(0.0)
    with pytest.raises(Exception, match=re.escape("k is 2")):
        FReLU(6, 2)


def test_torchs_own_nine():
    torch.manual_seed(0)
    x = 3 * torch.randn(4, 6, 5, 5, dtype=torch.float64)
    own = {
        nn.ReLU: lambda x: x * (x > 0),
        nn.LeakyReLU: lambda x: torch.where(x > 0, x, 0.01 * x),
        nn.PReLU: lambda x: torch.where(x > 0, x, 0.25 * x),
        nn.ELU: lambda x: torch.where(x > 0, x, x.exp() - 1),
        nn.SELU: lambda x: (
            1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (x.exp() - 1))
        ),
        nn.GELU: lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
        nn.SiLU: lambda x: x / (1 + (-x).exp()),
        nn.Mish: lambda x: x * torch.tanh(torch.log(1 + x.exp())),
        nn.Softplus: lambda x: torch.log(1 + x.exp()),
    }
    for make, formula in own.items():
        close(make().double()(x).detach(), formula(x), eps=1e-08)


def evaled(make, c=6):
    return activation(make, c).double().eval()


def swish(k):
    """Sparta through a 1 x 1 window, with the tap k and a batch norm that does nothing"""
    s = evaled(partial(Sparta, k=1), 1)
    s.around[1].eps = 1e-30
    nn.init.constant_(s.around[0].weight, k)
    return s


def test_starts_limits_shapes_and_slopes():
    torch.manual_seed(0)
    x = 3 * torch.randn(4, 6, 5, 5, dtype=torch.float64)
    close(evaled(Sparta)(x).detach(), x * torch.sigmoid(x / (1 + 1e-05) ** 0.5), eps=1e-12)
    close(evaled(partial(Sparta, k=1))(x), evaled(Sparta)(x), eps=1e-12)
    for make in (
        partial(Sparta, rectify=True),
        partial(Sparta, rectify=True, full=True),
        PooledSparta,
        FReLU,
    ):
        assert torch.equal(evaled(make)(x), x.relu())
    u = torch.linspace(-20, 20, 400001, dtype=torch.float64).view(1, 1, 1, -1)
    for k in (1.0, 4.0, 30.0):
        close(swish(k)(u).detach(), u * torch.sigmoid(k * u), eps=1e-12)
        close((swish(k)(u) - u.relu()).abs().max().item(), 0.2784645 / k, eps=1e-06)
    for name, make in ACTIVATIONS.items():
        act = evaled(make).requires_grad_(False)
        if isinstance(act, Gate):
            [nn.init.normal_(p, std=0.3) for p in act.parameters() if p.ndim]
        assert act(x).shape == x.shape and act(x).dtype == x.dtype
        assert (
            value_and_grad(lambda v: (act(v).flatten(1).sum(1),), torch.zeros_like(x))[1]
            .isfinite()
            .all()
        ), name
        assert torch.autograd.gradcheck(act, (x[:1, :, :3, :3].clone().requires_grad_(),)), name
    with pytest.raises(Exception, match=re.escape("k is 2")):
        Sparta(6, 2)
    with pytest.raises(Exception, match=re.escape("k is 4")):
        PooledSparta(4)


def test_a_file_names_the_activation():
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=partial(Sparta, k=5, shuffle=True))
    with tempfile.TemporaryDirectory() as d:
        save(net, Path(d) / "net.safetensors")
        again = load(Path(d) / "net.safetensors")
    assert torch.equal(again(torch.ones(2, 1, 8, 8) / 3), net.eval()(torch.ones(2, 1, 8, 8) / 3))
    equal((again.body[2].shuffle, again.body[2].around[0].kernel_size), (True, (5, 5)))


def more(net, make):
    return int(overhead(net, acts={"ReLU": nn.ReLU, "it": make}).parameters.diff().iloc[1])


def test_counts_have_closed_forms():
    C = [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4
    equal(sum(C), 3904)
    equal(len(C), 17)
    equal(more(PreActResNet18, Sparta), 11 * 3904)
    equal(11 * 3904, 42944)
    equal(more(PreActResNet18, FReLU), 42944)
    equal(more(PreActResNet18, partial(Sparta, rectify=True)), 42944)
    equal(more(PreActResNet18, partial(Sparta, full=True)), 9 * sum(c * c for c in C) + 2 * 3904)
    equal(more(PreActResNet18, PooledSparta), 1666)
    equal(more(PreActResNet18, PSSiLU), 34)
    equal(more(partial(WideResNet, 34, 10), Sparta), 123376)
    sizes = overhead(PreActResNet18, acts={"ReLU": nn.ReLU})
    assert 0.0038 < 42944 / int(sizes.parameters["ReLU"]) < 0.0039
    timed_two = overhead(
        SmallCNN, torch.rand(2, 1, 8, 8), {"ReLU": nn.ReLU, "SiLU": nn.SiLU}, rounds=1
    )
    assert (
        list(timed_two.columns) == ["parameters", "more_%", "ms", "times"]
        and (timed_two.ms > 0).all()
        and (timed_two.times.iloc[0] == 1)
    )


def test_how_far_a_gate_sees():
    def reach(make, k=9):
        """(k,k): does the output change at each place when the value in the middle moves?"""
        torch.manual_seed(0)
        act = evaled(make, 2)
        a = torch.randn(1, 2, k, k, dtype=torch.float64)
        b = a.clone()
        b[0, 0, k // 2, k // 2] += 0.5
        for p in act.parameters():
            p.data = torch.randn_like(p) / 3 if p.ndim else p.data
        return (act(a) - act(b))[0, 0].abs() > 1e-12

    seen = {
        k: reach(ACTIVATIONS[k])
        for k in ("ReLU", "SiLU", "DY-ReLU", "Sparta 1x1", "Sparta (V2)", "Sparta pooled (V4)")
    } | {"Sparta 5x5": reach(partial(Sparta, k=5))}

    def window(k):
        return F.pad(torch.ones(k, k, dtype=torch.bool), [(9 - k) // 2] * 4)

    equal([int(seen[k].sum()) for k in ("SiLU", "Sparta 1x1")], [1, 1])
    assert seen["ReLU"].sum() <= 1
    assert (
        torch.equal(seen["Sparta (V2)"], window(3))
        and torch.equal(seen["Sparta 5x5"], window(5))
        and (not (seen["Sparta pooled (V4)"] & ~window(7)).any())
    )


def test_context_of_known_mixtures():
    torch.manual_seed(0)
    a, b = torch.randn(2, 50, 3, 16, 16)
    for f in (F.relu, F.silu, lambda v: v > 0):
        assert context(a, f(a).float()) < 0.005
    close(context(a, b), 1, eps=0.05)
    close(context(a, 0.6 * a + 0.8 * b), 0.64, eps=0.05)
    equal(context(a, 0 * a), 0.0)
    close(context(a, 5 * b - 2), context(a, b), eps=1e-09)


def stepped(net, objective=pgd_at, steps=3):
    torch.manual_seed(1)
    opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.0005)
    for _ in range(steps):
        net.train()
        opt.zero_grad()
        objective(
            net, torch.rand(16, 1, 8, 8), torch.randint(0, 10, (16,)), pgd(Linf(0.1), 2)
        ).backward()
        opt.step()
    return net


def test_frozen_gates_stay_under_every_objective():
    for name, make in ACTIVATIONS.items():
        torch.manual_seed(0)
        net = SmallCNN(width=4, act=make)
        if make in (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus):
            with pytest.raises(Exception, match=re.escape("no activation with weights")):
                gates(net)
            continue
        before = {k: state(m) for k, m in gates(net).items()}
        assert not any(
            (
                same(v, state(m))
                for v, m in zip(before.values(), gates(stepped(copy.deepcopy(net))).values())
            )
        ), name
        for objective in (pgd_at, trades, mart):
            after = stepped(freeze(copy.deepcopy(net)), objective)
            assert all(
                (same(v, state(m)) for v, m in zip(before.values(), gates(after).values()))
            ), name
            assert not torch.equal(after.body[0].weight, net.body[0].weight)
            x1 = torch.rand(2, 1, 8, 8)
            assert (
                (value_and_grad(lambda v: (ce(after(v), tensor([0, 1])),), x1)[1] != 0)
                .flatten(1)
                .any(1)
                .all()
            )
    net18, net34 = (
        build(width=4, channels=1, act=by_width(Sparta))
        for build in (PreActResNet18, PreActResNet34)
    )
    for m in gates(net18).values():
        nn.init.normal_(m.around[0].weight)
        nn.init.normal_(m.around[1].running_mean)
    move(net18, net34)
    equal([len(gates(n)) for n in (net18, net34)], [4, 4])
    for a, b in zip(gates(net18).values(), gates(net34).values()):
        assert same(state(a), state(b)) and a is not b
    equal(
        more(lambda act: PreActResNet18(act=by_width(act) if act is Sparta else act), Sparta),
        11 * 960,
    )
    equal(11 * 960, 10560)
    with pytest.raises(Exception, match=re.escape("17 gates but the target 33")):
        move(PreActResNet18(width=4, act=Sparta), PreActResNet34(width=4, act=Sparta))
    with pytest.raises(Exception, match=re.escape("does not fit")):
        move(SmallCNN(width=4, act=Sparta), SmallCNN(width=8, act=Sparta))


def test_cut_and_held_twins():
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=Sparta).double().eval()
    x1, y1 = (torch.rand(6, 1, 8, 8, dtype=torch.float64), torch.arange(6))

    def slope(m):
        return value_and_grad(lambda v: (ce(m(v), y1),), x1)[1]

    cut_twin, held_twin = (wired(net, lambda: Tensor.detach), _watched(net, x1))
    for m in gates(held_twin).values():
        m.wire.full = True
    assert (
        torch.equal(cut_twin(x1), net(x1))
        and torch.equal(held_twin(x1), net(x1))
        and (not torch.equal(held_twin(1 - x1), net(1 - x1)))
    )
    close(slope(cut_twin), slope(held_twin), eps=1e-12)
    assert (slope(net) - slope(cut_twin)).abs().max() > 0.0001
    assert net.body[2].wire is None and all(p.grad is None for p in net.parameters())
    flat = SmallCNN(width=4, act=by_width(partial(Sparta, rectify=True))).double().eval()
    ends = [
        f(pgd(Linf(0.1), 4, generator=generator(0)))(flat, x1, y1) for f in (lambda a: a, cut, held)
    ]
    for e in ends[1:]:
        close(e, ends[0], eps=1e-09)
    equal([set(v[0].unique().tolist()) for v in gate_values(flat, x1).values()], [{0.5}] * 3)
    equal(list(saturated(flat, x1).values()), [0.0] * 3)
    values = torch.cat([v[0].flatten() for v in gate_values(net, x1).values()])
    close(
        sum(
            (
                s * v[0].numel()
                for s, v in zip(saturated(net, x1, 0.3).values(), gate_values(net, x1).values())
            )
        )
        / len(values),
        ((values < 0.3) | (values > 0.7)).double().mean().item(),
        eps=1e-12,
    )
    equal(list(off_centre(net).values()), [0.0] * 3)
    for m in gates(net).values():
        nn.init.constant_(m.around[0].weight, 2.0)
    close(list(off_centre(net).values()), [8 / 9] * 3, eps=1e-09)
    equal(held(pgd(Linf(0.1))).ball, Linf(0.1))
    with pytest.raises(Exception, match=re.escape("no gate in (0,1)")):
        gate_values(SmallCNN(act=PSSiLU), x1.float())
