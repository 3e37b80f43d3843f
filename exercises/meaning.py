"""Exercises of the lesson on what SPAT's images mean"""

import torch

from spat_nb import Linf, ce, pgd
from spat_nb.learn.exercise import Exercise


# ---- 2: agreement
def shared_mask(G, t):
    return G.sign().mean(0).abs() >= t


def by_counting(G, t):
    ups, downs = (G > 0).sum(0), (G < 0).sum(0)
    return (ups - downs).abs() / len(G) >= t


def of_the_mean(G, t):
    return G.mean(0).sign().abs() >= t


def over_the_batch(G, t):
    return G.sign().mean(1).abs() >= t


def one_sided(G, t):
    return G.sign().mean(0) >= t


def mask_cases():
    g = torch.Generator().manual_seed(0)
    cases = []
    for k, b, t in ((4, 3, 0.5), (5, 5, 0.6), (2, 3, 1.0), (10, 1, 0.25), (3, 2, 0.0)):
        cases.append((torch.randn(k, b, 2, 3, 4, generator=g).double(), t))
    return cases


# ---- 3: an attack with the witness's consent
def flatter(model, witness, x, y, ball):
    def both(x):
        return torch.cat([model(x), witness(x)], 1)

    def loss(z, y):
        mine, theirs = z.chunk(2, 1)
        return ce(mine, y) - ce(theirs, y)

    return pgd(ball, 20, loss=loss)(both, x, y)


def plain(model, witness, x, y, ball):
    return pgd(ball, 20)(model, x, y)


def idle(model, witness, x, y, ball):
    return x


def too_far(model, witness, x, y, ball):
    return flatter(model, witness, x, y, Linf(3 * ball.eps))


class Linear(torch.nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Parameter(rows)

    def forward(self, x):
        return (x.flatten(1) - 0.5) @ self.rows.T


def keeps_what_it_should(fn):
    g = torch.Generator().manual_seed(0)
    ball = Linf(0.1)
    for b, shape, k in ((8, (1, 6, 10), 4), (5, (2, 5, 6), 3)):
        n = shape[0] * shape[1] * shape[2]
        common = torch.randn(k, n, generator=g)
        model, witness = (Linear(common + torch.randn(k, n, generator=g)).eval() for _ in range(2))
        y = torch.randint(0, k, (b,), generator=g)
        x = (0.5 + 0.06 * common[y] + 0.02 * torch.randn(b, n, generator=g)).clamp(0, 1)
        x = x.view(b, *shape)
        x_adv = fn(model, witness, x.clone(), y, ball)
        if not isinstance(x_adv, torch.Tensor) or x_adv.shape != x.shape:
            return f"it should return images of shape {tuple(x.shape)}."
        if not ball.inside(x_adv, x).all():
            return "it leaves the ball, or the box of the pixels."
        with torch.no_grad():
            usual = (model(plain(model, witness, x, y, ball)).argmax(1) != y).sum()
            fooled = (model(x_adv).argmax(1) != y).sum()
            kept = (witness(x_adv).argmax(1) == y).sum()
        if fooled < usual:
            return f"{fooled} of {b} images fool the model, plain PGD fools it with {usual}."
        if kept < 0.75 * b:
            return f"the witness keeps {kept} of {b} labels; three of four are asked."
    return ""


EXERCISES = {
    "meaning 2": Exercise(
        reference=shared_mask,
        cases=mask_cases,
        right=[by_counting],
        wrong=[of_the_mean, over_the_batch, one_sided],
        hints=(
            "The sign first, then the mean over the classes.",
            "Agreement downwards counts as well: take the absolute value before you compare.",
        ),
    ),
    "meaning 3": Exercise(
        check=keeps_what_it_should,
        solution=flatter,
        wrong=[plain, idle, too_far],
        hints=(
            "The engine attacks whatever returns logits. What if it returned those of both?",
            "Loss: cross-entropy of the model minus that of the witness; torch.cat and chunk.",
        ),
    ),
}
