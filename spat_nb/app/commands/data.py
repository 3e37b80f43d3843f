"""Download data sets into the data folder. What has arrived is kept where a download stops, and
nothing is unpacked whose checksum is not the published one
"""

from __future__ import annotations

from typing import Any

EXAMPLE = "spat_nb data mnist cifar10"


def add(parser):
    "Its flags"
    parser.add_argument(
        "names", nargs="+", help="Download these: mnist, cifar10, cifar100, svhn, stl10."
    )


def run(a):
    "Download, open, say what there is"
    from spat_nb.core.paths import check_writable
    from spat_nb.core.settings import settings
    from spat_nb.data.sources import get_data

    place = settings().data
    check_writable(place, folder=True)
    for name in a.names:
        d: Any = get_data(name, device="cpu", download=True)
        print(
            f"{name}: {d.train.n + d.valid.n:,} training and {d.test.n:,} test images of"
            f" {d.test.shape} in {place}"
        )
