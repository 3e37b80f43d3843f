"""Ten thousand calls of the public doors that take a model, images, labels, a ball or an attack:
each ends in a right answer, or in an error that says in one sentence what is wrong and how to mend
it"""

import copy
import math
import os
import warnings
from collections import Counter
from functools import cache

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spat_nb.attacks.ascent import at_x, gaussian, uniform
from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.cascade import Cascade
from spat_nb.attacks.losses import ce, dlr, kl, margin
from spat_nb.attacks.minimal import cw, deepfool, fab
from spat_nb.attacks.nearest import norms, within
from spat_nb.attacks.rays import rays
from spat_nb.attacks.spsa import spsa
from spat_nb.attacks.square import square
from spat_nb.attacks.steps import apgd, mim
from spat_nb.attacks.targets import apgd_t
from spat_nb.attacks.wrapped import smoothed, targeted, tempered
from spat_nb.classwise.temperature import temperature_pgd
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.record import Record
from spat_nb.measure.sweep import sweep
from spat_nb.measure.trust import trust
from spat_nb.papers.spat_shared import class_grads
from spat_nb.training.objectives import alp, mart, pgd_at, standard, trades

CALLS = int(os.environ.get("FUZZ", 10_000))  # fewer while one looks for a fault
SEEN = Counter()
TEXTS = {}
# a dict: gather what is not of the house, and go on
COLLECT = {} if os.environ.get("FUZZ_COLLECT") else None


# ---- models: (c, shape) -> something to call


class Tiny(nn.Module):
    def __init__(self, c, shape):
        super().__init__()
        n = math.prod(shape)
        self.norm = nn.BatchNorm1d(n)
        self.drop = nn.Dropout(0.5)
        self.line = nn.Linear(n, c)

    def forward(self, x):
        return self.line(self.drop(self.norm(x.flatten(1))))


@cache
def tiny(c, shape):
    with torch.inference_mode(False):
        torch.manual_seed(0)
        net = Tiny(c, shape)
        net.line.weight.data *= 4
    return net.train()


@cache
def exported(shape):
    with torch.inference_mode(False):
        net = copy.deepcopy(tiny(5, shape)).eval()
        return torch.export.export(
            net, (torch.rand(3, *shape),), dynamic_shapes=({0: torch.export.Dim.AUTO},)
        ).module()


class Box:
    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)


MODELS = {
    "net": lambda net, s: net,
    "lambda": lambda net, s: lambda x: net(x),
    "object": lambda net, s: Box(net),
    "list": lambda net, s: (lambda nets: lambda x: sum(n(x) for n in nets))([net, net]),
    "in place": lambda net, s: lambda x: net(x.mul_(0.5)),
    "double": lambda net, s: copy.deepcopy(net).double(),
    "bfloat16": lambda net, s: copy.deepcopy(net).bfloat16(),
    "exported": lambda net, s: exported(s),
    "masked": lambda net, s: lambda x: net(x).index_fill(1, torch.tensor([0]), -math.inf),
    "far masked": lambda net, s: lambda x: net(x).index_fill(1, torch.tensor([0]), -1e9),
    "root": lambda net, s: lambda x: net(x**0.4),
    "NaN at black": lambda net, s: (
        lambda x: net(x / x.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1)))
    ),
    "flat": lambda net, s: lambda x: net(x) * 0,
    "rounding": lambda net, s: lambda x: net((x * 4).round() / 4),
    "blind": lambda net, s: lambda x: net(x.detach()),
    "constant": lambda net, s: lambda x: torch.zeros(len(x), 3),
    "huge": lambda net, s: lambda x: net(x) * 1e30,
    "small": lambda net, s: lambda x: net(x) * 1e-30,
    "probabilities": lambda net, s: lambda x: net(x).softmax(1),
    "tuple": lambda net, s: lambda x: (net(x), x),
    "dict": lambda net, s: lambda x: {"logits": net(x)},
    "one logit": lambda net, s: lambda x: net(x)[:, :1],
    "flat logit": lambda net, s: lambda x: net(x)[:, 0],
    "NaN": lambda net, s: lambda x: net(x) * math.nan,
    "infinity": lambda net, s: lambda x: net(x) / 0,
    "classes": lambda net, s: lambda x: net(x).argmax(1),
    "wrong batch": lambda net, s: lambda x: net(x)[:1],
    "other images": lambda net, s: nn.Sequential(nn.Flatten(), nn.Linear(7, 3)),
    "lazy": lambda net, s: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
    "elsewhere": lambda net, s: copy.deepcopy(net).to("meta"),
    "no call": lambda net, s: "resnet18",
    "nothing": lambda net, s: None,
}
SOUND = {
    "net",
    "lambda",
    "object",
    "list",
    "in place",
    "double",
    "exported",
    "masked",
    "far masked",
    "huge",
    "small",
    "flat",
    "rounding",
}

# ---- images, labels, balls

IMAGES = {
    "float32": lambda x: x,
    "float64": lambda x: x.double(),
    "bfloat16": lambda x: x.bfloat16(),
    "float16": lambda x: x.half(),
    "black": lambda x: x * 0,
    "white": lambda x: x * 0 + 1,
    "corners": lambda x: x.round(),
    "strided": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "wants a gradient": lambda x: x.clone().requires_grad_(),
    "parameter": lambda x: nn.Parameter(x.clone()),
    "one": lambda x: x[:1],
    "none": lambda x: x[:0],
    "bytes": lambda x: (x * 255).byte(),
    "grey levels": lambda x: x * 255,
    "normalised": lambda x: (x - 0.5) / 0.25,
    "NaN": lambda x: x * math.nan,
    "infinite": lambda x: x / 0,
    "flat": lambda x: x.flatten(),
    "numpy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "None": lambda x: None,
}
GOOD_IMAGES = {
    "float32",
    "float64",
    "black",
    "white",
    "corners",
    "strided",
    "wants a gradient",
    "parameter",
    "one",
}
LABELS = {
    "labels": lambda y, c: y,
    "one-hot": lambda y, c: F.one_hot(y, c).float(),
    "soft": lambda y, c: (0.9 * F.one_hot(y, c) + 0.1 / c).float(),
    "too many": lambda y, c: torch.cat([y, y]),
    "too high": lambda y, c: y + c,
    "negative": lambda y, c: y - c,
    "int32": lambda y, c: y.int(),
    "float": lambda y, c: y.float(),
    "column": lambda y, c: y[:, None],
    "narrow": lambda y, c: F.one_hot(y * 0, 1).float(),
    "list": lambda y, c: y.tolist(),
    "None": lambda y, c: None,
}
BALLS = {
    "Linf": lambda e: Linf(min(e, 1.0)),
    "L2": L2,
    "L1": L1,
    "nothing": lambda e: Linf(0.0),
    "grey levels": lambda e: Linf(8 + e),
    "negative": lambda e: L2(-e),
    "NaN": lambda e: Linf(math.nan),
    "text": lambda e: "Linf",
    "number": lambda e: e,
}
GOOD_BALLS = ("Linf", "L2", "L1", "nothing")
LOSSES = {
    "ce": ce,
    "margin": margin,
    "dlr": dlr,
    "kl": kl,
    "tempered": tempered(ce, 3.0),
    "smoothed": smoothed(ce, 0.1),
    "targeted": targeted(ce),
}
STARTS = (at_x, uniform, gaussian(0.01))

ATTACKS = {
    "fgsm": lambda b, k, **kw: fgsm(b),
    "fgsm loss": lambda b, k, loss, **kw: fgsm(b, loss=loss),
    "pgd": lambda b, k, loss, start, **kw: pgd(b, k, loss=loss, start=start),
    "pgd best": lambda b, k, loss, **kw: pgd(b, k, loss=loss, best=True, restarts=2),
    "attack": lambda b, k, loss, start, **kw: Attack(b, k, loss=loss, start=start, eot=2),
    "mim": lambda b, k, loss, **kw: mim(b, k, loss=loss),
    "apgd": lambda b, k, loss, **kw: apgd(b, k, loss=loss),
    "apgd_t": lambda b, k, **kw: apgd_t(b, k, targets=1 + k),
    "fab": lambda b, k, **kw: within(fab(type(b), k), b),
    "fab targets": lambda b, k, **kw: within(fab(type(b), k, targets=1 + k, restarts=2), b),
    "deepfool": lambda b, k, **kw: within(deepfool(type(b), k), b),
    "cw": lambda b, k, **kw: within(cw(1, k), b),
    "square": lambda b, k, **kw: square(b, 3 + k),
    "spsa": lambda b, k, **kw: spsa(b, 9 + k, 2),
    "rays": lambda b, k, **kw: rays(b, 5 + k),
    "temperature": lambda b, k, **kw: temperature_pgd(b, 1 + k, k),
    "autoattack": lambda b, k, **kw: autoattack(
        b,
        ("standard", "plus", "rand")[k % 3],
        steps=k,
        targets=1 + k,
        queries=4 + k,
        restarts=1,
        eot=1,
    ),
    "cascade": lambda b, k, loss, **kw: Cascade({"a": pgd(b, k, loss=loss), "b": square(b, 3)}, b),
}

# ---- doors: (model, x, y, ball, attack) -> what came out, and how it is checked


def attacked(model, x, y, ball, attack):
    out = attack(model, x, y)
    assert out.shape == x.shape and out.isfinite().all()
    assert out.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    assert ball.inside(out.detach(), x.detach().to(out.dtype), tol=2e-6).all()
    assert not out.requires_grad


def with_loss(model, x, y, ball, attack):
    out, value, won = (
        attack.run(model, x, y) if isinstance(attack, Attack) else (attack(model, x, y), None, None)
    )
    assert ball.inside(out.detach(), x.detach().to(out.dtype), tol=2e-6).all()
    assert won is None or won.dtype == torch.bool and len(won) == len(x)


def evaluated(model, x, y, ball, attack):
    r = evaluate(model, (x, y), progress=False, it=attack)
    assert isinstance(r, Record) and len(r.y) == len(x)
    assert 0 <= r.accuracy("it") <= r.accuracy() <= 1


def swept(model, x, y, ball, attack):
    r = sweep(model, (x, y), lambda e: fgsm(type(ball)(e)), [0.0, ball.eps / 2], progress=False)
    assert len(r.attacks) == 2


def judged(model, x, y, ball, attack):
    card = trust(model, (x, y), ball, attack, n=4, cost=0.01, progress=False)
    assert 0 <= card.accuracy["everything"] <= card.accuracy["clean"] <= 1


def measured(model, x, y, ball, attack):
    d = norms(model, x, y, attack(model, x, y), type(ball))
    assert (d >= 0).all()


def looked(model, x, y, ball, attack):
    g = class_grads(model, x)
    assert g.shape[1:] == x.shape


def learned(objective):
    def door(model, x, y, ball, attack):
        loss = objective(model, x, y, attack)
        assert loss.shape == ()

    return door


DOORS = {
    "attack": attacked,
    "attack again": attacked,
    "attack once more": attacked,
    "run": with_loss,
    "evaluate": evaluated,
    "sweep": swept,
    "trust": judged,
    "norms": measured,
    "class_grads": looked,
    "standard": learned(lambda m, x, y, a: standard(m, x, y, a)),
    "pgd_at": learned(pgd_at),
    "trades": learned(trades),
    "alp": learned(alp),
    "mart": learned(mart),
}
RARE = {"trust", "sweep"}
# within a Learner, whose door has looked at the data
TRAINING = ("standard", "pgd_at", "trades", "alp", "mart")


def house(e):
    """Is this an error of the house: of the right kind, in one sentence that goes on after the
    value with the mend?
    """
    text = str(e)
    return (
        isinstance(e, (TypeError, ValueError, OSError))
        and "\n" not in text
        and 20 < len(text) < 450
        and text.rstrip()[-1] in ".?"
        and any(m in text for m in (";", ",", ":"))
    )


def kept(net):
    return (
        [m.training for m in net.modules()],
        [t.clone() for t in net.state_dict().values()],
        [p.grad for p in net.parameters()],
        torch.get_rng_state(),
    )


def mostly(good, others):
    "Nine draws of ten are of the good ones: most calls shall come to their end"
    return st.one_of(*[st.sampled_from(sorted(good))] * 4, st.sampled_from(sorted(others)))


@settings(
    max_examples=CALLS,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    door=st.sampled_from([*DOORS, *(k for k in DOORS if k not in RARE)]),
    model=mostly(SOUND, MODELS),
    images=mostly(GOOD_IMAGES, IMAGES),
    labels=mostly({"labels"}, LABELS),
    ball=mostly(GOOD_BALLS, BALLS),
    attack=st.sampled_from(sorted(ATTACKS)),
    loss=mostly({"ce", "margin"}, LOSSES),
    start=st.sampled_from(STARTS),
    shape=st.sampled_from([(1, 4, 4), (3, 3, 5), (6,), (2, 3)]),
    c=st.integers(2, 5),
    b=st.integers(1, 4),
    k=st.integers(0, 2),
    eps=st.floats(0, 3),
    inference=st.booleans(),
    seed=st.integers(0, 9),
)
def fuzz(
    door, model, images, labels, ball, attack, loss, start, shape, c, b, k, eps, inference, seed
):
    if door in TRAINING:
        model, images, labels, b, inference = (
            model if model in SOUND else "net",
            "float32",
            "labels",
            2 + b,
            False,
        )
    torch.manual_seed(seed)
    net = copy.deepcopy(tiny(c, shape)) if door in TRAINING else tiny(c, shape)
    x = torch.rand(b, *shape)
    y = torch.randint(c, (b,))
    x, y = IMAGES[images](x), LABELS[labels](y[:1] if images == "one" else y, c)
    before, model_before = copy.deepcopy(x), kept(net)
    what = (
        f"{door}, {model}, {images}, {labels}, {ball}, {attack}, {loss}, {shape}, c={c}, b={b},"
        f" k={k}, eps={eps}"
    )
    SEEN["calls"] += 1
    try:
        with warnings.catch_warnings(), torch.inference_mode(inference):
            warnings.simplefilter("ignore")
            m = MODELS[model](net, shape)
            bound = BALLS[ball](eps)
            DOORS[door](m, x, y, bound, ATTACKS[attack](bound, k, loss=LOSSES[loss], start=start))
        SEEN["right"] += 1
    except Exception as e:
        if not house(e) and COLLECT is not None:
            COLLECT.setdefault(f"{type(e).__name__}: {str(e)[:200]}", []).append(what)
            return
        assert house(e), f"{what}\n{type(e).__name__}: {e}"
        SEEN["refused"] += 1
        TEXTS.setdefault(type(e).__name__ + " " + str(e)[:40], what)
    if isinstance(x, torch.Tensor):
        assert torch.equal(x.detach().nan_to_num(7), before.detach().nan_to_num(7)), (
            f"images changed: {what}"
        )
        assert getattr(x, "grad", None) is None, what
    now = kept(net)
    assert now[0] == model_before[0], f"modes changed: {what}"
    if door not in TRAINING:
        assert all(map(torch.equal, now[1], model_before[1])), (
            f"weights or statistics changed: {what}"
        )
    assert all(g is None for g in now[2]), f".grad changed: {what}"


def test_ten_thousand_calls(record_property):
    fuzz()
    record_property(
        "printed",
        f"fuzzed {SEEN['calls']:,} calls: {SEEN['right']:,} right answers, {SEEN['refused']:,}"
        f" refused in one sentence ({len(TEXTS)} different ones)",
    )
    assert SEEN["calls"] >= CALLS
    assert SEEN["right"] > CALLS / 10 and SEEN["refused"] > CALLS / 10
