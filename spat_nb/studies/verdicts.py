"What the runs say of a claim: one rule for all"

from __future__ import annotations

import math

import torch

from ..measure.means import mean_interval
from .answers import solved
from .sizes import SIZES, Size

__all__ = ["verdict_on"]


def verdict_on(
    claim,  # a `Claim`: arms, value, least, either, attack
    runs,  # results of its study at one size
    size: Size | None = None,  # how many seeds it asks for; default: as `SIZES` has it
) -> dict:  # mean, lo, hi, seeds, further, n, lo_both, hi_both, verdict
    """A claim's number over the seeds that all its rows have: its mean with Student's 95% interval
    (NaN with one seed), and whether it is supported, refuted, unproven or open.

    `n` images were attacked, None where the claim is not about one attack. [lo_both, hi_both]
    counts their drawing beside that of the seeds; None where the answers were not kept.

    Where the size asks for further seeds (`Size.again`), what its first ones support is unrepeated
    until they are there, and unproven where their mean ('further', None without them) lies on the
    other side of the mark. Seeds beyond those are not counted: which they are is not chosen
    """
    if size is None:  # without runs any will do
        size = SIZES[runs[0]["size"] if runs else "laptop"]
    if size.again:
        runs = [d for d in runs if d["seed"] < size.seeds + size.again]
    found = {(d["arm"], d["seed"]): d for d in runs}
    of_first = sorted(seed for arm, seed in found if arm == claim.arms[0])
    seeds = [s for s in of_first if all((arm, s) in found for arm in claim.arms)]
    rows = [[found[arm, s] for arm in claim.arms] for s in seeds]
    values = [claim.value(*row) for row in rows]
    mean, half = mean_interval(values) if values else (math.nan, math.nan)
    verdict, further = _verdict(values, claim), []
    if rows:
        first = [v for s, v in zip(seeds, values, strict=True) if s < size.seeds]
        further = [v for s, v in zip(seeds, values, strict=True) if s >= size.seeds]
        if size.again:
            verdict = _repeated(verdict, first, further, size.again, claim)
    of_images = _images(rows, claim.attack) if claim.attack else None
    both = None if of_images is None else math.hypot(half, of_images)
    return {
        "mean": mean,
        "lo": mean - half,
        "hi": mean + half,
        "seeds": len(values),
        "further": sum(further) / len(further) if further else None,
        "n": rows[0][0]["attacks"][claim.attack]["n"] if rows and claim.attack else None,
        "lo_both": None if both is None else mean - both,
        "hi_both": None if both is None else mean + both,
        "verdict": verdict,
    }


def _verdict(values, claim):
    "What the seeds say of a claim"
    if len(values) < 3:
        return "open"
    mean, half = mean_interval(values)
    if mean - half > claim.least or (claim.either and mean + half < claim.least):
        return "supported"
    at_it = half == 0 and mean <= claim.least
    if not claim.either and (mean + half < claim.least or at_it):
        return "refuted"
    return "unproven"


def _repeated(verdict, first, further, needed, claim):
    "The verdict of all seeds together, where the further ones are all there and agree"
    if len(further) < needed:
        # some of them decide nothing: whoever stops where it suits finds what suits
        waits = "supported" in (verdict, _verdict(first, claim))
        return "unrepeated" if waits else verdict
    above = {sum(v) / len(v) > claim.least for v in (first, further) if v}
    return "unproven" if verdict == "supported" and len(above) > 1 else verdict


def _images(rows, attack):
    "Half of the 95% interval over the drawing of images alone, in points; None if not known"
    answers = [v for row in rows for d in row if (v := solved(d, attack)) is not None]
    if len(answers) < 2 * max(len(rows), 1) or len({len(v) for v in answers}) > 1:
        return None
    # the first row's and the second's in turns
    right = torch.stack(answers).double()
    gain = (right[0::2] - right[1::2]).mean(0)
    return 196 * gain.std().item() / math.sqrt(len(gain))
