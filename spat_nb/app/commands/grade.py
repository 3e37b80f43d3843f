"""Judge the exercises of all hand-ins in a folder, each in a process of its own with a time limit,
and write a table. The code of the hand-ins is run on this machine
"""

from __future__ import annotations

from pathlib import Path

from ..arguments import seconds, whole

EXAMPLE = "spat_nb grade hand-ins --out marks.csv"
MORE = (
    "The folder holds one folder for each reader, with notebooks, or one notebook for each reader. "
    "Guesses are listed as they were typed; functions are judged as in the notebook."
)


def add(parser):
    "Its flags"
    parser.add_argument("folder", help="Grade the notebooks in this folder.")
    parser.add_argument(
        "--out", default="marks.csv", help="Write the table here. The default is marks.csv."
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=30.0,
        help="Give each exercise so long: 30s, 2m. The default is 30s.",
    )
    parser.add_argument(
        "--workers",
        type=whole(1),
        default=2,
        help="Judge so many exercises side by side. The default is 2.",
    )


def run(a):
    "Grade, write, say what was found"
    from spat_nb.core.paths import check_writable
    from spat_nb.learn.grading import grade, summary, write_csv

    folder = Path(a.folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {a.folder}; check the path.")
    out = Path(a.out).expanduser()
    check_writable(out)
    marks = grade(folder, a.seconds, a.workers)
    write_csv(marks, out)
    print(summary(marks))
    print(f"written: {out}, {len(marks)} rows")
