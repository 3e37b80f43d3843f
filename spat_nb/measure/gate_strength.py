"""G9 and G6: do stronger attacks, and attacks without gradients, find more?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.sparse import Sparse
from spat_nb.attacks.threat import Ball

from ..attacks.losses import ce, margin
from ..attacks.pixels import pixel_search
from ..attacks.square import square
from ..attacks.steps import apgd
from ..attacks.targets import apgd_t
from ..core.evalmode import eval_mode
from ..core.protocols import ModelFunction
from ..core.tensors import logits
from ..models.networks import SmallCNN
from .gate_effort import starts_agree
from .gate_gradients import losses_agree
from .stages import stream_for
from .standins import taught

__all__ = ["stronger_attacks", "distil", "without_gradients"]


def stronger_attacks(
    t,  # the trial: model, images, ball, and what was measured before
):
    "Strength: APGD, towards targets too"
    # an attack is run once, whoever asks for it
    list(starts_agree(t))
    list(losses_agree(t))
    base = t.run("yours", t.attack) if t.attack else t.worst(f"PGD-{t.long} x{t.k(3, 2)}", "margin")
    steps, targets, on = t.long, min(t.k(3, 1), 9, t.z.shape[1] - 1), None
    if isinstance(t.ball, L1):
        t.run("PGD margin", t.pgd(steps, loss=margin, restarts=3))
    else:
        on = t.run("APGD-CE", apgd(t.ball, steps))
        if t.z.shape[1] > 3:
            t.run("+ APGD-T", apgd_t(t.ball, steps, targets), on=on)
        else:
            t.run("+ APGD-margin", apgd(t.ball, steps, loss=margin), on=on)
    strong = t.worst()
    yield t.check(
        "G9 stronger",
        *t.gap(base, strong),
        note=f"{base.sum().item() / t.n:.1%} -> {strong.sum().item() / t.n:.1%}",
    )


def distil(
    model: ModelFunction,  # pixels to logits; only its answers are used
    x: Tensor,  # (n,ch,h,w) pixels in [0,1]
    ball: Ball,  # images are moved at random in it
    epochs: int = 30,  # passes over `x`
    seed: int = 0,  # of weights and draws
) -> nn.Module:  # in eval mode
    """A small network taught to give the model's answers on noisy copies of `x` (after Papernot et
    al. 2017)
    """
    with torch.no_grad():
        y = torch.cat([logits(model, b) for b in x.split(256)])
    with stream_for(x.device, seed, "distil"), torch.enable_grad():
        net = SmallCNN(y.shape[1], channels=x.shape[1], size=min(x.shape[2:])).to(x.device)

        def loss(net, i):
            return ce(net(ball.uniform(x[i])), y[i].argmax(1)).mean()

        return taught(net, len(x), loss, epochs, 5e-3)


def _asked(t, white, queries):
    "Which images stand when the model is only asked: Square, or a search for few pixels"
    ball = t.ball
    if isinstance(ball, Sparse):
        attack = pixel_search(ball, queries=queries)
        return t.run("+ pixel search", attack, on=white, white=False)
    return t.run("+ Square", square(ball, queries=queries), on=white, white=False)


def without_gradients(
    t,  # the trial: model, images, ball, and what was measured before
):
    "No gradients: Square and transfer find no more"
    white, queries = t.worst() if t.white else t.stands["clean"], t.k(1000, 100)
    if not isinstance(t.ball, (Linf, L2, Sparse)):
        yield t.check("G6 square", note="Square is for Linf and L2")
    elif t.x.ndim != 4:
        yield t.check("G6 square", note="Square is for images (b,ch,h,w)")
    else:
        yield t.points("G6 square", white, _asked(t, white, queries))
    other = t.given.get("surrogate")
    if other is None and t.x.ndim != 4:
        yield t.check("G6 transfer", note="give a surrogate= for inputs that are no images")
        return
    other = other or distil(t.model, t.all, t.ball, t.k(30, 5), t.seed)
    with eval_mode(other):
        t.run("transfer", t.pgd(t.short, loss=margin), model=other, white=False)
    yield t.points("G6 transfer", white, t.worst(*(t.white or ["clean"]), "transfer"))
