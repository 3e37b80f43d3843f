"""One minute with the package: train two networks on digits, attack both, say what happened, and
write a page with pictures
"""

from __future__ import annotations

from pathlib import Path

EXAMPLE = "spat_nb tour --out tour.html"


def add(parser):
    "Its flags"
    parser.add_argument(
        "--out", default="tour.html", help="Write this page. The default is tour.html."
    )


def run(a):
    "Train, attack, compare"
    from spat_nb.core.paths import check_writable

    from .. import tour

    check_writable(a.out, ending=".html")
    tour.tour(Path(a.out))
