"""Exercises of the lesson on coloured noise"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. noise of a given colour


def has_the_colour(fn):
    g = torch.Generator().manual_seed(0)
    for c, r in ((3, 1), (4, 2), (2, 0)):
        d = 0.2 + torch.rand(c, generator=g)
        low = torch.randn(c, r, generator=g)
        seen = fn(d, low, 40000)
        if not isinstance(seen, torch.Tensor) or tuple(seen.shape) != (40000, c):
            return f"of 40000 draws for {c} channels it returns no tensor (40000, {c})."
        want = d.square().diag() + low @ low.T
        off = (seen.double().T.cov() - want).abs().max().item()
        if off > 0.06 * want.max().item():
            return (
                f"the covariance is off by {off:.2f} where the largest entry is {want.max():.2f}."
            )
        if seen.mean(0).abs().max() > 0.05 * want.max().sqrt():
            return "the mean is not 0."
    return ""


def own_and_shared(d, U, n):
    return d * torch.randn(n, len(d)) + torch.randn(n, U.shape[1]) @ U.T


def by_a_root(d, U, n):
    root = torch.linalg.cholesky(d.square().diag() + U @ U.T)
    return torch.randn(n, len(d)) @ root.T


def squares(d, U, n):
    return d.square() * torch.randn(n, len(d)) + torch.randn(n, U.shape[1]) @ U.T


def all_white(d, U, n):
    return (d.square() + U.square().sum(1)).sqrt() * torch.randn(n, len(d))


def one_number(d, U, n):
    return d * torch.randn(n, len(d)) + torch.randn(n, 1) * U.sum(1)


# ---- 3. one number


def hardest_of_each(chance):
    return chance.amin(0).mean().item()


def by_counting(chance):
    return sum(min(column) for column in chance.T.tolist()) / chance.shape[1]


def hardest_attack(chance):
    return chance.mean(1).min().item()


def union(chance):
    return chance.prod(0).mean().item()


def mean_of_all(chance):
    return chance.mean().item()


# ---- 4. the average of logits


def over_n(W, cov, n):
    return W @ cov @ W.T / n


def by_rows(W, cov, n):
    return torch.stack([torch.stack([a @ cov @ b / n for b in W]) for a in W])


def of_one_roll(W, cov, n):
    return W @ cov @ W.T


def over_n_squared(W, cov, n):
    return W @ cov @ W.T / n**2


def spreads():
    g = torch.Generator().manual_seed(0)
    cases = []
    for n in (1, 4, 30):
        low = torch.randn(5, 2, generator=g)
        cases.append((torch.randn(3, 5, generator=g), torch.eye(5) + low @ low.T, n))
    return cases


def chances():
    g = torch.Generator().manual_seed(0)
    return [(torch.rand(a, b, generator=g),) for a, b in ((1, 4), (3, 5), (10, 50))]


EXERCISES = {
    "noise 2": Exercise(
        check=has_the_colour,
        solution=own_and_shared,
        right=[by_a_root],
        wrong=[squares, all_white, one_number],
        hints=(
            "A number for each channel, and as many shared numbers as U has columns.",
            "d * e + xi @ U.T with e (n,c) and xi (n,r), both standard normal.",
        ),
    ),
    "noise 3": Exercise(
        reference=hardest_of_each,
        cases=chances,
        right=[by_counting],
        wrong=[hardest_attack, union, mean_of_all],
        hints=(
            "An attacker may take another attack for each image.",
            "The minimum over the attacks first, then the mean over the images.",
        ),
    ),
    "noise 4": Exercise(
        reference=over_n,
        cases=spreads,
        right=[by_rows],
        wrong=[of_one_roll, over_n_squared],
        hints=(
            "Which covariance have the logits of one roll?",
            "W cov W^T; the mean of n independent draws has an nth of the covariance.",
        ),
    ),
}
