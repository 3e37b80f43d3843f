"What is done of a study, and its results by its name"

from __future__ import annotations

from ..core.paths import shell
from ..core.settings import settings
from .finding import find_study, studies
from .job import jobs
from .results import Results, read_runs, run_file
from .sizes import SIZES
from .study import Study
from .today import current

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
    """All results of a study at a size

    ValueError for an unknown size, and where a file is damaged or of another study or size
    """
    if size not in SIZES:
        raise ValueError(f"size is {size!r}; it is {', '.join(SIZES)}.")
    name = _named(study)
    folder = settings().results / name / size
    runs = read_runs(folder)
    for d in runs:
        if (d["study"], d["size"]) != (name, size):
            raise ValueError(
                f"{folder / run_file(d['arm'], d['seed'])} is a run of the study {d['study']!r} at"
                f" size {d['size']!r}; move it away."
            )
    return runs


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
    planned = {(j.arm_name, j.seed) for j in jobs(study, size)}
    files = [d for d in runs_of(study, size) if d["arm"] in study.arms]
    there = [(d["arm"], d["seed"]) for d in current(study, size, files)]
    done = sum(run in planned for run in there)
    seconds = sum(sum(d["seconds"].values()) for d in files)
    return {
        "study": study.name,
        "size": size,
        "done": done,
        "of": len(planned),
        "further": len(there) - done,
        "outdated": len(files) - len(there),
        "minutes": round(seconds / 60, 1),
    }
