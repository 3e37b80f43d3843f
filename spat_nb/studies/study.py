"Studies: named arms and the question that they answer"

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from ..attacks.attack import pgd
from ..attacks.balls import Linf
from ..core.digest import describe
from ..core.identity import fingerprint, made_of
from ..core.precision import compiler
from ..core.rng import torch_seed
from ..core.settings import settings
from ..data.sources import get_data
from ..training.callbacks import Progress, Validate
from ..training.learner import Learner
from ..training.objectives import pgd_at, standard
from .sizes import HOW, SIZES, Size

SCHEMA = 1


@dataclass(frozen=True)
class Arm:
    """One row of a study: what differs from PGD-AT by the house recipe.

    Functions are named ones or partials of such: their text is the run's identity
    """

    objective: Callable = pgd_at  # (model, x, y, attack) -> loss ()
    attack: Callable = pgd  # (ball, steps) -> the training attack
    slots: dict = field(default_factory=dict)  # act=, head=, width= of the network
    callbacks: Callable = None  # (job) -> more listeners for the Learner
    # fields of `Size` that this arm changes: lr, epochs, ...; or a function of the Size that gives
    # them
    change: dict = field(default_factory=dict)
    learner: Callable = Learner  # another loop, Free-AT's say
    # (job) -> (objective, training set) instead, where it needs the data; an objective may listen
    # as a Callback
    make: Callable = None
    # (job) -> (model, history): a training of its own instead of all above
    train: Callable = None
    # (model, job) -> the model that is judged: a head fitted on validation images, say
    finish: Callable = None
    attacks: Callable = None  # (job) -> {name: attack}: further attacks of the final judgement
    extra: Callable = None  # (model, job, record) -> JSON values that are kept as 'extra'
    # validation accuracy that chooses the checkpoint: under PGD-10, or 'clean' where nobody trains
    # against attacks
    best: str = "robust"
    note: str = ""  # what a reader should know of the row


@dataclass(frozen=True)
class Study:
    "Named arms and the question that they answer"

    name: str
    question: str
    arms: dict  # name -> Arm
    # size name -> fields of `Size` that the whole study changes
    sizes: dict = field(default_factory=dict)

    def size(self, name, arm) -> Size:
        if name not in SIZES:
            raise ValueError(f"size is {name!r}; it is {', '.join(SIZES)}.")
        size, change = replace(SIZES[name], **self.sizes.get(name, {})), self.arms[arm].change
        return replace(size, **(change(size) if callable(change) else change))


# fields of Arm and of Size that hold code
PHASES = dict(
    train=(("objective", "attack", "slots", "callbacks", "learner", "make", "train"), ("net",)),
    judge=(("finish", "attacks", "extra"), ("strong",)),
)


@dataclass
class Job:
    "One run: an arm at a size with a seed"

    study: Study
    arm_name: str
    size_name: str
    seed: int
    device: torch.device = None
    data: tuple = None  # Data(train, valid, test), once opened
    quiet: bool = False  # no bars and no lines on the way

    @property
    def arm(self):
        return self.study.arms[self.arm_name]

    @property
    def size(self):
        return self.study.size(self.size_name, self.arm_name)

    @property
    def ball(self):
        return Linf(self.size.eps)

    @property
    def stem(self):
        return f"{re.sub('[^A-Za-z0-9.+=-]+', '_', self.arm_name)}-s{self.seed}"

    @property
    def home(self):
        return settings().results / self.study.name / self.size_name

    @property
    def path(self):
        return self.home / f"{self.stem}.json"

    @property
    # of the network that was judged
    def kept(self):
        return self.home / "weights" / f"{self.stem}.safetensors"

    @property
    def work(self):
        return settings().results / ".work" / self.study.name / self.size_name / self.stem

    @property
    def config(self):
        # fields that came after the first results, and what these were made with
        later = [("tested", None), ("best", "robust")]

        def told(o, *but):
            return {
                k: describe(v) for k, v in vars(o).items() if k not in but and (k, v) not in later
            }

        return dict(arm=told(self.arm, "note"), size=told(self.size, *HOW))

    def made(self, phase, ours=False):
        """What this run is trained by, or judged by, as `identity.made_of`; our own functions by
        name, or by what they say
        """
        arm, size = PHASES[phase]
        return made_of(
            [{k: getattr(self.arm, k) for k in arm}, {k: getattr(self.size, k) for k in size}],
            ours=ours,
        )

    @property
    def code(self):
        "phase -> fingerprint of it, where a function or class in it is not ours"
        made = {phase: self.made(phase) for phase in PHASES}
        return {
            phase: fingerprint(p)
            for phase, p in made.items()
            if any(k.startswith(("function ", "class ")) for k in p)
        }

    @property
    def precision(self):
        return (
            "bfloat16"
            if self.device and self.device.type == "cuda"
            else self.size.precision or settings().precision
        )

    @property
    def compiled(self):
        return self.size.compile and self.device.type == "cuda" and bool(compiler(self.device))

    @property
    # how networks run while they are trained
    def how(self):
        return dict(precision=self.precision, compile=self.compiled)

    def open(self):
        if self.data is None:
            self.data = get_data(
                self.size.data,
                device=self.device,
                batch_size=self.size.batch,
                seed=self.seed,
                **({} if self.size.valid is None else {"valid": self.size.valid}),
            )
        return self.data

    def net(self, **slots):
        torch.manual_seed(torch_seed(self.seed))
        return self.size.net(self.open().train, **{**self.arm.slots, **slots}).to(self.device)

    def third(self, epochs):
        """A network with the usual head, trained without attacks, the same for all arms of a seed:
        for transfer
        """
        torch.manual_seed(torch_seed(1000 + self.seed))
        return (
            Learner(
                self.size.net(self.open().train).to(self.device),
                self.open().train,
                standard,
                epochs=max(1, epochs),
                lr=self.size.lr,
                **self.how,
                seed=1000 + self.seed,
            )
            .fit()
            .model.eval()
        )

    def shown(self):
        "What shows the progress of a training"
        return [] if self.quiet else [Progress()]

    def look(self):
        return Validate(self.open().valid, pgd(self.ball, 10))

    def done(self):
        "Is there a result of just this configuration?"
        try:
            d = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return d.get("schema") == SCHEMA and d.get("config") == self.config and not self.edited(d)

    def edited(self, d):
        """The phases whose code was edited since result `d` was written, as far as it says; results
        of before do not
        """
        was = d.get("code", {}).get("arm")
        return {k for k in PHASES if was.get(k) != self.code.get(k)} if was else set()


def jobs(study, size, seeds=None, arms=None) -> list:
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


def studies() -> dict:
    "name -> Study, of all modules in `spat_nb.studies`"
    import spat_nb.studies as folder

    rooms = (
        importlib.import_module(f"{folder.__name__}.{m.name}")
        for m in pkgutil.iter_modules(folder.__path__)
    )
    found = (getattr(room, "study", None) for room in rooms)
    return {s.name: s for s in found if isinstance(s, Study)}


def find_study(name):
    if isinstance(name, Study):
        return name
    have = studies()
    if name not in have:
        raise ValueError(f"there is no study {name!r}; there are {', '.join(have)}.")
    return have[name]
