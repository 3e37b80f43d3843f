"""Exercises of the lesson on robustness and privacy"""

import torch
from torch import nn

from spat_nb import get_data, zoo
from spat_nb.learn.exercise import Exercise
from spat_nb.papers.rpg import gradient_norms

# ---- 2. the score of a threshold


def of_two_shares(members, others, t):
    return ((members >= t).double().mean() + (others < t).double().mean()).item() / 2


def by_counting(members, others, t):
    found = sum(v >= t for v in members.tolist()) / len(members)
    return (found + sum(v < t for v in others.tolist()) / len(others)) / 2


def all_together(members, others, t):
    n = len(members) + len(others)
    return ((members >= t).sum() + (others < t).sum()).item() / n


def without_ties(members, others, t):
    return ((members > t).double().mean() + (others < t).double().mean()).item() / 2


# ---- 3. a quiet network


def is_quiet(fn):
    net = zoo.load("digits/standard/w16", "cpu").eval()
    x, y = get_data("digits", device="cpu").test.subset(60).tensors()
    seen = fn(net)
    if not isinstance(seen, nn.Module):
        return f"it returns a {type(seen).__name__}, not an nn.Module."
    seen.eval()
    with torch.no_grad():
        if not torch.equal(seen(x).argmax(1), net(x).argmax(1)):
            return "it gives other answers."
    loud, left = (gradient_norms(m, x, y).max().item() for m in (net, seen))
    if left == 0 and not any(p.requires_grad for p in seen.parameters()):
        return "it has no weights that are trained."
    return "" if left < loud / 100 else f"{left / loud:.2f} of the length is left."


class Softened(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 1e-4 * self.model(x)


class Louder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 10 * self.model(x)


def unchanged(model):
    return model


EXERCISES = {
    "rpg 2": Exercise(
        reference=of_two_shares,
        cases=lambda: [
            (torch.tensor([0.9, 0.9, 0.6]), torch.tensor([0.9, 0.5, 0.4, 0.3]), t)
            for t in (0.0, 0.5, 0.55, 0.95)
        ],
        right=[by_counting],
        wrong=[all_together],
        hints=(
            "Two shares, each of its own group.",
            "(members >= t) and (others < t): the mean of each, then the mean of both.",
        ),
    ),
    "rpg 3": Exercise(
        check=is_quiet,
        solution=Softened,
        right=[],
        wrong=[Louder, unchanged],
        hints=(
            "Multiply the logits: the largest stays the largest.",
            "With small logits all probabilities are near 1/10, and the gradient to the weights"
            " carries the small factor.",
        ),
    ),
}
