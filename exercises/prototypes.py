"""Exercises of the lesson on prototypes"""

import math

import torch

from spat_nb import simplex
from spat_nb.learn.exercise import Exercise


# ---- 2: who falls first
def smallest_eps(h, A, P, y):
    w = P - P[y]
    sizes = torch.einsum("kd,kd->k", P, P)
    lead = -(w @ h) + (sizes - sizes[y]) / 2
    eps = lead / torch.einsum("kp->k", (w @ A).abs())
    eps[y] = math.inf
    return eps.min().item()


def by_distances(h, A, P, y):
    lead = ((h - P).square().sum(1) - (h - P[y]).square().sum()) / 2
    reach = ((P - P[y]) @ A).abs().sum(1)
    return min((lead[t] / reach[t]).item() for t in range(len(P)) if t != y)


def in_l2(h, A, P, y):
    found = []
    for t in range(len(P)):
        if t != y:
            lead = ((h - P[t]).square().sum() - (h - P[y]).square().sum()).item() / 2
            found.append(lead / ((P[t] - P[y]) @ A).norm().item())
    return min(found)


def without_lengths(h, A, P, y):
    w = P - P[y]
    eps = -(w @ h) / (w @ A).abs().sum(1)
    eps[y] = math.inf
    return eps.min().item()


def eps_cases():
    g = torch.Generator().manual_seed(5)
    cases = []
    for k in range(3):
        h = simplex(4, 3)[k] + 0.1 * torch.randn(3, generator=g)
        cases.append(
            (h.double(), torch.randn(3, 8, generator=g).double(), simplex(4, 3).double(), k)
        )
    uneven = torch.tensor([[1.0, 0.5], [3.0, -2.0], [-1.0, 4.0]]).double()
    for k in range(3):
        h = uneven[k] + 0.1 * torch.randn(2, generator=g).double()
        cases.append((h, torch.randn(2, 5, generator=g).double(), uneven, k))
    return cases


# ---- 3: the gradient in one coordinate
def linf_slope(h, t):
    out = torch.zeros_like(h)
    for i in range(len(h)):
        d = h[i] - t[i]
        j = d.abs().argmax()
        out[i, j] = d[j].sign()
    return out


def by_autograd(h, t):
    h = h.clone().requires_grad_()
    return torch.autograd.grad((h - t).abs().amax(1).sum(), h)[0]


def all_signs(h, t):
    return (h - t).sign()


def over_the_batch(h, t):
    d = h - t
    return torch.nn.functional.one_hot(d.abs().argmax(0), d.shape[0]).T * d.sign()


def slope_cases():
    g = torch.Generator().manual_seed(6)
    return [
        (torch.randn(b, d, generator=g), torch.randn(b, d, generator=g))
        for b, d in ((4, 5), (1, 3), (6, 2))
    ]


# ---- 4: prototypes that do not belong to themselves
def trap(K, d):
    return torch.arange(1.0, K + 1)[:, None] * torch.ones(d)


def corners(K, d):
    return 2 * simplex(K, d)


def all_alike(K, d):
    return torch.ones(K, d)


def is_a_trap(fn):
    for k, d in ((5, 8), (3, 4), (10, 10)):
        P = fn(k, d)
        if not isinstance(P, torch.Tensor) or P.shape != (k, d):
            return f"trap({k}, {d}) should return a tensor of shape ({k}, {d})."
        P = P.double()
        if not P.isfinite().all():
            return "the entries should be finite numbers."
        least = torch.nn.functional.pdist(P, math.inf).min().item()
        if least < 1 - 1e-6:
            return f"trap({k}, {d}): two of them are {least:.3g} apart in L_inf; 1 is asked."
        own = ((P @ P.T).argmax(1) == torch.arange(k)).sum().item()
        if own != 1:
            return f"trap({k}, {d}): {own} of {k} belong to their own class by the dot product."
    return ""


EXERCISES = {
    "prototypes 2": Exercise(
        reference=smallest_eps,
        cases=eps_cases,
        tol=1e-5,
        right=[by_distances],
        wrong=[in_l2, without_lengths],
        hints=(
            "Against one rival t: half the difference of the squared distances is the lead, and it"
            " is linear in h.",
            "A linear function of the pixels moves by at most eps times the sum of its absolute"
            " slopes, (P_t-P_y) @ A. The least eps over the rivals wins.",
        ),
    ),
    "prototypes 3": Exercise(
        reference=linf_slope,
        cases=slope_cases,
        right=[by_autograd],
        wrong=[all_signs, over_the_batch],
        hints=(
            "Only one coordinate of h-t decides.",
            "One-hot at the largest |h-t|, with the sign of that entry.",
        ),
    ),
    "prototypes 4": Exercise(
        check=is_a_trap,
        solution=trap,
        wrong=[corners, all_alike],
        hints=(
            "The dot product likes long prototypes. Whom does a short one belong to?",
            "Put all of them on one ray, with lengths that grow.",
        ),
    ),
}
