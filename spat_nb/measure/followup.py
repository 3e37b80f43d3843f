"""From a flag to the attack that it calls for: run it, say how far the number falls, hand it on

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial

import torch

from ..attacks.gradients import watched
from ..attacks.losses import missed
from ..core.bars import interval
from ..core.progress import bar
from ..core.tensors import logits
from ..core.threads import fitting_threads
from ..models.library import first_line
from . import adaptive
from .borrowed import borrowed
from .calls import SIMPLEST, attacks_for, numbers_for
from .card import Card
from .checks import gap
from .forgetful import forgetful
from .intervals import wilson
from .stages import stream_for
from .trial import share_right

__all__ = ["Fall", "FollowUp", "follow_up"]


@dataclass(frozen=True)
class Fall:
    "One attack, and what it did to the number"

    attack: str  # name of the recipe
    flags: tuple  # names of the checks that called for it
    told: str  # what it does, a sentence
    stand: float  # share of all images that it leaves of those that were claimed, in [0,1]
    points: float  # fall from the claim to there
    lo: float  # lowest plausible fall, 99%, paired
    hi: float  # highest
    new: int  # images that nothing before it had broken
    cell: str  # the attack in at most 20 lines
    note: str = ""  # why it could not be run
    seconds: float = 0.0  # 0 where it was read from a file


@dataclass(frozen=True, repr=False)
class FollowUp:
    """What came of the flags

    Parameters
    ----------
    falls : tuple
        of Fall, in the order in which they were run
    claim : str
        what was claimed: an attack, or 'judged'
    claimed : float
        share that stands by the claim, in [0,1]
    before : float
        share that stands under everything that the card tried
    after : float
        ... and under the attacks of this follow-up
    n : int
        images
    lowered : tuple
        points from `before` to `after`, and the 99% interval, paired
    """

    falls: tuple  # of Fall, in the order in which they were run
    claim: str  # what was claimed: an attack, or 'judged'
    claimed: float  # share that stands by the claim, in [0,1]
    before: float  # share that stands under everything that the card tried
    after: float  # ... and under the attacks of this follow-up
    n: int  # images
    lowered: tuple  # points from `before` to `after`, and the 99% interval, paired

    @property
    def lowest(self) -> tuple:  # share, lowest and highest plausible value; in [0,1]
        "What stands now, with its 95% interval (Wilson)"
        return self.after, *wilson(round(self.after * self.n), self.n)

    @property
    def headline(self) -> str:
        "All numbers in a sentence"
        if not self.falls:
            return f"no flag calls for an attack: {interval(*self.lowest)} of {self.n} images stand"
        points, lo, hi = self.lowered
        return (
            f"{interval(*self.lowest)} of {self.n} images stand under everything and the attacks"
            f" that the flags call for; the claim is {self.claimed:.1%}, everything before left"
            f" {self.before:.1%} ({points:.1f} points more [{lo:.1f}, {hi:.1f}])"
        )

    def lines(self) -> list:  # of sentences
        """What each attack found

        Returns
        -------
        list
            of sentences
        """
        return [_line(fall) for fall in self.falls]

    def cells(self) -> str:
        "The attacks, one after another, as code to keep"
        return "\n\n\n".join(f"# {', '.join(f.flags)}\n{f.cell}" for f in self.falls)

    @property
    def best(self) -> Fall | None:
        "The attack that left least; of several the simplest"
        ran = [f for f in self.falls if not f.note]
        return min(ran, key=lambda f: (f.stand, SIMPLEST.index(f.attack))) if ran else None

    def as_dict(self) -> dict:
        "As JSON values; seconds differ from run to run and stay out"
        values = asdict(self)
        for fall in values["falls"]:
            del fall["seconds"]
        return values

    @classmethod
    def of(cls, values: dict) -> FollowUp:
        "What `as_dict` gave"
        falls = [Fall(**{**f, "flags": tuple(f["flags"])}) for f in values["falls"]]
        return cls(**{**values, "falls": tuple(falls), "lowered": tuple(values["lowered"])})

    def __repr__(self):
        keep = self.best
        said = [self.headline, *(f"- {line}" for line in self.lines())]
        return "\n".join([*said, "", f"# {keep.told}", keep.cell] if keep else said)


def _line(fall):
    why = ", ".join(fall.flags)
    if fall.note:
        return f"{why} -> {fall.attack}: could not be run, {fall.note}"
    return (
        f"{why} -> {fall.attack}: {fall.stand:.1%} stand, {fall.points:.1f} points below the claim"
        f" [{fall.lo:.1f}, {fall.hi:.1f}]; {fall.new} images that nothing else had broken"
    )


def _asked(ground, name):
    "Whose answer counts: the model's; of a model that remembers, a fresh copy's"
    fresh = forgetful(ground.model, ground.x) if name == "no_memory" else None
    return fresh or ground.model


def _stand(ground, name, attack, size=256):
    """(m,) bool: which of the images stand, (m,) share of the answers that are right, and (m,) of
    fresh ones; of a model whose answers repeat, images that the claim gave up are not asked
    """
    stand = ground.claimed.clone()
    share = stand.double()
    count = share.clone()
    model = _asked(ground, name)

    def ask(x):
        with torch.no_grad():
            return logits(model, x)

    asked = stand if ground.rolls == 1 else torch.ones_like(stand)
    for i in asked.nonzero()[:, 0].split(size):
        x, y = ground.x[i], ground.y[i]
        with stream_for(x.device, ground.seed, "follow", name):
            x_adv = ground.ball.project(attack(ground.model, x.clone(), y.clone()), x)
            stand[i] = ~missed(ask(x_adv), y)
            for told in (share, count):
                told[i] = stand[i].double()
                if ground.rolls > 1:
                    told[i] = share_right(ask, x_adv, y, ground.rolls)
    return stand, share, count


def _points(a, b, n):
    "By how many points more stands under `a` than under `b`, and the interval"
    return tuple(100 * v for v in gap(int((a & ~b).sum()), int((b & ~a).sum()), n))


def _one(ground, name, flags, lowest):
    "(Fall, what `_stand` says of it) of one attack; `lowest`: share of right answers before it"
    recipe = getattr(adaptive, name)
    numbers = numbers_for(name, ground)
    start = time.perf_counter()
    note = ""
    stand = ground.claimed
    share = torch.ones_like(lowest)
    count = share
    try:
        stand, share, count = _stand(ground, name, partial(recipe, ball=ground.ball, **numbers))
    except (AttributeError, RuntimeError, TypeError, ValueError) as e:
        note = first_line(e)  # a row says so: the others are still worth something
    points, lo, hi = _points(ground.claimed, stand, ground.n)
    fall = Fall(
        attack=name,
        flags=flags,
        told=recipe.__doc__.split("\n")[0],
        stand=count.sum().item() / ground.n,
        points=points,
        lo=lo,
        hi=hi,
        new=int(((lowest >= 0.5) & (share < 0.5)).sum()),
        seconds=round(time.perf_counter() - start, 1),
        cell=adaptive.as_cell(recipe, ground.ball, **numbers),
        note=note,
    )
    return fall, stand, share, count


def follow_up(
    card: Card,  # that `trust` has just made, with or without flags
    attacks=None,  # names of attacks of `measure.adaptive`; default: those that the flags call for
    progress: bool = True,  # show a bar
) -> FollowUp:
    """Run the attacks that the flags of a card call for, on the images of the card.

    Each is an adaptive attack (Tramèr et al. 2020): made for what is special in this model. Print
    the result: the attack that left least stands below it, as a cell to keep.

    Parameters
    ----------
    card : Card
        that `trust` has just made, with or without flags
    attacks
        names of attacks of `measure.adaptive`; default: those that the flags call for
    progress : bool
        show a bar (default: True)

    Returns
    -------
    FollowUp

    Raises
    ------
    ValueError
        for a card from a file, which has no network, or for an unknown attack
    """
    ground = card.ground
    if ground is None:
        raise ValueError(
            "card was read from a file, which keeps no network and no images; make it again by"
            " trust(model, data, ball), and follow that one up."
        )
    if not isinstance(attacks, dict):
        attacks = attacks_for(card) if attacks is None else {k: ("asked for",) for k in attacks}
    if unknown := {*attacks} - {*adaptive.__all__}:
        raise ValueError(f"no attack is called {min(unknown)!r}; see measure.adaptive.")
    lowest = ground.lowest
    share = ground.share
    count = ground.count
    falls = []
    quiet = {} if progress else {"disable": True}
    if len(ground.x):
        with borrowed(ground.net, ground.x.device, ground.seed), watched(tell=False):
            with fitting_threads(ground.net, ground.x):
                for name, flags in bar(attacks.items(), desc="follow up", **quiet):
                    fall, stand, right, fresh = _one(ground, name, flags, share)
                    # by the attack that is the worst for an image
                    is_worse = right < share
                    lowest = torch.where(is_worse, stand, lowest)
                    count = torch.where(is_worse, fresh, count)
                    share = torch.minimum(share, right)
                    falls.append(fall)
    return FollowUp(
        tuple(falls),
        card.claim,
        ground.claim,
        ground.count.sum().item() / ground.n,
        count.sum().item() / ground.n,
        ground.n,
        _points(ground.lowest, lowest, ground.n),
    )
