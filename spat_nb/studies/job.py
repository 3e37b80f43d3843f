"One run of a study: a row at a size with a seed; what it is made of, and where it lies"

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import PurePath

import torch

from ..attacks.attack import pgd
from ..attacks.filling import attack_in
from ..core import spec
from ..core.identity import fingerprint, made_of
from ..core.precision import compiler
from ..core.rng import torch_seed
from ..core.settings import settings
from ..training.building import build_model, new_model, open_data
from ..training.callbacks import Validate
from ..training.fields import SLOTS
from ..training.fit import Fitted, fit
from ..training.objectives import standard
from ..training.recipe import Recipe
from .hooks import by_name, told
from .results import read_run, run_file
from .study import Arm, Study

__all__ = ["PHASES", "Job", "jobs"]

# what a run is trained by, and judged by: fields of Arm and of Size beside the recipe
PHASES = {
    "train": ("train",),
    "judge": ("finish", "attacks", "extra", "strong", "judged", "tested", "trusted", "cost"),
}
# of a recipe: told always. All else is told where it is not the default, so that a field which
# comes later leaves the results of before as they are
TOLD = ("data", "model", "ball", "objective", "attack", "epochs", "lr", "batch", "best")
HOW = ("seed", "precision", "root")  # how a run is done, or which of a row; not what the row is


def _placeless(name, value):
    "A field of a recipe without the folders of files that it names"
    if name == "data":
        return PurePath(value).name
    if isinstance(value, list):
        return [by_name(v) for v in value]
    if value in (None, "usual"):
        return value
    return by_name(value) if name in (*SLOTS, "augment") else value


@dataclass
class Job:
    "One run: a row at a size with a seed"

    study: Study
    arm_name: str
    size_name: str
    seed: int
    device: torch.device | None = None
    data: tuple | None = None  # Data(train, valid, test), once opened
    quiet: bool = False  # no bars and no lines on the way

    @property
    def arm(self) -> Arm:
        return self.study.arms[self.arm_name]

    @property
    def size(self):
        return self.study.size(self.size_name, self.arm_name)

    @cached_property
    def recipe(self) -> Recipe:
        "How it is trained; a training of its own takes from it what it needs"
        return self.study.recipe(self.size_name, self.arm_name, self.seed)

    @cached_property
    def usual(self) -> Recipe:
        "The recipe of the size without what the row changes: PGD-AT"
        return self.study.recipe(self.size_name, self.arm_name, self.seed, usual=True)

    @cached_property
    def ball(self):
        return self.recipe.made("ball")

    # ---- where it lies
    @property
    def stem(self):
        return run_file(self.arm_name, self.seed).removesuffix(".json")

    @property
    def home(self):
        return settings().results / self.study.name / self.size_name

    @property
    def path(self):
        return self.home / f"{self.stem}.json"

    @property
    def kept(self):
        "The network that was judged"
        return self.home / "weights" / f"{self.stem}.safetensors"

    @property
    def work(self):
        return settings().results / ".work" / self.study.name / self.size_name / self.stem

    # ---- which run it is
    def _field(self, name):
        return getattr(self.arm, name) if hasattr(self.arm, name) else getattr(self.size, name)

    @cached_property
    def config(self) -> dict:
        "recipe, judge (and train, where it has a training of its own): specs and numbers"
        default = {f.name: f.default for f in fields(Recipe)} | {"callbacks": [], "look": 1.0}
        recipe = {
            k: _placeless(k, v)
            for k, v in self.recipe.as_dict().items()
            if k not in HOW and (k in TOLD or v != default[k])
        }
        own = {} if self.arm.train is None else {"train": told("train", self.arm.train)}
        judge = {k: self._field(k) for k in PHASES["judge"]}
        judge = {k: told(k, v) for k, v in judge.items() if v is not None}
        return {"recipe": recipe, **own, "judge": judge}

    def made(self, phase, ours=False):
        """What this run is trained by, or judged by, as `identity.made_of`; our own functions by
        name, or by what they say
        """
        parts = {k: self._field(k) for k in PHASES[phase]}
        if phase == "train":
            names = (*SLOTS, "callbacks", "augment")
            parts |= {k: self.recipe.made(k) for k in names if k != "ball"}
        elif isinstance(parts["strong"], str):
            parts["strong"] = spec.make(parts["strong"], True, now=False)
        return made_of(parts, ours=ours)

    @cached_property
    def code(self) -> dict:
        "phase -> fingerprint of it, where a function or class in it is not ours"
        made = {phase: self.made(phase) for phase in PHASES}
        return {
            phase: fingerprint(p)
            for phase, p in made.items()
            if any(k.startswith(("function ", "class ")) for k in p)
        }

    def outdated(
        self,
        d: dict,  # a result of this row and seed
    ) -> set:  # of 'train' and 'judge'
        """The phases that are no longer as they were when `d` was written.

        Of code only where `d` tells of it: results of before do not
        """
        was, now = d.get("config", {}), self.config
        changed = set()
        if any(was.get(k) != now.get(k) for k in ("recipe", "train")):
            changed.add("train")
        if was.get("judge") != now["judge"]:
            changed.add("judge")
        code = d.get("code", {}).get("arm")
        if code:
            changed |= {k for k in PHASES if code.get(k) != self.code.get(k)}
        return changed

    def result(self) -> dict | None:
        "What lies in its file; None where that is no result of it that this version reads"
        try:
            d = read_run(self.path)
        except (OSError, ValueError):
            return None
        return d if d and (d["arm"], d["seed"]) == (self.arm_name, self.seed) else None

    def done(self) -> bool:
        "Is there a result of just this configuration?"
        d = self.result()
        return d is not None and not self.outdated(d)

    # ---- what it is made of
    @property
    def precision(self):
        if self.device and self.device.type == "cuda":
            return "bfloat16"
        return self.size.precision or settings().precision

    @property
    def compiled(self):
        if self.device is None or self.device.type != "cuda":
            return False
        return self.size.compile and bool(compiler(self.device))

    @property
    def how(self):
        "How networks run while they are trained"
        return {"precision": self.precision, "compile": self.compiled}

    def open(self):
        if self.data is None:
            self.data = open_data(self.recipe, self.device)
        return self.data

    def net(self, **slots):  # layers that no spec can name
        "A new network of the row for the images of the run; the caller has set the seed"
        train = self.open().train
        return new_model(self.recipe, train.c, train.shape, **slots).to(self.device)

    def strong(self):
        "The strongest attack"
        attack = self.size.strong
        made = spec.make(attack, True, now=False) if isinstance(attack, str) else attack
        return attack_in(made, self.ball)

    def look(self) -> Validate:
        return Validate(self.open().valid, pgd(self.ball, 10))

    def fitted(
        self,
        model,  # trained in place
        train,  # images to train on
        objective,  # (model, x, y, attack) -> loss ()
        attack=None,  # of the training
        **more,  # of `fit`: validate, best, checkpoint, ...
    ) -> Fitted:
        "A training as long as the recipe says, at its learning rate and in its precision"
        told = {
            "epochs": self.recipe.epochs,
            "lr": self.recipe.lr,
            "seed": self.seed,
            "quiet": self.quiet,
            "config": self.config["recipe"],
            **self.how,
            **more,
        }
        return fit(model, train, objective, attack, **told)

    def third(self, epochs):
        """A network with the usual head, trained without attacks, the same for all rows of a seed:
        for transfer
        """
        seed, train = torch_seed(1000 + self.seed), self.open().train
        net = build_model(self.usual.but(seed=seed), train).to(self.device)
        epochs = max(1, epochs)
        done = self.fitted(
            net, train, standard, epochs=epochs, lr=self.usual.lr, seed=1000 + self.seed, quiet=True
        )
        return done.model.eval()


def jobs(
    study: Study,
    size: str,  # one of `SIZES`
    seeds=None,  # default: as many as the size asks for
    arms=None,  # rows; default: all
) -> list:
    """All runs, seed by seed: after each round every arm has one seed more.

    KeyError for an unknown arm
    """
    if bad := {*(arms or ())} - {*study.arms}:
        raise KeyError(f"{study.name} has no arm {min(bad)!r}; it has {', '.join(study.arms)}.")
    rows = [
        Job(study, a, size, s)
        for a in arms or study.arms
        for s in (range(study.size(size, a).seeds) if seeds is None else seeds)
    ]
    return sorted(rows, key=lambda j: j.seed)
