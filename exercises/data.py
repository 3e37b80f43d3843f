"""Exercises of the lesson on data"""

import torch
from torch.nn import functional as F

from spat_nb import Batches, crop_flip
from spat_nb.learn.exercise import Exercise

# ---- 2. crop without a loop


def crop(x, i, j, pad):
    framed = F.pad(x, [pad] * 4)
    windows = []
    for k in range(len(x)):
        a, b = i[k], j[k]
        windows.append(framed[k][:, a : a + x.shape[2], b : b + x.shape[3]])
    return torch.stack(windows)


def by_index(x, i, j, pad):
    b, ch, h, w = x.shape
    rows = (i[:, None] + torch.arange(h))[:, None, :, None]
    columns = (j[:, None] + torch.arange(w))[:, None, None, :]
    images, channels = torch.arange(b)[:, None, None, None], torch.arange(ch)[None, :, None, None]
    return F.pad(x, [pad] * 4)[images, channels, rows, columns]


def one_window(x, i, j, pad):
    framed = F.pad(x, [pad] * 4)
    return framed[:, :, i[0] : i[0] + x.shape[2], j[0] : j[0] + x.shape[3]]


def rows_and_columns_exchanged(x, i, j, pad):
    return crop(x, j, i, pad)


def windows():
    cases = []
    for ch, pad in ((1, 1), (3, 2), (3, 0)):
        g = torch.Generator().manual_seed(ch + pad)
        x = torch.rand(4, ch, 5, 7, generator=g)
        i, j = torch.randint(2 * pad + 1, (2, 4), generator=g)
        cases.append((x, i, j, pad))
    return cases


# ---- 3. where a run goes on


def where(step, n, batch_size):
    per_epoch = -(-n // batch_size)
    return step // per_epoch, step % per_epoch


def by_divmod(step, n, batch_size):
    return divmod(step, (n + batch_size - 1) // batch_size)


def forgets_the_smaller_batch(step, n, batch_size):
    return divmod(step, n // batch_size)


def counts_from_one(step, n, batch_size):
    return divmod(step + 1, -(-n // batch_size))


def steps():
    return [(0, 100, 10), (9, 100, 10), (10, 100, 10), (25, 101, 10), (1000, 49000, 128), (8, 9, 8)]


# ---- 4. an augmentation with a secret


def leaks(augment):
    g = torch.Generator().manual_seed(0)
    x = torch.randint(256, (48, 3, 8, 8), dtype=torch.uint8, generator=g)
    b = Batches(x, torch.arange(48) % 5, tuple("abcde"), 8, shuffle=True, augment=augment)

    def run(start):
        torch.manual_seed(0)
        return [x for x, _ in b.epoch(1, start)]

    plain = [x for x, _ in b.with_(augment=None).epoch(1)]
    whole = run(0)
    if whole[0] is None:
        raise NotImplementedError
    for k, (a, p) in enumerate(zip(whole, plain)):
        if a.shape != p.shape or a.min() < 0 or a.max() > 1:
            return f"batch {k} has another shape, or leaves [0,1]."
        if torch.equal(a, p):
            return f"batch {k} is not changed at all."
    if all(torch.equal(a, c) for a, c in zip(whole[3:], run(3))):
        return "the run that goes on from batch 3 gets the same batches; find what it can not know."
    return ""


def common_stream(x, generator):
    return crop_flip(1)(x)


def from_own_stream(x, generator):
    return (x + 0.1 * torch.rand(x.shape)).clamp(0, 1)


def honest(x, generator):
    return crop_flip(1)(x, generator)


def dimmed(x, generator):
    return x / 2


def nothing(x, generator):
    return x


def too_bright(x, generator):
    return x + torch.rand(x.shape)


EXERCISES = {
    "data 2": Exercise(
        reference=crop,
        cases=windows,
        right=[by_index],
        wrong=[one_window, rows_and_columns_exchanged],
        hints=(
            "Pad once. Then image k needs the rows i[k], i[k]+1, ... and the columns j[k], j[k]+1,"
            " ...",
            "Index with four tensors that broadcast against each other: images (b,1,1,1), channels"
            " (1,ch,1,1), rows (b,1,h,1), columns (b,1,1,w).",
        ),
    ),
    "data 3": Exercise(
        reference=where,
        cases=steps,
        right=[by_divmod],
        wrong=[forgets_the_smaller_batch, counts_from_one],
        hints=(
            "How many batches has an epoch? The last may be smaller, but it counts.",
            "Round n/batch_size up, then divide the step with a remainder.",
        ),
    ),
    "data 4": Exercise(
        check=leaks,
        solution=common_stream,
        right=[from_own_stream],
        wrong=[honest, dimmed, nothing, too_bright],
        hints=(
            "One run has made three batches before batch 3, the other has made none.",
            "A stream that is shared by all batches remembers how often it was asked; the given"
            " generator does not.",
        ),
    ),
}
