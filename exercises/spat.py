"""Exercises of the lesson on SPAT's method"""

import torch

from spat_nb import Linf, ce, pgd
from spat_nb.attacks.wrapped import smoothed
from spat_nb.learn.exercise import Exercise


# ---- 2: the target
def target(t, a):
    return (1 - a) * t + a / t.shape[1]


def target_by_mixing(t, a):
    return torch.lerp(t, torch.full_like(t, 1 / t.shape[-1]), a)


def to_the_others(t, a):
    return (1 - a) * t + a * (1 - t) / (t.shape[1] - 1)


def by_the_batch(t, a):
    return (1 - a) * t + a / len(t)


def target_cases():
    g = torch.Generator().manual_seed(0)
    sizes = ((3, 4, 0.3), (5, 10, 0.0), (2, 3, 1.0), (1, 6, 0.55))
    return [(torch.randn(b, k, generator=g).softmax(1), a) for b, k, a in sizes]


# ---- 3: two names, one attack
def as_spat(lam):
    return lam / (1 + lam), 1 + lam


def as_spat_backwards(lam):
    a = 1 - 1 / (1 + lam)
    return a, 1 / (1 - a)


def without_the_factor(lam):
    return lam, 1.0


# ---- 4: an attack that helps, and whose own loss rises
def fake(model, x, y, ball):
    return pgd(ball, loss=lambda z, y: -ce(z, y))(model, x, y)


def honest(model, x, y, ball):
    return pgd(ball)(model, x, y)


def idle(model, x, y, ball):
    return x


def too_far(model, x, y, ball):
    return fake(model, x, y, Linf(10 * ball.eps))


class Sure(torch.nn.Module):
    "A linear model that is sure of its images"

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Parameter(rows)

    def forward(self, x):
        return (x.flatten(1) - 0.5) @ self.rows.T


def is_a_fake(fn):
    g = torch.Generator().manual_seed(0)
    ball = Linf(0.05)
    for b, shape, classes in ((6, (1, 6, 5), 4), (3, (2, 4, 4), 3)):
        n = shape[0] * shape[1] * shape[2]
        rows = torch.randn(classes, n, generator=g)
        y = torch.randint(0, classes, (b,), generator=g)
        x = (0.5 + 0.2 * rows[y] / 2 + 0.02 * torch.randn(b, n, generator=g)).clamp(0, 1)
        x, model = x.view(b, *shape), Sure(rows).eval()
        x_adv = fn(model, x.clone(), y, ball)
        if not isinstance(x_adv, torch.Tensor) or x_adv.shape != x.shape:
            return f"it should return images of shape {tuple(x.shape)}."
        if not ball.inside(x_adv, x).all():
            return "it leaves the ball, or the box of the pixels."
        with torch.no_grad():
            before, after = model(x), model(x_adv)
        monitor = smoothed(ce, 0.5)
        if not (monitor(after, y) > monitor(before, y)).all():
            return "the monitor sees it: the smoothed loss does not rise on every image."
        if (after.argmax(1) != y).any():
            return "it takes an image from the network; a helper does not."
        if not (ce(after, y) < ce(before, y)).all():
            return "the cross-entropy to the true label does not fall on every image."
    return ""


EXERCISES = {
    "spat 2": Exercise(
        reference=target,
        cases=target_cases,
        right=[target_by_mixing],
        wrong=[to_the_others, by_the_batch],
        hints=(
            "For labels it is `smooth`; what stands here in place of the one-hot vector?",
            "The share a goes to all K classes alike; the rest stays with t.",
        ),
    ),
    "spat 3": Exercise(
        reference=as_spat,
        cases=lambda: [(0.25,), (1.0,), (3.0,)],
        right=[as_spat_backwards],
        wrong=[without_the_factor],
        hints=(
            "The weights sum to 1+lam. Take that factor out.",
            "What remains in front of the mean is a; in front of the label stands 1-a.",
        ),
    ),
    "spat 4": Exercise(
        check=is_a_fake,
        solution=fake,
        wrong=[honest, idle, too_far],
        hints=(
            "Where does the smoothed loss rise, seen from a very sure answer? On both sides.",
            "An attack whose loss is the negative cross-entropy makes the network surer still.",
        ),
    ),
}
