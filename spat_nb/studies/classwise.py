"Does anything help the weakest class, and what do the others pay?"

import json
from functools import partial

import torch

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.classwise.fairness import CFA, DAFA, WAT
from spat_nb.classwise.homing import homing
from spat_nb.classwise.minmax import CFOL, FRL
from spat_nb.classwise.radii import T1, biased, fit_bias, fit_power, normalised
from spat_nb.classwise.temperature import temperature_pgd
from spat_nb.studies.study import Arm, Study
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at, trades
from spat_nb.training.tricks import EMA

TRADES = dict(objective=partial(trades, beta=6.0), attack=partial(pgd, start=gaussian()))


def taus(job):
    return {
        f"t_pgd {t:g}": temperature_pgd(job.ball, t, 20, job.ball.eps / 4) for t in (0.2, 5.0, 20.0)
    }


def averaged(job):
    return [EMA(look=job.look())]


def t1(job):
    m = T1(job.open().valid)
    return m, job.open().train


def cfa(job):
    m = CFA(job.open().train.c)
    return m, job.open().train


def cfol(job):
    m = CFOL(job.open().train, eta=50 / (job.size.epochs * job.open().train.n))
    return m, m


def wat(job):
    m = WAT(job.open().valid)
    return m, job.open().train


def dafa(job):
    m = DAFA(job.open().train.c, warmup=max(1, round(job.size.epochs * 70 / 110)))
    return m, job.open().train


def power(model, job):
    return normalised(model, fit_power(model, job.open().valid, pgd(job.ball, 10)))


def bias(model, job):
    return biased(model, fit_bias(model, job.open().valid, pgd(job.ball, 10)))


def frl(job):
    """TRADES, then the class-weighted fine-tuning of FRL for a third of the epochs at a tenth of
    the rate
    """
    d, attack, history = job.open(), TRADES["attack"](job.ball, job.size.steps), []
    net, m = job.net(), FRL(d.valid)
    for k, (objective, epochs, lr, more) in enumerate(
        [
            (TRADES["objective"], job.size.epochs, job.size.lr, []),
            (m, max(1, job.size.epochs // 3), job.size.lr / 10, [m]),
        ]
    ):
        calls = [
            job.look(),
            *more,
            *job.shown(),
            Checkpoint(job.work / f"part{k}.safetensors", config=job.config),
        ]
        history += (
            Learner(
                net,
                d.train,
                objective,
                attack,
                epochs,
                lr,
                callbacks=calls,
                **job.how,
                seed=job.seed,
            )
            .fit()
            .history
        )
    return net, history


def recipe(job):
    "images to train on -> a network trained on them by PGD-AT, for `homing`"

    def train(images):
        torch.manual_seed(job.seed)
        net = job.size.net(images).to(job.device)
        calls = [
            *job.shown(),
            Checkpoint(
                job.work / f"without-{'-'.join(map(str, images.classes))}.safetensors",
                config=job.config,
            ),
        ]
        return (
            Learner(
                net,
                images,
                pgd_at,
                pgd(job.ball, job.size.steps),
                job.size.epochs,
                job.size.lr,
                callbacks=calls,
                **job.how,
                seed=job.seed,
            )
            .fit()
            .model
        )

    return train


def home(model, job, record):
    "Homing for the most frequent confusion, with a class that is rarely taken as the control"
    C = record.confusion("pgd20").clone()
    C.fill_diagonal_(-1)
    i, j = divmod(int(C.argmax()), len(C))
    C[i, i] = C.max() + 1
    t = homing(
        recipe(job),
        model,
        job.open().train,
        job.open().test,
        pgd(job.ball, 20, job.ball.eps / 4),
        i,
        j,
        [int(C[i].argmin())],
        job.seed,
    )
    return dict(
        i=record.classes[i], j=record.classes[j], rows=json.loads(t.to_json(orient="records"))
    )


study = Study(
    "classwise",
    "Does anything help the weakest class, and what do the others pay?",
    {
        k: Arm(**v, attacks=taus)
        for k, v in {
            "PGD-AT": {},
            "PGD-AT, homing": dict(extra=home),
            "PGD-AT + EMA": dict(callbacks=averaged),
            "PGD-AT, class temperatures (T1)": dict(make=t1),
            "PGD-AT, head normalised (I1)": dict(finish=power),
            "PGD-AT, logit bias (I2)": dict(finish=bias),
            "CFA": dict(make=cfa),
            "CFOL": dict(make=cfol),
            "TRADES": TRADES,
            "WAT": dict(TRADES, make=wat),
            "DAFA": dict(TRADES, make=dafa),
            "FRL": dict(TRADES, train=frl),
        }.items()
    },
)
