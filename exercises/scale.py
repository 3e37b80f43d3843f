"""Exercises of the lesson on the scale that an attack sees"""

import torch

from spat_nb import Linf, get_data, pgd, zoo
from spat_nb.learn.exercise import Exercise


# ---- 2: a fair difference
def fair(a, b):
    return 100 * (a.all(0).double().mean() - b.all(0).double().mean())


def fair_by_counting(a, b):
    return 100.0 * (a.all(dim=0).sum().item() - b.all(dim=0).sum().item()) / a.shape[1]


def worst_column(a, b):
    return 100 * (a.double().mean(1).min() - b.double().mean(1).min())


def of_the_means(a, b):
    return 100 * (a.double().mean() - b.double().mean())


def fair_cases():
    g = torch.Generator().manual_seed(0)
    return [
        (torch.rand(k, n, generator=g) < p, torch.rand(k, n, generator=g) < q)
        for k, n, p, q in (
            (3, 40, 0.8, 0.9),
            (2, 25, 0.9, 0.7),
            (5, 11, 0.9, 0.95),
            (1, 8, 0.5, 0.5),
        )
    ]


# ---- 3: break a leaderboard
class Blunt(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.nn.functional.normalize(self.net(x), dim=1)


def submit(net):
    return Blunt(net)


def a_tenth(net):
    return lambda x: net(x) / 10


def as_it_is(net):
    return net


def louder(net):
    return lambda x: 1000 * net(x)


def other_answers(net):
    return lambda x: net(x).roll(1, 1) / 100


def wins(fn):
    net, test = zoo.load("digits/pgd_at/w16", "cpu"), get_data("digits", device="cpu").test
    x, y = (v[:200] for v in test.tensors())
    entry = fn(net)
    if not callable(entry):
        return "submit should return a model: something that maps images to logits."
    with torch.no_grad():
        z, before = entry(x), net(x)
    if not isinstance(z, torch.Tensor) or z.shape != before.shape:
        return f"its logits should have shape {tuple(before.shape)}."
    if not (z.argmax(1) == before.argmax(1)).all():
        return "it gives other answers than the network."
    if z.abs().max() > 10:
        return f"the leaderboard refuses it: a logit has size {z.abs().max():.3g}, at most 10."

    def accuracy(model):
        attack = pgd(Linf(0.15), 20, 0.15 / 4, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return 100 * (net(attack(model, x, y)).argmax(1) == y).double().mean().item()

    gain = accuracy(entry) - accuracy(net)
    return "" if gain >= 5 else f"its accuracy is {gain:+.1f} points higher; 5 are asked."


EXERCISES = {
    "scale 2": Exercise(
        reference=fair,
        cases=fair_cases,
        right=[fair_by_counting],
        wrong=[worst_column, of_the_means],
        hints=(
            "First image by image: right under all attacks. Then the mean over the images.",
            "Dimension 0 are the attacks: a.all(0) says which images survive them all.",
        ),
    ),
    "scale 3": Exercise(
        check=wins,
        solution=submit,
        right=[a_tenth],
        wrong=[as_it_is, louder, other_answers],
        hints=(
            "Which scale makes PGD on cross-entropy aim badly, without a large logit?",
            "A small one. Return a module that divides the logits, by 10 or by their length.",
        ),
    ),
}
