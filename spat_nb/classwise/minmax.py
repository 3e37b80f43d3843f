"""Trainings that play a game for the weakest class"""

from __future__ import annotations

import torch

from ..attacks.losses import ce, hard_labels
from ..core.tensors import logits
from ..data.batches import rng
from ..training.events import Callback
from .accounts import class_errors, class_means, pooled, tally
from .fairness import trades_parts
from .radii import at, resized

__all__ = ["WAT", "FRL", "CFOL"]


class WAT(Callback):
    """TRADES weighted by class and by the average, w = K softmax(eta * sum of validation losses)
    (Li & Liu 2023). The sum never forgets. Objective and callback in one

    Parameters
    ----------
    valid
        `Batches` that are not trained on
    eta : float
        rate of the hedge (default: 0.1)
    beta : float
        of TRADES (default: 6.0)
    """

    def __init__(
        self,
        valid,  # `Batches` that are not trained on
        eta: float = 0.1,  # rate of the hedge
        beta: float = 6.0,  # of TRADES
    ):
        self.valid, self.eta, self.beta, self.total = valid, eta, beta, torch.zeros(valid.c + 1)

    def loss(self, model, x, y, attack):
        clean, far, _ = trades_parts(model, x, y, attack)
        return clean + self.beta * far

    @property
    # (c+1,), the last one is the average's
    def w(self):
        "(c,) the weight of each class, 1 on average"
        return self.valid.c * (self.eta * self.total).softmax(0)

    def __call__(self, model, x, y, attack):
        v = self.loss(model, x, y, attack)
        return (at(self.w[:-1], y) * v).mean() + self.w[-1].to(v.device) * v.mean()

    def after_epoch(self, learner):
        v = pooled(
            learner,
            class_means(
                lambda m, x, y: self.loss(m, x, y, learner.attack)[:, None], learner.net, self.valid
            )[0],
            True,
        ).cpu()
        self.total = self.total + torch.cat([v, v.mean()[None]])

    def state(self):
        return dict(total=self.total)


class FRL(Callback):
    """TRADES terms with class weights 1/K + lam_k - mean lam, and radius eps clip(exp(2 lam2_k),
    .98, cap) (Xu et al. 2021; their reweight + remargin script, step grows with each radius
    (ours)). On many devices each takes the weighted mean of its share. Objective and callback in
    one

    Parameters
    ----------
    valid
        `Batches` that are not trained on; 300 images per class there
    d : float
        excess error that is let pass (default: 0.07)
    beta : float
        of TRADES (default: 1.5)
    rates
        of the clean and the boundary weight (default: (0.05, 0.1))
    remargin : float
        move the radii too, not the weights alone (default: 0.2)
    cap : float
        rate and largest factor of the radius; 0: radii stay (default: 3.0)
    """

    def __init__(
        self,
        valid,  # `Batches` that are not trained on; 300 images per class there
        d: float = 0.07,  # excess error that is let pass
        beta: float = 1.5,  # of TRADES
        rates=(0.05, 0.1),  # of the clean and the boundary weight
        remargin: float = 0.2,  # move the radii too, not the weights alone
        cap: float = 3.0,  # rate and largest factor of the radius; 0: radii stay
    ):
        self.valid, self.d, self.beta, self.rates, self.remargin, self.cap, self.lam = (
            valid,
            d,
            beta,
            rates,
            remargin,
            cap,
            torch.zeros(3, valid.c),
        )

    @property
    # (2,c), rows sum to 1
    def w(self):
        "(2,c) weights of the clean and the boundary term"
        return 1 / self.valid.c + self.lam[:2] - self.lam[:2].mean(1, keepdim=True)

    @property
    def v(self):
        "(c,) factor of each class's radius"
        return (2 * self.lam[2]).exp().clamp(0.98, self.cap)

    def __call__(self, model, x, y, attack):
        clean, far, _ = trades_parts(model, x, y, resized(attack, at(self.v, y)))

        def mean(w, t):
            return (at(w, y) * t).sum() / at(w, y).sum()

        return mean(self.w[0], clean) + self.beta * mean(self.w[1], far)

    def update(self, errors):
        g = errors - errors.mean(1, keepdim=True) - self.d
        lam = (self.lam[:2] + torch.tensor(self.rates)[:, None] * g).clamp_min(0)
        self.lam = torch.cat(
            [
                lam * (0.5 / lam.sum(1, keepdim=True).clamp_min(0.5)),
                self.lam[2:] + self.remargin * g[1],
            ]
        )

    def after_epoch(self, learner):
        self.update(
            pooled(learner, class_errors(learner.net, self.valid, learner.attack), True).cpu()
        )

    def state(self):
        return dict(lam=self.lam)


class CFOL(Callback):
    """PGD-AT on classes drawn by EXP3 (Pethick et al. 2023). Training set, objective and
    callback in one. Published eta: 5e-6, 1e-5 and 1e-7 in three places, for 50,000 images and
    200 epochs.

    Parameters
    ----------
    train
        `Batches` to draw from
    gamma : float
        share drawn evenly (default: 0.5)
    eta : float
        rate; its effect grows with the number of images seen (default: 5e-6)
    pace : float | None
        instead of `eta`: rate times the images seen in `epochs` (default: None)
    epochs : int | None
        of the training; needed with `pace` (default: None)

    Raises
    ------
    ValueError
        where `pace` comes without `epochs`
    """

    def __init__(
        self,
        train,  # `Batches` to draw from
        gamma: float = 0.5,  # share drawn evenly
        eta: float = 5e-6,  # rate; its effect grows with the number of images seen
        pace: float | None = None,  # instead of `eta`: rate times the images seen in `epochs`
        epochs: int | None = None,  # of the training; needed with `pace`
    ):
        if pace is not None and not epochs:
            raise ValueError(f"pace is {pace}, which is for a number of epochs; give epochs= too.")
        self.train, self.gamma, self.n, self.seed = train, gamma, train.n, train.seed
        self.eta = eta if pace is None else pace / (epochs * train.n)
        self.w = torch.zeros(train.c)
        self.count = torch.bincount(train.y.cpu(), minlength=train.c)
        self.places, self.first = (
            train.y.cpu().argsort(stable=True),
            self.count.cumsum(0) - self.count,
        )

    def __len__(self):
        return len(self.train)

    @property
    def q(self):
        "(c,) how likely each class is to be drawn"
        return self.gamma / len(self.w) + (1 - self.gamma) * self.w.cpu().softmax(0)

    def draw(self, g):
        k = self.q.where(self.count > 0, 0).multinomial(self.train.batch_size, True, generator=g)
        return self.places[self.first[k] + (torch.rand(len(k), generator=g) * self.count[k]).long()]

    def epoch(self, e=0, start=0):
        """Batch k of epoch e is a function of (seed, e, k) and of the weights as they are when it
        is drawn
        """
        for k in range(start, len(self)):
            g = rng(self.seed, e, k, "cfol")
            x, y = self.train.take(self.draw(g)).tensors()
            yield self.train.augment(x, g) if self.train.augment else x, y

    def __call__(self, model, x, y, attack):
        hard_labels(y, "CFOL")
        z = logits(model, attack(model, x, y))
        self.fooled = tally(z.argmax(1) != y, y, len(self.w))
        return ce(z, y).mean()

    def after_step(self, learner):
        self.w = self.w.to(self.fooled.device) + self.eta * pooled(
            learner, self.fooled
        ) / self.q.to(self.fooled.device)

    def state(self):
        return dict(w=self.w)
