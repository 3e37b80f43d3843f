"""The plane of the loss, drawn"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from spat_nb.core.plot import PALETTE, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


INK = "#222222"


class Landscape:
    "The plane of the loss as a panel: heights, the ball, the path; a `Board` fills in the rest"

    fig: Figure
    n: int  # classes that are shown
    moving: list  # artists that a scene changes, in the order they are drawn
    lines: list  # contours of the scene that is shown

    def _axes(self, ax, x, y, **kw):
        "Small print, few ticks, labels that stay where they are"
        ax.tick_params(labelsize=8)
        ax.set_axisbelow(True)
        for axis, label, at in ((ax.xaxis, x, (0.5, -0.13)), (ax.yaxis, y, (-0.14, 0.5))):
            axis.set_label_text(label, fontsize=9)
            axis.set_label_coords(*at)
        ax.legend(
            fontsize=8,
            frameon=False,
            **{"loc": "lower right", "ncols": 2, "bbox_to_anchor": (1.02, 0.97), **kw},
        )

    def _land(self, ax):
        from matplotlib.colors import PowerNorm

        self.ground = ax.imshow(
            [[0.0]],
            cmap="Blues",
            norm=PowerNorm(0.5, 0, 1),
            origin="lower",
            interpolation="bilinear",
            aspect="equal",
        )

        def mark(label, **kw):
            return ax.plot([], [], ls="", mec="white", mew=0.8, zorder=5, label=label, **kw)[0]

        (self.way,) = ax.plot([], [], ".-", color=PALETTE[1], lw=1.5, ms=5)
        self.ends = (
            mark("clean", marker="o", color="black", ms=8),
            mark("attacked", marker="*", color=PALETTE[1], ms=14),
            mark("another attack", marker="D", color=PALETTE[2], ms=7),
        )
        for ls, label in (("-", "edge of the ball"), ("--", "right or wrong")):
            ax.plot([], [], ls, color=INK, lw=1.2, label=label)
        self.labels = [
            ax.text(
                0,
                0,
                "",
                ha="center",
                va="center",
                fontsize=13,
                weight="bold",
                color=INK,
                alpha=0.7,
                clip_on=True,
            )
            for _ in range(self.n)
        ]
        ax.locator_params("both", nbins=5)
        self._axes(
            ax,
            "along the attack (Euclidean, pixel units)",
            "across it",
            loc="lower center",
            ncols=3,
            bbox_to_anchor=(0.45, 1.0),
            handletextpad=0.4,
            columnspacing=1.2,
        )
        ax.xaxis.set_label_coords(0.5, -0.09)
        self.scale = self.fig.add_axes((0.645, 0.075, 0.34, 0.018), yticks=[])
        self.scale.tick_params(labelsize=8)
        self.strip = self.scale.imshow([[0.0]], cmap="Blues", norm=self.ground.norm, aspect="auto")
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
        self.scale.set(xlim=(lo, hi), xlabel=f"loss ({s.attack.loss.__name__})")
        drawn = [
            (a, level, kw)
            for a, level, kw in (
                (lead, 0.0, dict(linestyles="--", linewidths=1.4)),
                (norms, s.attack.ball.eps, dict(linewidths=1.0)),
            )
            if a.min() < level < a.max()
        ]
        self.lines = [
            self.land.contour(u, v, a, [level], colors=INK, **kw) for a, level, kw in drawn
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


def _middle(region):
    "The place of a region (g,g) that is left longest when the region is eaten from its edge"
    r = last = region
    while r.any():
        last, r = r, torch.nn.functional.avg_pool2d(r[None].float(), 3, 1, 1)[0] > 0.99
    at = last.nonzero().float()
    return at[(at - at.mean(0)).norm(dim=1).argmin()].long().tolist()
