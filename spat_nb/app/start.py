"""Where the playground opens: on the first attack that succeeds"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spat_nb.attacks.attack import Attack
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.tensors import logits

IMAGES = 30  # that are tried, at most
RADII = (1.0, 1.5, 2.5)  # that are tried, in units of the usual radius
SURE = 0.5  # from here on the wrong answer is one that a reader sees


class Start(NamedTuple):
    "What is shown first"

    network: str  # its name in the menu
    image: int  # its number
    eps: float  # radius of the ball


def belief_in_wrong(
    model: Callable,  # pixels to logits
    x: Tensor,  # (1,ch,h,w) one image
    y: Tensor,  # (1,) its label
    attack: Attack,  # on it
) -> float:  # in [0,1]
    """Probability of the wrong answer that an attack wins; 0 where the network holds, or was wrong
    before

    Parameters
    ----------
    model : Callable
        pixels to logits
    x : Tensor
        (1,ch,h,w) one image
    y : Tensor
        (1,) its label
    attack : Attack
        on it

    Returns
    -------
    float
        in [0,1]
    """
    with eval_mode(model):
        x_adv = attack(model, x, y)
        with torch.no_grad():
            p = logits(model, torch.cat([x, x_adv])).softmax(1)
    before, after = p.argmax(1).tolist()
    return p[1, after].item() if before == int(y) and after != int(y) else 0.0


def first_fooled(
    names: list,  # of the networks, in the order in which they are tried
    model_of: Callable,  # name -> network
    x: Tensor,  # (n,ch,h,w) images
    y: Tensor,  # (n,) labels
    attack_at: Callable,  # eps -> Attack
    eps: float,  # the usual radius
) -> Start:
    """The first network, radius and image at which the attack succeeds clearly.

    Where none does, what comes nearest; the usual radius and image 0 where no network is fooled at
    all, or the attack cannot run.

    Parameters
    ----------
    names : list
        of the networks, in the order in which they are tried
    model_of : Callable
        name -> network
    x : Tensor
        (n,ch,h,w) images
    y : Tensor
        (n,) labels
    attack_at : Callable
        eps -> Attack
    eps : float
        the usual radius

    Returns
    -------
    Start
    """
    best, most = Start(names[0], 0, eps), 0.0
    for name in names:
        model = model_of(name)
        for radius in (share * eps for share in RADII):
            for k in range(min(len(x), IMAGES)):
                try:
                    sure = belief_in_wrong(model, x[k : k + 1], y[k : k + 1], attack_at(radius))
                except (ValueError, TypeError, RuntimeError):
                    return best  # the page itself says what is wrong
                if sure > most:
                    best, most = Start(name, k, radius), sure
                if most >= SURE:
                    return best
        if most > 0:
            return best
    return best
