"""A claim of a paper, and what our runs say of it"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from spat_nb.studies.finding import NAMES, find_study, studies
from spat_nb.studies.rows import runs_of, study_word
from spat_nb.studies.today import verdict_today
from spat_nb.studies.verdicts import verdict_on


@dataclass(frozen=True)
class Claim:
    """A claim as a number per seed that must lie above a mark

    Parameters
    ----------
    paper : str
        short name of the method
    claim : str
        what is said
    test : str
        what is measured instead, with its unit
    study : str
        whose runs
    arms : tuple
        rows that a seed must have
    value : Callable
        (result of the first row, of the second, ...) -> number
    least : float
        the mark (default: 0.0)
    either : bool
        is a number below the mark as good, as long as it is not at it? (default: False)
    attack : str
        under which the first row's accuracy is compared with the second's; '' where it is not
        (default: "")
    """

    paper: str  # short name of the method
    claim: str  # what is said
    test: str  # what is measured instead, with its unit
    study: str  # whose runs
    arms: tuple  # rows that a seed must have
    value: Callable  # (result of the first row, of the second, ...) -> number
    least: float = 0.0  # the mark
    either: bool = False  # is a number below the mark as good, as long as it is not at it?
    # under which the first row's accuracy is compared with the second's; '' where it is not
    attack: str = ""


def accuracy_of(
    d: dict,  # a result
    attack: str,  # one of its attacks
) -> float:  # percent
    """Of the images under an attack, how many are answered right

    Parameters
    ----------
    d : dict
        a result
    attack : str
        one of its attacks

    Returns
    -------
    float
        percent
    """
    return 100 * d["attacks"][attack]["correct"] / d["attacks"][attack]["n"]


def _minus(attack, a, b):
    return accuracy_of(a, attack) - accuracy_of(b, attack)


def extra_gain(
    a: dict,  # a run
    b: dict,  # the run of another row with the same seed
    key: str,  # of what `Arm.extra` kept
    scale: float = 100.0,  # 100: from shares to points; below 0 where less is better
) -> float:
    """By how much more of `key` the first run has

    Parameters
    ----------
    a : dict
        a run
    b : dict
        the run of another row with the same seed
    key : str
        of what `Arm.extra` kept
    scale : float
        100: from shares to points; below 0 where less is better (default: 100.0)

    Returns
    -------
    float
    """
    return scale * (a["extra"][key] - b["extra"][key])


def gain(
    paper: str,
    claim: str,
    study: str,  # as in `Claim`
    a: str,
    b: str,  # the claim is that row `a` beats row `b`
    attack: str = "aa",  # under this attack
    least: float = 0.0,  # by more points than this
) -> Claim:
    """The claim that one row of a study beats another

    Parameters
    ----------
    paper : str
    claim : str
    study : str
        as in `Claim`
    a : str
    b : str
        the claim is that row `a` beats row `b`
    attack : str
        under this attack (default: "aa")
    least : float
        by more points than this (default: 0.0)

    Returns
    -------
    Claim
    """
    return Claim(
        paper,
        claim,
        f"{attack}: {a} - {b}{f' > {least:g}' if least else ''}, points",
        study,
        (a, b),
        partial(_minus, attack),
        least,
        attack=attack,
    )


def all_claims() -> tuple:  # of `Claim`
    """What papers say, as it stands beside the rows of the studies

    Returns
    -------
    tuple
        of `Claim`
    """
    return tuple(c for s in studies().values() for c in s.claims)


def judged(
    claim: Claim,  # of `all_claims`, or your own
    size: str = "laptop",  # of the runs
    study=None,  # whose rows, or its file 'mine.py'; default: the package's, else every file counts
) -> dict:  # as of `verdict_on`
    """A claim's number over the seeds that all its rows have, and the verdict

    Parameters
    ----------
    claim : Claim
        of `all_claims`, or your own
    size : str
        of the runs (default: "laptop")
    study
        whose rows, or its file 'mine.py'; default: the package's, else every file counts

    Returns
    -------
    dict
        as of `verdict_on`
    """
    if study is None and claim.study not in NAMES:
        return verdict_on(claim, runs_of(claim.study, size))
    study = find_study(study or claim.study)
    return verdict_today(claim, study, size, runs_of(study, size))


def _seen(study, found, size):
    "What was seen, in words"
    if not found["seeds"]:
        return f"not run: spat_nb study run {study} --scale {size}"
    if found["seeds"] > 2:
        return f"{found['mean']:+.2f} {_ends(found['lo'], found['hi'])}"
    return f"{found['mean']:+.2f}, {found['seeds']} seed{'s' * (found['seeds'] > 1)}"


def _ends(lo, hi):
    "An interval in words; '' where there is none"
    return "" if lo is None or math.isnan(lo) else f"[{lo:+.2f}, {hi:+.2f}]"


def claims_on(
    study,  # a study, its name, or its file: 'mine.py'
) -> list:  # of `Claim`
    """The claims that the runs of a study decide: they may lie beside the rows of another

    Parameters
    ----------
    study
        a study, its name, or its file: 'mine.py'

    Returns
    -------
    list
        of `Claim`
    """
    study = find_study(study)
    return [c for c in dict.fromkeys((*all_claims(), *study.claims)) if c.study == study.name]


def card(
    paper: str = "",  # start of its name, 'Hypersphere' say; default: all
    size: str = "laptop",  # of the runs
    # pandas.DataFrame, a row per claim: claim, paper, verdict, what was seen with its interval over
    # seeds, seeds, test; where a row has them, also the mean of the further seeds that must agree,
    # the images, and the interval that counts their drawing too
):
    """The claim card: all claims, judged.

    Parameters
    ----------
    paper : str
        start of its name, 'Hypersphere' say; default: all
    size : str
        of the runs (default: "laptop")

    Returns
    -------
    pandas.DataFrame, a row per claim: claim, paper, verdict, what was seen with its interval over
    seeds, seeds, test; where a row has them, also the mean of the further seeds that must agree,
    the images, and the interval that counts their drawing too

    Raises
    ------
    ValueError
        for a paper that makes none
    """
    found = all_claims()
    asked = [c for c in found if c.paper.startswith(paper)]
    if not asked:
        raise ValueError(
            f"paper is {paper!r}; there are {', '.join(dict.fromkeys(c.paper for c in found))}."
        )
    return _told(_row(c, judged(c, size), size, c.study) for c in asked)


def card_on(
    study,  # as in `claims_on`
    runs,  # its results at one size
    size: str = "laptop",  # that size
):  # pandas.DataFrame, as of `card`; empty where no claim rests on them
    """The claim card of one study, from these runs of it

    Parameters
    ----------
    study
        as in `claims_on`
    runs
        its results at one size
    size : str
        that size (default: "laptop")

    Returns
    -------
    pandas.DataFrame, as of `card`; empty where no claim rests on them
    """
    it = find_study(study)
    word = study_word(it)
    return _told(_row(c, verdict_today(c, it, size, runs), size, word) for c in claims_on(it))


def _told(rows):
    "Rows as a table, without the columns that say nothing in any of them"
    import pandas as pd

    table = pd.DataFrame(list(rows))
    return table.loc[:, (table.astype(str) != "").any()]


def _row(claim, found, size, study):
    "A claim's row of the card"
    return {
        "claim": claim.claim,
        "paper": claim.paper,
        "verdict": found["verdict"],
        "seen": _seen(study, found, size),
        "seeds": found["seeds"],
        "further": "" if found["further"] is None else f"{found['further']:+.2f}",
        "images": found["n"] or "",
        "over images too": _ends(found["lo_both"], found["hi_both"]),
        "test": claim.test,
    }
