"""Exercises of the lesson on few pixels, patches and unions"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. the nearest sparse image


def keep_what_saves_most(z, x, k):
    cut = z.clamp(0, 1)
    saved = (z - x) ** 2 - (z - cut) ** 2
    best = saved.topk(k, 1).indices
    return x.scatter(1, best, cut.gather(1, best))


def one_by_one(z, x, k):
    out = x.clone()
    for i in range(len(x)):
        cut = z[i].clamp(0, 1)
        left = [
            ((z[i, j] - x[i, j]) ** 2 - (z[i, j] - cut[j]) ** 2).item() for j in range(len(cut))
        ]
        for j in sorted(range(len(cut)), key=lambda j: -left[j])[:k]:
            out[i, j] = cut[j]
    return out


def moved_furthest(z, x, k):
    best = (z - x).abs().topk(k, 1).indices
    return x.scatter(1, best, z.clamp(0, 1).gather(1, best))


def furthest_in_the_box(z, x, k):
    cut = z.clamp(0, 1)
    best = (cut - x).abs().topk(k, 1).indices
    return x.scatter(1, best, cut.gather(1, best))


def outside_the_box(z, x, k):
    best = ((z - x) ** 2).topk(k, 1).indices
    return x.scatter(1, best, z.gather(1, best))


def over_the_batch(z, x, k):
    cut = z.clamp(0, 1)
    saved = ((z - x) ** 2 - (z - cut) ** 2).sum(0, keepdim=True).expand_as(x)
    best = saved.topk(k, 1).indices
    return x.scatter(1, best, cut.gather(1, best))


def sparse_cases():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(6, 8, generator=g)
    by_hand = torch.tensor([[1.9, 1.0, 0.1]]), torch.tensor([[0.9, 0.5, 0.2]]), 1
    # the second pixel moves further inside the box; the first one saves more
    far = torch.tensor([[3.0, 0.9]]), torch.tensor([[0.6, 0.4]]), 1
    return [
        by_hand,
        far,
        (x + 0.2 * torch.randn(6, 8, generator=g), x, 2),
        (x + 2 * torch.randn(6, 8, generator=g), x, 3),
        (x, x, 8),
    ]


# ---- 3. the largest change is not the nearest


def too_near(fn):
    x, z = fn()
    if x.shape != (1, 2) or z.shape != (1, 2):
        return f"x has shape {tuple(x.shape)} and z {tuple(z.shape)}; give (1,2) for both."
    if x.min() < 0 or x.max() > 1:
        return "x must lie in the box, from 0 to 1."
    gap = (moved_furthest(z, x, 1) - z).norm() - (keep_what_saves_most(z, x, 1) - z).norm()
    if gap < 0.2:
        return f"the naive result is {gap.item():.3f} further away; it should be 0.2 or more."
    return ""


def white_already():
    return torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.9]])


def black_already():
    return torch.tensor([[0.5, 0.0]]), torch.tensor([[1.2, -0.9]])


def inside():
    return torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.6]])


def no_image():
    return torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.9]])


# ---- 4. how large is it in a union?


def smaller_of_two(d, e, r):
    return torch.minimum(d.abs().amax(1) / e, d.norm(dim=1) / r)


def stacked(d, e, r):
    sizes = torch.stack([d.abs().max(1).values / e, d.pow(2).sum(1).sqrt() / r])
    return sizes.min(0).values


def larger_of_two(d, e, r):
    return torch.maximum(d.abs().amax(1) / e, d.norm(dim=1) / r)


def without_radii(d, e, r):
    return torch.minimum(d.abs().amax(1), d.norm(dim=1))


def whole_batch(d, e, r):
    return torch.minimum(d.abs().amax() / e, d.norm() / r).expand(len(d))


def size_cases():
    g = torch.Generator().manual_seed(0)
    d = torch.randn(5, 12, generator=g)
    return [(torch.full((1, 4), 0.2), 0.1, 0.5), (d, 0.1, 0.5), (d, 1.0, 0.7), (0 * d, 0.3, 0.3)]


EXERCISES = {
    "union 2": Exercise(
        reference=keep_what_saves_most,
        cases=sparse_cases,
        right=[one_by_one],
        wrong=[moved_furthest, furthest_in_the_box, outside_the_box, over_the_batch],
        hints=(
            "Cut the proposal at the box first. By how much does each pixel bring you nearer?",
            "saved = (z-x)**2 - (z-cut)**2; take the k largest of each row from `cut`.",
        ),
    ),
    "union 3": Exercise(
        check=too_near,
        solution=white_already,
        right=[black_already],
        wrong=[inside, no_image],
        hints=(
            "Which pixel can move far without getting anywhere?",
            "A white pixel that wants to be whiter, and a black one that wants to be grey.",
        ),
    ),
    "union 4": Exercise(
        reference=smaller_of_two,
        cases=size_cases,
        right=[stacked],
        wrong=[larger_of_two, without_radii, whole_batch],
        hints=(
            "A union needs only one of them: which of two sizes counts?",
            "Divide each norm by its own radius, row by row, and take the smaller one.",
        ),
    ),
}
