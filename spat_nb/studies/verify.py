"Judge the kept networks of a study once more"

from __future__ import annotations

import shutil

from ..core.settings import default_device
from .budget import alone_in
from .finding import find_study
from .job import jobs
from .work import begin, judge_run, load_result, write_result

__all__ = ["verify"]


def _moved(was, now) -> str:
    "What is no longer as it was, of two judgements of one network; '' where all came back"

    def count(v):
        return f"{v['correct']} of {v['n']}"

    rows = [
        f"{k} {count(v)}, now {count(now['attacks'][k])}"
        for k, v in was["attacks"].items()
        if {**now["attacks"][k], **v} != now["attacks"][k]
    ]
    a, b = (", ".join(d["trust"]["flags"]) or "none" for d in (was, now))
    if a != b:
        rows.append(f"flags of the trust card {a}, now {b}")
    return "; ".join(rows)


def verify(
    name,  # a study, its name, or its file: 'mine.py'
    size: str = "laptop",  # one of `SIZES`
    seeds=None,  # default: all
    arms=None,  # rows; default: all
    device=None,  # default: the reader's setting
    quiet: bool = False,  # no bars
    say=print,  # what is called with each line
) -> int:  # networks whose numbers did not come back
    """Judge the kept networks of a study once more; a line for each. Results of before answers were
    kept image by image get them, where all numbers came back. A kill loses nothing
    """
    study, moved = find_study(name), 0
    for job in jobs(study, size, seeds, arms):
        job.device, job.quiet = default_device(device), quiet
        who = f"{study.name}, {size}: {job.arm_name}, seed {job.seed}"
        if not job.done() or not job.kept.is_file():
            say(f"{who}: {'no weights were kept' if job.done() else 'has not been run'}")
            continue
        with alone_in(job.work) as mine:
            if not mine:
                say(f"{who}: another process is at it")
                continue
            begin(job)
            model, was = load_result(job, job.kept), job.result()
            now = judge_run(job.arm.finish(model, job) if job.arm.finish else model, job)
            told = _moved(was, now)
            if told:
                moved += 1
            else:
                write_result(job, {**was, "attacks": now["attacks"]})
        shutil.rmtree(job.work, ignore_errors=True)
        say(f"{who}: {told or 'all numbers came back'}")
    return moved
