"""How robust can a network become for a given number of passes? Recipes against PGD-5, each for as
many passes as its eight epochs take
"""

from dataclasses import dataclass, replace
from functools import partial

from spat_nb.attacks.attack import Attack, pgd
from spat_nb.attacks.losses import ce, smoothed
from spat_nb.core.rng import rand_like
from spat_nb.studies.study import Arm, Study
from spat_nb.training.learner import Callback
from spat_nb.training.objectives import pgd_at
from spat_nb.training.tricks import EMA


@dataclass(frozen=True)
class noisy:
    """Start at uniform noise of `k` eps (de Jorge et al.

    2022, N-FGSM); the ball around has room for the step that follows
    """

    eps: float  # of the threat model, which is smaller than the ball that the attack runs in
    k: float  # noise, in eps

    def __call__(self, x, ball, generator=None):
        return ball.project(x + rand_like(x, -self.k * self.eps, self.k * self.eps, generator), x)


def n_fgsm(
    ball,  # Linf threat model
    k: float = 2.0,  # noise, in eps
    a: float = 1.0,  # length of the step, in eps
):  # an attack that leaves `ball`, up to k + a eps: for training only
    """One step from strong noise, and no projection back: trains without catastrophic overfitting
    (de Jorge et al. 2022)
    """
    return Attack(replace(ball, eps=(k + a) * ball.eps), 1, a * ball.eps, start=noisy(ball.eps, k))


class Staged(Callback):
    """An objective that trains with one attack first and with another for the last `share` of the
    steps, and counts its passes
    """

    def __init__(self, early, late, share, loss=ce):
        self.early, self.late, self.share, self.loss = early, late, share, loss
        self.done, self.passes = 0.0, 0

    def before_fit(self, learner):
        self.done = learner.done / learner.total

    def after_step(self, learner):
        self.done = learner.done / learner.total

    def __call__(self, model, x, y, attack=None):
        attack = self.early if self.done < 1 - self.share else self.late
        self.passes += attack.steps + 1
        return pgd_at(model, x, y, attack, self.loss)

    def state(self):
        return dict(passes=self.passes)


def staged(job, share=0.1, loss=ce):
    return Staged(n_fgsm(job.ball), pgd(job.ball, job.size.steps), share, loss), job.open().train


def averaged(job):
    return [EMA(look=job.look())]


def equal_passes(size, share=0.1):
    """As many epochs as the passes of PGD-AT allow, if a share of them costs what its epochs do and
    the others two passes
    """
    whole = size.epochs * (size.steps + 1)
    return dict(epochs=max(1, round(whole / (share * (size.steps + 1) + 2 * (1 - share)))))


study = Study(
    "speedrun",
    "How robust can a network become for a given number of passes?",
    {
        "PGD-5": Arm(pgd_at, note="the house recipe"),
        "PGD-5 + EMA + smoothing": Arm(partial(pgd_at, loss=smoothed(ce, 0.1)), callbacks=averaged),
        "N-FGSM, then PGD-5": Arm(make=staged, change=equal_passes),
        "N-FGSM, then PGD-5, + EMA + smoothing": Arm(
            make=partial(staged, loss=smoothed(ce, 0.1)), callbacks=averaged, change=equal_passes
        ),
    },
)
