"""Exercises of the lesson on guarantees that fit in a line"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. an unrolled layer


def iterated(B, x, lam, steps, t):
    w = torch.zeros(B.shape[1], dtype=B.dtype)
    for _ in range(steps):
        w = (w - t * (B.T @ (B @ w - x) + lam)).clamp_min(0)
    return w


def unrolled(B, x, lam, steps):
    return iterated(B, x, lam, steps, 1 / torch.linalg.matrix_norm(B, 2) ** 2)


def by_eigenvalues(B, x, lam, steps):
    gram, seen = B.T @ B, B.T @ x
    t = 1 / torch.linalg.eigvalsh(gram)[-1]
    w = torch.zeros_like(seen)
    for _ in range(steps):
        w = torch.relu(w - t * (gram @ w - seen) - t * lam)
    return w


def one_norm_too_many(B, x, lam, steps):
    return iterated(B, x, lam, steps, 1 / torch.linalg.matrix_norm(B, 2))


def frobenius(B, x, lam, steps):
    return iterated(B, x, lam, steps, 1 / B.norm() ** 2)


def lambda_whole(B, x, lam, steps):
    t = 1 / torch.linalg.matrix_norm(B, 2) ** 2
    return iterated(B, x, lam / t, steps, t)


def signed(B, x, lam, steps):
    t = 1 / torch.linalg.matrix_norm(B, 2) ** 2
    w = torch.zeros(B.shape[1], dtype=B.dtype)
    for _ in range(steps):
        w = w - t * (B.T @ (B @ w - x) + lam)
    return w


def dictionaries():
    g = torch.Generator().manual_seed(0)
    cases = []
    for m, k, lam, steps in ((1, 1, 0.0, 1), (4, 6, 0.1, 1), (5, 8, 0.3, 3), (6, 3, 0.0, 12)):
        B = torch.randn(m, k, generator=g).double()
        cases.append((B, B.abs().sum(1) + torch.rand(m, generator=g).double(), lam, steps))
    return cases


# ---- 3. an action


def by_the_lowest_value(W, c, s, eps):
    return int((W @ s + c - eps * W.abs().sum(1)).argmax())


def by_the_worst_state(W, c, s, eps):
    low = [float(w @ (s - eps * w.sign()) + b) for w, b in zip(W, c)]
    return low.index(max(low))


def as_seen(W, c, s, eps):
    return int((W @ s + c).argmax())


def by_euclid(W, c, s, eps):
    return int((W @ s + c - eps * W.norm(dim=1)).argmax())


def hopeful(W, c, s, eps):
    return int((W @ s + c + eps * W.abs().sum(1)).argmax())


def agents():
    g = torch.Generator().manual_seed(1)
    # one strong weight against four weak ones: the two norms order them differently
    rows = torch.tensor([[3.0, 0, 0, 0], [1, 1, 1, 1]])
    return [(rows, torch.zeros(2), torch.zeros(4), 1.0)] + [
        (
            torch.randn(4, 6, generator=g),
            torch.randn(4, generator=g),
            torch.randn(6, generator=g),
            eps,
        )
        for eps in (0.0, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0)
    ]


# ---- 4. a distance


def by_the_root(n, length):
    return 0.674 * length / n**0.5


def by_the_quantile(n, length):
    return length * torch.special.ndtri(torch.tensor(0.75)).item() / n**0.5


def mean_distance(n, length):
    return length * (2 / torch.pi) ** 0.5 / n**0.5


def per_pixel(n, length):
    return 0.674 * length / n


def without_length(n, length):
    return 0.674 / n**0.5


EXERCISES = {
    "exact 2": Exercise(
        reference=unrolled,
        cases=dictionaries,
        right=[by_eigenvalues],
        wrong=[one_norm_too_many, frobenius, lambda_whole, signed],
        hints=(
            "The longest step is 1/|B|^2, with the largest singular value of B.",
            "w - t (B^T (B w - x) + lam), then what is below 0 becomes 0.",
        ),
    ),
    "exact 3": Exercise(
        reference=by_the_lowest_value,
        cases=agents,
        right=[by_the_worst_state],
        wrong=[as_seen, by_euclid, hopeful],
        hints=(
            "How low may the value of each action be?",
            "W s + c - eps |w_a|_1 for each row; then the argmax.",
        ),
    ),
    "exact 4": Exercise(
        reference=by_the_root,
        cases=lambda: [(16, 1.0), (784, 1.0), (3072, 25.0)],
        tol=1e-3,
        right=[by_the_quantile],
        wrong=[mean_distance, per_pixel, without_length],
        hints=(
            "A random direction has about z/sqrt(n) of its length along the image.",
            "The median of |z| is .674; distances scale with the image's length.",
        ),
    ),
}
