"""Exercises of the lesson on DDN, FMN and ALMA"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. one step of DDN


def direction_then_norm(x, x1, g, eps, won, lr):
    eps = torch.where(won, 0.95 * eps, 1.05 * eps)
    d = x1 - x + lr * g / g.norm(dim=1, keepdim=True)
    return (x + eps[:, None] * d / d.norm(dim=1, keepdim=True)).clamp(0, 1), eps


def one_by_one(x, x1, g, eps, won, lr):
    points, radii = [], []
    for i in range(len(x)):
        r = eps[i] * (0.95 if won[i] else 1.05)
        d = x1[i] - x[i] + lr * g[i] / g[i].norm()
        points.append((x[i] + r * d / d.norm()).clamp(0, 1))
        radii.append(r)
    return torch.stack(points), torch.stack(radii)


def the_other_way(x, x1, g, eps, won, lr):
    return direction_then_norm(x, x1, g, eps, ~won, lr)


def old_radius(x, x1, g, eps, won, lr):
    d = x1 - x + lr * g / g.norm(dim=1, keepdim=True)
    new = torch.where(won, 0.95 * eps, 1.05 * eps)
    return (x + eps[:, None] * d / d.norm(dim=1, keepdim=True)).clamp(0, 1), new


def raw_gradient(x, x1, g, eps, won, lr):
    eps = torch.where(won, 0.95 * eps, 1.05 * eps)
    d = x1 - x + lr * g
    return (x + eps[:, None] * d / d.norm(dim=1, keepdim=True)).clamp(0, 1), eps


def at_most(x, x1, g, eps, won, lr):
    eps = torch.where(won, 0.95 * eps, 1.05 * eps)
    d = x1 - x + lr * g / g.norm(dim=1, keepdim=True)
    return (x + d * (eps[:, None] / d.norm(dim=1, keepdim=True)).clamp_max(1)).clamp(0, 1), eps


def no_box(x, x1, g, eps, won, lr):
    eps = torch.where(won, 0.95 * eps, 1.05 * eps)
    d = x1 - x + lr * g / g.norm(dim=1, keepdim=True)
    return x + eps[:, None] * d / d.norm(dim=1, keepdim=True), eps


def step_cases():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(6, 10, generator=g)
    x1 = (x + 0.2 * torch.randn(6, 10, generator=g)).clamp(0, 1)
    grad = 3 * torch.randn(6, 10, generator=g)
    eps, won = 0.2 + torch.rand(6, generator=g), torch.rand(6, generator=g) < 0.5
    return [(x, x1, grad, eps, won, 0.5), (x, x1, grad, 3 * eps, ~won, 0.05)]


# ---- 3. the first radius


def by_the_dual_norm(gone, v, g):
    return gone + v.abs() / g.abs().sum(1)


def with_a_sign(gone, v, g):
    return gone - v / g.abs().sum(dim=1)


def in_l2(gone, v, g):
    return gone + v.abs() / g.norm(dim=1)


def by_the_largest(gone, v, g):
    return gone + v.abs() / g.abs().amax(1)


def backwards(gone, v, g):
    return gone + v / g.abs().sum(1)


def from_the_start(gone, v, g):
    return v.abs() / g.abs().sum(1)


def radius_cases():
    g = torch.Generator().manual_seed(0)
    by_hand = torch.tensor([0.1]), torch.tensor([-1.0]), torch.tensor([[3.0, -4.0]])
    gone, v = torch.rand(5, generator=g), -torch.rand(5, generator=g)
    return [by_hand, (gone, v, torch.randn(5, 7, generator=g))]


EXERCISES = {
    "norms 2": Exercise(
        reference=direction_then_norm,
        cases=step_cases,
        right=[one_by_one],
        wrong=[the_other_way, old_radius, raw_gradient, at_most, no_box],
        hints=(
            "First the new radius. Then the direction: where would the step lead, seen from x?",
            "d = x1 - x + lr*g/|g|, each row by its own length; x + eps*d/|d|, then the box.",
        ),
    ),
    "norms 3": Exercise(
        reference=by_the_dual_norm,
        cases=radius_cases,
        right=[with_a_sign],
        wrong=[in_l2, by_the_largest, backwards, from_the_start],
        hints=(
            "How much does the margin rise if every pixel moves by 1 in its best direction?",
            "By the sum of |g|: so |v| / g.abs().sum(1) is still to go.",
        ),
    ),
}
