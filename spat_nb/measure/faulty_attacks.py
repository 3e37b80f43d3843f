"""Planted faults: attacks with one known thing wrong"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from spat_nb.attacks.threat import Ball

from ..attacks.ascent import at_x
from ..attacks.attack import pgd
from ..attacks.losses import ce
from ..core.protocols import ModelFunction

__all__ = ["around_start", "rescaled", "as_the_net_sees", "rude"]


def around_start(
    model: ModelFunction,  # pixels to logits
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    y: Tensor,  # (b,) labels
    ball: Ball,  # threat model
    steps: int = 10,  # of PGD
) -> Tensor:  # x_adv
    "PGD, projected around its own random start: it may end 2 eps away"
    return pgd(ball, steps, start=at_x)(model, ball.uniform(x), y)


def rescaled(
    model: ModelFunction,  # pixels to logits
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    y: Tensor,  # (b,) labels
    ball: Ball,  # threat model
    # on eps: 1/255 for one division too many, the pixels' deviation for eps in normalised units
    factor: float = 2.0,
    steps: int = 10,  # of PGD
) -> Tensor:  # x_adv
    "PGD in a ball of another size than it says"
    return pgd(replace(ball, eps=factor * ball.eps), steps)(model, x, y)


def as_the_net_sees(
    model: ModelFunction,  # pixels to logits
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    y: Tensor,  # (b,) labels
    ball: Ball,  # threat model
    mean: float = 0.305,  # of the pixels; default: digits
    std: float = 0.376,  # their deviation, likewise
    steps: int = 10,  # of PGD
) -> Tensor:  # normalised images, no pixels
    "PGD that returns what the first layer makes of its images"
    return (pgd(ball, steps)(model, x, y) - mean) / std


def rude(
    model: nn.Module,  # pixels to logits
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    y: Tensor,  # (b,) labels
    ball: Ball,  # threat model
    steps: int = 10,  # of PGD
) -> Tensor:  # x_adv
    "PGD that leaves the network in train mode, and gradients in the weights"
    ce(model.eval()(x), y).sum().backward()
    model.train()
    return pgd(ball, steps)(model, x, y)
