"""One step that holds: ZeroGrad, GradAlign and NuAT against their codes by hand, on fixed weights
and starts; what the rows of the study `fast` cost, and what a table tells of a collapse
"""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from spat_nb import Free, Linf, at_x, fgsm, get_data, zoo
from spat_nb.attacks.filling import attack_in, objective_in
from spat_nb.core.rng import generator
from spat_nb.core.settings import settings
from spat_nb.studies import fast
from spat_nb.studies.results import Results
from spat_nb.training.building import build_model
from spat_nb.training.costs import passes
from spat_nb.training.onestep import NuAT, coins, grad_align, zeroed, zerograd

BALL = Linf(0.15)
data = get_data("digits", device="cpu", batch_size=32)
x, y = data.test.subset(32).tensors()


@pytest.fixture
def net():
    return zoo.load("digits/pgd_at/w16", "cpu").eval()


def gradient(net, x, y, graph=False):
    v = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(net(v), y, reduction="sum"), v, create_graph=graph)[
        0
    ]


# ---- ZeroGrad


def zerograd_by_hand(net, x, y, eps, alpha, q, delta):
    "`quantile_fgsm` of rohban-lab/catastrophic_overfitting, from a given start"
    g = gradient(net, x + delta, y)
    least = torch.quantile(g.abs().view(len(g), -1), q, dim=1)
    g[g.abs() < least.view(-1, 1, 1, 1)] = 0
    d = torch.clamp(delta + alpha * g.sign(), -eps, eps)
    return x + torch.max(torch.min(d, 1 - x), -x)


@pytest.mark.parametrize("q", [0.0, 0.35, 0.9, 1.0])
def test_zerograd_is_its_code(net, q):
    delta = BALL.uniform(x, generator(3)) - x
    attack = zerograd(BALL, q, start=lambda x, ball, g=None: x + delta)
    mine = attack(net, x, y)
    assert torch.allclose(mine, zerograd_by_hand(net, x, y, 0.15, 0.3, q, delta), atol=1e-6)


def test_zerograd_moves_all_or_a_share(net):
    one = fgsm(BALL, lr=0.3)(net, x, y)
    assert torch.equal(zerograd(BALL, 0.0, start=at_x)(net, x, y), one)
    grey = torch.full_like(x, 0.5)  # no pixel is cut off by the box
    moved = zerograd(BALL, 0.35, start=at_x)(net, grey, y) != grey
    shares = moved.flatten(1).double().mean(1)
    assert ((shares - 0.65).abs() <= 1 / 64 + 1e-9).all()
    with pytest.raises(ValueError, match="q is 1.5"):
        zeroed(1.5)


# ---- GradAlign


def test_grad_align_is_its_code(net):
    near = BALL.uniform(x, generator(0))
    g, h = gradient(net, x, y, True).flatten(1), gradient(net, near, y, True).flatten(1)
    cos = (g * h).sum(1) / (g.norm(dim=1) * h.norm(dim=1))
    x_adv = (x + 0.15 * gradient(net, x, y).sign()).clamp(0, 1)
    want = F.cross_entropy(net(x_adv), y) + 0.7 * (1 - cos.mean())
    fixed = replace(fgsm(BALL), ball=FromOne(0.15, x=near))
    mine = grad_align(net, x, y, fixed, lam=0.7)
    assert torch.allclose(mine, want, atol=1e-6)
    grads = [torch.autograd.grad(v, list(net.parameters())) for v in (mine, want)]
    for a, b in zip(*grads):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-3)


class FromOne(Linf):
    "A ball whose random point is given"

    def __init__(self, eps, lo=0.0, hi=1.0, x=None):
        super().__init__(eps, lo, hi)
        object.__setattr__(self, "given", x)

    def uniform(self, x, generator=None):
        return self.given


class Linear(torch.nn.Module):
    "Logits that are linear in the pixels: two classes, so all gradients of an image are parallel"

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(64, 2, generator=generator(1)))

    def forward(self, x):
        return x.flatten(1) @ self.w


def test_a_linear_network_is_aligned():
    net, labels = Linear(), y % 2
    torch.manual_seed(0)
    free = grad_align(net, x, labels, fgsm(BALL), lam=0.0)
    torch.manual_seed(0)
    assert torch.allclose(grad_align(net, x, labels, fgsm(BALL), lam=10.0), free, atol=1e-5)


def test_a_gradient_of_zero_has_no_direction():
    net = Linear()
    with torch.no_grad():
        net.w.zero_()
    loss = grad_align(net, x, y % 2, fgsm(BALL), lam=1.0)
    loss.backward()
    assert loss.isfinite() and net.w.grad.isfinite().all()


# ---- NuAT


def test_nuat_is_its_code(net):
    start = coins()(x, BALL, generator(5))
    assert torch.allclose((start - x).abs(), (start - x).abs().clamp(max=0.075 + 1e-6))
    nuat = NuAT(lam=3.0)
    nuat.t, nuat.step = 0.5, 1
    attack = fgsm(BALL, start=lambda x, ball, g=None: start)
    mine = nuat(net, x, y, attack)
    v = start.clone().requires_grad_()
    out = net(x)
    cost = F.cross_entropy(net(v), y) + 1.5 * torch.norm(out.detach() - net(v), "nuc") / len(x)
    step = start + 0.15 * torch.autograd.grad(cost, v)[0].sign()
    x_adv = (x + (step.clamp(0, 1) - x).clamp(-0.15, 0.15)).clamp(0, 1)
    want = F.cross_entropy(out, y) + 1.5 * torch.norm(out - net(x_adv), "nuc") / len(x)
    assert torch.allclose(mine, want, atol=1e-5)


def test_nuat_attacks_the_loss_in_every_second_step(net):
    seen = []

    class Told(type(fgsm(BALL))):
        def __call__(self, model, x, y):
            seen.append(self.loss.__name__)
            return x

    nuat = NuAT()
    for step in range(4):
        nuat.step = step
        nuat(net, x, y, Told(BALL, 1, start=at_x))
    assert seen == ["ce", "apart", "ce", "apart"]


# ---- the study


def parts(arm, size):
    recipe = fast.study.recipe(size, arm)
    data = get_data("digits", device="cpu", batch_size=32)
    known = dict(ball=BALL, train=data.train, valid=data.valid, c=10, epochs=1)
    objective = objective_in(recipe.made("objective"), **known)
    if isinstance(objective, Free):
        objective.before_fit(None)
    return recipe, objective, attack_in(recipe.made("attack"), BALL)


@pytest.mark.parametrize("arm", fast.study.arms)
@pytest.mark.parametrize("size", ["laptop", "paper"])
def test_every_row_takes_the_same_work(arm, size):
    recipe, objective, attack = parts(arm, size)
    usual, other, pgd = parts("PGD-AT", size)
    model = build_model(fast.study.recipe("laptop", arm), data.train)
    mine = recipe.epochs * passes(objective, attack, model, x, y)
    whole = usual.epochs * passes(other, pgd, model, x, y)
    assert abs(mine / whole - 1) < 0.06
    looks = recipe.epochs / recipe.look
    assert abs(looks - usual.epochs) < 1e-6


def test_a_table_tells_a_collapse():
    folder = settings().results / "baseline" / "laptop"
    d = json.loads((folder / "Fast-AT-s0.json").read_text())
    assert Results((d,)).frame()["flags"].iloc[0] == ""
    d["history"][-1]["caught"] = True
    assert Results((d,)).frame()["flags"].iloc[0] == "collapse"
    d["trust"]["flags"] = ["steps"]
    assert Results((d,)).table()["flags"].iloc[0] == "collapse, steps"


def test_sentry_is_told_of_every_row():
    for size in ("laptop", "mini"):
        for arm in fast.study.arms:
            assert fast.study.recipe(size, arm).callbacks == ("Sentry",)
    assert partial(zerograd, q=0.2)(BALL).step == zeroed(0.2)
