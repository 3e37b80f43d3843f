"""Are the minutes on the index true?  python tools/paths.py

The minutes of a lesson are counted: a minute for 150 words, 20 seconds for each code cell that
lies open, and what its exercises say. Compared are: the minutes in the box of each lesson; the map
on the index; and the paths on the index, whose exercises are those that are marked *Core*. Along a
path, no name may be used before the index or a lesson of the path has named it. What differs is
listed, and the exit code is 1.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import lessons
import order

ROOT = Path(__file__).resolve().parents[1]
WORDS, SECONDS = 150, 20  # in a minute; for an open code cell
NEAR = 5  # minutes that a box or a path may differ: its figures are rounded, and readers differ
_EXERCISE = re.compile(r"^\*Difficulty [1-5] of 5, (\d+) minutes?[.:](.*)", re.M)
_LINK = r"\[[^]]*\]\((\w+)\.ipynb\)"
_PATH = re.compile(
    rf"\*\*One (\w+)\*\*, (\w+) lessons: ((?:{_LINK}(?:, )?)+)[.;](.*?)"
    r"(\d+) min of reading and (\d+) min for the core exercises, together (\d+) h (\d+) min;"
    r" (\d+) h (\d+) min with all exercises"
)
COUNTS = {"three": 3, "ten": 10}


@dataclass(frozen=True)
class Minutes:
    "What a lesson takes"

    reading: float
    core: int  # exercises that are marked
    exercises: int  # all of them, the marked ones too
    box: int | None  # what the lesson itself says

    @property
    def all(self) -> float:
        return self.reading + self.exercises


def minutes_of(cells: list) -> Minutes:
    "The minutes of a notebook's cells"
    prose = [lessons.source_of(c) for c in cells if c["cell_type"] == "markdown"]
    code = [lessons.source_of(c) for c in cells if c["cell_type"] == "code"]
    is_open = [c for c in code if c.strip() and "code-fold" not in c]
    found = [(int(n), "Core" in rest) for n, rest in _EXERCISE.findall("\n".join(prose))]
    box = re.search(r"\*\*Minutes\*\* (\d+)", "\n".join(prose))
    return Minutes(
        reading=sum(map(lessons.word_count, prose)) / WORDS + len(is_open) * SECONDS / 60,
        core=sum(n for n, is_core in found if is_core),
        exercises=sum(n for n, _ in found),
        box=int(box[1]) if box else None,
    )


def paths_of(text: str) -> list[dict]:
    "The paths that the index promises: name, lessons, and the minutes that it says"
    found = []
    for m in _PATH.finditer(text):
        name, count, links = m[1], m[2], m[3]
        reading, core, hours, rest, all_hours, all_rest = map(int, m.groups()[-6:])
        found.append(
            {
                "name": name,
                "count": COUNTS.get(count),
                "lessons": re.findall(_LINK, links),
                "reading": reading,
                "core": core,
                "together": 60 * hours + rest,
                "all": 60 * all_hours + all_rest,
            }
        )
    return found


def wrong_in_path(path: dict, known: dict) -> list[str]:
    "A sentence for each figure of a path that is not what is counted"
    parts = [known[name] for name in path["lessons"]]
    counted = {
        "count": len(parts),
        "reading": sum(p.reading for p in parts),
        "core": sum(p.core for p in parts),
        "together": sum(p.reading + p.core for p in parts),
        "all": sum(p.all for p in parts),
    }
    near = {"count": 0, "core": 0}
    return [
        f"one {path['name']}: {word} is {counted[word]:.0f}, and the index says {path[word]}"
        for word in counted
        if abs(counted[word] - (path[word] or 0)) > near.get(word, NEAR)
    ]


def wrong_in_boxes(known: dict, text: str) -> list[str]:
    "A sentence for each lesson whose box, or line in the map, says other minutes"
    rows = dict(re.findall(rf"\| {_LINK} \|[^|\n]*\| (\d+) \|", text))
    found = []
    for name, m in known.items():
        if m.box is None:
            continue
        if abs(m.box - m.all) > NEAR:
            found.append(f"{name}: {m.all:.0f} min are counted, and its box says {m.box}")
        if name in rows and int(rows[name]) != m.box:
            found.append(f"{name}: its box says {m.box} min, and the map on the index {rows[name]}")
    for floor, minutes, lines in re.findall(
        r"\| \*\*([^*]+)\*\*, (\d+) min (.*(?:\n\| \|.*)*)", text
    ):
        total = sum(int(n) for n in re.findall(r"\| (\d+) \|$", lines, re.M))
        if total != int(minutes):
            found.append(f"{floor}: its lessons are {total} min, and the map says {minutes}")
    return found


def granted(text: str) -> set[str]:
    "Names that the index explains for those who take a path"
    found = re.search(r"\*\*Names on the paths\.\*\*(.*)", text)
    return set(re.findall(r"`(\w+)`", found[1])) if found else set()


def names_too_early(path: dict, cells: dict, public_names: set, known: set) -> list[str]:
    "What a path uses before it is taught"
    own = {name: cells[name] for name in path["lessons"]}
    return [f"one {path['name']}: {row}" for row in order.faults(public_names, own, known)]


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from spat_nb import public

    files = sorted(ROOT.glob("nbs/*.ipynb"))
    cells = {p.stem: json.loads(p.read_text(encoding="utf-8"))["cells"] for p in files}
    known = {name: minutes_of(own) for name, own in cells.items()}
    prose = [lessons.source_of(c) for c in cells["index"] if c["cell_type"] == "markdown"]
    text = "\n".join(prose)
    types = {name for name in public.NAMES if public.HOME[name] == "spat_nb.core.protocols"}
    paths = paths_of(text)
    found = wrong_in_boxes(known, text)
    if sorted(p["name"] for p in paths) != ["evening", "weekend"]:
        found.append("the index does not say an evening's path and a weekend's in the usual words")
    for path in paths:
        print(f"one {path['name']}")
        for name in path["lessons"]:
            m = known[name]
            print(f"  {name:16} reading {m.reading:4.0f}  core {m.core:3}  all {m.all:4.0f} min")
        found += wrong_in_path(path, known)
        found += names_too_early(path, cells, set(public.NAMES) - types, granted(text))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
