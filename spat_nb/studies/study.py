"""Studies: named rows and the question that they answer

A row is what it changes of the recipe that the size of the study gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from ..training.methods import changed
from ..training.recipe import Recipe
from .results import run_file
from .sizes import SIZES, Size

__all__ = ["Arm", "Study"]

OF_A_SIZE = {f.name for f in fields(Size)}


@dataclass(frozen=True)
class Arm:
    """One row of a study: what differs from PGD-AT by the recipe of the size.

    Changes are specs as text, or the function, class or partial itself:
    Arm({'objective': 'trades(beta=6)', 'start': 'gaussian(sigma=0.001)'})

    Parameters
    ----------
    changes : dict | Callable
        fields of a `Recipe`, its short words (steps, start, inner, width, act, head) or fields of
        `Size` -> value; or a function of the Size that gives them (default: dict())
    train : Callable | None
        (job) -> (model, history): a training of its own, which may use `job.fitted` (default: None)
    finish : Callable | None
        (model, job) -> the model that is judged: a head fitted on validation images, say (default:
        None)
    attacks : Callable | None
        (job) -> {name: attack}: more attacks of the judgement (default: None)
    extra : Callable | None
        (model, job, record) -> JSON values that are kept as 'extra' (default: None)
    note : str
        what a reader should know of the row (default: "")
    """

    # fields of a `Recipe`, its short words (steps, start, inner, width, act, head) or fields of
    # `Size` -> value; or a function of the Size that gives them
    changes: dict | Callable = field(default_factory=dict)
    # (job) -> (model, history): a training of its own, which may use `job.fitted`
    train: Callable | None = None
    # (model, job) -> the model that is judged: a head fitted on validation images, say
    finish: Callable | None = None
    attacks: Callable | None = None  # (job) -> {name: attack}: more attacks of the judgement
    extra: Callable | None = None  # (model, job, record) -> JSON values that are kept as 'extra'
    note: str = ""  # what a reader should know of the row

    def at(self, size: Size) -> dict:
        "The changes at this size"
        return dict(self.changes(size) if callable(self.changes) else self.changes)


@dataclass(frozen=True)
class Study:
    """Named rows and the question that they answer

    ValueError where its name, rows, sizes or claims do not fit together

    Parameters
    ----------
    name : str
        folder of its results, a word
    question : str
        what its rows answer, one sentence
    arms : dict
        name -> Arm
    sizes : dict
        size name -> fields of `Size` that the whole study changes (default: dict())
    claims : tuple
        what papers say, as `Claim`s on these rows (default: ())
    file : str | None
        where it is written; None: one of the package's, or typed in Python (default: None)

    Raises
    ------
    ValueError
        where its name, rows, sizes or claims do not fit together
    """

    name: str  # folder of its results, a word
    question: str  # what its rows answer, one sentence
    arms: dict  # name -> Arm
    # size name -> fields of `Size` that the whole study changes
    sizes: dict = field(default_factory=dict)
    claims: tuple = ()  # what papers say, as `Claim`s on these rows
    file: str | None = None  # where it is written; None: one of the package's, or typed in Python

    def __post_init__(self):
        if not re.fullmatch(r"\w[\w.+=-]*", self.name):
            raise ValueError(
                f"a study is called {self.name!r}; its name is a word, as of a folder."
            )
        if not self.arms:
            raise ValueError(f"{self.name} has no rows; arms is a dict of name -> Arm(...).")
        files: dict[str, str] = {}
        for arm, given in self.arms.items():
            if not isinstance(given, Arm):
                raise ValueError(f"{self.name}, {arm!r} is {given!r}; a row is Arm({{...}}).")
            if (same := files.setdefault(run_file(arm, 0), arm)) != arm:
                raise ValueError(
                    f"{self.name} has rows {same!r} and {arm!r}, whose results would lie in one"
                    " file; give one of them another name."
                )
        if odd := {*self.sizes} - {*SIZES}:
            raise ValueError(f"{self.name} changes size {min(odd)!r}; it is {', '.join(SIZES)}.")
        self._check_claims()

    def _check_claims(self):
        if not isinstance(self.claims, tuple):
            raise ValueError(f"claims of {self.name} is {self.claims!r}; give a tuple of `Claim`s.")
        for claim in self.claims:
            if not hasattr(claim, "arms"):
                raise ValueError(
                    f"{self.name} claims {claim!r}; a claim is a `Claim`, as `gain` gives."
                )
            gone = [arm for arm in claim.arms if arm not in self.arms]
            if claim.study == self.name and gone:
                raise ValueError(
                    f"{self.name} claims something of {gone[0]!r}; its rows are"
                    f" {', '.join(self.arms)}."
                )

    def _size(self, name, arm):
        "(size, what the row changes there)"
        if name not in SIZES:
            raise ValueError(f"size is {name!r}; it is {', '.join(SIZES)}.")
        given = self.sizes.get(name, {})
        if odd := {*given} - OF_A_SIZE:
            raise ValueError(
                f"{self.name} changes {min(odd)!r} of size {name!r}; a size has "
                f"{', '.join(sorted(OF_A_SIZE))}."
            )
        size = replace(SIZES[name], **given)
        changes = self.arms[arm].at(size)
        size = replace(size, **{k: v for k, v in changes.items() if k in OF_A_SIZE})
        return size, {k: v for k, v in changes.items() if k not in OF_A_SIZE}

    def size(
        self,
        name: str,  # one of `SIZES`
        arm: str,  # a row
    ) -> Size:
        """The size of a row.

        Parameters
        ----------
        name : str
            one of `SIZES`
        arm : str
            a row

        Returns
        -------
        Size

        Raises
        ------
        ValueError
            for an unknown one
        """
        return self._size(name, arm)[0]

    def recipe(
        self,
        name: str,  # one of `SIZES`
        arm: str,  # a row
        seed: int = 0,  # of the weights, the order and the attack's starts
        usual: bool = False,  # without what the row changes beside the size: PGD-AT
    ) -> Recipe:
        """How a row is trained.

        Parameters
        ----------
        name : str
            one of `SIZES`
        arm : str
            a row
        seed : int
            of the weights, the order and the attack's starts (default: 0)
        usual : bool
            without what the row changes beside the size: PGD-AT (default: False)

        Returns
        -------
        Recipe

        Raises
        ------
        ValueError
            in one sentence where a change does not fit
        """
        size, changes = self._size(name, arm)
        recipe = Recipe(
            data=size.data,
            model=size.model,
            ball=size.ball,
            attack=f"pgd(steps={size.steps})",
            epochs=size.epochs,
            lr=size.lr,
            batch=size.batch,
            valid=size.valid,
            look=1,
            seed=seed,
        )
        if usual:
            return recipe
        try:
            return changed(recipe, **changes)
        except (TypeError, ValueError) as e:
            raise type(e)(f"{self.name}, {arm!r}: {e}") from None
