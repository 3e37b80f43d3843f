"Does a robust network tell more of its training images?"

import math
from functools import partial

from spat_nb.attacks.attack import pgd
from spat_nb.core.rng import generator
from spat_nb.papers.rpg import privacy
from spat_nb.studies.claims import Claim, extra_gain
from spat_nb.studies.study import Arm, Study


def told(model, job, record):
    "What it tells: see `privacy`"
    return privacy(model, job.open(), pgd(job.ball, 10), generator=generator(job.seed))


def same_weights(d):
    return math.log(d["extra"]["intensity"])


def two_trainings(a, b):
    return math.log(a["extra"]["loudest_attacked"] / b["extra"]["loudest"])


def claims(paper="RPG", R="rpg"):
    "What is said of robustness and privacy, and what is measured instead"
    score = "membership score, split threshold: {}, points"
    both = ("PGD-AT", "standard")
    yield Claim(
        paper,
        "PGD-AT tells more of its training images",
        score.format("PGD-AT - standard"),
        R,
        both,
        partial(extra_gain, key="split"),
    )
    yield Claim(
        paper,
        "its attacked images are louder than its clean ones",
        "logarithm of the intensity",
        R,
        ("PGD-AT",),
        same_weights,
    )
    yield Claim(
        paper,
        "its loudest image is louder than plain training's",
        "logarithm of the ratio of two trainings",
        R,
        both,
        two_trainings,
    )


study = Study(
    "rpg",
    "Does a robust network tell more of its training images?",
    {
        "standard": Arm({"objective": "standard", "best": "clean"}, extra=told),
        "PGD-AT": Arm(extra=told),
    },
    sizes={"laptop": {"strong": "lean", "judged": 50, "trusted": 32}},
    claims=tuple(claims()),
)
