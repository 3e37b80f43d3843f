"""A judge for an attack: does it keep the rules, repeat, and gain what PGD gains?"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import EllipsisType

import torch
from torch import Tensor

from spat_nb.attacks.balls import L1, Linf
from spat_nb.attacks.threat import Ball

from ..attacks.attack import Attack, fgsm, pgd
from ..attacks.losses import ce, margin
from ..core.checks import check_images
from ..core.evalmode import eval_mode
from ..core.protocols import AttackFunction, LossFunction, ModelFunction
from ..core.rng import generator
from ..core.tensors import logits
from ..data.sources import get_data
from ..measure.borrowed import borrowed
from ..measure.stages import stream_for
from ..measure.trial import state_of, what_changed
from ..models.networks import SmallCNN
from .verdict import Verdict, show_verdict

__all__ = ["check_attack", "attack_verdict"]


# PGD is no measure for an attack that sees less
FAIR = (
    "Does it ask for no gradient? Then measure it beside one of its kind:"
    " reference=square(ball, queries=300)."
)


@cache
def _classroom():
    "A digits network, trained in a second or two, and 64 test images"
    data = get_data("digits", device="cpu", batch_size=64)
    with stream_for(torch.device("cpu"), 0, "classroom"), torch.enable_grad():
        net = SmallCNN(10, channels=1)
        opt = torch.optim.Adam(net.parameters(), 3e-3)
        for e in range(4):
            for x, y in data.train.epoch(e):
                opt.zero_grad()
                ce(net(x), y).mean().backward()
                opt.step()
    return net.eval(), data.test.subset(64).tensors()


def _line(ball, seed=0):
    """A linear model with unequal weights, images far from the box, and by how much the margin can
    rise
    """
    w = torch.randn(16, generator=generator(seed), dtype=torch.float64) * torch.arange(1, 17)
    best = (
        ball.eps * (w * ball.ascent(w[None])[0]).sum()
        if not isinstance(ball, L1)
        else ball.eps * w.abs().max()
    )
    # pixels in the middle of the box
    size = max(1.0, 4 * ball.eps)

    def model(x):
        return torch.stack([torch.zeros(len(x)).to(x), (x.flatten(1) - 0.5) @ w.to(x)], 1) / size

    return (
        model,
        (torch.full((4, 1, 4, 4), 0.5, dtype=torch.float64), torch.zeros(4, dtype=torch.long)),
        best.item() / size,
    )


def _asked(fn, model, x, y, ball, seed):
    """`fn` on copies, from a given state of the random streams; what it wants of `ball` and
    `generator` is handed over
    """
    if isinstance(fn, Attack):
        fn = replace(fn, ball=ball, generator=generator(seed, x.device))
        wants = {}
    else:
        wants = {
            k: v
            for k, v in (("ball", ball), ("generator", generator(seed, x.device)))
            if k in inspect.signature(fn).parameters
        }
    with stream_for(x.device, seed if "generator" not in wants else time.time_ns()):
        return fn(model, x, y, **wants)


def _breach(fn, model, x, y, ball):
    "(x_adv, what is wrong with it): the first rule that `fn` breaks, or ''"
    before, x_, y_ = state_of(model), x.clone(), y.clone()
    z = _asked(fn, model, x_, y_, ball, 0)
    if z is None or z is ...:
        return None, ""
    if not isinstance(z, Tensor) or z.shape != x.shape:
        return (
            z,
            (
                "it returns"
                f" {f'shape {tuple(z.shape)}' if isinstance(z, Tensor) else f'a {type(z).__name__}'}"  # noqa: E501
                f" for images of {tuple(x.shape)}"
            ),
        )
    try:
        check_images(z)
    except (TypeError, ValueError) as e:
        return z, f"it leaves the box: {e}".rstrip(".")
    far = ball.norm(z.detach() - x).max().item()
    if not ball.inside(z.detach(), x).all():
        return z, f"it leaves the ball: displacement {far:.4g}, eps {ball.eps:.4g}"
    if not torch.equal(x_, x) or not torch.equal(y_, y):
        return z, "it changes the clean images or labels; work on a copy"
    if what := what_changed(before, state_of(model)):
        return z, f"it changes the model: {', '.join(what)}"
    if not torch.equal(z, _asked(fn, model, x.clone(), y.clone(), ball, 0)):
        return (
            z,
            (
                "the same generator gives other images; draw from the generator that you are given,"
                " and from nothing else"
            ),
        )
    return z.detach(), ""


def _tried(fn, m, x, y, ball, where):
    "(attacked images, None), or (None, (verdict, text)) where the attack breaks or keeps no rule"
    try:
        with borrowed(m, x.device, 0):
            z, wrong = _breach(fn, m, x, y, ball)
    except NotImplementedError:
        z, wrong = None, ""
    except Exception as e:
        said = " ".join(str(e).split())[:200]
        return None, ("error", f"on {where} it raises {type(e).__name__}: {said}")
    if z is None:
        return None, ("not attempted", f"it returns nothing yet (on {where}).")
    if wrong:
        return None, ("wrong", f"on {where} {wrong}.")
    return z, None


def _graded(hit, mine, clean, beat, ref, share, rival):
    "(verdict, text) of an attack that kept the rules, beside the rival and the reference"
    beaten = f"{rival} {beat:.4g}, " if rival else ""
    score = f"fools {hit:.1%}; loss {mine:.4g} (clean {clean:.4g}, {beaten}reference {ref:.4g})"
    if not mine > beat:  # also where the loss is NaN
        return "wrong", f"it does not beat {rival or 'the clean images'}: {score}. {FAIR}"
    if mine - clean < share * (ref - clean):
        gained = (mine - clean) / (ref - clean)
        return "wrong", (
            f"it gains {gained:.1%} of what the reference gains, {share:.0%} is asked: {score}. "
            f"{FAIR}"
        )
    return "right", f"it {score}."


def check_attack(
    # attack(model, x, y) -> x_adv; `ball` and `generator` are handed over where it has parameters
    # of these names
    fn: Callable | EllipsisType,
    # what it shall fool; default: a digits network that is trained on the spot, after a linear
    # model
    model: ModelFunction | None = None,
    data: tuple | None = None,  # (x, y); default: 64 digits
    ball: Ball | None = None,  # default: the attack's own, or Linf(.1)
    reference: AttackFunction
    | None = None,  # what it is measured by; default: PGD on `loss`, 20 steps
    # (z, y) -> (b,), in which strength is measured; default: the attack's own, or ce
    loss: LossFunction | None = None,
    share: float = 0.95,  # of the reference's gain that it must reach
    # of the exercise, 'lineup 1': attempts are kept as the reader's progress
    name: str | None = None,
    hints: tuple = (),  # texts; each failed attempt of a session shows one more
) -> Verdict:  # 'not attempted', 'error', 'wrong' or 'right'
    """Judge an attack: rules, determinism, strength.

    Prints one line.

    Parameters
    ----------
    fn : Callable | EllipsisType
        attack(model, x, y) -> x_adv; `ball` and `generator` are handed over where it has parameters
        of these names
    model : ModelFunction | None
        what it shall fool; default: a digits network that is trained on the spot, after a linear
        model
    data : tuple | None
        (x, y); default: 64 digits
    ball : Ball | None
        default: the attack's own, or Linf(.1)
    reference : AttackFunction | None
        what it is measured by; default: PGD on `loss`, 20 steps
    loss : LossFunction | None
        (z, y) -> (b,), in which strength is measured; default: the attack's own, or ce
    share : float
        of the reference's gain that it must reach (default: 0.95)
    name : str | None
        of the exercise, 'lineup 1': attempts are kept as the reader's progress (default: None)
    hints : tuple
        texts; each failed attempt of a session shows one more (default: ())

    Returns
    -------
    Verdict
        'not attempted', 'error', 'wrong' or 'right'

    Raises
    ------
    ValueError
        where a model comes without data
    """
    verdict, text = attack_verdict(fn, model, data, ball, reference, loss, share)
    return show_verdict(verdict, text, name, hints)


def attack_verdict(
    fn: Callable | EllipsisType,  # as for `check_attack`, like all that follow
    model: ModelFunction | None = None,
    data: tuple | None = None,
    ball: Ball | None = None,
    reference: AttackFunction | None = None,
    loss: LossFunction | None = None,
    share: float = 0.95,
) -> tuple[str, str]:  # 'not attempted', 'error', 'wrong' or 'right', and what is told behind it
    """Judge an attack; nothing is printed or kept.

    ValueError where a model comes without data
    """
    if (model is None) != (data is None):
        raise ValueError("a model needs its data and data their model; give both or none.")
    if fn is ...:
        return "not attempted", "write your attack in place of ... and run this cell again."
    ball = ball or getattr(fn, "ball", None) or Linf(0.1)
    loss = loss or getattr(fn, "loss", ce)
    if model is None or data is None:
        fault = _on_a_line(fn, ball, share)
        if fault:
            return fault
        model, data = _classroom()
    x, y = data
    return _on_a_network(fn, model, x, y, ball, reference, loss, share)


def _mean_loss(loss, model, x, y):
    return loss(logits(model, x), y).mean().item()


def _on_a_line(fn, ball, share):
    "(verdict, text) of an attack that fails on a linear model; None where it reaches the optimum"
    model, (x, y), best = _line(ball)
    x_adv, fault = _tried(fn, model, x, y, ball, "a linear model")
    if fault:
        return fault
    gained = _mean_loss(margin, model, x_adv, y) - _mean_loss(margin, model, x, y)
    if gained >= share * best:
        return None
    told = f"the margin rises by {gained:.4g}; it can rise by {best:.4g}."
    return "wrong", f"on a linear model {told}"


def _on_a_network(fn, model, x, y, ball, reference, loss, share):
    "(verdict, text) of an attack on a network, beside FGSM and the reference"
    x_adv, fault = _tried(fn, model, x, y, ball, "the network")
    if fault:
        return fault
    strong = reference or pgd(ball, 20, loss=loss, generator=generator(0, x.device))
    with torch.no_grad(), eval_mode(model):
        clean, mine = (_mean_loss(loss, model, v, y) for v in (x, x_adv))
        ref = _mean_loss(loss, model, strong(model, x, y), y)
        beat, rival = clean, ""
        if reference is None:
            beat, rival = _mean_loss(loss, model, fgsm(ball, loss=loss)(model, x, y), y), "FGSM"
        hit = (logits(model, x_adv).argmax(1) != y).double().mean().item()
    return _graded(hit, mine, clean, beat, ref, share, rival)
