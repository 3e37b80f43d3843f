"""One card from below and above: certified <= true <= attacked, for each class and in all"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..attacks.certify import certified_radius, certify
from ..attacks.minimal import fab
from ..attacks.nearest import norms
from ..attacks.threat import Ball
from .evaluate import evaluate
from .intervals import wilson
from .record import Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["gap_table", "plot_gap", "radii_table"]


def gap_table(
    record: Record,  # what attacks in a ball left standing
    certified: Tensor,  # (n,) bool of the same images, what `certify` gave for the same ball
    name: str | None = None,  # an attack of the record; default: the worst case over all
    level: float = 0.95,  # confidence of the intervals
) -> pd.DataFrame:  # a row per class and 'all': n, certified, its lo, attacked, its hi, gap
    """Between which two shares the robust accuracy lies: proved from below, attacked from above

    On these images the two columns hold without chance; `lo` and `hi` are for new images.

    Parameters
    ----------
    record : Record
        what attacks in a ball left standing
    certified : Tensor
        (n,) bool of the same images, what `certify` gave for the same ball
    name : str | None
        an attack of the record; default: the worst case over all
    level : float
        confidence of the intervals (default: 0.95)

    Returns
    -------
    pd.DataFrame
        a row per class and 'all': n, certified, its lo, attacked, its hi, gap

    Raises
    ------
    ValueError
        where a certified image was brought down: one of the two is wrong
    """
    import pandas as pd

    name = name or record.names[-1]
    certified, stands = certified.cpu(), record.correct(name).cpu()
    if certified.shape != stands.shape or certified.dtype != torch.bool:
        raise ValueError(
            f"certified has shape {tuple(certified.shape)} and dtype {certified.dtype}; give one"
            f" bool for each of the {len(stands)} images of the record."
        )
    if crossed := (certified & ~stands).nonzero()[:, 0].tolist():
        raise ValueError(
            f"{len(crossed)} certified images fell under {name}, image {crossed[0]} first: the"
            " ball, the model or the images differ, or the certificate is wrong."
        )
    rows, y = {}, record.y.cpu()
    for k, label in enumerate([*record.classes, "all"]):
        mask = y == k if k < len(record.classes) else torch.ones_like(certified)
        n, low, high = (int(m.sum()) for m in (mask, mask & certified, mask & stands))
        share = n or math.nan  # of no images there is no share
        rows[label] = {
            "n": n,
            "certified": low / share,
            "lo": wilson(low, n, level)[0],
            "attacked": high / share,
            "hi": wilson(high, n, level)[1],
            "gap": (high - low) / share,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("class")


def radii_table(
    model: nn.Module,  # pixels to logits
    x: Tensor,  # (n,ch,h,w) pixels in [0,1]
    y: Tensor,  # (n,) labels
    attack=None,  # a search for the smallest change; default: `fab` in Linf, 50 steps
    by: str = "crown",  # as in `certify`
    **kw,  # more for `certified_radius`
) -> pd.DataFrame:  # a row per image: label, certified, found
    """The largest radius that is proved beside the smallest that was found, image by image

    Parameters
    ----------
    model : nn.Module
        pixels to logits
    x : Tensor
        (n,ch,h,w) pixels in [0,1]
    y : Tensor
        (n,) labels
    attack
        a search for the smallest change; default: `fab` in Linf, 50 steps
    by : str
        as in `certify` (default: "crown")
    **kw
        more for `certified_radius`

    Returns
    -------
    pd.DataFrame
        a row per image: label, certified, found
    """
    import pandas as pd

    attack = attack or fab(steps=50)
    proved = certified_radius(model, x, y, attack.norm, by, **kw)
    found = norms(model, x, y, attack(model, x, y), attack.norm)
    columns = {"label": y.tolist(), "certified": proved.tolist(), "found": found.tolist()}
    return pd.DataFrame(columns).rename_axis("image")


def plot_gap(
    model: nn.Module,  # pixels to logits
    x: Tensor,  # (n,ch,h,w) pixels in [0,1]
    y: Tensor,  # (n,) labels
    balls: list[Ball],  # of rising radius
    make,  # ball -> attack
    by: str = "crown",  # as in `certify`
    ax=None,  # axes; default: new ones
) -> dict:  # 'certified' and 'attacked', a share for each ball
    """Over eps: the truth lies in the band between what is proved and what an attack leaves

    Parameters
    ----------
    model : nn.Module
        pixels to logits
    x : Tensor
        (n,ch,h,w) pixels in [0,1]
    y : Tensor
        (n,) labels
    balls : list[Ball]
        of rising radius
    make
        ball -> attack
    by : str
        as in `certify` (default: "crown")
    ax
        axes; default: new ones

    Returns
    -------
    dict
        'certified' and 'attacked', a share for each ball
    """
    import matplotlib.pyplot as plt

    shares: dict = {"certified": [], "attacked": []}
    for ball in balls:
        record = evaluate(model, (x, y), progress=False, attack=make(ball))
        shares["certified"].append(certify(model, x, y, ball, by).double().mean().item())
        shares["attacked"].append(record.accuracy("attack"))
    ax = ax or plt.subplots(figsize=(5, 3.4), layout="constrained")[1]
    radii = [ball.eps for ball in balls]
    ax.fill_between(radii, shares["certified"], shares["attacked"], alpha=0.2, label="unknown")
    ax.plot(radii, shares["attacked"], "o-", label="stands under attack")
    ax.plot(radii, shares["certified"], "s-", label="certified")
    ax.set(xlabel="eps", ylabel="share of images", ylim=(0, 1.02))
    ax.legend(frameon=False)
    return shares
