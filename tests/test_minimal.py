"""Smallest-change attacks: closed-form optima on linear models, foolbox and torchattacks beside
ours, invariants, and models without a slope
"""

import math
import warnings
from functools import cache, partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.app import zoo
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.flat import ranked, reach, rival
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, missed
from spat_nb.attacks.minimal import cw, deepfool, fab
from spat_nb.attacks.nearest import norms, robust_curve, within
from spat_nb.attacks.search import Nearest, counts, fools, unit_of
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.networks import SmallCNN

ATTACKS = [
    (deepfool(L2), L2),
    (deepfool(Linf), Linf),
    (cw(), L2),
    (fab(L2, steps=20), L2),
    (fab(Linf, steps=20), Linf),
    (fab(Linf, steps=20, targets=9), Linf),
]
SHORT = [
    (deepfool(L2, steps=5), L2),
    (deepfool(Linf, steps=5, halvings=0), Linf),
    (cw(rounds=3, steps=10, c=0.1, halvings=2), L2),
    (fab(L2, steps=5), L2),
    (fab(Linf, steps=5, halvings=0), Linf),
    (fab(L2, steps=4, targets=2, restarts=2), L2),
]


def name(a):
    return f"{type(a[0]).__name__}-{a[1].__name__}{'-t' if getattr(a[0], 'targets', None) else ''}"


def shortest(x, w, r, ball):
    """The least norm of d with w.d = r > 0 and x+d in [0,1], by halving an interval: slow, and of
    another make than `reach`
    """
    room, s = torch.where(w > 0, 1 - x, x), w.abs() / w.norm() if ball is L2 else torch.ones_like(w)
    lo, hi = torch.zeros(len(x), 1, dtype=x.dtype), torch.full((len(x), 1), 1e4, dtype=x.dtype)
    for _ in range(100):
        t = (lo + hi) / 2
        low = (torch.minimum(t * s, room) * w.abs()).sum(1, keepdim=True) < r[:, None]
        lo, hi = torch.where(low, t, lo), torch.where(low, hi, t)
    return ball(1.0).norm(torch.minimum(hi * s, room))


def images(b, n, edges, seed=0):
    """(b,1,1,n) in float64; a share `edges` of the pixels is black or white, the others are far
    from both
    """
    g = torch.Generator().manual_seed(seed)
    x, edge = (
        0.25 + 0.5 * torch.rand(b, n, generator=g, dtype=torch.float64),
        torch.rand(b, n, generator=g) < edges,
    )
    return torch.where(edge, x.round(), x).view(b, 1, 1, n)


def unequal(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=g, dtype=torch.float64) * (1 + torch.arange(n) % 7)


@pytest.mark.parametrize("attack,ball", ATTACKS, ids=map(name, ATTACKS))
@pytest.mark.parametrize(
    "edges,far", ((0.0, 0.1), (0.5, 0.1), (0.5, 0.6)), ids=("free", "box", "deep in the box")
)
@pytest.mark.parametrize("b,n", ((1, 12), (3, 3), (8, 192)))
def test_linear_models_have_a_known_optimum(attack, ball, edges, far, b, n):
    "`far`: which share of what the box allows is needed"
    w, x = unequal(n), images(b, n, edges)
    most = (torch.where(w > 0, 1 - x[:, 0, 0], x[:, 0, 0]) * w.abs()).sum(1)
    # each image has its own distance
    r = far * most * torch.linspace(0.8, 1.2, b)

    def f(x_):
        return torch.stack(
            [
                torch.zeros(len(x_)).to(x),
                x_.flatten(1) @ w - x.flatten(1)[: len(x_)] @ w - r[: len(x_)],
            ],
            1,
        )

    y = torch.zeros(b, dtype=torch.long)
    best = shortest(x[:, 0, 0], w, r, ball)
    # no pixel stops at the box
    if edges == 0:
        torch.testing.assert_close(best, r / (w.norm() if ball is L2 else w.abs().sum()))
    found = norms(f, x, y, attack(f, x, y), ball)
    assert (found >= best * (1 - 1e-9)).all() and (found <= 1.05 * best).all(), (
        found / best
    ).tolist()


@pytest.mark.parametrize("attack,ball", ATTACKS, ids=map(name, ATTACKS))
def test_with_many_classes_the_nearest_boundary_counts(attack, ball):
    W = torch.stack([unequal(20, s) for s in range(5)])
    x = images(3, 20, 0.3)

    def f(x_):
        return x_.flatten(1) @ W.T

    y = f(x).argmax(1)
    d = torch.stack(
        [
            torch.stack(
                [
                    (
                        shortest(
                            x[i : i + 1, 0, 0],
                            W[k] - W[y[i]],
                            (f(x)[i, y[i]] - f(x)[i, k])[None],
                            ball,
                        )[0]
                        if k != y[i]
                        else torch.tensor(math.inf, dtype=x.dtype)
                    )
                    for k in range(5)
                ]
            )
            for i in range(3)
        ]
    )
    found = norms(f, x, y, attack(f, x, y), ball)
    assert (found <= 1.05 * d.amin(1)).all(), (found / d.amin(1)).tolist()


@settings(max_examples=60, deadline=None)
@given(
    b=st.integers(1, 5),
    n=st.integers(1, 40),
    ball=st.sampled_from((Linf, L2)),
    far=st.floats(0, 1.5),
    scale=st.sampled_from((1e-30, 1.0, 1e20)),
    dtype=st.sampled_from((torch.float32, torch.float64)),
    seed=st.integers(0, 99),
)
def test_reach_is_the_shortest_displacement(b, n, ball, far, scale, dtype, seed):
    x, w = images(b, n, 0.4, seed)[:, 0, 0], unequal(n, seed)
    most = (torch.where(w > 0, 1 - x, x) * w.abs()).sum(1)
    d = reach(
        x.to(dtype), (w * scale).to(dtype).expand(b, n), (far * most * scale).to(dtype), ball(1.0)
    ).double()
    tol = 1e-4 if dtype == torch.float32 else 1e-9
    assert (x + d).min() >= -tol and (x + d).max() <= 1 + tol
    torch.testing.assert_close((d * w).sum(1), min(far, 1) * most, rtol=tol, atol=tol)
    if far < 0.999:
        assert (ball(1.0).norm(d) <= shortest(x, w, far * most, ball) * (1 + tol) + tol).all()
    back = reach(
        x.to(dtype), -(w * scale).to(dtype).expand(b, n), -(far * most * scale).to(dtype), ball(1.0)
    ).double()
    # to fall along -w is to rise along w
    torch.testing.assert_close(back, d, rtol=0, atol=0)


def test_reach_without_a_slope_stays():
    x = torch.rand(3, 1, 2, 2)
    g = torch.stack(
        [torch.zeros(1, 2, 2), torch.full((1, 2, 2), math.nan), torch.full((1, 2, 2), math.inf)]
    )
    for ball in (Linf(1.0), L2(1.0)):
        assert torch.equal(reach(x, g, torch.ones(3), ball), torch.zeros_like(x))


@cache
def digits():
    return get_data("digits", device="cpu")


@cache
def trained(seed, epochs=5):
    torch.manual_seed(seed)
    net = SmallCNN(classes=10, channels=1)
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for epoch in range(epochs):
        for x, y in digits().train.epoch(epoch):
            opt.zero_grad()
            ce(net(x), y).mean().backward()
            opt.step()
    return net.eval()


def test_medians_beside_foolbox():
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    net, (x, y) = trained(0), digits().test.tensors()
    x, y = x[:100], y[:100]
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    budget = dict(rounds=5, steps=40, lr=0.05)
    for ours, theirs, ball in (
        (deepfool(L2), foolbox.attacks.L2DeepFoolAttack(steps=50), L2),
        (deepfool(Linf), foolbox.attacks.LinfDeepFoolAttack(steps=50), Linf),
        (cw(**budget), foolbox.attacks.L2CarliniWagnerAttack(5, 40, 0.05), L2),
        (
            cw(**budget, near=1e-6, warm=False, halvings=0),
            foolbox.attacks.L2CarliniWagnerAttack(5, 40, 0.05),
            L2,
        ),
    ):
        a, b = (
            norms(net, x, y, v, ball).median().item()
            for v in (ours(net, x, y), theirs(model, x, y, epsilons=None)[1])
        )
        print(f"{type(ours).__name__} {ball.__name__}: {a:.4f}, foolbox {b:.4f}, ratio {a / b:.4f}")
        assert a <= 1.02 * b
    # the usual C&W, step by step, is foolbox's
    assert abs(a / b - 1) < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_fab_beside_torchattacks(seed):
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    net, (x, y) = trained(seed), digits().test.tensors()
    x, y = x[:150], y[:150]

    def right(x_adv):
        return (~missed(net(x_adv), y)).double().mean().item()

    for ball, eps, targets in ((Linf, 0.1, None), (L2, 0.5, None), (Linf, 0.1, 9))[
        : 3 if seed == 0 else 2
    ]:
        theirs = right(
            torchattacks.FAB(
                net,
                norm=ball.__name__,
                eps=eps,
                steps=12,
                n_classes=10,
                multi_targeted=targets is not None,
            )(x, y)
        )
        plain, full = (
            right(within(fab(ball, steps=12, targets=targets, halvings=h), ball(eps))(net, x, y))
            for h in (0, 8)
        )
        print(
            f"FAB {ball.__name__} eps {eps} seed {seed}: {plain:.3f}, with halvings {full:.3f},"
            f" torchattacks {theirs:.3f}"
        )
        assert abs(plain - theirs) <= 0.01 and full <= plain and theirs - 0.03 <= full


def small(shape, dtype=torch.float32, c=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    m = nn.Sequential(
        nn.Flatten(), nn.Linear(shape[1] * shape[2] * shape[3], 7), nn.Tanh(), nn.Linear(7, c)
    )
    for p in m.parameters():
        p.data = torch.randn(p.shape, generator=g)
    return m.to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(
        st.integers(1, 5), st.sampled_from((1, 3)), st.integers(1, 6), st.integers(1, 6)
    ),
    which=st.sampled_from(SHORT),
    eps=st.sampled_from((0.0, 0.05, 0.5)),
    dtype=st.sampled_from((torch.float16, torch.bfloat16, torch.float32, torch.float64)),
    c=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_every_output_is_in_the_box_and_does_what_it_claims(shape, which, eps, dtype, c, seed):
    attack, ball = which
    g = torch.Generator().manual_seed(seed)
    # exact blacks and whites occur
    x, y = (
        torch.rand(shape, generator=g).round(decimals=1).to(dtype),
        torch.randint(0, c, shape[:1], generator=g),
    )
    net, full = (
        small(shape, dtype, c, seed),
        torch.float64 if dtype == torch.float64 else torch.float32,
    )
    x_adv = attack(net, x, y)
    x = x.to(full)
    assert x_adv.shape == x.shape and x_adv.dtype == full and x_adv.min() >= 0 and x_adv.max() <= 1
    moved, wrong = (x_adv != x).flatten(1).any(1), missed(net(x.to(dtype)), y)
    # wrong already: as it was
    assert not moved[wrong].any()
    # what moved fools the model, judged again
    if full == dtype:
        assert missed(net(x_adv), y)[moved].all()
    if full == dtype:
        assert (norms(net, x, y, x_adv, ball).isinf() == (~moved & ~wrong)).all()
    b = ball(eps)
    inside = within(attack, b)(net, x.to(dtype), y)
    assert (b.norm(inside - x) <= b.eps).all()


@pytest.mark.parametrize("attack,ball", SHORT, ids=map(name, SHORT))
def test_model_and_random_stream_are_left_alone(attack, ball):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    ).train()
    net[3].eval()
    x, y = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    before, copy = net.state_dict() | {}, x.clone()
    stats, modes = {k: v.clone() for k, v in before.items()}, [m.training for m in net.modules()]
    rng = torch.get_rng_state()
    a = attack(net, x, y)
    assert (
        torch.equal(x, copy)
        and not a.requires_grad
        and all(p.grad is None for p in net.parameters())
    )
    assert (
        all(torch.equal(v, stats[k]) for k, v in net.state_dict().items())
        and [m.training for m in net.modules()] == modes
    )
    assert torch.equal(torch.get_rng_state(), rng) or getattr(attack, "restarts", 1) > 1
    soft = nn.functional.one_hot(y, 3).double()
    # certain probabilities are labels
    if getattr(attack, "restarts", 1) == 1:
        assert torch.equal(attack(net, x, soft), a)


def test_random_starts_belong_to_the_generator():
    x = torch.rand(4, 1, 5, 5)
    net = small(x.shape)
    y, rng = net(x).argmax(1), torch.get_rng_state()
    for ball in (Linf, L2):

        def run(seed):
            return fab(
                ball, steps=2, restarts=3, halvings=0, generator=torch.Generator().manual_seed(seed)
            )(net, x, y)

        assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
        # the first run is the run without restarts
        assert (
            norms(net, x, y, run(1), ball)
            <= norms(net, x, y, fab(ball, steps=2, halvings=0)(net, x, y), ball)
        ).all()
    assert torch.equal(rng, torch.get_rng_state())


class Flat(nn.Module):
    "Answers like `model`, with a slope of exactly 0 everywhere"

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(((x * 8).round() / 8).detach() + 0 * x)


# random starts may cross by luck
@pytest.mark.parametrize("attack,ball", SHORT[:5], ids=map(name, SHORT[:5]))
def test_no_slope_is_reported_not_called_robust(attack, ball):
    x = torch.rand(4, 1, 5, 5)
    net = small(x.shape)
    # the first is wrong already
    y = net(x).argmax(1)
    y[0] = (y[0] + 1) % 4
    flat = Flat(net)
    y[1:] = flat(x)[1:].argmax(1)
    with pytest.warns(UserWarning, match="found for 3 images, of which 3 have gradient 0"):
        x_adv = attack(flat, x, y)
    assert (
        torch.equal(x_adv, x) and norms(flat, x, y, x_adv, ball).tolist() == [0.0] + [math.inf] * 3
    )
    with pytest.raises(ValueError, match="no gradient flows"):
        attack(lambda v: net((v * 8).round().detach()), x, y)


@pytest.mark.parametrize("attack,ball", SHORT, ids=map(name, SHORT))
def test_a_slope_that_is_no_number_spoils_nothing(attack, ball):
    # sqrt has an infinite slope at 0, and 0 * inf is NaN
    class Root(nn.Module):
        def forward(self, x):
            return torch.stack(
                [1 + 0 * x.sum((1, 2, 3)), (x[:, 0, 0, 0] * 0).sqrt() + x.sum((1, 2, 3))], 1
            )

    x, y = torch.full((2, 1, 2, 2), 0.1), torch.tensor([0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x_adv = attack(Root(), x, y)
    assert x_adv.isfinite().all() and x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("scale", (50.0, 0.05, 1e-6))
def test_the_scale_of_the_logits_changes_nothing(scale):
    x = torch.rand(4, 1, 5, 5, dtype=torch.float64)
    net = small(x.shape, torch.float64)
    y = net(x).argmax(1)
    for attack, ball in ((deepfool(L2), L2), (fab(Linf, steps=20), Linf)):
        a, b = (norms(m, x, y, attack(m, x, y), ball) for m in (net, lambda v: scale * net(v)))
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_within_is_an_attack_for_evaluate_and_tells_the_curve():
    net, (x, y) = trained(0), digits().test.tensors()
    x, y = x[:64], y[:64]
    attack = fab(Linf, steps=10, targets=2)
    d = norms(net, x, y, attack(net, x, y), Linf)
    eps = [0.0, 0.05, 0.1, 0.2]
    curve = robust_curve(d, eps)
    assert curve[0] == (~missed(net(x), y)).double().mean() and (curve.diff() <= 0).all()
    rec = evaluate(
        net,
        (x, y),
        precision="float32",
        **{f"eps{i}": within(attack, Linf(e)) for i, e in enumerate(eps)},
    )
    # `enough` stops early, the verdict stays
    assert [rec.accuracy(f"eps{i}") for i in range(4)] == pytest.approx(curve.tolist(), abs=1 / 64)


def test_nearest_keeps_the_nearest():
    x = torch.zeros(2, 3)
    best = Nearest(x, L2(1.0))
    best.see(x + 0.3, torch.tensor([True, False]))
    best.see(x + 0.2, torch.tensor([False, False]))
    best.see(x + math.nan, torch.tensor([True, True]))
    assert torch.equal(best.x, torch.tensor([[0.3] * 3, [0.0] * 3])) and best.d[1] == math.inf
    best.see(x + 0.1, torch.tensor([True, True]))
    best.see(x + 0.2, torch.tensor([True, True]))
    assert torch.equal(best.x, torch.full((2, 3), 0.1))


@pytest.mark.parametrize(
    "do,kind,says",
    [
        (lambda x, y: deepfool(L1), TypeError, "L1.*class Linf or L2"),
        (lambda x, y: fab(Linf(0.1)), TypeError, r"Linf\(eps=0\.1.*within\(attack"),
        (lambda x, y: deepfool(steps=-1), ValueError, "steps is -1.*>= 0"),
        (lambda x, y: cw(rounds=1.5), ValueError, r"rounds is 1\.5"),
        (lambda x, y: fab(restarts=-2), ValueError, "restarts is -2"),
        (lambda x, y: fab()(small(x.shape), x * 255, y), ValueError, "divide by 255"),
        (lambda x, y: cw()(small(x.shape), x, y + 9), ValueError, "labels run from 0 to 3"),
        (
            lambda x, y: deepfool()(nn.Sequential(*small(x.shape), nn.Softmax(1)), x, y),
            ValueError,
            "probabilities.*last softmax",
        ),
        (lambda x, y: within(deepfool(L2), Linf(0.1)), TypeError, "L2.*Linf"),
        (lambda x, y: within(fab(Linf), 0.1), TypeError, r"0\.1.*Linf\(8/255\)"),
    ],
)
def test_bad_input(do, kind, says):
    x, y = torch.rand(4, 1, 5, 5), torch.tensor([0, 1, 2, 3])
    with pytest.raises(kind, match=says):
        do(x, y)


# ---- by hand, in the plane
W2, MISSING = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0])
near = partial(torch.testing.assert_close, rtol=0, atol=1e-5)


def test_a_flat_boundary_by_hand():
    grey, crowded = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.9]])
    by_hand = {L2(1.0): W2 / 25, Linf(1.0): W2.sign() / 7}
    near(by_hand[L2(1.0)].norm(), torch.tensor(1 / 5))
    near(by_hand[Linf(1.0)].abs().max(), torch.tensor(1 / 7))
    for ball, d in by_hand.items():
        near((W2 * d).sum(), torch.tensor(1.0))
        near(reach(grey, W2, MISSING, ball), d)
        # the second pixel stops at the box, the first one gives the rest
        near(reach(crowded, W2, MISSING, ball), torch.tensor([[0.2, 0.1]]))
    ball = L2(1.0)
    # too much asked: the best corner
    near(reach(crowded, W2, torch.tensor([9.0]), ball), 1 - crowded)
    # to fall along -w is to rise along w
    near(reach(crowded, -W2, -MISSING, ball), reach(crowded, W2, MISSING, ball))
    for g in (0 * W2, W2 * math.nan):
        assert reach(crowded, g, MISSING, ball).abs().sum() == 0
    tiny = reach(crowded, 1e-30 * W2, 1e-30 * MISSING, ball)
    near(tiny, reach(crowded, W2, MISSING, ball))


@pytest.mark.parametrize("ball", [L2(1.0), Linf(1.0)])
def test_no_random_step_that_gains_as_much_is_shorter(ball):
    g = torch.Generator().manual_seed(0)
    x, w = torch.rand(50, 30, generator=g).double(), torch.randn(50, 30, generator=g).double()
    # many blacks and whites
    x = torch.where(torch.rand(50, 30, generator=g) < 0.4, x.round(), x)
    room = torch.where(w > 0, 1 - x, x)
    r = 0.35 * (w.abs() * room).sum(1)
    d = reach(x, w, r, ball)
    torch.testing.assert_close(ball.norm(d), shortest(x, w, r, type(ball)), rtol=0, atol=1e-9)
    assert (x + d).min() >= 0 and (x + d).max() <= 1
    u = torch.rand(1000, 30, generator=g) * room[:1]
    u = u * r[0] / (u * w[:1].abs()).sum(1, keepdim=True)
    u = u[(u <= room[:1]).all(1)]
    assert len(u) > 500 and (ball.norm(u) >= ball.norm(d[:1])).all()


def one_pixel(x):
    "Logits (0, x - .6): class 1 wins above .6"
    return torch.cat([0 * x, x - 0.6], 1)


def test_the_nearest_point_is_kept_and_approached():
    t = torch.tensor
    best, y = Nearest(torch.zeros(2, 1), Linf(1.0)), torch.zeros(2, dtype=torch.long)
    best.see(t([[0.9], [0.9]]), t([True, False]))
    best.see(t([[0.8], [0.5]]), t([True, False]))
    best.see(t([[0.95], [math.nan]]), t([True, True]))
    assert best.x.flatten().tolist() == [t(0.8).item(), 0.0]
    assert best.d.tolist() == [t(0.8).item(), math.inf]
    best.home(one_pixel, y, 12)
    # 12 halvings; what was not found stays not found
    assert 0.6 < best.x[0] < 0.6 + 0.8 / 2**11 and best.d[1] == math.inf


def test_a_lead_within_rounding_fools_nobody():
    t = torch.tensor
    z = t([[1.0, 1.0], [1.0, 1 + 1e-6], [-5.0, 5.0]])
    assert fools(z, t([0, 0, 0])).tolist() == [False, True, True]
    # 1e-6 of a spread of 10 is rounding
    z = t([[1.0, 1 + 1e-6, -9.0], [1.0, 1.1, -9.0]])
    assert fools(z, t([0, 0])).tolist() == [False, True]


def test_distances_tell_wrong_already_from_not_found():
    def line(x):  # class 1 where 3 x1 + 4 x2 > 3
        return torch.cat([torch.zeros(len(x), 1), x.flatten(1) @ W2.T - 3.0], 1)

    t = torch.tensor
    x, y = t([[0.5, 0.3], [0.9, 0.9], [0.5, 0.3], [0.5, 0.3]]), t([0, 0, 0, 1])
    # moved; wrong already; not moved; wrong already
    x_adv = t([[0.5, 0.5], [0.9, 0.9], [0.5, 0.3], [0.5, 0.3]])
    torch.testing.assert_close(norms(line, x, y, x_adv, L2), t([0.2, 0.0, math.inf, 0.0]))
    with pytest.raises(TypeError, match="give the class Linf or L2"):
        unit_of(Linf(0.1))
    with pytest.raises(ValueError, match="steps is -1"):
        counts(steps=-1)


def test_the_rival_whose_boundary_is_nearest():
    w = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 12.0]])
    b = torch.tensor([0.0, -3.8, -9.5])

    def three(x):
        return x.flatten(1) @ w.T + b

    x, y, ks = torch.tensor([[0.5, 0.5]]), torch.tensor([0]), torch.tensor([[1, 2]])
    # .3/5 and .5/180^.5: the second logit is the higher one, the third class is nearer
    v, g, z = rival(three, x, y, ks, L2(1.0))
    torch.testing.assert_close(v, torch.tensor([-0.5]), rtol=0, atol=1e-3)
    near(g, w[2:])
    near(z, three(x))
    alone = rival(three, x, y, ks[:, :1], L2(1.0))[0]
    torch.testing.assert_close(alone, torch.tensor([-0.3]), rtol=0, atol=1e-3)
    assert not (g.requires_grad or v.requires_grad)
    with pytest.raises(ValueError, match="no gradient flows"):
        rival(lambda x: three(x.round().detach()), x, y, ks, L2(1.0))
    assert ranked(three(x), y, 9).tolist() == [[1, 2]]


def curved(x):
    return x[:, 0] + 1.5 * x[:, 1] ** 2 - 1.1  # positive: fooled


def test_on_a_curved_boundary_deepfool_stops_early():
    x0, y0 = torch.tensor([[0.2, 0.3]]), torch.tensor([0])
    at = x0
    for _ in range(3):
        v, g = value_and_grad(lambda x: (curved(x),), at)
        at = at + reach(at, g, -v, L2(1.0))
    # three steps, and it is there
    assert abs(curved(at)) < 1e-3

    def model(x):
        return torch.stack([0 * x[:, 0], curved(x)], 1)

    def found(attack):
        return (attack(model, x0, y0) - x0).norm().item()

    u = torch.linspace(0, 1, 100_001)
    rim = torch.stack([1.1 - 1.5 * u**2, u], 1)
    rim = rim[(rim[:, 0] >= 0) & (rim[:, 0] <= 1)]
    least = (rim - x0).norm(dim=1).min()
    by_deepfool, by_fab = found(deepfool(L2, halvings=0)), found(fab(L2, steps=30, halvings=0))
    by_cw = found(cw(steps=60))
    assert min(by_deepfool, by_fab, by_cw) >= least - 1e-4
    assert by_fab < 1.02 * least and by_cw < 1.01 * least and by_deepfool > by_fab


def test_the_change_of_variables():
    w = torch.tensor([-3.0, 0.0, 1.5], requires_grad=True)
    x = (w.tanh() + 1) / 2
    near(torch.autograd.grad(x.sum(), w)[0], (2 * x * (1 - x)).detach())
    # nearer to the edge than float32 can tell, a pixel would never move again
    assert torch.atanh(torch.tensor(1 - 1e-8)).isinf()
    for kw, says in ((dict(near=1e-9), "near is 1e-09"), (dict(rounds=-1), "rounds is -1")):
        with pytest.raises(ValueError, match=says):
            cw(**kw)


# ---- a linear model of many pixels
W12 = (torch.randn(12, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 13)).double()


def linear_case(b, seed=0, share=0.4):
    "A linear model, images with many edge pixels, and the rise that is missing"
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(b, 1, 3, 4, generator=g).double()
    x = torch.where(torch.rand(x.shape, generator=g) < 0.5, x.round(), x)
    flat = x.flatten(1)
    r = share * (torch.where(W12 > 0, 1 - flat, flat) * W12.abs()).sum(1).min()
    # one model for the batch: the images are unequally far
    bias = (flat @ W12).max() + r

    def f(x):
        return torch.stack([0 * x.flatten(1)[:, 0], x.flatten(1) @ W12 - bias], 1)

    return f, x, torch.zeros(b, dtype=torch.long), bias - flat @ W12


MORE = [
    (deepfool(L2, halvings=0), L2),
    (deepfool(Linf, halvings=0), Linf),
    (cw(c=0.01, rounds=7), L2),
    (fab(L2, steps=20, targets=9), L2),
    *ATTACKS,
]


@pytest.mark.parametrize("attack, ball", MORE)
@pytest.mark.parametrize("b", [1, 3, 8])
def test_one_model_and_unequal_distances(attack, ball, b):
    f, x, y, r = linear_case(b)
    flat = x.flatten(1)
    # the others cannot be fooled in the box
    room = (torch.where(W12 > 0, 1 - flat, flat) * W12.abs()).sum(1) > r
    best = shortest(flat, W12, r, ball)
    ratio = (norms(f, x, y, attack(f, x, y), ball) / best)[room]
    assert len(ratio) and (ratio >= 1 - 1e-9).all() and (ratio <= 1.05).all()


def test_no_image_of_carlini_wagner_hears_of_another():
    f, x, y, _ = linear_case(3)
    attack = cw(rounds=4, steps=30)
    together = attack(f, x, y)
    alone = torch.cat([attack(f, x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert together.min() >= 0 and together.max() <= 1


def test_restarts_of_fab_never_lose():
    f, x, y, _ = linear_case(8)

    def seeded():
        return torch.Generator().manual_seed(0)

    many = fab(L2, steps=2, restarts=3, halvings=0, generator=seeded())(f, x, y)
    one = fab(L2, steps=2, halvings=0)(f, x, y)
    assert (norms(f, x, y, many, L2) <= norms(f, x, y, one, L2)).all()
    assert torch.equal(many, fab(L2, steps=2, restarts=3, halvings=0, generator=seeded())(f, x, y))
    grey, nothing = torch.full((99, 1, 2, 2), 0.5), torch.full((99,), math.inf)
    start = fab(Linf, radius=0.1, generator=seeded())._random(grey, Linf(1.0), nothing)
    # half of `radius` away
    near((start - 0.5).abs().flatten(1).amax(1), torch.full((99,), 0.05))


def test_the_curve_and_the_ball_give_the_same_verdict():
    d = torch.tensor([0.0, 0.1, 0.2, 0.2, math.inf])
    # at its own distance an image is fooled
    near(
        robust_curve(d, [0.0, 0.1, 0.15, 0.2, 9.0]),
        torch.tensor([0.8, 0.6, 0.6, 0.2, 0.2]).double(),
    )
    f, x, y, _ = linear_case(8)
    found = norms(f, x, y, fab(Linf)(f, x, y), Linf)
    for eps in (0.0, found[found.isfinite()].median().item(), 1.0):
        inside = within(fab(Linf), Linf(eps))(f, x, y)
        assert Linf(eps).inside(inside, x, tol=0).all()
        assert (f(inside).argmax(1) == 0).tolist() == (found > eps).tolist()
    assert torch.equal(within(fab(Linf), Linf(0.0))(f, x, y), x)
    for call, says in (
        (lambda: within(fab(L2), Linf(0.1)), "use one norm for both"),
        (lambda: within(fab(), 0.1), r"Linf\(8/255\)"),
        (lambda: deepfool(Linf(0.1)), r"within\(attack, Linf\(8/255\)\)"),
        (lambda: deepfool(steps=-1), "steps is -1"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            call()


# ---- on a shipped network
@pytest.fixture(scope="module")
def shipped():
    net = zoo.load("digits/standard/w16", "cpu").requires_grad_(False)
    return net, *(v[:120] for v in get_data("digits", device="cpu").test.tensors())


def test_medians_on_digits(shipped):
    net, x, y = shipped

    def median(attack):
        return norms(net, x, y, attack(net, x, y), L2).median()

    published, ours = median(deepfool(L2, halvings=0)), median(deepfool(L2))
    assert median(fab(L2, steps=20)) <= ours <= published
    assert median(cw(rounds=6, steps=40)) <= ours
    # black pixels never leave the dark where they start 1e-6 from it
    usual = median(cw(rounds=6, steps=40, near=1e-6, warm=False, halvings=0))
    assert usual > 1.05 * median(cw(rounds=6, steps=40, warm=False, halvings=0))
    d = norms(net, x, y, deepfool(L2)(net, x, y), L2)
    assert robust_curve(d, [d.sort().values[len(d) // 2 - 1]])[0] <= 0.5


def test_one_run_of_fab_beside_four_of_pgd(shipped):
    net, x, y = shipped
    d = norms(net, x, y, fab(Linf, steps=20)(net, x, y), Linf)
    for eps in (0.05, 0.1, 0.15, 0.2):
        x_adv = pgd(Linf(eps), 40, generator=torch.Generator().manual_seed(0))(net, x, y)
        assert robust_curve(d, [eps])[0] <= (net(x_adv).argmax(1) == y).double().mean() + 0.01
    assert robust_curve(d, [0.0])[0] == (net(x).argmax(1) == y).double().mean()


def test_eight_bits_undo_the_nearest_points(shipped):
    net, x, y = shipped
    x_adv = fab(L2, steps=20)(net, x, y)
    moved = (x_adv != x).flatten(1).any(1)
    rounded = (x_adv * 255).round() / 255
    still = [(net(v).argmax(1) != y)[moved].double().mean() for v in (x_adv, rounded)]
    assert still[0] == 1 and still[1] < 1


def test_a_masked_model_is_reported_and_falls_to_another_gradient(shipped):
    net, x, y = shipped[0], shipped[1][:50], shipped[2][:50]

    def masked(x):
        return net(((32 * x).round() / 32).detach() + 0 * x)

    for attack, norm in ((deepfool(L2), L2), (cw(rounds=2, steps=5), L2), (fab(steps=5), Linf)):
        with pytest.warns(UserWarning, match="gradient 0"):
            out = norms(masked, x, y, attack(masked, x, y), norm)
        assert (out.isinf() | (out == 0)).all()

    def right(model, x_adv):
        return int((model(x_adv).argmax(1) == y).sum())

    borrowed = pgd(Linf(0.15), 40, generator=torch.Generator().manual_seed(0))(net, x, y)
    with pytest.warns(UserWarning, match="gradient 0"):
        gave_up = right(masked, within(fab(Linf, steps=5), Linf(0.15))(masked, x, y))
    assert right(masked, borrowed) <= right(net, borrowed) + 5
    assert right(masked, borrowed) < gave_up - 20
