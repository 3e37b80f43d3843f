"""What a card stands on: its images, and which of them stand; no file keeps it"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spat_nb.attacks.threat import Ball

from ..core.protocols import ModelFunction
from .journal import marks_of
from .record import Record

__all__ = ["Ground", "stood_before"]


@dataclass(frozen=True, eq=False)
class Ground:
    "The model on trial, the images that it answers right, and which of them stand"

    net: ModelFunction  # as it was given
    model: ModelFunction  # pixels to logits; the same, unless the net ends in a softmax
    x: Tensor  # (m,ch,h,w) images that are answered right
    y: Tensor  # (m,) their labels
    ball: Ball  # threat model
    claimed: Tensor  # (m,) bool: these stand by the claim
    claim: float  # share of all n images that stands by it, in [0,1]
    lowest: Tensor  # (m,) bool: these stand under everything that was tried
    share: Tensor  # (m,) share of right answers under the worst of everything, in [0,1]
    count: Tensor  # (m,) the same, of fresh answers
    n: int  # images that were asked, right or wrong
    rolls: int  # answers to one attacked image; 1 where the answers repeat
    cost: float  # factor of all steps and queries
    seed: int  # of all randomness


def stood_before(
    record: Record,  # of `evaluate`
    x: Tensor,  # (m,...) images
) -> Tensor | None:  # (m,) bool; None where not all of them can be found in the record
    "Which of these images stood under the hardest row of a record"
    if record.marks is None or not record.attacks:
        return None
    stood = dict(zip(record.marks.tolist(), record.correct(record.names[-1]).tolist()))
    found = [stood.get(mark) for mark in marks_of(x)]
    if None in found:
        return None
    return x.new_tensor(found).bool()
