"""Axes, colours and charts with fixed scales, units and intervals, which read the same in grey"""

from __future__ import annotations

import io

import torch


def _numbers(v):
    return (
        torch.as_tensor(v.tolist() if hasattr(v, "tolist") else v, dtype=torch.float64)
        .detach()
        .cpu()
        .numpy()
    )


def plain(
    name,  # of a class, an attack, a row: whatever somebody chose
    width: int = 40,  # characters at most
) -> str:
    """A name as matplotlib shall print it: `$` begins no formula, a leading `_` does not hide it
    from a legend, and it is not longer than the picture

    Parameters
    ----------
    name
        of a class, an attack, a row: whatever somebody chose
    width : int
        characters at most (default: 40)

    Returns
    -------
    str
    """
    text = " ".join(str(name).split())
    text = text if len(text) <= width else text[: width - 1] + "…"
    return " " * text.startswith("_") + text.replace("$", r"\$")


def new_axes(
    ax,  # axes of matplotlib, or None for new ones
    size,  # (width, height) of the figure in inches
    rows=None,  # of axes; None: one alone
    cols=None,  # of axes
):
    """`ax`, or new axes: one, or an array (rows,cols)

    Parameters
    ----------
    ax
        axes of matplotlib, or None for new ones
    size
        (width, height) of the figure in inches
    rows
        of axes; None: one alone (default: None)
    cols
        of axes (default: None)
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    new = plt.subplots(
        rows or 1, cols or 1, figsize=size, dpi=100, layout="constrained", squeeze=False
    )[1]
    return new if rows else new[0, 0]


# Okabe & Ito 2008 without the yellow
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")

DASHES = ("-", "--", ":", "-.")


def style(
    k: int,  # number of the curve, from 0
) -> dict:  # for matplotlib's `plot`
    """Colour and dash of curve `k`; 28 differ

    Parameters
    ----------
    k : int
        number of the curve, from 0

    Returns
    -------
    dict
        for matplotlib's `plot`
    """
    return dict(color=PALETTE[k % len(PALETTE)], linestyle=DASHES[k % len(DASHES)])


def curves(
    series: dict,  # name to values, or to a tuple (x, y) or (x, y, lo, hi)
    xlabel: str,  # what runs to the right, with its unit
    ylabel: str,  # what runs upwards, with its unit
    ax=None,  # default: new axes
    **axis,  # more for `ax.set`: title, ylim, xscale, ...
):  # the axes
    """Curves in colours and dashes that differ, with a legend.

    ValueError where a series has not as many x as y

    Parameters
    ----------
    series : dict
        name to values, or to a tuple (x, y) or (x, y, lo, hi)
    xlabel : str
        what runs to the right, with its unit
    ylabel : str
        what runs upwards, with its unit
    ax
        default: new axes
    **axis
        more for `ax.set`: title, ylim, xscale, ...

    Returns
    -------
    the axes

    Raises
    ------
    ValueError
        where a series has not as many x as y
    """
    ax = new_axes(ax, (5, 3.2))
    for k, (name, v) in enumerate(series.items()):
        x, y, *band = map(_numbers, v if isinstance(v, tuple) else (range(len(v)), v))
        if len({len(s) for s in (x, y, *band)}) > 1:
            raise ValueError(
                f"the series {name!r} has {len(x)} x but {len(y)} y; give as many of each."
            )
        ax.plot(
            x, y, label=plain(name), marker="o" if len(x) <= 20 else None, markersize=3, **style(k)
        )
        if band:
            ax.fill_between(x, *band, color=style(k)["color"], alpha=0.2, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, **axis)
    ax.grid(alpha=0.3)
    if series:
        ax.legend(fontsize=8)
    return ax


def class_bars(
    names,  # c class names
    values,  # (c,) one value per class
    lo=None,  # (c,) lower ends of the intervals
    hi=None,  # (c,) upper ends
    xlabel="accuracy",  # what the values are, with its unit
    ax=None,  # default: new axes
    **axis,  # more for `ax.set`
):  # the axes
    """One bar per class, the lowest on top and marked, with intervals.

    ValueError where numbers and names do not match or a value lies outside its interval

    Parameters
    ----------
    names
        c class names
    values
        (c,) one value per class
    lo
        (c,) lower ends of the intervals (default: None)
    hi
        (c,) upper ends (default: None)
    xlabel
        what the values are, with its unit (default: "accuracy")
    ax
        default: new axes
    **axis
        more for `ax.set`

    Returns
    -------
    the axes

    Raises
    ------
    ValueError
        where numbers and names do not match or a value lies outside its interval
    """
    v = _numbers(values)
    lo, hi = (v if e is None else _numbers(e) for e in (lo, hi))
    if not len(names) == len(v) == len(lo) == len(hi):
        raise ValueError(
            f"{len(names)} names, {len(v)} values, {len(lo)} and {len(hi)} interval ends; give one"
            " of each per class."
        )
    if (lo > v + 1e-9).any() or (hi < v - 1e-9).any():
        raise ValueError(
            "a value lies outside its interval; lo and hi are the interval's ends, not its lengths."
        )
    o = v.argsort(kind="stable")
    ax = new_axes(ax, (5, 0.6 + 0.26 * len(v)))
    ax.barh(
        range(len(o)),
        v[o],
        xerr=[(v - lo)[o].clip(0), (hi - v)[o].clip(0)] if (hi > lo).any() else None,
        capsize=2,
        color=[PALETTE[1]] * (v == v.min()).sum() + [PALETTE[0]] * (v > v.min()).sum(),
        error_kw=dict(elinewidth=1),
    )
    ax.set_yticks(range(len(o)), [plain(names[i]) for i in o])
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, **axis)
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    return ax


def confusion(
    matrix,  # (c,c) counts or shares: row is the true class, column what the network said
    classes,  # c class names
    ax=None,  # default: new axes
    labels=("true class", "predicted class"),  # of rows and columns
):  # the axes
    """Each class's row in percent of its images; a class without images stays 0.

    Parameters
    ----------
    matrix
        (c,c) counts or shares: row is the true class, column what the network said
    classes
        c class names
    ax
        default: new axes
    labels
        of rows and columns (default: ("true class", "predicted class"))

    Returns
    -------
    the axes

    Raises
    ------
    ValueError
        where the matrix does not fit the names
    """
    m = _numbers(matrix)
    c = len(classes)
    if m.shape != (c, c):
        raise ValueError(
            f"the matrix has shape {m.shape} but there are {c} classes; give ({c},{c})."
        )
    m = 100 * m / m.sum(1, keepdims=True).clip(1e-12)
    ax = new_axes(ax, (1.6 + 0.36 * c, 1.2 + 0.36 * c))
    shown = ax.imshow(m, cmap="Blues", vmin=0, vmax=100)
    for i, j in zip(*m.nonzero()) if c <= 20 else ():
        ax.text(
            j,
            i,
            f"{m[i, j]:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if m[i, j] > 50 else "black",
        )
    names = [plain(k) for k in classes]
    ax.set_xticks(range(c), names, rotation=90)
    ax.set_yticks(range(c), names)
    ax.set(ylabel=labels[0], xlabel=labels[1])
    ax.figure.colorbar(shown, ax=ax, label="% of the row", fraction=0.046)
    return ax


def png(
    ax,  # axes, or an array of axes, of one figure
    dpi: int = 100,  # dots per inch
) -> bytes:  # a PNG file
    """The figure of `ax` as PNG; closes the figure

    Parameters
    ----------
    ax
        axes, or an array of axes, of one figure
    dpi : int
        dots per inch (default: 100)

    Returns
    -------
    bytes
        a PNG file
    """
    import matplotlib.pyplot as plt

    fig = getattr(ax, "flat", [ax])[0].figure
    out = io.BytesIO()
    fig.savefig(out, dpi=dpi, format="png", metadata={"Software": None})  # no version in it
    plt.close(fig)
    return out.getvalue()
