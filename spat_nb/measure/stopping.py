"""Judge images in random order until the answer is clear, or the time is up

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.digest import digest
from ..data.draws import rng
from ..data.pairs import is_pair, pair
from .anytime import Anytime
from .record import Record

__all__ = ["Stopped", "joined", "in_order", "judged_until", "part_of_file"]

USUAL_WIDTH = 0.02  # the stakes suit this width where only a time is given
CHUNK = 128  # images between two looks, of tensors without batches of their own


@dataclass(frozen=True)
class Stopped:
    "How far a judgement went that need not see all images"

    images: int  # that were judged
    total: int  # that there are
    row: str  # of the report, which decided
    accuracy: float  # of the judged images, under this row
    low: float  # of all images: lowest plausible accuracy, 95%, whenever one looks
    high: float  # highest
    why: str  # it stopped: 'close enough', 'time is up', 'all images'

    def __str__(self):
        ends = f"{100 * self.low:.1f}% to {100 * self.high:.1f}%"
        return (
            f"{self.why} after {self.images:,} of {self.total:,} images in random order: "
            f"{100 * self.accuracy:.1f}% under {self.row}; all of them together {ends} "
            "(95%, whenever one looks)"
        )

    def as_dict(self) -> dict:
        "As JSON values"
        return asdict(self)


def joined(
    records: list,  # of Records of the same network and attacks, on different images
) -> Record:
    "One record of all their images, in this order; seconds are added"
    first = records[0]
    if len(records) == 1:
        return first
    preds = {k: torch.cat([r.preds[k] for r in records]) for k in first.preds}
    seconds = {
        k: sum(r.info["seconds"].get(k, 0.0) for r in records) for k in first.info["seconds"]
    }
    marks = None
    identity = first.info.get("identity", {})
    if all(r.marks is not None for r in records):
        marks = torch.cat([r.marks for r in records])
        identity = {**identity, "images": digest(marks)}
    notes = list(dict.fromkeys(note for r in records for note in r.notes))
    info = {**first.info, "seconds": seconds, "notes": notes, "identity": identity}
    classes = max((r.classes for r in records), key=len)
    return Record(torch.cat([r.y for r in records]), preds, classes, info, marks)


def part_of_file(
    path,  # of the file that keeps what is done; None: nothing is kept
    k: int,  # which part of the images
):
    "The file of part `k`: 'a.3.json' for 'a.json'"
    if path is None:
        return None
    path = Path(path)
    return path.with_name(f"{path.stem}.{k}{path.suffix}")


def _count(data):
    "How many images there are. TypeError where they cannot be drawn in random order"
    if hasattr(data, "take"):
        return data.n
    if is_pair(data):
        return len(data[1])
    raise TypeError(
        f"data is a {type(data).__name__}, of which no random part can be taken; give Batches, a"
        " Dataset, or tensors (x, y)."
    )


def _order(data, seed) -> Tensor:  # (n,) positions
    "The order in which the images are judged"
    return torch.randperm(_count(data), generator=rng(seed, "order of judging"))


def _chosen(data, positions):
    "The images at these positions"
    if hasattr(data, "take"):
        return data.take(positions)
    x, y = pair(data)
    return x[positions.to(x.device)], y[positions.to(y.device)]


def in_order(
    data,  # that was judged by `judged_until`
    seed: int,  # of that judgement
    n: int,  # images that it saw
):
    "The images as they were judged: the first is that of the record's first row"
    return _chosen(data, _order(data, seed)[:n])


def judged_until(
    run: Callable,  # (images, seed, file that keeps what is done) -> Record
    data,  # `Batches` or tensors (x, y); anything else where all of it is judged
    within: float | None,  # stop when the interval reaches so far to each side, at most
    budget: float | None,  # stop after so many seconds, at the end of a batch
    seed: int = 0,  # of the order, and of random starts
    resume=None,  # file that keeps what is done; of several parts each has its own
) -> tuple[Record, Stopped | None]:  # None: all images were asked for
    """Judge batch by batch, until the interval of the hardest row is narrow, or the time is up

    The interval is that of `Anytime`: of the accuracy on all images, of which these were drawn.
    """
    if within is None and budget is None:
        return run(data, seed, resume), None
    total, start = _count(data), time.monotonic()
    game = Anytime(total, within or USUAL_WIDTH)
    records: list = []
    row, why = "clean", "all images"
    for k, positions in enumerate(_order(data, seed).split(getattr(data, "batch_size", CHUNK))):
        records.append(run(_chosen(data, positions), seed + k, part_of_file(resume, k)))
        row = records[-1].names[-1]
        game.add(records[-1].correct(row))
        if game.n == total:
            break
        if within is not None and game.within():
            why = "close enough"
            break
        if budget is not None and time.monotonic() - start > budget:
            why = "time is up"
            break
    if not records:
        raise ValueError("the data holds no images; check how it was split.")
    low, high = game.interval()
    return joined(records), Stopped(game.n, total, row, game.mean, low, high, why)
