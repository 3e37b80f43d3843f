"""Who attacked, in the words of NIST AI 100-2: the adversary's goal, knowledge and capability"""

from __future__ import annotations

from ..core.grammar import parse
from ..measure.report import Report
from .report_blocks import Asked, Section

__all__ = ["attacker"]

TRIED = "tried"
# norm -> what the attacker may do
REACH = {
    "Linf": "move every pixel value by at most {}",
    "L2": "change the image by a Euclidean length of at most {}",
    "L1": "change pixel values by at most {} in sum",
}


def _capability(ball):
    "What the attacker may do to an image, in words"
    try:
        call = parse(ball)
        radius = float(call.args[0] if call.args else call.keywords["eps"])
        reach = REACH[call.what.name].format(f"{radius:.4g}")
    except (AttributeError, KeyError, TypeError, ValueError):
        return f"Everything within {ball}, when the network is used."
    return (
        f"When the network is used, the attacker may {reach}, pixels in [0,1]: {ball}. Neither"
        " training data nor weights are changed."
    )


def _knowledge(report):
    "White box where an attack took gradients"
    if not report.attacks:
        return Asked("Adversary's knowledge", False, "No attack was run.")
    passes = {k: report.passes.get(k, {}).get("backward") for k in report.attacks}
    if all(v is None for v in passes.values()):
        return Asked("Adversary's knowledge", False, "Passes were not counted in this run.")
    white = [k for k, v in passes.items() if v]
    black = [k for k, v in passes.items() if v == 0]
    told = []
    if white:
        told.append(
            f"White box: {', '.join(white)} followed gradients of the network, which takes its"
            " architecture and weights."
        )
    if black:
        told.append(f"Black box with query access: {', '.join(black)} saw answers only.")
    return Asked("Adversary's knowledge", True, " ".join(told), TRIED)


def attacker(
    report: Report,  # of a network
) -> Section:
    "Goal, knowledge and capability"
    was_attacked = bool(report.attacks)
    asked = [
        Asked(
            "Class of attack",
            was_attacked,
            "Evasion: images are changed when the network is used (adversarial examples).",
            TRIED,
        ),
        Asked(
            "Adversary's goal",
            was_attacked,
            "Integrity: a wrong answer, whichever, to an image that is answered right.",
            TRIED,
        ),
        _knowledge(report),
        Asked("Adversary's capability", was_attacked, _capability(report.ball), TRIED),
        Asked("Poisoning attacks", False, "Training data and training were not looked at."),
        Asked("Availability and privacy", False, "No attack on either was tried."),
    ]
    told = "The attacker in the vocabulary of NIST AI 100-2."
    return Section("Threat model", [("text", told), ("asked", asked)])
