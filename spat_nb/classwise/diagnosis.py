"""A diagnosis by class: tables and pictures of one record"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spat_nb.attacks.threat import Ball

from ..core.protocols import ModelFunction
from ..measure.battery import STANDARD, named_attacks
from ..measure.evaluate import evaluate
from ..measure.record import Record
from .agreement import agreement
from .confusion import attackers, if_symmetric, symmetry
from .confusion_plot import graph, heat
from .diagnosis_page import judged_told, write_diagnosis
from .disparity import measures
from .families import families, in_family

__all__ = ["USUAL", "usual", "Diagnosis", "diagnose"]

USUAL = f"{STANDARD}, pgd(steps=20, loss=margin)"


def usual(
    ball: Ball,  # threat model
) -> dict:  # name -> attack
    "One step, twenty steps, and twenty steps on the margin (CW's loss): fgsm, pgd20, cw20"
    return named_attacks(USUAL, ball)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """A class-wise report: tables and pictures of one record

    Parameters
    ----------
    record : Record
        the answers
    groups : dict | None
        family -> class names, for the share of errors in the family (default: None)
    level : float
        confidence of all intervals (default: 0.95)
    times : int
        draws of the bootstrap (default: 1000)
    """

    record: Record  # the answers
    groups: dict | None = None  # family -> class names, for the share of errors in the family
    level: float = 0.95  # confidence of all intervals
    times: int = 1000  # draws of the bootstrap

    @property
    def strongest(self):
        "The attack that leaves least; 'clean' where there is none"
        return min(self.record.attacks or ["clean"], key=self.record.accuracy)

    def table(self, name: str | None = None):  # pandas.DataFrame, a row per class
        """Clean and robust accuracy of each class with Wilson intervals, and what it is mostly
        taken for; the weakest first

        Parameters
        ----------
        name : str | None
            pandas.DataFrame, a row per class (default: None)
        """
        import pandas as pd

        r, name = self.record, name or self.strongest
        clean, rob = r.per_class("clean", self.level), r.per_class(name, self.level)
        t = pd.DataFrame(
            {
                "n": clean.n,
                "clean": clean.accuracy,
                "clean lo": clean.lo,
                "clean hi": clean.hi,
                name: rob.accuracy,
                f"{name} lo": rob.lo,
                f"{name} hi": rob.hi,
            }
        )
        most = (
            attackers(r.confusion(name), r.classes, len(r.classes) ** 2, self.level)
            .drop_duplicates("class")
            .set_index("class")
        )
        return t.assign(
            **{
                "taken for": most["taken for"].reindex(t.index),
                "share": most["share"].reindex(t.index),
            }
        )[t.n > 0].sort_values(name, kind="stable")

    def measures(self):  # pandas.DataFrame, rows (attack, measure)
        "mean, worst, bottom 20%, CV and MCD for every attack, with the range of luck"
        import pandas as pd

        return pd.concat(
            {
                k: measures(self.record, k, self.level, self.times)
                for k in self.record.names
                if "/" not in k
            },
            names=["attack"],
        )

    def direction(self, name: str | None = None) -> dict:
        """Symmetry of the confusions, the range that luck leaves where they are symmetric, and the
        share of errors in the family
        """
        C = self.record.confusion(name or self.strongest)
        q = torch.tensor([(1 - self.level) / 2, (1 + self.level) / 2], dtype=torch.float64)
        lo, hi = symmetry(if_symmetric(C, min(self.times, 200))).quantile(q).tolist()
        family = (
            {
                f"family {k}": v
                for k, v in in_family(C, self.record.classes, self.groups, self.level).items()
            }
            if self.groups
            else {}
        )
        return dict(symmetry=symmetry(C).item(), luck_lo=lo, luck_hi=hi, **family)

    def agreement(self):  # pandas.DataFrame
        "Spearman of the class accuracies between attacks"
        correct = {k: self.record.correct(k) for k in ("clean", *self.record.attacks)}
        return agreement(self.record.y, correct, self.level, self.times)

    def plot(self, name: str | None = None) -> dict:  # of axes
        """Bars of the (20 weakest) classes, the heat map and the graph, each a figure of its own

        Parameters
        ----------
        name : str | None
            default: None

        Returns
        -------
        dict
            of axes
        """
        from spat_nb.core.plot import class_bars, plain

        r, name, t = self.record, name or self.strongest, self.table(name)
        few = t.head(20)
        what = f"accuracy, {plain(name)}" + (
            f" (the 20 weakest of {len(t)} classes)" if len(t) > 20 else ""
        )
        bars = class_bars(
            list(few.index),
            few[name].tolist(),
            few[f"{name} lo"].tolist(),
            few[f"{name} hi"].tolist(),
            xlabel=what,
            xlim=(0, 1),
        )
        return dict(
            classes=bars,
            heat=heat(r.confusion(name), r.classes),
            graph=graph(r.confusion(name), r.classes),
        )

    def tables(
        self,
        name: str | None = None,  # an attack; default: the strongest
    ):
        """(heading, DataFrame) of all that is counted

        Parameters
        ----------
        name : str | None
            an attack; default: the strongest
        """
        C = self.record.confusion(name or self.strongest)
        yield "Attacks", self.record.table(self.level)
        yield f"Classes, {self.level:.0%} Wilson intervals", self.table(name)
        yield (
            (
                "Measures: basic bootstrap over images; equal_lo and equal_hi: what luck alone"
                " would show, were all classes equal"
            ),
            self.measures(),
        )
        yield "Who attacks whom", attackers(C, self.record.classes, 10, self.level)
        if self.record.attacks:
            yield "Rank agreement of attacks (Spearman)", self.agreement()

    def summary(
        self,
        name: str | None = None,  # an attack; default: the strongest
    ) -> str:
        """The numbers of the direction, in a sentence

        Parameters
        ----------
        name : str | None
            an attack; default: the strongest

        Returns
        -------
        str
        """
        r, d = self.record, self.direction(name)
        family = (
            f" Errors within the family: {d['family share']:.3f} [{d['family lo']:.3f},"
            f" {d['family hi']:.3f}], by chance {d['family chance']:.3f}."
            if self.groups
            else ""
        )
        return (
            f"n = {len(r.y)}, attack seed {r.info.get('seed')}, shown: {name or self.strongest}."
            f" Symmetry {d['symmetry']:.3f} (luck leaves {d['luck_lo']:.3f} to {d['luck_hi']:.3f}"
            f" where confusions are symmetric and classes of one size).{family}"
        )

    def _html(self, name=None):
        from html import escape

        return f"<p>{escape(self.summary(name))}</p>" + "".join(
            f"<h3>{escape(h)}</h3>{t.to_html(float_format='{:.3f}'.format)}"
            for h, t in self.tables(name)
        )

    def __repr__(self):
        return "\n\n".join(
            [
                self.summary(),
                *(f"{h}\n{t.to_string(float_format='{:.3f}'.format)}" for h, t in self.tables()),
            ]
        )

    def _repr_html_(self):
        return self._html()

    def html(
        self,
        path,  # file to write
        name: str | None = None,  # attack of the pictures; default: the strongest
    ):
        """Write the report, pictures included, to one HTML file that needs no other

        Parameters
        ----------
        path
            file to write
        name : str | None
            attack of the pictures; default: the strongest
        """
        write_diagnosis(self, path, name)


def diagnose(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data,  # `Batches`, a stream of files, tensors (x, y), or what yields batches
    attacks,  # dict name -> attack, or a ball: then `usual(ball)`
    # family -> class names; default: those of CIFAR-10 and CIFAR-100 where the names are theirs
    groups: dict | None = None,
    times: int = 1000,  # draws of the bootstrap
    **kw,  # more for `evaluate`: precision, seed, progress, resume
) -> Diagnosis:
    """Evaluate, and read the answers class by class.

    TypeError where `attacks` is neither a dict nor a ball

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data
        `Batches`, a stream of files, tensors (x, y), or what yields batches
    attacks
        dict name -> attack, or a ball: then `usual(ball)`
    groups : dict | None
        family -> class names; default: those of CIFAR-10 and CIFAR-100 where the names are theirs
    times : int
        draws of the bootstrap (default: 1000)
    **kw
        more for `evaluate`: precision, seed, progress, resume

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError
        where `attacks` is neither a dict nor a ball
    """
    if isinstance(attacks, Ball):
        attacks = usual(attacks)
    if not isinstance(attacks, dict):
        raise TypeError(
            f"attacks is {attacks!r}; give a dict name -> attack, or a ball such as Linf(8/255)."
        )
    r = evaluate(model, data, **kw, **attacks)
    r.info |= judged_told(model, data, r, attacks)
    return Diagnosis(r, groups or families(r.classes), times=times)
