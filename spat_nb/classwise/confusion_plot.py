"""Who attacks whom, as a heat map and as a graph on a circle"""

from __future__ import annotations

import math

from torch import Tensor

from .confusion import attackers, neighbours, shares

__all__ = ["heat", "graph"]


def heat(
    C: Tensor,  # (K,K) counts; row: label, column: answer
    classes,  # K names
    ax=None,  # default: new axes
):  # the axes
    """Who is taken for whom, in percent of the row's class; classes that are often confused stand
    together
    """
    from spat_nb.core.plot import new_axes, plain

    o, K = neighbours(C), len(C)
    S = (100 * shares(C)[o][:, o]).fill_diagonal_(math.nan)
    side = 0.42 * K if K <= 20 else max(6.0, 0.093 * K)
    ax = new_axes(ax, (side + 1.9, side + 1.1))
    ax.set_facecolor("#cccccc")
    shown = ax.imshow(S.numpy(), cmap="Blues", vmin=0, vmax=max(1.0, S.nan_to_num().max().item()))
    for i, j in (S > 0).nonzero().tolist() if K <= 20 else ():
        ax.text(
            j,
            i,
            f"{S[i, j]:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if S[i, j] > 0.6 * shown.get_clim()[1] else "black",
        )
    names, size = [plain(classes[k]) for k in o], 9 if K <= 20 else 6
    ax.set_xticks(range(K), names, rotation=90, fontsize=size)
    ax.set_yticks(range(K), names, fontsize=size)
    ax.tick_params(length=2 if K <= 20 else 0)
    ax.set(ylabel="true class", xlabel="answer")
    ax.figure.colorbar(shown, ax=ax, label="% of the true class's images", fraction=0.046)
    return ax


def graph(
    C: Tensor,  # (K,K) counts; row: label, column: answer
    classes,  # K names
    edges: int | None = None,  # arrows at most, the strongest; default: 2K, but 60 at most
    ax=None,  # default: new axes
):  # the axes
    """Who attacks whom: an arrow from each class to what it is taken for, as wide as the share; the
    colour of a class is its accuracy
    """
    from matplotlib.patches import FancyArrowPatch

    from spat_nb.core.plot import new_axes, plain

    o, K, t = neighbours(C), len(C), attackers(C, range(len(C)), edges or min(2 * len(C), 60))
    turn = {k: 2 * math.pi * i / K for i, k in enumerate(o)}
    at = {k: (math.sin(a), math.cos(a)) for k, a in turn.items()}
    ax = new_axes(ax, (5.6, 4.6) if K <= 20 else (8.2, 7))
    small = K > 20
    dots = ax.scatter(
        *zip(*at.values()),
        c=[100 * shares(C)[k, k].item() for k in at],
        cmap="cividis",
        vmin=0,
        vmax=100,
        s=30 if small else 320,
        edgecolors="k",
        linewidths=0.5,
        zorder=3,
    )

    # of many classes, neighbours get high arcs inside the circle
    def bend(i, j):
        if not small or math.dist(at[i], at[j]) > 0.6:
            return 0.18
        return 0.7 if (turn[j] - turn[i]) % (2 * math.pi) < math.pi else -1.3

    for i, j, share in zip(t["class"], t["taken for"], t.share):
        ax.add_patch(
            FancyArrowPatch(
                at[i],
                at[j],
                connectionstyle=f"arc3,rad={bend(i, j)}",
                arrowstyle="-|>",
                mutation_scale=7 if small else 12,
                shrinkA=3 if small else 9,
                shrinkB=3 if small else 10,
                lw=0.4 + (2.5 if small else 4.5) * share / t.share.max(),
                color="#D55E00",
                alpha=0.35 + 0.6 * share / t.share.max(),
                zorder=2,
            )
        )
    for k, (u, v) in at.items():
        tilt = 90 - math.degrees(turn[k])
        left = u < -1e-9
        ax.text(
            (1.04 if small else 1.13) * u,
            (1.04 if small else 1.13) * v,
            plain(classes[k], 24),
            fontsize=6 if small else 9,
            rotation_mode="anchor",
            va="center",
            **(
                dict(rotation=tilt + 180 * left, ha="right" if left else "left")
                if small
                else dict(ha="center" if abs(u) < 0.3 else "right" if left else "left")
            ),
        )
    widest = (
        f"widest arrow: {100 * t.share.max():.0f}% of its class"
        if len(t)
        else "nothing is confused"
    )
    ax.set(aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.3, 1.3))
    ax.axis("off")
    ax.text(0, -1.38, f"{len(t)} strongest confusions; {widest}", ha="center", fontsize=8)
    ax.figure.colorbar(dots, ax=ax, label="right under attack (%)", fraction=0.04)
    return ax
