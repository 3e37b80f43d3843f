"""Exercises of the line-up"""

import torch

from spat_nb import Attack, Linf, ce, fgsm, get_data, margin, pgd, square, zoo
from spat_nb.learn.attack_judge import attack_verdict
from spat_nb.learn.exercise import Exercise
from spat_nb.measure.card import Card
from spat_nb.measure.checks import check
from spat_nb.measure.faulty_gradients import Rounded, Straight

# ---- 1. PGD from the definition


def keeps_the_rules(fn):
    verdict, text = attack_verdict(fn)
    return "" if verdict == "right" else text


def my_attack(model, x, y, ball, generator):
    x_adv = ball.uniform(x, generator)
    for _ in range(20):
        x_adv = x_adv.detach().requires_grad_()
        g = torch.autograd.grad(ce(model(x_adv), y).sum(), x_adv)[0]
        x_adv = ball.project(x_adv.detach() + ball.eps / 8 * g.sign(), x)
    return x_adv


def of_the_package(model, x, y, ball, generator):
    return pgd(ball, 20, generator=generator)(model, x, y)


def only_a_start(model, x, y, ball, generator):
    return ball.uniform(x, generator)


def one_step(model, x, y, ball):
    return fgsm(ball)(model, x, y)


def own_randomness(model, x, y, ball):
    return pgd(ball, 20, generator=torch.Generator())(model, x + 0.01 * torch.rand_like(x), y)


# ---- 2. a masked model


def breaks_the_rounding(fn):
    ball = Linf(0.15)
    x, y = get_data("digits", device="cpu").test.subset(32).tensors()
    model = Rounded(zoo.load("digits/standard/w16", "cpu"))
    rival = square(ball, queries=300, generator=torch.Generator().manual_seed(0))
    verdict, text = attack_verdict(fn, model, (x, y), ball, rival, loss=margin)
    return "" if verdict == "right" else text


def break_it(model, x, y, ball, generator):
    attack = Attack(ball, 30, loss=margin, restarts=2, best=True, generator=generator)
    return attack(Straight(model.model, model.levels), x, y)


def plain_pgd(model, x, y, ball, generator):
    return pgd(ball, 40, generator=generator)(model, x, y)


# ---- 3. which fault?


def diagnose(card):
    if card["G1 repeats"].verdict == "flag":
        return "random"
    if card["G7 zero"].verdict == "flag":
        return "saturated"
    return "detached" if card["G7 true"].verdict == "flag" else "none"


def by_a_table(card):
    found = {c.name for c in card.checks if c.verdict == "flag"}
    names = {"G1 repeats": "random", "G7 zero": "saturated", "G7 true": "detached"}
    return next((names[k] for k in names if k in found), "none")


def zero_alone(card):
    return "saturated" if card["G7 zero"].verdict == "flag" else "none"


def zero_first(card):
    if card["G7 zero"].verdict == "flag":
        return "saturated"
    if card["G1 repeats"].verdict == "flag":
        return "random"
    return "detached" if card["G7 true"].verdict == "flag" else "none"


def made(repeats=0.0, zero=0.0, true=1.0, lowest=None):
    checks = (
        check("G1 repeats", repeats),
        check("G7 zero", zero),
        check("G7 true", true, lowest),
        check("G9 stronger", 40.0),
    )
    return (
        Card(checks, {"PGD-20": 0.5, "everything": 0.4}, [], 64, "PGD-20", {"ball": "Linf(0.15)"}),
    )


def curtain():
    return [
        made(zero=95.0),
        made(),
        made(repeats=12.0, true=60.0),
        made(true=40.0),
        made(repeats=12.0, zero=3.0),
        made(zero=95.0, true=100.0),
        made(true=20.0, lowest=10.0),
        made(repeats=5.0),
    ]


EXERCISES = {
    "lineup 1": Exercise(
        check=keeps_the_rules,
        solution=my_attack,
        right=[of_the_package],
        wrong=[only_a_start, one_step, own_randomness],
        hints=(
            "A copy that knows its gradient: x_adv.detach().requires_grad_()."
            " torch.autograd.grad(loss.sum(), x_adv) touches no weight.",
            "The step is ball.eps/8, say, times the sign of the gradient; ball.project(..., x)"
            " comes after each step.",
        ),
    ),
    "lineup 2": Exercise(
        check=breaks_the_rounding,
        solution=break_it,
        right=[],
        wrong=[plain_pgd],
        hints=(
            "Which layer makes the gradient 0? You may leave it out in the backward pass.",
            "Attack a substitute whose forward pass rounds and whose backward pass does not;"
            " `spat_nb.measure.faulty_gradients` has one. A margin and several starts help.",
        ),
    ),
    "lineup 3": Exercise(
        reference=diagnose,
        cases=curtain,
        right=[by_a_table],
        wrong=[zero_alone, zero_first],
        hints=(
            "Random answers are flagged by other gates as well, so ask for them first.",
            "`card[...]` gives one check: G1 repeats for random answers, G7 zero for a gradient"
            " that is zero, G7 true for one that is false.",
        ),
    ),
}
