"""Exercises of the lesson on AutoAttack"""

from itertools import permutations

import torch

from spat_nb import Cascade, Linf, ce, fgsm, get_data, margin, pgd, zoo
from spat_nb.attacks.doubts import doubts
from spat_nb.attacks.steps import apgd
from spat_nb.learn.exercise import Exercise

# ---- 2. what a row costs


def bill(fools, cost):
    survives, total = torch.ones(fools.shape[1]).bool(), 0.0
    for row, c in zip(fools, cost):
        total += float(c) * int(survives.sum())
        survives = survives & ~row
    return total


def by_cummax(fools, cost):
    fallen = torch.cat([torch.zeros_like(fools[:1]), fools.int().cummax(0).values[:-1].bool()])
    return ((~fallen).sum(1) * cost).sum().item()


def everybody(fools, cost):
    return (cost * fools.shape[1]).sum().item()


def after_instead_of_before(fools, cost):
    survives, total = torch.ones(fools.shape[1]).bool(), 0.0
    for row, c in zip(fools, cost):
        survives = survives & ~row
        total += float(c) * int(survives.sum())
    return total


def random_rows(k, n, seed, p=0.3):
    return torch.rand(k, n, generator=torch.Generator().manual_seed(seed)) < p


def rows():
    t = torch.tensor
    fools = t([[1, 1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1, 0, 0]]).bool()
    return [
        (fools, t([1.0, 9.0, 50.0])),
        (fools.flip(0), t([50.0, 9.0, 1.0])),
        (random_rows(4, 30, 0), t([3.0, 27.0, 36.0, 50.0])),
        (random_rows(4, 30, 3), t([50.0, 3.0, 4.0, 1.0])),
        (random_rows(2, 5, 1, 1.0), t([1.0, 1.0])),
        (random_rows(1, 7, 2, 0.0), t([2.0])),
    ]


# ---- 3. the cheapest order


def cheapest(fools, cost):
    orders = permutations(range(len(cost)))
    return min(orders, key=lambda order: bill(fools[list(order)], cost[list(order)]))


def with_a_loop(fools, cost):
    best, least = None, float("inf")
    for order in permutations(range(len(cost))):
        total = by_cummax(fools[list(order)], cost[list(order)])
        if total < least:
            best, least = order, total
    return best


def as_they_come(fools, cost):
    return tuple(range(len(cost)))


def by_cost_alone(fools, cost):
    return tuple(cost.argsort(stable=True).tolist())


# ---- 4. a row of your own


def is_the_row(fn):
    for eps in (0.1, 0.2):
        row = fn(Linf(eps))
        if not isinstance(row, Cascade):
            return f"it returns a {type(row).__name__}, not a Cascade."
        if list(row.members) != ["fgsm", "pgd", "margin"]:
            return f"its members are {', '.join(row.members)}."
        want = {"fgsm": (1, ce), "pgd": (20, ce), "margin": (20, margin)}
        for k, a in row.members.items():
            if (a.steps, a.loss) != want[k]:
                return f"{k} takes {a.steps} steps on {a.loss.__name__}."
            if a.ball.eps != eps:
                return f"{k} has radius {a.ball.eps}, the ball {eps}."
        if row.ball is None or row.ball.eps != eps:
            return "the row does not know its ball."
    return ""


def my_row(ball):
    members = {"fgsm": fgsm(ball), "pgd": pgd(ball, 20), "margin": pgd(ball, 20, loss=margin)}
    return Cascade(members, ball)


def a_name_is_no_slot(ball):
    return Cascade({"fgsm": fgsm(ball), "pgd": pgd(ball, 20), "margin": pgd(ball, 20)}, ball)


def without_its_ball(ball):
    members = {"fgsm": fgsm(ball), "pgd": pgd(ball, 20), "margin": pgd(ball, 20, loss=margin)}
    return Cascade(members)


# ---- 5. break the warnings


def is_quiet(fn):
    net = zoo.load("digits/standard/w16", "cpu")
    x, y = get_data("digits", device="cpu").test.subset(64).tensors()
    seen = fn(net)
    with torch.no_grad():
        z, told = net(x), seen(x)
    if not torch.equal(z.argmax(1), told.argmax(1)):
        return "it gives other answers than the model."
    if told.abs().max() > 2 * z.abs().max():
        return f"its largest logit is {told.abs().max():.0f}, the model's {z.abs().max():.0f}."
    right = z.argmax(1) == y
    if notes := doubts(seen, x[right], y[right]):
        return f"there is a warning: {notes[0]}"
    x_adv = apgd(Linf(0.15), 20)(seen, x[right], y[right])
    with torch.no_grad():
        left = (seen(x_adv).argmax(1) == y[right]).double().mean().item()
    return "" if left >= 0.8 else f"APGD leaves {left:.0%} of the right answers."


def quiet(model):
    def answers(x):
        z = model(x)
        return 2 * z.detach() - z

    return answers


def a_gradient_of_noise(model):
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 10, generator=g)

    def answers(x):
        lure = 10 * x.flatten(1) @ noise
        return model(x).detach() + lure - lure.detach()

    return answers


def rounds(model):
    return lambda x: model((x * 8).round() / 8)


def does_nothing(model):
    return model


EXERCISES = {
    "autoattack 2": Exercise(
        reference=bill,
        cases=rows,
        right=[by_cummax],
        wrong=[everybody, after_instead_of_before],
        hints=(
            "The first attack is paid for all images, each later one only for those that are still"
            " right.",
            "An image is still right before attack i if none of the rows 0 to i-1 fools it.",
        ),
    ),
    "autoattack 3": Exercise(
        reference=cheapest,
        cases=lambda: rows()[:5],
        right=[with_a_loop],
        wrong=[as_they_come, by_cost_alone],
        hints=(
            "`itertools.permutations(range(k))` gives the orders; exercise 2 the bill of each.",
            "Reorder rows and costs alike, and keep the first of equals.",
        ),
    ),
    "autoattack 4": Exercise(
        check=is_the_row,
        solution=my_row,
        right=[],
        wrong=[a_name_is_no_slot, without_its_ball],
        hints=(
            "A `Cascade` takes a dict of attacks, in the order of the row, and the ball.",
            "`pgd` has a slot for its loss; the names of the members are the keys of the dict.",
        ),
    ),
    "autoattack 5": Exercise(
        check=is_quiet,
        solution=quiet,
        right=[a_gradient_of_noise],
        wrong=[rounds, does_nothing],
        hints=(
            "The warning asks whether the gradient is zero. It does not ask whether it is true.",
            "Which expression has the value of z and the gradient of -z?",
        ),
    ),
}
