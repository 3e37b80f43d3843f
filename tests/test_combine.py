"Everything combines: every objective with every head and every activation, by arguments"

from functools import partial

import pytest
import torch

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.models.networks import SmallCNN
from spat_nb.papers.hypersphere import Hypersphere, margin_ce
from spat_nb.papers.prototypes import Prototypes
from spat_nb.papers.sparta import ACTIVATIONS
from spat_nb.papers.spat import spat
from spat_nb.papers.spat_meaning import at_strength
from spat_nb.papers.spat_shared import spat_shared
from spat_nb.training.averages import EMA
from spat_nb.training.fast import Free, fgsm_rs
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import alp, boosted, mart, pgd_at, standard, trades
from spat_nb.training.tricks import awp

BALL = Linf(0.1)
OBJECTIVES = dict(
    standard=standard,
    pgd_at=pgd_at,
    trades=trades,
    alp=alp,
    mart=mart,
    boosted=partial(pgd_at, loss=boosted),
    spat=spat,
    spat_trades=partial(spat, objective=trades),
    spat_mart=partial(spat, objective=mart),
    shared=spat_shared,
    strength=partial(at_strength, a=0.1),
    awp=awp(pgd_at),
    awp_trades=awp(trades),
    spat_awp=partial(spat, objective=awp(pgd_at)),
    margin=partial(pgd_at, loss=margin_ce(0.1, 5.0)),
)
HEADS = dict(
    linear=None,
    sphere=partial(Hypersphere, scale=5.0),
    fn=partial(Hypersphere, scale=5.0, wn=False),
    wn=partial(Hypersphere, scale=1.0, fn=False),
    **{
        r: partial(Prototypes, points="random", rule=r, metric=r, width=12)
        for r in ("dot", "linf", "l2", "cosine")
    },
)
ATTACKS = dict(pgd=pgd(BALL, 2), near=pgd(BALL, 2, start=gaussian(0.01)), fast=fgsm_rs(BALL))


def step(objective, head, act, attack):
    """(network before the step, loss, gradients) of one training step, everything drawn from one
    seed
    """
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=act, **({"head": head} if head else {})).train()
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    loss = objective(net, x, y, attack)
    return (
        net,
        loss,
        dict(
            zip(
                (n for n, _ in net.named_parameters()),
                torch.autograd.grad(loss, list(net.parameters()), allow_unused=True),
            )
        ),
    )


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_every_objective_trains_every_head_under_every_activation(act):
    """All pairs of the three: with each activation all objectives, whose heads go round so that
    each pair of slots meets
    """
    for i, (o, objective) in enumerate(OBJECTIVES.items()):
        h = list(HEADS)[(i + [*ACTIVATIONS].index(act)) % len(HEADS)]
        head = HEADS[h]
        attack = (
            ATTACKS[("pgd", "near", "fast")[(len(o) + len(h)) % 3]]
            if o != "shared"
            else ATTACKS["pgd"]
        )
        net, loss, g = step(objective, head, ACTIVATIONS[act], attack)
        where = (act, o, h)
        assert loss.shape == () and loss.isfinite(), where
        # the attack left the network as it was
        assert net.training and all(p.grad is None for p in net.parameters()), where
        for n, v in g.items():
            assert v is not None and v.isfinite().all(), (*where, n)
        # from the head down to the first layer
        assert (
            next(iter(g.values())).abs().sum() > 0
            and g[[n for n in g if n.startswith("head")][0]].abs().sum() > 0
        ), where


def test_the_attack_slot_reaches_every_objective():
    "A larger ball changes the loss of each objective that attacks, and of no other"
    for o, objective in OBJECTIVES.items():
        near, far = (
            step(objective, None, torch.nn.ReLU, None if o == "standard" else pgd(Linf(e), 3))[
                1
            ].item()
            for e in (0.01, 0.2)
        )
        assert (near == far) == (o == "standard"), o


@pytest.mark.parametrize(
    "head,act",
    [
        ("sphere", "Sparta (V2)"),
        ("linf", "DY-ReLU"),
        ("cosine", "FReLU (V3)"),
        ("linear", "PSSiLU"),
    ],
)
def test_loops_and_listeners_take_them_too(head, act):
    from spat_nb.data.sources import get_data

    train = get_data("digits", seed=0, batch_size=64).train.subset(128)
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=ACTIVATIONS[act], **({"head": HEADS[head]} if HEADS[head] else {}))
    free, ema = Free(BALL), EMA()
    learner = Learner(net, train, free, epochs=1, callbacks=[free, ema], seed=0).fit()
    assert (
        all(torch.tensor(learner.losses).isfinite())
        and all(p.isfinite().all() for p in net.parameters())
        and free.d.abs().max() > 0
    )
