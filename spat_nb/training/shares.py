"""The share of each batch that one of many processes works on"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..data.streams import Stream

__all__ = ["Share", "Whole", "spread"]


def _part(s, r, of, e=0, start=0):
    return [i[r::of] for i in s.indices(e, start)]


@dataclass(eq=False)
class Share:
    """Of every batch of `train` the images rank, rank+of, rank+2 of, ...: together the processes
    see each batch once. ValueError where a batch has fewer images than there are processes
    """

    train: Any  # `Batches`, `Stream`, or what else a Learner trains on
    rank: int  # of this process, 0 <= rank < of
    of: int  # processes
    whole: int = 0  # images in the batch that is being worked on, all shares together

    def __post_init__(self):
        b = getattr(self.train, "batch_size", None)
        if b and (small := min(b, self.n % b or b)) < self.of:
            raise ValueError(
                f"a batch of {self.n} images in batches of {b} holds {small} images, for {self.of}"
                " processes; choose another batch_size."
            )

    @property
    def n(self):
        return self.train.n

    @property
    def shape(self):
        return self.train.shape

    @property
    def seed(self):
        return getattr(self.train, "seed", None)

    def __len__(self):
        return len(self.train)

    # a run may go on with another number of processes
    def __identity__(self):
        return self.train

    def rows(self, x):
        return x[self.rank :: self.of]

    def epoch(self, e=0, start=0):
        """This process's rows of the batches of epoch `e`.

        An augmentation of whole batches is drawn whole, then cut; of files only the share is read
        """
        if not isinstance(self.train, Stream):
            for x, y in self.train.epoch(e, start):
                self.whole = len(x)
                yield self.rows(x), self.rows(y)
            return
        mine = copy.copy(self.train)
        # this copy alone
        mine.indices = partial(_part, self.train, self.rank, self.of)  # type: ignore[method-assign]
        for i, (x, y) in zip(self.train.indices(e, start), mine.epoch(e, start)):
            self.whole = len(i)
            yield x, y


@dataclass(frozen=True, repr=False)
class Whole:
    """`start`, drawn for the whole batch and cut to this share: every process draws the same
    numbers as a lone one would
    """

    start: Callable  # (x, ball, generator) -> first point
    share: Share  # knows the size of the whole batch

    def __repr__(self):
        return repr(self.start)

    def __identity__(self):
        return self.start  # a checkpoint asks which start it is

    def __call__(self, x, ball, generator=None):
        s = self.share
        # not the batch
        if len(x) != len(range(s.rank, s.whole, s.of)):
            return self.start(x, ball, generator)

        def whole(t):
            full = t.new_zeros(s.whole, *t.shape[1:])
            full[s.rank :: s.of] = t
            return full

        # a radius for each image, say
        each = {
            k: whole(v)
            for k, v in vars(ball).items()
            if isinstance(v, Tensor) and v.shape[:1] == x.shape[:1]
        }
        return s.rows(self.start(whole(x), replace(ball, **each) if each else ball, generator))


def spread(
    attack,  # of the training
    share: Share,  # of this process
    # the same attack, which starts as a `Whole` does; attacks that are no dataclass stay
):
    "Let `attack`, and the attacks inside it, draw their starts for the whole batch"
    if not is_dataclass(attack) or isinstance(attack, type):
        return attack
    new = (
        {"start": Whole(attack.start, share)}
        if hasattr(attack, "start")
        else {"attack": spread(attack.attack, share)}
        if hasattr(attack, "attack")
        else {}
    )
    return replace(attack, **new)
