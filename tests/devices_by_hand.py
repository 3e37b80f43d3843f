"""Shares of batches, starts drawn for the whole, batch norm over shares, one sum a step: in this
process and in two that it starts
"""

import contextlib
import io
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import notebook_launcher
from asserting import assert_close, assert_eq, assert_fails
from counters import Count
from torch import nn

from spat_nb import (
    Best,
    Callback,
    Checkpoint,
    Learner,
    Linf,
    PreActResNet18,
    SmallCNN,
    Validate,
    alp,
    awp,
    ce,
    crop_flip,
    gaussian,
    get_data,
    in_train,
    many,
    mart,
    pgd,
    pgd_at,
    standard,
    trades,
    uniform,
)
from spat_nb.classwise.radii import Radii
from spat_nb.core.files import load_tree, save_tree
from spat_nb.core.rng import generator
from spat_nb.training.costs import Machine, flops, passes
from spat_nb.training.norms import share_norms
from spat_nb.training.shares import Share, Whole, spread

data = get_data("digits", device="cpu", batch_size=50)
# batches of 50, 50 and 37
train = data.train.subset(137).with_(augment=crop_flip(1, flip=False))
ball = Linf(0.15)
near, plain = pgd(ball, 3, start=gaussian()), pgd(ball, 3)
tmp = Path()  # a folder of each test


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    global tmp
    tmp = tmp_path


def test_a_mean_of_means():
    w, x, y = (
        torch.tensor([0.5, -1.0], requires_grad=True),
        torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0], [1.0, 1.0], [2.0, 0.0]]),
        torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]),
    )

    def grad(x, y):
        return torch.autograd.grad(((x @ w - y) ** 2).mean(), w)[0]

    shares = [(x[r::2], y[r::2]) for r in range(2)]
    whole, weighted, plain = (
        grad(x, y),
        sum(len(a) / 5 * grad(a, b) for a, b in shares),
        sum(grad(a, b) / 2 for a, b in shares),
    )
    assert_close(weighted, whole, eps=1e-6)
    assert (plain - whole).abs().max() > 0.1


def test_shares_are_the_batch():
    for of in (1, 2, 3):
        for (x, y), *parts in zip(
            train.epoch(1), *(Share(train, r, of).epoch(1) for r in range(of)), strict=True
        ):
            back = torch.empty_like(x)
            for r, (a, _) in enumerate(parts):
                back[r::of] = a
            assert torch.equal(back, x)
            assert_eq(sum(len(b) for _, b in parts), len(y))
    assert_eq((len(Share(train, 0, 2)), Share(train, 0, 2).n, Share(train, 0, 2).seed), (3, 137, 0))
    assert_fails(lambda: Share(train, 0, 40), contains="holds 37 images, for 40 processes")


class Seen:
    "Stands for a share of a batch of 7 among 3 processes"

    def __init__(self, r):
        self.rank, self.of, self.whole = r, 3, 7

    def rows(self, x):
        return x[self.rank :: 3]


def test_starts_are_drawn_for_the_whole_batch():
    x, ball = torch.rand(7, 1, 4, 4, generator=generator(0)), Linf(0.15)
    for start in (uniform, gaussian()):
        lone = start(x, ball, generator(1))
        for r in range(3):
            assert torch.equal(Whole(start, Seen(r))(x[r::3], ball, generator(1)), lone[r::3])
    # a ball of its own for each image
    radii = Radii(0.15, v=torch.linspace(0, 2, 7))
    lone = uniform(x, radii, generator(1))
    for r in range(3):
        assert torch.equal(
            Whole(uniform, Seen(r))(x[r::3], replace(radii, v=radii.v[r::3]), generator(1)),
            lone[r::3],
        )
    attack = in_train(pgd(ball, 3))  # an attack inside another
    assert_eq(repr(spread(attack, Seen(0))), repr(attack))  # a checkpoint sees no difference
    assert isinstance(spread(attack, Seen(0)).attack.start, Whole)
    # not the share: drawn as it is
    assert_eq(Whole(uniform, Seen(0))(x, ball, generator(1)).shape, x.shape)


def two(f):
    "What `f()` returns in each of two processes"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]

    def work():
        torch.set_num_threads(1)
        save_tree(tmp / f"{os.environ['RANK']}.safetensors", f())

    with contextlib.redirect_stdout(io.StringIO()):
        notebook_launcher(work, num_processes=2, use_port=str(port))
    return [load_tree(tmp / f"{r}.safetensors") for r in range(2)]


def normed(part, x, weight):
    """Output, gradient for the input, gradient for the weights and running statistics of a batch
    norm
    """
    m = nn.BatchNorm2d(3).double()
    x = x[part].clone().requires_grad_()
    if os.environ.get("RANK"):
        torch.distributed.init_process_group("gloo")
        share_norms(m)
    out = m(x)
    (out * weight[part]).sum().backward()
    return dict(
        out=out.detach(),
        x=x.grad,
        w=m.weight.grad,
        b=m.bias.grad,
        mean=m.running_mean,
        var=m.running_var,
        n=m.num_batches_tracked,
    )


def test_shared_batch_norm_is_that_of_one_process():
    x, weight = (torch.randn(7, 3, 4, 4, generator=generator(s)).double() for s in (2, 3))
    lone = normed(slice(None), x, weight)
    a, b = two(lambda: normed(slice(int(os.environ["RANK"]), None, 2), x, weight))
    for k in ("out", "x"):
        assert_close(a[k], lone[k][::2], eps=1e-10)
        assert_close(b[k], lone[k][1::2], eps=1e-10)
    # a share's part of the gradient
    for k in ("w", "b"):
        assert_close(a[k] + b[k], lone[k], eps=1e-10)
    for k in ("mean", "var", "n"):
        assert_close(a[k].double(), lone[k].double(), eps=1e-10)
        assert torch.equal(a[k], b[k])
    assert_fails(lambda: share_norms(nn.BatchNorm2d(3, momentum=None)), contains="cannot be shared")
    # a checkpoint sees no difference
    assert_eq(repr(share_norms(nn.BatchNorm2d(3))), repr(nn.BatchNorm2d(3)))


class Grads(Callback):
    "Keeps the gradient of every step"

    def __init__(self):
        self.g = []

    def after_step(self, learner):
        self.g.append(torch.cat([p.grad.flatten() for p in learner.model.parameters()]))


def bare():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 10),
    ).double()


def norm():
    torch.manual_seed(0)
    return SmallCNN(width=4).double()


RUNS = {
    "standard": (bare, standard, plain, False),
    "PGD-AT": (bare, pgd_at, plain, False),
    "TRADES": (bare, trades, near, False),
    "MART": (bare, mart, plain, False),
    "ALP": (bare, alp, plain, False),
    "PGD-AT, batch norm shared": (norm, pgd_at, plain, True),
    "PGD-AT, batch norm its own": (norm, pgd_at, plain, False),
    "PGD-AT + AWP": (bare, awp(pgd_at), plain, False),
}


def gradients():
    out = {}
    for name, (net, objective, attack, shared) in RUNS.items():
        g = Grads()
        learner = Learner(
            net(),
            train,
            objective,
            attack,
            epochs=2,
            lr=0.05,
            callbacks=[g],
            precision="float32",
            devices=many("cpu", 60, shared),
        ).fit()
        out[name] = dict(g=g.g, weights=learner.model.state_dict())
    return out


def test_gradients_of_two_processes():
    alone, (a, b) = gradients(), two(gradients)
    off = {
        k: max(
            ((p - q).abs().max() / p.abs().max()).item() for p, q in zip(alone[k]["g"], a[k]["g"])
        )
        for k in RUNS
    }
    # both processes end with the same weights
    assert all(torch.equal(p, b[k]["weights"][n]) for k in RUNS for n, p in a[k]["weights"].items())
    assert all(off[k] < 1e-6 for k in list(RUNS)[:6]) and all(off[k] > 1e-3 for k in list(RUNS)[6:])


def talk():
    counts = {}
    for k in (1, 9):
        learner = Learner(
            norm(), train, pgd_at, pgd(ball, k), precision="float32", devices=many("cpu", 60)
        )
        learner.devices.before_fit(learner)
        x, y = next(learner.train.epoch())
        with Count() as t:
            learner.step(x, y)
            learner.step(x, y)
        counts[str(k)] = t.seen
    return counts


def test_one_sum_a_step_however_long_the_attack():
    a, b = two(talk)
    assert_eq(a, b)
    assert_eq(a, {k: ["allreduce_"] * 2 for k in ("1", "9")})


class Bomb(Callback):
    def after_step(self, learner):
        if learner.done == 4:
            raise KeyboardInterrupt


def run():
    def once(path, *more):
        best = Best()
        learner = Learner(
            norm().float(),
            train,
            pgd_at,
            pgd(ball, 2),
            epochs=3,
            lr=0.05,
            precision="float32",
            devices=many("cpu", 60),
            seed=2,
            callbacks=[
                Checkpoint(tmp / path, 0),
                Validate(data.valid.subset(61), pgd(ball, 2)),
                best,
                *more,
            ],
        )
        with contextlib.suppress(KeyboardInterrupt):
            learner.fit()
        return dict(
            weights=learner.model.state_dict(),
            history=learner.history,
            best=best.value,
            done=learner.done,
        )

    return dict(
        whole=once("a.safetensors"), torn=once("b.safetensors", Bomb()), again=once("b.safetensors")
    )


def test_a_killed_run_of_two_goes_on_bit_by_bit():
    a, b = two(run)

    def same(p, q):
        return (
            all(torch.equal(v, q["weights"][k]) for k, v in p["weights"].items())
            and p["history"] == q["history"]
            and p["best"] == q["best"]
        )

    assert_eq((a["torn"]["done"], a["whole"]["done"]), (4, 9))
    assert (
        same(a["whole"], a["again"])
        and same(a["whole"], b["again"])
        and not same(a["whole"], a["torn"])
    )
    assert_eq(many("cpu"), None)  # this kernel is alone


def naive():
    torch.distributed.init_process_group("gloo")
    net = nn.parallel.DistributedDataParallel(bare().float())
    x, y = next(Share(train, int(os.environ["RANK"]), 2).epoch())
    x_adv = x.clone()
    with Count() as t:
        for _ in range(9):
            x_adv = x_adv.detach().requires_grad_()
            # also sums gradients that nobody wants
            ce(net(x_adv), y).mean().backward()
            x_adv = ball.project(x_adv.detach() + 0.05 * x_adv.grad.sign(), x)
        net.zero_grad()
        ce(net(x_adv.detach()), y).mean().backward()
    return dict(sums=sum("allreduce" in s for s in t.seen))


def test_a_wrapper_sums_at_every_step_of_the_attack():
    sums = two(naive)[0]["sums"]
    assert sums >= 10


def test_work_in_closed_form():
    c = nn.Conv2d(3, 8, 3, padding=1)
    x = torch.rand(2, 3, 6, 6)
    assert_eq(flops(lambda: c(x)), 2 * 2 * 9 * 3 * 8 * 36)
    # the weights' gradient; x asks for none
    assert_eq(flops(lambda: c(x).sum().backward()), 2 * 2 * 2 * 9 * 3 * 8 * 36)

    def net16(width=16):
        torch.manual_seed(0)
        return PreActResNet18(width=width)

    x, y = torch.rand(2, 3, 32, 32), torch.tensor([1, 2])
    K, c10 = 3, Linf(8 / 255)
    closed = {
        "standard": (standard, 3),
        "PGD-AT": (pgd_at, 2 * K + 3),
        "TRADES": (trades, 2 * K + 3 + 4),
        "MART": (mart, 2 * K + 3 + 3),
        "ALP": (alp, 2 * K + 3 + 3),
        "PGD-AT + AWP": (awp(pgd_at), 2 * K + 3 + 3),
    }
    for objective, n in closed.values():
        seen = passes(objective, pgd(c10, K), net16(), x, y)
        assert_close(seen, n, eps=0.05)


def test_a_plan_by_hand():
    m = Machine(flops=1e9, bandwidth=1e6, latency=0.1)
    # one device: 100 images of 10 ms
    assert_eq((m.sum(1000, 1), m.run(100, 10, 1e7, 1000)), (0.0, 1.0))
    # half is sent to be added, half to be told
    assert_close(m.sum(1000, 2), 0.1 + 4e-3, eps=1e-12)
    assert_close(m.run(100, 10, 1e7, 1000, 2), 0.5 + 10 * m.sum(1000, 2), eps=1e-12)
    assert_eq(replace(m, overlap=1.0).run(100, 10, 1e7, 1000, 2), 0.5)
