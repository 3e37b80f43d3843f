"Does a kernel in place of the ball make networks robust, for the work of PGD?"

from functools import partial

from spat_nb.studies.claims import gain
from spat_nb.studies.study import Arm, Study

REACH = (
    0.15  # that, roughly, AMSGrad's steps can go in a pixel, as fifteen of .01 in the paper's code
)


def arks(size, sigma):
    "As many steps as the attack of the size has, which reach as far as the code's"
    return {"objective": f"arks(sigma={sigma}, steps={size.steps}, lr={REACH / size.steps:g})"}


def claims(paper="ARKS", A="arks"):
    "What is said of it, and what is measured instead"
    for sigma in (0.5, 1.0):
        yield gain(
            paper, f"it makes networks robust, sigma {sigma}", A, f"ARKS {sigma}", "standard"
        )
        yield gain(paper, f"... as robust as PGD-AT, sigma {sigma}", A, f"ARKS {sigma}", "PGD-AT")


study = Study(
    "arks",
    "Does a kernel in place of the ball make networks robust, for the work of PGD?",
    {
        "standard": Arm({"objective": "standard", "best": "clean"}),
        "PGD-AT": Arm(),
        "ARKS 0.5": Arm(partial(arks, sigma=0.5), note="the code's width for Fashion-MNIST"),
        "ARKS 1.0": Arm(partial(arks, sigma=1.0)),
    },
    sizes={"laptop": {"strong": "lean", "judged": 100, "trusted": 32}},
    claims=tuple(claims()),
)
