"Which runs a verdict still waits for"

from __future__ import annotations

from .claims import claims_on
from .finding import find_study
from .job import jobs
from .rows import runs_of
from .today import verdict_today

__all__ = ["to_repeat"]


def to_repeat(
    study,  # a study, its name, or its file: 'mine.py'
    size: str = "laptop",  # of the runs
) -> tuple[list[str], range]:  # rows that lack runs of today, and the further seeds
    "The further runs that the claims of a study need which its first seeds support"
    study = find_study(study)
    of = study.size(size, [*study.arms][0])
    seeds = range(of.seeds, of.seeds + of.again)
    # what was supported then, whatever the further ones that are there say by now
    first = [d for d in runs_of(study, size) if d["seed"] < of.seeds]
    waiting = [
        c
        for c in claims_on(study)
        if verdict_today(c, study, size, first)["verdict"] == "unrepeated"
    ]
    needed = {arm for c in waiting for arm in c.arms}
    lacks = {j.arm_name for j in jobs(study, size, seeds) if j.arm_name in needed and not j.done()}
    return [arm for arm in study.arms if arm in lacks], seeds
