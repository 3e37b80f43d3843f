"""Objectives: defaults are the plain formulas bit for bit, every outer loss fits every objective,
Free survives a kill, Sentry speaks once
"""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.losses import ce, kl, margin
from spat_nb.attacks.wrapped import smoothed
from spat_nb.core.tensors import logits
from spat_nb.data.sources import get_data
from spat_nb.models.networks import SmallCNN
from spat_nb.training.callbacks import Validate
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.events import Callback
from spat_nb.training.fast import Free, Replay, Sentry, fgsm_rs
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import alp, boosted, mart, pgd_at, probs, standard, trades

ATTACKED = dict(pgd_at=pgd_at, trades=trades, alp=alp, mart=mart)
BALL = Linf(0.1)


def setup(seed=0):
    torch.manual_seed(seed)
    return SmallCNN(width=4).train(), torch.rand(8, 1, 8, 8), torch.arange(8)


def out(objective, *args, **kw):
    "Loss and gradients, from the same weights and draws"
    net, x, y = setup()
    attack = pgd(BALL, 2, start=gaussian(0.01), generator=torch.Generator().manual_seed(1))
    loss = objective(net, x, y, attack, *args, **kw)
    return [loss, *torch.autograd.grad(loss, list(net.parameters()))]


def test_the_defaults_are_what_they_were_bit_for_bit():
    def old_trades(model, x, y, attack, beta=6.0):
        x_adv = attack(model, x, probs(model, x))
        z, z_adv = logits(model, x), logits(model, x_adv)
        return ce(z, y).mean() + beta * kl(z_adv, z.softmax(1)).mean()

    old = {
        standard: lambda m, x, y, a: ce(logits(m, x), y).mean(),
        pgd_at: lambda m, x, y, a: ce(logits(m, a(m, x, y)), y).mean(),
        trades: old_trades,
    }
    for new, was in old.items():
        assert all(torch.equal(a, b) for a, b in zip(out(new), out(was)))
        assert all(torch.equal(a, b) for a, b in zip(out(new), out(new, loss=ce)))


def test_mart_is_the_official_code():
    "With its sort, its nll_loss, its KLDivLoss and its small constants"
    net, x, y = setup()
    net = net.double().eval()
    x = x.double()
    x_adv = (x + 0.05).clamp(0, 1)
    z, za = net(x), net(x_adv)
    q = za.softmax(1)
    top = q.argsort(1)[:, -2:]
    wrong = torch.where(top[:, -1] == y, top[:, -2], top[:, -1])
    p = z.softmax(1)
    theirs = (
        F.cross_entropy(za, y)
        + F.nll_loss((1.0001 - q + 1e-12).log(), wrong)
        + 5
        * (
            nn.KLDivLoss(reduction="none")((q + 1e-12).log(), p).sum(1)
            * (1.0000001 - p.gather(1, y[:, None])[:, 0])
        ).mean()
    )
    torch.testing.assert_close(mart(net, x, y, lambda *_: x_adv), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(ATTACKED))
@pytest.mark.parametrize(
    "loss",
    [smoothed(ce, 0.2), margin, partial(boosted, loss=smoothed(ce, 0.1))],
    ids=["smoothed", "margin", "boosted"],
)
def test_every_outer_loss_fits_every_objective(name, loss):
    a, b = out(ATTACKED[name]), out(ATTACKED[name], loss=loss)
    assert all(t.isfinite().all() for t in b) and not torch.equal(a[0], b[0])
    off = dict(beta=0.0) if name != "pgd_at" else {}

    def twice(z, y):
        return 2 * loss(z, y)

    torch.testing.assert_close(
        out(ATTACKED[name], loss=twice, **off)[0], 2 * out(ATTACKED[name], loss=loss, **off)[0]
    )


@settings(max_examples=50, deadline=None)
@given(c=st.integers(2, 12), scale=st.floats(0, 60), seed=st.integers(0, 99))
def test_boosted_is_finite_and_above_what_it_boosts(c, scale, seed):
    g = torch.Generator().manual_seed(seed)
    z, y = (
        (scale * torch.randn(5, c, generator=g)).requires_grad_(),
        torch.randint(0, c, (5,), generator=g),
    )
    v = boosted(z, y)
    # -log 1.0001 at the least
    assert v.isfinite().all() and (v >= ce(z, y) - 2e-4).all()
    # -log .0001 at the most
    assert (v - ce(z, y) <= 9.22).all()
    assert torch.autograd.grad(v.sum(), z)[0].isfinite().all()


def test_the_target_of_trades_can_be_replaced():
    net, x, y = setup()
    seen = []

    def target(m, x):
        return 0.8 * probs(m, x) + 0.02

    trades(net, x, y, lambda m, x, t: seen.append(t) or x, target=target)
    torch.testing.assert_close(seen[0], target(setup()[0], x))
    assert torch.equal(out(trades)[0], out(trades, target=probs)[0])


class Bomb(Callback):
    def __init__(self, step):
        self.step = step

    def after_step(self, learner):
        if learner.done == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ball", [Linf(0.15), L2(0.8)], ids=["Linf", "L2"])
def test_free_goes_on_after_a_kill_and_stays_in_its_ball(tmp_path, ball):
    few = get_data("digits", device="cpu", batch_size=24).train.subset(60)  # 24, 24, 12

    def run(*listeners, seed=0):
        torch.manual_seed(seed)
        free = Free(ball)
        learner = Learner(
            SmallCNN(width=2),
            Replay(few, 2),
            free,
            epochs=2,
            lr=0.05,
            precision="float32",
            callbacks=[free, *listeners],
        ).fit()
        return [*learner.model.state_dict().values(), free.d]

    whole = run()
    assert (ball.norm(whole[-1]) <= ball.eps + 1e-6).all() and whole[-1].shape == (24, 1, 8, 8)
    for step in range(2, 12, 3):
        path = tmp_path / f"{step}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            run(Checkpoint(path, 0), Bomb(step))
        assert all(torch.equal(a, b) for a, b in zip(run(Checkpoint(path, 0), seed=9), whole)), step


def test_one_pass_for_each_step_of_free():
    few, passes = get_data("digits", device="cpu", batch_size=20).train.subset(40), []
    net = SmallCNN(width=2)
    net.register_forward_hook(lambda m, *_: passes.append(m.training))
    free = Free(BALL)
    Learner(
        net, Replay(few, 4), free, epochs=1, lr=0.05, precision="float32", callbacks=[free]
    ).fit()
    assert passes == [True] * 8


class Step(nn.Module):
    """A network whose robust accuracy is what we say: right on all clean images, fooled where a
    pixel was moved at all and `w` is above 1
    """

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return torch.stack([x.flatten(1).mean(1), 1 - x.flatten(1).mean(1)], 1) * (3 + 0 * self.w)


def test_sentry_stops_restores_and_survives_a_kill(tmp_path, capsys):
    few = get_data("digits", device="cpu", batch_size=20).train.subset(80)
    x, y = torch.full((20, 1, 2, 2), 0.3), torch.ones(20, dtype=torch.long)

    class Fall:
        "Harmless until the third look, deadly from then on"

        def __init__(self, net):
            self.net = net

        def __call__(self, model, x, y):
            return x + 0.6 * (self.net.w > 2.5)

    class Walk(Callback):
        def after_step(self, learner):
            learner.model.w.data += 1

    def run(*listeners):
        net = Step()
        sentry = Sentry((x, y), lambda m, x, y: x)
        learner = Learner(
            net,
            few,
            lambda m, x, y, a: 0 * m.w,
            epochs=2,
            precision="float32",
            callbacks=[Walk(), Validate((x, y), Fall(net), 0.25), sentry, *listeners],
        ).fit()
        return learner, sentry

    learner, sentry = run()
    assert (
        learner.stop
        and learner.done == 3
        and learner.model.w.item() == 1
        and sentry.caught.startswith(
            "catastrophic overfitting at step 3 of 8: robust accuracy 1.000 -> 0.000"
        )
    )
    assert capsys.readouterr().out.strip() == sentry.caught  # one line, once
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(Checkpoint(path, 0), Bomb(2))
    again, other = run(Checkpoint(path, 0))
    assert again.done == 3 and again.model.w.item() == 1 and other.caught == sentry.caught


def test_bad_input():
    few = get_data("digits", device="cpu").train.subset(20)
    with pytest.raises(ValueError, match="m is 0; a batch is shown"):
        Replay(few, 0)
    with pytest.raises(ValueError, match="must also listen"):
        Learner(SmallCNN(width=2), few, Free(BALL), precision="float32").fit()
    with pytest.raises(ValueError, match="drop is 1.5"):
        Sentry(few, fgsm_rs(BALL), 1.5)
