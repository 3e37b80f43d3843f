"""Exercises of the lesson on fast adversarial training"""

import torch

from spat_nb import Linf, fgsm, get_data, pgd, zoo
from spat_nb.learn.exercise import Exercise

# ---- 2. where Fast-AT ends


def mean_displacement(a):
    a = min(a, 2.0)
    edge = a / 2
    return edge + (1 - edge) * a / 2


def as_an_integral(a):
    return a - a**2 / 4 if a < 2 else 1.0


def forgets_the_cut(a):
    return a


def without_the_limit(a):
    return a - a**2 / 4


# ---- 3. a bent loss


def is_bent(fn):
    ball = Linf(0.15)
    net = zoo.load("digits/standard/w16", "cpu")
    x, y = get_data("digits", device="cpu").test.subset(100).tensors()
    seen = fn(net)
    with torch.no_grad():
        right = net(x).argmax(1) == y
        if not torch.equal(seen(x).argmax(1), net(x).argmax(1)):
            return "it gives other answers to clean digits."

    def left(attack):
        x_adv = attack(seen, x[right], y[right])
        with torch.no_grad():
            return (seen(x_adv).argmax(1) == y[right]).double().mean().item()

    one = left(fgsm(ball))
    if one < 0.8:
        return f"FGSM leaves {one:.0%} of the right answers."
    ten = left(pgd(ball, 10, generator=torch.Generator().manual_seed(0)))
    return "" if ten < 0.5 else f"PGD-10 leaves {ten:.0%} of the right answers."


def on_the_grid(x):
    return (255 * x - (255 * x).round()).abs() < 1e-3


def bent(model):
    def answers(x):
        return model(torch.where(on_the_grid(x), 2 * x.detach() - x, x))

    return answers


def bent_in_the_middle(model):
    "No attack moves all pixels, so one more look at the whole image is enough"

    def answers(x):
        clean = on_the_grid(x).flatten(1).all(1)[:, None]
        z = model(x)
        return torch.where(clean, 2 * z.detach() - z, z)

    return answers


def always_bent(model):
    def answers(x):
        z = model(x)
        return 2 * z.detach() - z

    return answers


def does_nothing(model):
    return model


EXERCISES = {
    "fast 2": Exercise(
        reference=mean_displacement,
        cases=lambda: [(a,) for a in (0.0, 0.25, 1.0, 1.25, 1.9, 2.0, 2.5, 3.0)],
        right=[as_an_integral],
        wrong=[forgets_the_cut, without_the_limit],
        hints=(
            "Who starts above 1 - a is cut off. Which share of a uniform start is that?",
            "The share a/2 ends at 1; the others end uniformly between a - 1 and 1.",
        ),
    ),
    "fast 3": Exercise(
        check=is_bent,
        solution=bent,
        right=[bent_in_the_middle],
        wrong=[always_bent, does_nothing],
        hints=(
            "FGSM asks for the gradient at the clean image only. How can a function know that it"
            " sees a clean image?",
            "Clean pixels are multiples of 1/255, attacked ones almost never. Where a pixel lies on"
            " this grid, turn its gradient round: 2*x.detach() - x has the value x.",
        ),
    ),
}
