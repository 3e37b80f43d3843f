"""Every exercise of the notebooks: its name, a stub that counts as not attempted, a folded
solution that its judge accepts, and nothing that gives the answer away. Then the tools themselves:
hints come one by one, and progress is honest and never lost
"""

import ast
import functools
import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spat_nb.learn import progress as progress_room
from spat_nb.learn import verdict as verdict_room
from spat_nb.learn.exercise import Exercise, Guess, attempt, is_unwritten, judged_by, predict
from spat_nb.learn.kept import keep_attempt, read_kept, reader_at_work
from spat_nb.learn.packed import FOLDER, exercise_names, look_up
from spat_nb.learn.progress import Progress, exercises_in, progress
from spat_nb.learn.verdict import Verdict, difference, in_words

NBS = Path(__file__).parents[1] / "nbs"
NOTEBOOKS = [
    p for p in sorted(NBS.glob("[0-9]*.ipynb")) if "## Exercises" in p.read_text(encoding="utf-8")
]


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
        if 'code-summary: "Solution' in c["source"]:
            continue
        for call in calls(ast.parse(c["source"]), {"attempt", "predict"}):
            name = keyword(call, "name")
            if call.func.id == "attempt" and isinstance(value(call.args[1]), str):
                name = call.args[1]
            if name:
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
    without = rooms - {p.stem for p in NOTEBOOKS}
    assert len(rooms) >= 18 and not without


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
    assert exercises_in(NBS)[path.stem] == [e.name for e in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_page_as_it_is_handed_out(path):
    """Nothing is attempted; the reader's stub and the judge share a cell, so that the judge sees
    the reader's own answer; no reference, case or hint stands there, and no truth in an output
    """
    for e in exercises(path):
        if e.judged:
            stubs = [n.name for n in ast.parse(e.cell["source"]).body if is_stub(n)]
            assert stubs, f"{e.name}: no stub beside its judge"
            assert ast.unparse(e.call) == f"attempt({stubs[-1]}, {e.name!r})"
            said = re.findall(r"^(not attempted|wrong|error|right): ", printed(e.cell), flags=re.M)
            assert said == ["not attempted"], (
                f"{e.name} is stored with {said}: run the notebook again"
            )
        else:
            assert value(keyword(e.call, "guess")) is ..., f"{e.name} comes with a guess"
            var = re.search(r"^(\w+) = predict", e.cell["source"], flags=re.M)[1]
            said = [printed(c) for c in e.after if f"{var}.check(" in c["source"]]
            assert said and re.search("^not attempted: .*Guess first", said[0], flags=re.M), (
                f"{e.name}: run the notebook again"
            )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_solutions(path):
    "nbdev runs these lines; here we see to it that they are there, folded, and no attempt"
    for e in exercises(path):
        if not e.judged:
            continue
        folded = [c for c in e.after if 'code-summary: "Solution' in c["source"]]
        right = f"test_eq(attempt({{}}, '{e.name}', keep=False), 'right')"
        lines = [ast.unparse(n) for c in folded for n in ast.parse(c["source"]).body]
        assert any(re.fullmatch(re.escape(right).replace(r"\{\}", r"[\w.]+"), n) for n in lines), (
            f"{e.name}: its folded solution does not end in {right.format('...')}"
        )
        for c in folded:
            hidden = c["metadata"].get("jupyter", {})
            assert hidden.get("source_hidden") and hidden.get("outputs_hidden"), e.name


# ---- what the package holds
SOURCES = sorted((NBS.parent / "exercises").glob("[a-z]*.py"))


def test_packs_are_those_of_the_sources():
    # the text counts: another zlib packs it into other bytes
    packed = {p.stem: zlib.decompress(p.read_bytes()).decode() for p in FOLDER.glob("*.pack")}
    assert packed == {p.stem: p.read_text(encoding="utf-8") for p in SOURCES}, (
        "run tools/pack_exercises.py"
    )


def test_every_exercise_is_in_a_notebook_and_every_judge_finds_its_own():
    asked = {e.name for p in NOTEBOOKS for e in exercises(p) if e.judged}
    assert asked == set(exercise_names())


@pytest.mark.parametrize("name", exercise_names())
def test_right_answers_are_accepted_and_wrong_ones_refused(name):
    exercise = look_up(name)
    assert 1 <= len(exercise.hints) <= 3 and len({*exercise.hints}) == len(exercise.hints)
    assert all(10 < len(hint) < 250 for hint in exercise.hints) and exercise.wrong
    for fn in (exercise.answer, *exercise.right):
        assert judged_by(exercise, fn)[0] == "right"
    for fn in exercise.wrong:
        assert judged_by(exercise, fn)[0] in ("wrong", "error")


def test_no_exercise_can_be_looked_up_from_an_answer():
    def cheat(v):
        return look_up("exercise 2").answer(v)

    verdict, text = judged_by(look_up("exercise 2"), cheat)
    assert verdict == "error" and "cannot be looked up" in text
    assert look_up("exercise 2").answer([3, 1, 2]) == 1


def test_an_unknown_exercise():
    with pytest.raises(KeyError, match="no exercise 'exercise 22'; did you mean 'exercise 2'"):
        look_up("exercise 22")
    with pytest.raises(ValueError, match="a reference with cases, or a check with a solution"):
        Exercise(reference=abs)


def test_what_is_unwritten():
    def empty(x): ...

    def described(x):
        "soon"

    assert is_unwritten(empty) and is_unwritten(described)
    assert not is_unwritten(lambda x: x) and not is_unwritten(abs)


def test_variants_are_refused():
    "tools/mutants.py, on one room; the whole of it is run by hand"
    command = [sys.executable, "tools/mutants.py", "exercise"]
    run = subprocess.run(command, cwd=NBS.parent, capture_output=True, text=True)
    assert run.returncode == 0 and "FAULT" not in run.stdout, run.stdout + run.stderr


# ---- two answers, and a line that tells of them
t = torch.tensor


@pytest.mark.parametrize(
    "got, want",
    [
        (0.1 + 0.2, 0.3),
        ("Left ", "left"),
        ((1, "a"), [1.0, "A"]),
        (t(2.0), 2),
        (t([1, 2]), t([1.0, 2.0])),
        (True, t(True)),
        (math.nan, t(math.nan)),
        (math.inf, math.inf),
        (torch.empty(0, 3), torch.empty(0, 3)),
    ],
)
def test_answers_that_agree(got, want):
    assert difference(got, want, 1e-6) == ""


@pytest.mark.parametrize(
    "got, want, why",
    [
        (0.31, 0.3, "off by 0.01"),
        ("right", "left", "another"),
        (3, "left", "another"),
        ((1, 2), (1, 2, 3), "3 values"),
        (7, (1, 2), "2 values"),
        ("no", 2, "a number, not a str"),
        ([1, 2], t([1, 2]), "a tensor, not a list"),
        (t([[1.0], [2.0]]), t([1.0, 2.0]), "shape should be (2,), not (2, 1)"),
        (t([1, 0]), t([True, False]), "dtype should be torch.bool"),
        (t([0.0, math.nan]), t([0.0, 1.0]), "1 of 2"),
        (1, None, "another"),
    ],
)
def test_answers_that_do_not(got, want, why):
    assert why in difference(got, want, 1e-6)


def test_the_tolerance_grows_with_the_wanted_value():
    assert difference(1000.1, 1000.0, 0.05, 1e-3) == ""
    assert difference(1.2, 1.0, 0.05, 1e-3)


def test_values_in_words():
    assert in_words((t([[1.0, 2.0]]), 1 / 3, "a", None)) == "([[1, 2]], 0.3333, 'a', None)"
    assert in_words(torch.ones(2, 3, 8, 8)) == "tensor (2, 3, 8, 8) [1, 1, 1, 1, ...]"
    found = [in_words(v) for v in (abs, torch.nn.Linear(2, 2), torch.Generator(), [])]
    assert found == ["abs", "Linear", "Generator", "[]"]
    assert in_words({"a": torch.ones(2, 2)}) == "{'a': [[1, 1], [1, 1]]}"
    assert len(in_words("x" * 1000)) < 90
    assert Verdict("right") == "right" and Verdict("right")._ipython_display_() is None


@pytest.mark.parametrize(
    "guess, truth, tol, verdict",
    [
        ((0.88, 1), t([0.88, 1.0]), 0, "right"),
        ("Left", "left", 0, "right"),
        (0.1, t(0.1), 0, "right"),  # the float32 nearest to 0.1 is not the double nearest to it
        (0.5, 0.42, 0.1, "right"),
        (0.5, 0.42, 0, "wrong"),
        (1, (0.88, 1.0), 0, "wrong"),
        (..., 3, 0, "not attempted"),
    ],
)
def test_guesses(guess, truth, tol, verdict):
    assert predict("?", guess).check(truth, tol=tol) == verdict


def test_what_a_guess_is_told(capsys):
    Guess("How many?", 2).check(3, tol=0.5)
    said = "wrong: you said 2, it is 3 (within 0.5 is right); off by 1.\n"
    assert capsys.readouterr().out == said
    # the truth stays hidden until there is a guess
    Guess("How many?", ...).check(3)
    said = "not attempted: How many? Guess first: the answer is shown then.\n"
    assert capsys.readouterr().out == said


def mean(v):
    return v.sum() / len(v)


CASES = [(t([1.0, 2.0, 3.0]),), (t([4.0]),), (t([0.1, 0.2]),)]


def test_the_four_verdicts():
    def todo(v): ...

    def later(v):
        raise NotImplementedError

    for f in (..., todo, later):
        assert attempt(f, torch.mean, *CASES) == "not attempted"
    assert attempt(lambda v: v.men(), torch.mean, *CASES) == "error"
    # right on the first case, stops at the second
    assert attempt(lambda v: v[1], torch.mean, *CASES) == "error"
    assert attempt(lambda v: v.max(), torch.mean, *CASES) == "wrong"
    assert attempt(mean, torch.mean, *CASES) == "right"


def test_what_a_judge_says(capsys):
    attempt(lambda v: v.max(), torch.mean, t([1.0, 2.0, 3.0]))
    attempt(mean, torch.mean, *CASES)
    attempt(torch.sum, torch.mean, t([1.0, 2.0, 3.0]), hints=("Divide.", "By how many?"))
    assert capsys.readouterr().out.splitlines() == [
        "wrong: <lambda>([1, 2, 3]) is 3, expected 2; off by 1.",
        "right: mean agrees with the reference on 3 cases.",
        "wrong: sum([1, 2, 3]) is 6, expected 2; off by 4.",
        "hint 1 of 2: Divide.",
    ]


def test_a_judge_is_fair():
    v = t([1.0, 2.0])
    # in place, and harmless
    assert attempt(lambda v: v.mul_(2), lambda v: 2 * v, v) == "right"
    assert torch.equal(v, t([1.0, 2.0]))
    state = torch.get_rng_state()
    # the same noise
    assert attempt(lambda v: v + torch.randn(2), lambda v: torch.randn(2) + v, v) == "right"
    assert torch.equal(torch.get_rng_state(), state)
    assert (
        attempt(
            lambda v, g: v + torch.rand(2, generator=g),
            lambda v, g: torch.rand(2, generator=g) + v,
            (v, torch.Generator().manual_seed(0)),
        )
        == "right"
    )
    # another order of summation
    assert attempt(lambda v: v.flip(0).sum(), torch.sum, torch.linspace(0, 1000, 3001)) == "right"
    assert attempt(lambda a, b: a - b, lambda a, b: a - b, (3, 2), (2, 3)) == "right"
    # tuples, and the second item of the second case
    assert attempt(lambda a: (a, a > 0), lambda a: (a, a >= 0), 1.0, 0.0) == "wrong"


def test_a_fault_of_the_exercise_is_not_blamed_on_the_reader():
    with pytest.raises(ValueError, match="no cases"):
        attempt(mean, torch.mean)
    with pytest.raises(AttributeError):
        attempt(mean, lambda v: v.men(), *CASES)


def test_an_answer_that_is_judged_by_what_it_achieves():
    exercise = look_up("exercise 3")

    def todo(): ...

    assert judged_by(exercise, todo)[0] == "not attempted"
    assert judged_by(exercise, lambda: "x")[0] == "error"
    assert judged_by(exercise, lambda: 5.0) == ("wrong", "sgn(5) is 1.0, and that is the sign.")
    assert judged_by(exercise, exercise.answer)[0] == "right"


def test_a_solution_is_no_attempt(reader):
    attempt(look_up("exercise 2").answer, "exercise 2", keep=False)
    assert read_kept(reader) == {}
    attempt(look_up("exercise 2").answer, "exercise 2")
    assert read_kept(reader) == {"exercise 2": "right"}


# ---- hints and progress
def double(x):
    return 2 * x


def answer(f, **kw):
    return attempt(f, double, 1, 2, **kw)


def test_hints_come_one_by_one(capsys, monkeypatch):
    monkeypatch.setattr(verdict_room, "_failed", {})

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
    assert hints(wrong, "a 2") == ["A."] and verdict_room._failed == {"a 1": 3, "a 2": 1}
    answer(wrong)
    assert "hint" not in capsys.readouterr().out


@pytest.fixture
def reader(tmp_path, monkeypatch):
    "Somebody at work in Jupyter, and the file that remembers"
    for room_ in (verdict_room, progress_room):
        monkeypatch.setattr(room_, "reader_at_work", lambda: True)
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
    assert read_kept(reader) == {
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
        assert not reader_at_work()
        with monkeypatch.context() as m:
            m.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
            assert reader_at_work() == live
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
    assert read_kept(reader) == {"a 1": "right"} and len(list(reader.parent.iterdir())) == 3


def test_where_nothing_can_be_kept_the_exercise_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verdict_room, "reader_at_work", lambda: True)
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
        keep_attempt(f"{k} {i}", i % 2 == 0)


def test_two_at_once_forget_nothing(reader):
    both = [multiprocessing.get_context("fork").Process(target=many, args=(k,)) for k in "ab"]
    for p in both:
        p.start()
    for p in both:
        p.join()
    assert [p.exitcode for p in both] == [0, 0] and list(reader.parent.iterdir()) == [reader]
    assert read_kept(reader) == {
        f"{k} {i}": "attempted" if i % 2 else "right" for k in "ab" for i in range(20)
    }


def test_progress(reader):
    total = sum(len(exercises(p)) for p in NOTEBOOKS)
    none = progress(NBS)
    assert f"{sum(map(len, none.values()))} exercises wait" in repr(none) and {
        k: len(v) for k, v in none.items()
    } == {p.stem: len(exercises(p)) for p in NOTEBOOKS}
    assert sum(map(len, none.values())) >= total >= 80 and "|" not in none._repr_markdown_()
    keep_attempt("balls 1", False, once=True)
    keep_attempt("balls 3", True)
    keep_attempt("gone 1", True)
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
        "from spat_nb.learn.exercise import attempt, predict; from spat_nb.learn.progress import progress\ndef f(x): return 2*x",  # noqa: E501
        "attempt(f, lambda x: 2*x, 1, 2, name='a 1')",
        "attempt(f, lambda x: 2*x, 1, 2)",
        "predict('1+1?', 3, name='a 2').check(2)",
        "import os; os.environ['TQDM_DISABLE'] = '1'",
        "attempt(f, lambda x: 2*x, 1, 2, name='a 3')",
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
    assert read_kept(tmp_path / "kept.json") == {"a 1": "right", "a 2": "attempted"}
