"""What the playground offers: attacks, balls, radii"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.balls import L1, L2, Ball, Linf
from spat_nb.attacks.losses import margin
from spat_nb.attacks.steps import apgd, mim


def random_point(ball, steps, **kw):
    "No steps at all: a random point of the ball, for comparison"
    return pgd(ball, 0, **kw)


def one_step(ball, steps, **kw):
    "FGSM, whatever the number of steps"
    return fgsm(ball, **kw)


ATTACKS: dict[str, Callable[..., Attack]] = {
    "PGD": pgd,
    "PGD on the margin (CW)": partial(pgd, loss=margin),
    "APGD": apgd,
    "MIM (momentum)": mim,
    "FGSM (one step)": one_step,
    "a random point": random_point,
}


# name -> (ball, how its radius goes with the one of Linf)
BALLS: dict[str, tuple[type[Ball], float]] = {
    "Linf: every pixel by eps": (Linf, 1.0),
    "L2: Euclidean length eps": (L2, 0.5),
    "L1: sum of changes eps": (L1, 0.3),
}


def reach(
    name: str,  # key of `BALLS`
    eps: float,  # radius for Linf
    pixels: int,  # of an image, all channels
) -> float:  # a radius of about the same difficulty
    """eps, .5 eps sqrt(n), .3 eps n: the factors are taken from what papers use side by side
    (8/255, 0.5 and 12 on CIFAR-10)

    Parameters
    ----------
    name : str
        key of `BALLS`
    eps : float
        radius for Linf
    pixels : int
        of an image, all channels

    Returns
    -------
    float
        a radius of about the same difficulty
    """
    kind, factor = BALLS[name]
    return factor * eps * (math.sqrt(pixels) if kind is L2 else pixels if kind is L1 else 1)
