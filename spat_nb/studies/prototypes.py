"""What fixed prototypes are worth without and with adversarial training, under attacks that match
their rule
"""

from functools import partial

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.attacks.losses import ce, margin
from spat_nb.measure.evaluate import evaluate
from spat_nb.papers.prototype_attacks import Transfer, refutation
from spat_nb.papers.prototypes import pull
from spat_nb.studies.claims import Claim, accuracy_of, gain
from spat_nb.studies.study import Arm, Study

# as in the official code, CIFAR-10
PAPER = "Prototypes(points='repulsive', rule='dot', metric='linf', width=100)"
CONTROL = "Prototypes(points='random', rule='dot', metric='linf', width=100)"
CORNERS = "Prototypes(points='simplex', rule='l2', scale=3.0)"
RADII = (2, 4, 8, 16, 32, 64, 128)  # of 255
# of noise, for each of 100 copies of 20 images
DRAWS = 100


def metric_of(job):
    "In which metric the row's prototypes are compared; None where it has none"
    head = getattr(job.recipe.made("model"), "keywords", {}).get("head")
    return head and head.keywords.get("metric", head.keywords.get("rule"))


def matched(job):
    "The attacks of the lab; those of every run (cross-entropy and margin) are left out"
    metric = metric_of(job)
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

    metric = metric_of(job)
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
                pgd(job.ball, 20, job.ball.eps / 4, loss=margin), job.third(job.recipe.epochs // 2)
            ),
        ),
        "noise": noise(model, job, test.subset(min(20, test.n))),
        "margin": curve(lambda e: pgd(Linf(e), 20, e / 4, loss=margin)),
        **own,
    }


arm = partial(Arm, attacks=matched, extra=extra)
PULL = {"objective": "standard(loss=pull)", "best": "clean"}


def claims(paper="Repulsive prototypes", P="prototypes"):
    "What the paper says, and what is measured instead"

    def far(kind, e, d):
        return 100 * d["extra"][kind][e]

    yield Claim(
        paper,
        "over half robust without adversarial training",
        "aa: prototypes - 50, points",
        "prototypes",
        (P,),
        lambda d: accuracy_of(d, "aa") - 50,
    )
    yield gain(paper, "repulsion matters", "prototypes", P, "random prototypes")
    yield gain(
        paper, "repulsion matters for clean images", "prototypes", P, "random prototypes", "clean"
    )
    yield gain(paper, "better than adversarial training", "prototypes", P, "PGD-AT")
    yield Claim(
        paper,
        "better than it at large radii",
        "margin at 64/255: prototypes - PGD-AT, points",
        "prototypes",
        (P, "PGD-AT"),
        lambda a, b: far("margin", "64", a) - far("margin", "64", b),
    )
    yield Claim(
        paper,
        "the training loss is an adequate attack",
        "2 - (training loss - lowest of the attacks that match the rule), points",
        "prototypes",
        (P,),
        lambda d: (
            2
            - accuracy_of(d, "training loss")
            + min(
                accuracy_of(d, k)
                for k in ("cw20", "each class", "surrogate", "features")
                if k in d["attacks"]
            )
        ),
    )
    yield Claim(
        paper,
        "its attack arrives at chance where every image can be grey",
        "chance + 2 - training loss at 128/255, points",
        "prototypes",
        (P,),
        lambda d: 100 / len(d["classes"]) + 2 - far("training loss", "128", d),
    )
    yield gain(paper, "they help adversarial training", "prototypes", "prototypes + AT", "PGD-AT")
    yield gain(
        paper, "a simplex helps adversarial training (ours)", "prototypes", "simplex + AT", "PGD-AT"
    )


study = Study(
    "prototypes",
    "Do prototypes that are far apart make networks robust, or attacks blind?",
    {
        # no attack in training: the choice by PGD-10 would take the first epoch, whose answers are
        # bad
        "standard": arm({"objective": "standard", "best": "clean"}),
        "PGD-AT": arm(),
        "prototypes": arm({**PULL, "head": PAPER}),
        "random prototypes": arm(
            {**PULL, "head": CONTROL}, note="the control: the same without repulsion"
        ),
        "simplex": arm({"objective": "standard", "best": "clean", "head": CORNERS}),
        "prototypes + AT": arm(
            {"objective": "pgd_at(loss=pull)", "inner": "margin", "head": PAPER},
            note=(
                "the training attack climbs the margin: cross-entropy has no gradient. Checkpoints"
                " are chosen by PGD-10 on cross-entropy, which is blind to these logits: here that"
                " is nearly the clean accuracy"
            ),
        ),
        "simplex + AT": arm({"head": CORNERS}),
    },
    sizes={"mini": {"tested": 1000}},  # the matched attacks are many,
    claims=tuple(claims()),
)
