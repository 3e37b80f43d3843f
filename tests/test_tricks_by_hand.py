"""Tricks against the same thing by hand: AWP's official loop, torch's average, closed forms"""

import contextlib
import copy
import math
import re
import tempfile

import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from torch import nn
from torch.nn import functional as F

from spat_nb import (
    Best,
    Checkpoint,
    Free,
    Learner,
    Linf,
    SmallCNN,
    Validate,
    alp,
    ce,
    evaluate,
    gaussian,
    get_data,
    mart,
    pgd,
    pgd_at,
    smoothed,
    standard,
    trades,
)
from spat_nb.attacks.wrapped import smooth
from spat_nb.core.rng import generator
from spat_nb.training.averages import EMA, swapped
from spat_nb.training.events import Callback
from spat_nb.training.tricks import Moved, awp, awp_direction, flatness, in_train, kept_buffers

data = get_data("digits", device="cpu", batch_size=64)
few, valid = data.train.subset(128), data.valid.subset(60)
ball = Linf(0.15)
xb, yb = data.train.with_(shuffle=False).subset(32).tensors()
OBJECTIVES = dict(
    standard=(standard, None),
    pgd_at=(pgd_at, pgd(ball, 2)),
    trades=(trades, pgd(ball, 2, start=gaussian())),
    alp=(alp, pgd(ball, 2)),
    mart=(mart, pgd(ball, 2)),
)


def new(seed=0, width=4):
    torch.manual_seed(seed)
    return SmallCNN(width=width)


def same(a, b):
    """Equal in every bit"""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all((same(v, b[k]) for k, v in a.items()))
    return torch.equal(a, b)


def step_of(objective, attack, seed=0):
    """Loss, gradients and buffers after one call on a new network; the same random draws"""
    net = new().train()
    torch.manual_seed(seed)
    loss = objective(net, xb, yb, attack)
    return dict(
        loss=loss.detach(),
        draw=torch.rand(1),
        **{f"g {i}": g for i, g in enumerate(torch.autograd.grad(loss, list(net.parameters())))},
        **{k: b.clone() for k, b in net.named_buffers()},
    )


def awp_by_hand(model, train, attack, gamma, epochs, lr):
    """The official loop: a proxy steps uphill, the weights move, the optimiser steps, the weights
    move back
    """
    opt = torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True)
    for e in range(epochs):
        for x, y in train.epoch(e):
            model.train()
            x_adv = attack(model, x, y)
            proxy = copy.deepcopy(model)
            proxy.zero_grad()
            (-F.cross_entropy(proxy(x_adv), y)).backward()
            torch.optim.SGD(proxy.parameters(), lr=0.01).step()
            add = {
                k: (d := (q.detach() - p.detach())) * gamma * p.detach().norm() / (d.norm() + 1e-20)
                for (k, p), q in zip(model.named_parameters(), proxy.parameters())
                if "weight" in k and p.ndim > 1
            }
            for k, d in add.items():
                model.get_parameter(k).data.add_(d)
            opt.zero_grad()
            F.cross_entropy(model(x_adv), y).backward()
            opt.step()
            for k, d in add.items():
                model.get_parameter(k).data.sub_(d)
    return model


def run(objective, **kw):
    return (
        Learner(
            new(),
            few,
            objective,
            pgd(ball, 2),
            **{
                "epochs": 2,
                "lr": 0.05,
                "schedule": lambda t: 1.0,
                "opt": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
                "precision": "float32",
                **kw,
            },
        )
        .fit()
        .model
    )


def off(a, b):
    return max((a[k] - b[k]).abs().max().item() for k in a if a[k].is_floating_point())


class Fake:
    """As much of a Learner as EMA looks at"""

    def __init__(self, model):
        self.model = model


def averaged(values, decay):
    lone, ema = (nn.Linear(1, 1, bias=False), EMA(decay))
    for v in values:
        lone.weight.data.fill_(v)
        ema.after_step(Fake(lone))
    return ema.weights["weight"].item()


def lag(d):
    return averaged(range(1, 4001), d) - 4000


class Theirs(Callback):
    """torch.optim.swa_utils, with the same d"""

    def before_fit(self, learner):
        self.n, self.avg = (
            1,
            torch.optim.swa_utils.AveragedModel(
                learner.model, multi_avg_fn=self.mix, use_buffers=True
            ),
        )

    def mix(self, old, new, n):
        d = min(0.99, (1 + self.n) / (10 + self.n))
        for a, b in zip(old, new):
            a.copy_(d * a + (1 - d) * b)

    def after_step(self, learner):
        self.avg.update_parameters(learner.model)
        self.n += 1


class Bomb(Callback):
    def __init__(self, step):
        self.step = step

    def after_step(self, learner):
        if learner.done == self.step:
            raise KeyboardInterrupt


def ema_run(*listeners, seed=0):
    ema, best = (EMA(0.9, Validate(valid, pgd(ball, 2))), Best())
    learner = Learner(
        new(seed),
        few,
        awp(pgd_at),
        pgd(ball, 2),
        epochs=3,
        lr=0.1,
        precision="float32",
        callbacks=[ema, best, *listeners],
    ).fit()
    return (learner, ema, best)


def test_the_direction_of_awp():
    flat = nn.Linear(2, 1, bias=False)
    flat.weight.data = torch.tensor([[3.0, 4.0]])
    v = awp_direction(flat, flat(torch.tensor([[7.0, 0.0]])).sum())["weight"]
    close(v, torch.tensor([[5.0, 0.0]]))
    net = new()
    v = awp_direction(net, standard(net, xb, yb))
    equal(set(v), {k for k, p in net.named_parameters() if p.ndim > 1})
    for k, d in v.items():
        close((0.01 * d).norm().item(), 0.01 * net.get_parameter(k).norm().item(), eps=1e-06)
    flat.weight.data.zero_()
    equal(awp_direction(flat, flat(torch.ones(1, 2)).sum())["weight"].abs().sum().item(), 0.0)
    assert awp_direction(net, 0 * standard(net, xb, yb))["head.weight"].isfinite().all()


def test_moved_weights_give_their_gradient_and_leave_nothing():
    net = new()
    v = {k: 0.1 * d for k, d in awp_direction(net, standard(net, xb, yb)).items()}
    by_hand = copy.deepcopy(net)
    for k, d in v.items():
        by_hand.get_parameter(k).data += d
    before = copy.deepcopy(net.state_dict())
    with kept_buffers(net):
        loss = standard(Moved(net, v).train(), xb, yb)
        g = torch.autograd.grad(loss, list(net.parameters()))
    hand = standard(by_hand.train(), xb, yb)
    close(loss.item(), hand.item(), eps=1e-06)
    for a, b in zip(g, torch.autograd.grad(hand, list(by_hand.parameters()))):
        close(a, b, eps=1e-06)
    assert same(before, net.state_dict()) and (
        not same(before, {**before, **dict(by_hand.named_buffers())})
    )
    with contextlib.suppress(KeyboardInterrupt), kept_buffers(net):
        standard(net.train(), xb, yb)
        raise KeyboardInterrupt
    assert same(before, net.state_dict())


def test_awp_of_zero_and_the_official_loop():
    for name, (objective, attack) in OBJECTIVES.items():
        plain, zero, moved = (
            step_of(objective, attack),
            step_of(awp(objective, 0.0), attack),
            step_of(awp(objective, 0.05), attack),
        )
        assert same(plain, zero), name
        assert moved["loss"] > plain["loss"] and moved["loss"].isfinite(), name
        equal(moved["body.1.num_batches_tracked"], plain["body.1.num_batches_tracked"])
    with pytest.raises(Exception, match=re.escape("gamma is -0.1")):
        awp(pgd_at, -0.1)
    theirs = new()
    torch.manual_seed(0)
    theirs = awp_by_hand(theirs, few, pgd(ball, 2), 0.02, 2, 0.05).state_dict()
    plain = run(pgd_at).state_dict()
    ours = run(awp(pgd_at, 0.02)).state_dict()
    assert off(ours, theirs) < 0.01 * off(ours, plain)


def test_awp_leads_up_on_a_convex_loss():
    for k in range(100):
        flat = nn.Linear(4, 3)
        flat.weight.data = torch.randn(3, 4, generator=generator(k))
        flat = nn.Sequential(nn.Flatten(), flat)
        xk, yk = (torch.rand(8, 1, 2, 2, generator=generator(k)), torch.arange(8) % 3)
        assert awp(standard, 0.01)(flat, xk, yk) > standard(flat, xk, yk)


def test_the_average_has_a_closed_form_and_is_that_of_torch():
    close(averaged([5.0] * 50, 0.99), 5.0, eps=1e-06)
    want = 1.0
    for n in range(2, 9):
        d = min(0.5, (1 + n) / (10 + n))
        want = d * want + (1 - d) * n
    close(averaged(range(1, 9), 0.5), want, eps=1e-06)
    close(lag(0.9), -0.9 / 0.1, eps=0.01)
    ema, torchs = (EMA(0.99), Theirs())
    learner = Learner(
        new(),
        few,
        pgd_at,
        pgd(ball, 2),
        epochs=4,
        lr=0.1,
        precision="float32",
        callbacks=[ema, torchs],
    ).fit()
    for k, p in torchs.avg.module.named_parameters():
        close(ema.weights[k], p, eps=1e-05)
    assert same(
        learner.model.state_dict(),
        Learner(new(), few, pgd_at, pgd(ball, 2), epochs=4, lr=0.1, precision="float32")
        .fit()
        .model.state_dict(),
    )
    equal(ema.weights["body.1.num_batches_tracked"], learner.model.body[1].num_batches_tracked)
    with pytest.raises(Exception, match=re.escape("decay is 1.0")):
        EMA(1.0)
    with pytest.raises(Exception, match=re.escape("no step")):
        EMA().restore(new())


def test_a_validated_average_survives_a_kill():
    whole, ema, best = ema_run()
    with tempfile.TemporaryDirectory() as tmp:
        for step in (2, 5):
            with contextlib.suppress(KeyboardInterrupt):
                ema_run(Checkpoint(f"{tmp}/{step}.safetensors", 0), Bomb(step))
            learner, e, b = ema_run(Checkpoint(f"{tmp}/{step}.safetensors", 0), seed=9)
            assert (
                same(learner.model.state_dict(), whole.model.state_dict())
                and same(e.weights, ema.weights)
                and same(b.weights, best.weights)
                and (learner.history == whole.history)
            )
    with swapped(whole.model, ema.weights):
        r = evaluate(whole.model, valid, "float32", progress=False, robust=pgd(ball, 2))
    equal(
        (whole.history[-1]["clean"], whole.history[-1]["robust"]),
        (r.accuracy(), r.accuracy("robust")),
    )


def test_in_train_forgets_and_keeps():
    net = new().train()
    net.body[1].eval()
    modes, before = ([m.training for m in net.modules()], copy.deepcopy(net.state_dict()))

    def seeded():
        return pgd(ball, 3, generator=generator(0))

    a = in_train(seeded())(net, xb, yb)
    assert same(before, net.state_dict())
    equal([m.training for m in net.modules()], modes)
    assert ball.inside(a, xb).all() and (not torch.equal(a, seeded()(net, xb, yb)))
    b = in_train(seeded(), keep=True)(net, xb, yb)
    assert torch.equal(a, b)
    equal(net.body[1].num_batches_tracked - before["body.1.num_batches_tracked"], 3)
    no_bn = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert torch.equal(in_train(seeded())(no_bn, xb, yb), seeded()(no_bn, xb, yb))


def test_in_train_depends_on_neighbours():
    def alone(wrap):
        return wrap(pgd(ball, 3, start=lambda x, *_: x))(net.train(), xb[:8], yb[:8])

    def inside(wrap):
        return wrap(pgd(ball, 3, start=lambda x, *_: x))(net.train(), xb, yb)[:8]

    net = new().train()
    net.body[1].eval()
    change = {
        name: (alone(w) - inside(w)).abs().max().item()
        for name, w in (("eval", lambda a: a), ("train", in_train))
    }
    assert change["eval"] < 1e-06 < 0.05 < change["train"]
    tiny = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    with pytest.raises(Exception, match=re.escape("Expected more than 1 value per channel")):
        in_train(pgd(ball, 1))(tiny, xb[:1], yb[:1])


def test_minimum_of_smoothed_labels():
    z = torch.zeros(1, 10, requires_grad=True)
    soft = smoothed(ce, 0.2)
    for _ in range(400):
        z = (
            (z - 5 * torch.autograd.grad(soft(z, torch.tensor([3])).sum(), z)[0])
            .detach()
            .requires_grad_()
        )
    close((z[0, 3] - z[0, 0]).item(), math.log(0.82 / 0.02), eps=0.001)
    close(z.softmax(1)[0], smooth(torch.tensor([3]), 0.2, 10)[0], eps=0.0001)
    e, c = (0.18, 10)
    close(
        smooth(torch.tensor([3]), e * c / (c - 1), c)[0, [3, 0]],
        torch.tensor([1 - e, e / (c - 1)]),
        eps=1e-06,
    )


def test_flatness_of_the_same_function():
    net = (
        Learner(new(0, 16), few, pgd_at, pgd(ball, 3), epochs=8, lr=0.1, precision="float32")
        .fit()
        .model.eval()
    )
    xt, yt = (t[:60] for t in data.test.tensors())

    def fixed():
        return pgd(ball, 3, start=lambda x, *_: x)

    def sharp(net, xi, draws=3):
        return flatness(net, xt, yt, fixed(), xi, draws, generator(1))

    close(sharp(net, 0.0), 0.0, eps=1e-06)
    seven = copy.deepcopy(net)
    bn = seven.body[1]
    seven.body[0].weight.data *= 7
    bn.running_mean *= 7
    bn.running_var.copy_(49 * (bn.running_var + bn.eps) - bn.eps)
    close(seven(xt), net(xt), eps=0.001)
    close(sharp(seven, 0.3), sharp(net, 0.3), eps=0.01)
    before = copy.deepcopy(net.state_dict())
    assert sharp(net, 0.3) > 0 and same(before, net.state_dict())


def test_tricks_combine():
    def one_step(objective, attack, *listeners):
        free = (
            [objective]
            if isinstance(objective, Free)
            else [objective.objective]
            if isinstance(getattr(objective, "objective", None), Free)
            else []
        )
        return (
            Learner(
                new(),
                few,
                objective,
                attack,
                epochs=1,
                lr=0.05,
                precision="float32",
                callbacks=[*free, *listeners],
            )
            .fit()
            .model.state_dict()
        )

    for name, (objective, attack) in [*OBJECTIVES.items(), ("free", (None, None))]:
        make = (lambda: Free(ball)) if name == "free" else lambda: objective
        ema = EMA(0.9)
        plain, moved = (one_step(make(), attack), one_step(awp(make(), 0.05), attack, ema))
        assert (
            all(t.isfinite().all() for t in [*moved.values(), *ema.weights.values()])
            and (not same(plain, moved))
            and (not same(moved, ema.weights))
        ), name
