"""Exercises of the lesson on logits read as energies"""

import torch

from spat_nb import Linf, get_data, pgd, zoo
from spat_nb.attacks.ascent import at_x
from spat_nb.learn.exercise import Exercise
from spat_nb.papers.jeat import energy

# ---- 2. an energy that does not overflow


def from_the_top(z):
    top = z.amax(1, keepdim=True)
    return -(top[:, 0] + (z - top).exp().sum(1).log())


def of_probabilities(z):
    return -(z[:, 0] - z.log_softmax(1)[:, 0])


def as_written(z):
    return -z.exp().sum(1).log()


def the_top_alone(z):
    return -z.amax(1)


def without_the_top(z):
    top = z.amax(1, keepdim=True)
    return -(z - top).exp().sum(1).log()


def some_logits():
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    return [(z,), (10 * z - 3,), (z + 1000,), (1000 * z,)]


# ---- 3. break the climb


def misleads(fn):
    model = zoo.load("digits/standard/w16", "cpu").eval()
    x, y = get_data("digits", device="cpu").test.subset(100).tensors()
    other = fn(model)
    with torch.no_grad():
        p, q = (m(x).softmax(1) for m in (model, other))
    if (p - q).abs().max() > 1e-2:
        return f"a probability changes by {(p - q).abs().max():.3g}."

    def stand(loss):
        x_adv = pgd(Linf(0.15), 10, start=at_x, **loss)(other, x, y)
        with torch.no_grad():
            return (other(x_adv).argmax(1) == y).sum().item()

    right = (p.argmax(1) == y).sum().item()
    if stand({"loss": energy}) < 0.9 * right:
        return (
            f"of {right} right answers {stand({'loss': energy})} stand after climbing the energy."
        )
    if stand({}) > right / 2:
        return f"{stand({})} of {right} stand after climbing cross-entropy: that should break it."
    return ""


def leaning(model):
    return lambda x: model(x) - 1000 * x.flatten(1).mean(1, keepdim=True)


def leaning_up(model):
    return lambda x: model(x) + 1000 * x.flatten(1).mean(1, keepdim=True)


def unchanged(model):
    return model


def shifted(model):
    return lambda x: model(x) + 1000


def softened(model):
    return lambda x: model(x) / 100


EXERCISES = {
    "jeat 2": Exercise(
        reference=from_the_top,
        cases=some_logits,
        right=[of_probabilities],
        wrong=[as_written, the_top_alone, without_the_top],
        hints=(
            "exp(1000) is infinite: take something out of the sum first.",
            "log sum exp z = m + log sum exp(z - m), for any m: which m is safe?",
        ),
    ),
    "jeat 3": Exercise(
        check=misleads,
        solution=leaning,
        right=[leaning_up],
        wrong=[unchanged, shifted, softened],
        hints=(
            "The probabilities do not see a number that is added to all logits of an image.",
            "Let that number depend on the pixels, steeply, in a way that has nothing to do with"
            " the class.",
        ),
    ),
}
