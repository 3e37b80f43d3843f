"""Docstrings as text: sections, sentences on errors, examples"""

from __future__ import annotations

import inspect
import re
import textwrap

__all__ = [
    "MADE",
    "TITLE",
    "example_apart",
    "errors_apart",
    "join_sections",
    "long_lines",
    "split_sections",
    "wrapped",
]

_TITLES = (
    "Parameters|Attributes|Returns|Yields|Receives|Raises|Warns|Warnings|Other Parameters|Methods"
    "|See Also|Notes|References|Examples"
)
MADE = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Examples")
TITLE = re.compile(rf"^({_TITLES})\n-{{3,}}$", re.M)
_ERROR = r"[A-Z]\w*(?:Error|Exception)"
_ERRORS = rf"(?:[A-Z]\w+, an? )?{_ERROR}(?:,? (?:or|and) {_ERROR})*"
# "ValueError where eps < 0": from the beginning, or from where a thought ends, to where one ends
_CLAUSE = re.compile(
    rf"(?P<before>^|(?<=[.?!;,:])\s+)(?P<names>{_ERRORS})\b(?P<text>.*?)"
    rf"(?P<end>[.?!]?$|[.?!](?=\s+[A-Z`])|[;,](?=\s+{_ERRORS}\b))",
    re.S,
)


def split_sections(doc: str) -> tuple[str, dict[str, str]]:
    """What stands before the first section of a docstring, and its sections by title"""
    pieces = TITLE.split(inspect.cleandoc(doc))
    bodies = (body.strip("\n") for body in pieces[2::2])
    return pieces[0].strip(), dict(zip(pieces[1::2], bodies, strict=True))


def join_sections(
    doc: str,  # a docstring, with sections or without
    examples: bool = True,  # with its examples?
) -> str:
    """The docstring as prose: errors as sentences, no parameters, no result, examples at the end"""
    head, sections = split_sections(doc)
    errors = []
    for block in re.split(r"\n(?=\S)", sections.get("Raises", "")):
        sentence = " ".join(block.split())
        if sentence and sentence not in " ".join(head.split()):
            errors.append(sentence)
    if errors:
        head = f"{head.rstrip('.')}. {'. '.join(errors)}"
    example = sections.get("Examples") if examples else None
    return "\n\n".join(filter(None, [head, example]))


def wrapped(text: str, indent: int, width: int) -> list[str]:
    """`text` as lines of at most `width` columns"""
    pad = " " * indent
    return textwrap.wrap(
        text,
        width,
        initial_indent=pad,
        subsequent_indent=pad,
        break_long_words=False,
        break_on_hyphens=False,
    )


def errors_apart(text: str) -> tuple[str, list[tuple[str, str]]]:
    """`text` without its sentences on errors, and these as (names, rest)

    A sentence stays where it is the first one, or only the end of another.
    """
    found = []
    kept = []
    at = 0
    behind = 0  # where the last clause ended: a comma ends a thought only behind one
    for m in _CLAUSE.finditer(text):
        mark = text[: m.start("names")].rstrip()[-1:]
        if mark == "," and behind != m.start("before"):
            continue
        found.append((m["names"], " ".join(m["text"].split()).lstrip(", ")))
        behind = m.end()
        if mark == ":" or not text[:at].strip() and not text[at : m.start()].strip():
            continue
        kept.append(text[at : m.start()])
        at = m.end()
    kept.append(text[at:])
    rest = "".join(kept).strip()
    if found and rest[-1:] in (";", ","):
        rest = rest[:-1] + "."
    return rest, found


def example_apart(text: str) -> tuple[str, str]:
    """`text` up to its first `>>>` or paragraph "Example: ...", and what follows"""
    m = re.search(r"^(?:>>> |Examples?:)", text, re.M)
    if not m:
        return text, ""
    return text[: m.start()].strip(), re.sub(r"^Examples?:\s*", "", text[m.start() :]).strip()


def long_lines(text: str, width: int) -> str:
    """`text` with lines wrapped that are too long, but for indented ones"""
    rows = []
    for row in text.splitlines():
        indent = len(row) - len(row.lstrip())
        rows += wrapped(row, 0, width) if len(row) > width and not indent else [row]
    return "\n".join(rows)
