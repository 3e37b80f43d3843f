"""The minutes and the order that the index promises to those who have an evening or a weekend"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOP / "tools"))
    try:
        spec = importlib.util.spec_from_file_location("paths", TOP / "tools/paths.py")
        made = importlib.util.module_from_spec(spec)
        sys.modules["paths"] = made  # a dataclass looks its module up
        spec.loader.exec_module(made)
        yield made
    finally:
        sys.path.remove(str(TOP / "tools"))
        sys.modules.pop("paths", None)


def words(text):
    return {"cell_type": "markdown", "source": text}


def code(text):
    return {"cell_type": "code", "source": text}


LESSON = [
    words("**Minutes** 9 " + "word " * 298),  # and "Minutes 9": 300 words
    code("x = 1"),
    code('#| code-fold: true\n#| code-summary: "Tests"\nassert x'),
    code(""),
    code("y = 2"),
    code("z = 3"),
]
EXERCISES = [
    words("### 1. A\n*Difficulty 1 of 5, 3 minutes. Core.*"),
    words("### 2. B\n\n*Difficulty 2 of 5, 8 minutes.*"),
]


def test_minutes_are_counted(tool):
    m = tool.minutes_of(LESSON)
    assert m.reading == 3.0 and m.box == 9  # 300 words, and three cells of 20 seconds
    m = tool.minutes_of(LESSON + EXERCISES)
    assert (m.core, m.exercises) == (3, 11) and m.all == m.reading + 11


INDEX = (
    "**One evening**, three lessons: [A](a.ipynb), [B](b.ipynb), [C](c.ipynb). You can attack."
    " {} min of reading and {} min for the core exercises, together {} h {} min;"
    " {} h {} min with all exercises."
)


def test_a_wrong_claim_is_found(tool):
    def of(*figures):
        (path,) = tool.paths_of(INDEX.format(*figures))
        return path

    m = tool.Minutes(reading=20.0, core=10, exercises=25, box=45)
    known = dict.fromkeys("abc", m)
    right = (60, 30, 1, 30, 2, 15)
    assert of(*right)["lessons"] == ["a", "b", "c"]
    assert tool.wrong_in_path(of(*right), known) == []
    for k, wrong in ((0, 40), (1, 31), (2, 2), (3, 50), (4, 3), (5, 30)):
        figures = [*right]
        figures[k] = wrong
        assert len(tool.wrong_in_path(of(*figures), known)) == 1, (k, wrong)
    four = INDEX.format(*right).replace("[C](c.ipynb)", "[C](c.ipynb), [D](d.ipynb)")
    (path,) = tool.paths_of(four)
    assert "count is 4" in tool.wrong_in_path(path, {**known, "d": m})[0]


def test_wrong_boxes_and_a_wrong_map_are_found(tool):
    m = tool.Minutes(reading=20.0, core=0, exercises=25, box=45)
    table = (
        "| **Ground**, 45 min | [A](a.ipynb) | do | 45 |\n"
        "| **Next**, 50 min | [B](b.ipynb) | do | 45 |"
    )
    assert tool.wrong_in_boxes({"a": m, "b": m}, table) == [
        "Next: its lessons are 45 min, and the map says 50"
    ]
    short = tool.Minutes(reading=20.0, core=0, exercises=25, box=30)
    found = tool.wrong_in_boxes({"a": short, "b": m}, table.replace("50", "45"))
    assert len(found) == 2 and "45 min are counted, and its box says 30" in found[0]


def test_a_name_before_its_time_is_found(tool):
    path = {"name": "evening", "lessons": ["a", "b"]}
    cells = {
        "a": [code("shrink(1)")],
        "b": [words("`shrink` moves."), code("shrink(2)\ndraw()")],
    }
    found = tool.names_too_early(path, cells, {"shrink", "draw"}, {"draw"})
    assert len(found) == 1 and "a, cell 1: uses shrink" in found[0]
    assert tool.granted("**Names on the paths.** `draw` draws.\n\n`shrink`") == {"draw"}


def test_the_index_keeps_its_promises():
    done = subprocess.run(
        [sys.executable, str(TOP / "tools/paths.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    weekend = done.stdout.split("one weekend")[1]
    assert weekend.count("reading") == 10 and done.stdout.count("reading") == 13
