"""A row of a study trains as a loop written out by hand: the same weights, bit for bit, the same
history and the same chosen step
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from test_study import CPU, few

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.wrapped import smoothed
from spat_nb.classwise.faal import faal
from spat_nb.classwise.fairness import DAFA
from spat_nb.classwise.minmax import CFOL, FRL
from spat_nb.models.networks import SmallCNN
from spat_nb.papers.apart import APART
from spat_nb.papers.arks import arks
from spat_nb.papers.gate_moves import by_width, freeze, move
from spat_nb.papers.hypersphere import Hypersphere, margin_ce
from spat_nb.papers.jeat import energy, langevin
from spat_nb.papers.latent import Latent, principal
from spat_nb.papers.mlcat import mlcat
from spat_nb.papers.noise import ColouredNoise
from spat_nb.papers.prototypes import Prototypes, pull
from spat_nb.papers.sparta import Sparta
from spat_nb.papers.spat import spat
from spat_nb.papers.transfer import head_only, lwf, new_head
from spat_nb.studies import mlcat as mlcat_study
from spat_nb.studies import spat as spat_study
from spat_nb.studies import work
from spat_nb.studies.classwise import dropped
from spat_nb.studies.finding import NAMES, find_study
from spat_nb.studies.job import Job
from spat_nb.training import building
from spat_nb.training.averages import EMA
from spat_nb.training.callbacks import Best, Validate
from spat_nb.training.events import Callback
from spat_nb.training.fast import Free, Replay, Sentry
from spat_nb.training.learner import Learner
from spat_nb.training.muon import muon
from spat_nb.training.objectives import pgd_at, standard, trades
from spat_nb.training.onestep import NuAT, coins
from spat_nb.training.schedule import sgd
from spat_nb.training.staged import Staged
from spat_nb.training.tricks import awp

SEED, EPOCHS, STEPS, LR = 3, 3, 2, 0.1
NEAR = partial(pgd, start=gaussian())
SPHERE = dict(head=partial(Hypersphere, scale=15.0))
HE = partial(pgd_at, loss=margin_ce(0.2, 15.0))


def job(study, arm):
    brief = dict(epochs=EPOCHS, steps=STEPS)
    return Job(
        replace(find_study(study), sizes={"laptop": brief}), arm, "laptop", SEED, CPU, None, True
    )


def by_hand(
    run,
    objective=pgd_at,
    attack=pgd,
    slots=None,
    epochs=EPOCHS,
    best="robust",
    train=None,
    ema=False,
    opt=sgd,
    sentry=False,
    every=1.0,
):
    "The loop that all studies had before rows were recipes"
    data = run.open()
    look, chosen = Validate(data.valid, pgd(run.ball, 10), every), Best(best)
    torch.manual_seed(SEED)
    net = SmallCNN(10, channels=1, size=8, **(slots or {}))
    more = [objective] if isinstance(objective, Callback) else []
    more += [EMA(look=look)] if ema else []
    inner = attack(run.ball, STEPS)
    more += [Sentry(data.valid, inner)] if sentry else []
    calls = [*([] if ema else [look]), chosen, *more]
    learner = Learner(
        net,
        train or data.train,
        objective,
        inner,
        epochs,
        LR,
        opt=opt,
        callbacks=calls,
        precision="channels_last",
        seed=SEED,
    ).fit()
    chosen.restore(learner.model)
    return learner.model, learner.history, chosen.step


def replayed(run):
    return dict(objective=Free(run.ball), train=Replay(run.open().train, 4), epochs=1)


def drawn(run):
    m = CFOL(run.open().train, eta=50 / (EPOCHS * run.open().train.n))
    return dict(objective=m, train=m)


def on_latent_examples(run):
    pixels = run.open().train.with_(augment=None, shuffle=False).tensors()[0]
    ball = Latent(0.8, basis=principal(pixels, 8))
    return dict(attack=lambda _, steps: pgd(ball, steps))


ROWS = {
    ("baseline", "standard"): dict(objective=standard, best="clean"),
    ("baseline", "TRADES"): dict(objective=partial(trades, beta=6.0), attack=NEAR),
    ("baseline", "Free-AT, 4 replays"): replayed,
    ("baseline", "TRADES + AWP"): dict(
        objective=awp(partial(trades, beta=6.0), 0.005), attack=NEAR
    ),
    ("baseline", "PGD-AT, Muon"): dict(opt=muon),
    ("fast", "NuAT"): lambda run: dict(
        objective=NuAT(4.5),
        attack=lambda ball, steps: fgsm(ball, start=coins(0.5)),
        epochs=run.recipe.epochs,
        sentry=True,
    ),
    ("rpg", "PGD-AT"): {},
    ("proofs", "PGD-AT"): {},
    ("noise", "white"): dict(slots=dict(act=partial(ColouredNoise, rank=0))),
    ("noise", "coloured, not learned"): dict(
        slots=dict(act=partial(ColouredNoise, rank=4, learned=False))
    ),
    ("latent", "PGD-AT"): {},
    ("latent", "latent AT"): on_latent_examples,
    ("apart", "APART"): lambda run: dict(
        objective=APART(run.ball),
        attack=lambda ball, steps: fgsm(ball),
        epochs=run.recipe.epochs,
        every=run.recipe.look,
        sentry=True,
    ),
    ("jeat", "PreJEAT"): dict(attack=partial(pgd, loss=energy)),
    ("jeat", "JEAT"): dict(attack=partial(pgd, loss=energy, step=langevin())),
    ("arks", "ARKS 0.5"): dict(objective=arks(0.5, steps=STEPS, lr=0.15 / STEPS)),
    ("classwise", "FAAL throughout"): dict(objective=partial(faal, r=0.5)),
    ("spat", "SPAT a=.1"): dict(objective=partial(spat, a=0.1)),
    ("spat", "outer smoothing .1"): dict(objective=partial(pgd_at, loss=smoothed(ce, 0.1))),
    ("hypersphere", "+FN"): dict(slots=dict(head=partial(Hypersphere, scale=10.0, wn=False))),
    ("prototypes", "prototypes + AT"): dict(
        objective=partial(pgd_at, loss=pull),
        attack=partial(pgd, loss=margin),
        slots=dict(
            head=partial(Prototypes, points="repulsive", rule="dot", metric="linf", width=100)
        ),
    ),
    ("sparta", "Sparta, shuffled"): dict(slots=dict(act=partial(Sparta, shuffle=True))),
    ("sparta", "ReLU, wider"): dict(slots=dict(width=17)),
    ("classwise", "DAFA"): lambda run: dict(objective=DAFA(10, warmup=2), attack=NEAR),
    ("classwise", "CFOL"): drawn,
    ("combine", "SPAT + HE + AWP + EMA"): dict(
        objective=partial(spat, a=0.1, objective=awp(HE, 0.01)), slots=SPHERE, ema=True
    ),
    ("speedrun", "N-FGSM, then PGD-5, + EMA + smoothing"): lambda run: dict(
        objective=Staged(run.ball, 0.1, loss=smoothed(ce, 0.1)), ema=True, epochs=4
    ),
}


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    monkeypatch.setattr(building, "get_data", few)


def same(a, b):
    return all(torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize("row", ROWS, ids=": ".join)
def test_a_row_is_the_loop_by_hand(row):
    run = job(*row)
    told = ROWS[row]
    model, *rest = by_hand(run, **(told(run) if callable(told) else told))
    again = job(*row)
    again.work.mkdir(parents=True)
    new, *now, passes = work.learn(again)
    assert same(model, new) and rest == now and passes
    torch.manual_seed(SEED)
    assert not same(new, again.net())  # it has learned


def test_there_is_a_row_of_each_study():
    own = {"sparta_transfer", "transfer", "mlcat"}  # their trainings are their own, see below
    assert {s for s, _ in ROWS} | own == {*NAMES}


def test_frl_is_its_two_parts_by_hand():
    run = job("classwise", "FRL")
    data, history = run.open(), []
    torch.manual_seed(SEED)
    net, m = SmallCNN(10, channels=1, size=8), FRL(data.valid)
    for objective, epochs, lr, more in (
        (partial(trades, beta=6.0), EPOCHS, LR, []),
        (m, 1, LR / 10, [m]),
    ):
        calls = [Validate(data.valid, pgd(run.ball, 10)), *more]
        learner = Learner(
            net,
            data.train,
            objective,
            NEAR(run.ball, STEPS),
            epochs,
            lr,
            callbacks=calls,
            precision="channels_last",
            seed=SEED,
        )
        history += learner.fit().history
    again = job("classwise", "FRL")
    again.work.mkdir(parents=True)
    new, now = again.arm.train(again)
    assert same(net, new) and now == history


@pytest.mark.parametrize("objective", [faal, pgd_at])
def test_two_epochs_more_by_hand(objective):
    arm = {faal: "FAAL", pgd_at: "PGD-AT"}[objective] + ", two epochs more"
    run = job("classwise", arm)
    net, history, _ = by_hand(run)
    look = Validate(run.open().valid, pgd(run.ball, 10))
    inner = pgd(run.ball, STEPS)
    more = dict(schedule=dropped, callbacks=[look], precision="channels_last", seed=SEED)
    learner = Learner(net, run.open().train, objective, inner, 2, LR / 10, **more).fit()
    again = job("classwise", arm)
    again.work.mkdir(parents=True)
    new, now = again.arm.train(again)
    assert same(net, new) and now == [*history, *learner.history]


def test_both_ends_by_hand():
    run = job("mlcat", "MLCAT-WP")
    data, best = run.open(), Best()
    look = Validate(data.valid, pgd(run.ball, 10), every=5)
    torch.manual_seed(SEED)
    told = dict(callbacks=[look, best], precision="channels_last", seed=SEED)
    half = run.recipe.epochs * len(data.train) / 2
    steps = []

    def later(*a):
        steps.append(1)
        return (pgd_at if len(steps) - 1 < half else mlcat(0.5, 3))(*a)

    learner = Learner(
        SmallCNN(10, channels=1, size=8),
        data.train,
        later,
        pgd(run.ball, STEPS),
        EPOCHS,
        LR,
        schedule=dropped,
        **told,
    ).fit()
    again = job("mlcat", "MLCAT-WP")
    again.work.mkdir(parents=True)
    new, history, *_ = again.arm.train(again)
    ends = history[-1].pop("ends")
    assert same(learner.model, new) and history == learner.history
    assert ends["last"] == mlcat_study.robust(learner.model, run)
    best.restore(learner.model)
    assert ends["best"] == mlcat_study.robust(learner.model, run)


def test_frozen_gates_by_hand():
    from spat_nb.studies import sparta_transfer as T

    run = job("sparta_transfer", "other data: frozen gates")
    run.data = T.other(run)

    def fitted(net, data, seed):
        best = Best()
        calls = [Validate(data.valid, pgd(run.ball, 10)), best]
        told = dict(callbacks=calls, precision="channels_last", seed=seed)
        learner = Learner(net, data.train, pgd_at, pgd(run.ball, STEPS), EPOCHS, LR, **told).fit()
        best.restore(learner.model)
        return learner.model, learner.history, best.step

    def net(seed):
        torch.manual_seed(seed)
        return SmallCNN(10, channels=1, size=8, act=by_width(Sparta))

    donor = fitted(net(1000 + SEED), few("digits", seed=SEED), 1000 + SEED)[0]
    model, *rest = fitted(freeze(move(donor, net(SEED))), run.data, SEED)
    again = job("sparta_transfer", "other data: frozen gates")
    new, *now = again.arm.train(again)
    assert same(model, new) and rest == now


@pytest.mark.parametrize("arm", ["new head, robust source", "without forgetting"])
def test_a_transfer_by_hand(arm):
    from spat_nb.studies import transfer as T

    run = job("transfer", arm)
    low, high = T.half(few("digits", seed=SEED), False), T.half(few("digits", seed=SEED), True)
    inner = pgd(run.ball, STEPS)

    def fitted(net, data, objective, epochs, seed):
        calls = [Validate(data.valid, pgd(run.ball, 10), every=max(1, epochs // 4))]
        told = dict(callbacks=calls, precision="channels_last", seed=seed)
        learner = Learner(net, data.train, objective, inner, epochs, LR, **told).fit()
        return learner.model, learner.history

    torch.manual_seed(1000 + SEED)
    source = fitted(SmallCNN(5, channels=1, size=8), low, pgd_at, EPOCHS, 1000 + SEED)[0].eval()
    high = high._replace(train=high.train.subset(min(T.FEW, high.train.n), seed=SEED))
    rule = head_only if arm.startswith("new") else lwf(source, 0.003)
    torch.manual_seed(SEED)
    epochs = EPOCHS * low.train.n // high.train.n
    model, history = fitted(new_head(source, 5), high, rule, epochs, SEED)
    again = job("transfer", arm)
    new, now, _ = again.arm.train(again)
    assert same(model, new) and history == now
    assert again.open().test.classes == tuple("56789")


def test_third_and_witness_by_hand():
    run = job("hypersphere", "+FN")
    train = run.open().train
    torch.manual_seed(1000 + SEED)
    third = Learner(
        SmallCNN(10, channels=1, size=8),
        train,
        standard,
        epochs=2,
        lr=LR,
        precision="channels_last",
        seed=1000 + SEED,
    ).fit()
    assert same(third.model, run.third(2))
    run = job("spat", "SPAT a=.1")
    torch.manual_seed(1000)
    told = dict(precision="channels_last", seed=1000)
    witness = Learner(
        SmallCNN(10, channels=1, size=8),
        run.open().train,
        pgd_at,
        pgd(run.ball, STEPS),
        EPOCHS,
        LR,
        **told,
    ).fit()
    assert same(witness.model, spat_study.witness(run))
