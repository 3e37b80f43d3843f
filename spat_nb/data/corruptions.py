"""Common corruptions at five severities: ours, not CIFAR-10-C

Written by hand: no notebook makes it.
"""

# After Hendrycks & Dietterich 2019, with other code and other strengths. Lengths are shares of the
# image's side, so that digits of 8 x 8 and photographs of 32 x 32 can be judged. The same image
# gets the same noise, whatever its batch.

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..core.checks import check_images
from ..core.kernels import gaussian_weights
from ..core.rng import generator

__all__ = ["KINDS", "corrupted"]


def _noise(x, amount, g):
    "Normal noise"
    return x + amount * torch.randn(x.shape, generator=g)


def _salt(x, amount, g):
    "Pixels that are black or white"
    luck = torch.rand(x[:1].shape, generator=g)
    return torch.where(luck < amount / 2, 0.0, torch.where(luck > 1 - amount / 2, 1.0, x))


def _blur(x, amount, g):
    "A Gaussian's mean; the border is repeated"
    sigma = amount * min(x.shape[1:])
    k = gaussian_weights(sigma, x)
    r = len(k) // 2
    v = F.pad(x[:, None], (r, r, r, r), mode="replicate")
    return F.conv2d(F.conv2d(v, k.view(1, 1, 1, -1)), k.view(1, 1, -1, 1))[:, 0]


def _fog(x, amount, g):
    "White clouds: noise of four scales, brightest where it is thickest"
    h, w = x.shape[1:]
    cloud = torch.zeros(1, 1, h, w)
    for k in (1, 2, 4, 8):
        coarse = torch.rand(1, 1, k + 1, k + 1, generator=g)
        cloud += F.interpolate(coarse, (h, w), mode="bilinear", align_corners=True) / k
    thick = amount * (0.6 + 0.4 * cloud[0] / cloud.max())
    return x * (1 - thick) + thick


def _brightness(x, amount, g):
    "All pixels brighter by as much"
    return x + amount


def _contrast(x, amount, g):
    "Pulled towards the mean of the image"
    return x.mean() + (1 - amount) * (x - x.mean())


def _pixelate(x, amount, g):
    "Blocks of one colour, laid over the image; beyond 1 the blocks are larger"
    h, w = x.shape[1:]
    side = round(max(2, min(h, w) // 16) * max(1.0, amount))
    coarse = F.adaptive_avg_pool2d(x[None], (-(-h // side), -(-w // side)))
    blocks = F.interpolate(coarse, (h, w), mode="nearest")[0]
    return x + min(amount, 1.0) * (blocks - x)


def _jpeg(x, amount, g):
    "Saved by Pillow at the quality 100 (1 - amount), channel by channel where there are not three"
    quality = max(1, round(100 * (1 - amount)))
    pixels = (x.clamp(0, 1) * 255).round().byte().numpy()
    planes = [pixels.transpose(1, 2, 0)] if len(pixels) == 3 else list(pixels)
    out = []
    for plane in planes:
        file = io.BytesIO()
        Image.fromarray(plane).save(file, "JPEG", quality=quality)
        out.append(np.array(Image.open(file)))
    again = out[0].transpose(2, 0, 1) if len(pixels) == 3 else np.stack(out)
    return torch.from_numpy(again).to(x) / 255


# kind -> (what it does, how much of it at severities 1 to 5)
KINDS: dict[str, tuple[Callable, tuple]] = {
    "noise": (_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "salt": (_salt, (0.02, 0.05, 0.09, 0.15, 0.25)),
    "blur": (_blur, (0.02, 0.035, 0.05, 0.07, 0.1)),
    "fog": (_fog, (0.15, 0.25, 0.35, 0.45, 0.6)),
    "brightness": (_brightness, (0.05, 0.1, 0.16, 0.23, 0.3)),
    "contrast": (_contrast, (0.25, 0.4, 0.55, 0.68, 0.8)),
    "pixelate": (_pixelate, (0.35, 0.6, 0.8, 1.0, 2.0)),
    "jpeg": (_jpeg, (0.5, 0.65, 0.78, 0.86, 0.93)),
}


def corrupted(
    x: Tensor,  # (b,ch,h,w) pixels in [0,1]
    kind: str,  # one of `KINDS`
    severity: int = 3,  # 1 to 5
    seed: int = 0,  # of all that is drawn
    first: int = 0,  # the number of the first image: its noise depends on its number, not the batch
) -> Tensor:  # (b,ch,h,w) pixels in [0,1]
    """Images as a bad camera gives them: ours, not CIFAR-10-C (after Hendrycks & Dietterich 2019).

    ValueError for an unknown kind, a severity that is not 1 to 5, or what are no images

    Parameters
    ----------
    x : Tensor
        (b,ch,h,w) pixels in [0,1]
    kind : str
        one of `KINDS`
    severity : int
        1 to 5 (default: 3)
    seed : int
        of all that is drawn (default: 0)
    first : int
        the number of the first image: its noise depends on its number, not the batch (default: 0)

    Returns
    -------
    Tensor
        (b,ch,h,w) pixels in [0,1]

    Raises
    ------
    ValueError
        for an unknown kind, a severity that is not 1 to 5, or what are no images

    Examples
    --------
    >>> import torch
    >>> from spat_nb import corrupted
    >>> x = torch.rand(4, 3, 32, 32)
    >>> torch.equal(corrupted(x, "noise")[2:], corrupted(x[2:], "noise", first=2))
    True
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; the kinds are {', '.join(KINDS)}.")
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity is {severity!r}; give 1, 2, 3, 4 or 5.")
    if check_images(x).ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; give images (b,ch,h,w).")
    change, amounts = KINDS[kind]
    number = list(KINDS).index(kind)
    out = []
    for i, image in enumerate(x.detach().float().cpu(), first):
        g = generator((seed * 100 + number) * 10_000_000 + i)
        out.append(change(image, amounts[severity - 1], g).clamp(0, 1))
    return torch.stack(out).to(x) if out else x.clone()
