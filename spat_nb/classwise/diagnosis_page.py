"""The page of a diagnosis: one HTML file"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core import spec
from ..core.bars import bars_of
from ..core.pages import figure, table, write_page
from ..measure.battery import attack_told
from ..measure.told import images_told, network_told
from .confusion_plot import graph, heat

if TYPE_CHECKING:
    from .diagnosis import Diagnosis

__all__ = ["facts", "judged_told", "write_diagnosis"]

REPR = re.compile(r"<(?:function|class|built-in function) '?([\w.]+)'?[^>]*>")


def judged_told(
    model,  # pixels to logits
    data,  # what was judged
    record,  # of `evaluate`
    attacks: dict,  # name -> attack
) -> dict:  # network, data, ball: texts; specs: name -> text
    "What was judged, in words, for the page"
    shape = getattr(data, "shape", None)
    balls = {spec.text(a.ball) for a in attacks.values() if getattr(a, "ball", None) is not None}
    told = {
        "specs": {k: attack_told(a) for k, a in attacks.items()},
        "network": network_told(model),
        "data": images_told(len(record.y), len(record.classes), shape),
    }
    return {**told, "ball": ", ".join(sorted(balls))} if balls else told


def facts(
    diagnosis: Diagnosis,
):
    "(what, value) of everything that the numbers hang on"
    record = diagnosis.record
    info = record.info
    for what in ("network", "data", "ball", "device", "threads", "precision"):
        if info.get(what) not in (None, ""):
            yield what, info[what]
    if not info.get("data"):
        yield "data", images_told(len(record.y), len(record.classes))
    for k, attack in info.get("specs", info.get("attacks", {})).items():
        yield f"attack {k}", REPR.sub(r"\1", attack)


def with_intervals(
    frame,  # pandas.DataFrame with columns 'lo' and 'hi', or 'clean lo' and 'clean hi'
):
    "The frame with the ends of an interval in brackets behind the value that they belong to"
    shown = frame.copy()
    for column in list(frame.columns):
        ends = [f"{column} lo", f"{column} hi"]
        if column in ("accuracy", "value", "share", "rho") and ends[0] not in frame:
            ends = ["lo", "hi"]
        if not set(ends) <= set(frame.columns):
            continue
        values = zip(frame[column], *(frame[end] for end in ends))
        shown[column] = [
            None if v != v else f"{v:.3f} [{lo:.3f}, {hi:.3f}]" for v, lo, hi in values
        ]
        shown = shown.drop(columns=ends)
    if {"equal_lo", "equal_hi"} <= set(shown.columns):
        luck = [f"{lo:.3f} to {hi:.3f}" for lo, hi in zip(shown.equal_lo, shown.equal_hi)]
        shown = shown.drop(columns=["equal_lo", "equal_hi"]).assign(**{"luck alone": luck})
    return shown


def _table(frame):
    has_names = frame.index.names != [None]
    shown = with_intervals(frame).rename(columns=lambda name: str(name).replace("_", " "))
    return table(shown, index=has_names)


def _heading(title):
    "(heading, a sentence below it)"
    head, _, more = title.partition(": ")
    more = more.replace("equal_lo and equal_hi: what luck alone", "luck alone is what it")
    return head, f"{more[0].upper()}{more[1:]}." if more else ""


def write_diagnosis(
    diagnosis: Diagnosis,
    path,  # file to write
    name: str | None = None,  # attack of the pictures; default: the strongest
):
    "Write the report, pictures included, to one HTML file that needs no other"
    alt = {
        "heat": "A grid: rows are labels, columns answers, dark cells many images",
        "graph": "Classes as dots, arrows to what they are taken for",
    }
    captions = {
        "heat": "What each class (row) is taken for (column).",
        "graph": "The commonest confusions, as arrows.",
    }
    name = name or diagnosis.strongest
    record = diagnosis.record
    counts = record.confusion(name)
    plots = {"heat": heat(counts, record.classes), "graph": graph(counts, record.classes)}
    write_page(
        path,
        "diagnosis.html",
        network=record.info.get("network", ""),
        told=list(facts(diagnosis)),
        summary=diagnosis.summary(name),
        under=name,
        bars=bars_of(record.per_class(name, diagnosis.level)),
        shots=[figure(plots[k], captions[k], alt[k]) for k in captions],
        tables=[(_heading(title), _table(t)) for title, t in diagnosis.tables(name)],
    )
