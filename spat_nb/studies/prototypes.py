"""What fixed prototypes are worth without and with adversarial training, under attacks that match
their rule
"""

from functools import partial

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.attacks.losses import ce, margin
from spat_nb.measure.evaluate import evaluate
from spat_nb.papers.prototype_attacks import Transfer, refutation
from spat_nb.papers.prototypes import Prototypes, pull
from spat_nb.studies.study import Arm, Study
from spat_nb.training.objectives import pgd_at, standard

# as in the official code, CIFAR-10
paper = partial(Prototypes, points="repulsive", rule="dot", metric="linf", width=100)
control = partial(Prototypes, points="random", rule="dot", metric="linf", width=100)
corners = partial(Prototypes, points="simplex", rule="l2", scale=3.0)
RADII = (2, 4, 8, 16, 32, 64, 128)  # of 255
# of noise, for each of 100 copies of 20 images
DRAWS = 100


def matched(job):
    "The attacks of the lab; those of every run (cross-entropy and margin) are left out"
    k = job.arm.slots["head"].keywords if "head" in job.arm.slots else {}
    metric = k.get("metric", k.get("rule"))
    return {
        n: a
        for n, a in refutation(job.ball, metric, ce if metric == "l2" else pull).items()
        if n not in ("ce", "margin")
    }


def noise(model, job, few):
    "Share of the images that are answered right wherever 10,000 draws in the ball lead"
    x, y = (t.repeat_interleave(100, 0) for t in few.tensors())
    return (
        evaluate(
            model,
            (x, y),
            job.precision,
            progress=False,
            a=pgd(job.ball, 0, restarts=DRAWS, loss=margin),
        )
        .correct("a")
        .view(-1, 100)
        .all(1)
        .double()
        .mean()
        .item()
    )


def extra(model, job, record):
    """Accuracy: of a third network's adversarial images; after 10,000 draws, of 20 images; against
    the radius, by the margin and by the training loss
    """
    test = job.open().test
    part = test.subset(min(180, test.n))

    def at(on, **a):
        return {
            k: evaluate(model, on, job.precision, progress=False, **{k: v}).accuracy(k)
            for k, v in a.items()
        }

    def curve(make):
        return {str(k): at(part, a=make(k / 255))["a"] for k in RADII}

    head = job.arm.slots.get("head")
    metric = head and head.keywords.get("metric", head.keywords.get("rule"))
    own = (
        {}
        if metric is None
        else {
            "training loss": curve(
                lambda e: refutation(Linf(e), metric, ce if metric == "l2" else pull)[
                    "training loss"
                ]
            )
        }
    )
    return {
        **at(
            part,
            transfer=Transfer(
                pgd(job.ball, 20, job.ball.eps / 4, loss=margin), job.third(job.size.epochs // 2)
            ),
        ),
        "noise": noise(model, job, test.subset(min(20, test.n))),
        "margin": curve(lambda e: pgd(Linf(e), 20, e / 4, loss=margin)),
        **own,
    }


arm = partial(Arm, attacks=matched, extra=extra)
# no attack in training: the choice by PGD-10 would take the first epoch, whose answers are bad
plain = partial(arm, best="clean")
study = Study(
    "prototypes",
    "Do prototypes that are far apart make networks robust, or attacks blind?",
    {
        "standard": plain(standard),
        "PGD-AT": arm(pgd_at),
        "prototypes": plain(partial(standard, loss=pull), slots=dict(head=paper)),
        "random prototypes": plain(
            partial(standard, loss=pull),
            slots=dict(head=control),
            note="the control: the same without repulsion",
        ),
        "simplex": plain(standard, slots=dict(head=corners)),
        "prototypes + AT": arm(
            partial(pgd_at, loss=pull),
            partial(pgd, loss=margin),
            slots=dict(head=paper),
            note=(
                "the training attack climbs the margin: cross-entropy has no slope. Checkpoints are"
                " chosen by PGD-10 on cross-entropy, which is blind to these logits: here that is"
                " nearly the clean accuracy"
            ),
        ),
        "simplex + AT": arm(pgd_at, slots=dict(head=corners)),
    },
    sizes={"mini": dict(tested=1000)},
)  # the matched attacks are many
