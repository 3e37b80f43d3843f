"""G1: do model and attack keep the rules of the game?"""

from __future__ import annotations

import torch
from torch import nn

from ..core.modes import networks
from .checks import skipped
from .trial import share_off, state_of, what_changed

__all__ = ["rules_kept"]


def _searches(t):
    "How often tensors are fetched for a backward pass while the model merely answers"
    fetched = []

    def fetch(v):
        fetched.append(1)
        return v

    with torch.autograd.graph.saved_tensors_hooks(lambda v: v, fetch):
        t.ask(t.all[:4])
    return len(fetched)


def _plain_answer(t):
    "What the model itself returns for two images, in the dtype of its weights"
    x = t.all[:2].clone()
    return t.net(
        x.to(next((p.dtype for p in _weights(t.net)), x.dtype))
        if isinstance(t.net, nn.Module)
        else x
    )


def _half(t):
    "Share of the weights and answers in half precision, in %"
    low = (torch.float16, torch.bfloat16)
    with torch.no_grad():
        sizes = [
            (v.numel(), v.dtype in low)
            for v in (_plain_answer(t), *_weights(t.net))
            if v.is_floating_point()
        ]
    return 100 * sum(k for k, is_low in sizes if is_low) / sum(k for k, _ in sizes)


def _weights(net):
    return [p for n in networks(net) for p in n.parameters() if p.is_floating_point()]


def rules_kept(
    t,  # the trial: model, images, ball, and what was measured before
):
    "Rules of the game: the model's, then the attack's"
    again, odd = (
        t.off(),
        share_off(t.ask(t.all[::2]), t.z[::2]) if t.n > 2 else None,
    )
    moved = what_changed(t.first, state_of(t.net))
    yield t.check("G1 logits", 100.0 * t.soft)
    yield t.check("G1 float32", _half(t))
    yield t.check("G1 repeats", again)
    yield t.check("G1 alone", odd, note="" if t.n > 2 else "needs 3 images")
    yield t.check("G1 mode", len(moved), note=", ".join(moved))
    yield t.check("G1 search", _searches(t))
    yield from (
        _kept(t, moved)
        if len(t.x)
        else [
            c
            for c in skipped("G1", "no image is answered right")
            if c.name.split()[1] in ("ball", "box", "reach", "manners")
        ]
    )


def _kept(t, moved, tol=1e-6):
    "The rules for the attack in question, or for our own where none is"
    name, ball = t.claim if t.attack else f"PGD-{t.short}", t.ball
    on = torch.ones_like(t.stands["clean"])
    attack = t.attack or t.pgd(t.short)
    before = state_of(t.net)
    sent = []

    def watched(m, x, y):
        sent.append((x, x.clone()))
        return attack(m, x, y)

    x = t.images(name, watched, on, t.model)
    if x.shape != t.x.shape:
        raise ValueError(
            f"the attack returned shape {tuple(x.shape)} for images of {tuple(t.x.shape)}."
        )
    changed = [k for k in what_changed(before, state_of(t.net)) if k not in moved] + [
        "images"
    ] * any(not torch.equal(a, b) for a, b in sent)
    # the same images, no second search
    stand = t.answered(name, x, on)
    far, room = ball.norm(x - t.x), ball.norm(torch.full_like(t.x, tol))
    out = ((x < ball.lo - tol) | (x > ball.hi + tol)).flatten(1).any(1)
    tried = stand & (far > 0)
    yield t.check(
        "G1 ball",
        100 * (far > ball.eps + room).double().mean().item(),
        note=f"largest displacement {far.max().item() / ball.eps:.3g} eps",
    )
    yield t.check(
        "G1 box",
        100 * out.double().mean().item(),
        note=f"pixels from {x.min().item():.3g} to {x.max().item():.3g}",
    )
    yield t.check(
        "G1 reach",
        100 * (1 - far[tried].max().item() / ball.eps) if tried.any() else None,
        note="" if tried.any() else "no image that it moved still stands",
    )
    yield t.check("G1 manners", len(changed), note=", ".join(changed))
