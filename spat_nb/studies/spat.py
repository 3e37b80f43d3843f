"""SPAT, our reading of the abstract: does it help to smooth the label where the training examples
are made?
"""

import hashlib
from dataclasses import replace
from functools import partial
from statistics import correlation

import torch

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.losses import ce
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.files import load_tree, save_tree
from spat_nb.core.rng import generator
from spat_nb.core.tensors import logits
from spat_nb.papers.spat import flip_rates, preserving
from spat_nb.papers.spat_meaning import (
    ambiguity,
    class_directed,
    matched,
    oracle,
    shared_index,
    strength,
)
from spat_nb.studies.claims import Claim, accuracy_of, gain
from spat_nb.studies.study import Arm, Study
from spat_nb.training.building import build_model
from spat_nb.training.objectives import pgd_at

SWEEP = (0.1, 0.2, 0.3)


def witness(job):
    """A PGD-AT network of another seed that judges the images of all rows; trained once for each
    size, then read
    """
    recipe, data = job.usual.but(seed=1000), job.open()
    mark = hashlib.sha1(recipe.text().encode()).hexdigest()[:12]
    folder = job.home.parent.parent / ".work" / "spat" / job.size_name
    path = folder / f"judge-{mark}.safetensors"
    net = build_model(recipe, data.train).to(job.device)
    if path.is_file():
        net.load_state_dict(load_tree(path))
        return net
    attack = pgd(job.ball, job.size.steps)
    job.fitted(net, data.train, pgd_at, attack, lr=recipe.lr, seed=1000, quiet=True)
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
    images["random signs"] = signs(x, images["PGD"], job.ball.eps)
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


SOFT = "pgd_at(loss=smoothed(loss=ce, a=0.1))"
arm = partial(Arm, extra=diagnose)


def follow_up(s, b):
    """Over the classes: correlation of the share of steps in which p_y rose with the gain in
    accuracy under AutoAttack; 0 where one of them does not vary
    """
    rate = [s["extra"]["flips"]["0.1"][c]["p_y rose"] for c in s["classes"]]

    def acc(d):
        return [
            k / n
            for k, n in zip(d["attacks"]["aa"]["class_correct"], d["attacks"]["aa"]["class_n"])
        ]

    more = [u - v for u, v in zip(acc(s), acc(b))]
    return correlation(rate, more) if min(len({*rate}), len({*more})) > 1 else 0.0


def claims(paper="SPAT (our reading)", S="SPAT a=.1", B="PGD-AT"):
    "What the paper says, and what is measured instead"

    def seen(kind, k, d):
        return d["extra"]["images"][kind][k]

    yield Claim(
        paper,
        "attacked training images change meaning",
        "an independent network loses the label: PGD - random signs, points",
        "spat",
        (B,),
        lambda d: 100 * (seen("random signs", "kept", d) - seen("PGD", "kept", d)),
    )
    yield Claim(
        paper,
        "its images keep their meaning, beyond being weaker",
        "an independent network keeps the label: SPAT - PGD of its strength, points",
        "spat",
        (B,),
        lambda d: 100 * (seen("0.1", "kept", d) - seen("matched 0.1", "kept", d)),
    )
    yield Claim(
        paper,
        "they are less ambiguous",
        "entropy of that network: PGD of the same strength - SPAT, nats",
        "spat",
        (B,),
        lambda d: seen("matched 0.1", "entropy", d) - seen("0.1", "entropy", d),
    )
    yield Claim(
        paper,
        "it perturbs shared pixels",
        "shared-pixel index M3: SPAT - PGD",
        "spat",
        (B,),
        lambda d: seen("0.1", "M3", d) - seen("PGD", "M3", d),
    )
    for k, more in {
        B: "",
        "outer smoothing .1": ", beyond smoothing labels",
        "matched strength": ", beyond being weaker",
    }.items():
        yield gain(paper, f"it improves robustness{more}", "spat", S, k)
    yield Claim(
        paper,
        "and not under PGD alone",
        "pgd20 less aa: PGD-AT - SPAT, points",
        "spat",
        (S, B),
        lambda s, b: (
            accuracy_of(b, "pgd20")
            - accuracy_of(b, "aa")
            - accuracy_of(s, "pgd20")
            + accuracy_of(s, "aa")
        ),
    )
    yield Claim(
        paper,
        "flips explain which classes change (ours)",
        "correlation over classes, flip rate and change under aa, not 0",
        "spat",
        (S, B),
        follow_up,
        either=True,
    )


study = Study(
    "spat",
    "Does it help to smooth the label where the training examples are made (SPAT, our reading of"
    " the abstract)?",
    {
        "PGD-AT": arm(),
        "SPAT a=.1": arm({"objective": "spat(a=0.1)"}),
        "SPAT a=.2": arm({"objective": "spat(a=0.2)"}),
        "SPAT a=.3": arm({"objective": "spat(a=0.3)"}),
        "outer smoothing .1": arm({"objective": SOFT}),
        "SPAT a=.1 and outer .1": arm({"objective": f"spat(a=0.1, objective={SOFT})"}),
        "matched strength": arm(
            {"objective": "at_strength(a=0.1)"},
            note=(
                "PGD-AT whose eps is set for every batch so that its mean adversarial cross-entropy"
                " is that of SPAT a=.1"
            ),
        ),
        "shared pixels (S3)": arm(
            {"objective": "spat_shared(t=0.5)", "compile": False},
            note="K backward passes at every step, in one vectorised call",
        ),
    },
    claims=tuple(claims()),
)
