"Say what this machine lacks, and the command that mends it"

from __future__ import annotations

EXAMPLE = "spat_nb doctor"


def add(parser):
    "It has no flags"


def run(a):
    "Look, and say what was found; 1 where something is broken"
    from .. import doctor

    return doctor.doctor()
