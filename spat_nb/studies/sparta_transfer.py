"""Sparta, our reconstruction from the abstract: do gates help when they are frozen and moved to
another data set, or to a deeper network?
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from spat_nb.attacks.attack import pgd
from spat_nb.data.sources import Data
from spat_nb.models.layers import conv
from spat_nb.models.networks import Net, PreActResNet34
from spat_nb.papers.gate_moves import by_width, freeze, gates, move
from spat_nb.papers.sparta import Sparta
from spat_nb.studies.claims import gain
from spat_nb.studies.study import Arm, Study
from spat_nb.training.building import open_data
from spat_nb.training.callbacks import Validate
from spat_nb.training.objectives import pgd_at, standard


def eight(batches):
    """MNIST's images as digits has them: padded to 32 x 32 and averaged over 4 x 4 pixels, which
    gives 8 x 8
    """
    x = F.avg_pool2d(F.pad(batches.x.float(), [2] * 4), 4)
    return batches.with_(x=x.round().byte())


def random_gates(net):
    "`net` with random taps in all gates, of the size that keeps the variance"
    for m in gates(net).values():
        nn.init.normal_(m.around[0].weight, 0, 1 / m.around[0].weight[0].numel() ** 0.5)
    return net


def shallow(job, act):
    return job.net(act=act)


def deep(job, act):
    """More layers of the same widths.

    Digits: two of each where SmallCNN has one, six activations instead of three; else ResNet-34 for
    ResNet-18
    """
    if job.size.data != "digits":
        return PreActResNet34(width=next(shallow(job, act).parameters()).shape[0], act=act)
    widths, body = (1, 16, 16, 32, 32, 64, 64), []
    for i, (ni, no) in enumerate(zip(widths, widths[1:])):
        body += [conv(ni, no, 3, 2 if i in (2, 4) else 1), nn.BatchNorm2d(no), act(no)]
    return Net(nn.Sequential(*body), 64, 10, channels=1)


def plain(channels):
    return nn.ReLU()


def same(job):
    return open_data(job.recipe, job.device)


def other(job):
    """SVHN for CIFAR-10; for digits MNIST at 8 x 8: 1000 images to train on, 180 to choose by, 360
    to judge by
    """
    if job.size.data != "digits":
        return open_data(job.recipe.but(data="svhn"), job.device)
    d = open_data(job.recipe.but(data="mnist", n=1000), job.device)
    return Data(*map(eight, (d.train, d.valid.subset(180), d.test.subset(360))))


def fitted(job, net, data, objective=pgd_at, seed=None):
    "(network at its best validation, history, step) by the study's recipe"
    look = Validate(data.valid, pgd(job.ball, 10))
    done = job.fitted(
        net.to(job.device),
        data.train,
        objective,
        pgd(job.ball, job.size.steps),
        validate=look,
        best="robust",
        seed=job.seed if seed is None else seed,
        quiet=True,
    )
    return done.model, done.history, done.step


def source(job, objective=pgd_at):
    "The network whose gates are moved; another seed than the target's"
    torch.manual_seed(1000 + job.seed)
    return fitted(job, shallow(job, by_width(Sparta)), same(job), objective, 1000 + job.seed)[0]


def noise(job):
    "Gates that nobody has trained"
    torch.manual_seed(1000 + job.seed)
    return random_gates(shallow(job, by_width(Sparta)))


def target(job, data, build, act=Sparta, given=None):
    "Train the target network; with gates that are `given`, those are moved in and stay frozen"
    job.data = data(job)
    donor = given(job).to(job.device) if given else None
    torch.manual_seed(job.seed)
    net = build(job, by_width(act) if act is Sparta else act).to(job.device)
    return fitted(job, freeze(move(donor, net)) if donor is not None else net, job.data)


def arm(data, build, **kw):
    return Arm(train=partial(target, data=data, build=build, **kw))


def claims(paper="Sparta (our reconstruction)", T="sparta_transfer"):
    "What the paper says, and what is measured instead"
    for to, what in (("other data", "data set"), ("deeper", "network")):
        for k in ("random gates", "gates of standard", "ReLU"):
            if (to, k) != ("deeper", "gates of standard"):
                yield gain(
                    paper, f"a gate moves to another {what}", T, f"{to}: frozen gates", f"{to}: {k}"
                )
    yield gain(
        paper,
        "... at most 2 points below joint training",
        T,
        "other data: frozen gates",
        "other data: joint",
        least=-2.0,
    )


study = Study(
    "sparta_transfer",
    "Do frozen gates help on other data, or in a deeper network (Sparta, our reconstruction from"
    " the abstract)?",
    {
        "other data: ReLU": arm(other, shallow, act=plain),
        "other data: joint": arm(other, shallow),
        "other data: frozen gates": arm(other, shallow, given=source),
        "other data: random gates": arm(other, shallow, given=noise),
        "other data: gates of standard": arm(
            other, shallow, given=partial(source, objective=standard)
        ),
        "deeper: ReLU": arm(same, deep, act=plain),
        "deeper: frozen gates": arm(same, deep, given=source),
        "deeper: random gates": arm(same, deep, given=noise),
    },
    # averaging leaves thin strokes pale: .15 is too much for MNIST at 8 x 8
    sizes={"laptop": {"ball": "Linf(0.1)"}},
    claims=tuple(claims()),
)
