"Every planted fault is caught by the gate that is meant for it, and no honest network is flagged"

import copy
import json
import math
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb.attacks.ascent import at_x, gaussian
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.square import square
from spat_nb.core.settings import settings
from spat_nb.data.sources import get_data
from spat_nb.measure.card import Card
from spat_nb.measure.checks import check, gap
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.faults import Awake, Decoy, Dice, Searcher, Softmax, Times
from spat_nb.measure.faulty_attacks import around_start, as_the_net_sees, rescaled
from spat_nb.measure.faulty_gradients import (
    Gate,
    Grid,
    Lottery,
    Pitted,
    Reversed,
    Rounded,
    Straight,
    detached,
)
from spat_nb.measure.followup import follow_up
from spat_nb.measure.gate_effort import falls_to_chance
from spat_nb.measure.gate_gradients import (
    gradients_are_true,
    knowledge_over_confidence,
    losses_agree,
)
from spat_nb.measure.gate_strength import distil, without_gradients
from spat_nb.measure.rules import RULES
from spat_nb.measure.trial import Trial
from spat_nb.measure.trust import trust
from spat_nb.models.networks import PreActResNet18, SmallCNN
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at, standard, trades

BALL = Linf(0.15)


@cache
def digits():
    return get_data("digits", device="cpu", batch_size=64)


def fit(objective, attack=None, width=16, seed=0, epochs=3, **kw):
    torch.manual_seed(seed)
    net = SmallCNN(classes=10, channels=1, width=width, **kw)
    return (
        Learner(
            net, digits().train, objective, attack, epochs, lr=0.1, precision="float32", seed=seed
        )
        .fit()
        .model.eval()
    )


@cache
def honest(kind, width=16, seed=0):
    objective, attack = {
        "standard": (standard, None),
        "pgd_at": (pgd_at, pgd(BALL, 3)),
        "trades": (trades, pgd(BALL, 3, start=gaussian(0.001))),
    }[kind]
    return fit(objective, attack, width, seed)


def card(model, attack=None, ball=BALL, n=64, cost=0.1, **kw):
    return trust(model, digits().test, ball, attack, n, cost, progress=False, **kw)


def flagged(c):
    return {v.name for v in getattr(c, "checks", c) if v.verdict == "flag"}


def trial(model, n=64, cost=0.1, **kw):
    return Trial(model, *digits().test.subset(n).tensors(), BALL, cost=cost, **kw)


# ---- honest networks


@pytest.mark.parametrize(
    "kind,width,seed",
    [
        ("standard", 16, 0),
        ("standard", 32, 1),
        ("standard", 16, 2),
        ("pgd_at", 16, 0),
        ("pgd_at", 32, 1),
        ("trades", 16, 0),
        ("trades", 32, 1),
    ],
)
def test_honest_networks_raise_no_flag(kind, width, seed):
    c = card(honest(kind, width, seed), n=96)
    assert c.flags == [], c
    asked = {v.gate for v in c.checks if v.verdict != "not asked"}
    # and all that one model can answer was asked
    assert asked == {f"G{i}" for i in range(1, 10)}


@pytest.mark.parametrize("ball", [L2(1.0), L1(3.0), Linf(0.05), Linf(0.3)], ids=str)
def test_honest_in_other_balls(ball):
    assert card(honest("standard"), ball=ball).flags == []


@pytest.mark.parametrize(
    "attack",
    [
        pgd(BALL, 10),
        pgd(BALL, 20, best=True),
        fgsm(L2(1.0)),
        square(BALL, queries=300),
        lambda m, x, y: x,
    ],
    ids=["pgd", "best", "l2", "square", "idle"],
)
def test_an_honest_attack_keeps_the_rules(attack):
    c = card(honest("pgd_at"), attack, getattr(attack, "ball", BALL))
    assert "G1" not in c.flags and c.claim == "yours"


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_frozen_torchscript_network_is_judged_like_its_source():
    "torch.jit.freeze leaves a module that knows no `training`"
    net = honest("pgd_at")
    frozen = torch.jit.freeze(torch.jit.script(copy.deepcopy(net)))
    part, look = (
        digits().test.subset(64),
        lambda m, precision: evaluate(
            m, digits().test.subset(64), precision, progress=False, pgd=pgd(BALL, 5)
        ),
    )
    assert not hasattr(frozen, "training") and not hasattr(frozen, "weight")
    for precision in ("float32", "channels_last"):
        a, b = look(net, precision), look(frozen, precision)
        assert (
            a.accuracy("clean") == b.accuracy("clean")
            and abs(a.accuracy("pgd") - b.accuracy("pgd")) <= 1 / part.n
            and a.accuracy("pgd") < a.accuracy("clean")
        )
    assert card(frozen).flags == card(net).flags == []


# ---- planted faults of a model


class Wrap(nn.Module):
    def __init__(self, model, f):
        super().__init__()
        self.model, self.f = model, f

    def forward(self, x):
        return self.f(self.model, x)


def wrapped(f):
    return lambda m: Wrap(m, f)


FAULTS = {
    "saturated x50": (partial(Times, s=50.0), "G7 zero"),
    "saturated x128": (partial(Times, s=128.0), "G7 zero"),
    "saturated x256": (Times, "G7 zero"),
    "tiny x.05": (partial(Times, s=0.05), "G8 scale"),
    "probabilities": (Softmax, "G1 logits"),
    "rounding": (Rounded, "G7 zero"),
    "rounding, cut": (wrapped(lambda m, x: m((x.detach() * 2).round() / 2)), "G7 zero"),
    "straight-through quantiser": (Straight, "G7 true"),
    "noise": (wrapped(lambda m, x: m(x + 0.1 * torch.randn_like(x))), "G1 repeats"),
    "dropout": (Dice, "G1 repeats"),
    "train mode": (Awake, "G1 mode", "G1 alone"),
    "search inside": (Searcher, "G1 search"),
    "decoy class": (Decoy, "G9 stronger"),
    "reversed gradient": (Reversed, "G3 loss"),
    "lottery": (Lottery, "G4 starts"),
    "gradient on the grid": (Grid, "G2 order"),
    "rippled glass": (Pitted, "G9 stronger"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_a_model(name):
    f, *meant = FAULTS[name]
    c = card(f(copy.deepcopy(honest("standard"))))
    assert {*meant} <= flagged(c), c


@pytest.mark.parametrize("kind", ["pgd_at", "trades"])
@pytest.mark.parametrize(
    "name",
    [
        "saturated x50",
        "saturated x256",
        "tiny x.05",
        "probabilities",
        "rounding",
        "noise",
        "train mode",
        "straight-through quantiser",
    ],
)
def test_faults_of_a_robust_model(kind, name):
    f, *meant = FAULTS[name]
    c = card(f(copy.deepcopy(honest(kind))), n=48)
    assert {*meant} <= flagged(c), c


def test_a_hidden_slope_is_found_without_slopes():
    c = card(Rounded(honest("standard")), cost=0.2)
    assert {"G5 grey", "G6 square"} <= flagged(c), c
    c = card(FAULTS["rounding, cut"][0](honest("standard")), surrogate=honest("standard", 32, 1))
    assert "G6 transfer" in flagged(c)


def test_accuracy_that_rises_with_eps():
    c = card(Grid(honest("standard")), ball=Linf(0.05))
    assert "G5 grey" in flagged(c)
    t = trial(honest("standard"))
    # as if nothing were found at twice the eps
    t.stands["eps 0.3"] = t.stands["clean"]
    assert flagged(falls_to_chance(t)) == {"G5 falls"}


def test_a_detached_gate_and_its_honest_twin():
    net = fit(standard, act=Gate)
    assert card(net).flags == []
    cut, x = detached(net), digits().test.subset(32).tensors()[0]
    assert torch.equal(cut(x), net(x)) and card(cut)["G7 true"].verdict == "flag"


def test_other_losses_notice_the_scale():
    for s in (256.0, 0.05):
        assert "G8 losses" in flagged(losses_agree(trial(Times(honest("standard"), s), 256)))


@pytest.mark.parametrize("kind", ["standard", "pgd_at", "trades"])
def test_small_logits_are_judged_by_what_is_known(kind):
    net, (x, y) = honest(kind), digits().test.subset(48).tensors()
    with torch.no_grad():
        z = net(x)
    figure, lo, hi = knowledge_over_confidence(z, y)
    limit = RULES["G8 scale"].limit
    # an honest network is far from the limit
    assert figure < limit / 1.5 and lo < figure <= hi
    tiny = knowledge_over_confidence(0.05 * z, y)
    # a factor of .05 is far beyond it
    assert tiny[1] > 2 * limit and tiny[0] > 8 * figure
    # no answer depends on a shift, nor does this
    assert knowledge_over_confidence(z + 3, y) == pytest.approx((figure, lo, hi), rel=1e-4)


def test_a_network_that_knows_nothing_may_say_so():
    z, y = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10
    # at chance no confidence is due, however small the logits
    for s in (1.0, 0.1, 1e-3, 0.0):
        assert knowledge_over_confidence(s * z, y)[1] <= 0
    # three answers of four are right, each with confidence p
    told = F.one_hot((torch.arange(400) >= 300).long(), 4).double()
    for p in (0.3, 0.75, 0.9):
        assert knowledge_over_confidence(told * math.log(3 * p / (1 - p)), torch.zeros(400).long())[
            0
        ] == pytest.approx(0.5 / (p - 0.25))


def test_a_little_luck_of_square_is_no_flag():
    for found, verdict in ((1, "unclear"), (3, "unclear"), (20, "flag")):
        t = trial(honest("standard"), 96, cost=0.01)
        t.run("idle", lambda m, x, y: x)
        t.stands["+ Square"] = t.stands["clean"] & (torch.arange(len(t.x)) >= found)
        got = {c.name: c for c in without_gradients(t)}["G6 square"]
        assert got.verdict == verdict and got.figure == pytest.approx(100 * found / 96), got


def test_half_precision_is_named():
    assert "G1 float32" in flagged(card(copy.deepcopy(honest("standard")).bfloat16(), n=4))
    x, y = digits().test.subset(16).tensors()
    assert (
        trust(
            copy.deepcopy(honest("standard")).double(),
            (x.double(), y),
            BALL,
            cost=0.1,
            progress=False,
        )["G1 float32"].verdict
        == "pass"
    )


def test_a_training_loss_without_slope():
    for loss, want in ((lambda z, y: z[:, 0] * 0, {"G7 zero"}), (ce, set())):
        assert flagged(gradients_are_true(trial(honest("standard"), 32, loss=loss))) == want


# ---- planted faults of an attack


def around_itself(m, x, y):
    for _ in range(10):
        x = pgd(BALL, 1, 0.05, start=at_x)(m, x, y)
    return x


def awakening(m, x, y):
    m.train()
    return pgd(BALL, 10)(m, x, y)


def littering(m, x, y):
    ce(m(x), y).sum().backward()
    return pgd(BALL, 10)(m, x, y)


def inplace(m, x, y):
    return x.copy_(pgd(BALL, 10)(m, x, y))


ATTACKS = {
    "eps x 2": (pgd(Linf(0.3), 10), "G1 ball"),
    "eps x 255": (
        lambda m, x, y: (x + 0.15 * 255 * torch.randn_like(x).sign()).clamp(0, 1),
        "G1 ball",
    ),
    "eps / 2": (pgd(Linf(0.075), 10), "G1 reach"),
    "eps / 255": (partial(rescaled, ball=BALL, factor=1 / 255), "G1 reach"),
    "normalised space": (partial(rescaled, ball=BALL, factor=0.376), "G1 reach"),
    "normalised images": (partial(as_the_net_sees, ball=BALL), "G1 box"),
    "other norm": (pgd(L2(2.0), 10), "G1 ball"),
    "wrong centre": (partial(around_start, ball=BALL), "G1 ball"),
    "around itself": (around_itself, "G1 ball"),
    "mode not restored": (awakening, "G1 manners"),
    "gradients left": (littering, "G1 manners"),
    "in place": (inplace, "G1 manners"),
    "too few steps": (pgd(BALL, 3, 0.01), "G3 doubling", "G2 order", "G9 stronger"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_faults_of_an_attack(name):
    attack, *meant = ATTACKS[name]
    c = card(copy.deepcopy(honest("standard")), attack)
    assert {*meant} <= flagged(c), c


# ---- what the card asks of others


def test_runs_are_asked_for_never_passed():
    c = card(honest("standard"), n=16)
    assert [c[k].verdict for k in ("G10 both", "G10 chosen", "G11 seeds")] == ["not asked"] * 3
    r = evaluate(honest("standard"), digits().test.subset(32), progress=False, pgd=pgd(BALL, 3))
    looks = [dict(robust=0.1), dict(robust=0.2)]
    full = card(
        honest("standard"),
        n=16,
        checkpoints=dict(best=r, last=0.1),
        history=looks,
        seeds=[0.1, 0.2, r],
    )
    assert [full[k].verdict for k in ("G10 both", "G10 chosen", "G11 seeds")] == ["pass"] * 3
    bad = card(
        honest("standard"), n=16, checkpoints=dict(best=0.2), history=[dict(loss=1.0)], seeds=[0.1]
    )
    assert {"G10 both", "G10 chosen", "G11 seeds"} <= flagged(bad)


# ---- the card itself


def test_a_card_is_repeatable_and_leaves_everything_alone():
    net = copy.deepcopy(honest("standard")).train()
    net.body[1].eval()
    before = (
        {k: v.clone() for k, v in net.state_dict().items()},
        [m.training for m in net.modules()],
        torch.get_rng_state(),
    )
    x, y = digits().test.subset(24).tensors()
    x0 = x.clone()
    a, b = (trust(net, (x, y), BALL, cost=0.1, progress=False) for _ in range(2))
    assert a.checks == b.checks and a.accuracy == b.accuracy and torch.equal(x, x0)
    assert (
        all(torch.equal(v, before[0][k]) for k, v in net.state_dict().items())
        and [m.training for m in net.modules()] == before[1]
    )
    assert torch.equal(torch.get_rng_state(), before[2]) and all(
        p.grad is None for p in net.parameters()
    )
    card(Awake(net), n=16)
    # batch norm's statistics are put back
    assert all(torch.equal(v, before[0][k]) for k, v in net.state_dict().items())


def test_only_the_stream_of_its_own_device_is_forked(monkeypatch):
    forked, fork = [], torch.random.fork_rng

    def spy(devices=None, *args, **kw):
        forked.append(devices)
        return fork(devices, *args, **kw)

    monkeypatch.setattr(torch.random, "fork_rng", spy)
    card(honest("standard"), n=8)
    # None would be all GPUs of the machine
    assert forked and all(d == [] for d in forked)


def test_several_batches_are_as_good_as_one():
    x, y = digits().test.subset(300).tensors()
    ends = []
    for size in (64, 300):
        t = Trial(honest("standard"), x, y, BALL, cost=0.1, size=size)
        t.run("fgsm", fgsm(BALL))
        t.run("pgd", pgd(BALL, 8, start=at_x))
        t.run("margin", pgd(BALL, 8, loss=margin, start=at_x), on=t.stands["pgd"])
        ends.append((t, {c.name: c.figure for c in gradients_are_true(t)}))
    (a, fa), (b, fb) = ends
    assert (
        len(a.x) > 256
        and torch.allclose(a.z, b.z, atol=1e-4)
        and 0 < a.accuracy("margin") < a.accuracy("clean")
    )
    for k in ("clean", "fgsm", "pgd", "margin"):
        assert torch.equal(a.stands[k], b.stands[k]), k
    assert fa["G7 zero"] == fb["G7 zero"] == 0 and fb["G7 true"] < 15 and fa["G7 true"] < 15


def test_data_in_both_forms():
    part = digits().test.subset(20)
    a, b = (
        trust(honest("standard"), part, BALL, cost=0.1, progress=False),
        trust(lambda x: honest("standard")(x), part.tensors(), BALL, cost=0.1, progress=False),
    )
    assert [v.verdict for v in a.checks] == [
        v.verdict for v in b.checks
    ] and a.accuracy == b.accuracy


def test_save_and_load(tmp_path):
    c = card(Times(honest("standard"), 1e30), n=16)
    path = tmp_path / "a" / "card.json"
    c.save(path)
    assert repr(Card.load(path)) == repr(c) and Card.load(path).accuracy == c.accuracy
    json.loads(path.read_text(), parse_constant=lambda v: pytest.fail(v))  # strict JSON
    for text in (path.read_text()[:-9], "[]", "{}", '{"checks": 3}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="holds no whole card"):
            Card.load(path)
    path.write_text("\0")
    with pytest.raises(ValueError, match="no trust card"):
        Card.load(path)
    with pytest.raises(FileNotFoundError, match="no card"):
        Card.load(tmp_path / "none")


def test_picture_and_texts():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    c = card(Times(honest("standard")), n=24)
    c.plot()
    plt.close("all")
    assert (
        "G7 zero" in repr(c)
        and len(c.advice()) == len(flagged(c))
        and all("." in a for a in c.advice())
    )
    html = c._repr_html_()
    assert html.count("<tr>") == len(RULES) + 1 and "flag" in html
    assert list(c.table().index) == list(RULES)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes):
    x, y = digits().test.tensors()
    x, y = x[y < classes][:48], y[y < classes][:48]
    net = Wrap(honest("standard"), lambda m, x: m(x)[:, :classes])
    c = trust(net, (x, y), BALL, cost=0.1, progress=False)
    assert c.flags == [] and (c["G8 scale"].verdict == "not asked") == (classes == 2)


def test_nothing_right_and_one_image():
    c = card(Times(honest("standard"), -1.0), n=16)
    assert (
        c.flags == []
        and c["G9 stronger"].verdict == c["G1 ball"].verdict == "not asked"
        and c["G1 repeats"].verdict == "pass"
    )
    assert card(honest("standard"), n=1)["G1 alone"].verdict == "not asked"


@pytest.mark.parametrize(
    "args,kw,word",
    [
        ((8 / 255,), {}, "Linf"),
        ((Linf(0.0),), {}, "eps > 0"),
        ((BALL,), dict(cost=0), "cost is 0"),
        ((BALL,), dict(limits={"G1": 1}), "no check is called 'G1'"),
    ],
)
def test_bad_calls(args, kw, word):
    with pytest.raises(ValueError, match=word):
        trust(honest("standard"), digits().test, *args, **kw)


def test_bad_data():
    net, (x, y) = honest("standard"), digits().test.subset(8).tensors()
    for data, kind, word in (
        ((x * 2 - 1, y), ValueError, "pixels must lie"),
        ((x, y[:3]), ValueError, "8 images but 3 labels"),
        (x, TypeError, "give Batches"),
        (digits(), TypeError, "data.test"),
        ((x, y + 7), ValueError, "label"),
        ((x, F.one_hot(y, 10).float()), ValueError, "argmax"),
        ((x[:0], y[:0]), ValueError, "no images"),
    ):
        with pytest.raises(kind, match=word):
            trust(net, data, BALL)
    with pytest.raises(ValueError, match="NaN"):
        trust(lambda x: net(x) * float("nan"), (x, y), BALL)
    with pytest.raises(ValueError, match="returned shape"):
        trust(net, (x, y), BALL, lambda m, x, y: x[:1], cost=0.1)


# ---- noise


def test_gap_knows_what_luck_can_do():
    for n in (16, 64, 256, 4096):
        for b, c in ((0, 0), (1, 0), (n // 4, n // 4), (n, 0), (n // 2, n // 8)):
            d, lo, hi = gap(b, c, n)
            assert (
                -1 <= lo <= hi <= 1
                and lo <= d + 1e-9
                and d == pytest.approx((b - c) / n)
                and gap(c, b, n) == pytest.approx((-d, -hi, -lo))
            )
            assert lo < d or b + c == n
    # one image is luck, a gross gap is not, even with 32 images
    assert gap(1, 0, 256)[1] < 0 < gap(26, 0, 256)[1] and gap(20, 0, 32)[1] > 0.3
    for bad in ((-1, 0, 4), (3, 2, 4), (0, 0, 0)):
        with pytest.raises(ValueError, match="counts"):
            gap(*bad)


def test_one_image_never_flags_a_gate_of_points():
    for name in (k for k, r in RULES.items() if "points" in r.asks):
        for n in (8, 64, 256):
            assert check(name, *(100 * v for v in gap(1, 0, n))).verdict != "flag"


def test_distil_repeats_the_answers():
    net, x = honest("standard"), digits().test.subset(128).tensors()[0]
    twin, again = (distil(net, x, BALL, 20) for _ in range(2))
    assert (twin(x).argmax(1) == net(x).argmax(1)).double().mean() > 0.9 and torch.equal(
        twin(x), again(x)
    )


# ---- real photographs, where they are

PHOTOS = Linf(8 / 255)


@pytest.mark.skipif(
    not (settings().data / "cifar-10-batches-py").is_dir(), reason="no CIFAR-10 in the data folder"
)
@pytest.mark.parametrize(
    "kind,width,n",
    [(k, w, 2000) for w in (16, 32) for k in ("standard", "pgd_at", "trades")]
    + [("resnet", 4, 1500)],
)
def test_cifar10_networks_raise_no_flag(kind, width, n):
    """Seven networks that were trained for a moment; the last hardly beats chance, and its small
    logits are honest
    """
    data, short = get_data("cifar10", device="cpu", batch_size=64, n=n), pgd(PHOTOS, 2, 6 / 255)
    objective, attack = {
        "standard": (standard, None),
        "trades": (trades, replace(short, start=gaussian(0.001))),
    }.get(kind, (pgd_at, short))
    torch.manual_seed(0)
    net = (
        PreActResNet18(classes=10, width=width)
        if kind == "resnet"
        else SmallCNN(classes=10, width=width, channels=3, size=32)
    )
    net = Learner(net, data.train, objective, attack, 2, lr=0.1, precision="float32").fit().model
    c = trust(net, data.test, PHOTOS, n=48, cost=0.1, progress=False)
    assert c.flags == [] and c["G9 stronger"].verdict != "not asked", c
    x, y = data.test.subset(256).tensors()
    with torch.no_grad():
        z = net.eval()(x)
    # no lucky pass: far from the limit with more images too
    assert knowledge_over_confidence(z, y)[0] < RULES["G8 scale"].limit / 1.5
    if kind != "resnet":
        assert check("G8 scale", *knowledge_over_confidence(0.05 * z, y)).verdict == "flag"


# ---- random answers


class Coin(nn.Module):
    "Right with one and the same chance, whatever the image: no attack changes anything"

    def __init__(self, chance):
        super().__init__()
        self.chance = chance

    def forward(self, x):
        of_image = (x.flatten(1).amax(1) > 0.5).long()  # the label: an attack within .15 keeps it
        wrong = torch.rand(len(x)) > self.chance
        z = nn.functional.one_hot(of_image ^ wrong.long(), 2) * 4.0
        return z + 0 * x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("chance", [0.6, 0.8, 0.95])
def test_random_answers_stand_by_their_mean(chance):
    "The unluckiest of a dozen rolls would leave next to nothing"
    n = 400
    y = torch.arange(n) % 2
    x = torch.full((n, 1, 8, 8), 0.5) + 0.3 * (2 * y[:, None, None, None] - 1)
    c = trust(Coin(chance), (x, y), BALL, n=n, cost=0.1, progress=False)
    assert "G1 repeats" in flagged(c)
    share, low, high = c.lowest
    # where all attacks are alike, choosing the worst by 20 rolls changes nothing
    error = 4 * (chance * (1 - chance) / n) ** 0.5
    assert abs(share - chance) < error, (share, chance)
    assert abs(c.accuracy["clean"] - chance) < error
    found = follow_up(c, ["other_losses", "average_answers"], progress=False)
    assert abs(found.after - chance) < error, (found.after, chance)


def test_more_images_than_fit_into_a_batch():
    "A trial asks 256 images at a time"
    x = torch.rand(300, 1, 8, 8)
    y = (x.flatten(1).mean(1) > 0.5).long()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([torch.full((64,), -1.0), torch.full((64,), 1.0)]))

    def centred(x):
        return net(x - 0.5)

    c = trust(centred, (x, y), Linf(0.02), n=300, cost=0.1, progress=False)
    # a linear network: the margin is the sum of the pixels
    stand = ((x - 0.5).flatten(1).sum(1).abs() > 64 * 0.02).double().mean().item()
    assert abs(c.accuracy["everything"] - stand) <= 1 / 300
    follow_up(c, ["other_losses"], progress=False)
