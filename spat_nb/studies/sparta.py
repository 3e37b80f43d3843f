"""Sparta, our reconstruction from the abstract: does an activation that looks around make networks
more robust, and is it the looking?
"""

from functools import partial

from torch import nn

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.losses import margin
from spat_nb.models.networks import PreActResNet10
from spat_nb.papers.gates import cut, held, off_centre, saturated
from spat_nb.papers.sparta import DYReLU, PSSiLU, Sparta
from spat_nb.studies.sizes import digits_net, full, narrow
from spat_nb.studies.study import Arm, Study
from spat_nb.training.objectives import pgd_at


def twins(job):
    "The margin attack, misled in no way by the gates' slope"
    climb = pgd(job.ball, 20, job.ball.eps / 4, loss=margin)
    return dict(cut=cut(climb), held=held(climb))


def gate_edges(model, job, record) -> dict:
    """By gate: share of saturated values on at most 500 test images, share of the taps' energy off
    the centre
    """
    return dict(
        saturated=saturated(model, job.open().test.tensors()[0][:500]), off_centre=off_centre(model)
    )


def short(data, **slots):
    "Half the blocks of the other studies' network: a gate takes about as long as a convolution"
    return PreActResNet10(data.c, **{"width": 8, "channels": data.shape[0], **slots})


def wider(size):
    "One channel more in the first stage: no gate adds as many parameters"
    return dict(
        net=partial(size.net, width={digits_net: 17, short: 9, narrow: 17, full: 65}[size.net])
    )


arm = partial(Arm, pgd_at)
gated = partial(arm, attacks=twins, extra=gate_edges)
study = Study(
    "sparta",
    "Does an activation that looks around make networks more robust (Sparta, our reconstruction"
    " from the abstract)?",
    {
        "ReLU": arm(),
        "SiLU": arm(slots=dict(act=nn.SiLU)),
        "PSSiLU": arm(slots=dict(act=PSSiLU)),
        "DY-ReLU": arm(slots=dict(act=DYReLU)),
        "Sparta (V2)": gated(slots=dict(act=Sparta)),
        "Sparta 1x1": gated(
            slots=dict(act=partial(Sparta, k=1)),
            note=(
                "the same machinery, but the gate sees its own place only: smoothness without space"
            ),
        ),
        "Sparta, shuffled": gated(
            slots=dict(act=partial(Sparta, shuffle=True)),
            note="each gate acts half a map away from where it looks",
        ),
        "Sparta gate-ReLU (V1d)": gated(slots=dict(act=partial(Sparta, rectify=True))),
        "gate-ReLU 1x1": gated(
            slots=dict(act=partial(Sparta, k=1, rectify=True)),
            note="V1d, but the gate sees its own place only",
        ),
        "ReLU, wider": arm(
            change=wider,
            note="one channel more in the first stage: at least as many parameters as any Sparta",
        ),
    },
    sizes={"mini": dict(tested=1000, net=short)},
)
