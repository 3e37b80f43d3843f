"""README and the prose of the notebooks: the first lines of code run, commands are understood, and
modules that are named are there
"""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import spat_nb
from spat_nb import public
from spat_nb.app.cli import COMMANDS, build_parser

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "nbs").glob("*.md"))]
NOTEBOOKS = sorted((TOP / "nbs").glob("*.ipynb"))


def prose(path):
    "The text of a page, or of a notebook's cells that are no code"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "markdown"]
    return "\n\n".join("".join(c["source"]) for c in cells)


def fenced(text):
    return re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)


def commands(text):
    "Words of each `spat_nb ...`: in backticks, or a line of a block"
    said = re.findall(r"`spat_nb\s([^`]+)`", text)
    for block in fenced(text):
        for line in block.splitlines():
            said += re.findall(r"^(?:spat_nb|.*-m spat_nb) ([^#\n]*)", line)
    return [words for s in said if (words := shlex.split(s)) and "..." not in words]


def test_the_first_code_runs(tmp_path):
    text = (TOP / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    *before, last = code.strip().splitlines()
    script = "\n".join([*before, f"print({last})"])
    env = os.environ | {"PYTHONPATH": str(TOP), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    r = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr
    rows = re.findall(r"^(clean|fgsm|pgd20) +\d", r.stdout, re.M)
    assert rows == ["clean", "fgsm", "pgd20"], r.stdout


def test_commands_are_found():
    block = "```sh\nspat_nb zoo  # all\ntorchrun -m spat_nb train --n 3\n```"
    text = f"`spat_nb study\nlist` or\n\n{block}"
    assert commands(text) == [["study", "list"], ["zoo"], ["train", "--n", "3"]]


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda p: p.name)
def test_commands_are_understood(path):
    parser = build_parser(COMMANDS)
    shown = {}
    for name, command in parser._subparsers._group_actions[0].choices.items():
        options = [a for a in command._actions if a.help != "==SUPPRESS=="]
        shown[name] = {flag for a in options for flag in a.option_strings}
    for words in commands(prose(path)):
        if "--help" in words or words[0].startswith("--"):
            continue
        if words in ([name] for name in COMMANDS):
            continue  # named, not typed
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{path.name}: spat_nb {shlex.join(words)}")
        old = [w for w in words if w.startswith("--") and w not in shown[words[0]]]
        assert not old, f"{path.name}: {old} in spat_nb {shlex.join(words)} is an old word"


def is_there(name):
    "Is `spat_nb.a.b` a module, or a name in one, or a public name?"
    first, *rest = name.split(".")[1:]
    if first in ("__version__", *public.NAMES):
        return all(hasattr(getattr(spat_nb, first), part) for part in rest[:1])
    home = name
    while home != "spat_nb":
        try:
            found = importlib.util.find_spec(home)
        except ModuleNotFoundError:
            found = None
        if found and home == name:
            return True
        if found:
            return hasattr(
                importlib.import_module(home), name.removeprefix(f"{home}.").split(".")[0]
            )
        home = home.rpartition(".")[0]
    return False


def test_what_is_there_is_told_from_what_is_not():
    there = "spat_nb.core.rng spat_nb.core.rng.randn_like spat_nb.zoo.load spat_nb.__version__"
    assert all(is_there(name) for name in there.split())
    gone = "spat_nb.study spat_nb.core.randn spat_nb.zoo.nope spat_nb.evaluate.Record"
    assert not any(is_there(name) for name in gone.split())


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda p: p.name)
def test_modules_that_are_named_are_there(path):
    text = re.sub(r"https?://\S+", "", prose(path))
    named = {*re.findall(r"\bspat_nb(?:\.[A-Za-z_]\w*)+", text)}
    ends = {n for n in named if n.endswith((".py", ".egg"))}
    gone = sorted(n for n in named - ends if not is_there(n))
    files = re.findall(r"(?<![\w/])((?:nbs|spat_nb|tests|tools)/[\w./]+\.(?:py|ipynb|md))\b", text)
    gone += [f for f in files if not re.search("NAME|NN_", f) and not (TOP / f).exists()]
    assert not gone
