"""Imports only go down: a room imports from those that stand before it, a paper's room (30 to 80)
from floors 0 to 2 only
"""

import ast
import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).parents[1] / "nbs"
# modules without a notebook, and where they stand: studies above all papers
HANDWRITTEN = {
    "vision": "",
    "fetch": "",
    "paths": "",
    "arrays": "",
    "images": "",
    "study": "89",
    "zoo": "89",
}


def rooms():
    """Module -> name of its notebook, by `default_exp` or by `export NAME`; the folder's order is
    the order of the house
    """
    found = dict(HANDWRITTEN)
    for p in NBS.glob("[0-9][0-9]_*.ipynb"):
        src = "".join("".join(c["source"]) + "\n" for c in json.loads(p.read_text())["cells"])
        for m in re.findall(r"^#\| (?:default_exp|exports?) (\w+)", src, flags=re.M):
            assert found.setdefault(m, p.stem) == p.stem, (
                f"{m} is exported by {found[m]} and by {p.stem}"
            )
    return found


def imports(source):
    "Modules of spat_nb that exported code imports"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (
            node.level == 1 or (node.module or "").startswith("spat_nb")
        ):
            name = (node.module or "").removeprefix("spat_nb").lstrip(".")
            yield from [name] if name else [a.name for a in node.names]
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("spat_nb."))


# its modules may import each other; Python refuses a circle
def several(room, rooms):
    return list(rooms.values()).count(room) > 1


def faults(source, room, rooms):
    "Imports of `source`, the code of notebook `room`, that do not go down"

    def floor(name):
        return int(name[:1] or 0)

    for m in imports(source):
        if m not in rooms:
            yield f"imports {m}, which no notebook makes"
        elif rooms[m] > room or rooms[m] == room and not several(room, rooms):
            yield f"imports {m} ({rooms[m]}), which does not stand before {room}"
        elif 3 <= floor(room) < 9 and floor(rooms[m]) >= 3:
            yield f"imports {m} ({rooms[m]}): a paper's room uses floors 0 to 2 only"


def test_every_room_imports_downwards():
    found = rooms()
    assert len(found) >= 10
    bad = {
        m: f
        for m, room in found.items()
        if m not in HANDWRITTEN
        and (f := list(faults((NBS.parent / "spat_nb" / f"{m}.py").read_text(), room, found)))
    }
    assert not bad, bad


def test_a_notebook_may_make_two_modules():
    found = rooms()
    assert (
        found["trust"] == found["faults"] == "21_trust"
        and (NBS.parent / "spat_nb/faults.py").is_file()
    )


@pytest.mark.parametrize(
    "source,room,n",
    [
        ("from spat_nb.attacks.attack import pgd", "10_balls", 1),
        ("from spat_nb.attacks.attack import pgd", "20_evaluate", 0),
        ("import spat_nb.spat", "50_hypersphere", 1),
        ("from . import spat", "50_hypersphere", 1),
        ("from .nothing import x", "90_compare", 1),
        ("def f():\n    from spat_nb.attacks.attack import pgd", "03_models", 1),
    ],
)
def test_the_rule_itself(source, room, n):
    assert len(list(faults(source, room, {"attack": "12_attack", "spat": "40_spat"}))) == n
