"""Exercises of the lesson on rotations, shifts and tints"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. tint


def each_channel(x, gain, bias):
    return (x * (1 + gain[:, :, None, None]) + bias[:, :, None, None]).clamp(0, 1)


def by_loop(x, gain, bias):
    out = torch.empty_like(x)
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[i, c] = (x[i, c] + x[i, c] * gain[i, c] + bias[i, c]).clamp(0, 1)
    return out


def without_box(x, gain, bias):
    return x * (1 + gain[:, :, None, None]) + bias[:, :, None, None]


def gain_alone(x, gain, bias):
    return (x * gain[:, :, None, None] + bias[:, :, None, None]).clamp(0, 1)


def bias_first(x, gain, bias):
    return ((x + bias[:, :, None, None]) * (1 + gain[:, :, None, None])).clamp(0, 1)


def one_channel(x, gain, bias):
    return (x * (1 + gain[:, :1, None, None]) + bias[:, :1, None, None]).clamp(0, 1)


def tint_cases():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 4, 4, generator=g)
    small = [0.2 * torch.randn(2, 3, generator=g) for _ in range(2)]
    large = [2 * torch.randn(2, 3, generator=g) for _ in range(2)]
    half = torch.full((1, 1, 1, 1), 0.5)
    by_hand = half, torch.tensor([[0.2]]), torch.tensor([[0.1]])
    return [by_hand, (x, *small), (x, *large), (x, 0 * small[0], 0 * small[1])]


# ---- 3. the optimum of a tint


def channel_by_channel(w, x, gain, bias):
    return gain * (w * x).sum((2, 3)).abs().sum(1) + bias * w.sum((1, 2)).abs().sum()


def by_signs(w, x, gain, bias):
    up = torch.einsum("chw,bchw->bc", w, x)
    flat = w.flatten(1).sum(1)
    return (gain * up * up.sign()).sum(1) + (bias * flat * flat.sign()).sum()


def whole_image(w, x, gain, bias):
    return gain * (w * x).sum((1, 2, 3)).abs() + bias * w.sum().abs()


def pixel_by_pixel(w, x, gain, bias):
    return gain * (w * x).abs().sum((1, 2, 3)) + bias * w.abs().sum()


def no_bias(w, x, gain, bias):
    return gain * (w * x).sum((2, 3)).abs().sum(1)


def optimum_cases():
    g = torch.Generator().manual_seed(0)
    w, x = torch.randn(3, 4, 4, generator=g), torch.rand(5, 3, 4, 4, generator=g)
    two = torch.tensor([[[1.0]], [[-1.0]]])
    return [(w, x, 0.1, 0.05), (w, x, 0.0, 0.2), (two, torch.full((1, 2, 1, 1), 0.5), 0.2, 0.1)]


EXERCISES = {
    "warps 2": Exercise(
        reference=each_channel,
        cases=tint_cases,
        right=[by_loop],
        wrong=[without_box, gain_alone, bias_first, one_channel],
        hints=(
            "A gain of 0 leaves the image. Each image and each channel has its own.",
            "gain[:, :, None, None] goes with (b,ch,h,w); clamp(0, 1) at the end.",
        ),
    ),
    "warps 3": Exercise(
        reference=channel_by_channel,
        cases=optimum_cases,
        right=[by_signs],
        wrong=[whole_image, pixel_by_pixel, no_bias],
        hints=(
            "The change is linear in each number t. Which t is best, and what does it gain?",
            "A number in [-1,1] gains the absolute value of its coefficient; one per channel.",
        ),
    ),
}
