"""The board shown and drawn"""

from __future__ import annotations

from spat_nb.core.plot import PALETTE, plain
from spat_nb.studies.htmltable import Table


def show(
    board,  # what `leaderboard` gave
) -> Table:
    """The leaderboard in percent, mean ± half of the 95% interval over seeds (fewer than three: the
    ends of the one over images); ⚑ where a trust card has raised a flag

    Parameters
    ----------
    board
        what `leaderboard` gave

    Returns
    -------
    Table
    """
    import pandas as pd

    ks = [k for k in board if f"{k}_n" in board]

    def cell(r, k):
        return (
            ""
            if r[k] != r[k]
            else (
                f"{100 * r[k]:.1f} ± {50 * (r[k + '_hi'] - r[k + '_lo']):.1f}"
                if r.over == "seeds"
                else f"{100 * r[k]:.1f} [{100 * r[k + '_lo']:.0f}, {100 * r[k + '_hi']:.0f}]"
            )
        )

    cols: dict = {}  # column -> (texts, what they are sorted by)
    if len(board):
        cols["#"] = [range(1, len(board) + 1)] * 2
    cols["method"] = [[f"{r.arm}{' ⚑' * bool(r.flagged)}" for r in board.itertuples()]] * 2
    if len(board) and board["size"].nunique() > 1:
        cols["size"] = [list(board["size"])] * 2
    for k in ks:
        cols[k] = [cell(r, k) for _, r in board.iterrows()], board[k]
    if len(board):
        cols |= {
            "weakest class": (
                [f"{r.weakest_class}: {100 * r.weakest:.0f}" for r in board.itertuples()],
                board.weakest,
            ),
            "seeds": [board.seeds] * 2,
            "n clean, aa": (
                ([f"{r.clean_n}, {r.aa_n}" for r in board.itertuples()], board.aa_n)
                if "aa_n" in board
                else [board.seeds] * 2
            ),
            "minutes": (board.minutes.map("{:.1f}".format), board.minutes),
            "parameters": (board.parameters.map("{:,}".format), board.parameters),
            "flags": (
                [
                    f"{r.flags} ({r.flagged} of {r.seeds})" if r.flagged else ""
                    for r in board.itertuples()
                ],
                board.flagged,
            ),
        }

    def frame(j):
        return pd.DataFrame({k: list(v[j]) for k, v in cols.items()})

    first = ["method", "#", *[k for k in cols if k not in ("method", "#")]]
    return Table(frame(0)[first], frame(1)[first]) if len(board) else Table(frame(0))


def front(
    x,  # values, larger is better
    y,  # as many, likewise
) -> list:  # of bool
    """Which points are on the Pareto front: none is at least as good in both and better in one

    Parameters
    ----------
    x
        values, larger is better
    y
        as many, likewise

    Returns
    -------
    list
        of bool
    """
    p = list(zip(x, y))
    return [not any(c >= a and d >= b and (c, d) != (a, b) for c, d in p) for a, b in p]


def _number(ax, at, wide=14, high=9):
    """The number of each row beside its point, the first ones first; none where it would cover a
    point or another number
    """
    # now the axes know their size
    ax.figure.draw_without_rendering()
    spots = {i: ax.transData.transform(p) for i, p in at.items()}
    taken = [*spots.values()]
    for i, (u, v) in spots.items():
        free = [
            (dx, dy)
            for dx, dy in ((15, 9), (15, -9), (-15, 9), (-15, -9))
            if all(abs(u + dx - s) > wide or abs(v + dy - t) > high for s, t in taken)
        ]
        if not free:
            continue
        taken.append((u + free[0][0], v + free[0][1]))
        ax.annotate(
            str(i + 1),
            at[i],
            (free[0][0] * 72 / ax.figure.dpi, free[0][1] * 72 / ax.figure.dpi),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
        )


def plot(
    board,  # what `leaderboard` gave, not empty
    attack: str = "aa",  # what stands on the axis of robustness
    ax=None,  # default: new axes
    near: bool = False,  # look at the front from near: what lies far below it is out of the picture
):  # the axes
    """Clean against robust accuracy with intervals; numbers are the table's rows, where there is
    room for them; hollow: a trust card has raised a flag; the line is the front of the rows
    without one

    Parameters
    ----------
    board
        what `leaderboard` gave, not empty
    attack : str
        what stands on the axis of robustness (default: "aa")
    ax
        default: new axes
    near : bool
        look at the front from near: what lies far below it is out of the picture (default: False)

    Returns
    -------
    the axes
    """
    import matplotlib.pyplot as plt

    ax = ax or plt.subplots(figsize=(7, 4.6), layout="constrained")[1]

    def err(r, k):
        return [[100 * (r[k] - r[k + "_lo"])], [100 * (r[k + "_hi"] - r[k])]]

    for _i, r in board.iterrows():
        at, colour = (100 * r.clean, 100 * r[attack]), PALETTE[0 if not r.flagged else 1]
        ax.errorbar(
            *at,
            xerr=err(r, "clean"),
            yerr=err(r, attack),
            fmt="o" if not r.flagged else "s",
            color=colour,
            mfc="white" if r.flagged else colour,
            ms=6,
            lw=0.7,
            alpha=0.85,
            elinewidth=0.6,
        )
    good = board[board.flagged == 0]
    edge = good[front(good.clean, good[attack])].sort_values("clean")
    ax.plot(
        100 * edge.clean,
        100 * edge[attack],
        "--",
        color=PALETTE[2],
        lw=1.2,
        zorder=0,
        label="Pareto front",
    )
    if near:
        ax.set(
            **{
                f"{a}lim": (100 * v.min() - room, 100 * v.max() + room)
                for a, v, room in (("x", edge.clean, 1.0), ("y", edge[attack], 5.0))
            }
        )
    _number(
        ax,
        {
            i: (100 * board.clean[i], 100 * board[attack][i])
            for i in [*edge.index, *board.index.difference(edge.index)]
        },
    )
    ax.set(
        xlabel=f"clean accuracy, % of n = {_counted(board.clean_n)} test images",
        ylabel=f"accuracy under {plain(attack)}, % of n = {_counted(board[f'{attack}_n'])}",
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax


def _counted(n):
    "How many images the rows were judged on, in words"
    return f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
