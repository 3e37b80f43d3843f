"""The claims of class-wise robustness, read off the answers of two or more defences on one data set

Tian et al. 2021 make them for six data sets; here each gets a value, an interval and a verdict.
"""

from __future__ import annotations

import torch

from ..measure.record import Record
from ..measure.versus import paired
from .agreement import agreement, gain_slope
from .disparity import measures
from .families import in_family

__all__ = ["CLAIMS", "class_claims"]

CLAIMS = {
    "disparity": "classes differ more than luck leaves",
    "consistency": "attacks and defences agree which classes are weak (Spearman above .8)",
    "gains": "the stronger attack gains most on weak classes",
    "gains, relative": "it does so in shares of what stood",
    "temperature": "Temperature-PGD leaves less than PGD of as many steps",
    "family": "errors stay in the family more often than chance has it",
}
AGREES = 0.8  # Spearman's rho from which on two orders of classes count as the same


def verdict(lo: float, hi: float, than: float = 0.0) -> str:
    "Is a value above `than`: 'supported', 'refuted', or 'open' where its interval holds it"
    if lo > than:
        return "supported"
    return "refuted" if hi < than else "open"


def class_claims(
    records: dict,  # defence -> `Record` of the same images, each under fgsm, pgd20 and t_pgd
    groups: dict | None = None,  # family -> class names; None: the set has none
    level: float = 0.95,  # confidence
    times: int = 1000,  # draws of the bootstrap
):  # pandas.DataFrame, a row per claim: value, lo, hi, than (what it must exceed), verdict
    """Judge the claims on one data set: of a single network those of the first defence.

    Disparity is the largest difference of two classes (MCD) under pgd20, against what luck leaves
    of equal classes; consistency that of the two columns which agree least.

    Parameters
    ----------
    records : dict
        defence -> `Record` of the same images, each under fgsm, pgd20 and t_pgd
    groups : dict | None
        family -> class names; None: the set has none (default: None)
    level : float
        confidence (default: 0.95)
    times : int
        draws of the bootstrap (default: 1000)

    Returns
    -------
    pandas.DataFrame, a row per claim: value, lo, hi, than (what it must exceed), verdict

    Raises
    ------
    ValueError
        where there are fewer than two defences
    """
    import pandas as pd

    if len(records) < 2:
        raise ValueError(f"{len(records)} defences; consistency needs two at least.")
    first = next(iter(records.values()))
    rows = {"disparity": _disparity(first, level, times)}
    rows["consistency"] = _consistency(records, level, times)
    # turned round, so that what is claimed is above zero
    for claim, scale in (("gains", torch.positive), ("gains, relative", torch.log)):
        slope, lo, hi = gain_slope(first, "fgsm", "pgd20", level, times, scale=scale)
        rows[claim] = (-slope, -hi, -lo, 0.0)
    rows["temperature"] = (*paired(first.correct("pgd20"), first.correct("t_pgd"), level), 0.0)
    if groups:
        found = in_family(first.confusion("pgd20"), first.classes, groups, level)
        rows["family"] = (found["share"], found["lo"], found["hi"], found["chance"])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "lo", "hi", "than"])
    table["verdict"] = [verdict(r.lo, r.hi, r.than) for r in table.itertuples()]
    return table.rename_axis("claim")


def _disparity(record: Record, level, times):
    found = measures(record, "pgd20", level, times).loc["MCD"]
    return found["value"], found["lo"], found["hi"], found["equal_hi"]


def _consistency(records, level, times):
    columns = {
        f"{defence}, {attack}": record.correct(attack)
        for defence, record in records.items()
        for attack in ("fgsm", "pgd20", "t_pgd")
    }
    pairs = agreement(next(iter(records.values())).y, columns, level, times)
    least = pairs.loc[pairs["rho"].idxmin()]
    return least["rho"], least["lo"], least["hi"], AGREES
