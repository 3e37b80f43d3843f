"""Exercises by name: their references, cases and hints, out of the reader's sight"""

# The sources lie in `exercises/` of the repository, one file for a room; `tools/pack_exercises.py`
# writes them into the package as compressed files, so that neither a look into a notebook nor an
# import gives an answer away. While a reader's function is being judged none can be looked up.

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Exercise", "closed", "exercise_names", "look_up", "pack", "room_of"]

FOLDER = Path(__file__).with_name("packed")
_open = True


@dataclass(frozen=True)
class Exercise:
    """How an answer is judged: against a reference on cases, or by what it achieves. ValueError
    where it is neither
    """

    reference: Callable | None = None  # a function that is right
    cases: Callable | None = None  # () -> arguments of each case: a tuple, or one that is none
    check: Callable | None = None  # check(fn) -> '' where fn is right, else why not, in a sentence
    solution: Callable | None = None  # an answer that `check` accepts
    tol: float = 1e-6  # numbers agree when |got-expected| <= tol*(1+|expected|)
    hints: tuple = ()  # texts, from a nudge to the idea; each failed attempt shows one more
    right: tuple | list = ()  # further answers that must be accepted
    wrong: tuple | list = ()  # typical answers that must be refused

    def __post_init__(self):
        compared = bool(self.reference and self.cases)
        achieved = bool(self.check and self.solution)
        if compared == achieved:
            raise ValueError(
                "an exercise needs a reference with cases, or a check with a solution; and not"
                " both."
            )

    @property
    def answer(self) -> Callable:
        "The function that is known to be right"
        found = self.reference or self.solution
        assert found is not None
        return found


def room_of(
    name: str,  # of an exercise, 'balls 2'
) -> str:  # 'balls'
    "The room of an exercise, as its file is named"
    return name.rpartition(" ")[0].replace(" ", "_")


def pack(
    source: str,  # Python text that defines EXERCISES
) -> bytes:
    "The text as it lies in the package"
    return zlib.compress(source.encode(), 9)


def _exercises(path: Path) -> dict:
    "Name -> exercise of a packed file of this package"
    namespace: dict = {"__name__": f"exercises of {path.stem}"}
    source = zlib.decompress(path.read_bytes()).decode()
    exec(compile(source, f"<{namespace['__name__']}>", "exec"), namespace)
    return namespace["EXERCISES"]


def exercise_names() -> list[str]:
    "The names of all exercises that the package holds"
    return [name for path in sorted(FOLDER.glob("*.pack")) for name in _exercises(path)]


def look_up(
    name: str,  # 'balls 2'
) -> Exercise:
    """The exercise of that name. KeyError where there is none; RuntimeError while an answer is
    being judged
    """
    if not _open:
        raise RuntimeError("an exercise cannot be looked up while an answer is being judged.")
    path = FOLDER / f"{room_of(name)}.pack"
    if path.is_file():
        found = _exercises(path)
        if name in found:
            return found[name]
    near = difflib.get_close_matches(name, exercise_names(), 1)
    raise KeyError(f"no exercise {name!r}" + (f"; did you mean {near[0]!r}?" if near else "."))


@contextmanager
def closed():
    "Inside, no exercise can be looked up: the reader's code runs"
    global _open
    before, _open = _open, False
    try:
        yield
    finally:
        _open = before
