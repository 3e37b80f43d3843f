"""What the playground offers: attacks, balls, radii, an image of one's own"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from spat_nb.app.board import ink_for
from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.balls import L1, L2, Ball, Linf
from spat_nb.attacks.losses import margin
from spat_nb.attacks.steps import apgd, mim


def own_image(
    data: bytes,  # a PNG, JPEG, ... file
    shape: tuple,  # (ch,h,w) of the network's images
    name="the file",  # for the error
) -> Tensor:  # (1,ch,h,w) pixels in [0,1]
    """A file as an image of this shape; with one channel: white ink on black, filling the frame.

    Parameters
    ----------
    data : bytes
        a PNG, JPEG, ... file
    shape : tuple
        (ch,h,w) of the network's images
    name
        for the error (default: "the file")

    Returns
    -------
    Tensor
        (1,ch,h,w) pixels in [0,1]

    Raises
    ------
    ValueError
        where it is no image, or shows nothing
    """
    from PIL import Image, ImageOps

    from spat_nb.data.images import to_rgb, upright

    ch, h, w = shape
    try:
        with Image.open(io.BytesIO(data)) as f:
            img = to_rgb(upright(f))
    except Exception as e:
        raise ValueError(
            f"{name} is no image that can be read ({type(e).__name__}); give a PNG or JPEG file."
        ) from None
    img = img.convert("L" if ch == 1 else "RGB")
    if ch == 1:
        img = ink_for(img)
    if img is None or img.getextrema() in ((0, 0), (255, 255)):
        raise ValueError(f"{name} is one even tone; give an image with something on it.")
    img = ImageOps.fit(img, (w, h), Image.Resampling.BOX)
    return (
        torch.frombuffer(bytearray(img.tobytes()), dtype=torch.uint8)
        .view(1, h, w, -1)
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def random_point(ball, steps, **kw):
    "No climb at all: a random point of the ball, for comparison"
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
