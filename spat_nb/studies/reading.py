"""Read what was done, from files alone: a study, a training, a judgement

Nothing is run, and no trainer is loaded
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from ..core.paths import what_is
from ..measure.card import Card
from ..measure.record import Record
from ..measure.report import Report
from .results import Results, read_results

__all__ = ["Training", "read"]


@dataclass(frozen=True, repr=False)
class Training:
    "What a training left behind, without its network: `open_run` gives that"

    told: dict  # result.json
    place: str = ""  # where it lies
    report: Report | None = field(default=None)  # its judgement, where there is one

    @property
    def recipe(self) -> dict:
        "field -> text or number; Recipe.from_dict makes the recipe"
        return self.told["recipe"]

    @property
    def history(self) -> list:
        return self.told["history"]

    def frame(self):  # pandas.DataFrame, a row per look at validation images
        "step, epoch, loss, lr, clean, robust"
        import pandas as pd

        return pd.DataFrame(self.history)

    def table(self):  # pandas.DataFrame
        "The judgement's table where there is one, else the history"
        return self.frame() if self.report is None else self.report.table()

    def plot(self, ax=None):  # the axes
        "Validation accuracy over the epochs"
        from spat_nb.core.plot import curves

        rows = [r for r in self.history if "clean" in r]
        epochs = [r["epoch"] for r in rows]
        lines = {k: (epochs, [r[k] for r in rows]) for k in ("clean", "robust")}
        return curves(lines, "epoch", "validation accuracy", ax)

    def __repr__(self):
        slots = ", ".join(f"{k}={v!r}" for k, v in self.recipe.items() if v not in (None, []))
        told = self.told
        steps = f"step {told['best']} of {told['steps']}"
        head = f"{self.place}: {steps}, {told['seconds']} s on {told['device']}"
        return f"{head}\n{slots}\n{self.table().to_string()}"


def _training(path):
    "What result.json says, with the report beside it"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        training = Training(told, str(path.parent), _report_beside(path))
        repr(training)  # a whole result can say what it says
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path} is no whole result of a training ({e}); train again.") from None
    return training


def _report_beside(path):
    report = path.parent / "report.json"
    return Report.load(report) if report.is_file() else None


def _keys(path):
    "The keys of a JSON file; none where it is something else"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return {}
    return values if isinstance(values, dict) else {}


def read(
    path,  # folder of a study or a training; file of a report, a record, a card or a result
    order=(),  # of a study: its rows from top to bottom
) -> Results | Training | Report | Record | Card:
    """What lies there

    FileNotFoundError where nothing does.

    Parameters
    ----------
    path
        folder of a study or a training; file of a report, a record, a card or a result
    order
        of a study: its rows from top to bottom (default: ())

    Returns
    -------
    Results | Training | Report | Record | Card

    Raises
    ------
    FileNotFoundError
        where nothing does
    ValueError
        where it is nothing that we wrote, or damaged
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; check the path.")
    if path.is_dir():
        result = path / "result.json"
        return _training(result) if result.is_file() else read_results(path, order)
    keys = _keys(path)
    if keys.get("kind") == "report":
        return Report.load(path)
    if keys.get("kind") == "run":
        return _training(path)
    if {"y", "preds"} <= {*keys}:
        return Record.load(path)
    if {"checks", "claim"} <= {*keys}:
        return Card.load(path)
    if {"study", "arm"} <= {*keys}:
        return Results((keys,), str(path), tuple(order))
    raise ValueError(
        f"{path} is {what_is(path)}; "
        "give a folder of results, or the file of a report, a record or a trust card."
    )
