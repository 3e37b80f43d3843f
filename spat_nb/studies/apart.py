"Does a perturbation that is learned keep one-step training from collapse, and beat a random start?"

from spat_nb.studies.claims import Claim, gain
from spat_nb.studies.fast import ONE_STEP, SENTRY, row
from spat_nb.studies.study import Arm, Study


def learned(note="", **slots):
    "A row of APART: the sentry asks FGSM"
    objective = f"APART({', '.join(f'{k}={v:g}' for k, v in slots.items())})"
    return row(ONE_STEP, note, objective=objective, attack="fgsm", augment=None)


def grown(d):
    "How much longer the step on the pixels is at the last look than at the first, in eps"
    looks = [h["lengths"][0] for h in d["history"] if "lengths" in h]
    return looks[-1] - looks[0]


def claims(paper="APART", A="apart"):
    "What is said of it, and what is measured instead"
    yield gain(paper, "it beats FGSM-RS for the same passes", A, "APART", "FGSM-RS")
    yield gain(paper, "... because it learns its lengths", A, "APART", "APART, lengths frozen")
    yield gain(paper, "as robust as PGD for the same passes", A, "APART", "PGD-AT")
    yield Claim(
        paper,
        "perturbations become stronger in training",
        "step on the pixels, last look - first look, in eps",
        A,
        ("APART",),
        grown,
    )


study = Study(
    "apart",
    "Does a perturbation that is learned keep one-step training from collapse?",
    {
        "PGD-AT": Arm(SENTRY, note="the house recipe, whose work all others get"),
        "FGSM-RS": row(ONE_STEP, attack="fgsm_rs"),
        "APART": learned(),
        "APART, lengths frozen": learned(
            "set by hand: a full step from a memory", a=1, w=0.25, lr=0
        ),
    },
    sizes={"laptop": {"strong": "lean", "judged": 100, "trusted": 32}},
    claims=tuple(claims()),
)
