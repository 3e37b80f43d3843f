"""Every exercise of the notebooks: its name, its hints, a stub that counts as not attempted, and a
folded solution that its judge accepts while it refuses a typical wrong answer. Then the tools
themselves: hints come one by one, and progress is honest and never lost
"""

import ast
import functools
import importlib
import json
import multiprocessing
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from spat_nb.learn import exercise
from spat_nb.learn import progress as progress_room
from spat_nb.learn.exercise import judge, predict
from spat_nb.learn.progress import Progress, progress

NBS = Path(__file__).parents[1] / "nbs"
NOTEBOOKS = [
    p for p in sorted(NBS.glob("[0-9]*.ipynb")) if "## Exercises" in p.read_text(encoding="utf-8")
]
# the last is room 25's own, with a model for its attack
JUDGES = {"judge", "check_attack", "judge_me"}


# ---- what a notebook says
def calls(tree, names):
    return [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in names
    ]


def keyword(call, name):
    return next((k.value for k in call.keywords if k.arg == name), None)


def value(node):
    return node.value if isinstance(node, ast.Constant) else node


def is_stub(node):
    "def f(x): ... / raise NotImplementedError, or a class with such a method"
    if isinstance(node, ast.ClassDef):
        return any(map(is_stub, node.body))
    if not isinstance(node, ast.FunctionDef):
        return False
    last = node.body[-1]
    return (
        isinstance(last, ast.Expr)
        and value(last.value) is ...
        or isinstance(last, ast.Raise)
        and "NotImplementedError" in ast.unparse(last)
    )


def printed(cell):
    return "".join(
        "".join(o.get("text", "")) for o in cell["outputs"] if o["output_type"] == "stream"
    )


@functools.cache
def cells_of(path):
    return [
        dict(c, source="".join(c["source"]))
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]


@functools.cache
def exercises(path):
    """The exercises of a notebook: name, kind, the text above, the attempt's cell and call, and the
    cells that follow
    """
    cells, found, text = cells_of(path), [], ""
    for i, c in enumerate(cells):
        if c["cell_type"] == "markdown":
            text = c["source"]
            continue
        for call in calls(ast.parse(c["source"]), JUDGES | {"predict"}):
            if name := keyword(call, "name"):
                found.append(
                    SimpleNamespace(
                        name=value(name),
                        judged=call.func.id != "predict",
                        text=text,
                        cell=c,
                        call=call,
                        at=i,
                    )
                )
    for e, f in zip(found, [*found[1:], None]):
        e.after = [c for c in cells[e.at + 1 : f.at if f else None] if c["cell_type"] == "code"]
    return found


def room(path):
    "What the exercises of a notebook are named by: 10_balls has 'balls 1'"
    return path.stem.partition("_")[2]


def modules_of(path):
    "The modules that a notebook fills"
    code = "\n".join(c["source"] for c in cells_of(path) if c["cell_type"] == "code")
    return dict.fromkeys(re.findall(r"^#\| (?:default_exp|exports?) ([\w.]+)", code, flags=re.M))


def terms(call):
    return [ast.unparse(a) for a in call.args[1:]] + sorted(
        ast.unparse(k) for k in call.keywords if k.arg not in ("name", "hints")
    )


# ---- the exercises as they are written
def test_every_room_has_exercises():
    rooms = {p.stem for p in NBS.glob("[1-8]*.ipynb")}
    assert len(rooms) >= 18 and rooms <= {p.stem for p in NOTEBOOKS}, rooms - {
        p.stem for p in NOTEBOOKS
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_names_number_and_kinds(path):
    found = exercises(path)
    # so names are unique, too
    assert [e.name for e in found] == [f"{room(path)} {i}" for i in range(1, len(found) + 1)]
    # some to guess, some to write
    assert 3 <= len(found) <= 5 and {e.judged for e in found} == {True, False}
    for i, e in enumerate(found, 1):
        assert re.search(rf"(\*\*|### ){i}\.", e.text), (
            f"the text above {e.name} has another number"
        )
    # what `progress` counts
    assert progress_room._exercises(NBS)[path.stem] == [e.name for e in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_page_as_it_is_handed_out(path):
    """Nothing is attempted; the reader's stub and the judge share a cell, so that the judge sees
    the reader's own answer
    """
    for e in exercises(path):
        if e.judged:
            assert any(map(is_stub, ast.parse(e.cell["source"]).body)), (
                f"{e.name}: no stub beside its judge"
            )
            hints = [value(h) for h in keyword(e.call, "hints").elts]
            assert 1 <= len(hints) == len(set(hints)) <= 3 and all(
                isinstance(h, str) and 10 < len(h) < 250 for h in hints
            ), e.name
            said = re.findall(r"^(not attempted|wrong|error|right|): ", printed(e.cell), flags=re.M)
            assert said == ["not attempted"], (
                f"{e.name} is stored with {said}: run the notebook again"
            )
        else:
            assert value(keyword(e.call, "guess")) is ..., f"{e.name} comes with a guess"
            var = re.search(r"^(\w+) = predict", e.cell["source"], flags=re.M)[1]
            said = [printed(c) for c in e.after if f"{var}.check(" in c["source"]]
            assert said and "not attempted: " in said[0], f"{e.name}: run the notebook again"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_solutions(path):
    """nbdev runs these lines; here we see to it that they are there: the same cases as the
    reader's, one answer that is right, one that is wrong
    """
    for e in exercises(path):
        if not e.judged:
            continue
        folded = [
            c
            for c in e.after
            if "Solution" in c["source"] and c["metadata"].get("jupyter", {}).get("source_hidden")
        ]
        asserted = [
            (calls(t.args[0], JUDGES), value(t.args[1]))
            for c in folded
            for t in calls(ast.parse(c["source"]), {"test_eq"})
        ]
        right, wrong = (
            [c for cs, v in asserted for c in cs if v == word] for word in ("right", "wrong")
        )
        assert right and all(terms(c) == terms(e.call) for c in right), (
            f"{e.name}: the solution is not judged, or on other cases"
        )
        assert wrong and {c.func.id for c in wrong + right} == {e.call.func.id}, (
            f"{e.name}: no wrong answer is tried"
        )
        assert not any(keyword(c, "name") for c in right + wrong), (
            f"{e.name}: a solution must not count as an attempt"
        )


# ---- those that need nothing from the pages before them, run
RUN = {
    "00_core": (2, 4, 5),
    "00_files": (3,),
    "00_identity": (3,),
    "01_plot": (2, 4),
    "02_data": (2, 3),
    "03_models": (2, 5),
    "04_exercise": (2, 3, 4),
    "10_balls": (2, 4),
    "13_steps": (2, 3),
    "14_minimal": (2, 3, 4),
    "15_queries": (3,),
    "22_learner": (1, 4),
    "23_objectives": (2,),
    "30_classwise": (2,),
    "31_temperature": (2,),
    "32_fairness": (2,),
    "40_spat": (2, 3, 5),
    "50_hypersphere": (2, 3, 4),
    "60_prototypes": (2, 3),
    "70_sparta": (2, 4),
    "80_tricks": (1, 3),
}


def keep(source, wanted):
    return compile(
        ast.Module([n for n in ast.parse(source).body if wanted(n)], []), "notebook", "exec"
    )


@pytest.mark.parametrize("stem", RUN)
def test_run(stem, capsys):
    """The stub is not attempted, the solution's lines hold, and the reader's own cell accepts the
    solution
    """
    path = NBS / f"{stem}.ipynb"
    env = {"__name__": "notebook"}
    for module in modules_of(path):
        env = {**vars(importlib.import_module(f"spat_nb.{module}")), **env}
    for c in cells_of(path):
        if c["cell_type"] == "code":
            exec(
                keep(
                    c["source"],
                    lambda n: (
                        isinstance(n, (ast.Import, ast.ImportFrom)) and "%" not in ast.unparse(n)
                    ),
                ),
                env,
            )
    env["t"] = importlib.import_module("torch").tensor
    for e in exercises(path):
        if int(e.name.split()[1]) not in RUN[stem]:
            continue
        exec(e.cell["source"], env)
        assert capsys.readouterr().out.startswith("not attempted: ")
        stubs = {n.name for n in ast.parse(e.cell["source"]).body if is_stub(n)}
        solution = next(c["source"] for c in e.after if "Solution" in c["source"])
        exec(
            keep(
                solution,
                lambda n: (
                    isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom))
                    or calls(n, JUDGES)
                ),
            ),
            env,
        )
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("right: ") and any(v.startswith("wrong: ") for v in lines)
        # it goes by another name there
        if not stubs <= {n.name for n in ast.parse(solution).body if hasattr(n, "name")}:
            continue
        exec(keep(e.cell["source"], lambda n: getattr(n, "name", None) not in stubs), env)
        assert capsys.readouterr().out.startswith("right: ")


# ---- hints and progress
def double(x):
    return 2 * x


def answer(f, **kw):
    return judge(f, double, 1, 2, **kw)


def test_hints_come_one_by_one(capsys, monkeypatch):
    monkeypatch.setattr(exercise, "_failed", {})

    def hints(f, name="a 1"):
        answer(f, name=name, hints=("A.", "B."))
        return [
            v.partition(": ")[2]
            for v in capsys.readouterr().out.splitlines()
            if v.startswith("hint")
        ]

    none, wrong, error = (lambda x: None), (lambda x: x), (lambda x: x.y)
    assert [hints(none), hints(wrong), hints(none), hints(error), hints(wrong), hints(double)] == [
        [],
        ["A."],
        [],
        ["A.", "B."],
        ["A.", "B."],
        [],
    ]
    # each exercise for itself
    assert hints(wrong, "a 2") == ["A."] and exercise._failed == {"a 1": 3, "a 2": 1}
    answer(wrong)
    assert "hint" not in capsys.readouterr().out


@pytest.fixture
def reader(tmp_path, monkeypatch):
    "Somebody at work in Jupyter, and the file that remembers"
    for room_ in (exercise, progress_room):
        monkeypatch.setattr(room_, "progress_file", lambda: True)
    monkeypatch.setenv("SPAT_NB_PROGRESS", str(tmp_path / "kept.json"))
    return tmp_path / "kept.json"


def test_what_is_kept(reader):
    for f in (lambda x: None, lambda x: x, double, lambda x: x):
        answer(f, name="a 1")
    answer(lambda x: x.y, name="a 2")
    answer(double)
    answer(..., name="a 3")
    for guess in (..., 3, 4):
        predict("2+2?", guess, name="a 4").check(4)
    predict("2+2?", 4, name="a 5").check(4)
    predict("2+2?", 4).check(4)
    assert exercise.read_progress(reader) == {
        "a 1": "right",
        "a 2": "attempted",
        "a 4": "attempted",
        "a 5": "right",
    }


def test_tests_builds_and_scripts_leave_no_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("SPAT_NB_PROGRESS", str(tmp_path / "kept.json"))
    shell = type("Colab", (type("ZMQInteractiveShell", (), {}),), {})()
    for env, live in (
        (dict(IN_TEST="1"), False),
        (dict(IN_TEST="", TQDM_DISABLE="1"), False),
        (dict(IN_TEST="", TQDM_DISABLE=""), True),
    ):
        for k, v in env.items():
            monkeypatch.setenv(k, v)
        # pytest is no notebook
        assert not exercise.progress_file()
        with monkeypatch.context() as m:
            m.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
            assert exercise.progress_file() == live
        answer(double, name="a 1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"a 1": 3}',
        b'{"a 1": ["right"]}',
        b'{"a 1": "rihgt"}',
    ],
)
def test_a_damaged_file_is_laid_aside(reader, spoilt, capsys):
    reader.write_bytes(spoilt)
    (reader.parent / "kept.json.damaged1").write_text("an older one")
    answer(double, name="a 1")
    said = [v for v in capsys.readouterr().out.splitlines() if v.startswith("progress")]
    assert len(said) == 1 and "kept.json is damaged" in said[0] and "kept.json.damaged2" in said[0]
    assert (reader.parent / "kept.json.damaged2").read_bytes() == spoilt and (
        reader.parent / "kept.json.damaged1"
    ).read_text() == "an older one"
    assert (
        exercise.read_progress(reader) == {"a 1": "right"}
        and len(list(reader.parent.iterdir())) == 3
    )


def test_where_nothing_can_be_kept_the_exercise_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exercise, "progress_file", lambda: True)
    (tmp_path / "file").write_text("")
    for bad in (tmp_path, tmp_path / "file" / "kept.json"):
        monkeypatch.setenv("SPAT_NB_PROGRESS", str(bad))
        assert answer(double, name="a 1") == "right"
        assert capsys.readouterr().out.splitlines()[1].startswith("progress is not kept: ")
    monkeypatch.setenv("SPAT_NB_PRGRESS", "x")
    assert answer(double, name="a 1") == "right"
    assert "did you mean 'progress'" in capsys.readouterr().out


def many(k):
    for i in range(20):
        exercise._keep(f"{k} {i}", i % 2 == 0)


def test_two_at_once_forget_nothing(reader):
    both = [multiprocessing.get_context("fork").Process(target=many, args=(k,)) for k in "ab"]
    for p in both:
        p.start()
    for p in both:
        p.join()
    assert [p.exitcode for p in both] == [0, 0] and list(reader.parent.iterdir()) == [reader]
    assert exercise.read_progress(reader) == {
        f"{k} {i}": "attempted" if i % 2 else "right" for k in "ab" for i in range(20)
    }


def test_progress(reader):
    total = sum(len(exercises(p)) for p in NOTEBOOKS)
    none = progress(NBS)
    assert f"{sum(map(len, none.values()))} exercises wait" in repr(none) and {
        k: len(v) for k, v in none.items()
    } == {p.stem: len(exercises(p)) for p in NOTEBOOKS}
    assert sum(map(len, none.values())) >= total >= 80 and "|" not in none._repr_markdown_()
    exercise._keep("balls 1", False, once=True)
    exercise._keep("balls 3", True)
    exercise._keep("gone 1", True)
    some = progress(NBS)
    assert (
        some["10_balls"] == "◐○●○"
        and "| [10_balls](10_balls.ipynb) | ◐○●○ | 1 of 4 |" in some._repr_markdown_()
        and "11_losses" not in some._repr_markdown_()
    )
    assert repr(some).startswith(
        f"Attempted: 2 of {sum(map(len, some.values()))} exercises. Right: 1."
    ) and isinstance(some, Progress)


def test_in_a_live_notebook(tmp_path):
    """A real kernel: the reader's cell is noted, the solution's is not, and nothing once the
    notebook is being built
    """
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    code = [
        "from spat_nb.learn.exercise import judge, predict; from spat_nb.learn.progress import progress\ndef f(x): return 2*x",  # noqa: E501
        "judge(f, lambda x: 2*x, 1, 2, name='a 1')",
        "judge(f, lambda x: 2*x, 1, 2)",
        "predict('1+1?', 3, name='a 2').check(2)",
        "import os; os.environ['TQDM_DISABLE'] = '1'",
        "judge(f, lambda x: 2*x, 1, 2, name='a 3')",
    ]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in code])
    env = {k: v for k, v in os.environ.items() if k not in ("IN_TEST", "TQDM_DISABLE")} | {
        "SPAT_NB_PROGRESS": str(tmp_path / "kept.json")
    }
    client.NotebookClient(nb, timeout=600, startup_timeout=600, kernel_name="python3").execute(
        env=env
    )
    # one line, no 'right' below it
    assert nb.cells[1].outputs[0].text.startswith("right") and len(nb.cells[1].outputs) == 1
    assert exercise.read_progress(tmp_path / "kept.json") == {"a 1": "right", "a 2": "attempted"}
