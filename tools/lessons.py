"""Is every lesson within the form?  python tools/lessons.py [NAME ...]

One line for a notebook: cells, words, minutes, the share of its text that tests, its longest test,
the first cell with a picture, its exercises and its size. Whatever is beyond the form (LIMITS) is
named below the table, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LIMITS = {
    "cells": 75,
    "words": 1800,
    "minutes": 45,
    "test_share": 0.25,  # of all characters
    "longest_test": 800,  # characters
    "first_picture": 10,  # its place among the cells
    "kilobytes": 1500,
}
EXERCISES = (3, 5)  # at least, at most

# pages that are no lesson: they ask no question and set no exercise
PAGES = {"index", "guide_own_defence", "guide_own_model"}
# "How it is built": what stands behind the lessons. Within the form, but for picture and exercises
BUILT = {"00_settings", "00_files", "00_identity"}

_TEST = re.compile(r"\bassert\b|\btest_\w+|\bwith raises\b")
_EXERCISE = re.compile(r"^### \d+\. .*\n+\*Difficulty ([1-5]) of 5, (\d+) minutes?[.:]", re.M)
_HEADING = re.compile(r"^### \d+\. ", re.M)


@dataclass
class Lesson:
    "What the form asks about a notebook"

    name: str
    cells: int = 0
    words: int = 0
    minutes: int | None = None
    test_share: float = 0.0
    longest_test: int = 0
    first_picture: int | None = None
    exercises: int = 0
    kilobytes: int = 0
    unrated: list = field(default_factory=list)  # headings of exercises without difficulty

    def faults(self) -> list:
        "One sentence for each way in which it is beyond the form"
        found = []
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if name == "first_picture" and self.name in PAGES:
                continue
            if value is not None and value > limit:
                value = f"{value:.2f}" if isinstance(value, float) else value
                found.append(f"{name.replace('_', ' ')} {value}, at most {limit}")
        found += [f"no difficulty and minutes below {text!r}" for text in self.unrated]
        if self.name in PAGES | BUILT:
            return found
        if self.minutes is None:
            found.append("no '**Minutes** N' in its box")
        if self.first_picture is None:
            found.append("no picture")
        least, most = EXERCISES
        if not least <= self.exercises <= most:
            found.append(f"{self.exercises} exercises, {least} to {most} are asked")
        return found


def source_of(cell: dict) -> str:
    "The text of a cell"
    return "".join(cell["source"])


def is_test(cell: dict) -> bool:
    "Does a cell check something, or import what does? Exported cells and solutions are none"
    text = source_of(cell)
    if cell["cell_type"] != "code" or re.search(r"^#\| exports?i?\b", text, re.M):
        return False
    return 'code-summary: "Solution' not in text and bool(_TEST.search(text))


def has_picture(cell: dict) -> bool:
    "Does a cell show a picture: a figure, a drawing, an image?"
    if cell["cell_type"] != "code":
        return bool(re.search(r"!\[|<svg|<img", source_of(cell)))
    shown = [o.get("data", {}) for o in cell.get("outputs", [])]
    html = "".join("".join(data.get("text/html", "")) for data in shown)
    kinds = {kind for data in shown for kind in data}
    return bool(kinds & {"image/png", "image/svg+xml", "image/jpeg"}) or "<svg" in html


def word_count(text: str) -> int:
    "Words of prose; of a formula each letter and number counts: they are read, too"
    return len(re.findall(r"\w+", text))


def read(path: Path) -> Lesson:
    "The figures of a notebook"
    text = path.read_text(encoding="utf-8")
    cells = [c for c in json.loads(text)["cells"] if source_of(c).strip()]
    prose = [source_of(c) for c in cells if c["cell_type"] == "markdown"]
    tests = [len(source_of(c)) for c in cells if is_test(c)]
    minutes = re.search(r"\*\*Minutes\*\* (\d+)", "\n".join(prose))
    pictures = [i for i, c in enumerate(cells, 1) if has_picture(c)]
    headed = [p for p in prose if _HEADING.search(p)]
    return Lesson(
        path.stem,
        cells=len(cells),
        words=sum(map(word_count, prose)),
        minutes=int(minutes[1]) if minutes else None,
        test_share=sum(tests) / max(1, sum(len(source_of(c)) for c in cells)),
        longest_test=max(tests, default=0),
        first_picture=min(pictures, default=None),
        exercises=sum(len(_HEADING.findall(p)) for p in headed),
        kilobytes=len(text.encode()) // 1000,
        unrated=[
            next(row for row in p.splitlines() if _HEADING.match(row))
            for p in headed
            if len(_EXERCISE.findall(p)) < len(_HEADING.findall(p))
        ],
    )


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("names", nargs="*", help="notebooks, as in 10_balls; default: all")
    names = args.parse_args().names
    paths = [ROOT / "nbs" / f"{name}.ipynb" for name in names] or sorted(ROOT.glob("nbs/*.ipynb"))
    lessons = [read(path) for path in paths]
    print(f"{'notebook':24} cells words min tests longest picture exercises  kB")
    for m in lessons:
        print(
            f"{m.name:24} {m.cells:5} {m.words:5} {m.minutes or '-':>3} {m.test_share:5.0%}"
            f" {m.longest_test:7} {m.first_picture or '-':>7} {m.exercises:9} {m.kilobytes:3}"
        )
    known = [m.minutes for m in lessons if m.minutes]
    print(f"{len(lessons)} notebooks, {sum(m.words for m in lessons)} words, {sum(known)} minutes")
    beyond = {m.name: m.faults() for m in lessons if m.faults()}
    for name, faults in beyond.items():
        print(f"beyond the form: {name}: {'; '.join(faults)}")
    sys.exit(bool(beyond))


if __name__ == "__main__":
    main()
