"""Show the table of slots: which of them every method changes, and the flags of `spat_nb train`
that set the same by hand
"""

from __future__ import annotations

import shlex

EXAMPLE = "spat_nb methods trades"
SLOTS = ("target", "inner", "start", "step", "outer", "net")


def add(parser):
    "Its flags"
    parser.add_argument(
        "name", nargs="*", help="Show these methods alone. The default is all of them."
    )


def run(a):
    "Print the table, and the specs of every row"
    from spat_nb.training.methods import METHODS, method_table

    unknown = [name for name in a.name if name not in METHODS]
    if unknown:
        raise ValueError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    names = a.name or list(METHODS)
    table = method_table().loc[names]
    print("an empty slot is as in the row of pgd_at\n")
    print(table[list(SLOTS)].to_string())
    for name in names:
        print(f"\n{name}: {METHODS[name].says}\n  {_specs(METHODS[name].fields)}")


def _specs(fields):
    "The specs of a row, as they are typed"
    words = []
    for name, value in fields.items():
        words += [f"--{name}", ", ".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
