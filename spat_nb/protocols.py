"""The four kinds of function that the package is made of, as types

Written by hand: no notebook makes it.
"""

# Nothing has to inherit from them: a function of this shape is one. The names of its arguments are
# free, since they are passed by position. They exist for editors and type checkers.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class LossFunction(Protocol):
    """loss(z, y) -> (b,): one value for each sample, up is worse for the model

    It may carry `won`, a function (z, y) -> (b,) bool, that says where an attack has reached its
    aim; without it that is where the model does not answer `y`.
    """

    def __call__(
        self,
        z: Tensor,  # (b,c) logits
        y: Tensor,  # (b,) labels; some losses also take (b,c) probabilities
        /,
    ) -> Tensor:  # (b,)
        "The loss of each sample"


class AttackFunction(Protocol):
    "attack(model, x, y) -> x_adv: images nearby that are worse for the model"

    def __call__(
        self,
        model: ModelFunction,  # pixels to logits; its mode and its gradients are left as they were
        x: Tensor,  # (b,ch,h,w) pixels in [0,1]
        y: Tensor,  # (b,) labels; some attacks also take (b,c) probabilities
        /,
    ) -> Tensor:  # (b,ch,h,w) pixels in [0,1]
        "The attacked images"


class ObjectiveFunction(Protocol):
    "objective(model, x, y, attack) -> (): what one step of the optimiser makes smaller"

    def __call__(
        self,
        model: ModelFunction,  # pixels to logits, in train mode
        x: Tensor,  # (b,ch,h,w) pixels in [0,1]
        y: Tensor,  # (b,) labels
        attack: AttackFunction,  # the inner maximisation
        /,
    ) -> Tensor:  # () with a graph to the model's parameters
        "The mean over the batch"


class ModelFunction(Protocol):
    "model(x) -> (b,c): pixels in, logits out; normalisation is its first layer"

    def __call__(
        self,
        x: Tensor,  # (b,ch,h,w) pixels in [0,1]
        /,
    ) -> Tensor:  # (b,c) logits
        "The logits of each image"
