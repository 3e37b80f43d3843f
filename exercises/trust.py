"""Exercises of the lesson on the gates of trust"""

import math

import torch

from spat_nb import Linf, get_data, pgd, zoo
from spat_nb.learn.exercise import Exercise
from spat_nb.measure.checks import gap

# ---- 2. the gap by hand


def my_gap(lost, won, n):
    b, c, m = lost + 0.5, won + 0.5, n + 2
    half = 2.5758 * math.sqrt(b + c - (b - c) ** 2 / m) / m
    return (lost - won) / n, max((b - c) / m - half, -1.0), min((b - c) / m + half, 1.0)


def of_the_package(lost, won, n):
    return gap(lost, won, n)


def no_halves(lost, won, n):
    d, half = (lost - won) / n, 2.5758 * math.sqrt(lost + won - (lost - won) ** 2 / n) / n
    return d, d - half, d + half


def gap_cases():
    return [(9, 4, 200), (4, 9, 200), (0, 0, 200), (90, 0, 100), (3, 3, 64), (9, 0, 9), (0, 9, 9)]


# ---- 3. must G5 flag?


def must_flag(stands):
    for small, large in zip(stands, stands[1:]):
        back, gone = (large & ~small).sum().item(), (small & ~large).sum().item()
        if gap(back, gone, stands.shape[1])[1] > 0.03:
            return True
    return False


def in_one_line(stands):
    pairs = zip(stands[:-1], stands[1:])
    return any(gap(int((b & ~a).sum()), int((a & ~b).sum()), len(a))[1] > 0.03 for a, b in pairs)


def without_luck(stands):
    return bool((stands.double().mean(1).diff() > 0.03).any())


def first_and_last(stands):
    a, b = stands[0], stands[-1]
    return gap(int((b & ~a).sum()), int((a & ~b).sum()), len(a))[1] > 0.03


def stood(counts, seed, n=100):
    "So many of n survive at each radius, at random"
    g = torch.Generator().manual_seed(seed)
    rank = torch.rand(len(counts), n, generator=g).argsort(1).argsort(1)
    return rank < torch.tensor(counts)[:, None]


def stands_cases():
    # of 200 images 17 come back and 4 go: that is more than luck, but not more than 3 points more
    nested = torch.zeros(2, 200, dtype=torch.bool)
    nested[0, :104] = True
    nested[1, 4:117] = True
    close = torch.zeros(2, 100, dtype=torch.bool)
    close[1, :12] = True
    sure = torch.zeros(2, 100, dtype=torch.bool)
    sure[1, :14] = True
    wide = torch.zeros(2, 100, dtype=torch.bool)
    wide[0, :60] = True
    wide[1, :90] = True
    falling = stood((90, 67, 30, 7), 0)
    return [
        (falling,),
        (falling.flip(0),),
        (stood((58, 47, 52, 41), 1),),
        (stood((93, 33, 63, 8), 2),),
        (stood((56, 41, 47, 50), 3),),
        (stood((18, 12, 48, 91), 4),),
        (nested,),
        (close,),
        (sure,),
        (sure.flip(0),),
        (sure[:, :40],),
        (wide,),
    ]


# ---- 4. a fake defence


def is_fake(fn):
    net = zoo.load("digits/standard/w16", "cpu")
    x, y = get_data("digits", device="cpu").test.subset(64).tensors()
    fooled = fn(net)
    with torch.no_grad():
        z, seen = net(x), fooled(x)
    if not torch.equal(z.argmax(1), seen.argmax(1)):
        return "it gives other answers than the model."
    if seen.abs().max() > 2 * z.abs().max():
        return f"its largest logit is {seen.abs().max():.0f}, the model's {z.abs().max():.0f}."
    right = z.argmax(1) == y
    attack = pgd(Linf(0.15), 20, generator=torch.Generator().manual_seed(0))
    x_adv = attack(fooled, x[right], y[right])
    with torch.no_grad():
        left = (fooled(x_adv).argmax(1) == y[right]).double().mean().item()
    return "" if left >= 0.8 else f"PGD-20 leaves {left:.0%} of the right answers."


def fake(model):
    def defended(x):
        z = model(x)
        return 2 * z.detach() - z

    return defended


def shades(model):
    "Rounding to few shades, behind a check that no answer changes"

    def defended(x):
        z = model(x)
        return z.detach() + 0 * z

    return defended


def does_nothing(model):
    return model


def quiet(model):
    return lambda x: 0.5 * model(x)


EXERCISES = {
    "trust 2": Exercise(
        reference=my_gap,
        cases=gap_cases,
        tol=1e-5,
        right=[of_the_package],
        wrong=[no_halves],
        hints=(
            "With half an image in each cell there are n+2 images; b-c stays, b+c grows by one.",
            "The first number is the plain (b-c)/n; the two ends are those of the cells with the"
            " halves. No share is below -1 or above 1.",
        ),
    ),
    "trust 3": Exercise(
        reference=must_flag,
        cases=stands_cases,
        right=[in_one_line],
        wrong=[without_luck, first_and_last],
        hints=(
            "For each pair of neighbouring rows count the images that survive at the larger radius"
            " only, and at the smaller only.",
            "`gap` gives the lowest plausible rise. One of them above .03 is a flag.",
        ),
    ),
    "trust 4": Exercise(
        check=is_fake,
        solution=fake,
        right=[shades],
        wrong=[does_nothing, quiet],
        hints=(
            "The attack only sees the gradient. Which operation keeps a value and changes its"
            " gradient?",
            "z.detach() has the value of z and no gradient. Which sum of z and z.detach() has the"
            " value z and the gradient of -z?",
        ),
    ),
}
