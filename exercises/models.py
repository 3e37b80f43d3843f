"""Exercises of the lesson on models"""

import torch
from torch import nn
from torch.nn import functional as F

from spat_nb import SmallCNN, WideResNet
from spat_nb.learn.exercise import Exercise

# ---- 2. a radius in pixels


def in_pixels(eps, std):
    return 255 * eps * std


def the_other_way_round(eps, std):
    return 255 * eps / std


def in_unit_pixels(eps, std):
    return eps * std


def radii():
    return [
        (0.031, torch.tensor([0.2470, 0.2435, 0.2616])),
        (1.0, torch.tensor([1.0])),
        (0.0, torch.tensor([0.5, 0.25])),
    ]


# ---- 3. activations of a WideResNet


def counted(depth, widen):
    seen = []

    def act(channels):
        seen.append(channels)
        return nn.Identity()

    with torch.device("meta"):
        WideResNet(depth, widen, act=act)
    return len(seen), sum(seen)


def by_stages(depth, widen):
    n, total, ni = (depth - 4) // 6, 0, 16
    for no in (16 * widen, 32 * widen, 64 * widen):
        total += ni + no + (n - 1) * 2 * no
        ni = no
    return 6 * n + 1, total + ni


def all_alike(depth, widen):
    n = (depth - 4) // 6
    return 6 * n + 1, 2 * n * 112 * widen + 64 * widen


def without_the_last(depth, widen):
    layers, channels = by_stages(depth, widen)
    return layers - 1, channels - 64 * widen


def wide_ones():
    return [(10, 1), (10, 2), (16, 4), (34, 10)]


# ---- 4. fill the activation slot


def is_swish(make):
    for channels in (1, 3, 4):
        layer = make(channels)
        if layer is None:
            raise NotImplementedError
        if not isinstance(layer, nn.Module):
            return f"it returns a {type(layer).__name__}; a layer is asked, an nn.Module."
        x = torch.linspace(-3, 3, 2 * channels * 9).view(2, channels, 3, 3)
        numbers = sum(p.numel() for p in layer.parameters())
        if numbers != channels:
            return f"for {channels} channels it has {numbers} trainable numbers, not {channels}."
        if layer(x).shape != x.shape or not torch.allclose(layer(x), F.silu(x), atol=1e-5):
            return "with every beta at 1 it should be nn.SiLU, and it is not."
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.arange(2.0, 2 + channels).view(p.shape))
        beta = torch.arange(2.0, 2 + channels).view(1, -1, 1, 1)
        if not torch.allclose(layer(x), x * torch.sigmoid(beta * x), atol=1e-5):
            return "with beta = 2, 3, ... for the channels it is no x sigmoid(beta x)."
    SmallCNN(width=4, act=make)(torch.rand(2, 1, 8, 8))
    return ""


class Swish(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * (self.beta * x).sigmoid()


class OneForAll(Swish):
    def __init__(self, channels):
        super().__init__(1)


class Fixed(Swish):
    def __init__(self, channels):
        super().__init__(channels)
        self.beta.requires_grad_(False)

    def forward(self, x):
        return x * x.sigmoid()


def silu(channels):
    return nn.SiLU()


# ---- 5. a head that depends on the company


def depends_on_company(make):
    torch.manual_seed(0)
    head = make(6, 3)
    if head is None:
        raise NotImplementedError
    if not isinstance(head, nn.Module):
        return f"it returns a {type(head).__name__}; a layer is asked, an nn.Module."
    head.eval()
    h = torch.randn(2, 6)
    with torch.no_grad():
        together, again = head(h), head(h)
        if together.shape != (2, 3):
            return f"for (2,6) it should return (2,3), not {tuple(together.shape)}."
        if not torch.equal(together, again):
            return "the same batch gets other logits the second time; nothing may be random."
        alone = torch.cat([head(h[:1]), head(h[1:])])
    if not (together.isfinite().all() and alone.isfinite().all()):
        return "some logits are not finite."
    if (together - alone).abs().amax(1).min() < 1e-3:
        return "an image gets the same logits alone and in company."
    return ""


class Centred(nn.Linear):
    def forward(self, h):
        return super().forward(h - h.mean(0))


class BatchScaled(nn.Linear):
    def forward(self, h):
        return super().forward(h) / h.norm()


class Dice(nn.Linear):
    def forward(self, h):
        return super().forward(h + torch.randn_like(h))


class Normalised(nn.Module):
    "Batch normalisation: in eval mode each image is alone again"

    def __init__(self, d, classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(d)
        self.last = nn.Linear(d, classes)

    def forward(self, h):
        return self.last(self.norm(h))


EXERCISES = {
    "models 2": Exercise(
        reference=in_pixels,
        cases=radii,
        wrong=[the_other_way_round, in_unit_pixels],
        hints=(
            "A normalised pixel is (pixel-mean)/std. Which change of the pixel changes it by eps?",
            "eps*std, with pixels in [0,1]; then count in steps of 1/255.",
        ),
    ),
    "models 3": Exercise(
        reference=counted,
        cases=wide_ones,
        right=[by_stages],
        wrong=[all_alike, without_the_last],
        hints=(
            "There are three groups of n = (depth-4)/6 blocks, and two activations in each block.",
            "The first block of a group begins with the channels of the group before; all its"
            " other activations stand on its own.",
        ),
    ),
    "models 4": Exercise(
        check=is_swish,
        solution=Swish,
        wrong=[OneForAll, Fixed, silu],
        hints=(
            "One number per channel that meets a map (b,ch,h,w): which shape has the parameter?",
            "(ch,1,1), an nn.Parameter of a class with `super().__init__()`.",
        ),
    ),
    "models 5": Exercise(
        check=depends_on_company,
        solution=Centred,
        right=[BatchScaled],
        wrong=[nn.Linear, Dice, Normalised],
        hints=(
            "Which number can a layer compute from a batch that it cannot compute from one image?",
            "A mean over dimension 0, say; subtract it before the last layer.",
        ),
    ),
}
