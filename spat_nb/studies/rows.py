"What is done of a study, and its results by its name"

from __future__ import annotations

from ..core.paths import shell
from ..core.settings import settings
from .finding import find_study, studies
from .job import Job, jobs
from .results import Results, read_runs
from .sizes import SIZES
from .study import Study

__all__ = ["runs_of", "results_of", "whole", "status"]


def _named(study):
    "The folder of a study's results"
    if isinstance(study, Study):
        return study.name
    return find_study(study).name if ".py" in str(study) else str(study)


def runs_of(
    study: str | Study,  # a name or a file, as in `find_study`, or the study
    size: str = "laptop",  # one of `SIZES`
) -> tuple:  # of dicts, as written; may be empty
    "All results of a study at a size. ValueError where a file is damaged"
    return read_runs(settings().results / _named(study) / size)


def results_of(
    study: str | Study,  # as in `runs_of`
    size: str = "laptop",  # one of `SIZES`
) -> Results:
    "The results of a study at a size, its rows in order. ValueError where there are none"
    found = find_study(study)
    runs = runs_of(found, size)
    if not runs:
        raise ValueError(
            f"there are no results of {found.name!r} at size {size!r} in {settings().results}; run:"
            f" {shell('spat_nb', 'study', 'run', study_word(found), '--scale', size)}"
        )
    return Results(runs, str(settings().results / found.name / size), tuple(found.arms))


def study_word(study: Study) -> str:
    "What a person types for it: its name, or its file"
    return (study.file or study.name).removesuffix(":study")


def whole(
    study: str | Study,  # as in `runs_of`
    size: str = "laptop",  # one of `SIZES`
) -> bool:
    "Has every row at least one result?"
    found = find_study(study)
    return {*found.arms} <= {d["arm"] for d in runs_of(found, size)}


def status(
    study: str | Study | None = None,  # as in `runs_of`; default: all of the package
):  # pandas.DataFrame: a row per study and size; runs done, runs in all, those of further seeds
    # that are done, those that an edit has outdated, minutes that they took
    "What is done and what is missing"
    import pandas as pd

    asked = [find_study(study)] if study else studies().values()
    rows = [_status(s, size) for s in asked for size in SIZES]
    return pd.DataFrame(rows).set_index(["study", "size"])


def _status(study, size):
    planned, files = jobs(study, size), runs_of(study, size)
    rows = {(j.arm_name, j.seed) for j in planned}
    further = [
        Job(study, d["arm"], size, d["seed"])
        for d in files
        if d["arm"] in study.arms and (d["arm"], d["seed"]) not in rows
    ]
    done, repeated = (sum(j.done() for j in some) for some in (planned, further))
    there = sum(j.path.is_file() for j in planned + further)
    seconds = sum(sum(d["seconds"].values()) for d in files)
    return {
        "study": study.name,
        "size": size,
        "done": done,
        "of": len(planned),
        "further": repeated,
        "outdated": there - done - repeated,
        "minutes": round(seconds / 60, 1),
    }
