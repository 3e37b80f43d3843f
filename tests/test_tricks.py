"""Tricks combine with every objective and every precision, and leave behind nothing but what they
promise
"""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.attacks.losses import ce
from spat_nb.attacks.wrapped import smoothed
from spat_nb.data.sources import get_data
from spat_nb.models.networks import SmallCNN
from spat_nb.training.averages import EMA, swapped
from spat_nb.training.callbacks import Best, Validate
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.events import Callback
from spat_nb.training.fast import Free, Replay
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import alp, mart, pgd_at, standard, trades
from spat_nb.training.tricks import Moved, awp, awp_direction, flatness, in_train, kept_buffers

BALL = Linf(0.1)
OBJECTIVES = dict(standard=standard, pgd_at=pgd_at, trades=trades, alp=alp, mart=mart)
FEW = get_data("digits", device="cpu", batch_size=16).train.subset(48)


def new(seed=0):
    torch.manual_seed(seed)
    return SmallCNN(width=2)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(t, b[k]) for k, t in a.items())


def train(objective, *listeners, attack=None, precision="float32", data=FEW, seed=0, epochs=1):
    attack = attack or pgd(BALL, 2, start=gaussian(0.01))
    return (
        Learner(
            new(seed),
            data,
            objective,
            attack,
            epochs,
            lr=0.05,
            precision=precision,
            callbacks=listeners,
        )
        .fit()
        .model.state_dict()
    )


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_awp_and_the_average_with_every_objective(name):
    objective, ema = OBJECTIVES[name], EMA(0.5)
    plain, zero, moved = (
        train(objective),
        train(awp(objective, 0.0)),
        train(awp(objective, 0.05), ema),
    )
    # gamma = 0, bit for bit, batch norm and draws too
    assert same(plain, zero)
    assert not same(plain, moved) and not same(moved, ema.weights)
    assert all(t.isfinite().all() for w in (moved, ema.weights) for t in w.values())
    # an average only looks
    assert same(train(objective, EMA(0.5)), plain)


def test_awp_with_free_and_an_attack_in_train_mode():
    def free_run(gamma):
        free = Free(BALL)
        return train(free if gamma is None else awp(free, gamma), free, data=Replay(FEW, 2))

    assert same(free_run(None), free_run(0.0)) and not same(free_run(None), free_run(0.05))
    assert not same(train(pgd_at), train(pgd_at, attack=in_train(pgd(BALL, 2))))
    assert not same(train(pgd_at), train(awp(lambda *a: pgd_at(*a, loss=smoothed(ce, 0.2)), 0.01)))


@pytest.mark.parametrize("precision", ["channels_last", "bfloat16"])
def test_awp_in_other_precisions(precision):
    m = train(awp(pgd_at, 0.02), precision=precision, data=FEW.subset(16))
    assert all(t.isfinite().all() for t in m.values()) and not same(
        m, train(pgd_at, precision=precision, data=FEW.subset(16))
    )


@settings(max_examples=25, deadline=None)
@given(gamma=st.floats(1e-4, 0.5), seed=st.integers(0, 50))
def test_the_perturbation(gamma, seed):
    "As long as gamma says, layer by layer; nothing else moves; uphill on a convex loss"
    net = new(seed).train()
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    before = {k: t.clone() for k, t in net.state_dict().items()}
    with kept_buffers(net):
        v = awp_direction(net, standard(net, x, y))
    assert same(before, net.state_dict()) and set(v) == {
        k for k, p in net.named_parameters() if p.ndim > 1
    }
    for k, d in v.items():
        torch.testing.assert_close((gamma * d).norm(), gamma * net.get_parameter(k).norm())
    with contextlib.suppress(KeyboardInterrupt):

        def bang(*a):
            raise KeyboardInterrupt

        awp(bang, gamma)(net, x, y, None)
    assert same(before, net.state_dict())
    line = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert awp(standard, min(gamma, 0.05))(line, x, y) > standard(line, x, y)


def test_batch_norm_counts_one_batch():
    for objective, n in ((pgd_at, 1), (trades, 2), (mart, 2)):
        net = new().train()
        awp(objective, 0.05)(net, torch.rand(6, 1, 8, 8), torch.arange(6), pgd(BALL, 2))
        assert net.body[1].num_batches_tracked == n


class Bomb(Callback):
    def __init__(self, step):
        self.step = step

    def after_step(self, learner):
        if learner.done == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("where", [0, 2])
def test_a_killed_average_is_the_average(tmp_path, where):
    """Whatever the place of EMA among the listeners; with its own look, whose attack has a
    generator of its own
    """

    def run(*more, seed=0):
        ema, best = (
            EMA(
                0.9, Validate(FEW, pgd(BALL, 1, generator=torch.Generator().manual_seed(3)), 1 / 3)
            ),
            Best(),
        )
        listeners = [best, *more]
        listeners.insert(where, ema)
        learner = Learner(
            new(seed),
            FEW,
            pgd_at,
            pgd(BALL, 1),
            2,
            lr=0.1,
            precision="float32",
            callbacks=listeners,
        ).fit()
        return learner, ema, best

    learner, ema, best = run()
    assert best.weights and len([r for r in learner.history if "robust" in r]) == 6
    for step in (2, 4):
        path = tmp_path / f"{step}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            run(Checkpoint(path, 0), Bomb(step))
        m, e, b = run(Checkpoint(path, 0), seed=9)
        assert (
            same(m.model.state_dict(), learner.model.state_dict())
            and same(e.weights, ema.weights)
            and same(b.weights, best.weights)
            and m.history == learner.history
        )


def test_what_stands_in_for_a_while_goes_away_again():
    net, other = new().train(), {k: t + 1 for k, t in new(1).state_dict().items()}
    before = {k: t.clone() for k, t in net.state_dict().items()}
    with pytest.raises(RuntimeError), swapped(net, other):
        assert same(net.state_dict(), other)
        raise RuntimeError
    assert same(net.state_dict(), before)
    m = Moved(net, {"head.weight": torch.ones(10, 8)})
    assert not torch.equal(m(torch.rand(4, 1, 8, 8)), net(torch.rand(4, 1, 8, 8))) and len(
        list(m.parameters())
    ) == len(list(net.parameters()))


def test_flatness():
    net, (x, y) = new().eval(), FEW.with_(shuffle=False).subset(20).tensors()

    def flat(xi, draws=2):
        return flatness(
            net,
            x,
            y,
            pgd(BALL, 1, start=lambda x, *_: x),
            xi,
            draws,
            torch.Generator().manual_seed(0),
        )

    assert abs(flat(0.0)) < 1e-6 and flat(0.5) == flat(0.5) and flat(0.5) != flat(0.25)


def test_bad_input():
    with pytest.raises(ValueError, match="gamma is -1"):
        awp(pgd_at, -1)
    with pytest.raises(ValueError, match="decay is 1"):
        EMA(1)
    with pytest.raises(ValueError, match="EMA has seen no step"):
        EMA().restore(new())
