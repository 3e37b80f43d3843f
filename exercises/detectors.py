"""Exercises of the lesson on detectors"""

import torch
from torch import nn

from spat_nb import Linf, get_data, pgd, zoo
from spat_nb.core.evalmode import eval_mode
from spat_nb.learn.exercise import Exercise
from spat_nb.measure.detectors import gradient_norms
from spat_nb.measure.faults import Times

# ---- 2. how rare may faults be?


def rarest(caught, accused):
    return accused / (caught + accused)


def by_odds(caught, accused):
    odds = accused / caught
    return odds / (1 + odds)


def the_odds(caught, accused):
    return accused / caught


def other_way_round(caught, accused):
    return caught / (caught + accused)


def share_cases():
    return [(0.9, 0.1), (0.5, 0.5), (0.99, 0.01), (0.3, 0.6), (0.8, 0.05)]


# ---- 3. a limit


def limit_for(honest, allowed):
    tried = honest.sort().values
    good = (t for t in tried if (honest >= t).double().mean() <= allowed)
    return next(good, torch.tensor(torch.inf))


def by_count(honest, allowed):
    for t in honest.sort().values:
        if int((honest >= t).sum()) <= allowed * len(honest) + 1e-9:
            return t
    return torch.tensor(torch.inf)


def a_quantile(honest, allowed):
    return honest.quantile(1 - allowed)


def never_above(honest, allowed):
    tried = honest.sort().values
    return next((t for t in tried if (honest >= t).double().mean() <= allowed), tried[-1])


def more_than(honest, allowed):
    tried = honest.sort().values
    return next(t for t in tried if (honest > t).double().mean() <= allowed)


def limit_cases():
    def of(*v):
        return torch.tensor(v, dtype=torch.float64)

    return [
        (of(0.1, 0.2, 0.3, 0.4), 0.25),
        (of(0.1, 0.2, 0.3, 0.4), 0.5),
        (of(0.5, 0.1, 0.5, 0.2), 0.25),
        (of(0.3, 0.3, 0.3), 0.0),
        (of(0.0, 0.7, 0.2, 0.9, 0.4), 0.0),
        (of(0.0, 0.7, 0.2, 0.9, 0.4), 1.0),
    ]


# ---- 4. fool a detector


def is_seemly(fn):
    x, y = get_data("digits", device="cpu").test.subset(64).tensors()
    model = zoo.load("digits/standard/w16", "cpu")
    mine = fn(model)
    if not isinstance(mine, nn.Module):
        return f"it is {type(mine).__name__}, no network; return an nn.Module."
    with eval_mode(mine), torch.no_grad():
        answers, own = model(x).argmax(1), mine(x).argmax(1)
    if changed := int((answers != own).sum()):
        return f"{changed} of {len(x)} answers are others than those of `model`."
    if found := gradient_norms(mine, x, y):
        return f"`gradient_norms` finds: {', '.join(found)}."
    right = answers == y
    attack = pgd(Linf(0.15), 20, generator=torch.Generator().manual_seed(0))
    with eval_mode(mine), torch.no_grad():
        x_adv = attack(mine, x[right], y[right])
        stand = (mine(x_adv).argmax(1) == y[right]).double().mean().item()
    return "" if stand >= 0.9 else f"PGD leaves {stand:.0%} of the right answers standing."


class Seemly(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        z = self.model(x).detach()
        sure = 4.0 * nn.functional.one_hot(z.argmax(1), z.shape[1])
        g = torch.Generator().manual_seed(0)
        lure = x.flatten(1) @ torch.randn(x[0].numel(), z.shape[1], generator=g)
        return sure + lure - lure.detach()


class Dark(Seemly):
    "It lures towards darker pixels, whatever the class"

    def forward(self, x):
        z = self.model(x).detach()
        sure = 4.0 * nn.functional.one_hot(z.argmax(1), z.shape[1])
        lure = x.flatten(1).sum(1, keepdim=True) * sure
        return sure + lure - lure.detach()


def loud(model):
    return Times(model, 256.0)


def as_it_is(model):
    return model


def answers_zero(model):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


EXERCISES = {
    "detectors 2": Exercise(
        reference=rarest,
        cases=share_cases,
        right=[by_odds],
        wrong=[the_odds, other_way_round],
        hints=("Set the chance to one half, and solve for the share.", "s c = (1 - s) f."),
    ),
    "detectors 3": Exercise(
        reference=limit_for,
        cases=limit_cases,
        right=[by_count],
        wrong=[a_quantile, never_above, more_than],
        hints=(
            "Try the values in rising order; which is the first that accuses few enough?",
            "Where even the largest accuses too many, no value is left: infinity accuses nobody.",
        ),
    ),
    "detectors 4": Exercise(
        check=is_seemly,
        solution=Seemly,
        right=[Dark],
        wrong=[loud, as_it_is, answers_zero],
        hints=(
            "v - v.detach() is zero, and has the gradient of v.",
            "A loud answer has no gradient of cross-entropy: 4 times a one-hot of the answer has.",
        ),
    ),
}
