"""Two changes of the head after training, for the weakest class"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.protocols import AttackFunction
from .accounts import class_errors

__all__ = ["normalised", "biased", "score", "fit_power", "fit_bias"]


def normalised(
    model: nn.Module,  # with a linear `head`
    g: float,  # in [0,1]: 0 leaves the head, 1 makes all rows equally long
) -> nn.Module:  # a copy
    "I1 (ours): W_k (mean||W|| / ||W_k||)^g"
    m = copy.deepcopy(model)
    head: Any = m.head
    n = head.weight.data.norm(dim=1, keepdim=True)
    head.weight.data *= (n.mean() / n) ** g
    return m


def biased(
    model: nn.Module,  # with a linear `head`
    b: Tensor,  # (c,) added to the logits
) -> nn.Module:  # a copy
    "I2 (ours): z + b"
    m = copy.deepcopy(model)
    head: Any = m.head
    head.bias.data += b.to(head.bias.device)
    return m


def score(
    R: Tensor,  # (c,) robust accuracy of each class
) -> float:
    "The rule by which a dial is set: average plus worst"
    return (R.mean() + R.min()).item()


def fit_power(
    model: nn.Module,  # with a linear `head`
    data,  # validation `Batches`
    attack: AttackFunction,  # on these images
    powers=(0.0, 0.25, 0.5, 0.75, 1.0),  # to choose from, in [0,1]
) -> float:  # in [0,1]
    "The power of I1 with the best `score` under attack"
    return max(
        powers, key=lambda g: score(1 - class_errors(normalised(model, g), data, attack).sum(0))
    )


def fit_bias(
    model: nn.Module,  # with a linear `head`
    data,  # validation `Batches`
    attack: AttackFunction,  # on these images
    rounds: int = 8,  # looks at the validation images
    step: float = 0.5,  # in logits per unit of accuracy
) -> Tensor:  # (c,) the bias with the best `score` on the way, 0 among them
    "I2: b_k += step (mean R - R_k), with R measured on the network as it now stands"
    b = torch.zeros(data.c)
    best = (-math.inf, b)
    for _ in range(rounds):
        R = 1 - class_errors(biased(model, b), data, attack).sum(0).cpu()
        if score(R) > best[0]:
            best = score(R), b
        b = b + step * (R.mean() - R)
    return best[1]
