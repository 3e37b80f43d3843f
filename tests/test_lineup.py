"""Planted faults are new copies with one thing wrong, and the judge of attacks sees every broken
rule
"""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import nn

from spat_nb.app import zoo
from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.square import square
from spat_nb.core.evalmode import eval_mode
from spat_nb.data.sources import get_data
from spat_nb.learn.attack_judge import check_attack
from spat_nb.learn.lineup import ATTACKS, MODELS, planted
from spat_nb.measure.faults import Fault
from spat_nb.measure.faulty_gradients import Rounded, Straight
from spat_nb.measure.rules import RULES
from spat_nb.measure.trial import Trial
from spat_nb.measure.trust import GATES, trust

BALL = Linf(0.15)


@cache
def digits():
    return get_data("digits", device="cpu", batch_size=64).test


@cache
def standard():
    return zoo.load("digits/standard/w16", "cpu")


# ---- planted faults


def test_planted_leaves_the_model_alone():
    net = standard()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x, y = digits().subset(16).tensors()
    row = planted(net, BALL)
    assert [*row] == [*MODELS, *ATTACKS] and {meant for *_, meant in row.values()} <= {*RULES}
    for name, (model, attack, _) in row.items():
        assert model is not net and isinstance(model, Fault) == (attack is None), name
        if attack:
            assert attack(model, x, y).shape == x.shape
        # in train mode batch norm moves, in the copy
        else:
            assert model.train()(x).shape[0] == 16
    assert (
        not net.training
        and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
        and all(p.grad is None for p in net.parameters())
    )


@pytest.mark.parametrize(
    "name",
    [
        "softmax at the end",
        "rounded input",
        "straight through",
        "logits x 256",
        "logits x 0.05",
        "random answers",
        "calls train()",
        "search inside",
        *ATTACKS,
    ],
)
def test_the_gate_that_is_meant_is_enough(name):
    "On another network than the notebook's"
    model, attack, meant = planted(zoo.load("digits/pgd_at/w16", "cpu"), BALL)[name]
    gate = GATES[meant.split()[0]]
    with eval_mode(model):
        checks = {
            c.name: c.verdict
            for c in gate(Trial(model, *digits().subset(48).tensors(), BALL, attack, cost=0.1))
        }
    assert checks[meant] == "flag", checks


# ---- check_attack


def own(m, x, y, ball, generator):
    "PGD by hand, in any ball"
    x_adv = ball.uniform(x, generator)
    for _ in range(20):
        x_adv = x_adv.detach().requires_grad_()
        g = torch.autograd.grad(ce(m(x_adv), y).sum(), x_adv)[0]
        x_adv = ball.project(x_adv.detach() + ball.eps / 8 * ball.ascent(g), x)
    return x_adv


@pytest.mark.parametrize(
    "fn,verdict",
    [
        (own, "right"),
        (pgd(BALL, 20), "right"),
        (pgd(L2(0.8), 20), "right"),
        (pgd(BALL, 40, loss=margin, best=True), "right"),
        (..., "not attempted"),
        (lambda model, x, y: ..., "not attempted"),
        (lambda model, x, y: 1 / 0, "error"),
        (lambda model, x, y: x, "wrong"),
        (fgsm(BALL), "wrong"),
        (pgd(BALL, 3, 0.001), "wrong"),
        (lambda model, x, y, ball, generator: own(model, x, y, ball, None), "wrong"),
        (lambda model, x, y, ball: own(model, x, y, Linf(2 * ball.eps), None), "wrong"),
        (lambda model, x, y: x.numpy(), "wrong"),
        (lambda model, x, y: x * 255, "wrong"),
        (lambda model, x, y: x.mul_(0.9), "wrong"),
    ],
    ids=[
        "own",
        "pgd",
        "l2",
        "margin",
        "dots",
        "empty",
        "error",
        "idle",
        "fgsm",
        "weak",
        "dice",
        "outside",
        "type",
        "bytes",
        "inplace",
    ],
)
def test_check_attack(fn, verdict, capsys):
    assert check_attack(fn) == verdict and capsys.readouterr().out.startswith(verdict)


def test_check_attack_on_a_model_of_yours():
    net, data = standard(), digits().subset(48).tensors()
    assert check_attack(own, net, data, BALL) == "right"
    masked, smooth = Rounded(net), Straight(net)
    against = partial(
        check_attack,
        model=masked,
        data=data,
        ball=BALL,
        reference=square(BALL, queries=300, generator=torch.Generator().manual_seed(0)),
        loss=margin,
    )
    assert against(own) == "wrong"
    assert (
        against(
            lambda model, x, y, ball, generator: Attack(
                ball, 30, loss=margin, restarts=2, best=True, generator=generator
            )(smooth, x, y)
        )
        == "right"
    )
    with pytest.raises(ValueError, match="both or none"):
        check_attack(own, net)


def test_check_attack_sees_what_is_left_behind():
    def train(model, x, y, ball):
        if isinstance(model, nn.Module):
            model.train()
        return fgsm(ball)(model, x, y)

    def grad(model, x, y, ball):
        if isinstance(model, nn.Module):
            ce(model(x), y).sum().backward()
        return fgsm(ball)(model, x, y)

    # and the next is not judged by it
    assert check_attack(train) == check_attack(grad) == "wrong" and check_attack(own) == "right"


def test_only_the_stream_of_the_cpu_is_forked(monkeypatch):
    forked, fork = [], torch.random.fork_rng

    def spy(devices=None, *args, **kw):
        forked.append(devices)
        return fork(devices, *args, **kw)

    monkeypatch.setattr(torch.random, "fork_rng", spy)
    # None would be all GPUs of the machine
    assert check_attack(own) == "right" and forked and all(d == [] for d in forked)


def test_the_planted_faults_leave_the_network_alone():
    net = zoo.load("digits/standard/w16", "cpu")
    faults = planted(net, BALL)
    assert len(faults) == 19 and {meant for *_, meant in faults.values()} <= {*RULES}
    assert all(m is not net for m, *_ in faults.values())
    assert not any(p.grad is not None for p in net.parameters())


def test_many_faults_change_no_answer():
    net = zoo.load("digits/standard/w16", "cpu")
    x = get_data("digits", device="cpu").test.subset(64).tensors()[0]
    same = {
        k
        for k, (m, attack, _) in planted(net, BALL).items()
        if attack is None and torch.equal(m.eval()(x).argmax(1), net(x).argmax(1))
    }
    assert same >= {
        "logits x 256",
        "softmax at the end",
        "decoy class",
        "reversed gradient",
        "lottery",
        "gradient on the grid",
    }


def _grabs(model, x, y, ball):
    if isinstance(model, nn.Module):
        model.train()
    return fgsm(ball)(model, x, y)


@pytest.mark.parametrize(
    "fn",
    [
        lambda model, x, y, ball: pgd(replace(ball, eps=2 * ball.eps), 20)(model, x, y),
        lambda model, x, y, ball: x + 3.0,
        lambda model, x, y: x[:1],
        _grabs,
        lambda model, x, y, ball: x,
        lambda model, x, y, ball, generator: pgd(ball, 20)(model, x, y),
        lambda model, x, y, ball: x.mul_(0.99),
        lambda model, x, y, ball: fgsm(ball)(model, x, y),
        lambda model, x, y, ball, generator: pgd(ball, 20, ball.eps / 40, generator=generator)(
            model, x, y
        ),
    ],
)
def test_each_rule_of_the_judge_has_an_attack_that_breaks_it(fn):
    assert check_attack(fn) == "wrong"


@pytest.mark.parametrize("fn", [pgd(Linf(0.1), 20), pgd(L2(0.8), 20)])
def test_the_judge_accepts_pgd(fn):
    assert check_attack(fn) == "right"


def test_what_is_not_attempted_or_raises():
    assert check_attack(...) == "not attempted"
    assert check_attack(lambda model, x, y: None) == "not attempted"
    assert check_attack(lambda model, x, y: 1 / 0) == "error"


def test_prototypes_are_flagged_by_their_own_fault():
    test = get_data("digits", device="cpu").test.subset(64)
    proto = zoo.load("digits/prototypes/w16", "cpu")
    other = zoo.load("digits/standard/w16", "cpu")
    card = trust(proto, test, BALL, cost=0.1, surrogate=other, progress=False)
    assert card.flags and card.accuracy[card.claim] - card.accuracy["everything"] > 0.3
