"""Hand-ins are graded, each exercise by itself; a teacher's copy has no solutions"""

import csv
import json
import multiprocessing
import shutil
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from spat_nb.app import lab
from spat_nb.app.cli import main
from spat_nb.learn.exercise import attempt
from spat_nb.learn.grading import grade, summary
from spat_nb.learn.handins import attempts_in, hand_ins, is_solution
from spat_nb.learn.packed import exercise_names
from spat_nb.learn.teacher import without_solutions

NBS = Path(__file__).parents[1] / "nbs"
LESSON = "04_exercise.ipynb"
RIGHT = {
    "worst(v):  # list": "    return v.index(min(v))",
    "counterexample():": "    return 1e-3",
    "agree(a, b):": "    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-3,"
    " equal_nan=True)",
    "slips_through(d, eps):": "    return d.clamp(max=eps)",
}


def handed_in(path: Path, answers: dict, guess="..."):
    "The lesson on exercises, with these bodies in place of the stubs"
    notebook = json.loads((NBS / LESSON).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code" or is_solution(cell):
            continue
        text = "".join(cell["source"])
        for head, body in answers.items():
            if f"def {head}" in text and "attempt(" in text:
                text = text.replace("    ...", body)
        cell["source"] = text.replace(
            "guess1 = predict(\"'right' or 'wrong'?\", guess=...",
            f"guess1 = predict('?', guess={guess}",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def verdicts(marks, reader):
    return {m.exercise: m.verdict for m in marks if m.reader == reader}


def test_every_kind_of_hand_in(tmp_path):
    handed_in(tmp_path / "ann" / LESSON, RIGHT, "'right'")
    handed_in(tmp_path / "bob" / LESSON, {})
    bad = {
        "worst(v):  # list": "    while True: pass",
        "counterexample():": "    import os; os._exit(0)",
        "agree(a, b):": "    return helper(a, b)",
        "slips_through(d, eps):": "    return d.no_such()",
    }
    handed_in(tmp_path / "cyd" / LESSON, bad)
    (tmp_path / "dan").mkdir()
    (tmp_path / "dan" / LESSON).write_text("{}", encoding="utf-8")
    marks = grade(tmp_path, seconds=5, progress=False)
    names = [f"exercise {k}" for k in range(1, 6)]
    assert verdicts(marks, "ann") == dict(zip(names, ["guessed", *["right"] * 4], strict=True))
    assert set(verdicts(marks, "bob").values()) == {"not attempted"}
    told = ["not attempted", "too slow", "error", "error", "wrong"]
    assert verdicts(marks, "cyd") == dict(zip(names, told, strict=True))
    assert verdicts(marks, "dan") == {"": "unreadable"}
    said = summary(marks).splitlines()
    assert said[0] == "ann: 4 right of 4 attempted and 4 set, 1 guesses"
    assert said[3].endswith("1 notebooks cannot be read")
    assert "helper" in next(
        m.said for m in marks if m.exercise == "exercise 4" and m.reader == "cyd"
    )


def test_one_thread_starts_all_processes(tmp_path, monkeypatch):
    "filelock, which torch brings along, refuses a fork while another thread forks"
    started, start = [], BaseProcess.start

    def noted(process):
        started.append((threading.get_ident(), len(multiprocessing.active_children())))
        start(process)

    monkeypatch.setattr(BaseProcess, "start", noted)
    never = "def worst(v):\n    while True: pass\nattempt(worst, 'exercise 2')"
    right = "attempt(lambda v: v.index(min(v)), 'exercise 2')"
    for reader, answer in zip("abcd", (never, never, right, right), strict=True):
        cell_handed_in(tmp_path / f"{reader}.ipynb", answer)
    marks = grade(tmp_path, seconds=3, workers=2, progress=False)
    assert [m.verdict for m in marks] == ["too slow", "too slow", "right", "right"]
    # the first one was at work when the second one began, and there are never three
    assert {thread for thread, _ in started} == {threading.get_ident()}
    assert [others for _, others in started][:2] == [0, 1] and len(started) == 4
    assert max(others for _, others in started) == 1 and not multiprocessing.active_children()


def test_by_the_command(tmp_path, capsys):
    handed_in(tmp_path / "in" / "ann.ipynb", RIGHT)
    out = tmp_path / "marks.csv"
    assert not main(["grade", str(tmp_path / "in"), "--out", str(out)])
    assert "ann: 4 right of 4 attempted" in capsys.readouterr().out
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert len(rows) == 5 and {r["reader"] for r in rows} == {"ann"}
    assert main(["grade", str(tmp_path / "nowhere")])
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["grade", str(tmp_path / "empty")])
    assert "no notebooks in" in capsys.readouterr().err


def test_readers_are_folders_or_files(tmp_path):
    for name in ("ann/a.ipynb", "ann/b.ipynb", "bob.ipynb", "ann/.ipynb_checkpoints/a.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(NBS / LESSON, tmp_path / name)
    assert [reader for reader, _ in hand_ins(tmp_path)] == ["ann", "ann", "bob"]


def test_all_exercises_of_the_book_are_found():
    found = [a for path in sorted(NBS.glob("[0-9]*.ipynb")) for a in attempts_in(path)]
    assert {a.name for a in found if not a.is_guess} == set(exercise_names())
    assert not any(a.guess for a in found)


def test_the_teachers_copy(tmp_path):
    files = lab.files()
    left, page = without_solutions(files)
    assert set(left) == {*files}
    for name in left:
        if name.endswith(".ipynb"):
            cells = json.loads(left[name])["cells"]
            assert not any(map(is_solution, cells))
            before = json.loads(files[name])["cells"]
            assert [c for c in before if not is_solution(c)] == cells
    key = json.loads(page)["cells"]
    assert sum(c["cell_type"] == "code" for c in key) == sum(
        is_solution(c)
        for name in files
        if name.endswith(".ipynb")
        for c in json.loads(files[name])["cells"]
    )
    text = "".join(c["source"] for c in key)
    assert "### 2. The smallest entry" in text and "def first_smallest" in text
    assert not main(["lab", str(tmp_path / "class"), "--teacher", "--copy-only"])
    # what is handed out holds no answers
    assert (tmp_path / "class-answers.ipynb").is_file()
    assert not list((tmp_path / "class").glob("*answer*"))


def cell_handed_in(path, *sources):
    cells = [{"cell_type": "code", "metadata": {}, "source": source} for source in sources]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")


@pytest.mark.parametrize(
    "sources, verdict",
    [
        # no Python: the exercise is still in the table
        (["def worst(v)\n    return 0\n\nattempt(worst, 'exercise 2')"], "error"),
        # a value of an earlier cell, Jupyter's commands, an import of its own
        (
            [
                "FIRST = 0",
                "%time 1+1\ndef worst(v):\n    return v.index(sorted(v)[FIRST])\n"
                "from spat_nb.learn.exercise import attempt\nattempt(worst, 'exercise 2')",
            ],
            "right",
        ),
        # what needs the lesson's own work is passed over
        (
            [
                "rows = table[3]\ndef worst(v):\n    return v.index(min(v))\n"
                "attempt(worst, 'exercise 2')"
            ],
            "right",
        ),
        (
            [
                "from spat_nb.learn.packed import look_up\nworst = look_up('exercise 2').answer\n"
                "attempt(worst, 'exercise 2')"
            ],
            "error",
        ),
        # the last attempt counts
        (
            [
                "attempt(lambda v: 0, 'exercise 2')",
                "attempt(lambda v: v.index(min(v)), 'exercise 2')",
            ],
            "right",
        ),
        (["attempt(lambda v: 0, 'gone 2')"], "unknown"),
        (["#| default_exp __main__", "attempt(lambda v: v.index(min(v)), 'exercise 2')"], "right"),
    ],
)
def test_odd_hand_ins(tmp_path, sources, verdict):
    cell_handed_in(tmp_path / "ann.ipynb", *sources)
    marks = grade(tmp_path, seconds=20, progress=False)
    assert [m.verdict for m in marks] == [verdict], marks


def test_the_book_itself_is_not_attempted(tmp_path):
    for name in ("25_lineup", "31_temperature", "40_spat"):
        shutil.copy(NBS / f"{name}.ipynb", tmp_path)
    marks = grade(tmp_path, progress=False)
    assert {m.verdict for m in marks} == {"not attempted"}, marks


def test_a_judge_in_a_hand_in_judges_its_own_name():
    assert attempt(lambda v: v.index(min(v)), "exercise 2", keep=False) == "right"
