"""Blocks of a report, which the page and the Markdown file show each in its way"""

from __future__ import annotations

from typing import NamedTuple

from ..core.pages import Table
from ..core.thumbs import change_thumb, thumb
from ..measure.cases import Case

__all__ = ["Section", "Asked", "Shot", "shots", "rows"]


class Section(NamedTuple):
    "A heading, and what stands below it"

    title: str
    blocks: list  # of (kind, content): text, head, facts, table, fold, bars, shots, asked


class Asked(NamedTuple):
    "Something that is asked, and what was measured of it"

    what: str
    shown: bool  # is there something to show?
    told: str  # what was found, or why there is nothing
    word: str = "measured"  # what was done, where there is something


class Shot(NamedTuple):
    "An image under attack: as it is, what was changed, what came of it"

    pictures: list  # of (PNG in base64, text below, what it shows)
    note: str
    case: Case


def shots(
    cases,  # of Case
) -> list:  # of Shot
    "The pictures of the worst cases"
    return [_shot(case) for case in cases]


def _shot(case):
    change = case.x_adv - case.x
    limit = change.abs().max().item()
    pictures = [
        (thumb(case.x), f"label {case.label}", f"image {case.row}, of class {case.label}"),
        (
            change_thumb(change, limit),
            f"change, up to {limit:.3g}",
            "what the attack changed: red brighter, blue darker",
        ),
        (
            thumb(case.x_adv),
            f"read as {case.answer}",
            f"the attacked image, which the network takes for {case.answer}",
        ),
    ]
    return Shot(pictures, f"image {case.row}, fell at radius {case.radius:.4g}", case)


def rows(
    head,  # names of the columns
    body,  # of lists of texts
    texts=(),  # columns that hold sentences, which may wrap
) -> Table:
    "A table from texts"
    return Table(list(head), [list(map(str, row)) for row in body], tuple(texts))
