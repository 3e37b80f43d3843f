"""A judgement against an older one: the same images, ball and attacks, and whether robust accuracy
has fallen by more than is allowed
"""

from __future__ import annotations

from dataclasses import dataclass

from .regression import Fall, chance_to_catch, compared, images_needed
from .report import Report
from .versus import check_same_runs

__all__ = ["Against", "against_baseline", "check_ball", "check_attacks", "check_images_same"]

PLANTED = 0.03  # a fall that is to be caught lies so far beyond the allowed one
SURE = 0.95  # how often it is to be caught
LEVEL = 0.95  # confidence, one-sided


@dataclass(frozen=True, eq=False)
class Against:
    """What has become of a baseline

    Parameters
    ----------
    report : Report
        of now
    baseline : Report
        of then, on the same images
    allowed : float
        fall of robust accuracy that is allowed, in [0,1)
    falls : dict
        row -> Fall: clean, every attack, and worst where there are several
    classes : dict
        class -> Fall under the hardest row, at a level for all classes together
    notes : tuple
        of sentences: what could not be compared (default: ())
    """

    report: Report  # of now
    baseline: Report  # of then, on the same images
    allowed: float  # fall of robust accuracy that is allowed, in [0,1)
    falls: dict  # row -> Fall: clean, every attack, and worst where there are several
    classes: dict  # class -> Fall under the hardest row, at a level for all classes together
    notes: tuple = ()  # of sentences: what could not be compared

    @property
    def row(self) -> str:
        "The row that decides: the hardest"
        return self.report.hardest

    @property
    def fall(self) -> Fall:
        "Of the row that decides"
        return self.falls[self.row]

    @property
    def has_fallen(self) -> bool:
        "Has robust accuracy fallen by more than is allowed, beyond chance?"
        return self.fall.beyond(self.allowed)

    @property
    def fallen_rows(self) -> list:
        """Rows that have fallen too. They are asked only where the one that decides has fallen, so
        that the share of false alarms stays that of one test
        """
        if not self.has_fallen:
            return []
        return [k for k, fall in self.falls.items() if fall.beyond(self.allowed)]

    @property
    def fallen_classes(self) -> list:
        "Classes that have fallen by more than is allowed, at a level for all of them together"
        return [k for k, fall in self.classes.items() if fall.beyond(self.allowed)]

    @property
    def new_flags(self) -> list:
        "Whoever doubts the number now and did not then; checks only where both asked them"
        old = {*self.baseline.flags}
        gates = self.report.card.flags if self.report.card is not None else []
        asked = self._asked_twice()
        return [k for k in self.report.flags if k not in old and (k in asked or k not in gates)]

    def _asked_twice(self):
        "Gates that flag now by a check that the baseline was asked too: an older version has fewer"
        now, then = self.report.card, self.baseline.card
        if now is None or then is None:
            return set()
        known = {c.name for c in then.checks}
        return {c.gate for c in now.checks if c.verdict == "flag" and c.name in known}

    @property
    def passed(self) -> bool:
        "No fall beyond what is allowed, and no new flag"
        return not self.has_fallen and not self.new_flags

    def remarks(self) -> list:  # of sentences
        """What a reader of the verdict should know

        Returns
        -------
        list
            of sentences
        """
        told = [*self.notes, *self._about_flags(), *self._about_classes()]
        weak = self.too_few()
        return [*told, weak] if weak else told

    def too_few(self) -> str:
        "Says so, where the baseline has too few images to catch a fall; '' where it has enough"
        fall = self.allowed + PLANTED
        seen = self.fall
        if self.has_fallen or seen.before < fall:
            return ""
        luck = min(seen.luck, (1 - fall) / 2)  # no more can change than all images
        caught = chance_to_catch(seen.n, fall, self.allowed, luck, LEVEL)
        if caught >= SURE:
            return ""
        need = images_needed(fall, self.allowed, luck, SURE, LEVEL)
        return (
            f"with n = {seen.n:,} images a fall of {100 * fall:g} points is caught in"
            f" {100 * caught:.0f}% of cases; take {need:,}"
        )

    def _about_flags(self):
        now, then = self.report.card, self.baseline.card
        if then is not None and now is None:
            yield "the trust gates were asked for the baseline and not now; --trust asks them"
        if now is not None and then is None and now.flags:
            who = ", ".join(now.flags)
            yield f"flagged by {who}; the baseline was not asked, so none of them counts as new"

    def _about_classes(self):
        if self.fallen_classes and not self.has_fallen:
            worst = max(self.fallen_classes, key=lambda k: self.classes[k].drop)
            fall = self.classes[worst]
            yield (
                f"the average stands, but class {worst} has fallen by {100 * fall.drop:.0f} points,"
                f" from {100 * fall.before:.0f}% to {100 * fall.after:.0f}%"
            )


def check_ball(
    ball: str,  # of now, a spec in its one form
    baseline: Report,  # of then
):
    "ValueError where it is another one"
    if ball != baseline.ball:
        raise ValueError(
            f"ball: it is {ball}, the baseline was judged in {baseline.ball}; leave it out, or make"
            " a new baseline."
        )


def check_attacks(
    attacks: dict,  # name -> spec, of now
    baseline: Report,  # of then
):
    "ValueError where they are others"
    if attacks != baseline.attacks:
        now, then = (", ".join(map(str, a.values())) for a in (attacks, baseline.attacks))
        raise ValueError(
            f"attacks: they are {now}, the baseline was judged by {then}; leave them out, or make a"
            " new baseline."
        )


def check_images_same(
    images: str,  # fingerprint of the images of now, in their order
    n: int,  # how many they are
    baseline: Report,  # of then
):
    "ValueError where they are others"
    then = baseline.record.info.get("identity", {}).get("images")
    if n != len(baseline.record.y) or (then and images != then):
        if baseline.stopped is not None:
            raise ValueError(
                "against: the baseline was judged in random order, as --within and --budget do; "
                "make it again without them, so that all images are judged in their order."
            )
        raise ValueError(
            f"data: these are not the images of the baseline ({n:,} images {images[:12]}, it has"
            f" {len(baseline.record.y):,} images {str(then)[:12]}); judge the same images in the"
            " same order, or make a new baseline."
        )


def against_baseline(
    report: Report,  # of now
    baseline: Report,  # of then
    drop: float = 0.02,  # fall of robust accuracy that is allowed, in [0,1)
) -> Against:
    """Set a judgement against an older one of the same images, ball and attacks.

    Parameters
    ----------
    report : Report
        of now
    baseline : Report
        of then
    drop : float
        fall of robust accuracy that is allowed, in [0,1) (default: 0.02)

    Returns
    -------
    Against

    Raises
    ------
    ValueError
        where images, ball or attacks are not the same, or nothing was attacked

    Examples
    --------
    >>> from spat_nb import Linf, SmallCNN, against_baseline, get_data, judge
    >>> test = get_data("digits").test.subset(50)
    >>> model = SmallCNN(channels=1).to(test.x.device)
    >>> report = judge(model, test, Linf(0.1), attacks="fgsm")
    >>> against_baseline(report, report).passed
    True
    """
    if not 0 <= drop < 1:
        raise ValueError(f"drop is {drop}; a share lies between 0 and 1, 0.02 say.")
    check_ball(report.ball, baseline)
    check_attacks(report.attacks, baseline)
    if not report.record.attacks:
        raise ValueError("attacks: there are none, so there is no robust accuracy; name some.")
    images = report.record.info.get("identity", {}).get("images", "")
    check_images_same(images, len(report.record.y), baseline)
    notes = check_same_runs(report.record, baseline.record, report.record.attacks)
    then, now = (r.record.info.get("seed") for r in (baseline, report))
    if then != now:
        notes.append(f"random starts had seed {then} in the baseline and {now} now")
    rows = [k for k in report.record.names if "/" not in k]
    falls = {k: _fall(report, baseline, k) for k in rows}
    return Against(report, baseline, drop, falls, _classes(report, baseline), tuple(notes))


def _fall(report, baseline, row, images=slice(None), level=LEVEL):
    then, now = (r.record.correct(row)[images].numpy() for r in (baseline, report))
    return compared(then, now, level)


def _classes(report, baseline):
    "class -> Fall, of classes with two images or more"
    y = report.record.y
    there = {c: y == i for i, c in enumerate(report.record.classes) if int((y == i).sum()) > 1}
    level = 1 - (1 - LEVEL) / max(len(there), 1)
    return {
        str(c): _fall(report, baseline, report.hardest, images, level)
        for c, images in there.items()
    }
