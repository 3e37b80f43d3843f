"""Guess before you look, and a judge that tells right from wrong"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from types import EllipsisType

import torch

from .packed import Exercise, closed, look_up
from .verdict import Verdict, difference, in_words, show_verdict

__all__ = ["Exercise", "Guess", "is_unwritten", "attempt", "judged_by", "predict"]


class Guess:
    "What the reader expects, noted before the truth is computed"

    def __init__(
        self,
        question: str,  # one sentence
        value,  # the guess; `...` for none yet
        name: str | None = None,  # of an exercise; None: nothing is kept
    ):
        self.question = question
        self.value = value
        self.name = name

    def check(
        self,
        truth,  # number, text, tensor, or a tuple or list of them
        tol: float = 0.0,  # how far a number may be off, in the unit of the truth
    ) -> Verdict:  # 'not attempted', 'right' or 'wrong'
        "Print the guess beside the truth; without a guess the truth stays hidden"
        if self.value is ...:
            return show_verdict(
                "not attempted", f"{self.question} Guess first: the answer is shown then."
            )
        said, true = (v.tolist() if hasattr(v, "tolist") else v for v in (self.value, truth))
        near = f" (within {tol:g} is right)" if tol else ""
        why = difference(said, true, tol, rel=1e-6)
        return show_verdict(
            "wrong" if why else "right",
            f"you said {in_words(self.value)}, it is {in_words(truth)}{near}{why and '; '}{why}.",
            self.name,
            once=True,
        )


def predict(
    question: str,  # one sentence, with the unit of the answer
    guess=...,  # number, text, or a tuple of them; `...` until the reader has one
    *,
    # of the exercise, 'balls 1': the first guess is kept as the reader's progress
    name: str | None = None,
) -> Guess:  # call its `check` with the truth
    """Note a guess before the truth is known

    Parameters
    ----------
    question : str
        one sentence, with the unit of the answer
    guess
        number, text, or a tuple of them; `...` until the reader has one (default: ...)
    name : str | None
        of the exercise, 'balls 1': the first guess is kept as the reader's progress (default: None)

    Returns
    -------
    Guess
        call its `check` with the truth
    """
    none = "No guess yet: write it in place of ... and run this cell again."
    print(question, none if guess is ... else f"Your guess: {in_words(guess)}.")
    return Guess(question, guess, name)


def _call(f: Callable, case: tuple):
    "`f` on a copy of the arguments, from the present random state, which stays as it is"
    with torch.random.fork_rng(devices=[]):
        return f(*copy.deepcopy(case))


def _shown_call(fn: Callable, case: tuple) -> str:
    "A call in words, for the line that is printed"
    name = getattr(fn, "__name__", type(fn).__name__)
    return f"{name}({', '.join(map(in_words, case))})"


def attempt(
    fn: Callable | EllipsisType,  # the reader's function, or `...`
    # name of an exercise of this book, 'balls 2', or a function that is right
    reference: str | Callable,
    *cases,  # with a function: each a tuple of arguments, or one argument that is no tuple
    tol: float = 1e-6,  # numbers agree when |got-expected| <= tol*(1+|expected|)
    name: str | None = None,  # of the exercise: attempts are kept as the reader's progress
    hints: tuple = (),  # texts; each failed attempt of a session shows one more
    keep: bool = True,  # note it as the reader's attempt; False for a solution that is shown
) -> Verdict:  # 'not attempted', 'error', 'wrong' or 'right'
    """Compare `fn` with a reference case by case, or see what it achieves, and print one line: the
    verdict, with the first counterexample. ValueError without cases. KeyError where there is no
    exercise of that name
    """
    if isinstance(reference, str):
        name = reference
        exercise = look_up(name)
    elif cases:
        exercise = Exercise(reference=reference, cases=lambda: cases, tol=tol, hints=hints)
    else:
        raise ValueError("attempt has no cases; give at least one tuple of arguments.")
    verdict, text = judged_by(exercise, fn)
    return show_verdict(verdict, text, name, exercise.hints, keep=keep)


def judged_by(
    exercise: Exercise,
    fn: Callable | EllipsisType,  # an answer, or `...`
) -> tuple[str, str]:  # 'not attempted', 'error', 'wrong' or 'right', and what is told behind it
    "Judge an answer; nothing is printed or kept"
    if fn is ...:
        return "not attempted", "write your function in place of ... and run this cell again."
    if exercise.check:
        return _achieved(exercise.check, fn)
    assert exercise.cases and exercise.reference
    cases = [case if isinstance(case, tuple) else (case,) for case in exercise.cases()]
    if not cases:
        raise ValueError("an exercise has no cases; give at least one tuple of arguments.")
    expected = [(case, _call(exercise.reference, case)) for case in cases]
    for case, want in expected:
        verdict, text = _one_case(fn, case, want, exercise.tol)
        if verdict != "right":
            return verdict, text
    name = getattr(fn, "__name__", type(fn).__name__)
    plural = "s" * (len(expected) > 1)
    return "right", f"{name} agrees with the reference on {len(expected)} case{plural}."


def _one_case(fn: Callable, case: tuple, want, tol: float) -> tuple[str, str]:
    "The verdict on one case"
    call = partial(_shown_call, fn, case)
    try:
        with closed():
            got = _call(fn, case)
    except NotImplementedError:
        got = None
    except Exception as e:
        return "error", f"{call()} raises {_error(e)}"
    if got is None or got is ...:
        return "not attempted", f"{call()} returns nothing yet."
    if why := difference(got, want, tol, rel=tol):
        return "wrong", f"{call()} is {in_words(got)}, expected {in_words(want)}; {why}."
    return "right", ""


def _stub(): ...


def is_unwritten(
    fn: Callable,  # a function, or anything that is called
) -> bool:
    "Is the body of a function still `...`, or a docstring alone?"
    code = getattr(fn, "__code__", None)
    if code is None:
        return False
    same_steps = code.co_code[::2] == _stub.__code__.co_code[::2]
    return same_steps and all(c is None or c == fn.__doc__ for c in code.co_consts)


def _achieved(check: Callable, fn: Callable) -> tuple[str, str]:
    "The verdict on what an answer achieves"
    name = getattr(fn, "__name__", type(fn).__name__)
    nothing = ("not attempted", f"{name} does nothing yet.")
    if is_unwritten(fn):
        return nothing
    try:
        with closed(), torch.random.fork_rng(devices=[]):
            why = check(fn)
    except NotImplementedError:
        return nothing
    except Exception as e:
        return "error", f"{name} raises {_error(e)}"
    return ("wrong", why) if why else ("right", f"{name} does what was asked.")


def _error(e: Exception) -> str:
    "An error on one line"
    return f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
