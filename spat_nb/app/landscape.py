"""The plane of the loss, drawn"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from spat_nb.app.theme import Theme
from spat_nb.core.plot import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# what a loss is measured in; a word of its name decides
UNITS = {"margin": "difference of logits", "dlr": "a ratio, no unit", "pull": "squared distance"}


def unit_of(
    loss: str,  # name of a loss
) -> str:
    """What a loss is measured in: cross-entropies in nats

    Parameters
    ----------
    loss : str
        name of a loss

    Returns
    -------
    str
    """
    if loss.startswith("margin_ce"):
        return "nats"
    known = [unit for word, unit in UNITS.items() if loss.startswith(word)]
    return known[0] if known else "nats" if "ce" in loss else "its own unit"


class Landscape:
    "The plane of the loss as a panel: heights, the ball, the path; a `Board` fills in the rest"

    fig: Figure
    theme: Theme
    n: int  # classes that are shown
    moving: list  # artists that a scene changes, in the order they are drawn
    lines: list  # contours of the scene that is shown

    def _axes(self, ax, x, y, **kw):
        "Small print, few ticks, labels that stay where they are"
        ink = self.theme.ink
        ax.tick_params(labelsize=8, colors=ink)
        ax.set_facecolor("none")
        ax.spines[:].set_color(ink)
        ax.set_axisbelow(True)
        for axis, label, at in ((ax.xaxis, x, (0.5, -0.13)), (ax.yaxis, y, (-0.14, 0.5))):
            axis.set_label_text(label, fontsize=9, color=ink)
            axis.set_label_coords(*at)
        ax.legend(
            fontsize=8,
            frameon=False,
            labelcolor=ink,
            **{"loc": "lower right", "ncols": 2, "bbox_to_anchor": (1.02, 0.97), **kw},
        )

    def _title(self, ax, text, height):
        "A title above the legend"
        kw = dict(ha="center", va="bottom", fontsize=11, weight="bold", color=self.theme.ink)
        ax.text(0.5, height, text, transform=ax.transAxes, **kw)

    def _land(self, ax):
        from matplotlib.colors import PowerNorm

        look = self.theme
        colours = look.colour_map
        self.ground = ax.imshow(
            [[0.0]],
            cmap=colours,
            norm=PowerNorm(0.5, 0, 1),
            origin="lower",
            interpolation="bilinear",
            aspect="equal",
        )

        def mark(label, **kw):
            return ax.plot([], [], ls="", mec=look.edge, mew=0.8, zorder=5, label=label, **kw)[0]

        (self.way,) = ax.plot([], [], ".-", color=look.attacked, lw=1.5, ms=5)
        self.ends = (
            mark("clean", marker="o", color=look.ink, ms=8),
            mark("attacked", marker="*", color=look.attacked, ms=14),
            mark("another attack", marker="D", color=look.rival, ms=7),
        )
        for ls, label in (("-", "edge of the ball"), ("--", "right or wrong")):
            ax.plot([], [], ls, color=look.ink, lw=1.2, label=label)
        self.labels = [
            ax.text(
                0,
                0,
                "",
                ha="center",
                va="center",
                fontsize=13,
                weight="bold",
                color=look.ink,
                alpha=0.7,
                clip_on=True,
            )
            for _ in range(self.n)
        ]
        ax.locator_params("both", nbins=5)
        self._axes(
            ax,
            "along the attack (Euclidean, pixel units)",
            "across it (Euclidean, pixel units)",
            loc="lower center",
            ncols=3,
            bbox_to_anchor=(0.45, 1.0),
            handletextpad=0.4,
            columnspacing=1.2,
        )
        ax.xaxis.set_label_coords(0.5, -0.09)
        ax.yaxis.set_label_coords(-0.1, 0.5)
        self._title(ax, "The loss around the image", 1.17)
        box = ax.get_position()
        self.scale = self.fig.add_axes((box.x0, 0.115, box.width, 0.018), yticks=[])
        self.scale.tick_params(labelsize=8, colors=look.ink)
        self.scale.spines[:].set_color(look.ink)
        self.strip = self.scale.imshow([[0.0]], cmap=colours, norm=self.ground.norm, aspect="auto")
        self.land = ax
        self.moving += [
            self.ground,
            ax.xaxis,
            ax.yaxis,
            *ax.spines.values(),
            self.strip,
            self.scale.xaxis,
            self.way,
            *self.ends,
            *self.labels,
        ]

    def _show_land(self, s):
        for c in self.lines:
            c.remove()
        u, v, z, lead, norms = (t.cpu().numpy() for t in (s.u, s.v, s.values, s.lead, s.norms))
        lo, hi = float(z.min()), max(float(z.max()), float(z.min()) + 1e-6)
        self.ground.set_data(z)
        self.ground.set_extent((u[0], u[-1], v[0], v[-1]))
        # cross-entropy is flat below and steep above
        self.ground.norm.gamma = 0.5 if lo >= 0 else 1.0
        # never so dark that lines drown
        self.ground.set_clim(lo, lo + 1.7 * (hi - lo))
        self.strip.set_data(torch.linspace(lo, hi, 200)[None].numpy())
        self.strip.set_extent((lo, hi, 0, 1))
        digits = min(6, max(0, 1 - math.floor(math.log10(hi - lo))))
        self.scale.set_xticks(
            ticks := [lo + q * (hi - lo) for q in (0, 0.25, 0.5, 0.75, 1)],
            [f"{t:.{digits}f}" for t in ticks],
        )
        self.scale.set_xlim(lo, hi)
        self.scale.set_xlabel(loss_label(s), fontsize=9, color=self.theme.ink)
        drawn = [
            (a, level, kw)
            for a, level, kw in (
                (lead, 0.0, dict(linestyles="--", linewidths=1.4)),
                (norms, s.attack.ball.eps, dict(linewidths=1.0)),
            )
            if a.min() < level < a.max()
        ]
        self.lines = [
            self.land.contour(u, v, a, [level], colors=self.theme.ink, **kw)
            for a, level, kw in drawn
        ]
        for c in self.lines:
            c.set_animated(True)
        self.way.set_data(*torch.cat([s.track[:1], s.track]).cpu().numpy().T)
        for mark, at in zip(
            self.ends,
            (torch.zeros(2), (s.x_adv - s.x).flatten().cpu() @ s.e.cpu().T, s.rival.cpu()),
        ):
            mark.set_data(*at[:, None].numpy())
        said = s.said.cpu()
        n = said.flatten().bincount(minlength=len(s.classes))
        for t, k in zip(self.labels, n.argsort(descending=True).tolist()):
            t.set_text(plain(s.classes[k], 16) if n[k] > 0.03 * said.numel() else "")
            if t.get_text():
                i, j = _middle(said == k)
                t.set_position((u[j], v[i]))
        self.land.set(xlim=(u[0], u[-1]), ylim=(v[0], v[-1]))


def loss_label(s) -> str:
    "The loss of a scene and its unit, for an axis"
    name = s.attack.loss.__name__
    return f"loss {plain(name, 22)} ({unit_of(name)})"


def _middle(region):
    "The place of a region (g,g) that is left longest when the region is eaten from its edge"
    r = last = region
    while r.any():
        last, r = r, torch.nn.functional.avg_pool2d(r[None].float(), 3, 1, 1)[0] > 0.99
    at = last.nonzero().float()
    return at[(at - at.mean(0)).norm(dim=1).argmin()].long().tolist()
