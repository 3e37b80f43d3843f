"""Set two judgements against each other, image by image: what `evaluate --out` wrote, or the
folders of two runs. They must be of the same images
"""

from __future__ import annotations

EXAMPLE = "spat_nb compare a.json b.json --classes pgd20"


def add(parser):
    "Its flags"
    parser.add_argument(
        "record", help="Compare this one: a report, a record, or the folder of a run."
    )
    parser.add_argument("other", help="Compare it with this one, of the same images.")
    parser.add_argument(
        "--classes",
        metavar="ATTACK",
        help="Compare class by class under this attack, or under clean.",
    )


def _record(path):
    "The answers of a report, a record or a run"
    import json
    from pathlib import Path

    from spat_nb.core.paths import instead, what_is
    from spat_nb.measure.record import Record
    from spat_nb.measure.report import Report

    path = Path(path).expanduser()
    if path.is_dir() and (path / "report.json").is_file():
        path = path / "report.json"
    if path.is_file() and what_is(path) not in ("a report", "a record of answers"):
        raise ValueError(f"{path} is {what_is(path)}; {instead(path, 'report.json')}.")
    if path.is_file() and "record" in json.loads(path.read_text(encoding="utf-8")):
        return Report.load(path).record
    return Record.load(path)


def run(a):
    "Print a line for each attack, or for each class"
    table = _record(a.record).versus(_record(a.other), a.classes)
    under = f", the classes under {a.classes}" if a.classes else ""
    together = " (all classes together)" if a.classes else ""
    print(
        f"{a.record} against {a.other}{under}; images, accuracies, difference in points with 95%"
        f" interval{together}"
    )
    for name, row in table.iterrows():
        print(_line(name, row))
    for note in table.attrs["notes"]:
        print(f"Note: {note}.")
    print(
        "It holds for these two networks on other images; how far two more trainings would lie"
        " apart only more seeds can say."
    )


def _points(share):
    return f"{100 * share:+.1f}"


def _line(name, row):
    "Images, accuracies, difference, and whether it can be told from luck"
    apart = "" if row.lo > 0 or row.hi < 0 else "   not told apart"
    return (
        f"{name:12} {row.n:6.0f} {100 * row.accuracy:6.1f} {100 * row.other:6.1f}   "
        f"{_points(row['diff'])} [{_points(row.lo)}, {_points(row.hi)}]{apart}"
    )
