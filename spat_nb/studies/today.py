"Which results the rows of today would give again: no verdict counts others"

from __future__ import annotations

from .job import Job
from .study import Study
from .verdicts import verdict_on

__all__ = ["current", "verdict_today"]


def current(
    study: Study,
    size: str,  # one of `SIZES`
    runs,  # results of the study at this size
) -> tuple:  # of dicts
    "Those whose row is still there, trained and judged as it says today"
    # a row's configuration does not depend on the seed
    rows = {arm: Job(study, arm, size, 0) for arm in study.arms}
    return tuple(d for d in runs if d["arm"] in rows and not rows[d["arm"]].outdated(d))


def verdict_today(
    claim,  # a `Claim` on rows of the study
    study: Study,
    size: str,  # one of `SIZES`
    runs,  # results of the study at this size
) -> dict:  # as of `verdict_on`
    """What the current ones of these results say of a claim, with the seeds that the study asks for

    ValueError where it has no such row
    """
    if gone := [arm for arm in claim.arms if arm not in study.arms]:
        raise ValueError(
            f"the claim {claim.claim!r} is about {gone[0]!r}; the rows of {study.name} are"
            f" {', '.join(study.arms)}."
        )
    mine = [d for d in runs if d["arm"] in claim.arms]
    return verdict_on(claim, current(study, size, mine), study.size(size, claim.arms[0]))
