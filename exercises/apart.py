"""Exercises of the lesson on an image that remembers its attack"""

import torch

from spat_nb.data.batches import Batches
from spat_nb.learn.exercise import Exercise

# ---- 2. what is remembered


def clipped_sum(memory, g, a, w):
    return (memory + a / w * g.sign()).clamp(-1, 1)


def by_cases(memory, g, a, w):
    up = (memory + a / w).clamp(max=1)
    down = (memory - a / w).clamp(min=-1)
    return torch.where(g > 0, up, torch.where(g < 0, down, memory))


def without_sign(memory, g, a, w):
    return (memory + a / w * g).clamp(-1, 1)


def without_clip(memory, g, a, w):
    return memory + a / w * g.sign()


def last_sign(memory, g, a, w):
    return g.sign()


def gradients():
    draw = torch.Generator().manual_seed(0)
    memory = torch.rand(2, 1, 3, 3, generator=draw) * 2 - 1
    g = torch.randn(2, 1, 3, 3, generator=draw)
    g[0, 0, 0] = 0.0
    return [(memory, g, 0.5, 1.0), (memory, g, 0.5, 0.25), (memory, 3 * g, 0.1, 1.0)]


# ---- 3. where a length rests


def balance(eps, size, decay):
    return eps * size / decay


def by_steps(eps, size, decay):
    b = 0.0
    for _ in range(20000):
        b += 0.01 / decay * (eps * size - decay * b)
    return b


def without_radius(eps, size, decay):
    return size / decay


def upside_down(eps, size, decay):
    return decay / (eps * size)


# ---- 4. find an image again


def in_the_order(train, i, e):
    k = torch.cat(train.indices(e)).tolist().index(i)
    return k // train.batch_size, k % train.batch_size


def by_a_loop(train, i, e):
    for k, batch in enumerate(train.indices(e)):
        for place, j in enumerate(batch.tolist()):
            if i == j:
                return k, place


def unshuffled(train, i, e):
    return i // train.batch_size, i % train.batch_size


def first_epoch(train, i, e):
    return in_the_order(train, i, 0)


def shuffled(n, size):
    x = torch.zeros(n, 1, 1, 1, dtype=torch.uint8)
    return Batches(x, torch.zeros(n, dtype=torch.long), ("a",), size, True)


def places():
    return [(shuffled(10, 4), 0, 0), (shuffled(10, 4), 7, 3), (shuffled(50, 8), 49, 1)]


EXERCISES = {
    "apart 2": Exercise(
        reference=clipped_sum,
        cases=gradients,
        right=[by_cases],
        wrong=[without_sign, without_clip, last_sign],
        hints=(
            "Only the sign of the gradient counts, and a sign of 0 changes nothing.",
            "Add a/w times the sign, then clip to [-1,1].",
        ),
    ),
    "apart 3": Exercise(
        reference=balance,
        cases=lambda: [(0.15, 8.0, 0.4), (0.031, 100.0, 0.4), (0.1, 1.0, 2.0)],
        tol=1e-4,
        right=[by_steps],
        wrong=[without_radius, upside_down],
        hints=(
            "The input moves by eps b times a sign: what is the loss's gradient to b?",
            "At rest the gradient equals decay times b.",
        ),
    ),
    "apart 4": Exercise(
        reference=in_the_order,
        cases=places,
        right=[by_a_loop],
        wrong=[unshuffled, first_epoch],
        hints=(
            "train.indices(e)[k][j] is the image at place j of batch k.",
            "Put the batches behind each other: where does i stand?",
        ),
    ),
}
