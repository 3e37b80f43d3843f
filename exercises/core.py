"""Exercises of the lesson on randomness, modes and checks"""

import torch

from spat_nb.core.checks import check_images
from spat_nb.core.rng import generator
from spat_nb.learn.exercise import Exercise

# ---- 2. brighten each image by its own number


def brighten(x, v):
    return (x * v.view(-1, *[1] * (x.ndim - 1))).clamp(0, 1)


def along_columns(x, v):
    return (x * v).clamp(0, 1)


def brighten_cases():
    shapes = [(4, 3, 4, 4), (1, 1, 2, 2), (5, 7)]
    return [
        (torch.rand(s, generator=generator(1)), 3 * torch.rand(s[0], generator=generator(2)) - 1)
        for s in shapes
    ]


# ---- 3. a start that can be repeated


def gaussian_start(x, sigma, g):
    return (x + sigma * torch.empty(x.shape).normal_(generator=g)).clamp(0, 1)


def in_memory_order(x, sigma, g):
    return (x + sigma * torch.randn_like(x)).clamp(0, 1)


def start_cases():
    x = torch.rand(2, 3, 4, 4, generator=generator(5))
    last = x.to(memory_format=torch.channels_last)
    return [(x, 0.1, generator(0)), (last, 0.1, generator(0)), (x[:1], 3.0, generator(1))]


# ---- 4. undo a softmax


def mended(p):
    return p.clamp(min=1e-12).log()


def mend_is_right(fn):
    for p in (
        torch.randn(4, 3, generator=generator(0)).softmax(1),
        torch.eye(3),
        torch.tensor([[1e-9, 1 - 1e-9]]),
    ):
        z = fn(p.clone())
        if not z.isfinite().all():
            return "a probability of 0 has become infinity; lift it a little before."
        if z.shape != p.shape or not torch.allclose(z.softmax(1), p, atol=1e-6):
            return f"the softmax of your logits is {z.softmax(1)[0].tolist()}, not {p[0].tolist()}."
    return ""


# ---- 5. break the door


def divided_twice(x):
    return x / 255


def slips_past(fn):
    x = torch.rand(2, 3, 4, 4, generator=generator(3))
    z = fn(x.clone())
    if z.shape != x.shape:
        return f"the shape is {tuple(z.shape)}; return as many images as you got."
    try:
        check_images(z)
    except (TypeError, ValueError) as e:
        return f"the door refuses it: {e}"
    a = ((z - z.mean()) * (x - x.mean())).sum() / (x - x.mean()).square().sum()
    b = z.mean() - a * x.mean()
    if not torch.allclose(z, a * x + b, atol=1e-4):
        return "it is not of the form a*x + b with two numbers a and b."
    if abs(a) > 0.5:
        return f"a is {a:.2f}: the same eps means less than twice as much; scale it more."
    return "" if abs(a) > 1e-6 else "a is 0, and nothing is left of the images."


EXERCISES = {
    "core 2": Exercise(
        reference=brighten,
        cases=brighten_cases,
        wrong=[along_columns, lambda x, v: x * v.view(-1, *[1] * (x.ndim - 1))],
        hints=(
            "Image i must meet its own number: v as (b,1,1,1) against x (b,ch,h,w). But x may have"
            " another number of dimensions.",
            "This lesson has a function that views v so: `bview`. One clamp at the end.",
        ),
    ),
    "core 3": Exercise(
        reference=gaussian_start,
        cases=start_cases,
        wrong=[in_memory_order],
        hints=(
            "torch.randn_like takes no generator, and follows the memory layout. This lesson has a"
            " function that does better.",
            "Noise of deviation sigma is sigma times `randn_like(x, g)`; the box comes last.",
        ),
    ),
    "core 4": Exercise(
        check=mend_is_right,
        solution=mended,
        right=[lambda p: p.clamp(min=1e-12).log() + 5],
        wrong=[lambda p: p.log(), lambda p: p, lambda p: -p.clamp(min=1e-12).log()],
        hints=(
            "For which z is exp(z) in proportion to p?",
            "log 0 is minus infinity: lift p a little before.",
        ),
    ),
    "core 5": Exercise(
        check=slips_past,
        solution=divided_twice,
        right=[lambda x: x / 3, lambda x: 0.5 - 0.25 * x],
        wrong=[lambda x: x, lambda x: x * 255, lambda x: 2 * x - 1, lambda x: 0 * x],
        hints=(
            "The door looks for numbers below 0 and above 1: make the range smaller, not larger.",
            "Bytes are divided by 255 to become pixels. What if somebody does it again?",
        ),
    ),
}
