"""A recipe says everything that a run depends on

In words that can be typed, kept in a file, compared with others and read by a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from ..attacks.balls import Ball
from ..core import spec
from ..core.grammar import Call, parse
from ..core.settings import PRECISIONS
from ..core.slots import normal, split_specs
from .fields import BEST, SLOTS, field_number, field_spec, refuse_attack, typed_value, usual

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on. What is None is what the data set is usually trained with.

    A slot (model, ball, objective, attack, optimiser, schedule, callbacks) takes a spec,
    'pgd(steps=5)', or the function, class or partial itself, and keeps the spec.

    Parameters
    ----------
    data : str
        data set, as in `get_data` (default: "digits")
    model : str | None
        a network: classes, channels and size are filled in from the data (default: None)
    ball : str | None
        threat model (default: None)
    objective : str
        what a step minimises (default: "pgd_at")
    attack : str
        of the training; the ball is filled in (default: "pgd(steps=5)")
    epochs : int | None
        passes over the training images, replays counted (default: None)
    lr : float | None
        highest learning rate (default: None)
    batch : int | None
        images in a step (default: None)
    replays : int
        times that each batch is shown in a row (Free-AT) (default: 1)
    n : int | None
        train on so many images, balanced by class; None: all (default: None)
    valid : int | None
        held-out images; None: as many as are usual for the data set (default: None)
    n_test : int | None
        judge on so many test images; None: all (default: None)
    root : str | None
        folder of the data; None: the reader's setting (default: None)
    size : int
        of an image folder: height and width in pixels (default: 224)
    augment : str | None
        'usual' for the data, 'none', or a spec: crop_flip(4) (default: "usual")
    best : str
        weights that are kept: of the best look, or 'last'; see `BEST` (default: "robust")
    look : float | None
        epochs between two looks at them; None: 1, of a few epochs 0.5 (default: None)
    optimiser : str
        (parameters, lr) -> optimiser (default: "sgd")
    schedule : str
        share of the run done -> factor of lr (default: "one_cycle")
    callbacks : tuple | list | str
        specs of more listeners: ('EMA(decay=0.999)',) (default: ())
    seed : int
        of weights, order, augmentation and random starts (default: 0)
    precision : str
        of the network in training; see `PRECISIONS` (default: "float32")

    Raises
    ------
    ValueError
        or TypeError in one sentence for what does not fit

    Examples
    --------
    >>> from spat_nb import Recipe
    >>> Recipe(data="digits", objective="trades(beta=6)").ball
    'Linf(0.15)'
    """

    data: str = "digits"  # data set, as in `get_data`
    model: str | None = None  # a network: classes, channels and size are filled in from the data
    ball: str | None = None  # threat model
    objective: str = "pgd_at"  # what a step minimises
    attack: str = "pgd(steps=5)"  # of the training; the ball is filled in
    epochs: int | None = None  # passes over the training images, replays counted
    lr: float | None = None  # highest learning rate
    batch: int | None = None  # images in a step
    replays: int = 1  # times that each batch is shown in a row (Free-AT)
    n: int | None = None  # train on so many images, balanced by class; None: all
    valid: int | None = None  # held-out images; None: as many as are usual for the data set
    n_test: int | None = None  # judge on so many test images; None: all
    root: str | None = None  # folder of the data; None: the reader's setting
    size: int = 224  # of an image folder: height and width in pixels
    augment: str | None = "usual"  # 'usual' for the data, 'none', or a spec: crop_flip(4)
    best: str = "robust"  # weights that are kept: of the best look, or 'last'; see `BEST`
    look: float | None = None  # epochs between two looks at them; None: 1, of a few epochs 0.5
    optimiser: str = "sgd"  # (parameters, lr) -> optimiser
    schedule: str = "one_cycle"  # share of the run done -> factor of lr
    callbacks: tuple | list | str = ()  # specs of more listeners: ('EMA(decay=0.999)',)
    seed: int = 0  # of weights, order, augmentation and random starts
    precision: str = "float32"  # of the network in training; see `PRECISIONS`

    def __post_init__(self):
        for name, value in usual(self.data).items():
            if getattr(self, name) is None:
                self._set(name, value)
        self._specs()
        self._numbers()
        self.check()

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _specs(self):
        "Slots as specs in their one way of writing"
        for name in SLOTS:
            self._set(name, field_spec(name, getattr(self, name)))
        listed: Any = self.callbacks
        if isinstance(listed, str):
            listed = split_specs(listed)
        if not isinstance(listed, (tuple, list)):
            listed = [listed]
        self._set("callbacks", tuple(field_spec("callbacks", c) for c in listed))
        if self.augment == "none":  # as it is typed
            self._set("augment", None)
        if self.augment not in (None, "usual"):
            self._set("augment", field_spec("augment", self.augment))

    def _numbers(self):
        "Numbers in their range"
        for name, least in {
            "epochs": 0,
            "batch": 1,
            "replays": 1,
            "size": 1,
            "seed": -math.inf,
        }.items():
            self._set(name, field_number(name, getattr(self, name), least, whole=True))
        for name, least in {"n": 1, "valid": 0, "n_test": 1}.items():
            value = getattr(self, name)
            if value is not None:
                self._set(name, field_number(name, value, least, whole=True))
        self._set("lr", field_number("lr", self.lr, 0, above=True))
        if self.look is None:
            self._set("look", self._usual_look())
        self._set("look", field_number("look", self.look, 0, above=True))

    def _usual_look(self):
        "Epochs between two looks where nobody says it"
        epochs = cast(int, self.epochs)  # set above
        return 1.0 if epochs > 3 or self.data == "digits" else 0.5

    def check(self):
        """What numbers alone do not say.

        Raises
        ------
        ValueError or TypeError
            in one sentence
        """
        if not isinstance(self.data, str) or not self.data:
            raise TypeError(
                f"data is {self.data!r}; give the name of a data set, 'digits', or an .npz file."
            )
        if self.data.lower().endswith(".npz") and Path(self.data).expanduser().is_file():
            self._set(
                "data", str(Path(self.data).expanduser().absolute())
            )  # to be found again from elsewhere
        if self.root is not None:
            self._set("root", str(Path(self.root).expanduser().absolute()))
        if self.best not in BEST:
            raise ValueError(
                f"best is {self.best!r}; the weights that are kept are {' or '.join(BEST)}."
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; write {', '.join(PRECISIONS)}.")
        if not isinstance(self.made("ball"), Ball):
            raise ValueError(
                f"ball is {self.ball}; give a threat model with its radius, such as Linf(8/255)."
            )
        refuse_attack(self.objective, self.made("objective"))
        for name in ("objective", "attack", "optimiser", "schedule", "model"):
            if not callable(self.made(name)):
                raise ValueError(
                    f"{name} is {self.made(name)!r}; give the name of a function or class."
                )

    # ---- what it names

    def made(self, name: str):
        "What a slot names: of `ball` the ball itself, else a function, class or partial to call"
        value = getattr(self, name)
        if name == "ball":
            return spec.make(value, True)
        if name == "callbacks":
            return [spec.make(c, True, now=False) for c in value]
        if name == "augment" and value in (None, "usual"):
            return value == "usual" or None
        if name == "augment":
            return spec.make(value, True)
        return spec.make(value, True, now=False)

    def but(self, **changes) -> Recipe:
        "The same recipe with other fields"
        if "epochs" in changes and self.look == self._usual_look():
            changes = {"look": None, **changes}  # nobody has chosen it
        return replace(self, **changes)

    # ---- as text and as a dict

    def as_dict(self) -> dict:
        "field -> JSON value: texts of specs, numbers, None"
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "callbacks": list(self.callbacks)}

    def text(self) -> str:
        "One call that makes this recipe again; what the data set's defaults say is left out"
        usual = Recipe(data=self.data).as_dict()
        told = {k: v for k, v in self.as_dict().items() if k == "data" or v != usual[k]}
        return f"Recipe({', '.join(f'{k}={v!r}' for k, v in told.items())})"

    def __str__(self):
        return self.text()

    @classmethod
    def from_dict(
        cls,
        values: dict,  # what `as_dict` gave
        outside: bool = False,  # may slots name what is not ours? Only where a person typed them
    ) -> Recipe:
        """ValueError where a field is unknown, or names what a file may not name

        Parameters
        ----------
        values : dict
            what `as_dict` gave
        outside : bool
            may slots name what is not ours? Only where a person typed them (default: False)

        Returns
        -------
        Recipe

        Raises
        ------
        ValueError
            where a field is unknown, or names what a file may not name
        """
        if not isinstance(values, dict):
            raise TypeError(f"a recipe is a {type(values).__name__}; give a dict of its fields.")
        known = {f.name for f in fields(cls)}
        if odd := {*values} - known:
            raise ValueError(
                f"a recipe has no field {min(odd)!r}; it has {', '.join(sorted(known))}."
            )
        if not outside:
            for name in (*SLOTS, "augment"):
                if isinstance(values.get(name), str) and values[name] != "usual":
                    normal(values[name])
            for callback in values.get("callbacks") or ():
                normal(callback)
        return cls(**values)

    @classmethod
    def from_text(
        cls,
        text: str,  # what `text` gave
        outside: bool = False,  # as in `from_dict`
    ) -> Recipe:
        """ValueError where it is no recipe

        Parameters
        ----------
        text : str
            what `text` gave
        outside : bool
            as in `from_dict` (default: False)

        Returns
        -------
        Recipe

        Raises
        ------
        ValueError
            where it is no recipe
        """
        call = parse(text)
        if not isinstance(call, Call) or call.what.name != "Recipe" or call.args:
            raise ValueError(f"{text[:80]!r} is no recipe; write Recipe(data='digits', ...).")
        return cls.from_dict({k: typed_value(v) for k, v in call.keywords.items()}, outside)
