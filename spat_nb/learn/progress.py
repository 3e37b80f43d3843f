"""What a reader has solved"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..core.settings import settings
from .kept import read_kept, reader_at_work

__all__ = ["Progress", "exercises_in", "progress"]


def exercises_in(
    folder: str | Path,  # with notebooks
) -> dict[str, list[str]]:  # notebook -> names of its exercises: 'balls 1' in 10_balls
    "The exercises of a folder's notebooks, as they stand in the cells for the reader's answers"

    def code(path):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        return "\n".join(text for text in texts if 'code-summary: "Solution' not in text)

    def own(path):
        word = re.escape(path.stem.partition("_")[2])
        return re.findall(
            rf"""(?:\bname=|attempt\(\s*[\w.]+,\s*)['\"]({word} \d+)['\"]""", code(path)
        )

    return {path.stem: own(path) for path in sorted(Path(folder).glob("[0-9]*.ipynb"))}


class Progress(dict):
    "Notebook -> a mark for each exercise: ● right, ◐ attempted, ○ open"

    def __repr__(self):
        right, tried, left = (sum(v.count(m) for v in self.values()) for m in "●◐○")
        if not right + tried:
            return (
                f"{left} exercises wait for you in {len(self)} notebooks. Open one, write an answer"
                " in place of ... and run its cell: this page will remember."
            )
        return (
            f"Attempted: {right + tried} of {right + tried + left} exercises. Right: {right}. (●"
            " right, ◐ attempted, ○ open)"
        )

    def _repr_markdown_(self):
        rows = [
            f"| [{k}]({k}.ipynb) | {v} | {v.count('●')} of {len(v)} |"
            for k, v in self.items()
            if {*v} != {"○"}
        ]
        return "\n".join(
            [
                repr(self),
                *["", "| notebook | exercises | right |", "|---|---|---|"] * bool(rows),
                *rows,
            ]
        )


def _kept() -> dict:
    "What is kept; nothing where the file cannot be read"
    try:
        return read_kept(settings().progress)
    except OSError as e:
        print(f"progress cannot be read: {e}")
        return {}


def progress(
    folder=".",  # where the notebooks are
) -> Progress:  # shows itself as a table
    """Which exercises the reader has attempted, and which are right; tests and builds show none.
    FileNotFoundError where there are no notebooks
    """
    kept = _kept() if reader_at_work() else {}

    def mark(name):
        return {"right": "●", "attempted": "◐"}.get(str(kept.get(name)), "○")

    if found := {
        k: "".join(map(mark, names)) for k, names in exercises_in(folder).items() if names
    }:
        return Progress(found)
    raise FileNotFoundError(
        f"no notebooks with exercises in {Path(folder).absolute()}; give the folder that holds"
        " them."
    )
