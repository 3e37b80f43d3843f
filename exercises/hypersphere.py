"""Exercises of the lesson on hypersphere embedding"""

import math

import torch

from spat_nb import Hypersphere
from spat_nb.learn.exercise import Exercise


# ---- 2: the least scale
def least_scale(loss, K, m):
    return math.log((K - 1) / math.expm1(loss)) / (K / (K - 1) - m)


def least_scale_by_steps(loss, K, m):
    gap = K / (K - 1) - m
    return (math.log(K - 1) - math.log(math.exp(loss) - 1)) / gap


def opposite_corners(loss, K, m):
    return math.log((K - 1) / math.expm1(loss)) / (2 - m)


def without_undoing(loss, K, m):
    return math.log((K - 1) / loss) / (K / (K - 1) - m)


# ---- 3: orthogonal
def cos_slope(h, w):
    hn, wn = h / h.norm(), w / w.norm()
    return (wn - hn * (hn @ wn)) / h.norm()


def by_autograd(h, w):
    h = h.clone().requires_grad_()
    cosine = torch.nn.functional.cosine_similarity(h, w, dim=0)
    return torch.autograd.grad(cosine, h)[0]


def not_orthogonal(h, w):
    return w / w.norm() / h.norm()


def without_the_length(h, w):
    return cos_slope(h, w) * h.norm()


def slope_cases():
    g = torch.Generator().manual_seed(3)
    return [
        (torch.randn(n, generator=g).double(), 3 * torch.randn(n, generator=g).double())
        for n in (5, 3, 8)
    ]


# ---- 4: break the invariance
def short(w):
    return w * 1e-18


def zero(w):
    return 0 * w


def unchanged(w):
    return w


def breaks_the_sentence(fn):
    for seed, d in ((0, 6), (1, 17)):
        torch.manual_seed(seed)
        head = Hypersphere(d, 4, scale=10.0)
        w = head.weight[2].detach().clone()
        h = fn(w.clone())
        if not isinstance(h, torch.Tensor) or h.shape != w.shape or h.dtype != w.dtype:
            return f"it should return a float32 feature of shape {tuple(w.shape)}."
        if not h.isfinite().all() or not h.abs().max() > 0:
            return (
                "the feature is zero, or no number; in float32 the smallest numbers are near 1e-45."
            )
        # the direction, in numbers that do not run out
        if torch.cosine_similarity(h.double() * 1e30, w.double(), dim=0) < 0.99:
            return "it does not point along w."
        with torch.no_grad():
            z = head(h[None])[0, 2].item()
        if abs(z) > head.scale / 100:
            return f"the logit is {z:.3g}; it should be below s/100 = {head.scale / 100:g}."
    return ""


EXERCISES = {
    "hypersphere 2": Exercise(
        reference=least_scale,
        cases=lambda: [(0.001, 10, 0.0), (0.001, 10, 0.2), (0.01, 100, 0.1), (1.5, 3, 0.4)],
        right=[least_scale_by_steps],
        wrong=[opposite_corners, without_undoing],
        hints=(
            "The loss is given for a scale. Solve it for s: first undo the log.",
            "exp(loss)-1 is (K-1) times a power of e; take the log once more.",
        ),
    ),
    "hypersphere 3": Exercise(
        reference=cos_slope,
        cases=slope_cases,
        right=[by_autograd],
        wrong=[not_orthogonal, without_the_length],
        hints=(
            "Take off the component of the unit vector of w along the unit vector of h.",
            "A longer h turns less for the same step: in which power does |h| come in?",
        ),
    ),
    "hypersphere 4": Exercise(
        check=breaks_the_sentence,
        solution=short,
        wrong=[zero, unchanged],
        hints=(
            "h / h.norm() would divide by zero at h = 0. What does F.normalize do about it?",
            "It divides by max(length, 1e-12). Choose a feature far shorter than that.",
        ),
    ),
}
