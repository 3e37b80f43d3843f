"""The path of an attack on one image, and a plane to look at it"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from spat_nb.attacks.attack import Attack
from spat_nb.core.rng import generator, randn_like


def recorded_path(
    model: Callable,  # pixels to logits
    x: Tensor,  # (1,ch,h,w) one image, pixels in [0,1]
    y: Tensor,  # (1,) its label
    attack: Attack,  # one run: restarts=1
    # attacked image (1,ch,h,w); then of all K+1 points: images (K+1,ch,h,w), losses (K+1,), fooled?
    # (K+1,)
) -> tuple:
    """Attack one image and keep every point of the way.

    Parameters
    ----------
    model : Callable
        pixels to logits
    x : Tensor
        (1,ch,h,w) one image, pixels in [0,1]
    y : Tensor
        (1,) its label
    attack : Attack
        one run: restarts=1

    Returns
    -------
    tuple
        attacked image (1,ch,h,w); then of all K+1 points: images (K+1,ch,h,w), losses (K+1,),
        fooled? (K+1,)

    Raises
    ------
    ValueError
        for several images or restarts
    """
    if len(x) != 1:
        raise ValueError(f"there are {len(x)} images; a scene shows one, x[:1].")
    if attack.restarts != 1:
        raise ValueError(
            f"restarts is {attack.restarts}; a scene shows one run, use replace(attack,"
            " restarts=1)."
        )
    seen = []
    x_adv = replace(attack, recorder=lambda s: seen.append((s.x, s.val, s.won)))(model, x, y)
    return x_adv, *map(torch.cat, zip(*seen))


def axes(
    *ds: Tensor,  # displacements, of one shape with n >= 2 pixels
) -> Tensor:  # (2,n) orthonormal rows
    """Axes of the plane through the first two directions that differ, random ones where they do not
    (Gram-Schmidt)

    Parameters
    ----------
    *ds : Tensor
        displacements, of one shape with n >= 2 pixels

    Returns
    -------
    Tensor
        (2,n) orthonormal rows
    """
    es: list[Tensor] = []
    g = generator(0)
    for d in (*ds, *(randn_like(ds[0].cpu(), g).to(ds[0]) for _ in range(2))):
        r, size = d.flatten(), d.norm()
        # twice: the first leaves rounding behind
        for _ in range(2):
            r = r - sum((r @ e) * e for e in es)
        if len(es) < 2 and r.norm() > 1e-3 * size > 0:
            es.append(r / r.norm())
    return torch.stack(es)


def window(
    pts: Tensor,  # (k,2) points that must be seen
    least: float,  # half a side has at least this length
    grid: int = 25,  # points per side
) -> tuple:  # coordinates to the right (grid,), upwards (grid,)
    """A square around the points, with a margin

    Parameters
    ----------
    pts : Tensor
        (k,2) points that must be seen
    least : float
        half a side has at least this length
    grid : int
        points per side (default: 25)

    Returns
    -------
    tuple
        coordinates to the right (grid,), upwards (grid,)
    """
    lo, hi = pts.amin(0), pts.amax(0)
    half = max(0.68 * (hi - lo).max().item(), least)
    return tuple(
        torch.linspace(m - half, m + half, grid, device=pts.device)
        for m in ((lo + hi) / 2).tolist()
    )
