"""Exercises of the lesson on the ball of a latent space"""

import math

import torch

from spat_nb.learn.exercise import Exercise


def spaces():
    "(gradient, orthonormal rows, a number)"
    g = torch.Generator().manual_seed(0)
    cases = []
    for n, k, r in ((2, 1, 0.5), (6, 3, 1.0), (10, 2, 0.1)):
        rows = torch.linalg.qr(torch.randn(n, k, generator=g)).Q.T.contiguous()
        cases.append((torch.randn(n, generator=g), rows, r))
    return cases


# ---- 2. a step


def projected(g, B, r):
    p = g @ B.T @ B
    return r * p / p.norm()


def through_the_code(g, B, r):
    h = B @ g
    return (r * h / h.norm()) @ B


def not_normed(g, B, r):
    return r * (g @ B.T @ B)


def normed_before(g, B, r):
    return r * (g / g.norm()) @ B.T @ B


def unprojected(g, B, r):
    return r * g / g.norm()


# ---- 3. how far


def lead_over_projection(w, B, m):
    slope = (B @ w).norm().item()
    return m / slope if slope > 1e-9 else float("inf")


def by_the_image(w, B, m):
    p = w @ B.T @ B
    return m / p.norm().item() if p.norm() > 1e-9 else math.inf


def free_of_the_space(w, B, m):
    return m / w.norm().item()


def by_one_norm(w, B, m):
    slope = (B @ w).abs().sum().item()
    return m / slope if slope > 1e-9 else math.inf


def leads():
    return [*spaces(), (torch.tensor([1.0, 0, 0]), torch.tensor([[0.0, 1, 0]]), 0.5)]


# ---- 4. a space without examples


def is_safe(fn):
    g = torch.Generator().manual_seed(0)
    for w in (torch.randn(5, generator=g), torch.tensor([1.0, 0.0]), torch.ones(4)):
        row = fn(w.clone())
        if not isinstance(row, torch.Tensor) or tuple(row.shape) != (1, len(w)):
            return f"for {len(w)} pixels it returns no tensor (1, {len(w)})."
        if abs(row.norm().item() - 1) > 1e-4:
            return f"the row's length is {row.norm().item():.3f}, not 1."
        if (along := abs((row @ w).item())) > 1e-4:
            return f"a step of length 1 changes w . x by {along:.3f}."
    return ""


def across(w):
    e = torch.zeros_like(w)
    e[w.abs().argmin()] = 1
    v = e - (e @ w) / (w @ w) * w
    return (v / v.norm())[None]


def by_a_swap(w):
    i, j = w.abs().topk(2).indices.tolist()
    v = torch.zeros_like(w)
    v[i], v[j] = -w[j], w[i]
    return (v / v.norm())[None]


def along_w(w):
    return (w / w.norm())[None]


def nothing(w):
    return torch.zeros(1, len(w))


EXERCISES = {
    "latent 2": Exercise(
        reference=projected,
        cases=spaces,
        right=[through_the_code],
        wrong=[not_normed, normed_before, unprojected],
        hints=(
            "Project first, then give it its length.",
            "The code's gradient is B g; its step, decoded, is r B^T B g / |B g|.",
        ),
    ),
    "latent 3": Exercise(
        reference=lead_over_projection,
        cases=leads,
        right=[by_the_image],
        wrong=[free_of_the_space, by_one_norm],
        hints=(
            "By how much does a step of length 1 lower the lead, at most?",
            "By |B w|; divide the lead by it.",
        ),
    ),
    "latent 4": Exercise(
        check=is_safe,
        solution=across,
        right=[by_a_swap],
        wrong=[along_w, nothing],
        hints=(
            "A direction at a right angle to w.",
            "Take any vector that is not along w, and subtract its part along w.",
        ),
    ),
}
