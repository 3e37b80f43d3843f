"What the usual ways of training give, in one recipe"

from functools import partial

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.studies.study import Arm, Study
from spat_nb.training.fast import Free, Replay, fgsm_rs
from spat_nb.training.objectives import alp, mart, pgd_at, standard, trades
from spat_nb.training.tricks import EMA, awp


def averaged(job):
    return [EMA(look=job.look())]


def free(job):
    return Free(job.ball), Replay(job.open().train, 4)


def quarter(size):
    return dict(epochs=max(1, round(size.epochs / 4)))


def fast(ball, steps):
    return fgsm_rs(ball)


near = partial(pgd, start=gaussian())

study = Study(
    "baseline",
    "How robust are the usual ways of training, in one recipe?",
    {
        "standard": Arm(standard, best="clean"),
        "PGD-AT": Arm(pgd_at),
        "TRADES": Arm(partial(trades, beta=6.0), near),
        "MART": Arm(partial(mart, beta=5.0), near),
        "ALP": Arm(partial(alp, beta=0.5)),
        "Fast-AT": Arm(pgd_at, fast),
        "Free-AT, 4 replays": Arm(
            make=free, change=quarter, note="each epoch shows every batch four times"
        ),
        "PGD-AT + AWP": Arm(awp(pgd_at, 0.01)),
        "PGD-AT + EMA": Arm(pgd_at, callbacks=averaged),
        "TRADES + AWP": Arm(awp(partial(trades, beta=6.0), 0.005), near),
        # fewer than elsewhere: fifty runs are to fit into ten minutes of two cores
    },
    sizes={"laptop": dict(judged=50)},
)
