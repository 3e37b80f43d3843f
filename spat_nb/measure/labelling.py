"""Do labels look permuted? The order of classes that fits a network's answers best

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Relabelling", "relabelling", "told_apart"]

GAIN = 0.1  # an order that is better by less than this share is no reason to doubt the labels


@dataclass(frozen=True)
class Relabelling:
    "Another order of classes that fits better"

    order: tuple  # entry k: the output that answers to label k
    accuracy: float  # with it, in [0,1], on images that did not choose it
    n: int  # of these images

    @property
    def moved(self) -> dict:  # label -> output
        "The labels that another output answers to"
        return {k: v for k, v in enumerate(self.order) if k != v}

    def words(
        self,
        classes: tuple = (),  # names; (): numbers are shown
        most: int = 4,  # name so many labels, and count the others
    ) -> str:
        "'0 stands at output 1, 1 at output 2, ... (10 labels)'"
        shifts = {(v - k) % len(self.order) for k, v in enumerate(self.order)}
        if len(shifts) == 1 and len(self.order) > 2:
            (behind,) = shifts
            ahead = len(self.order) - behind
            if behind <= ahead:
                return f"the output of every label stands {behind} further back"
            return f"the output of every label stands {ahead} further ahead"
        names = dict(enumerate(map(str, classes)))
        told = [f"{names.get(k, k)} stands at output {v}" for k, v in self.moved.items()]
        more = f" and {len(told) - most} labels more" if len(told) > most else ""
        return ", ".join(told[:most]) + more


def told_apart(
    one: Tensor,  # (n,) bool: right in the one way
    other: Tensor,  # (n,) bool: right in the other, same images
    level: float,  # chance of a false claim
    gain: float,  # smallest difference of the shares that counts
) -> bool:
    "Is `one` better, by more than chance (McNemar 1947, exact, one-sided) and by `gain`?"
    from scipy.stats import binomtest

    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    if wins == 0 or wins - losses < gain * len(one):
        return False
    return binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue < level


def _order(answers, y, c):
    "The order of classes with most right answers; a label stays where nothing speaks for another"
    from scipy.optimize import linear_sum_assignment

    counts = torch.zeros(c, c)
    for label, answer in zip(y.tolist(), answers.tolist()):
        if answer >= 0:
            counts[label, answer] += 1
    counts += 0.5 * torch.eye(c)
    _, order = linear_sum_assignment(counts.numpy(), maximize=True)
    return torch.from_numpy(order)


def _candidates(answers, y, c):
    "Orders worth a test: the one that fits these answers best, and two usual mistakes"
    yield _order(answers, y, c)
    for step in (1, -1):
        yield torch.arange(c).roll(step)  # a class for the background in front, or one left out
    as_text = sorted(range(c), key=str)
    yield torch.tensor(as_text)  # numbers sorted as texts: 0, 1, 10, 11, ..., 2
    yield torch.tensor(as_text).argsort()


def relabelling(
    answers: Tensor,  # (n,) numbers of outputs
    y: Tensor,  # (n,) labels
    level: float = 0.001,  # chance of a false claim
) -> Relabelling | None:
    """The order of classes that explains the answers better than the given one; None: there is none

    Chosen on every other image of each class, tested on the rest (exact McNemar test, one-sided).
    """
    by_class = y.argsort(stable=True)
    chosen, held = by_class[::2], by_class[1::2]
    if len(held) < 10:
        return None
    c = int(max(answers.max(), y.max())) + 1
    old = answers[held] == y[held]
    orders = [*_candidates(answers[chosen], y[chosen], c)]
    rights = [answers[held] == order[y[held]] for order in orders]
    fitting = [i for i, new in enumerate(rights) if told_apart(new, old, level / len(orders), GAIN)]
    if not fitting:
        return None
    best = max(fitting, key=lambda i: int(rights[i].sum()))
    return Relabelling(tuple(orders[best].tolist()), float(rights[best].float().mean()), len(held))
