"""Exercises of the lesson that takes a claim of robustness apart"""

import torch

from spat_nb import Linf, at_x, margin, pgd
from spat_nb.learn.exercise import Exercise


# ---- 2: the surrogate
def surrogate(h, P, y, t):
    own, wanted = h - P[y], h - P[t]
    return torch.einsum("bd,bd->b", own, own) - torch.einsum("bd,bd->b", wanted, wanted)


def expanded(h, P, y, t):
    sizes = P.square().sum(1)
    return 2 * (h * (P[t] - P[y])).sum(1) + sizes[y] - sizes[t]


def upside_down(h, P, y, t):
    return -surrogate(h, P, y, t)


def distances(h, P, y, t):
    return (h - P[y]).norm(dim=1) - (h - P[t]).norm(dim=1)


def surrogate_cases():
    g = torch.Generator().manual_seed(0)
    cases = []
    for b, c, width in ((5, 4, 3), (1, 2, 6), (7, 7, 7)):
        h, P = (
            torch.randn(b, width, generator=g).double(),
            torch.randn(c, width, generator=g).double(),
        )
        y = torch.randint(0, c, (b,), generator=g)
        cases.append((h, P, y, (y + 1) % c))
    return cases


# ---- 3: break the defence
class OnLine(torch.nn.Module):
    "Logits -|h - P_j| for two prototypes on a line"

    def __init__(self, w, places):
        super().__init__()
        self.w, self.places = w, places

    def forward(self, x):
        h = (x.flatten(1) - 0.5) @ self.w
        return -(h[:, None] - self.places).abs()


def attack(model, x, y, ball):
    def towards_the_other(z, y):
        return z.gather(1, 1 - y[:, None])[:, 0]

    return pgd(ball, 20, start=at_x, loss=towards_the_other)(model, x, y)


def by_probability(model, x, y, ball):
    def loss(z, y):
        return z.gather(1, 1 - y[:, None])[:, 0].neg().square().neg()

    return pgd(ball, 40, start=at_x, loss=loss)(model, x, y)


def by_margin(model, x, y, ball):
    return pgd(ball, 20, start=at_x, loss=margin)(model, x, y)


def by_training_loss(model, x, y, ball):
    def away(z, y):
        return -z.gather(1, y[:, None])[:, 0]

    return pgd(ball, 20, start=at_x, loss=away)(model, x, y)


def too_far(model, x, y, ball):
    return attack(model, x, y, Linf(3 * ball.eps))


def fools_all(fn):
    for seed, n in ((0, 12), (1, 7)):
        g = torch.Generator().manual_seed(seed)
        w = 0.5 + torch.rand(n, generator=g).double()
        model = OnLine(w, torch.tensor([-1.0, 1.0]).double())
        y = torch.tensor([0, 1, 1, 0])
        # each image lies a little beyond its own prototype
        beyond = torch.tensor([-1.2, 1.1, 1.3, -1.4]).double()
        x = (0.5 + beyond[:, None] * w / w.square().sum()).view(4, 1, 1, n)
        ball = Linf(1.6 / w.sum().item())
        x_adv = fn(model, x.clone(), y, ball)
        if not isinstance(x_adv, torch.Tensor) or x_adv.shape != x.shape:
            return f"it should return images of shape {tuple(x.shape)}."
        if not ball.inside(x_adv, x).all():
            return "it leaves the ball, or the box of the pixels."
        fooled = (model(x_adv).argmax(1) != y).sum().item()
        if fooled < 4:
            return f"{fooled} of 4 images are fooled."
    return ""


EXERCISES = {
    "refutation 2": Exercise(
        reference=surrogate,
        cases=surrogate_cases,
        right=[expanded],
        wrong=[upside_down, distances],
        hints=(
            "P[y] has one row for each image: the prototype of its label.",
            "Squares of differences, summed over the width (dim 1), own minus wanted.",
        ),
    ),
    "refutation 3": Exercise(
        check=fools_all,
        solution=attack,
        right=[by_probability],
        wrong=[by_margin, by_training_loss, too_far],
        hints=(
            "Do not run away from the own prototype: which logit grows on the way to the other?",
            "Maximise the other class's logit alone, -|h - P_t|: its gradient is never level.",
        ),
    ),
}
