"""Exercises of the lesson on temperature"""

import math

import torch
from torch import tensor
from torch.nn import functional as F

from spat_nb import Linf, ce, get_data, pgd, temperature_pgd, tempered, zoo
from spat_nb.classwise.temperature import m_tau
from spat_nb.learn.exercise import Exercise


def random_logits(seed, *shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- 2. the safe loss


def my_m(z, y, tau):
    own = F.one_hot(y, len(z[0])).bool()
    return (tau * z).masked_fill(own, -math.inf).T.logsumexp(0) / tau - z[own]


def of_the_package(z, y, tau):
    return m_tau(tau)(z, y)


def loses_its_digits(z, y, tau):
    return ((tau * (z - z.gather(1, y[:, None]))).exp().sum(1) - 1).log() / tau


def with_the_label(z, y, tau):
    return (tau * z).logsumexp(1) / tau - z.gather(1, y[:, None])[:, 0]


def m_cases():
    return [
        (tensor([[120.0, 0.0, -3.0]]), tensor([0]), 100.0),
        (random_logits(0, 4, 5), tensor([0, 1, 2, 4]), 0.1),
        (random_logits(1, 3, 7), tensor([6, 0, 3]), 1.0),
        (tensor([[-300.0, 500.0, 2.0]]), tensor([1]), 7.0),
    ]


# ---- 3. the weights of the bracket


def my_w(z, y, tau):
    return (tau * z).masked_fill(F.one_hot(y, len(z[0])).bool(), -math.inf).T.softmax(0).T


def by_dividing(z, y, tau):
    p = (tau * z).double().softmax(1) * (1 - F.one_hot(y, z.shape[1]))
    return (p / p.sum(1, keepdim=True)).to(z)


def label_has_taken_its_share(z, y, tau):
    return (tau * z).softmax(1) * (1 - F.one_hot(y, z.shape[1]))


def w_cases():
    return [
        (tensor([[2.0, 1.0, -1.0]]), tensor([0]), 1.0),
        (random_logits(0, 4, 5), tensor([0, 1, 2, 4]), 0.1),
        (random_logits(2, 3, 4), tensor([3, 0, 1]), 2.0),
        (tensor([[3.0, 3.0, 3.0]]), tensor([1]), 50.0),
    ]


# ---- 4. a fixed temperature


def hides(fn):
    ball = Linf(0.15)
    net = zoo.load("digits/pgd_at/w16", "cpu")
    x, y = get_data("digits", device="cpu").test.subset(120).tensors()
    seen = fn(net)
    with torch.no_grad():
        right = net(x).argmax(1) == y
        if not torch.equal(seen(x).argmax(1), net(x).argmax(1)):
            return "it gives other answers than the model."

    def left(attack):
        x_adv = attack(seen, x[right], y[right])
        with torch.no_grad():
            return (seen(x_adv).argmax(1) == y[right]).double().mean().item()

    def g():
        return torch.Generator().manual_seed(0)

    naive = left(pgd(ball, 20, loss=tempered(ce, 20.0), generator=g()))
    if naive < 0.85:
        return f"the naive attack leaves {naive:.0%}."
    safe = left(temperature_pgd(ball, 20.0, generator=g()))
    return "" if safe <= naive - 0.03 else f"the safe attack leaves {safe:.0%}, naive {naive:.0%}."


def hide(model):
    return lambda x: 50 * model(x)


def louder(model):
    return lambda x: 200 * model(x)


def softer(model):
    return lambda x: 0.01 * model(x)


def reversed_gradient(model):
    def answers(x):
        z = model(x)
        return 2 * z.detach() - z

    return answers


EXERCISES = {
    "temperature 2": Exercise(
        reference=my_m,
        cases=m_cases,
        right=[of_the_package],
        wrong=[loses_its_digits, with_the_label],
        hints=(
            "The label takes no part in the sum: put minus infinity in its place.",
            "exp(12000) is infinite. `logsumexp` takes the largest entry out before it raises"
            " anything to a power; subtract the logit of the label last.",
        ),
    ),
    "temperature 3": Exercise(
        reference=my_w,
        cases=w_cases,
        right=[by_dividing],
        wrong=[label_has_taken_its_share],
        hints=(
            "A softmax over the rivals alone: what must stand in the place of the label so that it"
            " gets no share?",
            "exp(-inf) is 0. Fill the place of the label with -math.inf, after the multiplication"
            " by tau.",
        ),
    ),
    "temperature 4": Exercise(
        check=hides,
        solution=hide,
        right=[louder],
        wrong=[softer, reversed_gradient],
        hints=(
            "Which scale of the logits makes the softmax at tau = 20 saturated on most images?",
            "A constant factor changes no answer.",
        ),
    ),
}
