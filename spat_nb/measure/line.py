"""The line that an evaluation runs: images come in, each stage asks the model, survivors go on"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..attacks.door import misfits
from ..attacks.gradients import watched
from ..attacks.remarks import remarks
from ..core.checks import check_images
from ..core.digest import digest
from ..core.protocols import ModelFunction
from ..core.threads import fitting_threads
from .journal import marks_of
from .record import Record, answers_as_classes
from .stages import attacked, logits_of, stages_of, stream_for

__all__ = ["Line"]


@dataclass(eq=False)
class Line:
    """An evaluation under way.

    `feed` puts a batch of data in front; `work` runs every stage that has a full batch, or, in the
    end, whatever still waits; `step` is one batch in one stage
    """

    model: ModelFunction
    net: Callable  # how the model runs while it is attacked
    attacks: dict
    classes: tuple  # names, if the data gives any
    seed: int
    tell: Callable  # the journal

    def __post_init__(self):
        self.stages = stages_of(self.attacks)
        self.y: list = []
        self.answers: dict[str, list] = {k: [] for k in self.stages}
        self.size = None
        self.notes: list = []
        self.marks: list = []
        # images whose gradient was not finite
        self.broken = dict.fromkeys(self.stages, 0)

    def feed(self, x, y):
        answers_as_classes(y, len(check_images(x)), None)
        for a in () if self.y else self.attacks.values():
            misfits(a, x)
        self.size = self.size or len(x)
        self.stages["clean"].held.append((torch.arange(len(self.y), len(self.y) + len(x)), x, y))
        self.y += y.tolist()
        self.marks += marks_of(x)
        for a in self.answers.values():
            a += [-1] * len(x)  # -1: not asked (yet)

    def work(self, least):
        "Run all stages in which `least` images wait; yields after each batch"
        for s in self.stages.values():
            while s.waiting >= least:
                yield self.step(s)

    def step(self, s):
        rows, x, y = s.take(self.size)

        def make():
            start = time.perf_counter()
            with (
                stream_for(x.device, self.seed, s.runs, s.name),
                fitting_threads(self.model, x),
                watched(tell=False) as seen,
                remarks() as said,
            ):
                p = (
                    attacked(s.name, s.attack, s.ball, self.model, self.net, x, y)
                    if s.attack
                    else self.clean(x, y)
                )
            seconds = time.perf_counter() - start
            return [p.tolist(), seconds, list(self.classes), int(seen.images), said]

        # a file from before attacks could say something holds four of these
        p, seconds, classes, broken, *said = self.tell(f"{s.name} {s.runs}", (x, y), make)
        notes = [f"{s.name}: {sentence}" for sentence in (said[0] if said else [])]
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]
        self.broken[s.name] += broken
        self.classes = tuple(classes)
        ok = torch.tensor(p) == y.cpu()
        for r, a in zip(rows.tolist(), p):
            self.answers[s.name][r] = a
        s.runs, s.n, s.stood, s.seconds = (
            s.runs + 1,
            s.n + len(p),
            s.stood + int(ok.sum()),
            s.seconds + seconds,
        )
        if not ok.any():
            return
        go = ok.to(x.device)
        if s.before is None and s.runs == 1:
            self.doubt(x[go], y[go])
        for t in self.stages.values():
            if t.before == s.name:
                t.held.append((rows[ok], x[go], y[go]))

    def clean(self, x, y):
        z = logits_of(self.model, x, self.classes)
        answers_as_classes(y, len(x), z.shape[1])
        self.classes = self.classes or tuple(map(str, range(z.shape[1])))
        return z.argmax(1)

    def doubt(self, x, y):
        "What the cascades have to say about the model"
        for k, a in self.attacks.items():
            if not getattr(a, "check", None):
                continue
            with stream_for(x.device, self.seed, k, "doubts"):
                told = self.tell(f"{k} doubts", (x, y), partial(a.check, self.model, x, y))
            self.notes += [t for t in told if t not in self.notes]

    def record(self, identity, **info):
        y = torch.tensor(self.y)
        marks = torch.tensor(self.marks)
        preds: dict[str, Tensor] = {}
        # who was not asked had fallen before: its answer stays
        for s in self.stages.values():
            p = torch.tensor(self.answers[s.name])
            preds[s.name] = torch.where(p < 0, preds[s.before], p) if s.before else p
            k = s.name.split("/")[0]
            if k != s.name and s.name.endswith(f"/{list(self.attacks[k].members)[-1]}"):
                preds[k] = preds[s.name]
        info |= dict(
            seconds={k: s.seconds for k, s in self.stages.items()},
            notes=self.notes,
            identity=dict(identity, images=digest(marks)),
        )
        r = Record(y, preds, self.classes, info, marks)
        r.notes.extend(
            f"{k}: the gradient was NaN or infinite at some pixels of {n} images, where 0 or the"
            " largest finite entry took its place; ask an attack without gradients too."
            for k, n in self.broken.items()
            if n
        )
        for k, a in self.attacks.items():
            if getattr(a, "review", None):
                r.notes.extend(a.review({m: r.accuracy(f"{k}/{m}") for m in a.members}))
        return r
