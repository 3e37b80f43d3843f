"""The page of a diagnosis: one HTML file"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.pages import figure, table, write_page

if TYPE_CHECKING:
    from .diagnosis import Diagnosis

__all__ = ["facts", "write_diagnosis"]


def facts(
    diagnosis: Diagnosis,
):
    "(what, value) of everything that the numbers hang on"
    info = diagnosis.record.info
    for what in ("network", "data", "ball", "device", "threads", "precision"):
        if info.get(what) not in (None, ""):
            yield what, info[what]
    yield "images", f"{len(diagnosis.record.y)}, of {len(diagnosis.record.classes)} classes"
    for k, attack in info.get("attacks", {}).items():
        yield f"attack {k}", re.sub(r"<(?:function|class) '?([\w.]+)'?>", r"\1", attack)


def write_diagnosis(
    diagnosis: Diagnosis,
    path,  # file to write
    name: str | None = None,  # attack of the pictures; default: the strongest
):
    "Write the report, pictures included, to one HTML file that needs no other"
    alt = {
        "classes": "Bars: the accuracy of each class, with its interval",
        "heat": "A grid: rows are labels, columns answers, dark cells many images",
        "graph": "Classes as dots, arrows to what they are taken for",
    }
    captions = {
        "classes": "Each class by itself, the weakest on top, with intervals.",
        "heat": "What each class (row) is taken for (column).",
        "graph": "The commonest confusions, as arrows.",
    }
    write_page(
        path,
        "diagnosis.html",
        network=diagnosis.record.info.get("network", ""),
        told=list(facts(diagnosis)),
        summary=diagnosis.summary(name),
        shots=[figure(ax, captions[k], alt[k]) for k, ax in diagnosis.plot(name).items()],
        tables=[(title, table(t)) for title, t in diagnosis.tables(name)],
    )
