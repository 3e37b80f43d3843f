"""SPAT, our reading of the abstract: does it help to smooth the label where the training examples
are made?
"""

from dataclasses import replace
from functools import partial

import torch

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.losses import ce, smoothed
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.files import load_tree, save_tree
from spat_nb.core.identity import fingerprint
from spat_nb.core.rng import generator
from spat_nb.core.tensors import logits
from spat_nb.papers.spat import flip_rates, preserving, spat
from spat_nb.papers.spat_shared import (
    ambiguity,
    at_strength,
    class_directed,
    matched,
    oracle,
    shared_index,
    spat_shared,
    strength,
)
from spat_nb.studies.study import Arm, Study
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at

SWEEP = (0.1, 0.2, 0.3)


def witness(job):
    """A PGD-AT network of another seed that judges the images of all arms; trained once for each
    size, then read
    """
    size, data = job.size, job.open()
    recipe = fingerprint(
        [size.data, size.net, size.epochs, size.lr, size.batch, pgd_at, pgd(job.ball, size.steps)],
        ours=False,
    )
    path = (
        job.home.parent.parent
        / ".work"
        / "spat"
        / job.size_name
        / f"judge-{recipe[:12]}.safetensors"
    )
    torch.manual_seed(1000)
    net = size.net(data.train).to(job.device)
    if path.is_file():
        net.load_state_dict(load_tree(path))
        return net
    Learner(
        net,
        data.train,
        pgd_at,
        pgd(job.ball, size.steps),
        size.epochs,
        size.lr,
        **job.how,
        seed=1000,
    ).fit()
    save_tree(path, net.state_dict())
    return net


def measures(model, judge, x, x_adv, y) -> dict:
    "M1 to M4 and the strength of one batch of images"
    said, (entropy, lead) = oracle({"": judge}, model, x_adv, y), ambiguity(judge, x_adv)
    with torch.no_grad(), eval_mode(model):
        hard = ce(logits(model, x_adv), y)
    v = dict(
        CE=hard,
        kept=torch.tensor(said.kept.values),
        same=torch.tensor(said.same.values),
        entropy=entropy,
        lead=lead,
        length=(x_adv - x).flatten(1).norm(dim=1),
        M3=shared_index(model, x, x_adv).nan_to_num(),
        M4=class_directed(model, x, x_adv),
    )
    return {k: round(t.double().mean().item(), 5) for k, t in v.items()}


def signs(x, x_adv, eps):
    """Random signs, as long in the mean as `x_adv`-x: where the box cuts them off, the others go
    beyond `eps`
    """
    sign = torch.randint(0, 2, x.shape, generator=generator(1)).mul(2).sub(1).to(x)

    def length(v):
        return (v - x).flatten(1).norm(dim=1).mean()

    return (x + eps * length(x_adv) / length((x + eps * sign).clamp(0, 1)) * sign).clamp(0, 1)


def diagnose(model, job, record, n=512) -> dict:
    """Flip rates by class on training images; M1 to M4 of plain, smoothed and random examples on
    validation images that nobody was trained on
    """
    data, judge = job.open(), witness(job)

    def attack():
        return pgd(job.ball, job.size.steps, generator=generator(0, job.device))

    xt, yt = (v[:n] for v in data.train.with_(augment=None, shuffle=False).tensors())
    x, y = (v[:n] for v in data.valid.tensors())
    images = {
        "PGD": attack()(model, x, y),
        **{str(a): preserving(attack(), a)(model, x, y) for a in SWEEP},
    }
    images["matched 0.1"] = replace(
        matched(model, x, y, attack(), strength(model, x, y, preserving(attack(), 0.1))),
        generator=generator(0, job.device),
    )(model, x, y)
    images["random signs"] = signs(x, images["PGD"], job.size.eps)
    rates = {
        str(a): (
            flip_rates(model, xt, yt, attack(), a, list(record.classes)).round(5).to_dict("index")
        )
        for a in SWEEP
    }
    return dict(
        n_train=len(yt),
        n_valid=len(y),
        flips=rates,
        images={k: measures(model, judge, x, v, y) for k, v in images.items()},
    )


soft = partial(pgd_at, loss=smoothed(ce, 0.1))
arm = partial(Arm, extra=diagnose)
study = Study(
    "spat",
    "Does it help to smooth the label where the training examples are made (SPAT, our reading of"
    " the abstract)?",
    {
        "PGD-AT": arm(pgd_at),
        "SPAT a=.1": arm(partial(spat, a=0.1)),
        "SPAT a=.2": arm(partial(spat, a=0.2)),
        "SPAT a=.3": arm(partial(spat, a=0.3)),
        "outer smoothing .1": arm(soft),
        "SPAT a=.1 and outer .1": arm(partial(spat, a=0.1, objective=soft)),
        "matched strength": arm(
            partial(at_strength, a=0.1),
            note=(
                "PGD-AT whose eps is set for every batch so that its mean adversarial cross-entropy"
                " is that of SPAT a=.1"
            ),
        ),
        "shared pixels (S3)": arm(
            partial(spat_shared, t=0.5),
            change=dict(compile=False),
            note="K backward passes at every step, in one vectorised call",
        ),
    },
)
