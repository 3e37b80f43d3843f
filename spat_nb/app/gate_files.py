"""What a gate leaves for a build server: lines to read, JUnit XML, Markdown for a summary"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

from ..core.files import write_aside
from ..measure.against import Against
from ..measure.regression import Fall
from .report_markdown import escaped, markdown_table

__all__ = ["lines", "write_junit", "write_junit_error", "add_summary", "summary_of"]

SUITE = "spat_nb gate"
HEAD = ["row", "images", "before %", "now %", "fall", "at least"]


def _points(share):
    return f"{100 * share:.1f}"


def _row(name, fall: Fall):
    shares = [_points(fall.before), _points(fall.after), _points(fall.drop), _points(fall.low)]
    return [name, f"{fall.n:,}", *shares]


def _verdict(found: Against):
    fall = found.fall
    told = (
        f"robust accuracy ({found.row}) {_points(fall.before)}% before, {_points(fall.after)}% now:"
        f" a fall of {_points(fall.drop)} points, at least {_points(fall.low)} with 95% confidence;"
        f" {100 * found.allowed:g} are allowed"
    )
    if found.has_fallen:
        return f"fallen: {told}"
    if found.new_flags:
        return f"new flags ({', '.join(found.new_flags)}): {told}"
    return f"passed: {told}"


def lines(
    found: Against,
) -> str:
    "What is printed: a row for each attack, the verdict, remarks"
    rows = [HEAD, *(_row(k, fall) for k, fall in found.falls.items())]
    wide = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    table = []
    for row in rows:
        cells = [cell.rjust(w) for cell, w in zip(row[1:], wide[1:])]
        table.append("  ".join([row[0].ljust(wide[0]), *cells]))
    remarks = [f"Note: {text}." for text in found.remarks()]
    return "\n".join([*table, "", f"gate: {_verdict(found)}.", *remarks])


# ---- JUnit


def _case(suite, name, failure="", told=""):
    case = ElementTree.SubElement(suite, "testcase", classname=SUITE, name=name)
    if failure:
        ElementTree.SubElement(case, "failure", message=failure)
    if told:
        ElementTree.SubElement(case, "system-out").text = told


def _told(fall):
    return (
        f"{_points(fall.before)}% before, {_points(fall.after)}% now, {fall.n:,} images: a fall of"
        f" {_points(fall.drop)} points, at least {_points(fall.low)}"
    )


def write_junit(
    found: Against,
    path,  # .xml file to write
):
    """A test case for robust accuracy, one for each other row, for the weakest class, and for new
    flags. One of them fails exactly where the gate does
    """
    suite = ElementTree.Element("testsuite", name=SUITE)
    order = [found.row, *(k for k in found.falls if k != found.row)]
    for name in order:
        told = _told(found.falls[name])
        called = f"robust accuracy ({name})" if name == found.row else f"accuracy ({name})"
        _case(suite, called, told if name in found.fallen_rows else "", told)
    name, *_ = found.report.weakest
    fall = found.classes.get(str(name))
    if fall is not None:
        fell = found.has_fallen and fall.beyond(found.allowed)
        told = _told(fall)
        _case(suite, "weakest class", f"class {name}: {told}" if fell else "", f"{name}: {told}")
    flags = ", ".join(found.new_flags)
    remarks = "\n".join(found.remarks())
    _case(suite, "trust flags", f"new: {flags}" if flags else "", remarks)
    _write(suite, path)


def write_junit_error(
    sentence: str,  # why it could not be judged
    path,  # .xml file to write
):
    "One test case, with an error"
    suite = ElementTree.Element("testsuite", name=SUITE)
    case = ElementTree.SubElement(suite, "testcase", classname=SUITE, name="robust accuracy")
    ElementTree.SubElement(case, "error", message=sentence)
    _write(suite, path)


def _write(suite, path):
    suite.set("tests", str(len(suite.findall("testcase"))))
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(len(suite.findall(f".//{kind}"))))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode", xml_declaration=False)
    with write_aside(path) as part:
        part.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n', encoding="utf-8")


# ---- the summary of a GitHub job


def add_summary(
    text: str,  # Markdown
):
    "Add it to the page of the job, where GitHub runs us"
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if not place:
        return
    with Path(place).open("a", encoding="utf-8") as f:
        f.write(f"{text}\n")


def summary_of(
    found: Against,
) -> str:
    "The verdict as Markdown"
    table = markdown_table(HEAD, [_row(k, fall) for k, fall in found.falls.items()])
    remarks = [f"- {escaped(text)}" for text in found.remarks()]
    head = [f"### Robustness gate: {'passed' if found.passed else 'failed'}", ""]
    told = [escaped(_verdict(found)), "", escaped(found.report.network), ""]
    return "\n".join([*head, *told, *table, *remarks])
