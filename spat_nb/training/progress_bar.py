"""What a training tells meanwhile: a bar, and a line for each validation"""

from __future__ import annotations

import time

import torch

from ..core.progress import bar
from .events import Callback

__all__ = ["Progress"]


class Progress(Callback):
    """A bar over the whole run and a line for each validation; without a terminal, a line now and
    then

    Parameters
    ----------
    every : float
        seconds between two lines where there is no bar (default: 30)
    show : bool | None
        a bar? Default: where there is a terminal or a notebook (default: None)
    """

    onlooker = True

    def __init__(
        self,
        every: float = 30,  # seconds between two lines where there is no bar
        show: bool | None = None,  # a bar? Default: where there is a terminal or a notebook
    ):
        self.every, self.show = every, show

    def before_fit(self, learner):
        # images in a step, on the average
        self.size, self.seen, self.last = learner.train.n / len(learner.train), learner.done, ""
        self.start = self.at = time.monotonic()
        self.bar = bar(
            None,
            round(learner.total * self.size),
            "train",
            initial=round(learner.done * self.size),
            unit="img",
            unit_scale=True,
            mininterval=0.5,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {rate_fmt}{postfix}",
            disable=None if self.show is None else not self.show,
        )
        if learner.done:
            self.say(f"going on at epoch {learner.done / len(learner.train):.2f}")

    def after_step(self, learner):
        # shown, so asked for
        if self.bar.update(round(learner.done * self.size) - self.bar.n):
            self.bar.set_postfix_str(f"loss {self.loss(learner):.3f}{self.last}", refresh=False)
        elif (
            self.bar.disable
            and learner.done > self.seen
            and time.monotonic() - self.at >= self.every
        ):
            now = time.monotonic()
            # seconds for a step, of late
            pace = (now - self.at) / (learner.done - self.seen)
            self.at, self.seen = now, learner.done
            self.say(
                f"epoch {learner.done / len(learner.train):6.2f} of {learner.epochs}   loss {self.loss(learner):.3f}  "  # noqa: E501
                f" {self.size / pace:,.0f} images/s  "
                f" {self.bar.format_interval(pace * (learner.total - learner.done))} left"
            )

    def after_validate(self, learner):
        r, self.at, self.seen = learner.history[-1], time.monotonic(), learner.done
        self.last = "".join(f" {k} {r[k]:.3f}" for k in ("clean", "robust") if k in r)
        self.bar.set_postfix_str(f"loss {r['loss']:.3f}{self.last}", refresh=False)
        self.say(
            f"epoch {r['epoch']:6.2f} of {learner.epochs}   loss {r['loss']:.3f}{self.last}   after"
            f" {self.bar.format_interval(self.at - self.start)}"
        )

    def after_fit(self, learner):
        self.bar.close()

    def loss(self, learner):
        return (
            torch.stack(learner.losses[-50:]).mean().item()
            if learner.losses
            else learner.history[-1]["loss"]
        )

    def say(self, text):
        print(text, flush=True) if self.bar.disable else self.bar.write(text)
