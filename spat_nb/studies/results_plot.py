"""The figure of a study: every run a dot, every row its mean with an interval"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt

from ..core.plot import PALETTE, plain
from ..measure.means import mean_interval

__all__ = ["plot_arms"]


def plot_arms(
    frame,  # of one size, as `Results.frame` gives it
    arms,  # rows from top to bottom
    attacks=("clean", "pgd20", "aa"),  # a colour each
    ax=None,  # default: new axes
):  # the axes
    "Every run a dot, every arm's mean with Student's 95% interval"
    if ax is None:
        ax = plt.subplots(figsize=(7, 0.8 + 0.42 * len(arms)), layout="constrained")[1]
    for k, attack in enumerate(attacks):
        named = False
        for i, arm in enumerate(arms):
            values = list(100 * frame[(frame.arm == arm) & (frame.attack == attack)].accuracy)
            if not values:
                continue
            at = i + (k - (len(attacks) - 1) / 2) * 0.22
            mean, half = mean_interval(values)
            ax.plot(values, [at] * len(values), ".", color=PALETTE[k], alpha=0.35, ms=6)
            ax.errorbar(
                mean,
                at,
                xerr=None if math.isnan(half) else half,
                fmt="osD^v"[k % 5],
                color=PALETTE[k],
                ms=5,
                capsize=2,
                lw=1,
                label=None if named else plain(attack),
            )
            named = True
    ax.set_yticks(range(len(arms)), [plain(a) for a in arms])
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    size = frame["size"].iloc[0]
    ax.set(
        xlabel=f"accuracy, % of test images ({size}); dots: seeds, bars: 95% intervals of the mean"
    )
    ax.legend(fontsize=8)
    return ax
