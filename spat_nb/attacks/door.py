"""What every attack does before it searches, and undoes after it: checks, eval mode, threads"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor

from ..core.checks import check_images, check_labels
from ..core.evalmode import attack_mode
from ..core.protocols import AttackFunction, ModelFunction
from ..core.tensors import own
from ..core.threads import fitting_threads
from .gradients import watched

__all__ = ["door", "misfits"]


@contextmanager
def door(
    # pixels (b,ch,h,w) to logits (b,c); a network, or any callable around networks
    model: ModelFunction,
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    y: Tensor,  # (b,) labels or (b,c) probabilities
):  # gives what to run, `x` without its graph in float32 or float64, and `y`
    """What an attack does first, and undoes in the end: refuse what does not fit (TypeError or
    ValueError), eval mode, as many threads as the work is worth, a warning where gradients were
    not finite
    """
    check_labels(y, len(check_images(x)))
    with attack_mode(model) as m, fitting_threads(model, x), watched():
        yield m, own(x), own(y)


def misfits(
    attack: AttackFunction,  # any attack; of a `Cascade` every member is asked
    x: Tensor | None = None,  # (b,...) images; None: only what can be said without them
):
    """Refuse an attack that would refuse these images, or that works towards the very label it is
    given, before anything has run. TypeError or ValueError
    """
    members = getattr(attack, "members", None)
    for a in members.values() if isinstance(members, dict) else ():
        misfits(a, x)
    if x is not None and hasattr(attack, "fits"):
        attack.fits(x)
    loss = getattr(attack, "loss", None)
    won = getattr(loss, "won", None)
    if won is not None and won(torch.eye(4), torch.arange(4)).any():
        raise ValueError(
            f"{getattr(loss, '__name__', loss)} has won where the model answers the label that it"
            " is given, and here that is the true one; give the wanted labels by a function, such"
            " as lambda model, x, y: attack(model, x, (y+1) % 10)."
        )
