"A budget of seconds that stops whatever runs"

from __future__ import annotations

import contextlib
import time

import torch

from ..training.checkpoint import Checkpoint
from ..training.events import EVERYWHERE, Callback

# ---- running


class OutOfTime(BaseException):
    """The budget is spent; what was done lies on disk. No error: nothing that catches errors may
    swallow it
    """


class Deadline(Callback):
    """Stops whatever runs when the time is up: a training between two steps, its checkpoint
    written; all else at the next pass of a network
    """

    def __init__(self, end):
        self.end, self.stepping = end, False

    @property
    def late(self):
        return time.monotonic() >= self.end

    def before_step(self, learner):
        if self.late:
            for c in learner.callbacks:
                if isinstance(c, Checkpoint):
                    c.write(learner)
            raise OutOfTime
        self.stepping = True

    # validation and the like: they may be stopped
    def after_step(self, learner):
        self.stepping = False

    def on_pass(self, module, args):
        if self.late and not self.stepping:
            raise OutOfTime


@contextlib.contextmanager
def time_limit(seconds, compiled=False):
    """Let all loops look at the clock, and stop them after so many seconds; None lets them run. A
    `compiled` network bears no hook: there only trainings look
    """
    if seconds is None:
        yield
        return
    clock = Deadline(time.monotonic() + seconds)
    EVERYWHERE.append(clock)
    hook = (
        None
        if compiled
        else torch.nn.modules.module.register_module_forward_pre_hook(clock.on_pass)
    )
    try:
        yield
    finally:
        EVERYWHERE.remove(clock)
        if hook:
            hook.remove()


@contextlib.contextmanager
def alone_in(folder):
    "Hold the run's folder; gives False where another process holds it. A kill lets go of it"
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
