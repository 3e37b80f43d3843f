"""Shares with their intervals, as text and as bars of a page"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Bar", "bars_of", "interval", "percent"]

MOST = 20  # the weakest classes, where there are more


class Bar(NamedTuple):
    "A share with its interval"

    name: str
    width: str  # of 100, as text
    left: str  # lower end of the interval, of 100
    reach: str  # length of the interval, of 100
    told: str  # '25.0% [4.6, 69.9]'
    least: bool  # is it the smallest?


def percent(share: float) -> str:
    "'80.0%'"
    return f"{100 * share:.1f}%"


def interval(share: float, lo: float, hi: float) -> str:
    "'80.0% [65.2, 89.5]'"
    return f"{percent(share)} [{100 * lo:.1f}, {100 * hi:.1f}]"


def bars_of(
    table,  # pandas.DataFrame, a row per class: n, accuracy, lo, hi
) -> list:  # of Bar, the weakest first
    "The classes that have images, each by itself; the weakest alone where there are many"
    there = table[table.n > 0].sort_values("accuracy", kind="stable")
    least = there.accuracy.min()
    return [
        Bar(
            str(name),
            f"{100 * row.accuracy:.1f}",
            f"{100 * row.lo:.1f}",
            f"{100 * (row.hi - row.lo):.1f}",
            interval(row.accuracy, row.lo, row.hi),
            bool(row.accuracy == least),
        )
        for name, row in there.head(MOST).iterrows()
    ]
