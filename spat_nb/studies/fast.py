"What keeps one-step training from collapse, each for the work of the same PGD training"

# Work is counted in forward passes of the same batch (`training.costs.passes`): a backward pass to
# the pixels is one, to the weights two, the double backward pass of GradAlign what it takes.

from functools import partial

from spat_nb.studies.claims import gain
from spat_nb.studies.study import Arm, Study

# forward passes that a step of the weights takes; PGD with K steps takes 2 K + 3
ONE_STEP = 5
NUAT = 8
FREE = 3
GRAD_ALIGN = 16
REPLAYS = 4
SENTRY = {"callbacks": "Sentry"}


def work_of(steps):
    "Forward passes of one PGD step"
    return 2 * steps + 3


def equal_work(size, cost, **changes):
    "As many epochs as PGD's work allows, with as many looks at the validation images"
    epochs = max(1, round(size.epochs * work_of(size.steps) / cost))
    return {**SENTRY, "epochs": epochs, "look": epochs / size.epochs, **changes}


def row(cost, note="", **changes):
    return Arm(partial(equal_work, cost=cost, **changes), note=note)


def claims(paper="Fast training", F="fast"):
    "What is said of one-step training, and what is measured instead"
    yield gain(paper, "N-FGSM beats FGSM-RS", F, "N-FGSM", "FGSM-RS")
    yield gain(paper, "... by the published 4.7 points", F, "N-FGSM", "FGSM-RS", least=4.7)
    yield gain(paper, "ZeroGrad beats FGSM-RS", F, "ZeroGrad", "FGSM-RS")
    yield gain(paper, "GradAlign beats FGSM-RS", F, "GradAlign", "FGSM-RS")
    yield gain(paper, "NuAT beats N-FGSM", F, "NuAT", "N-FGSM")
    yield gain(paper, "Free beats FGSM-RS", F, "Free, 4 replays", "FGSM-RS")
    yield gain(paper, "PGD beats N-FGSM for the same work", F, "PGD-AT", "N-FGSM")


study = Study(
    "fast",
    "What keeps one-step training from collapse, and how far does it come for the work of PGD?",
    {
        "PGD-AT": Arm(SENTRY, note="the house recipe, whose work all others get"),
        "PGD-2": row(work_of(2), attack="pgd(steps=2)"),
        "FGSM": row(ONE_STEP, attack="fgsm"),
        "FGSM-RS": row(ONE_STEP, attack="fgsm_rs"),
        "N-FGSM": row(ONE_STEP, attack="n_fgsm"),
        "ZeroGrad": row(ONE_STEP, attack="zerograd"),
        "GradAlign": row(
            GRAD_ALIGN,
            "a double backward pass, which a compiled network cannot do",
            objective="grad_align(lam=0.2)",
            attack="fgsm",
            compile=False,
        ),
        "NuAT": row(NUAT, objective="NuAT(lam=4.5)", attack="fgsm(start=coins(k=0.5))"),
        "Free, 4 replays": row(
            FREE,
            "each epoch shows every batch four times; the sentry asks FGSM",
            objective="Free",
            attack="fgsm",
            replays=REPLAYS,
        ),
    },
    # forty-five runs are to fit into half an hour of one core: the lean AutoAttack, on 100 images
    sizes={
        "laptop": {"strong": "lean", "judged": 100},
        "mini": {"strong": "lean", "tested": 2000},
    },
    claims=tuple(claims()),
)
