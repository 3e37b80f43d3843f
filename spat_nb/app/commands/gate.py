"""Judge a network, and fail where robust accuracy has fallen by more than is allowed: on the same
images as a baseline, beyond chance. Exit status 0: it stands; 1: it has fallen, or a new trust flag
came up; 2: it could not be judged
"""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from pathlib import Path

from ..arguments import number
from . import evaluate

EXAMPLE = "spat_nb gate digits/pgd_at/w16 --against baseline.json --drop 2 --junit gate.xml"
MORE = (
    "Ball, attacks, data and number of images are those of the baseline, which evaluate --out or "
    "--report wrote. False alarms come in at most 5 of 100 runs; the note says what fall is caught."
    " A ready workflow for GitHub: docs/gate_workflow.yml in the repository."
)
FALLEN, UNJUDGED = 1, 2
# flags that say which images
OF_DATA = ("data", "split", "root", "size")


def points(text: str) -> float:
    "A number of percentage points, from 0 to 100"
    from argparse import ArgumentTypeError

    value = number(text)
    if 0 <= value < 100:
        return value
    raise ArgumentTypeError(f"{text} is no number of points; give 0 or more and less than 100")


def add(parser):
    "Its flags"
    parser.add_argument(
        "--against",
        required=True,
        metavar="BASELINE",
        help="Compare with this: report.json, or what evaluate --out wrote.",
    )
    parser.add_argument(
        "--drop",
        type=points,
        default=2.0,
        metavar="POINTS",
        help="Allow robust accuracy to fall by so many percentage points. The default is 2.",
    )
    parser.add_argument(
        "--junit", metavar="XML", help="Write the verdict to this file, as JUnit XML."
    )
    evaluate.add_judged(parser)
    parser.set_defaults(within=None, budget=None)  # all images of the baseline are judged


def run(a):
    "Judge, compare, print, write; the status"
    from spat_nb.app.cli import MENDABLE, said

    from ..gate_files import add_summary, write_junit_error

    try:
        return _gate(a)
    except BrokenPipeError:  # the reader has gone
        raise
    except Exception as e:  # whatever it was: nobody knows whether the network has fallen
        is_mendable = isinstance(e, MENDABLE)
        if not is_mendable:
            traceback.print_exc()
        sentence = said(e, a.flags) if is_mendable else f"{type(e).__name__}: {e}"
        print(f"spat_nb gate: {sentence}", file=sys.stderr)
        with suppress(OSError):
            add_summary(f"### Robustness gate: not judged\n\n{sentence}\n")
        if a.junit:
            with suppress(OSError):
                write_junit_error(sentence, a.junit)
        return UNJUDGED


def _gate(a):
    from spat_nb.core.paths import check_writable
    from spat_nb.measure.against import against_baseline
    from spat_nb.measure.report import Report

    from ..gate_files import add_summary, lines, summary_of, write_junit

    baseline = Report.load(a.against)
    _check_baseline_stays(a)
    if a.junit:
        check_writable(a.junit)
    _take(a, baseline)
    report = evaluate.judged(a, lambda it, attacks: _check(it, attacks, baseline))
    found = against_baseline(report, baseline, a.drop / 100)
    print(f"\n{lines(found)}")
    if a.junit:
        write_junit(found, a.junit)
    add_summary(summary_of(found))
    return 0 if found.passed else FALLEN


def _check_baseline_stays(a):
    "ValueError where the baseline would be written over: each run could then fall a little more"
    base = Path(a.against).expanduser()
    kept = {base.resolve(), (base / "report.json").resolve()}
    for flag, path in (("out", a.out), ("report", a.report and Path(a.report) / "report.json")):
        if path and Path(path).expanduser().resolve() in kept:
            raise ValueError(f"{flag}: it would write over the baseline {base}; give another path.")


def _take(a, baseline):
    "What was not typed is as it was for the baseline. What a file says imports nothing"
    from spat_nb.core import spec

    if a.ball is None:
        spec.make(baseline.ball)
        a.ball = baseline.ball
    if a.attacks is None and not a.aa:
        a.attacks = dict(baseline.attacks)
    if a.precision is None:
        a.precision = baseline.record.info.get("precision")
    asked = baseline.made.get("asked", {})
    if a.data is None:
        _take_data(a, asked)
    if a.n_test is None:
        a.n_test = asked.get("n_test")


def _take_data(a, asked):
    "The data set of the baseline"
    import re

    from spat_nb.core.grammar import OUTSIDE

    if re.fullmatch(OUTSIDE, asked.get("data") or ""):
        raise ValueError(
            f"data: the baseline names code, which is run only where it is typed: "
            f"--data {asked['data']}"
        )
    _check_there(asked.get("data"), asked.get("root"))
    for flag in OF_DATA:
        if getattr(a, flag, None) is None:
            setattr(a, flag, asked.get(flag))


def _check_there(name, root):
    "Refuse a folder or file of the baseline that is not to be found from here"
    from spat_nb.core.settings import settings
    from spat_nb.data.judged import is_ones_own
    from spat_nb.data.opening import SOURCES, file_of

    if not name or name in SOURCES or is_ones_own(name):
        return
    if file_of(name, Path(root or settings().data).expanduser()) is None:
        raise ValueError(
            f"data: the baseline was judged on {name}, which is not here; give the same images: "
            "--data FOLDER."
        )


def _check(it, attacks, baseline):
    "Refuse, before anything is attacked, what cannot be compared"
    import torch

    from spat_nb.core import spec
    from spat_nb.core.digest import digest
    from spat_nb.measure.against import check_attacks, check_ball, check_images_same
    from spat_nb.measure.feed import batches_of
    from spat_nb.measure.journal import marks_of

    check_ball(spec.text(it.ball), baseline)
    check_attacks(attacks, baseline)
    marks = [m for x, _ in batches_of(it.data.test) for m in marks_of(x)]
    check_images_same(digest(torch.tensor(marks)), len(marks), baseline)
