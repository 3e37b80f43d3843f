"""What a judgement says

The answers, the gates, the work it took, and one verdict over all of it
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from ..core.bars import interval, percent
from .card import Card
from .followup import FollowUp
from .gap import gap_table
from .proved import Proved
from .record import Record
from .report_file import SCHEMA, read_report, write_report_file
from .stopping import Stopped
from .told import heading, told_privacy

__all__ = ["SCHEMA", "DOUBTS", "Report"]

# first words of the notes that say: this number may be too high
DOUBTS = {
    "loading": "the network seems to be loaded wrong",
    "masked": "Square, which needs no gradient, found more than the attacks with gradients",
    "no gradient": "the gradient is zero on some images",
    "random": "the network answers at random",
    "dynamic": "the network runs a search before it answers",
}


@dataclass(eq=False, repr=False)
class Report:
    """A judgement of one network. Print it, show it in a notebook, `save` and `load` it

    Parameters
    ----------
    record : Record
        the answer to every image, clean and under every attack
    ball : str
        threat model, as a spec
    network : str
        name or make, and number of parameters
    data : str
        name, number and shape of the images
    device : str
        on which it was judged
    threads : int
        of the CPU
    attacks : dict
        name -> spec, or description, of every attack
    card : Card | None
        of the trust gates; None: not asked (default: None)
    stopped : Stopped | None
        how far it went; None: all images (default: None)
    passes : dict
        attack -> images, forward and backward passes for each (default: dict())
    made : dict
        versions, commit, and whatever a caller adds (default: dict())
    follow : FollowUp | None
        what came of the card's flags; None: not asked (default: None)
    proved : Proved | None
        which images no attack can bring down; None: not asked (default: None)
    privacy : dict | None
        what it tells of its training images; None: not asked (default: None)
    """

    record: Record  # the answer to every image, clean and under every attack
    ball: str  # threat model, as a spec
    network: str  # name or make, and number of parameters
    data: str  # name, number and shape of the images
    device: str  # on which it was judged
    threads: int  # of the CPU
    attacks: dict  # name -> spec, or description, of every attack
    card: Card | None = None  # of the trust gates; None: not asked
    stopped: Stopped | None = None  # how far it went; None: all images
    passes: dict = field(
        default_factory=dict
    )  # attack -> images, forward and backward passes for each
    made: dict = field(default_factory=dict)  # versions, commit, and whatever a caller adds
    follow: FollowUp | None = None  # what came of the card's flags; None: not asked
    proved: Proved | None = None  # which images no attack can bring down; None: not asked
    privacy: dict | None = None  # what it tells of its training images; None: not asked

    # ---- what it says

    @property
    def seconds(self) -> dict:
        "attack -> seconds"
        return self.record.info.get("seconds", {})

    @property
    def per_class(self):  # pandas.DataFrame, a row per class, a column per attack
        "Accuracy of every class under every attack"
        return self.record.class_table()

    @property
    def hardest(self) -> str:
        "The row with the lowest accuracy: 'worst' where several attacks were tried"
        return self.record.names[-1]

    @property
    def weakest(self) -> tuple:  # class, its accuracy in [0,1], under which row
        "The class that falls most, under the hardest row"
        return (*self.record.weakest(self.hardest), self.hardest)

    @property
    def flags(self) -> list:  # of names
        "Whoever doubts the number: gates of the trust card, and AutoAttack's own warnings"
        gates = self.card.flags if self.card is not None else []
        return [
            *gates,
            *(k for k in DOUBTS if any(n.startswith(f"{k}:") for n in self.record.notes)),
        ]

    @property
    def verdict(self) -> str:
        "Flagged or not, by whom, and what is left; the lowest number that was found comes first"
        left = self._left()
        if self.flags:
            who = ", ".join(self.flags)
            return f"flagged by {who}: {left}; do not trust the number before you know why."
        if self.card is None:
            return f"not asked whether the number is real (trust=True asks): {left}."
        return f"no flag: {left}."

    def _left(self):
        "What stands, the lowest number first"
        share = percent(self.record.accuracy(self.hardest))
        n = len(self.record.y)
        if self.card is None:
            return f"{share} of {n} images stand under all attacks"
        is_followed = self.follow is not None and bool(self.follow.falls)
        lowest = self.follow.lowest if is_followed else self.card.lowest  # type: ignore[union-attr]
        more = "the gates' attacks" + (" and those of the follow-up" if is_followed else "")
        return (
            f"{interval(*lowest)} of {self.card.n} images stand under {more} too, {share} of {n}"
            " under the attacks that were named"
        )

    def table(self):  # pandas.DataFrame, a row per attack
        """n, accuracy, lo, hi (Wilson, 95%), weakest class and its accuracy

        Passes for each image, seconds
        """
        table = self.record.table()
        for way in ("forward", "backward"):
            table[way] = [self.passes.get(k, {}).get(way) for k in table.index]
        table["seconds"] = [self.seconds.get(k) for k in table.index]
        return table.astype({"forward": float, "backward": float, "seconds": float})

    def head(self) -> list:  # of lines
        """What was judged, and where: network, data, ball, device, threads

        Returns
        -------
        list
            of lines
        """
        precision = self.record.info.get("precision", "float32")
        return heading(self.network, self.data, self.ball, self.device, self.threads, precision)

    def _said(self) -> list:
        "The lines below the table: weakest class, verdict, notes, advice"
        name, accuracy, row = self.weakest
        advice = self.card.advice() if self.card is not None else []
        return [
            f"weakest class: {name}, {percent(accuracy)} under {row}",
            *([str(self.stopped)] if self.stopped else []),
            f"verdict: {self.verdict}",
            *self.record.notes,
            *advice,
            *self._between(),
            *([f"privacy: {told_privacy(self.privacy)}"] if self.privacy else []),
            *([f"follow-up: {self.follow.headline}"] if self.follow else []),
            *(self.follow.lines() if self.follow else []),
        ]

    def _between(self):
        "The two shares that the truth lies between, in a line; [] where nothing was proved"
        if self.proved is None:
            return []
        share = percent(self.record.accuracy(self.hardest))
        return [
            f"proved by {self.proved.by}: {percent(self.proved.share)} certified <= true robust"
            f" accuracy <= {share} left by {self.hardest}, on these images"
        ]

    def _gates(self, card: Card):
        "The table of the trust card, without its headline: the verdict stands in one place"
        return card.table().drop(columns=["lo", "hi", "note"])

    def body(self) -> str:
        "What was found: the table, the verdict, the gates"
        table = self.table().to_string(float_format="{:.4g}".format, na_rep="")
        lines = [table, "", *self._said()]
        if self.card is not None:
            lines += ["", self._gates(self.card).to_string(float_format="{:.3g}".format, na_rep="")]
        if self.proved is not None:
            lines += ["", self.gap().to_string(float_format="{:.3f}".format)]
        if self.follow is not None and self.follow.best is not None:
            lines += ["", "The attack that left least, to keep:", "", self.follow.best.cell]
        return "\n".join(lines)

    def __repr__(self):
        return "\n".join([*self.head(), "", self.body()])

    def _repr_html_(self):
        head = "<br>".join(escape(line) for line in self.head())
        table = self.table().to_html(float_format="{:.4g}".format, na_rep="")
        said = "".join(f"<p>{escape(line)}</p>" for line in self._said())
        gates = ""
        if self.card is not None:
            gates = self._gates(self.card).to_html(float_format="{:.3g}".format, na_rep="")
        if self.proved is not None:
            gates += self.gap().to_html(float_format="{:.3f}".format)
        return f"<p>{head}</p>{table}{said}{gates}"

    def plot(
        self,
        row: str = "",  # of the table; default: the hardest
        ax=None,  # axes of matplotlib; default: new ones
    ):  # the axes
        """Every class by itself under a row of the table, with 95% intervals; default: the hardest

        Parameters
        ----------
        row : str
            of the table; default: the hardest
        ax
            axes of matplotlib; default: new ones

        Returns
        -------
        the axes
        """
        from spat_nb.core.plot import class_bars

        row = row or self.hardest
        each = self.record.per_class(row)
        label = f"accuracy under {row}"
        names = list(each.index)
        return class_bars(names, each.accuracy, each.lo, each.hi, xlabel=label, ax=ax)

    def gap(self):  # pandas.DataFrame, a row per class and 'all'; None where nothing was proved
        "Certified <= true <= attacked, as in `gap_table`"
        if self.proved is None:
            return None
        return gap_table(self.record, self.proved.tensor())

    # ---- files

    def save(self, path):
        "Write to a JSON file"
        write_report_file(self, path)

    @classmethod
    def load(cls, path) -> Report:
        """Read what `save` wrote

        FileNotFoundError, or ValueError where the file is damaged or no report

        Raises
        ------
        FileNotFoundError, or ValueError
            where the file is damaged or no report
        """
        return read_report(cls, path)
