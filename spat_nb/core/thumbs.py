"""Images within a page: small PNGs, the same bytes every time"""

from __future__ import annotations

import io
from base64 import b64encode

import torch
from torch import Tensor

from .pictures import largest_change

__all__ = ["thumb", "change_thumb"]

MOST = 160  # pixels: what is larger is made smaller
BRIGHTER = (0.70, 0.09, 0.17)  # colour of the largest change upwards
DARKER = (0.13, 0.40, 0.67)  # and downwards


def thumb(
    x: Tensor,  # (ch,h,w) pixels in [0,1], 1 or 3 channels
) -> str:  # PNG, base64
    """An image, pixel for pixel; made smaller where it is larger than 160 pixels

    Parameters
    ----------
    x : Tensor
        (ch,h,w) pixels in [0,1], 1 or 3 channels

    Returns
    -------
    str
        PNG, base64
    """
    return _png(x.detach().cpu().float().expand(3, -1, -1))


def change_thumb(
    d: Tensor,  # (ch,h,w) change of every pixel
    limit: float,  # change that gets the full colour
) -> str:  # PNG, base64
    """What was changed: red is brighter, blue is darker, white is as it was

    Parameters
    ----------
    d : Tensor
        (ch,h,w) change of every pixel
    limit : float
        change that gets the full colour

    Returns
    -------
    str
        PNG, base64
    """
    change = (largest_change(d.detach().cpu().float()[None])[0] / max(limit, 1e-12)).clamp(-1, 1)
    colour = torch.where(
        change[None] > 0,
        torch.tensor(BRIGHTER)[:, None, None],
        torch.tensor(DARKER)[:, None, None],
    )
    return _png(1 - change.abs() * (1 - colour))


def _png(x):
    "(3,h,w) in [0,1] as a PNG without date or maker"
    from PIL import Image

    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    image = Image.fromarray(pixels.numpy())
    if max(image.size) > MOST:
        image.thumbnail((MOST, MOST), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, format="PNG")
    return b64encode(out.getvalue()).decode()
