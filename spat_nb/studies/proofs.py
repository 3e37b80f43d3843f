"What does training by bounds prove, and what does it cost?"

from functools import partial

from spat_nb.attacks.balls import Linf
from spat_nb.attacks.certify import certify
from spat_nb.studies.claims import Claim, extra_gain
from spat_nb.studies.study import Arm, Study

RADII = (0.05, 0.1)  # at which images are certified; the second is that of the training
N = 100  # images


def proved(model, job, record):
    "Share of test images that CROWN certifies at each radius, and the clean accuracy of all"
    x, y = job.open().test.subset(N).tensors()
    shares = {f"{e:g}": certify(model, x, y, Linf(e)).double().mean().item() for e in RADII}
    return {**shares, "clean": record.accuracy()}


def at_least(share, radius):
    def value(d):
        return 100 * (d["extra"][radius] - share)

    return value


def claims(paper="CROWN-IBP", S="proofs"):
    "What is said of training by bounds"
    certified = "certified by CROWN, eps {}: {}, points"
    both = ("CROWN-IBP", "PGD-AT")
    yield Claim(
        paper,
        "it is certified on at least 80% at eps .05",
        certified.format(".05", "CROWN-IBP - 80"),
        S,
        ("CROWN-IBP",),
        at_least(0.8, "0.05"),
    )
    yield Claim(
        paper,
        "it is certified on more images than PGD-AT",
        certified.format(".1", "CROWN-IBP - PGD-AT"),
        S,
        both,
        partial(extra_gain, key="0.1"),
    )
    yield Claim(
        paper,
        "the tighter bound helps: more than IBP",
        certified.format(".1", "CROWN-IBP - IBP"),
        S,
        ("CROWN-IBP", "IBP"),
        partial(extra_gain, key="0.1"),
    )
    yield Claim(
        paper,
        "a proof costs clean accuracy",
        "clean: PGD-AT - CROWN-IBP, points",
        S,
        both[::-1],
        partial(extra_gain, key="clean"),
    )


study = Study(
    "proofs",
    "What does training by bounds prove, and what does it cost?",
    {
        "PGD-AT": Arm(extra=proved),
        "IBP": Arm({"objective": "IBP", "best": "last"}, extra=proved),
        "CROWN-IBP": Arm({"objective": "CrownIBP", "best": "last"}, extra=proved),
    },
    sizes={
        "laptop": {
            "ball": "Linf(0.1)",
            "epochs": 25,
            "lr": 0.05,
            "strong": "lean",
            "judged": 100,
            "trusted": 32,
        }
    },
    claims=tuple(claims()),
)
