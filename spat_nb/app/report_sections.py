"""What a report says, under the headings that auditors ask for: the kinds of methods of ISO/IEC
TR 24029-1 and the subjects of Article 15 of the EU AI Act. Below each stands what was measured, or
that it is not shown
"""

from __future__ import annotations

from collections import Counter

from ..core.bars import bars_of, interval, percent
from ..measure.cases import Cases
from ..measure.report import Report
from ..measure.told import told_privacy
from .report_attacker import attacker
from .report_blocks import Asked, Section, rows, shots
from .report_proof import between, formal

__all__ = ["DISCLAIMER", "sections"]

DISCLAIMER = (
    "This report is no certificate, and no statement of conformity with any law or standard. It"
    " says what was measured on these images, with these attacks. Headings follow documents that"
    " auditors use; where nothing was measured, it says: not shown."
)
PASSES = ("forward", "backward")


def sections(
    report: Report,  # of a network
    cases: Cases,  # its worst cases
) -> list:  # of Section
    "All that stands below the verdict"
    return [
        _in_short(report),
        attacker(report),
        _measured(report),
        _classes(report),
        Section("Worst cases", _worst(cases)),
        Section("Is the number real?", _trust(report)),
        _article(report),
        _again(report),
    ]


def _accuracy(report, row):
    "'80.0% [65.2, 89.5]' under a row of the table"
    return interval(report.record.accuracy(row), *report.record.interval(row))


def _in_short(report):
    classes = report.record.per_class(report.hardest)
    weakest = classes.iloc[classes.accuracy.argmin()]
    return Section(
        "In short",
        [
            (
                "facts",
                [
                    *_lowest(report),
                    ("clean images", f"{_accuracy(report, 'clean')} answered right"),
                    ("under attack", f"{_accuracy(report, report.hardest)}, {_tried(report)}"),
                    (
                        "weakest class",
                        f"{weakest.name}: {interval(weakest.accuracy, weakest.lo, weakest.hi)} of"
                        f" {int(weakest.n)} images",
                    ),
                    ("images", f"{len(report.record.y):,}, brackets are 95% intervals (Wilson)"),
                ],
            ),
            *(("text", note) for note in report.record.notes),
        ],
    )


def _lowest(report):
    "The lowest number that was found, where somebody looked"
    card, follow = report.card, report.follow
    if card is None:
        return []
    found = follow if follow is not None and follow.falls else card
    left = (
        f"{interval(*found.lowest)} of {card.n} images, under all attacks of this report together"
    )
    return [("lowest number found", left)]


def _tried(report):
    "By what the robust accuracy is counted"
    many = report.hardest == "worst"
    return "under everything that was tried" if many else f"under {report.hardest}"


# ---- what was measured


def _measured(report):
    n = f"{len(report.record.y):,}"
    told = (
        "Methods to assess a neural network are of three kinds in ISO/IEC TR 24029-1: statistical,"
        " formal, empirical."
    )
    asked = [
        Asked(
            "Statistical methods",
            True,
            f"Share of {n} test images that are answered right, with 95% intervals; each class by"
            " itself, below.",
        ),
        Asked(
            "Empirical methods",
            bool(report.attacks),
            "Search for adversarial examples, attack by attack, in the table. The accuracy under"
            " attack is an upper bound: a stronger attack may find more. Trials in the field: not"
            " shown.",
        ),
        formal(report),
    ]
    return Section(
        "Robustness, measured",
        [
            ("text", told),
            ("asked", asked),
            ("head", "Every attack that was tried, and what it was allowed"),
            ("table", _attacks_table(report)),
            (
                "text",
                "Passes are those through the network, forward and back, for each image that the"
                " attack was run on. 'worst' counts an image as right only where it stood under"
                " everything.",
            ),
            *between(report),
        ],
    )


def _attacks_table(report):
    table = report.table()
    body = []
    for name, row in table.iterrows():
        passes = ["" if row[way] != row[way] else f"{row[way]:g}" for way in PASSES]
        spec = report.attacks.get(name, "")
        weakest = f"{row.weakest_class}: {percent(row.weakest)}"
        shown = interval(row.accuracy, row.lo, row.hi)
        body.append([name, spec, shown, weakest, *passes])
    return rows(
        ["attack", "spec", "accuracy [95%]", "weakest class", "forward", "backward"],
        body,
        texts=(1,),
    )


def _classes(report):
    table = report.record.per_class(report.hardest)
    bars = bars_of(table)
    there = int((table.n > 0).sum())
    told = f"Accuracy under {report.hardest}, the weakest first, with 95% intervals"
    told += f"; the {len(bars)} weakest of {there} classes." if there > len(bars) else "."
    return Section("Class by class", [("text", told), ("bars", bars)])


def _worst(cases):
    if not cases.shown:
        return [("asked", [Asked("Pictures", False, cases.told)])]
    note = (
        "Left the image as it is, with its label; in the middle the change, red brighter and blue"
        " darker, in full colour where it is largest; right what the network was shown, with its"
        " answer."
    )
    return [("text", cases.told), ("text", note), ("shots", shots(cases.shown))]


def _trust(report):
    card = report.card
    if card is None:
        told = "The trust gates were not asked; --trust asks them."
        return [("asked", [Asked("Trust card", False, told)])]
    body = [
        [c.name, c.asks, _number(c.figure), _number(c.limit), c.verdict, c.note]
        for c in card.checks
    ]
    head = ["gate", "asks", "figure", "limit", "verdict", "numbers"]
    said = Counter(c.verdict for c in card.checks)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in said.items())
    told = f"{card.headline[0].upper()}{card.headline[1:]}."
    advice = [("text", a) for a in card.advice()]
    title = f"All {len(card.checks)} checks: {counts}"
    return [
        ("text", told),
        *advice,
        *_followed(report.follow),
        ("fold", (title, rows(head, body, texts=(1, 5)))),
    ]


def _followed(follow):
    "Per flag, what the attack found that it calls for"
    if follow is None:
        told = "The flags were not followed up; --follow runs the attacks that they call for."
        return [("asked", [Asked("Follow-up", False, told)])]
    told = f"{follow.headline[0].upper()}{follow.headline[1:]}."
    body = [
        [
            ", ".join(f.flags),
            f.told,
            f.note or f"{percent(f.stand)}",
            "" if f.note else f"{f.points:.1f} [{f.lo:.1f}, {f.hi:.1f}]",
            "" if f.note else f.new,
        ]
        for f in follow.falls
    ]
    head = ["flags", "attack that they call for", "left", "below the claim, points", "new"]
    table = [("table", rows(head, body, texts=(0, 1, 2)))] if body else []
    return [("head", "What the flags led to"), ("text", told), *table]


def _number(v):
    return "" if v is None or v != v else f"{v:.3g}"


# ---- the law's subjects, and how to do it again


def _article(report):
    clean, hard = (_accuracy(report, k) for k in ("clean", report.hardest))
    robust = bool(report.attacks)
    asked = [
        Asked(
            "Level of accuracy, and its metric",
            True,
            f"{clean} of clean test images answered right.",
        ),
        Asked(
            "Level of robustness, and its metric",
            robust,
            f"{hard} of the same images right under {report.hardest}, in {report.ball}.",
        ),
        Asked(
            "Consistency over the life cycle",
            False,
            "One network, once. spat_nb gate sets a later one against report.json.",
        ),
        Asked(
            "Resilience to errors, faults and inconsistencies",
            False,
            "No noise, blur, damaged input or failing part was tried.",
        ),
        Asked("Feedback loops", False, "Learning in use was not looked at."),
        Asked(
            "Resilience to attempts of third parties: adversarial examples, model evasion",
            robust,
            f"{hard} under {report.hardest}; what was tried stands above.",
        ),
        Asked("Data poisoning and model poisoning", False, "Training was not looked at."),
        _confidential(report),
    ]
    told = "The subjects of Article 15 of the EU AI Act, Regulation (EU) 2024/1689."
    return Section("Accuracy, robustness and cybersecurity", [("text", told), ("asked", asked)])


def _confidential(report):
    what = "Confidentiality attacks, model flaws"
    if report.privacy is None:
        told = "Nothing was tried; --privacy asks what the network tells of its training images."
        return Asked(what, False, told)
    told = told_privacy(report.privacy)
    return Asked(what, True, f"{told[0].upper()}{told[1:]}. Other attacks: not shown.")


def _again(report):
    made = report.made
    hashes = made.get("hashes", {})
    identity = report.record.info.get("identity", {})
    versions = [k for k in ("spat_nb", "torch", "python") if k in made]
    facts = [
        ("command", made.get("command") or "called from Python"),
        ("seed", str(made.get("seed", report.record.info.get("seed")))),
        ("versions", ", ".join(f"{k} {made[k]}" for k in versions)),
        ("file of the network, SHA-256", hashes.get("file", "not shown")),
        ("weights and buffers, SHA-1", hashes.get("weights", "not shown")),
        ("network with its code, SHA-1", str(identity.get("model", "not shown"))),
        ("images in their order, SHA-1", str(identity.get("images", "not shown"))),
    ]
    return Section("How to do it again", [("facts", facts)])
