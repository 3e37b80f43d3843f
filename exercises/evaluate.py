"""Exercises of the lesson on evaluation"""

import math

import torch

from spat_nb import wilson
from spat_nb.learn.exercise import Exercise
from spat_nb.measure.record import Record

# ---- 2. the fair success rate


def success(record, name):
    ok = record.correct()
    fooled = ok & ~record.correct(name)
    return fooled.sum().item() / max(ok.sum().item(), 1)


def as_difference(record, name):
    clean, left = record.correct(), record.correct() & record.correct(name)
    n = clean.sum().item()
    return (n - left.sum().item()) / n if n else 0


def of_all_images(record, name):
    ok = record.correct()
    return (ok & ~record.correct(name)).double().mean().item()


def blames_the_attack(record, name):
    return 1 - record.accuracy(name)


def small(clean, a):
    t = torch.tensor
    return Record(t([0, 0, 1, 1]), dict(clean=t(clean), a=t(a)), ("cat", "dog"))


def success_cases():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (50,), generator=g)
    preds = {
        k: torch.where(torch.rand(50, generator=g) < 0.6, y, 2 - y) for k in ("clean", "a", "b")
    }
    large = Record(y, preds, ("cat", "dog", "cow"))
    return [
        (small([0, 0, 1, 0], [1, 0, 1, 0]), "a"),
        (small([0, 0, 1, 1], [1, 1, 0, 0]), "a"),
        (small([0, 0, 1, 0], [1, 0, 1, 1]), "a"),
        (small([1, 1, 0, 0], [1, 1, 0, 0]), "a"),
        (small([0, 1, 0, 0], [1, 1, 0, 0]), "a"),
        (large, "a"),
        (large, "b"),
        (large, "worst"),
    ]


# ---- 3. how many images?


def needed(half):
    z = 1.959963984540054
    n = z**2 * (1 / (4 * half**2) - 1)
    return max(2, 2 * math.ceil(n / 2))


def by_trying(half):
    n = 2
    while (wilson(n // 2, n)[1] - wilson(n // 2, n)[0]) / 2 > half:
        n += 2
    return n


def with_the_textbook(half):
    return 2 * math.ceil(1.959963984540054**2 / (4 * half**2) / 2)


def odd_ones_too(half):
    return max(1, math.ceil(1.959963984540054**2 * (1 / (4 * half**2) - 1)))


# ---- 4. three specialists


def embarrasses(fn):
    for n in (3, 30, 99):
        right = torch.as_tensor(fn(n))
        if right.shape != (3, n) or right.dtype != torch.bool:
            return f"specialists({n}) should be bool of shape (3, {n})."
        left = right.sum(1).tolist()
        if left != [2 * n // 3] * 3:
            return f"of {n} images the attacks leave {left}; each should leave {2 * n // 3}."
        if right.all(0).any():
            return f"{int(right.all(0).sum())} of {n} images survive all three attacks."
    return ""


def specialists(n):
    image = torch.arange(n)
    return torch.stack([image % 3 != attack for attack in range(3)])


def in_blocks(n):
    right = torch.ones(3, n, dtype=torch.bool)
    for attack, block in enumerate(torch.arange(n).chunk(3)):
        right[attack, block] = False
    return right


def all_the_same(n):
    return (torch.arange(n) % 3 > 0).expand(3, n)


EXERCISES = {
    "evaluate 2": Exercise(
        reference=success,
        cases=success_cases,
        right=[as_difference],
        wrong=[of_all_images, blames_the_attack],
        hints=(
            "From which images can the attack take a right answer at all?",
            "Count the images that are right when clean and wrong under the attack; divide by those"
            " that are right when clean, but not by 0.",
        ),
    ),
    "evaluate 3": Exercise(
        reference=needed,
        cases=lambda: [(h,) for h in (0.3, 0.2, 0.1, 0.05, 0.45, 0.5, 0.07, 0.013)],
        right=[by_trying],
        wrong=[with_the_textbook, odd_ones_too],
        hints=(
            "With k = n/2 the half width is z/(2 sqrt(n+z^2)).",
            "Set it to `half`, solve for n, and round up to an even number, 2 at least.",
        ),
    ),
    "evaluate 4": Exercise(
        check=embarrasses,
        solution=specialists,
        right=[in_blocks],
        wrong=[all_the_same],
        hints=(
            "Three attacks that fool a third each: how must the thirds lie?",
            "Let attack a fool the images whose number leaves the remainder a after division by 3.",
        ),
    ),
}
