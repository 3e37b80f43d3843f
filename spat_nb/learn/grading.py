"""Grade what readers hand in: every exercise in a process of its own, with a time limit"""

from __future__ import annotations

import ast
import contextlib
import csv
import importlib
import io
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection
from pathlib import Path
from typing import Any

from ..core.files import write_aside
from .handins import Attempt, attempts_in, hand_ins, plain_python

__all__ = ["Mark", "grade", "summary", "write_csv"]

# what lessons import beside Python's own
_LIBRARIES = ("fastcore", "matplotlib", "numpy", "pandas", "spat_nb", "torch")


@dataclass(frozen=True)
class Mark:
    "What became of one exercise"

    reader: str
    notebook: str
    exercise: str
    # 'right', 'wrong', 'error', 'not attempted', 'guessed', 'too slow', 'unknown' or 'unreadable'
    verdict: str
    said: str  # what the judge says, or the guess


def _namespace(attempt: Attempt) -> dict:
    "The names that an attempt may use: those of the lesson's own modules, imports, definitions"
    names: dict = {"__name__": "hand_in"}
    for module in attempt.modules:
        with contextlib.suppress(ImportError):
            names |= vars(importlib.import_module(f"spat_nb.{module}"))
    # one after the other: a definition that does not run takes nothing from the others
    for definition in attempt.definitions:
        with contextlib.suppress(Exception):
            exec(definition, names)
    return names


def _run(source: str, names: dict) -> None:
    """The statements of an exercise's cell, one after the other. What is no definition and no
    attempt may need the lesson's own work, which is not done here: it is passed over
    """
    for node in ast.parse(plain_python(source)).body:
        code = compile(ast.Module([node], []), "<answer>", "exec")
        asks = any(isinstance(n, ast.Name) and n.id == "attempt" for n in ast.walk(node))
        if asks or isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            exec(code, names)
        else:
            with contextlib.suppress(Exception):
                exec(code, names)


def _judged(attempt: Attempt) -> tuple[str, str]:
    "The verdict on an attempt, and what is said"
    from . import exercise as room
    from .packed import closed, look_up
    from .verdict import Verdict

    try:
        exercise = look_up(attempt.name)
    except KeyError as e:
        return "unknown", str(e.args[0])
    seen: list[Callable] = []

    def recorded(fn, reference, *cases, **more):
        if reference == attempt.name:
            seen.append(fn)
        return Verdict("not attempted")

    room.attempt = recorded  # in this process alone
    try:
        with closed():
            names = _namespace(attempt) | {"attempt": recorded}
            _run(attempt.source, names)
    except Exception as e:
        return "error", f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
    if not seen:
        return "not attempted", "no call of attempt was reached."
    return room.judged_by(exercise, seen[-1])


def _work(attempt: Attempt, pipe) -> None:
    "What the process of an attempt does; it prints nothing"
    import torch

    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            told = _judged(attempt)
        except BaseException as e:  # also of sys.exit in an answer
            told = "error", f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
    pipe.send(told)


class _Running:
    "The process of an attempt, which is killed when its time is up"

    def __init__(self, attempt: Attempt, seconds: float):
        kinds = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if "fork" in kinds else "spawn")
        self.seconds = seconds
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(attempt, theirs), daemon=True)
        self.process.start()
        self.end = time.monotonic() + seconds
        theirs.close()

    def verdict(self) -> tuple[str, str] | None:
        "What it says, or what became of it; None while it works"
        ended = self.process.exitcode is not None
        try:
            if self.pipe.poll():
                return self.pipe.recv()
        except EOFError:
            ended = True
        if ended:
            return "error", "its process ended without an answer."
        if time.monotonic() >= self.end:
            return "too slow", f"no answer within {self.seconds:g} seconds."
        return None

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _wait(running: Iterable[_Running]) -> None:
    "Until one has something to say, has ended, or has no time left"
    news = [item for r in running for item in (r.pipe, r.process.sentinel)]
    left = min(r.end for r in running) - time.monotonic()
    connection.wait(news, max(left, 0))


def _verdicts(
    attempts: Iterable[Attempt], seconds: float, workers: int
) -> Generator[tuple[str, str], None, None]:
    """The verdicts, in order, of processes side by side. One thread starts them all: a fork takes
    along what other threads hold at that moment, and libraries (filelock) refuse two at once
    """
    waiting = enumerate(attempts)
    running: dict[int, _Running] = {}
    told: dict[int, tuple[str, str]] = {}
    following = 0
    try:
        while True:
            for k, attempt in islice(waiting, workers - len(running)):
                running[k] = _Running(attempt, seconds)
            if not running:
                return
            _wait(running.values())
            for k, verdict in [(k, r.verdict()) for k, r in running.items()]:
                if verdict:
                    running.pop(k).close()
                    told[k] = verdict
            while following in told:
                yield told.pop(following)
                following += 1
    finally:
        for r in running.values():
            r.close()


def _all_attempts(folder: Path) -> Iterator[tuple[str, Path, Attempt | str]]:
    "(reader, notebook, attempt) of all hand-ins; a sentence where a notebook cannot be read"
    for reader, path in hand_ins(folder):
        try:
            attempts = attempts_in(path)
        except ValueError as e:
            yield reader, path, str(e)
            continue
        for attempt in attempts:
            yield reader, path, attempt


def _mark(
    reader: str, path: Path, attempt: Attempt | str, verdicts: Iterator[tuple[str, str]]
) -> Mark:
    "The mark of an attempt; `verdicts` has the next one of those that are run"
    if isinstance(attempt, str):
        return Mark(reader, path.stem, "", "unreadable", attempt)
    if attempt.is_guess:
        verdict, said = ("guessed", attempt.guess) if attempt.guess else ("not attempted", "")
    else:
        verdict, said = next(verdicts)
    return Mark(reader, path.stem, attempt.name, verdict, said)


def _imported(definitions: Iterable[str]) -> Iterator[str]:
    "The modules of the lessons' own libraries that definitions import"
    for node in (n for d in dict.fromkeys(definitions) for n in ast.walk(ast.parse(d))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        yield from (name for name in names if name.partition(".")[0] in _LIBRARIES)


def _import_for_all(attempts: list[Attempt]) -> None:
    "Import once what each process would import by itself; nothing that readers wrote is run"
    import torch

    torch.set_num_threads(1)
    rooms = ["learn.exercise", *(m for attempt in attempts for m in attempt.modules)]
    found = _imported(d for attempt in attempts for d in attempt.definitions)
    for module in dict.fromkeys([*(f"spat_nb.{room}" for room in rooms), *found]):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def grade(
    folder: Path,  # with a folder for each reader, or with notebooks that are named by them
    seconds: float = 30.0,  # for each exercise
    workers: int = 2,  # processes side by side
    progress: bool = True,  # show a bar
) -> list[Mark]:
    """Judge all exercises of all hand-ins. Their code is run on this machine, as this user, each in
    a process of its own: it is kept apart from other answers, not from your files.
    FileNotFoundError where there are no notebooks
    """
    from ..core.progress import bar

    todo = list(_all_attempts(folder))
    run = [a for *_, a in todo if isinstance(a, Attempt) and not a.is_guess]
    _import_for_all(run)
    with contextlib.closing(_verdicts(run, seconds, max(1, workers))) as verdicts:
        marks = (_mark(*item, verdicts) for item in todo)
        return list(bar(marks, total=len(todo), desc="exercises") if progress else marks)


def write_csv(
    marks: Iterable[Mark],
    path: Path,  # of the file
) -> None:
    "A row for each exercise of each reader"
    with write_aside(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["reader", "notebook", "exercise", "verdict", "said"])
        rows.writerows([m.reader, m.notebook, m.exercise, m.verdict, m.said] for m in marks)


def summary(
    marks: list[Mark],
) -> str:
    "A line for each reader: how many exercises are right, and how many were attempted"
    lines = []
    for reader in dict.fromkeys(m.reader for m in marks):
        own = [m.verdict for m in marks if m.reader == reader]
        judged = [v for v in own if v not in ("guessed", "unreadable")]
        attempted = [v for v in judged if v != "not attempted"]
        line = f"{reader}: {own.count('right')} right of {len(attempted)} attempted"
        line += f" and {len(judged)} set, {own.count('guessed')} guesses"
        if broken := own.count("unreadable"):
            line += f", {broken} notebooks cannot be read"
        lines.append(line)
    return "\n".join(lines)
