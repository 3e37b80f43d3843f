"""AutoAttack's warnings: doubts about a model before the attack, and about the numbers after it"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.checks import check_logits
from ..core.evalmode import eval_mode
from ..core.protocols import ModelFunction
from ..core.tensors import logits
from .gradients import NoGradient, value_and_grad
from .losses import dlr_or_margin, missed, ruled_out

__all__ = ["spread", "doubts", "masked"]


def spread(model, x, times=5):
    """How far several answers to the same images lie apart: largest difference of a logit, each row
    scaled to length 1, and the number of images with two decisions
    """
    with torch.no_grad():
        z = torch.stack([logits(model, x).double() for _ in range(times)])
    z = z.masked_fill(ruled_out(z.flatten(0, 1)).view_as(z), 0)
    unit = z / z.norm(dim=2, keepdim=True).clamp(min=1e-12)
    return (unit.amax(0) - unit.amin(0)).max().item(), int(
        (z.argmax(2) != z.argmax(2)[0]).any(0).sum()
    )


def _inner(model, x):
    "How often one forward pass calls for gradients"
    from unittest.mock import patch

    grad, backward = torch.autograd.grad, torch.autograd.backward
    with (
        patch("torch.autograd.grad", wraps=grad) as a,
        patch("torch.autograd.backward", wraps=backward) as b,
    ):
        logits(model, x)
    return a.call_count + b.call_count


def _flat(model, x, y, loss):
    """On how many images, answered right, the gradient of `loss` is zero; all of them where none
    reaches the pixels
    """

    # DLR is level where the label ranks third: that one is fooled already
    def f(x):
        z = logits(model, x)
        return loss(z, y), missed(z, y)

    try:
        _, g, won = value_and_grad(f, x)
    except NoGradient:
        return len(x)
    return int(((g.flatten(1) == 0).all(1) & ~won).sum())


def doubts(
    model: ModelFunction,  # pixels (b,ch,h,w) to logits (b,c)
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    y: Tensor,  # (b,) labels
    random: bool = False,  # is the attack made for models that draw random numbers?
) -> list:  # sentences; none where there is nothing to say
    "AutoAttack's warnings about a model, before the attack (Croce & Hein 2020, code: checks.py)"
    notes, n = [], len(x)
    with eval_mode(model):
        with torch.no_grad():
            c = check_logits(logits(model, x), n).shape[1]
        d, k = (0, 0) if random else spread(model, x)
        if d > 1e-4 or k:
            notes.append(
                f"random: five answers to the same {n} images differ, by up to {d:.1g} of the"
                f" logits' length, and in the decision on {k}; use version='rand', which averages"
                " over draws."
            )
        if k := _inner(model, x):
            notes.append(
                f"dynamic: the forward pass asks for gradients {k} times; such a defence needs an"
                " attack of its own."
            )
        if c < 4:
            notes.append(
                f"few classes: DLR needs 3 classes and targeted DLR 4, the model has {c}; the"
                " margin takes their place."
            )
        if k := _flat(model, x, y, dlr_or_margin):
            notes.append(
                f"no gradient: {k} of {n} images have a zero gradient; whatever follows it does"
                " not move there."
            )
    return notes


def masked(
    accuracy: dict,  # name of each member -> accuracy after it, in the order in which they ran
) -> list:  # sentences
    """AutoAttack's warning about its own numbers: attacks with gradients missed more than .2 points
    that Square, which has none, then found
    """
    names = list(accuracy)
    i = names.index("square") if "square" in names else 0
    lost = accuracy[names[i - 1]] - accuracy["square"] if i else 0
    return (
        [
            f"masked: Square, without gradients, takes accuracy from"
            f" {accuracy[names[i - 1]]:.2%} to {accuracy['square']:.2%}; the gradients may mislead"
            " the other attacks, try an adaptive one."
        ]
        if lost > 0.002
        else []
    )
