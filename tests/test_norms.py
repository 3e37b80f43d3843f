"""DDN, FMN and ALMA: the closed forms of linear models, soundness, and parity with foolbox"""

import math
import warnings

import pytest
import torch

from spat_nb import L2, Linf, alma, ddn, fab, fmn, get_data, margin, norms, spec, within, zoo
from spat_nb.attacks.flat import reach
from spat_nb.attacks.minimal_steps import penalty
from spat_nb.core.rng import generator
from spat_nb.measure.battery import chosen_attacks
from spat_nb.models.networks import SmallCNN

ATTACKS = [(ddn(), L2), (fmn(L2), L2), (fmn(Linf), Linf), (alma(), L2)]
NAMES = ["ddn", "fmn-L2", "fmn-Linf", "alma"]


def digits(n=60):
    return tuple(t[:n] for t in get_data("digits", device="cpu").test.tensors())


def problem(edges, far, n=48, b=6):
    "A linear model, images of which a share `edges` of the pixels lies on the box, and the optimum"
    g = generator(0)
    w = torch.randn(n, generator=g, dtype=torch.float64) * (1 + torch.arange(n) % 4)
    x = 0.25 + 0.5 * torch.rand(b, n, generator=g, dtype=torch.float64)
    x = torch.where(torch.rand(b, n, generator=g) < edges, x.round(), x).view(b, 1, 1, n)
    most = (torch.where(w > 0, 1 - x[:, 0, 0], x[:, 0, 0]) * w.abs()).sum(1)
    r = far * most * torch.linspace(0.8, 1.2, b, dtype=torch.float64)

    def model(v):
        up = v.flatten(1) @ w - x.flatten(1)[: len(v)] @ w - r[: len(v)]
        return torch.stack([torch.zeros_like(up), up], 1)

    def optimum(norm):
        d = reach(x.flatten(1), w.expand(b, n), r, norm(1.0))
        return norm(1.0).norm(d)

    return model, x, torch.zeros(b, dtype=torch.long), optimum


@pytest.mark.parametrize("attack,norm", ATTACKS, ids=NAMES)
@pytest.mark.parametrize("edges,far", [(0.0, 0.05), (0.5, 0.1)], ids=("free", "box"))
def test_linear_models_have_a_known_optimum(attack, norm, edges, far):
    if isinstance(attack, alma):
        attack = alma(steps=500)
    model, x, y, optimum = problem(edges, far)
    found, best = norms(model, x, y, attack(model, x, y), norm), optimum(norm)
    assert (found >= best * (1 - 1e-9)).all() and (found <= 1.05 * best).all(), found / best


@pytest.mark.parametrize(
    "attack,norm", [(ddn(200, halvings=0), L2), (fmn(L2, halvings=0), L2), (fmn(halvings=0), Linf)]
)
def test_the_radius_comes_near_by_itself(attack, norm):
    model, x, y, optimum = problem(0.0, 0.05)
    found, best = norms(model, x, y, attack(model, x, y), norm), optimum(norm)
    assert (found >= best * (1 - 1e-9)).all() and (found <= 1.06 * best).all(), found / best


@pytest.mark.parametrize("attack,norm", ATTACKS, ids=NAMES)
def test_what_comes_back_fools_and_lies_in_the_box(attack, norm):
    net, (x, y) = zoo.load("digits/pgd_at/w16", "cpu"), digits()
    kept = x.clone()
    x_adv = attack(net, x, y)
    assert torch.equal(x, kept) and x_adv.min() >= 0 and x_adv.max() <= 1
    right = net(x).argmax(1) == y
    moved = (x_adv != x).flatten(1).any(1)
    assert (net(x_adv).argmax(1) != y)[moved].all() and moved[right].all()
    assert not moved[~right].any()
    # about as near as FAB, whose search is dearer
    ours = norms(net, x, y, x_adv, norm)
    fabs = norms(net, x, y, fab(norm, steps=20)(net, x, y), norm)
    assert ours[right].median() <= 1.1 * fabs[right].median()
    assert torch.equal(x_adv, attack(net, x, y))  # nothing is drawn


@pytest.mark.parametrize("attack,norm", ATTACKS, ids=NAMES)
def test_within_a_ball_and_as_a_spec(attack, norm):
    net, (x, y) = zoo.load("digits/standard/w16", "cpu"), digits(20)
    ball = norm(0.5 if norm is L2 else 0.1)
    x_adv = within(attack, ball)(net, x, y)
    assert ball.inside(x_adv, x).all()
    assert spec.make(spec.text(attack)) == attack
    other = Linf(0.1) if norm is L2 else L2(0.5)
    with pytest.raises(TypeError, match="one norm for both"):
        within(attack, other)


def test_more_steps_come_nearer():
    net, (x, y) = zoo.load("digits/pgd_at/w16", "cpu"), digits(40)
    for few, many in ((ddn(10), ddn(100)), (fmn(L2, 10), fmn(L2, 100)), (alma(30), alma(300))):
        a, b = (norms(net, x, y, v(net, x, y), L2) for v in (few, many))
        assert b.median() < a.median()


@pytest.mark.parametrize("attack,norm", ATTACKS, ids=NAMES)
def test_nothing_found_is_said(attack, norm):
    x, y = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long)

    def flat(v):  # never fooled, and no gradient to follow
        return torch.tensor([[3.0, 0.0]]).expand(len(v), 2) + 0 * v.flatten(1)[:, :2]

    with pytest.warns(UserWarning, match="gradient 0"):
        x_adv = attack(flat, x, y)
    assert torch.equal(x_adv, x) and norms(flat, x, y, x_adv, norm).isinf().all()


def test_a_sure_network_needs_the_margin():
    net, (x, y) = zoo.load("digits/standard/w16", "cpu"), digits(20)

    def sure(v):
        return 100 * net(v)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lost = norms(sure, x, y, ddn(30)(sure, x, y), L2).isinf()
    assert lost.double().mean() > 0.5
    assert not norms(sure, x, y, ddn(30, loss=margin)(sure, x, y), L2).isinf().any()


def test_two_classes_and_three_work():
    for classes in (2, 3):
        torch.manual_seed(0)
        net, x = SmallCNN(classes=classes, channels=1, size=8).eval(), torch.rand(6, 1, 8, 8)
        y = net(x).argmax(1)
        for attack, norm in ATTACKS:
            assert not norms(net, x, y, attack(net, x, y), norm).isinf().any()


def test_the_penalty_is_smooth_and_rises():
    s = torch.linspace(-3, 3, 601, dtype=torch.float64, requires_grad=True)
    for rho, mu in ((1.0, 1.0), (0.3, 5.0)):
        v, by_s = penalty(s, torch.full_like(s, rho), torch.full_like(s, mu))
        (g,) = torch.autograd.grad(v.sum(), s)
        torch.testing.assert_close(g, by_s, rtol=1e-9, atol=1e-9)
        assert (v.diff() > 0).all() and (by_s.diff() >= 0).all()
        assert v[300].abs() < 1e-12 and by_s[300].item() == pytest.approx(mu)


def test_what_is_refused():
    for make, said in (
        (lambda: ddn(steps=-1), "steps is -1"),
        (lambda: ddn(eps=0), "eps is 0"),
        (lambda: ddn(gamma=1.0), "gamma 1"),
        (lambda: fmn(gamma=0), "gamma is 0"),
        (lambda: alma(lr=0), "lr is 0"),
        (lambda: alma(keep=1.0), "keep 1"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
    with pytest.raises(TypeError, match="Linf or L2"):
        fmn(math.inf)


# ---- another implementation
@pytest.mark.parametrize("name", ["ddn", "fmn-L2", "fmn-Linf"])
def test_as_near_as_foolbox(name):
    foolbox = pytest.importorskip("foolbox")
    ours, theirs, norm = {
        "ddn": (ddn(100, halvings=0), foolbox.attacks.DDNAttack(steps=100), L2),
        "fmn-L2": (fmn(L2, 100, halvings=0), foolbox.attacks.L2FMNAttack(steps=100), L2),
        "fmn-Linf": (fmn(Linf, 100, halvings=0), foolbox.attacks.LInfFMNAttack(steps=100), Linf),
    }[name]
    net, (x, y) = zoo.load("digits/pgd_at/w16", "cpu"), digits(100)
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    mine = norms(net, x, y, ours(net, x, y), norm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = norms(net, x, y, theirs(model, x, y, epsilons=None)[0], norm)
    both = mine.isfinite() & other.isfinite() & (mine > 0)
    assert both.sum() > 80
    assert mine[both].median() <= 1.05 * other[both].median()


@pytest.mark.parametrize("name", ["ddn", "fmn", "alma", "fab", "deepfool", "cw"])
def test_a_judgement_asks_for_the_ball(name):
    "What looks for the smallest change counts where that lies in the ball"
    ball = L2(0.5) if name in ("ddn", "alma", "cw") else Linf(0.1)
    ((made, _),) = chosen_attacks(f"{name}(steps=2)", ball).values()
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    x_adv = made(SmallCNN(channels=1, size=8).eval(), x, y)
    assert ball.inside(x_adv, x).all() and made.ball == ball
