"""Images that are mirrored in every second epoch: what random flips leave to chance, in turn"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.rng import generator
from .events import Callback

__all__ = ["AlternatingFlips"]


class AlternatingFlips(Callback):
    """Mirror each image in every second epoch; the seed of the run draws which half begins so.

    Random flips show the same face of an image in two epochs half of the time; this way any two
    show both (Jordan 2024, arXiv:2404.00498). It needs an augmentation that does not mirror,
    Recipe(callbacks='AlternatingFlips', augment='crop_flip(pad=4, flip=False)') say.

    ValueError where it does, or where the training images do not say which a batch holds

    Raises
    ------
    ValueError
        where it does, or where the training images do not say which a batch holds
    """

    # a killed run goes on only with it
    decides = True

    def __init__(self):
        self.first = torch.zeros(0, dtype=torch.bool)  # (n,): mirrored in epochs 0, 2, ...

    def before_fit(self, learner):
        if sum(isinstance(c, AlternatingFlips) for c in learner.callbacks) > 1:
            raise ValueError(
                "callbacks has AlternatingFlips twice: two mirrors are none; give one."
            )
        augment = getattr(learner.train, "augment", None)
        if getattr(augment, "flip", False):
            raise ValueError(
                f"augment is {augment}, which mirrors at random already; give it flip=False beside"
                " AlternatingFlips."
            )
        self.first = torch.rand(learner.train.n, generator=generator(learner.seed)) < 0.5

    def before_step(self, learner):
        learner.x = mirrored(learner.x, self.first[learner.indices] ^ bool(learner.epoch % 2))


def mirrored(
    x: Tensor,  # (b,ch,h,w)
    which: Tensor,  # (b,) bool
) -> Tensor:  # of the same shape
    "Those of the images that are asked for, mirrored from left to right"
    return torch.where(which.to(x.device)[:, None, None, None], x.flip(-1), x)
