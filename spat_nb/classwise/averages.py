"""An average of the weights that skips epochs in which a class is too weak"""

from __future__ import annotations

from ..training.events import Callback
from .accounts import class_errors, pooled

__all__ = ["FAWA"]


class FAWA(Callback):
    """Average of the weights at the ends of epochs, only where the worst validation class reaches
    `least` (Wei et al. 2023, CFA; that the gate looks at the raw weights is ours). `least` = 0
    is the plain average. `restore` puts it into a model

    Parameters
    ----------
    decay : float
        share of the old average (default: 0.85)
    start : int
        epochs before the first (default: 50)
    valid
        validation `Batches`; not needed for the plain average (default: None)
    least : float
        the gate: robust accuracy of the worst validation class, in [0,1] (default: 0.0)
    """

    def __init__(
        self,
        decay: float = 0.85,  # share of the old average
        start: int = 50,  # epochs before the first
        valid=None,  # validation `Batches`; not needed for the plain average
        least: float = 0.0,  # the gate: robust accuracy of the worst validation class, in [0,1]
    ):
        self.decay = decay
        self.start = start
        self.valid = valid
        self.least = least
        self.weights: dict | None = None

    def after_epoch(self, learner):
        if (
            learner.epoch <= self.start
            or self.least
            and (
                1
                - pooled(learner, class_errors(learner.net, self.valid, learner.attack), True).sum(
                    0
                )
            ).min()
            < self.least
        ):
            return
        new = {k: t.detach().clone() for k, t in learner.model.state_dict().items()}
        self.weights = {
            k: w.to(new[k]).lerp(new[k], 1 - self.decay) if w.is_floating_point() else new[k]
            for k, w in (self.weights or new).items()
        }

    def restore(self, model):
        if self.weights is None:
            raise ValueError(
                f"nothing was averaged: no epoch after {self.start} passed the gate {self.least};"
                " lower start or least."
            )
        model.load_state_dict(self.weights)
        return model

    def state(self):
        return dict(weights=self.weights)
