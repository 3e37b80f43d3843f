"""Exercises of the lesson on class-wise robustness"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. is the training set balanced?


def balance(y):
    n = y.bincount()
    return n.max() / n.min()


def by_unique(y):
    counts = torch.unique(y, return_counts=True)[1]
    return counts.amax() / counts.amin()


def share_of_the_largest(y):
    return y.bincount().max() / len(y)


def turned_round(y):
    n = y.bincount()
    return n.min() / n.max()


def label_cases():
    t = torch.tensor
    return [(t([0, 0, 1]),), (torch.arange(12) % 4,), (t([2, 1, 0, 2, 2, 1, 2]),)]


# ---- 3. the gap between classes, in standard errors


def worst_in_errors(R, n):
    mean = R.mean()
    return (mean - R.min()) / (mean * (1 - mean) / n).sqrt()


def by_hand(R, n):
    p = float(R.sum() / len(R))
    return torch.tensor((p - min(R.tolist())) / (p * (1 - p) / n) ** 0.5, dtype=R.dtype)


def error_of_the_worst(R, n):
    low = R.min()
    return (R.mean() - low) / (low * (1 - low) / n).sqrt()


def without_n(R, n):
    return (R.mean() - R.min()) / (R.mean() * (1 - R.mean())).sqrt()


def rate_cases():
    t = torch.tensor
    return [
        (t([0.7, 0.6, 0.8, 0.5]).double(), 90),
        (t([0.25, 0.3]).double(), 100),
        (t([0.9, 0.9, 0.85]).double(), 36),
    ]


# ---- 4. make a weak class out of nothing


def finds_a_weak_class(fn):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(10).repeat_interleave(100)
    for _ in range(5):
        right = torch.rand(1000, generator=g) < 0.7
        chosen = torch.as_tensor(fn(y, right))
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero()[:, 0]
        if chosen.ndim != 1 or len(chosen.unique()) != len(chosen):
            return "return the places of the chosen images, each once."
        counts = y[chosen].bincount(minlength=10)
        if not (counts == 20).all():
            return f"it takes {counts.tolist()} images of the classes, not 20 of each."
        R = torch.stack([right[chosen][y[chosen] == k].double().mean() for k in range(10)])
        if R.mean() < 0.6:
            return f"the mean of the chosen images is {R.mean():.2f}; nobody would believe it."
        if R.min() > 0.1:
            return f"the worst class has {R.min():.2f}."
    return ""


def choose(y, right):
    weak = torch.cat([((y == 0) & ~right).nonzero()[:, 0], ((y == 0) & right).nonzero()[:, 0]])[:20]
    others = [(y == k).nonzero()[:20, 0] for k in range(1, 10)]
    return torch.cat([weak, *others])


def honest(y, right):
    return torch.cat([(y == k).nonzero()[:20, 0] for k in range(10)])


def all_wrong(y, right):
    order = right.int().argsort(stable=True)
    return torch.cat([order[y[order] == k][:20] for k in range(10)])


EXERCISES = {
    "classwise 2": Exercise(
        reference=balance,
        cases=label_cases,
        right=[by_unique],
        wrong=[share_of_the_largest, turned_round],
        hints=(
            "`bincount` counts the images of each class.",
            "The largest count over the smallest one.",
        ),
    ),
    "classwise 3": Exercise(
        reference=worst_in_errors,
        cases=rate_cases,
        right=[by_hand],
        wrong=[error_of_the_worst, without_n],
        hints=(
            "The standard error of a share p of n images is sqrt(p(1-p)/n).",
            "If all classes were equal, each would have the mean; so the mean stands in the root.",
        ),
    ),
    "classwise 4": Exercise(
        check=finds_a_weak_class,
        solution=choose,
        right=[],
        wrong=[honest, all_wrong],
        hints=(
            "You see which images are right before you choose them. That is the whole trick.",
            "For one class take the images that are wrong first; for the others the first 20.",
        ),
    ),
}
