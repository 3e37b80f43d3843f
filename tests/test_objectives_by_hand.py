"""Objectives against closed forms, versions by hand in float64, and a spy on the modes of the
network
"""

import copy
import functools
import math
from functools import partial
from types import SimpleNamespace

import torch
from asserting import assert_close, assert_eq
from torch import nn
from torch.nn import functional as F

from spat_nb import (
    Linf,
    SmallCNN,
    alp,
    at_x,
    boosted,
    ce,
    fgsm,
    gaussian,
    get_data,
    kl,
    mart,
    pgd,
    pgd_at,
    smoothed,
    standard,
    steepest,
    trades,
    zoo,
)
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.core.modes import as_it_is
from spat_nb.core.rng import generator
from spat_nb.training.objectives import probs

ball = Linf(0.08)
nothing = pgd(Linf(0.0), 5)


def two_features(n=4000, mu=(0.16, 0.04), sd=(0.1, 0.025), seed=0):
    "Images (n,1,1,2) and labels (n,)"
    y = torch.arange(n) % 2
    x = (
        0.5
        + (2 * y - 1)[:, None] * torch.tensor(mu)
        + torch.randn(n, 2, generator=generator(seed)) * torch.tensor(sd)
    )
    return x.clamp(0, 1)[:, None, None], y


class Line(nn.Module):
    "Logits (-m/2, m/2) with m = w.(x - .5) + b"

    def __init__(self, w=(0.0, 0.0)):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        m = (x.flatten(1) - 0.5) @ self.w + self.b
        return torch.stack([-m / 2, m / 2], 1)


def Phi(t):
    return 0.5 * (1 + math.erf(t / 2**0.5))  # share of a Gaussian below t


def on_paper(w, eps, mu=(0.16, 0.04), sd=(0.1, 0.025)):
    "Accuracy of weights `w` under the worst attack of size `eps`: P(score > eps |w|_1)"
    mean, dev = sum(a * b for a, b in zip(w, mu)), math.hypot(*(a * b for a, b in zip(w, sd)))
    return Phi((mean - eps * sum(map(abs, w))) / dev)


def gradient(objective, model, *args):
    "The gradient of an objective along all weights, in one vector"
    return torch.cat(
        [
            g.flatten()
            for g in torch.autograd.grad(objective(model, *args), list(model.parameters()))
        ]
    )


def worst_loss(model, x, y, attack):
    "The robust loss in closed form; its gradient goes through the maximum"
    m = (2 * y - 1) * ((x.flatten(1) - 0.5) @ model.w + model.b)
    return F.softplus(-(m - attack.ball.eps * model.w.abs().sum())).mean()


def train_line(objective, x, y, attack, steps=300, lr=8.0):
    "Weights that minimise the objective on all images at once"
    line = Line()
    opt = torch.optim.Adam(line.parameters(), lr)
    for i in range(steps):
        opt.param_groups[0]["lr"] = lr * (1 - i / steps)
        opt.zero_grad()
        objective(line, x, y, attack).backward()
        opt.step()
    return line


def pgd_on_kl(model, x, eps, steps, lr, seed):
    "TRADES' inner loop as in a hundred repositories"
    log_p = model(x).log_softmax(1).detach()
    x_adv = (x + 0.001 * torch.randn(x.shape, dtype=x.dtype, generator=generator(seed))).clamp(0, 1)
    for _ in range(steps):
        x_adv.requires_grad_()
        q = model(x_adv).log_softmax(1)
        g = torch.autograd.grad((log_p.exp() * (log_p - q)).sum(), x_adv)[0]
        x_adv = torch.min(torch.max(x_adv.detach() + lr * g.sign(), x - eps), x + eps).clamp(0, 1)
    return x_adv


def trades_by_hand(model, x, y, x_adv, beta):
    "From the formulas, without a softmax"
    a, b = (z - z.logsumexp(1, keepdim=True) for z in (model(x), model(x_adv)))
    return -a[range(len(y)), y].sum() / len(y) + beta * (a.exp() * (a - b)).sum() / len(y)


@functools.cache
def points():
    return two_features()


def world():
    "The two pixels, a small network on random images, and attacked images made by hand"
    x, y = points()
    inner = ((x > 0.1) & (x < 0.9)).flatten(1).all(1)
    torch.manual_seed(0)
    net = SmallCNN(width=4)
    xb, yb = torch.rand(16, 1, 8, 8), torch.randint(0, 10, (16,))
    x64 = xb.double()
    n64 = copy.deepcopy(net).double().eval()
    theirs = pgd_on_kl(n64, x64, ball.eps, 6, 0.03, seed=3)

    def fixed(model, x, y):
        return theirs

    def again(objective, **kw):
        return objective(copy.deepcopy(net), xb, yb, pgd(ball, 2, generator=generator(0)), **kw)

    return SimpleNamespace(
        x=x,
        y=y,
        line=Line((7.0, -3.0)).double(),
        mid=x[inner][:500].double(),
        ym=y[inner][:500],
        net=net,
        xb=xb,
        yb=yb,
        n64=n64,
        x64=x64,
        theirs=theirs,
        fixed=fixed,
        again=again,
        sure=Line((900.0, 900.0)),
        finished={k: zoo.load(f"digits/{k}/w16", "cpu") for k in ("standard", "pgd_at")},
    )


class Spy(nn.Module):
    "Notes the mode of every pass"

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append("train" if self.training and self.model.training else "eval")
        return self.model(x)


def spied(objective, attack):
    "The modes of the passes, and how many batches the batch-norm layers have counted"
    w = world()
    spy = Spy(copy.deepcopy(w.net)).train()
    for m in spy.modules():
        m.num_batches_tracked = torch.tensor(0) if isinstance(m, nn.BatchNorm2d) else None
    objective(spy, w.xb, w.yb, attack)
    return (
        spy.seen,
        {m.num_batches_tracked.item() for m in spy.modules() if isinstance(m, nn.BatchNorm2d)},
        spy.training,
    )


def test_the_line_is_its_formula():
    w = world()
    x = w.x
    assert_close(
        Line((2.0, 3.0))(x).diff(dim=1)[:, 0],
        (x.flatten(1) - 0.5) @ torch.tensor([2.0, 3.0]),
        eps=1e-6,
    )


def test_standard_at_zero_weights():
    w = world()
    x = w.x
    y = w.y
    s = 2 * y - 1
    assert_close(standard(Line(), x, y).item(), math.log(2), eps=1e-6)
    assert_close(
        gradient(standard, Line(), x, y)[:2],
        -0.5 * (s[:, None] * (x.flatten(1) - 0.5)).mean(0),
        eps=1e-6,
    )


def test_danskin_on_a_line():
    w = world()
    line = w.line
    mid = w.mid
    ym = w.ym
    assert_close(
        pgd_at(line, mid, ym, fgsm(ball)).item(),
        worst_loss(line, mid, ym, fgsm(ball)).item(),
        eps=1e-12,
    )
    assert_close(
        gradient(pgd_at, line, mid, ym, fgsm(ball)),
        gradient(worst_loss, line, mid, ym, fgsm(ball)),
        eps=1e-12,
    )
    # however it climbs
    assert_close(
        gradient(pgd_at, line, mid, ym, pgd(ball, 20)),
        gradient(worst_loss, line, mid, ym, pgd(ball, 20)),
        eps=1e-12,
    )


def test_trained_weights_are_those_on_paper():
    w = world()
    x = w.x
    y = w.y

    def right(m, x):
        return (m(x).argmax(1) == y).double().mean().item()

    lines = {o.__name__: train_line(o, x, y, fgsm(ball)) for o in (standard, pgd_at)}
    # the formula, up to 4000 samples' noise: about 8 for the second weight
    assert_close(lines["standard"].w.detach(), torch.tensor([32.0, 128.0]), eps=40)
    assert_close(lines["pgd_at"].w.detach(), torch.tensor([16.0, 0.0]), eps=2)
    for m in lines.values():
        assert_close(right(m, fgsm(ball)(m, x, y)), on_paper(m.w.tolist(), 0.08), eps=0.03)


def test_pgd_at_with_no_radius_is_standard():
    w = world()
    net = w.net
    xb = w.xb
    yb = w.yb
    twin = copy.deepcopy(net)
    assert torch.equal(pgd_at(net, xb, yb, nothing), standard(twin, xb, yb))
    assert torch.equal(gradient(pgd_at, net, xb, yb, nothing), gradient(standard, twin, xb, yb))
    # batch-norm statistics too
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values())
    )


def test_modes_of_standard_and_pgd_at():

    assert_eq(spied(standard, None), (["train"], {1}, True))
    assert_eq(spied(pgd_at, pgd(ball, 3)), (["eval"] * 3 + ["train"], {1}, True))


def test_probs_are_answers_in_eval_mode():
    w = world()
    net = w.net
    xb = w.xb
    net.train()
    p = probs(net, xb)
    assert_close(p.sum(1), torch.ones(16))
    assert net.training and not p.requires_grad
    # eval: an image's answer does not depend on its neighbours
    assert torch.equal(p[:4], probs(net, xb[:4]))


def test_trades_by_hand():
    w = world()
    net = w.net
    xb = w.xb
    yb = w.yb
    n64 = w.n64
    x64 = w.x64
    theirs = w.theirs
    fixed = w.fixed
    twin = copy.deepcopy(net)
    assert torch.equal(trades(net, xb, yb, pgd(ball, 3), beta=0.0), standard(twin, xb, yb))
    assert torch.equal(
        gradient(partial(trades, beta=0.0), net, xb, yb, pgd(ball, 3)),
        gradient(standard, twin, xb, yb),
    )

    attack = pgd(ball, 6, 0.03, start=gaussian(0.001), generator=generator(3))
    assert (attack(n64, x64, probs(n64, x64)) - theirs).abs().max() < 1e-15
    n64.train()
    assert_close(
        trades(n64, x64, yb, fixed).item(),
        trades_by_hand(n64, x64, yb, theirs, 6.0).item(),
        eps=1e-12,
    )
    assert_close(
        gradient(trades, n64, x64, yb, fixed),
        gradient(lambda m, x, y, a: trades_by_hand(m, x, y, theirs, 6.0), n64, x64, yb, None),
        eps=1e-12,
    )


def test_trades_modes_and_sure_answers():
    w = world()
    x = w.x
    y = w.y
    sure = w.sure
    # p(x) and the climb; then the loss, clean and attacked
    assert_eq(spied(trades, pgd(ball, 3)), (["eval"] * 4 + ["train"] * 2, {2}, True))
    # p(x) is exactly 0 or 1 in float32
    assert (probs(sure, x) == 0).any() and gradient(
        trades, sure, x, y, pgd(ball, 3, start=gaussian())
    ).isfinite().all()
    assert gradient(trades, sure, x, y, pgd(Linf(0.0), 3)).isfinite().all()


def test_the_weight_of_steadiness():
    w = world()
    x = w.x
    y = w.y
    betas = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    attack = pgd(ball, 2, 0.08, start=gaussian(0.001))
    dial = [
        train_line(partial(trades, beta=b), x[:1000], y[:1000], attack, steps=200) for b in betas
    ]
    paper = [[on_paper(m.w.tolist(), e) for m in dial] for e in (0, 0.08)]
    assert paper[1][-1] > paper[1][0] + 0.3 and paper[0][-1] < paper[0][0]
    assert_close(
        dial[0].w.detach(),
        train_line(standard, x[:1000], y[:1000], None, steps=200).w.detach(),
        eps=1e-3,
    )


def test_outer_losses_and_targets():
    w = world()
    net = w.net
    xb = w.xb
    yb = w.yb
    again = w.again
    seen = {}
    for objective in (standard, pgd_at, trades):
        assert_close(
            again(objective).item(),
            again(
                objective, loss=lambda z, y: -z.log_softmax(1).gather(1, y[:, None])[:, 0]
            ).item(),
            eps=1e-6,
        )
    z = copy.deepcopy(net)(xb)
    # (1-a) CE(y) + a CE(u)
    assert_close(
        again(standard, loss=smoothed(ce, 0.2)).item(),
        (0.8 * ce(z, yb) - 0.2 * z.log_softmax(1).mean(1)).mean().item(),
        eps=1e-6,
    )

    def soft(model, x):
        seen["target"] = 0.9 * probs(model, x) + 0.01
        return seen["target"]

    trades(copy.deepcopy(net), xb, yb, lambda m, x, t: seen.update(climbed=t) or x, target=soft)
    # the attack climbs what the hook returned
    assert seen["climbed"] is seen["target"]

    def hard(m, x):
        return F.one_hot(yb, 10).float()

    # a hard target is a label
    x_adv = pgd(ball, 2, generator=generator(0))(copy.deepcopy(net), xb, yb)
    assert_close(
        again(trades, target=hard).item(),
        again(lambda m, x, y, a: trades(m, x, y, lambda *_: x_adv)).item(),
        eps=1e-5,
    )


def test_alp_in_closed_form():
    w = world()
    line = w.line
    mid = w.mid
    ym = w.ym
    net = w.net
    xb = w.xb
    yb = w.yb
    again = w.again

    def pair(m, b):
        return (alp(m, mid, ym, fgsm(ball), b) - alp(m, mid, ym, fgsm(ball), 0.0)).item()

    assert_close(pair(line, 2.0), 2 * 0.25 * (0.08 * 10.0) ** 2, eps=1e-12)  # |w|_1 = 7 + 3
    assert_close(
        alp(line, mid, ym, fgsm(ball), 0.0).item(),
        0.5 * (standard(line, mid, ym) + worst_loss(line, mid, ym, fgsm(ball))).item(),
        eps=1e-12,
    )
    assert_close(alp(net, xb, yb, nothing).item(), standard(net, xb, yb).item(), eps=1e-6)
    assert_eq(spied(alp, pgd(ball, 3)), (["eval"] * 3 + ["train"] * 2, {2}, True))

    def double(z, y):
        return 2 * ce(z, y)

    assert_close(
        again(alp, beta=0.0, loss=double).item(), 2 * again(alp, beta=0.0).item(), eps=1e-5
    )


def test_mart_by_hand():
    w = world()
    x = w.x
    y = w.y
    net = w.net
    yb = w.yb
    n64 = w.n64
    x64 = w.x64
    theirs = w.theirs
    fixed = w.fixed
    sure = w.sure
    again = w.again
    z3 = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()
    assert_close(
        boosted(z3, torch.tensor([0])).item(), -math.log(0.7) - math.log(1.0001 - 0.2), eps=1e-12
    )
    assert_close(
        boosted(z3, torch.tensor([2])).item(), -math.log(0.1) - math.log(1.0001 - 0.7), eps=1e-12
    )

    def mart_by_hand(model, x, y, x_adv, beta):
        "From the formulas, image by image"
        p, q = model(x).softmax(1), model(x_adv).softmax(1)
        total = 0
        for a, b, k in zip(p, q, y.tolist()):
            wrong = max(b[i] for i in range(len(b)) if i != k)
            total = (
                total
                - b[k].log()
                - (1.0001 - wrong).log()
                + beta * (1 - a[k]) * (a * (a / b).log()).sum()
            )
        return total / len(y)

    n64 = copy.deepcopy(net).double().train()
    assert_close(
        mart(n64, x64, yb, fixed).item(), mart_by_hand(n64, x64, yb, theirs, 5.0).item(), eps=1e-12
    )
    assert_close(
        gradient(mart, n64, x64, yb, fixed),
        gradient(lambda m, x, y, a: mart_by_hand(m, x, y, theirs, 5.0), n64, x64, yb, None),
        eps=1e-12,
    )
    assert_close(again(mart, beta=0.0).item(), again(pgd_at, loss=boosted).item(), eps=1e-6)
    # both extras off: PGD-AT
    assert_close(again(mart, beta=0.0, loss=ce).item(), again(pgd_at).item(), eps=1e-6)
    # sure and right; sure and wrong
    assert (
        gradient(mart, sure, x, y, pgd(ball, 3)).isfinite().all()
        and mart(sure, x, 1 - y, pgd(ball, 3)).isfinite()
    )
    assert_eq(spied(mart, pgd(ball, 3)), (["eval"] * 3 + ["train"] * 2, {2}, True))


def test_a_weaker_attacker_leaves_weight_to_the_second_pixel():
    w = world()
    x = w.x
    y = w.y
    weights = train_line(pgd_at, x, y, fgsm(Linf(0.02))).w.detach()
    # 2 (mu - eps)/sigma^2 = 64, up to the samples' noise
    assert_close(weights[1].item(), 2 * (0.04 - 0.02) / 0.025**2, eps=25)


def test_the_kl_is_flat_at_x():
    w = world()
    finished = w.finished
    xt, yt = get_data("digits", device="cpu", batch_size=64).test.tensors()
    ball = Linf(0.15)
    double = copy.deepcopy(finished["standard"]).double()
    xt64, p64 = xt.double(), probs(double, xt.double())
    flat = value_and_grad(lambda x: (kl(double(x), p64),), xt64)[1].abs().max().item()
    off = (
        value_and_grad(lambda x: (kl(double(x), p64),), gaussian()(xt64, ball, generator(0)))[1]
        .abs()
        .max()
        .item()
    )
    assert flat < 1e-12 < 1e-4 < off


def test_a_start_at_x_costs_one_step_and_ten_regain_it():
    w = world()
    net = w.net
    finished = w.finished
    xt, yt = get_data("digits", device="cpu", batch_size=64).test.tensors()
    ball = Linf(0.15)

    def exact(s):
        return s.x + s.lr * s.g.sign() * (s.g.abs() > 1e-6)  # what real numbers would do

    net, pt = finished["standard"], probs(finished["standard"], xt)

    def reached(start, step, K):
        x_adv = pgd(
            ball, K, 0.15 if K == 1 else 0.15 / 4, start=start, step=step, generator=generator(0)
        )(net, xt, pt)
        return kl(net(x_adv), pt).mean().item()

    table = {
        (s, r): [reached(start, step, K) for K in (1, 2, 10)]
        for s, start in (("at_x", at_x), ("gaussian", gaussian()))
        for r, step in (("as it is", steepest), ("exact zero", exact))
    }
    assert (
        table["at_x", "exact zero"][0] < 1e-3
        and table["at_x", "exact zero"][2] < 0.1 * table["gaussian", "exact zero"][2]
    )
    # one step: a good part is lost
    assert table["at_x", "as it is"][0] < 0.8 * table["gaussian", "as it is"][0]
    # ten steps: most of it is regained
    assert table["at_x", "as it is"][2] > 0.75 * table["gaussian", "as it is"][2]


def test_examples_made_in_train_mode_are_worth_less():
    w = world()
    finished = w.finished
    xt, yt = get_data("digits", device="cpu", batch_size=64).test.tensors()
    ball = Linf(0.15)

    def attacked_in(mode):
        """Share of the attacked images that the untouched network gets right; clean accuracy
        afterwards; batches that batch norm counted
        """
        net, m = finished["pgd_at"], copy.deepcopy(finished["pgd_at"]).train(mode == "train")

        def tracked():
            return next(
                b for b in m.modules() if isinstance(b, nn.BatchNorm2d)
            ).num_batches_tracked.item()

        before, ok = tracked(), 0
        for k in range(10):
            xk, yk = xt[yt == k], yt[yt == k]
            ok += (
                (net(pgd(ball, 10)(m if mode == "eval" else as_it_is(m), xk, yk)).argmax(1) == yk)
                .sum()
                .item()
            )
        m.eval()
        return ok / len(yt), (m(xt).argmax(1) == yt).double().mean().item(), tracked() - before

    torch.manual_seed(0)
    seen = {mode: attacked_in(mode) for mode in ("eval", "train")}
    assert_eq(
        seen["eval"][1:],
        ((finished["pgd_at"](xt).argmax(1) == yt).double().mean().item(), 0),
    )
    assert_eq(seen["train"][2], 10 * 10)
    assert seen["train"][0] > seen["eval"][0] + 0.05 and seen["train"][1] < seen["eval"][1] - 0.02
