"""Is a network loaded right? Asked before any attack: a wrong normalisation spoils every number

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from ..core.bars import percent
from ..core.checks import check_images, check_labels
from ..core.evalmode import device_of, eval_mode
from ..core.protocols import ModelFunction
from ..data.draws import pick
from ..data.pairs import is_pair, pair
from .labelling import Relabelling, relabelling, told_apart
from .readings import readings
from .stages import logits_of

__all__ = ["LoadingCheck", "check_loading"]

LEVEL = 0.001  # chance that a right network is doubted, all readings together
GAIN = 0.05  # a reading that is better by less than this share is no reason to doubt
CLOSE = 0.03  # readings whose shares lie so near to the best are named beside it
LITTLE = 0.6  # what fewer right answers than this in any order of labels leave open
BATCH = 64


@dataclass(frozen=True)
class LoadingCheck:
    "What was found. `mistake` is '' where the network seems to be loaded right"

    n: int  # images
    accuracy: float  # as the network is, in [0,1]
    chance: float  # the share of the commonest class, or 1/classes
    readings: dict  # name of another reading of the pixels -> accuracy under it
    mistake: str  # what is most likely wrong; '': nothing found
    evidence: str  # the numbers that say so
    mend: str  # what to do; '': nothing
    is_open: bool = False  # would more images tell more?

    def table(self):  # pandas.DataFrame, the best reading first
        "Accuracy under every reading of the pixels"
        import pandas as pd

        rows = {"as it is": self.accuracy, **self.readings}
        table = pd.DataFrame({"accuracy": rows})
        table.index.name = "the network gets"
        return table.sort_values("accuracy", ascending=False, kind="stable")

    def __str__(self):
        if self.is_open:
            return f"loaded right? These images do not tell: {self.evidence}."
        if not self.mistake:
            return f"loaded right, as far as can be seen: {self.evidence}."
        return f"PROBABLY LOADED WRONG: {self.mistake}. {self.evidence}. Mend: {self.mend}."

    __repr__ = __str__


@torch.no_grad()
def _answers(model, x, change=None):
    "(n,) answers; -1 where the model returned no numbers"
    found = []
    for part in x.split(BATCH):
        z = logits_of(model, part if change is None else change(part))
        found.append(torch.where(z.isfinite().all(1), z.argmax(1), -1).cpu())
    return torch.cat(found)


def _above_chance(right, chance):
    from scipy.stats import binomtest

    return binomtest(int(right.sum()), len(right), chance, alternative="greater").pvalue < 0.01


def _are_enough(n, chance):
    "Would a network half way between chance and all right be told from chance in 99 of 100 draws?"
    from scipy.stats import binom

    needed = binom.isf(0.01, n, chance) + 1  # right answers that luck gives once in a hundred
    return binom.sf(needed - 1, n, (1 + chance) / 2) >= 0.99


def _images(data, n, device):
    "Images and labels to look at, balanced by class, where the network is"
    from .feed import batches_of

    if hasattr(data, "subset"):
        x, y = data.subset(min(n, data.n)).tensors()
    elif is_pair(data):
        x, y = pair(data)
        chosen = pick(y, min(n, len(y))).to(x.device)
        x, y = x[chosen], y[chosen]
    else:
        parts, seen = [], 0
        for x, y in batches_of(data):
            parts.append((x, y))
            seen += len(x)
            if seen >= n:
                break
        if not parts:
            raise ValueError("the data holds no images; check how it was split.")
        x, y = (torch.cat(t)[:n] for t in zip(*parts))
    check_labels(y, len(check_images(x)))
    return x.to(device or x.device), y.cpu()


def _dark(x):
    "What is wrong with the images themselves; '' for nothing"
    brightest = float(x.max())
    if 0 < brightest <= 2 / 255:
        return f"the brightest pixel of {len(x)} images is {brightest:.4g}"
    return ""


def check_loading(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data,  # `Batches`, tensors (x, y), or what yields batches (x, y)
    # (mean, std) of the normalisation that was put before the network; None: none was
    normalisation: tuple | None = None,
    n: int = 256,  # look at so many images
) -> LoadingCheck:
    """Compare the clean accuracy with chance and with what other readings of the pixels would give

    A mistake is claimed where another reading is better by five points at least and by more than
    chance (exact McNemar test, one in a thousand for all readings together), where the labels look
    permuted (learned on one half of the images, tested on the other), or where no reading is
    better than chance on images enough to see it. Where a reading only seems better, four times as
    many images are asked.

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data
        `Batches`, tensors (x, y), or what yields batches (x, y)
    normalisation : tuple | None
        (mean, std) of the normalisation that was put before the network; None: none was (default:
        None)
    n : int
        look at so many images (default: 256)

    Returns
    -------
    LoadingCheck

    Raises
    ------
    ValueError or TypeError
        where network and data do not fit
    """
    for size in (n, 4 * n):
        x, y = _images(data, size, device_of(model))
        found, suspects = _look(model, x, y, normalisation, getattr(data, "classes", ()))
        if found.mistake or not suspects or len(y) < size:
            break
    return found


def _look(model, x, y, normalisation, classes):
    "What these images say, and the readings that seem better without being told apart"
    others = readings(tuple(x.shape[1:]), normalisation)
    with eval_mode(model):
        answers = _answers(model, x)
        right = answers == y
        seen = {r: _answers(model, x, r.pixels) == y for r in others}
    shares = {r.name: float(v.float().mean()) for r, v in seen.items()}
    chance = max(1 / max(2, int(y.max()) + 1), float(y.bincount().max()) / len(y))
    found = partial(
        LoadingCheck, n=len(y), accuracy=float(right.float().mean()), chance=chance, readings=shares
    )
    as_it_is = f"{percent(right.float().mean())} of {len(y)} images right as it is"
    level = LEVEL / 2  # there may be two looks
    if dark := _dark(x):
        mend = "the pixels were divided by 255 twice: take one of the two away"
        return found(mistake="the images are black", evidence=dark, mend=mend), []
    better = [r for r in others if told_apart(seen[r], right, level / len(others), GAIN)]
    best = max(better, key=lambda r: shares[r.name], default=None)
    labels = relabelling(answers, y, level)
    if best is not None and (labels is None or shares[best.name] >= labels.accuracy):
        return found(
            mistake=f"the network seems to want {best.name}",
            evidence=f"{as_it_is}, {_rivals(better, shares)}",
            mend=best.mend,
        ), []
    if labels is not None:
        return found(**_of_labels(labels, as_it_is, classes)), []
    several = len(y.unique()) > 1  # of one class nobody can say what chance is
    are_seen = any(_above_chance(v, chance) for v in (right, *seen.values()))
    if several and not are_seen and _are_enough(len(y), chance):
        return found(
            mistake="no reading of the pixels is better than chance",
            evidence=f"{as_it_is}, chance is {percent(chance)}",
            mend="check that trained weights were loaded, and that the labels are of this data set",
        ), []
    next_name, next_share = max(shares.items(), key=lambda item: item[1])
    told = f"{as_it_is} (chance {percent(chance)}); the best of {len(others)} other readings"
    told += f" of the pixels, {next_name}, gives {percent(next_share)}"
    if several and not are_seen:
        told += f"; {len(y)} images are too few to tell it from chance"
    suspects = [r for r in others if told_apart(seen[r], right, 0.2, 0.0)]
    if suspects:
        told += ", perhaps more than by chance: more images would tell"
    is_open = bool(suspects) or several and not are_seen
    return found(mistake="", evidence=told, mend="", is_open=is_open), suspects


def _rivals(better, shares):
    "The reading that fits best, and others that fit about as well"
    ranked = sorted(better, key=lambda r: -shares[r.name])
    close = [r for r in ranked if shares[ranked[0].name] - shares[r.name] <= CLOSE]
    return ", ".join(f"{percent(shares[r.name])} with {r.name}" for r in close)


def _of_labels(labels: Relabelling, as_it_is: str, classes) -> dict:
    mend = "give the order of classes that the network was trained with: --labels names.txt"
    if (
        labels.accuracy < LITTLE
    ):  # random weights tell some classes apart too, in an order of theirs
        mend += "; or check that trained weights were loaded, since this is little too"
    return dict(
        mistake=f"the labels look permuted: {labels.words(classes)}",
        evidence=f"{as_it_is}, {percent(labels.accuracy)} of {labels.n} others with the labels so",
        mend=mend,
    )
