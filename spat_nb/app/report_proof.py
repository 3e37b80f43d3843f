"""What a report says of proofs: certified, true, attacked

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from ..core.bars import percent
from ..measure.report import Report
from .report_blocks import Asked, rows

__all__ = ["between", "formal"]


def formal(
    report: Report,  # of a network
) -> Asked:
    "Was anything proved?"
    proved = report.proved
    if proved is None:
        told = "Nothing was proved; --certify proves what no attack can cross."
        return Asked("Formal methods", False, told)
    told = f"Bounds through the layers ({proved.by}), image by image, below."
    return Asked("Formal methods", True, told, "proved")


def between(
    report: Report,  # of a network
) -> list:  # of blocks
    "What is proved from below, and what attacks leave from above; no block where nothing is proved"
    if report.proved is None:
        return []
    gap = report.gap()
    body = [
        [
            label,
            int(row.n),
            percent(row.certified),
            percent(row.attacked),
            percent(row.gap),
        ]
        for label, row in gap.iterrows()
        if row.n
    ]
    head = ["class", "images", "certified", f"left by {report.hardest}", "gap"]
    told = (
        "Whatever an attacker does in this ball, a certified image keeps its answer (in exact"
        " arithmetic; margins keep a distance from rounding). The true robust accuracy on these"
        " images lies between the two columns. What lies in the gap, nobody knows yet."
    )
    return [("head", "Certified, true, attacked"), ("text", told), ("table", rows(head, body))]
