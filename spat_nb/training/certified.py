"""Training by bounds: what a step minimises is the loss of the worst logits that a proof allows"""

from __future__ import annotations

from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..attacks.backward import Start, boxes_of, margins_below
from ..attacks.losses import ce
from ..attacks.program import program_of
from ..attacks.threat import Ball, a_ball
from ..core.evalmode import eval_mode
from ..core.rng import randn_like
from ..core.tensors import logits
from .events import Callback

__all__ = ["IBP", "CrownIBP", "gaussian_noise", "worst_loss"]


class _Programs(WeakKeyDictionary):
    "network -> its program. An objective is the same whatever it has read before"

    def __identity__(self):
        return "programs"


_READ = _Programs()


def worst_loss(
    margins: Tensor,  # (b,c-1) lower bounds of z_y - z_k
) -> Tensor:  # (b,)
    "Cross-entropy where every margin is as low as its bound: log(1 + sum_k exp(-m_k))"
    return torch.cat([torch.zeros_like(margins[:, :1]), -margins], 1).logsumexp(1)


@contextmanager
def _batch_statistics(program):
    "Batch norms of the program use mean and variance of what passes the network meanwhile"

    def see(layer, args):
        v = args[0]
        layer.seen = v.mean((0, 2, 3)), v.var((0, 2, 3), unbiased=False)

    layers = [op.norm for op in program.norms()]
    hooks = [m.register_forward_pre_hook(see) for m in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for m in layers:
            if hasattr(m, "seen"):
                del m.seen


def _program(model):
    "The program of a network, read once"
    if model not in _READ:
        with eval_mode(model):
            _READ[model] = program_of(model)
    return _READ[model]


def _straight(t, begin, end):
    "0 until `begin`, 1 from `end` on, a straight line between"
    return min(max((t - begin) / max(end - begin, 1e-9), 0.0), 1.0)


def _ball_of(attack):
    "The ball of an attack, which is not run. TypeError where it tells none"
    ball = getattr(attack, "ball", None)
    if ball is None:
        raise TypeError("no ball is given, and the attack tells none; use IBP(Linf(8/255)), say.")
    return a_ball(ball)


class CrownIBP(Callback):
    """kappa ce(x) + (1-kappa) ce(worst logits), whose bounds are beta CROWN-IBP + (1-beta) IBP
    (Zhang et al. 2020). The radius rises over a part of the run, kappa and beta fall with it.

    ValueError where a share is not in [0,1]

    Parameters
    ----------
    ball : Ball | None
        threat model at the end of the rise; default: the ball of the attack that it is given
    begin : float
        share of the run after which the radius rises from 0 (default: 0.1)
    end : float
        share of the run at which it is whole (default: 0.6)
    kappa : float
        weight of clean images from then on, in [0,1]; it begins as 1 (default: 0.5)
    beta : float
        weight of CROWN-IBP from then on, in [0,1]; it begins as 1 (default: 0.0)

    Raises
    ------
    ValueError
        where a share is not in [0,1]
    """

    decides = True

    def __init__(
        self,
        # threat model at the end of the rise; default: the ball of the attack that it is given
        ball: Ball | None = None,
        begin: float = 0.1,  # share of the run after which the radius rises from 0
        end: float = 0.6,  # share of the run at which it is whole
        kappa: float = 0.5,  # weight of clean images from then on, in [0,1]; it begins as 1
        beta: float = 0.0,  # weight of CROWN-IBP from then on, in [0,1]; it begins as 1
    ):
        for name, v in {"begin": begin, "end": end, "kappa": kappa, "beta": beta}.items():
            if not 0 <= v <= 1:
                raise ValueError(f"{name} is {v}; it is a share, from 0 to 1.")
        self.ball = None if ball is None else a_ball(ball)
        self.begin, self.end, self.kappa, self.beta = begin, end, kappa, beta
        self.done = 1.0  # by itself, outside of a run, it is as at the end

    def before_fit(self, learner):
        self.done = learner.done / learner.total

    def after_step(self, learner):
        self.done = learner.done / learner.total

    def __call__(self, model, x, y, attack=None):
        t = _straight(self.done, self.begin, self.end)
        kappa, beta = 1 - t * (1 - self.kappa), self.first_beta(t)
        program = _program(model)
        with _batch_statistics(program):
            clean = ce(logits(model, x), y).mean()
            if t == 0:
                return clean
            ball = self.ball or _ball_of(attack)
            start = Start(x, torch.full((len(x),), t * ball.eps).to(x), ball)
            boxes = boxes_of(program, start, tight=False)
            margins = margins_below(program, start, y, lines=False, boxes=boxes)
            if beta > 0:
                better = margins_below(program, start, y, boxes=boxes)
                margins = beta * better + (1 - beta) * margins
        return kappa * clean + (1 - kappa) * worst_loss(margins).mean()

    def first_beta(self, t):
        "The weight of CROWN-IBP when the radius is the part `t` of the whole"
        return 1 - t * (1 - self.beta)


class IBP(CrownIBP):
    """The same by boxes alone (Gowal et al. 2018): kappa ce(x) + (1-kappa) ce(worst logits)

    Parameters
    ----------
    ball : Ball | None
        threat model at the end of the rise; default: the ball of the attack that it is given
    begin : float
        share of the run after which the radius rises from 0 (default: 0.1)
    end : float
        share of the run at which it is whole (default: 0.6)
    kappa : float
        weight of clean images from then on, in [0,1]; it begins as 1 (default: 0.5)
    """

    def __init__(
        self,
        # threat model at the end of the rise; default: the ball of the attack that it is given
        ball: Ball | None = None,
        begin: float = 0.1,  # share of the run after which the radius rises from 0
        end: float = 0.6,  # share of the run at which it is whole
        kappa: float = 0.5,  # weight of clean images from then on, in [0,1]; it begins as 1
    ):
        super().__init__(ball, begin, end, kappa, 0.0)

    def first_beta(self, t):
        return 0.0


def gaussian_noise(
    model,  # pixels to logits, in train mode
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    y: Tensor,  # (b,) labels
    attack=None,  # not used
    sigma: float = 0.25,  # deviation of the noise, in pixels of [0,1]
) -> Tensor:  # ()
    """ce(x + noise), noise N(0, sigma^2): training for randomized smoothing (Cohen et al. 2019)

    Parameters
    ----------
    model
        pixels to logits, in train mode
    x : Tensor
        (b,ch,h,w) pixels in [0,1]
    y : Tensor
        (b,) labels
    attack
        not used (default: None)
    sigma : float
        deviation of the noise, in pixels of [0,1] (default: 0.25)

    Returns
    -------
    Tensor
        ()
    """
    return ce(logits(model, x + sigma * randn_like(x)), y).mean()
