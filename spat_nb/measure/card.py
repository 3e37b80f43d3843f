"""A trust card: checks, headline, advice, picture"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..core.bars import interval
from ..core.files import write_aside
from ..core.paths import what_is
from .checks import Check
from .ground import Ground
from .intervals import wilson

__all__ = ["MARKS", "Card"]


MARKS = {
    "pass": ("●", "o", "#0072B2"),
    "flag": ("✕", "X", "#D55E00"),
    "unclear": ("△", "^", "#E69F00"),
    "not asked": ("–", "_", "#767676"),
}


@dataclass(frozen=True, repr=False)
class Card:
    """What the gates say of one model

    Parameters
    ----------
    checks : tuple
        of Check, by gate
    accuracy : dict
        attack -> share of the n images that it leaves standing; 'everything': the worst case over
        all of them
    curve : list
        [eps, accuracy] of PGD
    n : int
        images
    claim : str
        the key of `accuracy` that is in question
    info : dict
        model, ball, seed, cost, seconds
    ground : Ground | None
        images and who stands, for `follow_up`; no file keeps it (default: None)
    """

    checks: tuple  # of Check, by gate
    # attack -> share of the n images that it leaves standing; 'everything': the worst case over all
    # of them
    accuracy: dict
    curve: list  # [eps, accuracy] of PGD
    n: int  # images
    claim: str  # the key of `accuracy` that is in question
    info: dict  # model, ball, seed, cost, seconds
    # images and who stands, for `follow_up`; no file keeps it
    ground: Ground | None = field(default=None, compare=False)

    @property
    def flags(self):
        "The gates that flag, each once"
        return list(dict.fromkeys(c.gate for c in self.checks if c.verdict == "flag"))

    def __getitem__(self, name) -> Check:
        "One check by its name. KeyError for an unknown one"
        return {c.name: c for c in self.checks}[name]

    @property
    def lowest(self) -> tuple:  # share, lowest and highest plausible value; in [0,1]
        """The share of the images that nothing broke, with its 95% interval (Wilson): the number to
        publish. Where answers are random, a mean over the dice, under the worst attack of an image
        """
        share = self.accuracy["everything"]
        return share, *wilson(round(share * self.n), self.n)

    @property
    def headline(self):
        "The verdict, the lowest number with its interval, and the claim; one sentence"
        said = f"flagged by {', '.join(self.flags)}" if self.flags else "no flag"
        claim = "as judged" if self.claim == "judged" else f"under {self.claim}"
        return (
            f"{said}: {interval(*self.lowest)} under everything tried,"
            f" {self.accuracy[self.claim]:.1%} {claim} (n = {self.n}, {self.info['ball']})"
        )

    def table(
        self,
    ):  # pandas.DataFrame, a row per check: asks, figure, lo, hi, limit, verdict, note
        """Figure, limit and verdict of each check

        Returns
        -------
        pandas.DataFrame, a row per check: asks, figure, lo, hi, limit, verdict, note
        """
        import pandas as pd

        keys = ("asks", "figure", "lo", "hi", "limit", "verdict", "note")
        return pd.DataFrame(
            [[getattr(c, k) for k in keys] for c in self.checks],
            index=pd.Index([c.name for c in self.checks], name="gate"),
            columns=keys,
        ).astype({k: float for k in ("figure", "lo", "hi", "limit")})

    def advice(self):  # list of texts
        "For each flag: what it means, and what to try next"
        return [
            f"{c.name}: {c.means} {c.then}{f' ({c.note})' if c.note else ''}"
            for c in self.checks
            if c.verdict == "flag"
        ]

    def __repr__(self):
        return "\n".join(
            [
                self.headline,
                self.table()
                .drop(columns=["lo", "hi", "note"])
                .to_string(float_format="{:.3g}".format, na_rep=""),
                *self.advice(),
            ]
        )

    def _repr_html_(self):
        from html import escape

        def row(c):
            return (
                f"<tr><td style='color:{MARKS[c.verdict][2]}'><b>{MARKS[c.verdict][0]}</b>"
                f" {c.verdict}</td><td style='text-align:left'>{c.name}</td><td"
                f" style='text-align:left'>{escape(c.asks)}</td><td>{_short(c.figure)}</td><td>{_short(c.limit)}</td><td"  # noqa: E501
                f" style='text-align:left'>{escape(c.note)}</td></tr>"
            )

        head = "".join(
            f"<th>{h}</th>" for h in ("verdict", "gate", "asks", "figure", "limit", "numbers")
        )
        return (
            f"<p><b>{escape(self.headline)}</b></p><table><tr>{head}</tr>{''.join(map(row, self.checks))}</table>"  # noqa: E501
            + "".join(f"<p>{escape(a)}</p>" for a in self.advice())
        )

    def plot(self):
        return _picture(self)

    def save(self, path):
        "Write to a JSON file"
        d = asdict(replace(self, ground=None))
        del d["ground"]
        with write_aside(path) as part:
            part.write_text(json.dumps(_plain(d), allow_nan=False), encoding="utf-8")

    @classmethod
    def load(cls, path) -> Card:
        """Read what `save` wrote.

        FileNotFoundError, or ValueError where the file is damaged or no card

        Raises
        ------
        FileNotFoundError, or ValueError
            where the file is damaged or no card
        """
        if Path(path).is_dir():
            raise FileNotFoundError(
                f"{path} is a folder; check the path, and give the file that card.save wrote."
            )
        if not Path(path).is_file():
            raise FileNotFoundError(f"no card {path}; check the path, or call trust first.")
        try:
            d = json.loads(Path(path).read_text(encoding="utf-8"))
            card = cls(
                **{
                    **d,
                    "checks": tuple(
                        Check(
                            **{
                                **c,
                                **{
                                    k: float(c[k])
                                    for k in ("figure", "lo", "hi")
                                    if isinstance(c[k], str)
                                },
                            }
                        )
                        for c in d["checks"]
                    ),
                }
            )
            # a whole card can say what it says
            card.headline, card.table()
            return card
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            if (kind := what_is(path)) not in (
                "a trust card",
                "a text file",
                "an empty file",
                "a JSON file",
            ):
                raise ValueError(
                    f"{path} is {kind} and no trust card; give the file that card.save wrote."
                ) from None
            raise ValueError(f"{path} holds no whole card ({e}); call trust again.") from None


def _short(v):
    return "" if v is None else "0" if abs(v) < 0.005 else f"{v:.3g}"


def _plain(v):
    "JSON has no NaN and no infinity: their names stand for them"
    if isinstance(v, dict):
        return {str(k): _plain(u) for k, u in v.items()}
    if isinstance(v, (list, tuple)):
        return [_plain(u) for u in v]
    return str(v) if isinstance(v, float) and not math.isfinite(v) else v


def _picture(card):
    "Verdicts on the left; accuracy against eps, and under each attack, on the right"
    import matplotlib.pyplot as plt

    fig, axes = plt.subplot_mosaic(
        [["gates", "curve"], ["gates", "attacks"]],
        figsize=(9.6, 6.4),
        dpi=85,
        width_ratios=(1.45, 1),
        height_ratios=(1, 1.6),
        layout="constrained",
    )
    ax, m = axes["gates"], len(card.checks)
    for i, c in enumerate(card.checks):
        _, marker, color = MARKS[c.verdict]
        ax.plot(0, i, marker, color=color, ms=8)
        weight = "bold" if c.verdict == "flag" else "normal"
        for at, text, side in (
            (0.03, c.name, "left"),
            (0.235, c.asks, "left"),
            (0.90, _short(c.figure) or c.verdict, "right"),
            (1.02, f"≤ {_short(c.limit)}", "right"),
        ):
            ax.text(at, i, text, ha=side, va="center", fontsize=8, weight=weight)
    ax.set(xlim=(-0.03, 1.03), ylim=(m - 0.4, -1.2))
    ax.axis("off")
    for at, text, side in (
        (0.03, "gate", "left"),
        (0.235, "asks", "left"),
        (0.90, "figure", "right"),
        (1.02, "limit", "right"),
    ):
        ax.text(at, -0.9, text, ha=side, va="center", fontsize=8, color="#555555")

    def count(a):
        return wilson(round(a * card.n), card.n)

    eps, acc = zip(*card.curve) if card.curve else ((), ())
    ax = axes["curve"]
    ax.plot(eps, acc, "o-", color="#0072B2", ms=4)
    if eps:
        low, high = zip(*map(count, acc))
        ax.fill_between(eps, low, high, color="#0072B2", alpha=0.2, linewidth=0)
    ax.axvline(card.info["eps"], color="black", ls=":", lw=1)
    ax.set(
        xlabel="eps (dotted: the one in question)",
        ylabel="accuracy under PGD (ce)",
        ylim=(-0.03, 1.03),
    )
    ax.grid(alpha=0.3)
    ax = axes["attacks"]
    names = list(card.accuracy)
    v = list(card.accuracy.values())
    lo, hi = zip(*map(count, v))
    for i, k in enumerate(names):
        marker, color = (
            ("D", "#000000")
            if k in ("clean", "everything")
            else ("s", "#E69F00")
            if k in ("+ Square", "transfer")
            else ("o", "#0072B2")
        )
        ax.errorbar(
            v[i],
            i,
            xerr=[[v[i] - lo[i]], [hi[i] - v[i]]],
            fmt=marker,
            color=color,
            ms=5,
            capsize=2,
            lw=1,
        )
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set(xlim=(-0.03, 1.03), xlabel=f"accuracy, 95% intervals, n = {card.n}")
    fig.suptitle(card.headline, fontsize=9, weight="bold", x=0.01, ha="left", wrap=True)
    return axes
