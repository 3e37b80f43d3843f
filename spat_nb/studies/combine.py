"Do SPAT, hypersphere embedding and the usual tricks add up?"

from functools import partial

from spat_nb.papers.hypersphere import Hypersphere, margin_ce
from spat_nb.papers.spat import spat
from spat_nb.studies.study import Arm, Study
from spat_nb.training.objectives import pgd_at
from spat_nb.training.tricks import EMA, awp

S, M = 15.0, 0.2  # the official code's values for CIFAR-10
he, sphere = partial(pgd_at, loss=margin_ce(M, S)), dict(head=partial(Hypersphere, scale=S))


def averaged(job):
    return [EMA(look=job.look())]


study = Study(
    "combine",
    "Do SPAT, hypersphere embedding and the usual tricks add up?",
    {
        "PGD-AT": Arm(pgd_at),
        "SPAT": Arm(partial(spat, a=0.1)),
        "HE": Arm(he, slots=sphere),
        "SPAT + HE": Arm(partial(spat, a=0.1, objective=he), slots=sphere),
        "PGD-AT + AWP + EMA": Arm(awp(pgd_at, 0.01), callbacks=averaged),
        "HE + AWP + EMA": Arm(awp(he, 0.01), slots=sphere, callbacks=averaged),
        "SPAT + HE + AWP + EMA": Arm(
            partial(spat, a=0.1, objective=awp(he, 0.01)), slots=sphere, callbacks=averaged
        ),
    },
)
