"""A model on trial: its answers under the attacks that the gates need"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from spat_nb.attacks.balls import L1
from spat_nb.attacks.threat import Ball

from ..attacks.attack import pgd
from ..attacks.gradients import NoGradient
from ..attacks.losses import missed, ruled_out
from ..core.checks import check_labels, check_logits
from ..core.modes import networks
from ..core.protocols import AttackFunction, ModelFunction
from ..core.tensors import alike, logits
from .checks import check, gap
from .stages import stream_for

__all__ = ["state_of", "what_changed", "Trial", "share_off", "share_right", "ROLLS"]

ROLLS = 20  # answers to one image of a model that rolls dice


def state_of(
    model,  # a network, or a function that reads some
) -> dict:  # name -> copies
    "Copies of what an attack must leave alone"
    nets = networks(model)

    def copies(vs):
        return [None if v is None else v.detach().clone() for v in vs]

    ps = [p for n in nets for p in n.parameters()]
    return {
        "mode": [getattr(m, "training", False) for n in nets for m in n.modules()],
        "weights": copies(ps),
        "statistics": copies(b for n in nets for b in n.buffers()),
        ".grad": copies(p.grad for p in ps),
        "requires_grad": [p.requires_grad for p in ps],
    }


def what_changed(
    before: dict,  # from `state_of`
    after: dict,  # likewise
) -> list:  # of names
    "Names of what differs"

    def same(a, b):
        return a is b or (
            torch.equal(a, b)
            if isinstance(a, Tensor) and isinstance(b, Tensor)
            else type(a) is type(b) and a == b
        )

    return [k for k, v in before.items() if not all(map(same, v, after[k]))]


class Trial:
    """A model on trial: the images it answers right, and which of them stand under each attack.

    Where answers are random, `ROLLS` of them say which attack is the worst for an image, and
    `ROLLS` fresh ones how often it is still answered right: accuracies are means over the dice. One
    answer to each of many attacks would count the unluckiest roll. Comparisons take one fresh roll
    """

    def __init__(
        self,
        model: ModelFunction,  # pixels to logits, in eval mode
        x: Tensor,  # (n,ch,h,w) pixels in [0,1]
        y: Tensor,  # (n,) labels
        ball: Ball,  # threat model
        attack: AttackFunction | None = None,  # the attack whose number is in question
        cost: float = 1.0,  # factor of all steps and queries
        seed: int = 0,  # of all randomness
        size: int = 256,  # images in a batch
        # what single gates ask for: loss, surrogate, checkpoints, history, seeds, limits
        **given,
    ):
        # one pixel of 64 at a time is no attack
        if isinstance(ball, L1):
            ball = replace(ball, share=max(ball.share, min(1.0, 6 / x[0].numel())))
        (
            self.net,
            self.model,
            self.ball,
            self.attack,
            self.cost,
            self.seed,
            self.size,
            self.given,
            self.n,
        ) = (
            model,
            model,
            ball,
            attack,
            cost,
            seed,
            size,
            given,
            len(x),
        )
        self.first, z = state_of(model), self.ask(x)
        # less one, no row is a probability: that is for G1 to say
        check_labels(y, c=check_logits(z - 1, len(x)).shape[1])
        try:
            check_logits(z, len(x))
            self.soft = False
        except ValueError:
            self.soft, z = True, z.clamp_min(1e-30).log()
        if self.soft:
            self.model = lambda x: logits(model, x).clamp_min(1e-30).log()
        self.all, self.labels, self.z = x, y, z
        self.again = self.ask(x)
        self.rolls = ROLLS if self.check("G1 repeats", self.off()).verdict == "flag" else 1
        # of a model that rolls dice: share of its answers that are right, and of fresh ones
        self.shares: dict = {}
        self.counts: dict = {}
        right = ~missed(z, y)
        ok = right
        if self.rolls > 1:
            share = share_right(self.ask, x, y, self.rolls)
            ok = share > 0
            self.shares["clean"] = share[ok]
            self.counts["clean"] = share_right(self.ask, x[ok], y[ok], self.rolls)
        self.x = x[ok]
        self.y = y[ok]
        # attacked images, and those of them without an answer
        self.asked, self.odd = 0, 0
        self.stands = {"clean": right[ok]}
        self.flight: list = []
        self.white: list = []
        self.notes: dict = {}
        self.short, self.long = self.k(20, 10), self.k(100, 20)
        self.claim = "yours" if attack else f"PGD-{self.long}"

    def k(self, full, least=1):
        return max(least, round(full * self.cost))

    def ask(self, x):
        "Logits (n,c) in pieces, without a graph"
        with torch.no_grad():
            return torch.cat([alike(logits(self.model, b), b) for b in x.split(self.size)])

    def off(self):
        "How far a second answer to all images is from the first, in %"
        return share_off(self.again, self.z)

    def pgd(self, steps, ball=None, **kw):
        return pgd(ball or self.ball, steps, best=True, **kw)

    def images(self, name, attack, on, model):
        "What `attack` makes of the images `on`"
        try:
            with stream_for(self.x.device, self.seed, name):
                return torch.cat(
                    [
                        attack(model, x.clone(), y.clone())
                        for x, y in zip(self.x[on].split(self.size), self.y[on].split(self.size))
                    ]
                )
        except NoGradient:
            self.notes[name] = "no gradient flows"
            return self.x[on]

    def run(
        self,
        name: str,  # each name is run once
        attack: AttackFunction,  # (model, x, y) -> x_adv
        # (m,) bool, which of the right answers to attack; the others have fallen. Default: all
        on: Tensor | None = None,
        ball: Ball | None = None,  # where its images are put back to; default: the trial's
        model: ModelFunction | None = None,  # what it attacks; default: the model itself
        white: bool = True,  # does it use the model's own gradient at this eps?
    ) -> Tensor:  # (m,) bool
        "Which right answers still stand"
        if name in self.stands:
            return self.stands[name]
        if on is None or self.rolls > 1:  # an unlucky roll is no fall
            on = torch.ones_like(self.stands["clean"])
        x_adv = self.images(name, attack, on, model or self.model) if on.any() else self.x[on]
        return self.answered(name, x_adv, on, ball, white)

    def answered(
        self,
        name: str,  # of the attack
        x_adv: Tensor,  # (k,ch,h,w) what it made of the images `on`
        on: Tensor,  # (m,) bool, k of them
        ball: Ball | None = None,  # where they are put back to; default: the trial's
        white: bool = True,  # does it use the model's own gradient at this eps?
    ) -> Tensor:  # (m,) bool
        "Which right answers still stand on attacked images"
        stand = on.clone()
        if on.any():
            x_adv = (ball or self.ball).project(x_adv, self.x[on])
            z = self.ask(x_adv)
            stand[on] = ~missed(z, self.y[on])
            if self.rolls > 1:
                for kept in (self.shares, self.counts):
                    kept[name] = share_right(self.ask, x_adv, self.y[on], self.rolls)
            self.asked, self.odd = self.asked + len(z), self.odd + int((~z.isfinite().all(1)).sum())
        self.stands[name] = stand
        if white:
            self.white.append(name)
        return stand

    def share(self, name):
        "(m,) share of the answers that are right, in [0,1]; 0 or 1 where the answers repeat"
        return self.shares.get(name, self.stands[name].double())

    def count(self, name):
        "(m,) the same, of fresh answers"
        return self.counts.get(name, self.stands[name].double())

    def _of_worst(self, told, names):
        "What `told` says of the attack that is the worst for each image"
        worst = torch.stack([self.share(k) for k in names]).argmin(0, keepdim=True)
        return torch.stack([told(k) for k in names]).gather(0, worst)[0]

    def worst(self, *names):
        "Which right answers stand under the attack that is the worst for them"
        return self._of_worst(self.stands.get, names or self.white)

    def keep_worst(self, name, *names):
        "The worst case of some attacks, kept under a name of its own"
        self.stands[name] = self.worst(*names)
        if self.rolls > 1:
            self.counts[name] = self._of_worst(self.count, names)
            self.shares[name] = self._of_worst(self.share, names)
        return self.stands[name]

    def accuracy(self, name):
        return self.count(name).sum().item() / self.n

    def gap(self, a, b):
        "By how many points more stands under `a` than under `b` (names or masks), and the interval"
        a, b = (self.stands[v] if isinstance(v, str) else v for v in (a, b))
        return [100 * v for v in gap(int((a & ~b).sum()), int((b & ~a).sum()), self.n)]

    def check(self, name, *args, **kw):
        limits = self.given.get("limits") or {}
        return check(name, *args, **{"limit": limits.get(name), **kw})

    def points(self, name, a, b):
        "The check `name` of by how much more stands under `a` than under `b`"

        def say(v):
            return f"{v} {self.accuracy(v):.1%}"

        return self.check(
            name, *self.gap(a, b), note=", ".join(say(v) for v in (a, b) if isinstance(v, str))
        )


def share_right(
    ask,  # images to logits
    x: Tensor,  # (b,...) images
    y: Tensor,  # (b,) labels
    rolls: int,  # answers to each
) -> Tensor:  # (b,) in [0,1]
    "Share of the answers that are right"
    return torch.stack([~missed(ask(x), y) for _ in range(rolls)]).double().mean(0)


def share_off(
    a: Tensor,  # (b,c) logits
    b: Tensor,  # (b,c) logits
) -> float:  # in %
    """The largest difference of two rows of logits, over the mean length of a row, in %; without
    the classes that a mask has ruled out
    """
    a, b = (v.masked_fill(ruled_out(b), 0) for v in (a, b))
    return (100 * (a - b).norm(dim=1).max() / b.norm(dim=1).mean().clamp_min(1e-12)).item()
