"""Exercises of the lesson on losses"""

import math

import torch
from torch.nn import functional as F

from spat_nb import dlr, margin
from spat_nb.learn.exercise import Exercise


def some_logits(n, c):
    g = torch.Generator().manual_seed(n + c)
    z = 3 * torch.randn(n, c, dtype=torch.float64, generator=g)
    return z, torch.randint(0, c, (n,), generator=g)


# ---- 2. the margin


def best_rival_minus_label(z, y):
    rows = torch.arange(len(y))
    others = z.clone()
    others[rows, y] = -math.inf
    return others.T.amax(0) - z[rows, y]


def by_two_best(z, y):
    best = z.topk(2, 1)
    rival = torch.where(best.indices[:, 0] == y, best.values[:, 1], best.values[:, 0])
    return rival - z[torch.arange(len(y)), y]


def zero_for_the_label(z, y):
    return (z * (1 - F.one_hot(y, z.shape[1]))).amax(1) - z.gather(1, y[:, None])[:, 0]


def label_as_a_rival(z, y):
    return z.amax(1) - z.gather(1, y[:, None])[:, 0]


def margin_cases():
    row = torch.tensor([[3.0, 1.0, 0.0, -5.0]])
    g = torch.Generator().manual_seed(0)
    return [
        (row, torch.tensor([0])),
        (row, torch.tensor([3])),
        (-5 - torch.rand(4, 3, generator=g), torch.tensor([0, 1, 2, 0])),
        some_logits(50, 10),
    ]


# ---- 3. smoothing without a target


def smoothed_ce(z, y, a):
    p = z.T.log_softmax(0)
    own = p[y, torch.arange(len(y))]
    return (a - 1) * own - a * p.mean(0)


def by_the_target(z, y, a):
    q = F.one_hot(y, z.shape[1]).to(z) * (1 - a) + a / z.shape[1]
    return -(q * z.log_softmax(1)).sum(1)


def without_the_uniform_part(z, y, a):
    return (1 - a) * F.cross_entropy(z, y, reduction="none")


def over_the_others_only(z, y, a):
    p, c = z.log_softmax(1), z.shape[1]
    own = p.gather(1, y[:, None])[:, 0]
    return -(1 - a) * own - a * (p.sum(1) - own) / (c - 1)


def smoothed_cases():
    return [(*some_logits(20, c), a) for a, c in ((0.0, 10), (0.1, 10), (0.6, 3), (1.0, 5))]


# ---- 4. a defence that blinds dlr


def blinds_dlr(layer):
    z, _ = some_logits(64, 10)
    z = z.float().requires_grad_()
    y = z.argmax(1)
    out = layer(z)
    if out.shape != z.shape:
        return f"the logits' shape should stay {tuple(z.shape)}, not become {tuple(out.shape)}."
    if not out.isfinite().all():
        return "some of the new logits are not finite."
    if not torch.equal(out.argmax(1), y):
        return f"{(out.argmax(1) != y).sum()} of {len(y)} answers are changed."
    if not out.requires_grad:
        return "the graph is cut, so that no loss has a gradient; margin's must survive."
    (seen,) = torch.autograd.grad(margin(out, y).sum(), z, retain_graph=True)
    if (seen.abs().amax(1) < 1e-2).any():
        return "the gradient of margin is lost, too; it must survive."
    (seen,) = torch.autograd.grad(dlr(out, y).sum(), z)
    left = (seen.abs().amax(1) > 1e-5).sum()
    if left:
        return f"dlr still has a gradient at {left} of {len(y)} samples."
    return ""


def equal_rivals(z):
    best = z.argmax(1, keepdim=True)
    lead = 1 + z.amax(1, keepdim=True) - z.amin(1, keepdim=True)
    return torch.zeros_like(z).scatter(1, best, lead)


def second_for_all(z):
    second = z.topk(2, 1).values[:, 1:]
    return torch.where(z > second, z, second)


def as_they_are(z):
    return z


def scaled(z):
    return 1000 * z


def cut(z):
    return equal_rivals(z).detach()


def saturated(z):
    return F.one_hot(z.argmax(1), z.shape[1]) + 1e-9 * z


EXERCISES = {
    "losses 2": Exercise(
        reference=best_rival_minus_label,
        cases=margin_cases,
        right=[by_two_best],
        wrong=[zero_for_the_label, label_as_a_rival],
        hints=(
            "The rival is the best of the *other* logits.",
            "Hide the label from the maximum: minus infinity in its place, in a copy. 0 is no"
            " hiding place, logits may be negative.",
        ),
    ),
    "losses 3": Exercise(
        reference=smoothed_ce,
        cases=smoothed_cases,
        right=[by_the_target],
        wrong=[without_the_uniform_part, over_the_others_only],
        hints=(
            "Cross-entropy is linear in its target, and q_a is a mix of two targets.",
            "Against the uniform target, cross-entropy is the mean of -log softmax(z) over the"
            " classes.",
        ),
    ),
    "losses 4": Exercise(
        check=blinds_dlr,
        solution=equal_rivals,
        right=[second_for_all],
        wrong=[as_they_are, scaled, cut, saturated],
        hints=(
            "Write down dlr for a right answer: -(z1-z2) / (z1-z3). When is it the same for all"
            " z1?",
            "Nothing but the largest logit must stay what it is. Which values may the others have?",
        ),
    ),
}
