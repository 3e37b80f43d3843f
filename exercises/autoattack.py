"""Exercises of the lesson on AutoAttack"""

import torch
from torch import nn

from spat_nb import Cascade, Linf, fgsm, get_data, margin, pgd, zoo
from spat_nb.learn.exercise import Exercise

# ---- 3. what a row costs


def bill(fools, cost):
    robust, total = torch.ones(fools.shape[1]).bool(), 0.0
    for f, c in zip(fools, cost):
        total += float(c) * int(robust.sum())
        robust = robust & ~f
    return total


def everybody_pays(fools, cost):
    return (cost * fools.shape[1]).sum().item()


def after_it(fools, cost):
    robust, total = torch.ones(fools.shape[1]).bool(), 0.0
    for f, c in zip(fools, cost):
        robust = robust & ~f
        total += float(c) * int(robust.sum())
    return total


def drawn(k, n, seed, p=0.3):
    return torch.rand(k, n, generator=torch.Generator().manual_seed(seed)) < p


def bill_cases():
    t = torch.tensor
    return [
        (drawn(3, 8, 3), t([1.0, 9.0, 50.0])),
        (drawn(4, 30, 0), t([3.0, 27.0, 36.0, 50.0])),
        (drawn(2, 5, 1, 1.0), t([1.0, 1.0])),
        (drawn(1, 7, 2, 0.0), t([2.0])),
    ]


# ---- 4. a row of one's own


def my_row(ball):
    last = pgd(ball, 20, loss=margin)
    return Cascade(dict(fgsm=fgsm(ball), pgd=pgd(ball, 20), margin=last), ball)


def slots_are_right(fn):
    for ball in (Linf(0.1), Linf(0.2)):
        row = fn(ball)
        if type(row).__name__ != "Cascade":
            return f"it returns a {type(row).__name__}; return a Cascade."
        want = my_row(ball)
        if list(row.members) != list(want.members):
            return f"the members are {', '.join(row.members)}; they should be fgsm, pgd, margin."
        if row.ball != ball:
            return f"the cascade's ball is {row.ball}, not {ball}."
        for name, attack in row.members.items():
            told = (attack.steps, attack.loss.__name__, attack.ball)
            other = want.members[name]
            if told != (other.steps, other.loss.__name__, other.ball):
                return f"{name} has {attack.steps} steps on {told[1]} in {told[2]}."
    return ""


def a_name_is_no_slot(ball):
    return Cascade(dict(fgsm=fgsm(ball), pgd=pgd(ball, 20), margin=pgd(ball, 20)), ball)


# ---- 5. break a masked network


class Stairs(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def before(self, x):
        return (x * 8).round() / 8

    def forward(self, x):
        return self.net(self.before(x))


def as_if_smooth(model, x, y, ball):
    def smooth(v):
        return model.net(v + (model.before(v) - v).detach())

    return pgd(ball, 20, loss=margin, generator=torch.Generator().manual_seed(0))(smooth, x, y)


def gets_through(fn):
    ball = Linf(0.15)
    model = Stairs(zoo.load("digits/standard/w16", "cpu")).eval()
    x, y = (v[:60] for v in get_data("digits", device="cpu").test.tensors())
    x_adv = fn(model, x.clone(), y, ball)
    if x_adv.shape != x.shape or not ball.inside(x_adv, x).all():
        return f"some images leave {ball} or the pixel box."
    with torch.no_grad():
        left = (model(x_adv).argmax(1) == y).double().mean().item()
    return "" if left <= 0.35 else f"{left:.0%} of the digits are still read right; 35% is asked."


EXERCISES = {
    "autoattack 3": Exercise(
        reference=bill,
        cases=bill_cases,
        wrong=[everybody_pays, after_it],
        hints=(
            "The first attack is paid for all images, each later one only for those that are left.",
            "An image is left before attack i if none of the rows 0 to i-1 fools it.",
        ),
    ),
    "autoattack 4": Exercise(
        check=slots_are_right,
        solution=my_row,
        wrong=[a_name_is_no_slot, lambda ball: pgd(ball, 20)],
        hints=(
            "A `Cascade` takes a dict of attacks, in the order of the row, and the ball.",
            "`pgd` has a slot for its loss; the names of the members are the keys of the dict.",
        ),
    ),
    "autoattack 5": Exercise(
        check=gets_through,
        solution=as_if_smooth,
        right=[lambda model, x, y, ball: pgd(ball, 20, loss=margin)(model.net, x, y)],
        wrong=[
            lambda model, x, y, ball: x,
            lambda model, x, y, ball: pgd(ball, 20)(model, x, y),
            lambda model, x, y, ball: pgd(Linf(0.4), 20)(model.net, x, y),
        ],
        hints=(
            "Where does the gradient become zero? Which network would have one?",
            "Let the forward pass round, and the backward pass act as if it had not: add the"
            " difference of the two, detached.",
        ),
    ),
}
