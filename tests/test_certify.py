"""Certificates by closed forms, by enumeration, and against attacks; wrong ones are caught"""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb import L1, L2, Linf, PreActResNet10, SmallCNN, fab, get_data, norms, pgd, zoo
from spat_nb.attacks import operations
from spat_nb.attacks.backward import Start, boxes_of, lowest
from spat_nb.attacks.certify import BOUNDS, certified_margins, certified_radius, certify
from spat_nb.attacks.program import program_of
from spat_nb.attacks.relax import CURVES, leaky, lines
from spat_nb.core.precision import Fast

F64 = torch.float64


def digits(n):
    return tuple(t[:n] for t in get_data("digits", device="cpu").test.tensors())


def net(*layers):
    return nn.Sequential(nn.Flatten(), *layers).to(F64).eval()


def linear(seed=0, pixels=4, classes=3):
    torch.manual_seed(seed)
    return net(nn.Linear(pixels, classes))


@pytest.mark.parametrize("by", BOUNDS)
@pytest.mark.parametrize("ball,dual", [(Linf(0.1), 1), (L2(0.1), 2)])
def test_a_linear_model_is_bounded_exactly(by, ball, dual):
    model = linear()
    x, y = 0.3 + 0.4 * torch.rand(5, 1, 2, 2, dtype=F64), torch.tensor([0, 1, 2, 1, 0])
    got = certified_margins(model, x, y, ball, by)
    W, b = model[1].weight, model[1].bias
    for i in range(5):
        rest = [k for k in range(3) if k != y[i]]
        rows = W[y[i]] - W[rest]
        want = rows @ x[i].flatten() + b[y[i]] - b[rest] - 0.1 * rows.norm(dual, 1)
        torch.testing.assert_close(got[i], want.detach())


def test_l1_of_a_linear_model():
    model, x = linear(), torch.full((1, 1, 2, 2), 0.5, dtype=F64)
    W, b = model[1].weight, model[1].bias
    rows = W[0] - W[1:]
    want = rows @ x.flatten() + b[0] - b[1:] - 0.1 * rows.abs().amax(1)
    got = certified_margins(model, x, torch.tensor([0]), L1(0.1), "crown")
    torch.testing.assert_close(got[0], want.detach())


def test_the_box_of_the_pixels_counts():
    model, x = linear(), torch.zeros(1, 1, 2, 2, dtype=F64)
    rows = (model[1].weight[0] - model[1].weight[1:]).detach()
    gained = rows.clamp_max(0).sum(1) * 0.2  # black pixels can only get brighter
    got = certified_margins(model, x, torch.tensor([0]), Linf(0.2), "crown")
    torch.testing.assert_close(got[0], (model(x)[0, 0] - model(x)[0, 1:]).detach() + gained)


def least_by_enumeration(W, b, v, c, lo, hi):
    "min of v relu(W x + b) + c over a box of two pixels: linear in each cell of the plane"
    points = [*itertools.product(*zip(lo.tolist(), hi.tolist()))]
    rows = [(*W[i].tolist(), b[i].item()) for i in range(2)]
    sides = [(1.0, 0.0, -e.item()) for e in (lo[0], hi[0])]
    sides += [(0.0, 1.0, -e.item()) for e in (lo[1], hi[1])]
    for (p, q, r), (s, t, u) in itertools.combinations([*rows, *sides], 2):
        det = p * t - q * s
        if abs(det) > 1e-12:
            points.append(((q * u - r * t) / det, (r * s - p * u) / det))
    X = torch.tensor(points, dtype=F64)
    X = X[((X >= lo - 1e-12) & (X <= hi + 1e-12)).all(1)]
    return (F.relu(X @ W.T + b) @ v + c).min()


def test_two_neurons_by_enumeration():
    exact, ball = 0, Linf(0.15)
    for seed in range(40):
        torch.manual_seed(seed)
        model = net(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        x = 0.2 + 0.6 * torch.rand(1, 1, 1, 2, dtype=F64)
        one, two = model[1], model[3]
        v, c = two.weight[0] - two.weight[1], two.bias[0] - two.bias[1]
        lo, hi = x.flatten() - 0.15, x.flatten() + 0.15
        with torch.no_grad():
            want = least_by_enumeration(one.weight, one.bias, v, c, lo, hi)
        got = {by: certified_margins(model, x, torch.tensor([0]), ball, by).item() for by in BOUNDS}
        assert all(g <= want + 1e-9 for g in got.values())
        assert got["crown"] >= got["ibp"] - 1e-12
        exact += got["crown"] > want - 1e-9
        pre = one(x.flatten())
        if (pre.abs() > 0.15 * one.weight.abs().sum(1)).all():  # no kink in the ball
            assert got["crown"] == pytest.approx(want.item())
    assert exact > 10


@pytest.mark.parametrize("name", [*CURVES, "leaky"])
def test_a_curve_lies_between_its_lines(name):
    curve = leaky(0.1) if name == "leaky" else CURVES[name]
    torch.manual_seed(0)
    ends = (6 * torch.randn(2, 500, dtype=F64)).sort(0).values
    ends[:, :100] /= 50
    (s, a), (t, b) = lines(curve, *ends)
    lo, hi = curve.box(*ends)
    for i in range(301):
        v = ends[0] + (ends[1] - ends[0]) * (i / 300)
        assert (s * v + a <= curve.f(v) + 1e-9).all() and (curve.f(v) <= t * v + b + 1e-9).all()
        assert (lo <= curve.f(v) + 1e-7).all() and (curve.f(v) <= hi + 1e-7).all()
    v = torch.linspace(-8, 8, 4001, dtype=F64, requires_grad=True)
    slope = torch.autograd.grad(curve.f(v).sum(), v, create_graph=True)[0]
    assert slope.abs().max() <= curve.steepest + 1e-6
    if not curve.kinked:
        assert torch.autograd.grad(slope.sum(), v)[0].abs().max() <= curve.bend + 1e-6


class Strides(nn.Module):
    "Groups, strides, dilation, biases, a branch, a product and pools in one"

    def __init__(self, bent=True):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, 2, 1, groups=2), nn.Conv2d(2, 4, 2, 2)
        self.c = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.norm, self.bent = nn.BatchNorm2d(4), bent
        self.norm.running_mean.normal_()
        self.norm.bias.data.normal_()
        self.pool, self.last = nn.AvgPool2d(2), nn.Linear(4, 3)

    def forward(self, x):
        h = self.a(x) - 0.5 * self.b(x) + 1
        h = h + self.norm(self.c(torch.relu(h) if self.bent else -h))
        h = (1 - h) * torch.sigmoid(h) if self.bent else h / 2
        return self.last(torch.flatten(self.pool(h).mean((2, 3), keepdim=True), 1))


def test_the_way_back_is_the_transposed_network():
    torch.manual_seed(1)
    model, x = Strides(False).to(F64).eval(), torch.rand(3, 2, 8, 6, dtype=F64)
    program = program_of(model)
    start = Start(x, torch.zeros(3, dtype=F64), Linf(0.0))
    boxes = boxes_of(program, start, False)
    c = torch.randn(3, 5, 3, dtype=F64)
    got = lowest(program, len(program.steps) - 1, c, boxes, start)
    torch.testing.assert_close(got, torch.einsum("bsk,bk->bs", c, model(x)))


def violations(model, x, y, ball, steps, by="crown"):
    "Certified images that an attack brings down; certified margins that a point falls below"
    holds = certify(model, x, y, ball, by)
    low = certified_margins(model, x, y, ball, by).amin(1)
    with torch.no_grad():
        fell = pgd(ball, steps)(model, x, y)
        points = [fell, ball.uniform(x), ball.project(x + 9 * torch.randn_like(x).sign(), x)]
        n = 0
        for p in points:
            z = model(p)
            margin = z.gather(1, y[:, None])[:, 0]
            margin = margin - z.scatter(1, y[:, None], -math.inf).amax(1)
            n += int((holds & (margin <= 0)).sum() + (margin < low - 1e-6).sum())
    return n


@pytest.mark.parametrize("ball", [Linf(0.02), L2(0.1), L1(0.3)])
def test_no_point_of_the_ball_falls_below_the_bound(ball):
    torch.manual_seed(0)
    for act in (nn.ReLU, nn.SiLU, nn.GELU, nn.Tanh):
        model = PreActResNet10(width=2, act=act, channels=1).to(F64).eval()
        x, y = torch.rand(2, 1, 4, 4, dtype=F64), torch.tensor([0, 3])
        y = model(x).argmax(1)
        assert violations(model, x, y, ball, 5) == 0
    model = Strides().to(F64).eval()
    x = torch.rand(8, 2, 8, 6, dtype=F64)
    assert violations(model, x, model(x).argmax(1), ball, 5) == 0


@pytest.mark.parametrize("name", ["pgd_at", "he", "simplex_at"])
def test_no_attack_crosses_a_certificate_of_a_shipped_network(name):
    x, y = digits(3)
    model = zoo.load(f"digits/{name}/w16", "cpu").requires_grad_(False)
    holds = certify(model, x, y, Linf(0.02), "crown")
    assert holds.any()
    x_adv = pgd(Linf(0.02), 20)(model, x[holds], y[holds])
    assert (model(x_adv).argmax(1) == y[holds]).all()


def forgotten_bias(monkeypatch):
    back = operations.Dense.back
    monkeypatch.setattr(operations.Dense, "back", lambda *a: (back(*a)[0], 0))


def wrong_sign(monkeypatch):
    "The line above is used for the lower bound, and the other way round"

    def back(self, c, shapes, boxes):
        low, high = lines(self.curve, *boxes[0])
        constant = operations.by_sign(c, high[1], low[1]).flatten(2).sum(2)
        return [operations.by_sign(c, high[0], low[0])], constant

    monkeypatch.setattr(operations.Bend, "back", back)


@pytest.mark.parametrize("plant", [None, forgotten_bias, wrong_sign])
def test_wrong_certificates_are_caught(plant, monkeypatch):
    torch.manual_seed(3)
    model = net(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    for layer in model[1::2]:
        layer.bias.data.normal_()
    x = torch.rand(64, 1, 2, 2, dtype=F64)
    y = torch.arange(64) % 3  # not what the biases prefer
    if plant is not None:
        plant(monkeypatch)
    found = violations(model, x, y, Linf(0.1), 10)
    assert found == 0 if plant is None else found > 0


def test_batch_and_single_agree_and_the_model_stays_as_it_was():
    x, y = digits(5)
    model = zoo.load("digits/pgd_at/w16", "cpu").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    whole = certified_margins(model, x, y, Linf(0.03))
    single = torch.cat(
        [certified_margins(model, x[i, None], y[i, None], Linf(0.03)) for i in range(5)]
    )
    torch.testing.assert_close(whole, single)
    assert whole.dtype == F64 and model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    half = certified_margins(model, x, y, Linf(0.03), dtype=torch.float32)
    torch.testing.assert_close(half.double(), whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("by", ["lipschitz", "ibp"])
def test_boxes_and_slopes_fall_with_the_radius(by):
    x, y = digits(8)
    model = zoo.load("digits/pgd_at/w16", "cpu")
    radii = [0.0, 0.001, 0.003, 0.01, 0.03]
    margins = torch.stack([certified_margins(model, x, y, Linf(e), by) for e in radii])
    assert (margins.diff(dim=0) <= 1e-9).all()
    z = model(x).double()
    rest = torch.stack([z[i, y[i]] - z[i, torch.arange(10) != y[i]] for i in range(8)])
    torch.testing.assert_close(margins[0], rest, rtol=1e-4, atol=1e-4)


def test_a_proved_radius_is_no_longer_than_a_found_one():
    x, y = digits(6)
    model = zoo.load("digits/pgd_at/w16", "cpu").requires_grad_(False)
    for norm in (Linf, L2):
        proved = certified_radius(model, x, y, norm, "crown-ibp", top=0.1, halvings=5)
        found = norms(model, x, y, fab(norm, steps=10)(model, x, y), norm)
        assert (proved <= found).all() and proved.max() > 0


def test_heads_have_linear_twins_of_the_same_answers():
    from functools import partial

    from spat_nb import Hypersphere, Prototypes

    x = torch.rand(20, 1, 8, 8)
    for head in (Hypersphere, *[partial(Prototypes, rule=r) for r in ("dot", "l2", "cosine")]):
        model = SmallCNN(head=head).eval()
        W, b = model.head.linear_twin()
        assert torch.equal(F.linear(model.features(x), W, b).argmax(1), model(x).argmax(1))
    with pytest.raises(TypeError, match="'linf' has no linear twin"):
        SmallCNN(head=partial(Prototypes, rule="linf")).head.linear_twin()


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    "model,ball,more,says",
    [
        (
            nn.Sequential(nn.MaxPool2d(2)),
            Linf(0.1),
            {},
            "no bound is written for the layer MaxPool",
        ),
        (Branching(), Linf(0.1), {}, "cannot be read"),
        (lambda x: x, Linf(0.1), {}, "model is a function; a bound reads the layers"),
        (linear(), 0.1, {}, "ball is 0.1"),
        (linear(), Linf(0.1), {"by": "magic"}, "by is 'magic'; a bound is found by lipschitz"),
        (linear(), Linf(0.1), {"dtype": torch.float16}, "dtype is torch.float16"),
        (linear(), L1(0.1), {"by": "lipschitz"}, "a Lipschitz bound is written for Linf and L2"),
    ],
)
def test_bad_input_gets_one_sentence(model, ball, more, says):
    with pytest.raises((TypeError, ValueError), match=says):
        certify(model, torch.rand(1, 1, 2, 2), torch.tensor([0]), ball, **more)


class Calls(nn.Module):
    "A function of torch between two layers"

    def __init__(self, f):
        super().__init__()
        self.first, self.f, self.last = nn.Linear(4, 5), f, nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.f(self.first(x.flatten(1))))


@pytest.mark.parametrize(
    "f, option",
    [
        (lambda v: F.gelu(v, approximate="tanh"), "approximate"),
        (lambda v: F.softplus(v, 2), "2"),
        (lambda v: F.softplus(v, threshold=1), "threshold"),
        (lambda v: torch.add(v, v, alpha=3), "alpha"),
        (lambda v: torch.sub(v, v.sigmoid(), alpha=3), "alpha"),
    ],
)
def test_an_option_that_is_not_read_is_refused(f, option):
    "A bound of another function would prove nothing"
    with pytest.raises(TypeError, match=f"with the option {option}"):
        program_of(Calls(f).eval())


@pytest.mark.parametrize("f", [lambda v: F.relu(v, True), lambda v: F.silu(v, inplace=True)])
def test_in_place_is_the_same_function(f):
    assert len(program_of(Calls(f).eval()).steps) == 5


@pytest.mark.parametrize(
    "layer",
    [
        nn.LeakyReLU(-0.5),
        nn.LeakyReLU(2.0),
        nn.AvgPool2d(2, divisor_override=1),
        nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
    ],
)
def test_layers_whose_numbers_no_bound_knows(layer):
    with pytest.raises(TypeError, match="no bound is written for"):
        program_of(nn.Sequential(nn.Conv2d(1, 2, 1), layer, nn.Flatten(), nn.Linear(2, 2)).eval())


def test_the_radius_is_not_rounded_to_single_precision():
    "0.7 is less as float32; the closed form is met to the last digits of a double"
    model, x, y = linear(), torch.full((1, 1, 2, 2), 0.5, dtype=F64), torch.tensor([0])
    W, b = model[1].weight, model[1].bias
    rows = W[0] - W[1:]
    wide = L2(0.7, lo=-9, hi=9)
    want = rows @ x.flatten() + b[0] - b[1:] - 0.7 * rows.norm(dim=1)
    got = certified_margins(model, x, y, wide)[0]
    torch.testing.assert_close(got, want.detach(), rtol=0, atol=1e-13)


def test_a_network_in_another_order_of_numbers_is_the_same_network():
    "Studies judge networks channels-last; half precision would be another function"
    x, y = digits(6)
    net = zoo.load("digits/pgd_at/w16", "cpu")
    plain = certify(net, x, y, Linf(0.06), "crown-ibp")
    assert torch.equal(certify(Fast(net), x, y, Linf(0.06), "crown-ibp"), plain)
    with pytest.raises(TypeError, match="cannot be read"):
        certify(Fast(net, torch.bfloat16), x, y, Linf(0.06), "crown-ibp")
