"""A lean AutoAttack: it stays in the ball, it keeps the verdict, and it does not lose the doubt"""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from spat_nb.app import zoo
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.lean import by_distance, lean
from spat_nb.core.remarks import remark, remarks
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.faulty_gradients import Rounded
from spat_nb.measure.metering import Meter, watching

BALL = Linf(0.15)


@pytest.fixture(scope="module")
def digits():
    return get_data("digits", device="cpu").test.subset(60).tensors()


@pytest.fixture(scope="module")
def net():
    return zoo.load("digits/pgd_at/w16", "cpu")


class Linear(nn.Module):
    "Three classes over four pixels: every distance is known"

    def __init__(self):
        super().__init__()
        self.w = torch.tensor([[0, 0, 0, 0], [1, 2, 0, 0], [0, 0, 3, -4]], dtype=torch.float64)
        self.b = torch.tensor([0.0, -1.9, 0.1], dtype=torch.float64)

    def forward(self, x):
        return x.flatten(1) @ self.w.T + self.b


@pytest.mark.parametrize(
    ("ball", "lengths"),
    [(Linf(0.1), (3, 7)), (L2(0.1), (5**0.5, 5)), (L1(0.1), (2, 4))],
)
def test_the_order_of_a_linear_model_is_that_of_its_distances(ball, lengths):
    "Dual norms of the two rows, by hand"
    x = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    model = Linear()
    margins = (0 - model(x))[0, 1:]  # .4 and .4
    assert torch.allclose(margins, torch.tensor([0.4, 0.4], dtype=torch.float64))
    far = [0.4 / v for v in lengths]
    assert far[1] < far[0]
    order = by_distance(model, x, torch.tensor([0]), ball, torch.tensor([[1, 2]]))
    assert order.tolist() == [[2, 1]]


@pytest.mark.parametrize("ball", [BALL, L2(1.0)])
def test_it_stays_in_ball_and_box_and_keeps_wrong_images(net, digits, ball):
    x, y = digits
    wrong = y.clone()
    wrong[:5] = (y[:5] + 1) % 10
    x_adv = lean(ball)(net, x, wrong)
    assert ball.inside(x_adv, x).all() and torch.equal(x_adv[:5], x[:5])
    moved = (x_adv != x).flatten(1).any(1)
    with torch.no_grad():
        assert (net(x_adv[moved]).argmax(1) != wrong[moved]).all()  # what it moves it fools


def test_one_seed_one_answer(net, digits):
    x, y = digits
    attack, found = lean(BALL), []
    for seed in (0, 0):
        torch.manual_seed(seed)
        found.append(attack(net, x, y))
    assert torch.equal(*found)
    state = torch.get_rng_state()
    mode = net.training
    assert net.training == mode and torch.equal(torch.get_rng_state(), state)


def test_the_verdict_of_autoattack_for_a_fifth_of_the_passes(net, digits):
    "Passes are counted; one image in twenty is far below what is seen on any processor"
    x, y = (v[:24] for v in digits)
    stands, passes = {}, {}
    for name, attack in {"lean": lean(BALL), "standard": autoattack(BALL)}.items():
        meter = Meter()
        torch.manual_seed(0)
        with watching(net, meter) as counted:
            x_adv = attack(counted, x, y)
        with torch.no_grad():
            stands[name] = net(x_adv).argmax(1) == y
        passes[name] = meter.forward + meter.backward
    assert (stands["lean"] != stands["standard"]).sum() <= 1
    assert passes["lean"] < passes["standard"] / 5


def cheap(ball, **kw):
    "With a short attack to fall back on"
    return lean(ball, **{"full": autoattack(ball, steps=3, targets=2, queries=400), **kw})


def test_a_network_that_hides_is_found_and_said(net, digits):
    x, y = digits
    masked = Rounded(net, levels=8).eval()
    with remarks() as said:
        torch.manual_seed(0)
        x_adv = cheap(BALL)(masked, x, y)
    assert any("gradients may mislead" in s for s in said)
    with torch.no_grad():
        left = (masked(x_adv).argmax(1) == y).float().mean()
    with remarks() as silent:
        torch.manual_seed(0)
        blind = cheap(BALL, sample=0)(masked, x, y)
    with torch.no_grad():
        assert left < (masked(blind).argmax(1) == y).float().mean()
    assert not any("mislead" in s for s in silent)


def test_an_honest_network_needs_no_fallback(net, digits):
    class Never:
        ball = BALL

        def __call__(self, model, x, y):
            raise AssertionError("the full attack was run")

    x, y = digits
    with remarks() as said:
        torch.manual_seed(0)
        lean(BALL, full=Never())(net, x, y)
    assert not any("mislead" in s for s in said)


def test_evaluate_keeps_what_was_said_and_reads_it_back(net, digits, tmp_path):
    masked = Rounded(net, levels=8).eval()
    kept = tmp_path / "kept.safetensors"
    for _ in range(2):  # the second time from the file
        record = evaluate(masked, digits, progress=False, resume=kept, lean=cheap(BALL))
        assert sum("lean: Square, which needs no gradient" in n for n in record.notes) == 1


def test_one_image_two_classes_and_all_wrong(net):
    x = torch.rand(1, 1, 8, 8)

    def two(v):
        s = v.flatten(1).sum(1)
        return torch.stack([32 - s, s - 32], 1)

    label = two(x).argmax(1)
    assert BALL.inside(lean(BALL)(two, x, label), x).all()
    fallen = 1 - label
    assert torch.equal(lean(BALL)(two, x, fallen), x)


def test_bad_input_is_told(net, digits):
    x, y = digits
    with pytest.raises(TypeError, match="Linf"):
        lean(L1(1.0))
    with pytest.raises(ValueError, match="label"):
        lean(BALL)(net, x, y + 20)


def test_further_stops_where_nothing_moves(net, digits):
    "With `moves` out of reach each finalist gets one chunk; with none it gets all"
    x, y = digits
    passes = {}
    for moves in (1e9, -1e9):
        meter = Meter()
        torch.manual_seed(0)
        with watching(net, meter) as counted:
            replace(lean(BALL), moves=moves, sample=0, doubtful=0.0)(counted, x, y)
        passes[moves] = meter.backward
    assert passes[1e9] < passes[-1e9]


# ---- remarks


def test_a_remark_is_a_warning_where_nobody_listens():
    with pytest.warns(UserWarning, match="be careful"):
        remark("be careful")
    with warnings.catch_warnings(), remarks() as said:
        warnings.simplefilter("error")
        remark("once")
        remark("once")
        with remarks() as inner:
            remark("inside")
    assert said == ["once"] and inner == ["inside"]


class Sure(nn.Module):
    "Class 3, whatever it sees, but class 4 where the first pixel is white: far outside the ball"

    def forward(self, x):
        white = x[:, 0, 0, 0] > 0.9
        z = torch.zeros(len(x), 10)
        z[:, 3] = 5
        z[white, 4] = 9
        slope = torch.zeros(10).index_fill(0, torch.tensor(5), 1e-3)
        return z + slope * x.flatten(1).mean(1, keepdim=True)  # a gradient that leads nowhere


@pytest.mark.parametrize(("holes", "misled"), [(0, False), (1, False), (2, True), (8, True)])
def test_one_image_may_be_luck_and_several_are_not(holes, misled, monkeypatch):
    "In place of Square an attack that fools the first images, each known by a pixel of its own"
    x = torch.full((30, 1, 8, 8), 0.5)
    x[:, 0, 0, 1] = torch.arange(30) / 255

    def planted(ball, queries):
        def attack(model, v, y):
            v = v.clone()
            v[(255 * v[:, 0, 0, 1]).round() < holes, 0, 0, 0] = 1
            return v

        return attack

    monkeypatch.setattr("spat_nb.attacks.lean.square", planted)
    asked = []

    def full(model, v, y):
        asked.append(len(v))
        return v

    with remarks() as said:
        lean(Linf(0.1), full=full)(Sure(), x, torch.full((30,), 3))
    assert any("may mislead" in s for s in said) == misled
    assert asked == ([30 - holes] if misled else [])


def test_a_zero_gradient_is_told_and_the_full_attack_is_run():
    "AutoAttack's own look at the model, before anything is searched"

    class Flat(nn.Module):
        def forward(self, x):
            return torch.eye(10)[[3] * len(x)] * 5 + 0 * x.flatten(1).sum(1, keepdim=True)

    asked = []

    def full(model, v, y):
        asked.append(len(v))
        return v

    x = torch.rand(6, 1, 8, 8)
    with remarks() as said:
        lean(Linf(0.1), full=full, queries=20)(Flat(), x, torch.full((6,), 3))
    assert asked == [6] and any(s.startswith("no gradient") for s in said)
