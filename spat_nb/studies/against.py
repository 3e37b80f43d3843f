"""Paired differences from a base"""

from __future__ import annotations

from spat_nb.core.plot import PALETTE, plain
from spat_nb.measure.means import mean_interval
from spat_nb.measure.versus import paired
from spat_nb.studies.answers import solved
from spat_nb.studies.htmltable import Table
from spat_nb.studies.leaderboard import gather


def _apart(pairs, attack, level):
    """(difference, lowest, highest, over what) of [(result, result of the base)]; None where
    neither seeds nor answers suffice
    """
    shares = [
        a["attacks"][attack]["correct"] / a["attacks"][attack]["n"]
        - b["attacks"][attack]["correct"] / b["attacks"][attack]["n"]
        for a, b in pairs
    ]
    if len(shares) > 2:
        m, half = mean_interval(shares, level)
        return m, m - half, m + half, "seeds"
    # as many are the same ones
    both = [
        (p, q)
        for p, q in ((solved(a, attack), solved(b, attack)) for a, b in pairs)
        if p is not None and q is not None and len(p) == len(q)
    ]
    return (*paired(*both[0], level), "images") if both else None


def against(
    base: str = "PGD-AT",  # row that all others are compared with
    attack: str = "aa",  # under which attack
    data: str = "digits",  # data set
    size: str = "laptop",  # one of `SIZES`
    names=None,  # studies; default: all
    level: float = 0.95,  # with which all intervals hold together
    # pandas.DataFrame, a row per recipe with seeds or answers in common: diff, lo, hi, over
    # ('seeds' or 'images'), seeds, verdict, flags; best first
):
    """Paired differences from `base`, in the same study where it has that row, widened for the
    number of rows (Bonferroni). From three common seeds on Student's interval; below that the one
    over the images of the first seed, where the answers were kept: it holds for these two networks.
    Empty where `base` has no runs

    Parameters
    ----------
    base : str
        row that all others are compared with (default: "PGD-AT")
    attack : str
        under which attack (default: "aa")
    data : str
        data set (default: "digits")
    size : str
        one of `SIZES` (default: "laptop")
    names
        studies; default: all
    level : float
        with which all intervals hold together (default: 0.95)

    Returns
    -------
    pandas.DataFrame, a row per recipe with seeds or answers in common: diff, lo, hi, over ('seeds'
    or 'images'), seeds, verdict, flags; best first
    """
    import pandas as pd

    runs = {k: v for (_, k), v in gather(data, size, names).items()}

    # the base that ran with it
    def beside(d):
        return (B := runs[base][d["seed"]])["twins"].get(d["study"], B)

    pairs = (
        {
            k: [(d, beside(d)) for s, d in v.items() if s in runs[base]]
            for k, v in runs.items()
            if k != base
        }
        if base in runs
        else {}
    )
    able = [k for k, v in pairs.items() if _apart(v, attack, level)]
    rows = []
    for k in able:
        m, lo, hi, over = _apart(pairs[k], attack, 1 - (1 - level) / len(able))
        rows.append(
            dict(
                arm=k,
                diff=m,
                lo=lo,
                hi=hi,
                over=over,
                seeds=len(pairs[k]) if over == "seeds" else 1,
                verdict="better" if lo > 0 else "worse" if hi < 0 else "not told apart",
                flags=", ".join(sorted({f for d in runs[k].values() for f in d["trust"]["flags"]})),
            )
        )
    return (
        pd.DataFrame(rows, columns=["arm", "diff", "lo", "hi", "over", "seeds", "verdict", "flags"])
        .sort_values("diff", ascending=False, kind="stable")
        .reset_index(drop=True)
    )


def show_against(
    t,  # what `against` gave
) -> Table:
    """The differences in points, with their intervals

    Parameters
    ----------
    t
        what `against` gave

    Returns
    -------
    Table
    """
    import pandas as pd

    say = [
        f"{100 * d:+.1f} [{100 * lo:+.1f}, {100 * hi:+.1f}]"
        for d, lo, hi in zip(t["diff"], t.lo, t.hi)
    ]
    shown = pd.DataFrame(
        {
            "method": t.arm,
            "points": say,
            "over": [
                f"{n} seeds" if o == "seeds" else "images of one seed"
                for o, n in zip(t.over, t.seeds)
            ],
            "verdict": t.verdict,
            "flags": t["flags"],
        }
    )
    return Table(shown, shown.assign(points=t["diff"]))


def plot_against(
    t,  # what `against` gave, not empty
    base="PGD-AT",  # with which it was made
    attack="aa",  # likewise
    ax=None,  # default: new axes
):  # the axes
    """A bar for each difference, best on top; those that reach zero are pale, those with a flagged
    trust card hollow

    Parameters
    ----------
    t
        what `against` gave, not empty
    base
        with which it was made (default: "PGD-AT")
    attack
        likewise (default: "aa")
    ax
        default: new axes

    Returns
    -------
    the axes
    """
    import matplotlib.pyplot as plt

    ax = ax or plt.subplots(figsize=(6.4, 0.9 + 0.2 * len(t)), layout="constrained")[1]
    for i, r in t.iterrows():
        colour = PALETTE[{"better": 2, "worse": 1}.get(r.verdict, 0)]
        ax.errorbar(
            100 * r["diff"],
            i,
            xerr=[[100 * (r["diff"] - r.lo)], [100 * (r.hi - r["diff"])]],
            fmt="o",
            color=colour,
            mfc="white" if r["flags"] else colour,
            capsize=2,
            lw=1,
            alpha=0.5 if r.verdict == "not told apart" else 1,
        )
    ax.axvline(0, color="black", lw=0.8)
    ax.grid(axis="x", alpha=0.3)
    ax.set(
        yticks=range(len(t)),
        yticklabels=[plain(a) for a in t.arm],
        ylim=(len(t) - 0.4, -0.6),
        xlabel=f"accuracy under {plain(attack)} less that of {plain(base)}, points",
    )
    return ax
