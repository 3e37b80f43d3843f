"""A report that can be handed on: report.html, report.json and report.md in one folder"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ..core.files import write_aside
from ..core.pages import write_page
from ..measure.cases import Cases
from ..measure.report import Report
from ..measure.report_file import write_report_file
from .report_markdown import markdown
from .report_sections import DISCLAIMER, sections

__all__ = ["NAMES", "summary", "write_report"]

NAMES = ("report.html", "report.json", "report.md")
NO_CASES = Cases(told="No pictures were asked for.")


def write_report(
    report: Report,  # what `judge` gave
    folder,  # where the three files shall stand; it is made
    cases: Cases = NO_CASES,  # of `worst_cases`: pictures of images that fall
    date: str | None = None,  # when, for the page; default: now, in UTC
) -> list:  # of paths
    """Write a report as a page, as JSON and as Markdown.

    All that differs between two runs, the date and the seconds, stands in one line of each file:
    'When and how long' on the page and in the Markdown, 'when' in the JSON. The JSON is read by
    `Report.load`, and is the baseline of `spat_nb gate`; `measure.report_file.KEYS` says what its
    keys hold.

    Parameters
    ----------
    report : Report
        what `judge` gave
    folder
        where the three files shall stand; it is made
    cases : Cases
        of `worst_cases`: pictures of images that fall (default: NO_CASES)
    date : str | None
        when, for the page; default: now, in UTC

    Returns
    -------
    list
        of paths

    Raises
    ------
    OSError
        in one sentence where a file cannot be written
    """
    page, values, text = (Path(folder) / name for name in NAMES)
    date = date or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {
        "network": report.network,
        "verdict": _verdict(report),
        "told": [tuple(line.split(None, 1)) for line in report.head()[1:]],
        "when": _when(report, date),
        "disclaimer": DISCLAIMER,
        "sections": sections(report, cases),
    }
    write_page(page, "report.html", **said)
    shown = [
        {"row": c.row, "label": c.label, "answer": c.answer, "radius": c.radius}
        for c in cases.shown
    ]
    told = {"told": cases.told, "shown": shown}
    write_report_file(report, values, date, summary=summary(report), cases=told)
    with write_aside(text) as part:
        part.write_text(markdown(**said), encoding="utf-8")
    return [page, values, text]


def _verdict(report):
    verdict = report.verdict.replace("(trust=True asks)", "(--trust asks)")
    return f"{verdict[0].upper()}{verdict[1:]}"


def _when(report, date):
    "The one line that differs between two runs"
    seconds = [f"{k} {v:.1f} s" for k, v in report.seconds.items()]
    card = report.card.info.get("seconds") if report.card is not None else None
    if card is not None:
        seconds.append(f"trust gates {card:.1f} s")
    return f"When and how long: {date}" + (f"; {', '.join(seconds)}" if seconds else "")


def summary(
    report: Report,  # what `judge` gave
) -> dict:
    """What is counted from the answers, as JSON values: verdict, flags, a row for each attack and
    for each class

    Parameters
    ----------
    report : Report
        what `judge` gave

    Returns
    -------
    dict
    """
    rows = report.record.table().to_dict("index")
    classes = report.record.per_class(report.hardest)
    each = [
        {"class": str(name), **_plain(row)}
        for name, row in zip(classes.index, classes.to_dict("records"))
    ]
    return {
        "verdict": report.verdict,
        "flags": report.flags,
        "hardest": report.hardest,
        "rows": {k: _plain(row) for k, row in rows.items()},
        "classes": each,
    }


def _plain(row):
    "JSON has no NaN: a class without images has no accuracy"
    return {k: None if v != v else v for k, v in row.items()}
