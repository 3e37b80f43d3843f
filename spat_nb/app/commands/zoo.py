"""Networks that come with the package: list them, show the card of one, ship the network of a
study's run
"""

from __future__ import annotations

from ..arguments import add_scale, whole

EXAMPLE = "spat_nb zoo card digits/pgd_at/w16"


def add(parser):
    "Its flags"
    parser.add_argument(
        "what",
        nargs="?",
        default="list",
        choices=["list", "card", "ship"],
        help="Do this. The default is list.",
    )
    parser.add_argument(
        "study",
        nargs="?",
        help="Ship a run of this study; for card it is the name of the network.",
    )
    parser.add_argument("arm", nargs="?", help="Ship this row of the study.")
    parser.add_argument("--name", help="Call it so: data/method/variant, digits/pgd_at/w16 say.")
    add_scale(parser)
    parser.add_argument(
        "--seed", type=whole(), default=0, help="Ship the run of this seed. The default is 0."
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="Ship every network of the list in spat_nb/app/shipping.py whose run is there.",
    )
    parser.add_argument(
        "--again", action="store_true", help="With --all: ship also those that were shipped before."
    )
    parser.add_argument(
        "--aa",
        action="store_true",
        help="Compare float16 with float32 under AutoAttack too.",
    )


def run(a):
    "Do what was asked"
    doings = {"list": _list, "card": _card, "ship": _ship}
    return doings[a.what](a)


def _list(a):
    from .. import zoo

    if not zoo.names():
        return print("no network is shipped yet: spat_nb zoo ship --all")
    print(zoo.table().to_string())


def _card(a):
    from .. import zoo

    if not a.study:
        names = ", ".join(zoo.names())
        raise ValueError(f"which network? spat_nb zoo card NAME; they are {names}.")
    print(zoo.card(a.study))


def _ship(a):
    from .. import shipping, zoo
    from ..opening import settle

    settle()
    if a.all:
        for name, what in shipping.ship_all(a.again, aa=a.aa):
            print(f"{name:30} {what}", flush=True)
        return
    if not (a.study and a.arm and a.name):
        raise ValueError("spat_nb zoo ship needs STUDY, ARM and --name; or give --all.")
    path = shipping.ship(a.study, a.scale, a.arm, a.seed, a.name, a.aa)
    print(f"written: {path}\n\n{zoo.card(a.name)}")
