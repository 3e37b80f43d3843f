"""The one place where a Learner is made

The network that validation chose, and what its training took
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn
from torch.utils.hooks import RemovableHandle

from spat_nb.core.protocols import AttackFunction, ObjectiveFunction

from ..measure.metering import Meter
from .callbacks import Best, Validate
from .checkpoint import Checkpoint
from .events import Callback
from .learner import Learner
from .progress_bar import Progress
from .schedule import one_cycle, sgd

__all__ = ["Passes", "Fitted", "fit", "looks_by_itself"]


class Passes(Callback):
    """Counts the passes of training steps, and the seconds, over all parts of a run

    Those of validation are not counted, nor those of a compiled network
    """

    order = -1  # before all others: no pass of theirs is counted, and no checkpoint sees the hook
    onlooker = True

    def __init__(
        self,
        counts: bool = True,  # False for a compiled network, which a hook would compile anew
    ):
        self.counts = counts
        self.meter = Meter()
        self.hook: RemovableHandle | None = None
        self.before = 0.0  # seconds of the parts before a kill
        self.start = time.monotonic()

    def _count(self, module, args, z):
        self.meter.note(z, len(args[0]))

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def before_step(self, learner):
        if not self.counts:
            return
        self.meter.images += len(learner.x)
        self.hook = learner.model.register_forward_hook(self._count)

    def after_step(self, learner):
        self.stop()

    def stop(self):
        "Leave no hook behind, also where a step has failed"
        if self.hook is not None:
            self.hook.remove()
            self.hook = None

    def state(self):
        return {**self.meter.as_state(), "seconds": self.seconds}

    def load(self, state):
        self.before = state["seconds"]
        self.meter = Meter(**{k: v for k, v in state.items() if k != "seconds"})


@dataclass
class Fitted:
    "A training that is done"

    model: nn.Module  # the weights that validation chose, or the last ones
    history: list = field(default_factory=list)  # a row for each look
    step: int | None = None  # at which the chosen weights stood; None: nothing was chosen
    steps: int = 0  # of the optimiser, in all
    seconds: float = 0.0  # all parts of the run together
    passes: dict | None = None  # forward and backward passes for each image; None: not counted


def looks_by_itself(
    callbacks,  # listeners of a Learner
) -> bool:
    "Does one of them ask for validation by itself, as an average of weights does?"
    return any(getattr(c, "look", None) for c in callbacks)


def fit(
    model: nn.Module,  # pixels to logits; trained in place, on the device of the data
    train,  # `Batches`, or what else has `n`, `len` and `epoch(e, start)`
    objective: ObjectiveFunction
    | Callback,  # (model, x, y, attack) -> loss (); one that is a Callback listens too
    attack: AttackFunction | None = None,  # of the training: (model, x, y) -> x_adv
    epochs: int = 10,  # passes over `train`
    lr: float = 0.1,  # highest learning rate, > 0
    validate: Validate | None = None,  # looks at held-out images; left out where a listener does
    best: str | None = None,  # column of the history that chooses the weights; None: the last ones
    callbacks=(),  # more listeners
    checkpoint=None,  # .safetensors file from which a killed run goes on; None: none is written
    every: float = 60,  # seconds between two checkpoints
    config: dict | None = None,  # JSON values that must be equal for a run to go on
    opt: Callable = sgd,  # (parameters, lr) -> optimiser
    schedule: Callable = one_cycle,  # share of the run done -> factor of `lr`
    precision: str | None = None,  # how the network runs; default: the reader's setting
    compile: bool = False,  # torch.compile the network (pays on GPUs)
    seed: int = 0,  # of all randomness that has no generator of its own
    devices=None,  # `devices.many()`: this process is one of many
    learner: Callable = Learner,  # another loop of the same kind
    quiet: bool = False,  # no bar and no lines
) -> Fitted:
    """Train, or go on from the checkpoint.

    ValueError where `best` is asked for but nothing looks, FloatingPointError where the loss is
    not finite
    """
    callbacks = list(callbacks)
    if isinstance(objective, Callback) and objective not in callbacks:
        callbacks.insert(0, objective)
    looking = validate is not None or looks_by_itself(callbacks)
    if best and not looking:
        raise ValueError(
            f"best is {best!r}, but nobody looks at held-out images; "
            "give validate=, or best=None for the last weights."
        )
    chosen = Best(best) if best else None
    passes = Passes(counts=not compile)
    listeners: list[Callback] = []
    if validate is not None and not looks_by_itself(callbacks):
        listeners.append(validate)
    if chosen is not None:
        listeners.append(chosen)
    listeners += callbacks
    if not quiet:
        listeners.append(Progress())
    if checkpoint is not None:
        listeners.append(Checkpoint(Path(checkpoint), every, config))
    listeners.append(passes)
    run = learner(
        model,
        train,
        objective,
        attack,
        epochs,
        lr,
        opt=opt,
        schedule=schedule,
        callbacks=listeners,
        precision=precision,
        compile=compile,
        seed=seed,
        devices=devices,
    )
    try:
        run.fit()
    finally:
        passes.stop()
    if chosen is not None:
        chosen.restore(run.model)
    return Fitted(
        model=run.model,
        history=run.history,
        step=chosen.step if chosen is not None else None,
        steps=run.done,
        seconds=passes.seconds,
        passes=passes.meter.each() if passes.counts else None,
    )
