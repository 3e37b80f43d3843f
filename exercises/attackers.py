"""Exercises of the lesson on who attacks whom"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. symmetry by hand


def one_way(C):
    off = C - C.diag().diag()
    return (off - off.T).abs().sum() / 2 / off.sum()


def upper_triangle(C):
    return (C - C.T).abs().triu(1).sum() / (C - C.diag().diag()).sum()


def counted_twice(C):
    return (C - C.T).abs().sum() / (C - C.diag().diag()).sum()


def with_the_diagonal(C):
    return (C - C.T).abs().triu(1).sum() / C.sum()


def counts():
    t = torch.tensor
    return [
        (t([[5.0, 2, 0], [2, 7, 1], [0, 1, 3]]),),
        (t([[1.0, 4], [0, 9]]),),
        (t([[0.0, 3, 1], [2, 0, 5], [0, 1, 0]]),),
        (torch.rand(4, 4, generator=torch.Generator().manual_seed(0)),),
    ]


# ---- 3. the second way out


def spread_out(C):
    p = C.double() * (1 - torch.eye(len(C)))
    p = p / p.sum(1, keepdim=True)
    return torch.special.entr(p).sum(1).exp()


def by_products(C):
    p = C.double().clone().fill_diagonal_(0)
    p = p / p.sum(1, keepdim=True)
    return 1 / torch.where(p > 0, p, 1.0).pow(p).prod(1)


def keeps_the_diagonal(C):
    return torch.special.entr(C / C.sum(1, keepdim=True)).sum(1).exp().double()


def over_columns(C):
    p = C.double() * (1 - torch.eye(len(C)))
    p = p / p.sum(0, keepdim=True)
    return torch.special.entr(p).sum(0).exp()


def error_counts():
    t = torch.tensor
    return [
        (t([[9, 3, 0], [2, 8, 2], [0, 5, 5]]),),
        (torch.ones(6, 6),),
        (t([[1.0, 2, 3, 4], [0, 9, 1, 1], [5, 0, 0, 1], [2, 7, 1, 0]]),),
    ]


# ---- 4. an attack with a favourite


def has_a_favourite(fn):
    g = torch.Generator().manual_seed(0)
    for K in (3, 10):
        C = torch.randint(1, 20, (K, K), generator=g)
        got = fn(C)
        if got.shape != C.shape or (got < 0).any():
            return f"for {K} classes it should return counts ({K},{K})."
        if not torch.equal(got.sum(1), C.sum(1)) or not torch.equal(got.diag(), C.diag()):
            return "each class must keep its images and its right answers."
        off = got.clone().fill_diagonal_(0)
        if off[1:, 0].sum() != off[1:].sum():
            return "some class other than 0 has errors that do not go to class 0."
    return ""


def favourite(C):
    out = C.diag().diag()
    errors = C.sum(1) - C.diag()
    out[1:, 0] = errors[1:]
    out[0, 1] = errors[0]
    return out


def class_zero_as_it_was(C):
    out = favourite(C)
    out[0] = C[0]
    return out


def as_it_is(C):
    return C


def loses_class_zero(C):
    out = C.diag().diag()
    out[:, 0] += C.sum(1) - C.diag()
    return out


EXERCISES = {
    "attackers 2": Exercise(
        reference=one_way,
        cases=counts,
        right=[upper_triangle],
        wrong=[counted_twice, with_the_diagonal],
        hints=(
            "The diagonal holds no confusions.",
            "C-C.T answers for each pair twice, once in each direction.",
        ),
    ),
    "attackers 3": Exercise(
        reference=spread_out,
        cases=error_counts,
        right=[by_products],
        wrong=[keeps_the_diagonal, over_columns],
        hints=(
            "Empty the diagonal; then let every row sum to 1.",
            "H is minus the sum of p log p. Mind 0 log 0: torch.special.entr knows what it is.",
        ),
    ),
    "attackers 4": Exercise(
        check=has_a_favourite,
        solution=favourite,
        right=[class_zero_as_it_was],
        wrong=[as_it_is, loses_class_zero],
        hints=(
            "An error of a class may go to any class but its own.",
            "All errors of the classes 1, 2, ... can go to 0; where can those of 0 go?",
        ),
    ),
}
