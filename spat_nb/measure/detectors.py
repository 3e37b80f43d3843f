"""How other tools ask whether a gradient is hidden; written from their descriptions

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import torch

from spat_nb.attacks.threat import Ball

from ..attacks.attack import pgd
from ..attacks.cascade import Cascade
from ..attacks.doubts import doubts, masked
from ..attacks.gradients import NoGradient, value_and_grad
from ..attacks.losses import ce, missed
from ..attacks.recorder import Recorder
from ..attacks.square import square
from ..attacks.steps import apgd
from ..attacks.targets import apgd_t
from ..core.evalmode import eval_mode
from ..core.remarks import remarks
from ..core.tensors import logits

__all__ = ["autoattack_flags", "failure_indicators", "gradient_norms", "SHARE"]

SHARE = 0.1  # of the images, from which an indicator counts as raised; ours, the paper has means


def autoattack_flags(
    model,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    x,  # (b,ch,h,w) pixels in [0,1]
    y,  # (b,) labels
    ball: Ball,  # threat model
    queries: int = 1000,  # of Square; AutoAttack takes 5,000
) -> list:  # of names
    """AutoAttack's five warnings (Croce & Hein 2020, code: checks.py), by its attacks without FAB:
    random, dynamic, few classes, no gradient, masked
    """
    members = {
        "apgd-ce": apgd(ball, 100),
        "apgd-t": apgd_t(ball, 100),
        "square": square(ball, queries),
    }
    left, z_right = {}, None
    with eval_mode(model), remarks():
        said = doubts(model, x, y)
        stand = torch.ones(len(y), dtype=torch.bool, device=x.device)
        for name, attack in members.items():
            if stand.any():
                x_adv = Cascade({name: attack}, ball)(model, x[stand], y[stand])
                with torch.no_grad():
                    z_right = ~missed(logits(model, x_adv), y[stand])
                stand[stand.clone()] = z_right
            left[name] = stand.double().mean().item()
    return [note.split(":")[0] for note in [*said, *masked(left)]]


def gradient_norms(
    model,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    x,  # (b,ch,h,w) pixels in [0,1]
    y,  # (b,) labels
) -> list:  # of names
    """The rule by the norm of the loss's gradient at the clean images, as the Adversarial
    Robustness Toolbox has it (`loss_gradient_check`): zero, NaN or infinite on an image
    """

    def f(x):
        return (ce(logits(model, x), y),)

    try:
        with eval_mode(model), torch.enable_grad():
            x = x.detach().requires_grad_()
            value = f(x)[0].sum()
            g = torch.autograd.grad(value, x)[0].flatten(1)
    except (NoGradient, RuntimeError):
        return ["no gradient"]
    found = {"zero": (g == 0).all(1), "nan": g.isnan().any(1), "inf": g.isinf().any(1)}
    return [name for name, bad in found.items() if bad.any()]


def _unavailable(model, x, y):
    try:
        g = value_and_grad(lambda v: (ce(logits(model, v), y),), x)[1]
    except NoGradient:
        return 1.0
    return (g == 0).flatten(1).all(1).double().mean().item()


def _unstable(model, x, y, radius, draws=20):
    "Mean relative change of the loss at points near the image, at most 1"

    def loss(v):
        return ce(logits(model, v), y)

    with torch.no_grad():
        here = loss(x)
        size = torch.where(here == 0, 1, here.abs())
        noisy = [loss(x + (torch.rand_like(x) - 0.5) * radius) for _ in range(draws)]
        return min(1.0, torch.stack([(v - here).abs() / size for v in noisy]).mean().item())


def _run(model, x, y, attack_in):
    "(losses (steps, b), who was ever fooled, who is at the end) of PGD's last iterate"
    recorder = Recorder()
    x_adv = attack_in(recorder)(model, x, y)
    with torch.no_grad():
        at_end = missed(logits(model, x_adv), y)
    losses = torch.stack([r["loss"] for r in recorder.rows])
    won = torch.stack([r["won"] for r in recorder.rows]).any(0)
    return losses, won, at_end


def _incomplete(losses):
    "Does the best loss so far, scaled to [0,1], still move in the last ten steps? (b,)"
    span = (losses.amax(0) - losses.amin(0)).clamp_min(1e-30)
    best = ((losses - losses.amin(0)) / span).cummax(0).values
    return best[-1] - best[-min(10, len(best))] > 0.05


def failure_indicators(
    model,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    x,  # (b,ch,h,w) pixels in [0,1]
    y,  # (b,) labels
    ball: Ball,  # threat model
    steps: int = 50,  # of PGD
) -> dict:  # name -> share of the images, in [0,1]
    """The indicators of attack failure (Pintor et al. 2022) of PGD, whose last iterate counts:
    unavailable gradients, unstable predictions (mean relative change of the loss), silent success,
    incomplete optimization, unconstrained failure. Transfer failure needs a transferred attack
    """
    from dataclasses import replace

    with eval_mode(model):
        with torch.no_grad():
            right = ~missed(logits(model, x), y)
        x, y = x[right], y[right]
        found = {
            "unavailable gradients": _unavailable(model, x, y),
            "unstable predictions": _unstable(model, x, y, ball.eps),
        }
        try:
            losses, won, at_end = _run(model, x, y, lambda r: pgd(ball, steps, recorder=r))
            far = replace(ball, eps=1.0)
            _, freely, _ = _run(model, x, y, lambda r: pgd(far, steps, recorder=r))
        except NoGradient:
            ones = ("silent success", "incomplete optimization", "unconstrained failure")
            return {**found, **dict(zip(ones, (0.0, 0.0, 1.0)))}
    silent = (won & ~at_end).double().mean().item()
    unfinished = (_incomplete(losses) & ~at_end).double().mean().item()
    failed = (~freely).double().mean().item()
    return {
        **found,
        "silent success": silent,
        "incomplete optimization": unfinished,
        "unconstrained failure": failed,
    }
