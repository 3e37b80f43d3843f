"""Exercises of the lesson on the Learner"""

import contextlib
import math
import tempfile
from pathlib import Path

import torch

from spat_nb import Callback, Checkpoint, Learner, SmallCNN, get_data, standard
from spat_nb.learn.exercise import Exercise

# ---- 1. a schedule


def steps(t):
    return 1.0 if t < 0.9 else 0.1 if t < 0.95 else 0.01


def by_powers(t):
    return 10.0 ** -((t >= 0.9) + (t >= 0.95))


def after_the_borders(t):
    return 1.0 if t <= 0.9 else 0.1 if t <= 0.95 else 0.01


def one_drop(t):
    return 1.0 if t < 0.9 else 0.1


# ---- 3. an average of the weights, 5. a broken resume


class Bomb(Callback):
    def after_step(self, learner):
        if learner.done == 3:
            raise KeyboardInterrupt


def trained(*callbacks, seed=0):
    torch.manual_seed(seed)
    train = get_data("digits", device="cpu", batch_size=64).train.subset(256)
    kw = dict(epochs=2, lr=0.1, precision="float32", callbacks=callbacks)
    return Learner(SmallCNN(width=4), train, standard, None, **kw).fit().model


def with_and_without_a_kill(make):
    "(callback, weights) of a run, and of one that was killed and resumed"
    whole = make()
    weights = trained(whole).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        with contextlib.suppress(KeyboardInterrupt):
            trained(make(), Checkpoint(path, 0), Bomb())
        resumed = make()
        again = trained(resumed, Checkpoint(path, 0), seed=9).state_dict()
    return (whole, weights), (resumed, again)


class Average(Callback):
    def __init__(self):
        self.avg = None

    def after_step(self, learner):
        w = {k: p.detach().clone() for k, p in learner.model.named_parameters()}
        self.avg = {k: 0.9 * v + 0.1 * w[k] for k, v in self.avg.items()} if self.avg else w

    def state(self):
        return dict(avg=self.avg)


def averages(make):
    (whole, _), (resumed, _) = with_and_without_a_kill(make)
    want = Average()
    trained(want)
    for name, callback in (("a run", whole), ("a run that was killed", resumed)):
        if not isinstance(callback.avg, dict) or callback.avg.keys() != want.avg.keys():
            return f"after {name} avg does not hold the parameters by name."
        off = max((callback.avg[k] - v).abs().max().item() for k, v in want.avg.items())
        if off > 1e-5:
            return f"after {name} the average is off by {off:.2g}."
    return ""


class InPlace(Callback):
    def __init__(self):
        self.avg = None

    def after_step(self, learner):
        with torch.no_grad():
            if self.avg is None:
                named = learner.model.named_parameters()
                self.avg = {k: p.detach().clone() for k, p in named}
            else:
                for k, p in learner.model.named_parameters():
                    self.avg[k] = torch.lerp(self.avg[k], p.detach(), 0.1)

    def state(self):
        return {"avg": self.avg}


class Mortal(Average):
    def state(self):
        return {}


class NoCopy(Average):
    def after_step(self, learner):
        w = {k: p.detach() for k, p in learner.model.named_parameters()}
        self.avg = {k: 0.9 * v + 0.1 * w[k] for k, v in self.avg.items()} if self.avg else w


class Hidden(Callback):
    def __init__(self):
        self.n = 0

    def after_step(self, learner):
        self.n += 1
        with torch.no_grad():
            next(learner.model.parameters()).mul_(1 + 1e-3 * self.n)


class FirstStepOnly(Callback):
    def __init__(self):
        self.first = True

    def before_step(self, learner):
        if self.first:
            with torch.no_grad():
                next(learner.model.parameters()).mul_(0.5)
        self.first = False


class Told(Hidden):
    def state(self):
        return dict(n=self.n)


class Harmless(Callback):
    def after_step(self, learner):
        pass


def breaks_the_resume(make):
    (_, weights), (_, again) = with_and_without_a_kill(make)
    if all(torch.equal(weights[k], again[k]) for k in weights):
        return "the resumed run ends with the very same weights."
    return ""


# ---- 4. the width of a band


def can_tell(n, p, d):
    return d > 2 * math.sqrt(p * (1 - p) / n)


def squared(n, p, d):
    return n * d**2 > 4 * p * (1 - p)


def one_deviation(n, p, d):
    return d > math.sqrt(p * (1 - p) / n)


def band_cases():
    return [
        (180, 0.75, 0.03),
        (180, 0.75, 0.08),
        (180, 0.75, 0.05),
        (1000, 0.5, 0.02),
        (1000, 0.9, 0.02),
        (10000, 0.5, 0.0105),
        (10000, 0.5, 0.0095),
        (10000, 0.5, 0.005),
        (100, 0.9, 0.059),
        (100, 0.9, 0.061),
    ]


EXERCISES = {
    "learner 1": Exercise(
        reference=steps,
        cases=lambda: [(t,) for t in (0.0, 0.5, 0.89, 0.9, 0.93, 0.949, 0.95, 0.99, 1.0)],
        right=[by_powers],
        wrong=[after_the_borders, one_drop],
        hints=("Three levels, two borders: .9 and .95.", '"From 90% on" includes 90%.'),
    ),
    "learner 3": Exercise(
        check=averages,
        solution=Average,
        right=[InPlace],
        wrong=[Mortal, NoCopy],
        hints=(
            "The optimiser changes parameters in place: keep a copy (detach and clone), or your"
            " average changes by itself.",
            "What shall survive a kill stands in `state()`; `Callback.load` puts it back under the"
            " same names.",
        ),
    ),
    "learner 4": Exercise(
        reference=can_tell,
        cases=band_cases,
        right=[squared],
        wrong=[one_deviation],
        hints=(
            "The mean of n answers, each right with probability p, has the variance p(1-p)/n.",
            "Two standard deviations: twice its root.",
        ),
    ),
    "learner 5": Exercise(
        check=breaks_the_resume,
        solution=Hidden,
        right=[FirstStepOnly],
        wrong=[Told, Harmless],
        hints=(
            "What does a resumed run know? What stands in the checkpoint, and nothing else.",
            "Let the callback count its steps, change the weights by the count, and not tell"
            " `state` of it.",
        ),
    ),
}
