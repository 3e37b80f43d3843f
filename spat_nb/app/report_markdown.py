"""A report as Markdown, for a pull request or a wiki"""

from __future__ import annotations

import re
from html import escape

__all__ = ["escaped", "markdown", "markdown_table"]


def escaped(
    text,  # anything that is told
) -> str:
    "Text that Markdown shows as it is, on one line"
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", line)


def markdown_table(
    head,  # names of the columns
    rows,  # of lists of texts
) -> list:  # of lines
    "A table of pipes"
    body = [[escaped(cell) for cell in row] for row in rows]
    lines = [[escaped(h) or " " for h in head], ["---"] * len(head), *body]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def markdown(
    network: str,  # in words
    verdict: str,
    told: list,  # (what, value) of what was judged, and where
    when: str,  # when, and how long
    disclaimer: str,
    sections: list,  # of `Section`
) -> str:
    "The report; what the page shows as pictures stands in it as a table"
    lines = [f"# Robustness report: {escaped(network)}", "", f"**{escaped(verdict)}**", ""]
    lines += _facts(told)
    lines += [escaped(when), "", escaped(disclaimer), ""]
    for section in sections:
        lines += [f"## {escaped(section.title)}", ""]
        for kind, content in section.blocks:
            lines += KINDS[kind](content)
    return "\n".join(lines).rstrip() + "\n"


def _text(text):
    return [escaped(text), ""]


def _head(text):
    return [f"### {escaped(text)}", ""]


def _facts(pairs):
    return [*(f"- {escaped(what)}: {escaped(value)}" for what, value in pairs), ""]


def _table(table):
    return markdown_table(table.head, table.rows)


def _fold(content):
    title, table = content
    return [f"<details><summary>{escape(title)}</summary>", "", *_table(table), "</details>", ""]


def _bars(bars):
    return markdown_table(["class", "accuracy [95%]"], [[b.name, b.told] for b in bars])


def _shots(shots):
    cases = [s.case for s in shots]
    body = [[c.row, c.label, c.answer, f"{c.radius:.4g}"] for c in cases]
    return markdown_table(["image", "label", "read as", "radius"], body)


def _asked(items):
    lines = []
    for a in items:
        mark = "" if a.shown else "*not shown*. "
        lines.append(f"- **{escaped(a.what)}**: {mark}{escaped(a.told)}")
    return [*lines, ""]


KINDS = {
    "text": _text,
    "head": _head,
    "facts": _facts,
    "table": _table,
    "fold": _fold,
    "bars": _bars,
    "shots": _shots,
    "asked": _asked,
}
