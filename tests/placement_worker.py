"""What a GPU's user does, one case after another, on the device that is not there (`pretend.py`).
Prints a line of JSON for each: name, complaint, seconds. test_placement.py runs it; `python
tests/placement_worker.py study` runs all cases with that word, those of every arm of every study
among them
"""

import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from pretend import DEVICE, pretend
from test_combine import ATTACKS, HEADS, OBJECTIVES

from spat_nb.app import zoo
from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import ce, dlr, margin
from spat_nb.attacks.minimal import cw, deepfool, fab
from spat_nb.attacks.nearest import norms, within
from spat_nb.attacks.rays import rays
from spat_nb.attacks.recorder import Recorder
from spat_nb.attacks.spsa import spsa
from spat_nb.attacks.square import square
from spat_nb.attacks.steps import apgd, mim, rim
from spat_nb.attacks.targets import apgd_t
from spat_nb.classwise.budgets import best_tau, equal_budget, tau_sweep
from spat_nb.classwise.diagnosis import diagnose
from spat_nb.classwise.epochs import PerClass
from spat_nb.classwise.fairness import CFA, DAFA, CFATrades
from spat_nb.classwise.heads import biased, fit_bias, fit_power, normalised
from spat_nb.classwise.minmax import CFOL, FRL, WAT
from spat_nb.classwise.norms import norm_agreement
from spat_nb.classwise.radii import T1, resized
from spat_nb.classwise.temperature import temperature_pgd, zero_gradients
from spat_nb.classwise.viewer import view
from spat_nb.data import sources
from spat_nb.data.pairs import in_memory
from spat_nb.data.sources import get_data
from spat_nb.measure import trust as trust_room
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.sweep import sweep
from spat_nb.measure.trust import trust
from spat_nb.models.networks import PreActResNet10, SmallCNN, WideResNet
from spat_nb.models.saving import load, save
from spat_nb.papers import sparta
from spat_nb.papers.spat import flip_rates
from spat_nb.studies import runner
from spat_nb.studies.finding import studies
from spat_nb.studies.job import Job
from spat_nb.training import building
from spat_nb.training.averages import EMA
from spat_nb.training.callbacks import Best, EarlyStop, Validate
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.events import Callback
from spat_nb.training.fast import Free, Replay, Sentry, fgsm_rs
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at, trades
from spat_nb.training.tricks import awp, flatness, in_train

BALL = Linf(0.1)
CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


def cases(names):
    def add(f):
        for n in names:
            CASES[f"{f.__name__} {n}"] = partial(f, n)
        return f

    return add


def small(name="digits", **kw):
    "A few images of each part, on the device"
    d = get_data(name, **{"device": "pretend", "batch_size": 16, **kw})
    return d._replace(train=d.train.subset(48), valid=d.valid.subset(20), test=d.test.subset(20))


def net(**kw):
    torch.manual_seed(0)
    return SmallCNN(width=4, **kw).to("pretend")


def batch(n=6):
    torch.manual_seed(1)
    return torch.rand(n, 1, 8, 8).to("pretend"), torch.arange(n).to("pretend")


def there(t, name=""):
    assert t.device == DEVICE, f"{name} is on {t.device}"


def fit(objective=pgd_at, attack=None, callbacks=(), data=None, model=None, **kw):
    learner = Learner(
        model or net(),
        data or small().train,
        objective,
        attack or pgd(BALL, 2),
        2,
        0.05,
        callbacks=callbacks,
        seed=0,
        **{"precision": "channels_last", **kw},
    ).fit()
    for p in learner.model.parameters():
        there(p)
    return learner


# ---- the device itself: what it must refuse, or no case here could fail


@case
def the_device_refuses():
    x, y = batch()
    for name, wrong in {
        "a sum": lambda: x + torch.rand(6, 1, 8, 8),
        "a network": lambda: SmallCNN(width=4)(x),
        "numpy": lambda: x.numpy(),
        "a loss": lambda: ce(net()(x), y.cpu()),
        "writing": lambda: x.index_put((torch.arange(2),), torch.zeros(2, 1, 8, 8)),
        "an index": lambda: torch.arange(6)[y],
        "a generator": lambda: torch.rand(2, device="pretend", generator=torch.Generator()),
        "a choice": lambda: torch.where(x > 0, x, torch.zeros(8)),
    }.items():
        try:
            wrong()
        except (RuntimeError, TypeError):
            continue
        raise AssertionError(f"{name} went through")
    # what a GPU allows, it allows
    assert (
        torch.equal((x + torch.tensor(1.0)).cpu(), x.cpu() + 1)
        and x[torch.arange(2)].device == DEVICE
    )


# ---- attacks

FOUND = {
    "fgsm": fgsm(BALL),
    "pgd": pgd(BALL, 3, restarts=2, best=True),
    "eot": pgd(BALL, 2, eot=2),
    "recorded": pgd(BALL, 2, recorder=Recorder()),
    "L2": pgd(L2(0.5), 2),
    "L1": pgd(L1(2.0), 2),
    "gaussian": pgd(BALL, 2, start=gaussian()),
    "mim": mim(BALL, 3),
    "rim": pgd(BALL, 2, start=rim),
    "apgd": apgd(BALL, 8),
    "apgd dlr": apgd(BALL, 8, loss=dlr),
    "apgd L2": apgd(L2(0.5), 8),
    "apgd_t": apgd_t(BALL, 5, 3),
    "deepfool": deepfool(L2, 5),
    "deepfool linf": deepfool(Linf, 5),
    "cw": cw(steps=10),
    "fab": fab(Linf, 4),
    "fab L2": fab(L2, 4, restarts=2),
    "within": within(fab(Linf, 4), BALL),
    "square": square(BALL, 20),
    "square L2": square(L2(0.5), 20),
    "spsa": spsa(BALL, 100, samples=8),
    "rays": rays(BALL, 100),
    "temperature": temperature_pgd(BALL, 5.0, 3),
    "train mode": in_train(pgd(BALL, 2)),
    "fgsm_rs": fgsm_rs(BALL),
    "own generator": lambda m, x, y: pgd(
        BALL, 2, generator=torch.Generator("pretend").manual_seed(0)
    )(m, x, y),
    "the CPU's generator": lambda m, x, y: pgd(BALL, 2, generator=torch.Generator().manual_seed(0))(
        m, x, y
    ),
}


@cases(FOUND)
def attack(name):
    m, (x, y) = net().eval(), batch()
    there(FOUND[name](m, x, y))


@case
def autoattack_standard():
    evaluate(
        net(),
        small().test.subset(10),
        "channels_last",
        progress=False,
        aa=autoattack(BALL, steps=8, targets=2, queries=20),
    )


@case
def autoattack_l2():
    evaluate(
        net(),
        small().test.subset(6),
        "channels_last",
        progress=False,
        aa=autoattack(L2(0.5), steps=8, targets=2, queries=20),
    )


@case
def equal_budgets():
    evaluate(
        net(),
        small().test.subset(6),
        "channels_last",
        progress=False,
        **equal_budget(BALL, 2.0, 14, 7),
    )


@case
def smallest_changes():
    x, y = batch()
    m = net().eval()
    assert norms(m, x, y, fab(Linf, 4)(m, x, y)).shape == (6,)


@case
def temperatures():
    r = tau_sweep(
        net(), small().valid, lambda t: temperature_pgd(BALL, t, 2), (0.5, 2.0), progress=False
    )
    best_tau(r)
    zero_gradients(pgd(BALL, 3), net().eval(), *batch())


@case
def data_of_others():
    "Batches on the CPU as others make them; they go where the network is"
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    for data in (
        [dict(image=x, label=y.int()[:, None])],
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4),
        (x.numpy(), y.numpy()),
        [(x.to("pretend"), y.to("pretend"), y)],
    ):
        evaluate(net(), data, progress=False, a=pgd(BALL, 2))
    b = in_memory([(x.to("pretend"), y.to("pretend"))])
    there(b.x, "x")
    there(b.y, "y")


@case
def arrays():
    import tempfile

    import numpy as np

    with tempfile.TemporaryDirectory() as d:
        x, y = np.zeros((30, 8, 8), np.uint8), np.arange(30) % 10
        np.savez(f"{d}/a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        for part in get_data(f"{d}/a.npz", device="pretend"):
            there(part.x, "x")
            there(part.y, "y")


@case
def sweeps():
    sweep(net(), small().test, lambda e: pgd(Linf(e), 2), (0.05, 0.1), progress=False)


# ---- training


@cases([f"{o} {h}" for o in OBJECTIVES for h in HEADS])
def objective(name):
    o, h = name.rsplit(" ", 1)
    m, (x, y) = net(**({"head": HEADS[h]} if HEADS[h] else {})).train(), batch()
    loss = OBJECTIVES[o](m, x, y, ATTACKS["near" if "trades" in o else "pgd"])
    there(loss)
    loss.backward()
    for k, p in m.named_parameters():
        there(p.grad, k)


@cases(sparta.ACTIVATIONS)
def activation(name):
    fit(model=net(act=sparta.ACTIVATIONS[name]))


@case
def free():
    f = Free(BALL)
    fit(f, data=Replay(small().train, 2), callbacks=[f])


@case
def listeners():
    d = small()
    look = Validate(d.valid, pgd(BALL, 2))
    best, ema, seen = Best(), EMA(), PerClass(d.valid, pgd2=pgd(BALL, 2))
    learner = fit(
        awp(trades),
        data=d.train,
        callbacks=[look, best, ema, seen, EarlyStop(5), Sentry(d.valid, fgsm(BALL))],
    )
    best.restore(learner.model)
    ema.restore(learner.model)
    flatness(learner.model, *batch(), pgd(BALL, 2), draws=2)


@case
def resume():
    with tempfile.TemporaryDirectory() as tmp:
        d, path, f = small(), Path(tmp) / "c.safetensors", Free(BALL)

        class Stop(Callback):
            # after the checkpoint, as a kill would come
            order = 2

            def after_epoch(self, learner):
                learner.stop = True

        whole = fit(f, data=d.train, callbacks=[f, EMA()])
        fit(f := Free(BALL), data=d.train, callbacks=[f, EMA(), Checkpoint(path, every=0), Stop()])
        again = fit(f := Free(BALL), data=d.train, callbacks=[f, EMA(), Checkpoint(path, every=0)])
        assert all(
            torch.equal(a.cpu(), b.cpu())
            for a, b in zip(whole.model.parameters(), again.model.parameters())
        ), "a killed run ends elsewhere"
        save(again.model, Path(tmp) / "w.safetensors")
        there(next(load(Path(tmp) / "w.safetensors").to("pretend").parameters()))


RECIPES = {
    "t1": (T1, 1),
    "cfa": (CFA, 0),
    "cfa trades": (CFATrades, 0),
    "wat": (WAT, 1),
    "dafa": (partial(DAFA, warmup=1), 0),
    "frl": (FRL, 1),
    "cfol": (partial(CFOL, eta=0.05), 2),
}


@cases(RECIPES)
def fairness(name):
    d = small()
    make, wants = RECIPES[name]
    m = make((d.train.c, d.valid, d.train)[wants])
    fit(m, pgd(BALL, 2, start=gaussian()), [m], m if wants == 2 else d.train)


@case
def fitted_heads():
    d, m = small(), fit().model
    a = pgd(BALL, 2)
    evaluate(normalised(m, fit_power(m, d.valid, a)), d.test, progress=False)
    evaluate(biased(m, fit_bias(m, d.valid, a, 2)), d.test, progress=False)
    there(resized(a, torch.linspace(0, 1, 6).to("pretend"))(m.eval(), *batch()))


@cases(["preact", "wide"])
def big_network(name):
    m = (PreActResNet10(width=2) if name == "preact" else WideResNet(depth=10, widen=1)).to(
        "pretend"
    )
    x = torch.rand(2, 3, 32, 32).to("pretend")
    there(pgd(Linf(8 / 255), 2)(m, x, torch.arange(2).to("pretend")))


# ---- judging


@case
def trust_card():
    trust(
        fit().model,
        small().test,
        L2(0.5),
        pgd(L2(0.5), 2),
        n=8,
        cost=0.02,
        progress=False,
        loss=margin,
    )


@case
def class_by_class():
    import matplotlib

    matplotlib.use("Agg")
    d, m = small(), fit().model
    r = diagnose(m, d.test, BALL, times=20, progress=False)
    r.plot()
    repr(r)
    norm_agreement(m, r.record, "pgd20", times=20)
    view(m, d.test, pgd(BALL, 2), int(d.test.y[0]))
    flip_rates(m, *batch(), pgd(BALL, 2), 0.1)


@case
def shipped():
    there(next(zoo.load("digits/pgd_at/w16", "pretend").parameters()))


# ---- commands


@case
def commands():
    import contextlib
    import io

    from spat_nb.app import cli, tour

    heard = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as tmp,
        contextlib.redirect_stdout(heard),
        contextlib.redirect_stderr(heard),
    ):
        tmp, on = Path(tmp), ["--n-test", "10", "--device", "pretend"]
        cli.main(
            [
                "train",
                "--data",
                "digits",
                "--epochs",
                "1",
                "--n",
                "48",
                "--out",
                str(tmp / "run"),
                *on,
            ]
        )
        weights = str(tmp / "run" / "weights.safetensors")
        for more in (["evaluate", weights], ["diagnose", weights, "--out", str(tmp / "page.html")]):
            assert not cli.main([*more, *on]), heard.getvalue()[-300:]
        tour.EPOCHS = 1
        tour.tour(tmp / "tour.html")


# ---- a study's arms, as `spat_nb study run` does them

QUICK = [
    "baseline: Free-AT, 4 replays",
    "classwise: PGD-AT, homing",
    "classwise: FRL",
    "combine: SPAT + HE + AWP + EMA",
    "hypersphere: TRADES+HE",
    "prototypes: prototypes",
    "sparta: Sparta (V2)",
    "sparta_transfer: deeper: frozen gates",
    "spat: shared pixels (S3)",
]


@cases([f"{s}: {a}" for s, study in studies().items() for a in study.arms])
def study(name):
    s, arm = name.split(": ", 1)
    s = studies()[s]
    brief = dict(
        epochs=2,
        seeds=1,
        judged=12,
        tested=12,
        trusted=8,
        cost=0.02,
        strong=partial(autoattack, steps=7, targets=1, queries=10),
    )
    job = Job(
        replace(s, sizes={**s.sizes, "laptop": {**s.sizes.get("laptop", {}), **brief}}),
        arm,
        "laptop",
        0,
    )
    assert (
        runner.one(job, DEVICE, quiet=True)
        and json.loads(job.path.read_text())["attacks"]["aa"]["n"] > 0
    )


def chosen(word):
    return [
        n
        for n in CASES
        if (word in n if word else n in [f"study {q}" for q in QUICK] or not n.startswith("study "))
    ]


def main(word=""):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, module in [*sys.modules.items()]:
        if not name.startswith("spat_nb.") or not hasattr(module, "default_device"):
            continue
        module.default_device = lambda name=None: (
            torch.device(name) if name and str(name) != DEVICE.type else DEVICE
        )
    # the card has a case of its own
    trust_room.trust = lambda *a, **kw: SimpleNamespace(checks=(), n=0)
    sources.get_data = lambda *a, **kw: small(*a, **{**kw, "batch_size": 16})
    building.get_data = sources.get_data
    with tempfile.TemporaryDirectory() as tmp, pretend():
        os.environ.update(SPAT_NB_RESULTS=tmp, TQDM_DISABLE="1")
        for name in chosen(word):
            f = CASES[name]
            start = time.process_time()
            try:
                f()
                said = ""
            except Exception as e:
                at = [
                    f"{Path(t.filename).name}:{t.lineno}"
                    for t in traceback.extract_tb(e.__traceback__)
                    if "spat_nb" in t.filename or "tests" in t.filename
                ]
                said = f"{type(e).__name__}: {str(e)[:300]} ({' < '.join(at[::-1][:5])})"
            print(json.dumps([name, said, round(time.process_time() - start, 1)]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
