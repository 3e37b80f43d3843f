"""One step from strong noise (N-FGSM), and training that takes it first and PGD last

Robust training for a given number of passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from spat_nb.attacks.threat import Ball

from ..attacks.attack import Attack
from ..attacks.losses import ce
from ..core.rng import rand_like
from .events import Callback
from .objectives import pgd_at

__all__ = ["noisy", "n_fgsm", "Staged"]


@dataclass(frozen=True)
class noisy:
    """Start at uniform noise of `k` eps (de Jorge et al.

    2022, N-FGSM); the ball around has room for the step that follows

    Parameters
    ----------
    eps : float
        of the threat model, which is smaller than the ball that the attack runs in
    k : float
        noise, in eps (default: 2.0)
    """

    eps: float  # of the threat model, which is smaller than the ball that the attack runs in
    k: float = 2.0  # noise, in eps

    def __call__(self, x, ball, generator=None):
        return ball.project(x + rand_like(x, -self.k * self.eps, self.k * self.eps, generator), x)


def n_fgsm(
    ball: Ball,  # Linf threat model
    k: float = 2.0,  # noise, in eps
    a: float = 1.0,  # length of the step, in eps
) -> Attack:  # leaves `ball`, up to k + a eps: for training only
    """One step from strong noise, and no projection back: trains without catastrophic overfitting
    (de Jorge et al. 2022)

    Parameters
    ----------
    ball : Ball
        Linf threat model
    k : float
        noise, in eps (default: 2.0)
    a : float
        length of the step, in eps (default: 1.0)

    Returns
    -------
    Attack
        leaves `ball`, up to k + a eps: for training only
    """
    return Attack(replace(ball, eps=(k + a) * ball.eps), 1, a * ball.eps, start=noisy(ball.eps, k))


class Staged(Callback):
    """An objective that trains with `n_fgsm` first and with the attack of the run for the last
    `share` of the steps, and counts its passes

    Parameters
    ----------
    ball : Ball
        Linf threat model
    share : float
        of all steps, in [0,1], with the attack of the run (default: 0.1)
    k : float
        of n_fgsm (default: 2.0)
    a : float
        likewise (default: 1.0)
    loss : Callable
        of the outer step (default: ce)
    """

    def __init__(
        self,
        ball: Ball,  # Linf threat model
        share: float = 0.1,  # of all steps, in [0,1], with the attack of the run
        k: float = 2.0,  # of n_fgsm
        a: float = 1.0,  # likewise
        loss: Callable = ce,  # of the outer step
    ):
        self.early = n_fgsm(ball, k, a)
        self.share = share
        self.loss = loss
        self.done = 0.0
        self.passes = 0

    def before_fit(self, learner):
        self.done = learner.done / learner.total

    def after_step(self, learner):
        self.done = learner.done / learner.total

    def __call__(self, model, x, y, attack):
        if self.done < 1 - self.share:
            attack = self.early
        self.passes += attack.steps + 1
        return pgd_at(model, x, y, attack, self.loss)

    def state(self):
        return {"passes": self.passes}
