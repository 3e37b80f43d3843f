"""Exercises of the lesson on balls"""

import torch

from spat_nb import L2
from spat_nb.learn.exercise import Exercise

# ---- 2. shrink, in L2


def shrink(d, eps):
    length = d.flatten(1).T.norm(dim=0)[:, None, None, None]
    return torch.where(length > eps, d * eps / length, d)


def shrink_with_a_factor(d, eps):
    length = d.pow(2).sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    return d * (eps / length).clamp_max(1)


def over_the_batch(d, eps):
    return d * min(1, eps / (d.norm().item() + 1e-12))


def always_to_the_rim(d, eps):
    return d * eps / d.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


def shrink_cases():
    g = torch.Generator().manual_seed(0)
    batch = torch.randn(3, 2, 4, 5, generator=g)
    return [
        (batch, 20.0),
        (batch, 1.5),
        (torch.tensor([[[[0.03, 0.04]]], [[[3.0, -4.0]]]]), 0.9),
        (torch.zeros(1, 1, 2, 2), 0.5),
        (torch.zeros(2, 1, 2, 2), 0.0),
    ]


# ---- 3. drive the two orders apart


def far_apart(fn):
    x, z = fn()
    if x.shape != (1, 2) or z.shape != (1, 2):
        return f"x and z should have shape (1, 2), not {tuple(x.shape)} and {tuple(z.shape)}."
    if not (x.isfinite().all() and z.isfinite().all() and (0 <= x).all() and (x <= 1).all()):
        return "all numbers should be finite, and x should lie in the box [0,1]."
    ball = L2(0.5)
    ball_first = (x + ball.shrink(z - x)).clamp(0, 1)
    box_first = x + ball.shrink(z.clamp(0, 1) - x)
    apart = (ball_first - box_first).norm().item()
    if apart < 0.4:
        return f"they land {apart:.3f} apart; at least 0.4 is asked."
    return ""


def at_the_border():
    return torch.tensor([[1.0, 0.3]]), torch.tensor([[9.0, 0.8]])


def at_the_dark_border():
    return torch.tensor([[0.0, 0.5]]), torch.tensor([[-20.0, 0.01]])


def of_the_picture():
    return torch.tensor([[0.7, 0.2]]), torch.tensor([[1.5, 1.0]])


def outside_the_box():
    return torch.tensor([[5.0, 0.3]]), torch.tensor([[9.0, 0.8]])


# ---- 4. brightness


def brightness(d, eps):
    return d.T.mean(0).clamp(-eps, eps)[:, None].expand_as(d)


def by_trying(d, eps):
    t = torch.linspace(-eps, eps, 20001)
    best = ((d[:, None] - t[None, :, None]) ** 2).sum(2).argmin(1)
    return t[best][:, None].expand_as(d)


def each_by_itself(d, eps):
    return d.clamp(-eps, eps)


def the_median(d, eps):
    return d.median(1, keepdim=True).values.clamp(-eps, eps).expand_as(d)


def brightness_cases():
    g = torch.Generator().manual_seed(7)
    return [
        (torch.tensor([[0.1, 0.3]]), 0.5),
        (torch.tensor([[0.1, 0.3]]), 0.1),
        (torch.tensor([[-0.3, -0.5, -0.1]]), 0.2),
        (torch.randn(5, 7, generator=g), 0.2),
        (torch.randn(3, 4, generator=g), 2.0),
    ]


EXERCISES = {
    "balls 2": Exercise(
        reference=shrink,
        cases=shrink_cases,
        right=[shrink_with_a_factor],
        wrong=[over_the_batch, always_to_the_rim],
        hints=(
            "Each sample has a length of its own: over which dimensions do you sum?",
            "Where the length is above eps, scale to eps; elsewhere leave d alone. torch.where"
            " chooses, also where 0/0 stands on the other side.",
        ),
    ),
    "balls 3": Exercise(
        check=far_apart,
        solution=at_the_border,
        right=[at_the_dark_border],
        wrong=[of_the_picture, outside_the_box],
        hints=(
            "What the box takes away again was paid for by the ball. Where does it take most?",
            "Put one pixel of x at the border of the box, and let z leave the box far there.",
        ),
    ),
    "balls 4": Exercise(
        reference=brightness,
        cases=brightness_cases,
        tol=1e-3,
        right=[by_trying],
        wrong=[each_by_itself, the_median],
        hints=(
            "Which number t is nearest to all entries of a row, in squares?",
            "The sum of (d_i-t)^2 is smallest at the mean, and it rises to both sides: so where"
            " does t stop if the mean is out of reach?",
        ),
    ),
}
