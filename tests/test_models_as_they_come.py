"""Models as users bring them: each gives right numbers and is left as it was, or is refused at the
first door in one sentence
"""

import copy
import functools
import types
import warnings
import weakref
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb.app import zoo
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.losses import ce, margin, ruled_out
from spat_nb.attacks.minimal import cw, deepfool, fab
from spat_nb.attacks.nearest import norms, within
from spat_nb.attacks.rays import rays
from spat_nb.attacks.spsa import spsa
from spat_nb.attacks.square import square
from spat_nb.attacks.steps import apgd, mim
from spat_nb.attacks.targets import apgd_t
from spat_nb.attacks.wrapped import targeted, tempered
from spat_nb.core.evalmode import device_of, eval_mode
from spat_nb.core.modes import networks
from spat_nb.core.tensors import logits
from spat_nb.core.threads import fitting_threads
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.trust import trust
from spat_nb.models.networks import PreActResNet18, SmallCNN
from spat_nb.models.saving import load, save
from spat_nb.papers.spat_shared import class_grads
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at

BALL = Linf(0.15)
ROUND = L2(1.5)
ATTACKS = {
    "fgsm": fgsm(BALL),
    "pgd": pgd(BALL, 5),
    "pgd restarts": pgd(BALL, 3, restarts=2),
    "pgd l2": pgd(ROUND, 5),
    "mim": mim(BALL, 5),
    "apgd": apgd(BALL, 5),
    "apgd l2": apgd(ROUND, 5),
    "apgd_t": apgd_t(BALL, 5, targets=2),
    "fab": within(fab(Linf, 5), BALL),
    "fab targets": within(fab(L2, 5, targets=2), ROUND),
    "deepfool": within(deepfool(Linf, 5), BALL),
    "cw": within(cw(2, 5), ROUND),
    "square": square(BALL, 20),
    "square l2": square(ROUND, 20),
    "spsa": spsa(BALL, 20, 4),
    "rays": rays(BALL, 20),
    "autoattack": autoattack(BALL, steps=3, targets=2, queries=20),
    "autoattack plus": autoattack(BALL, "plus", steps=2, targets=2, queries=20, restarts=2),
    "autoattack rand": autoattack(BALL, "rand", steps=2, eot=2),
}


@pytest.fixture(scope="module")
def net():
    return zoo.load("digits/pgd_at/w16")


@pytest.fixture(scope="module")
def batch():
    return get_data("digits", device="cpu").test.subset(40).tensors()


def state(net):
    "All that a look at a network must leave alone"
    return (
        [m.training for m in net.modules()],
        [t.clone() for t in net.state_dict().values()],
        [t.stride() for t in net.state_dict().values()],
        [t.data_ptr() for t in net.state_dict().values()],
    )


def same(a, b):
    return a[0] == b[0] and all(map(torch.equal, a[1], b[1])) and a[2:] == b[2:]


def right(model, x, y):
    return (logits(model, x).argmax(1) == y).double().mean().item()


# ---- networks inside of something


class Around:
    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)

    def answer(self, x):
        return self.net(x)


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, net):
        self.inner = net

    def __call__(self, x):
        return self.inner(x)


class Hidden(nn.Module):
    "A module that keeps its network in a list, where torch does not see it"

    def __init__(self, net):
        super().__init__()
        self.nets = [net]

    def forward(self, x):
        return self.nets[0](x)


def closed(net):
    def model(x):
        return net(x)

    return model


def deeper(net):
    inner = closed(net)

    def model(x):
        def again(x):
            return inner(x)

        return again(x)

    return model


def by_global(net):
    space = {"net": net}
    exec("model = lambda x: net(x)", space)
    return space["model"]


def by_global_function(net):
    space = {"net": net}
    exec("def helper(x): return net(x)\ndef model(x): return helper(x)", space)
    return space["model"]


def by_module(net):
    mine = types.ModuleType("mine_of_the_test")
    mine.net = net
    space = {"mine": mine}
    exec("model = lambda x: mine.net(x)", space)
    return space["model"]


def by_default(net):
    def model(x, *, net=net):
        return net(x)

    return model


def own_forward(net):
    model = nn.Identity()
    model.forward = lambda x: net(x)
    return model


WRAPS = {
    "lambda": lambda net: lambda x: net(x),
    "function": closed,
    "two functions": deeper,
    "global": by_global,
    "global function": by_global_function,
    "a module's name": by_module,
    "default argument": by_default,
    "object": Around,
    "slots": Slotted,
    "method": lambda net: Around(net).answer,
    "the network's method": lambda net: net.forward,
    "partial": lambda net: partial(lambda n, x: n(x), net),
    "dict": lambda net: (lambda d: lambda x: d["net"](x))({"net": net}),
    "module with a list": Hidden,
    "weak reference": lambda net: (lambda r: lambda x: r()(x))(weakref.ref(net)),
    "cached": lambda net: functools.lru_cache(lambda x: net(x)),
    "no_grad": lambda net: torch.enable_grad()(lambda x: net(x)),
    "own forward": lambda net: own_forward(net),
    "lambda around an object": lambda net: (lambda a: lambda x: a(x))(Around(net)),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_networks_in_train_mode_are_found_wherever_they_lie(wrap, net, batch):
    x, y = batch
    net = copy.deepcopy(net)
    want = evaluate(net.eval(), (x, y), progress=False, pgd=pgd(BALL, 3), sq=square(BALL, 10))
    model = WRAPS[wrap](net.train())
    before = state(net)
    assert [id(n) for n in networks(model) if isinstance(n, type(net))] == [id(net)]
    got = evaluate(model, (x, y), progress=False, pgd=pgd(BALL, 3), sq=square(BALL, 10))
    assert all(torch.equal(want.preds[k], got.preds[k]) for k in want.preds)
    for attack in (
        fgsm(BALL),
        within(fab(Linf, 2), BALL),
        square(BALL, 5),
        autoattack(BALL, steps=2, targets=1, queries=5),
    ):
        attack(model, x[:8], y[:8])
    norms(model, x[:8], y[:8], x[:8])
    if wrap in ("lambda", "object"):
        trust(model, (x[:16], y[:16]), BALL, cost=0.05, progress=False)
    assert same(before, state(net))
    assert device_of(model) == torch.device("cpu")


def test_each_layer_gets_its_own_mode_back(net):
    net = copy.deepcopy(net).train()
    net.body[1].eval()
    with eval_mode(lambda x: net(x)):
        assert not any(m.training for m in net.modules())
    assert net.training and not net.body[1].training


def test_libraries_are_not_searched():
    import matplotlib.pyplot as plt

    space = {"plt": plt, "torch": torch}
    exec("def model(x):\n    plt.figure\n    return torch.relu(x)", space)
    assert networks(space["model"]) == []


# ---- what a model does to its input, and where it runs


class InPlace(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.mul_(2).sub_(0.5).clamp_(0, 1))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_forward_that_works_in_place_changes_no_image(name, net, batch):
    x, y = batch[0][:12].clone(), batch[1][:12]
    kept, attack = x.clone(), ATTACKS[name]
    plain = nn.Sequential(copy.deepcopy(net))
    plain.forward = lambda x: net((2 * x - 0.5).clamp(0, 1))
    torch.manual_seed(1)
    want = attack(plain.eval(), x, y)
    torch.manual_seed(1)
    got = attack(InPlace(net), x, y)
    assert torch.equal(x, kept)
    assert torch.equal(want, got)
    ball = getattr(attack, "ball", BALL)
    assert ball.inside(got, x).all()


def test_evaluate_and_trust_with_a_forward_in_place(net, batch):
    x, y = batch[0].clone(), batch[1]
    kept = x.clone()
    record = evaluate(InPlace(net), (x, y), progress=False, sq=square(BALL, 20))
    card = trust(InPlace(net), (x, y), BALL, cost=0.05, progress=False)
    assert torch.equal(x, kept)
    assert record.accuracy() == right(lambda x: net((2 * x - 0.5).clamp(0, 1)), x, y)
    assert "G1" not in card.flags


@pytest.mark.parametrize("name", ATTACKS)
def test_inference_mode_around_an_attack(name, net, batch):
    x, y = batch[0][:8], batch[1][:8]
    torch.manual_seed(1)
    want = ATTACKS[name](net, x, y)
    with torch.inference_mode():
        torch.manual_seed(1)
        got = ATTACKS[name](net, x.clone(), y.clone())
    assert torch.equal(want, got)


def test_inference_mode_around_the_rest(net, batch):
    x, y = batch[0][:16], batch[1][:16]
    want = evaluate(net, (x, y), progress=False, pgd=pgd(BALL, 3)).preds["pgd"]
    with torch.inference_mode():
        assert torch.equal(
            evaluate(net, (x.clone(), y.clone()), progress=False, pgd=pgd(BALL, 3)).preds["pgd"],
            want,
        )
        trust(net, (x.clone(), y.clone()), BALL, cost=0.05, progress=False)
        assert class_grads(net, x.clone()).isfinite().all()
        with pytest.raises(ValueError, match="inference_mode.*outside"):
            Learner(
                copy.deepcopy(net),
                get_data("digits", device="cpu", n=64).train,
                pgd_at,
                pgd(BALL, 1),
                epochs=1,
            ).fit()
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_evaluate_leaves_the_layout_of_the_weights(batch):
    torch.manual_seed(0)
    net = PreActResNet18(width=4, channels=1)
    before = state(net)
    for precision in ("channels_last", "bfloat16"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluate(net, (batch[0][:4], batch[1][:4]), precision, progress=False, fgsm=fgsm(BALL))
        assert same(before, state(net))


def test_exported_modules(net, batch):
    x, y = batch[0][:8], batch[1][:8]
    free = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    record = evaluate(
        free,
        (x, y),
        progress=False,
        pgd=pgd(BALL, 3),
        aa=autoattack(BALL, steps=2, targets=1, queries=5),
    )
    assert torch.equal(record.preds["clean"], net(x).argmax(1))
    trust(free, (x, y), BALL, cost=0.05, progress=False)
    stuck = torch.export.export(net, (x,)).module()
    assert fgsm(BALL)(stuck, x, y).shape == x.shape
    with pytest.raises(ValueError, match=r"cannot take.*\(3, 1, 8, 8\)"):
        fgsm(BALL)(stuck, x[:3], y[:3])


# ---- what a model returns


@dataclass
class Output:
    logits: torch.Tensor


RETURNS = {
    "tuple": (lambda z: (z, z), TypeError, r"tuple.*lambda x: model\(x\)\[0\]"),
    "list": (lambda z: [z], TypeError, r"list.*lambda x: model\(x\)\[0\]"),
    "dict": (
        lambda z: {"loss": z, "logits": z},
        TypeError,
        r"dict.*lambda x: model\(x\)\['logits'\]",
    ),
    "another dict": (lambda z: {"out": z}, TypeError, r"dict.*lambda x: model\(x\)\['out'\]"),
    "dataclass": (Output, TypeError, r"Output.*lambda x: model\(x\)\.logits"),
    "nothing": (lambda z: None, TypeError, "NoneType"),
    "array": (lambda z: z.detach().numpy(), TypeError, "ndarray"),
    "one logit": (lambda z: z[:, :1], ValueError, r"one logit.*F\.pad\(model\(x\), \(1, 0\)\)"),
    "one flat logit": (
        lambda z: z[:, 0],
        ValueError,
        r"one logit.*F\.pad\(model\(x\)\[:,None\], \(1, 0\)\)",
    ),
    "classes": (
        lambda z: z.argmax(1, keepdim=True).expand(-1, 10),
        TypeError,
        "int64.*before the argmax",
    ),
    "map": (lambda z: z[..., None], ValueError, "must return logits"),
    "probabilities": (lambda z: z.softmax(1), ValueError, "leave out its last softmax"),
    "NaN": (
        lambda z: z * float("nan"),
        ValueError,
        "NaN for .* images; load an earlier checkpoint",
    ),
    "infinity": (lambda z: z.abs() + float("inf"), ValueError, "infinity for .* images"),
}
DOORS = {
    **{k: lambda m, x, y, a=a: a(m, x, y) for k, a in ATTACKS.items()},
    "evaluate": lambda m, x, y: evaluate(m, (x, y), progress=False, fgsm=fgsm(BALL)),
    "trust": lambda m, x, y: trust(m, (x, y), BALL, cost=0.05, progress=False),
    "norms": lambda m, x, y: norms(m, x, y, x),
}


@pytest.mark.parametrize("kind", RETURNS)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_logits_is_refused_at_every_door(door, kind, net, batch):
    change, error, says = RETURNS[kind]
    if (door, kind) == ("trust", "probabilities"):
        return  # a flag of the card, not an error
    with pytest.raises(error, match=says) as e:
        DOORS[door](lambda x: change(net(x)), batch[0][:6], batch[1][:6])
    assert "\n" not in str(e.value) and str(e.value).endswith(".") and len(str(e.value)) < 400


@pytest.mark.parametrize("door", DOORS)
def test_the_mend_of_one_logit_works(door, net, batch):
    x, y = batch[0][:8], batch[1][:8] % 2

    def odd(x):
        return net(x)[:, 1::2].logsumexp(1, keepdim=True) - net(x)[:, ::2].logsumexp(
            1, keepdim=True
        )

    DOORS[door](lambda x: F.pad(odd(x), (1, 0)), x, y)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_autoattack_with_few_classes(classes, version, net, batch):
    "DLR needs three and targeted DLR four: the margin takes their place, and a note says so"
    keep = batch[1] < classes
    x, y = batch[0][keep], batch[1][keep]

    def few(x):
        return net(x)[:, :classes]

    # small enough that the first member leaves images to the others
    ball = Linf(0.1)
    aa = autoattack(ball, version, steps=3, targets=9, queries=20, restarts=1, eot=2)
    record = evaluate(few, (x, y), progress=False, aa=aa)
    assert 0 < record.accuracy("aa") <= record.accuracy("aa/apgd_ce")
    assert any("few classes" in t and "the margin takes their place" in t for t in record.notes)
    assert ball.inside(aa(few, x, y), x).all()


# ---- dtypes


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(
    "weights,images",
    [
        (torch.float64, torch.float32),
        (torch.float32, torch.float64),
        (torch.float64, torch.float64),
        (torch.float32, torch.bfloat16),
    ],
    ids=str,
)
def test_any_float_meets_any_float(name, weights, images, net, batch):
    x, y = batch[0][:8].to(images), batch[1][:8]
    model = copy.deepcopy(net).to(weights)
    with torch.no_grad():
        out = ATTACKS[name](model, x, y)
    assert out.dtype == (torch.float64 if images == torch.float64 else torch.float32)
    assert getattr(ATTACKS[name], "ball", BALL).inside(out, x.to(out.dtype)).all()


@pytest.mark.parametrize(
    "weights,images", [(torch.float64, torch.float32), (torch.float32, torch.float64)], ids=str
)
def test_evaluate_and_trust_on_any_float(weights, images, net, batch):
    x, y = batch[0][:24].to(images), batch[1][:24]
    model = copy.deepcopy(net).to(weights)
    want = evaluate(net, (x.float(), y), progress=False)
    got = evaluate(
        model,
        (x, y),
        progress=False,
        aa=autoattack(BALL, steps=2, targets=1, queries=5),
        pgd=pgd(BALL, 3),
    )
    assert torch.equal(want.preds["clean"], got.preds["clean"])
    assert (
        trust(model, (x, y), BALL, cost=0.05, progress=False).accuracy["clean"] == want.accuracy()
    )


# ---- inputs that are no images


@pytest.mark.parametrize("shape", [(20,), (5, 4), (2, 3, 2, 2)], ids=str)
def test_tables_and_sequences(shape):
    torch.manual_seed(0)
    x = torch.rand(30, *shape)
    line = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 4))
    y = line(x).argmax(1)
    for name in ("pgd", "pgd l2", "apgd", "apgd_t", "fab", "deepfool", "cw", "spsa", "rays"):
        assert ATTACKS[name].ball.inside(ATTACKS[name](line, x, y), x).all()
    asked = []

    def model(x):
        return (asked.append(1), line(x))[1]

    for attack in (square(BALL, 20), autoattack(BALL)):
        asked.clear()
        with pytest.raises(ValueError, match=r"images \(b,ch,h,w\).*without\('square'\)"):
            evaluate(model, (x, y), progress=False, aa=attack)
        assert not asked  # refused before anything has run
        with pytest.raises(ValueError, match=r"images \(b,ch,h,w\)"):
            attack(model, x, y)
    rest = autoattack(BALL, steps=5, targets=3).without("square")
    assert evaluate(line, (x, y), progress=False, aa=rest).accuracy("aa") < 1
    card = trust(line, (x, y), BALL, cost=0.1, progress=False)
    assert card["G6 square"].verdict == "not asked" and card["G7 true"].verdict == "pass"


# ---- labels


def test_labels_of_autoattack(net, batch):
    x, y = batch[0][:8], batch[1][:8]
    aa = autoattack(BALL, steps=2, targets=1, queries=5)
    torch.manual_seed(0)
    want = aa(net, x, y)
    torch.manual_seed(0)
    assert torch.equal(aa(net, x, F.one_hot(y, 10).float()), want)
    with pytest.raises(ValueError, match=r"soft targets.*y\.argmax\(1\)"):
        aa(net, x, 0.9 * F.one_hot(y, 10).float() + 0.01)
    with pytest.raises(ValueError, match="label 10.*0 to 9"):
        aa(net, x, y * 0 + 10)
    with pytest.raises(ValueError, match="7 probabilities"):
        aa(net, x, F.one_hot(y % 7, 7).float())
    for attack in (
        ATTACKS["autoattack plus"],
        ATTACKS["fab"],
        ATTACKS["apgd_t"],
        ATTACKS["square"],
    ):
        with pytest.raises(ValueError, match="label 12"):
            attack(net, x, y * 0 + 12)


AIMED = {
    "pgd": pgd(BALL, 2, loss=targeted(ce)),
    "margin": pgd(BALL, 2, loss=targeted(margin)),
    "tempered": pgd(BALL, 2, loss=tempered(targeted(ce), 2.0)),
    "apgd": apgd(BALL, 2, loss=targeted(ce)),
    "square": square(BALL, 5, loss=targeted(margin)),
}


@pytest.mark.parametrize("name", AIMED)
def test_an_attack_towards_the_true_label_is_no_measurement(name, net, batch):
    x, y = batch[0][:8], batch[1][:8]
    for run in (
        lambda: evaluate(net, (x, y), progress=False, t=AIMED[name]),
        lambda: trust(net, (x, y), BALL, AIMED[name], progress=False),
    ):
        with pytest.raises(
            ValueError, match="targeted.*the label that it is given.*lambda model, x, y"
        ):
            run()

    def asks(model, x, y):
        return AIMED[name](model, x, (y + 1) % 10)

    evaluate(net, (x, y), progress=False, t=asks)
    # by itself it is an attack like any other
    AIMED[name](net, x, (y + 1) % 10)


# ---- radii, lazy layers, saving


@pytest.mark.parametrize("eps", [8, 8.0, 255, 1.01, 4])
def test_a_radius_in_grey_levels(eps):
    with pytest.raises(ValueError, match="did you mean .*/255"):
        Linf(eps)
    assert Linf(1.0).eps == 1 and Linf(3.0, -2.0, 2.0).eps == 3


@pytest.mark.parametrize("door", DOORS)
def test_lazy_layers_are_refused_before_they_draw_weights(door, batch):
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match="LazyLinear.*no weights yet"):
        DOORS[door](lazy, batch[0][:4], batch[1][:4])
    assert isinstance(lazy[1], nn.LazyLinear)
    with pytest.raises(ValueError, match="LazyLinear"):
        DOORS[door](lambda x: lazy(x), batch[0][:4], batch[1][:4])


def pruned(net):
    from torch.nn.utils import prune

    prune.l1_unstructured(net.body[0], "weight", 0.3)
    return net


def old_spectral(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.spectral_norm(net.body[0])
    return net


def spectral(net):
    nn.utils.parametrizations.spectral_norm(net.body[0])
    return net


def exchanged(net):
    net.head = nn.Linear(64, 5)
    return net


def longer(net):
    net.body.append(nn.Identity())
    net.extra = nn.Linear(2, 2)
    return net


@pytest.mark.parametrize(
    "change,says",
    [
        (pruned, "prune.remove"),
        (old_spectral, "remove_spectral_norm"),
        (spectral, "remove_parametrizations"),
        (exchanged, "head="),
        (longer, "exchanged"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(change, says, tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match=says):
        save(change(SmallCNN(classes=10, channels=1)), path)
    assert not path.exists()


def test_saving_a_compiled_network(tmp_path, batch):
    net = SmallCNN(classes=10, channels=1).eval()
    for model in (torch.compile(net, backend="eager"), net):
        save(model, tmp_path / "w.safetensors")
        assert torch.equal(load(tmp_path / "w.safetensors")(batch[0]), net(batch[0]))


def test_a_learner_wants_a_network(net):
    with pytest.raises(TypeError, match="function.*the network itself"):
        Learner(lambda x: net(x), get_data("digits", device="cpu", n=64).train, pgd_at)


# ---- threads


def test_small_work_runs_on_one_thread(net, batch, monkeypatch):
    from spat_nb.core import threads

    big = PreActResNet18(width=16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_AT_FIRST", 2)
    seen = []

    def spy(x):
        seen.append(torch.get_num_threads())
        return net(x)

    try:
        torch.set_num_threads(2)
        with fitting_threads(net, batch[0]) as n:
            assert n == 1
        with fitting_threads(big, torch.rand(128, 3, 32, 32)) as n:
            assert n == 2
        fgsm(BALL)(spy, *batch)
        evaluate(spy, batch, progress=False, sq=square(BALL, 3))
        trust(spy, batch, BALL, cost=0.05, progress=False)
        assert {*seen} == {1} and torch.get_num_threads() == 2
        monkeypatch.setenv("SPAT_NB_THREADS", "2")  # the reader's own choice
        with fitting_threads(net, batch[0]) as n:
            assert n == 2
        monkeypatch.delenv("SPAT_NB_THREADS")
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with fitting_threads(net, batch[0]) as n:
            assert n == 2
    finally:
        torch.set_num_threads(1)


# ---- gradients that are not finite


class Before(nn.Module):
    "A network behind a function of the pixels"

    def __init__(self, net, change):
        super().__init__()
        self.net = net
        self.change = change

    def forward(self, x):
        return self.net(self.change(x))


def Gamma(net):
    "Its slope at black is infinite"
    return Before(net, lambda x: x ** (1 / 2.2))


def Root(net):
    "A root that is multiplied by 0 where its slope is infinite: NaN"
    return Before(net, lambda x: torch.where(x > 0, x.sqrt(), 0 * x.sqrt()))


STRONG = {
    "mim": mim(Linf(0.3), 20),
    "pgd": pgd(Linf(0.3), 20),
    "pgd l2": pgd(L2(3.0), 20),
    "apgd": apgd(Linf(0.3), 20),
    "apgd l2": apgd(L2(3.0), 20),
    "fab": within(fab(Linf, 20), Linf(0.3)),
    "fab l2": within(fab(L2, 20), L2(3.0)),
    "deepfool": within(deepfool(L2), L2(3.0)),
}


@pytest.mark.parametrize("broken", [Gamma, Root])
@pytest.mark.parametrize("name", STRONG)
def test_nothing_is_robust_by_an_infinite_slope(name, broken, net, batch):
    x, y = batch[0][:24], batch[1][:24]
    with pytest.warns(UserWarning, match="not finite at some pixels of .* of .* images.*square"):
        out = STRONG[name](broken(net), x, y)
    assert out.isfinite().all() and STRONG[name].ball.inside(out, x).all()
    # of NaN nobody knows which way is up
    assert right(broken(net), out, y) < (0.2 if broken is Gamma else 0.6)
    record = evaluate(broken(net), (x, y), progress=False, it=STRONG[name])
    assert any(
        t.startswith("it: the gradient was NaN or infinite at some pixels of") for t in record.notes
    )


@pytest.mark.parametrize("broken", [Gamma, Root])
def test_the_card_flags_slopes_that_are_not_finite(broken, net, batch):
    card = trust(broken(net), batch, BALL, cost=0.1, progress=False)
    assert card["G7 finite"].verdict == "flag" and card["G7 finite"].figure > 50
    assert trust(net, batch, BALL, cost=0.1, progress=False)["G7 finite"].verdict == "pass"


def test_honest_gradients_are_not_touched(net, batch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for attack in ATTACKS.values():
            attack(net, batch[0][:4], batch[1][:4])


# ---- classes that a mask has ruled out

MARKS = [-1e9, -float("inf"), -65504.0, torch.finfo(torch.float32).min]


@pytest.mark.parametrize(
    "name,mark",
    [
        *((k, m) for k in (*STRONG, "cw", "spsa", "autoattack") for m in MARKS[:2]),
        *(("fab", m) for m in MARKS[2:]),
    ],
)
def test_masked_logits_are_like_no_logits(name, mark, net, batch):
    "A network whose upper five classes are ruled out is attacked like the one that has five"
    keep = batch[1] < 5
    x, y = batch[0][keep], batch[1][keep]
    attack = (
        STRONG.get(name)
        or {
            "cw": within(cw(7, 40), L2(3.0)),
            "spsa": spsa(Linf(0.3), 700),
            "autoattack": autoattack(Linf(0.15), steps=10, queries=50),
        }[name]
    )
    ruled = torch.arange(10) >= 5
    five, ten = lambda x: net(x)[:, :5], lambda x: net(x).masked_fill(ruled, mark)
    torch.manual_seed(0)
    a = attack(five, x, y)
    torch.manual_seed(0)
    b = attack(ten, x, y)
    assert b.isfinite().all()
    # apgd's DLR sees the third best, which may be a masked one
    assert abs(right(five, a, y) - right(five, b, y)) <= 2.5 / len(y)


@pytest.mark.parametrize("mark", MARKS)
def test_the_card_of_masked_logits(mark, net, batch):
    keep = batch[1] < 5
    data = batch[0][keep], batch[1][keep]
    card = trust(
        lambda x: net(x).masked_fill(torch.arange(10) >= 5, mark),
        data,
        BALL,
        cost=0.1,
        progress=False,
    )
    assert "G1" not in card.flags and "G7" not in card.flags, card
    dice = trust(
        lambda x: (net(x) + torch.rand(len(x), 10)).masked_fill(torch.arange(10) >= 5, mark),
        data,
        BALL,
        cost=0.05,
        progress=False,
    )
    assert dice["G1 repeats"].verdict == "flag"


def test_ruled_out():
    z = torch.tensor(
        [
            [3.0, 1.0, -2.0, 0.0],
            [3.0, 1.0, -1e9, -1e9],
            [3.0, -1e9, -1e9, -1e9],
            [1e6, 0.0, -1e6, 5.0],
            [3.0, 2.0, -float("inf"), 1.0],
        ]
    )
    assert ruled_out(z).tolist() == [
        [False] * 4,
        [False, False, True, True],
        [False] * 4,
        [False] * 4,
        [False, False, True, False],
    ]


def test_images_without_an_answer_do_not_stand(net, batch):
    "NaN is no answer: not even of class 0, which the arg max of NaN is"
    x, y = batch
    zeros = y == 0
    clean = 0.1 + 0.8 * x[zeros]
    # a random start of the ball keeps below it, an attack need not
    top = clean.flatten(1).mean(1).max() + 0.03

    def bright(x):
        return (
            net(x)
            + 0 * torch.log((x.flatten(1).mean(1, keepdim=True) < top).float() - 0.5)
            - 3 * x.flatten(1).mean(1, keepdim=True) * F.one_hot(torch.tensor([0]), 10)
        )

    card = trust(
        bright,
        (clean, y[zeros]),
        Linf(0.05),
        lambda m, x, y: (x + 0.05).clamp(0, 1),
        cost=0.1,
        progress=False,
    )
    assert card["G1 numbers"].verdict == "flag"
    assert card.accuracy["everything"] < card.accuracy["clean"]
    with pytest.raises(ValueError, match="the images of attack .*NaN"):
        evaluate(bright, (clean, y[zeros]), progress=False, up=lambda m, x, y: x * 0 + 1)
