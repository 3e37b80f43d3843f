"""The house: folders are floors, imports only go down, a room has one purpose and fits on a few
pages, and what is private stays in its room
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "spat_nb"
FLOORS = "core data models attacks measure training classwise papers studies app learn".split()
# rooms at the door: they name what is inside, or serve the export
DOOR = {
    "__init__",
    "__main__",
    "public",
    "_docstring_text",
    "_docstrings",
    "_export",
    "_modidx",
    "_signatures",
}
# rooms of one paper; no other paper's room may be imported
PAPERS = (
    {"spat", "spat_shared", "spat_meaning"},
    {"hypersphere", "hypersphere_scale"},
    {"points", "prototypes", "prototype_attacks", "prototype_rules"},
    {"activations", "sparta", "gates", "gate_costs", "gate_moves"},
    {"arks"},
    {"rpg"},
    {"transfer"},
    {"noise"},
    {"latent"},
    {"apart"},
    {"jeat"},
    {"mlcat"},
)
LONGEST = 300  # lines of a room, as `wc -l` counts them


def rooms():
    "Module, without the package's name -> its file"
    files = PACKAGE.rglob("*.py")
    found = {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in files}
    return {m: f for m, f in found.items() if not m.endswith("__init__") and m not in DOOR}


def imports(source, module):
    "(module, name) of everything of spat_nb that `source`, the code of `module`, imports"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.name.startswith("spat_nb."):
                    yield a.name.removeprefix("spat_nb."), None
        if not isinstance(node, ast.ImportFrom):
            continue
        home = node.module or ""
        if node.level:
            parts = ["spat_nb", *module.split(".")][: -node.level]
            home = ".".join([*parts, *home.split(".")]).rstrip(".")
        if home == "spat_nb" or home.startswith("spat_nb."):
            for a in node.names:
                yield home.removeprefix("spat_nb").lstrip("."), a.name


def floor(module):
    "How high a room stands; the table of names stands below all"
    if module.startswith("app.commands"):
        return len(FLOORS)  # the command line is the front door: it opens on every floor
    return -1 if module == "public" else FLOORS.index(module.split(".")[0])


def faults(source, module, known):
    "Imports of `source`, the code of `module`, that do not go down, or reach for what is private"
    for home, name in imports(source, module):
        target = f"{home}.{name}".lstrip(".") if f"{home}.{name}".lstrip(".") in known else home
        if target in ("", "public", *FLOORS) and floor(target or module) <= floor(module):
            continue  # the version, the table of names, a folder
        if target not in known:
            yield f"{module} imports {target or name}, and there is no such room"
        elif floor(target) > floor(module):
            yield f"{module} imports {target}, which stands above it"
        elif name and name.startswith("_") and home != module:
            yield f"{module} imports {home}.{name}, which is private"
        elif module.startswith("papers.") and target.startswith("papers."):
            one, other = module.split(".")[1], target.split(".")[1]
            if not any({one, other} <= p for p in PAPERS):
                yield f"{module} imports {target}, another paper's room"


def test_every_room_imports_downwards():
    known = rooms()
    bad = [f for m, p in known.items() for f in faults(p.read_text(), m, known)]
    assert len(known) > 80 and not bad, "\n".join(bad)


def test_there_is_no_circle():
    known = rooms()
    graph = {}
    for m, p in known.items():
        top = [
            n for n in ast.parse(p.read_text()).body if isinstance(n, (ast.Import, ast.ImportFrom))
        ]
        source = "\n".join(map(ast.unparse, top))
        homes = {
            h if n is None or f"{h}.{n}" not in known else f"{h}.{n}" for h, n in imports(source, m)
        }
        graph[m] = {h for h in homes if h in known}
    while free := {m for m, needs in graph.items() if not needs & set(graph)}:
        graph = {m: needs for m, needs in graph.items() if m not in free}
    assert not graph


def test_a_room_has_one_purpose():
    long = {
        m: n
        for m, p in rooms().items()
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert not long


def test_a_module_has_one_home():
    homes = {}
    for nb in sorted((TOP / "nbs").glob("*.ipynb")):
        cells = json.loads(nb.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        for m in set(re.findall(r"^#\| (?:default_exp|exports?) ([\w.]+)", code, re.M)):
            assert homes.setdefault(m, nb.stem) == nb.stem
    by_hand = {m for m, p in rooms().items() if "AUTOGENERATED" not in p.read_text()[:600]}
    assert set(homes) | by_hand == set(rooms()) and not set(homes) & by_hand


KNOWN = dict.fromkeys(["attacks.attack", "papers.spat", "papers.spat_shared", "core.rng"])


@pytest.mark.parametrize(
    "source,module,n",
    [
        ("from spat_nb.attacks.attack import pgd", "attacks.balls", 0),
        ("from ..attacks.attack import pgd", "core.checks", 1),
        ("from .rng import generator", "core.checks", 0),
        ("from .rng import _empty", "core.checks", 1),
        ("import spat_nb.papers.spat", "papers.hypersphere", 1),
        ("from .spat import spat", "papers.spat_shared", 0),
        ("from .spat import spat", "papers.sparta", 1),
        ("from spat_nb.core import rng", "data.batches", 0),
        ("from .nothing import x", "core.rng", 1),
        ("def f():\n    from ..attacks.attack import pgd", "models.layers", 1),
        ("from .. import public", "core.spec", 0),
    ],
)
def test_the_rule_itself(source, module, n):
    assert len(list(faults(source, module, KNOWN))) == n


LOADS = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*[m for m in sys.modules if m.startswith("spat_nb.")])
"""


def loaded(module):
    "Rooms that an import brings into a fresh process"
    run = subprocess.run(
        [sys.executable, "-c", LOADS, module], capture_output=True, text=True, check=True, cwd=TOP
    )
    return {m.removeprefix("spat_nb.") for m in run.stdout.split()}


def test_training_brings_no_attack_beyond_the_engine():
    engine = {"threat", "balls", "losses", "gradients", "door", "ascent", "attack", "filling"}
    for module in ("spat_nb.training.learner", "spat_nb.training.run"):
        brought = loaded(module)
        attacks = {m.split(".")[1] for m in brought if m.startswith("attacks.")}
        assert "training.learner" in brought and attacks <= engine
    assert not {m for m in loaded("spat_nb.training.learner") if m.startswith("measure")}


def test_reading_results_brings_no_learner():
    for module in ("spat_nb.studies.results", "spat_nb.studies.reading"):
        assert not {m for m in loaded(module) if m.startswith("training")}


def test_the_formatter_sees_all_that_is_written_by_hand():
    command = [sys.executable, "-m", "ruff", "check", "--show-files"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TOP)
    seen = {Path(line) for line in run.stdout.splitlines() if f"{PACKAGE}/" in line}
    files = [f for f in PACKAGE.rglob("*.py") if f.name != "_modidx.py"]
    by_hand = {f for f in files if "AUTOGENERATED" not in f.read_text(encoding="utf-8")[:900]}
    assert seen == by_hand
