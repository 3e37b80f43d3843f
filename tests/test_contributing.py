"""CONTRIBUTING.md: what it shows an outsider runs as it stands, and what it names is there"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
TEXT = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
FILES = {m[1]: b for b in BLOCKS if (m := re.match(r"# (\w+\.py)\n", b))}
SCRIPTS = [b for b in BLOCKS if b not in FILES.values()]

# the study as it stands, on fewer images and for an epoch
STUDY = """
from dataclasses import replace
from spat_nb.studies.finding import find_study
from spat_nb.studies.results import read_results
from spat_nb.studies.runner import run

study = find_study("study_squeezed.py")
print(study.name, *study.arms, sep=" | ")
tiny = dict(epochs=1, strong="pgd(steps=2)", judged=20, tested=20, trusted=8, cost=0.05)
study = replace(study, sizes={"laptop": tiny})
done = run(study, "laptop", seeds=[0], arms=["squeezed"], device="cpu", quiet=True)
print(done, "run")
print(read_results("results/squeezed/laptop").table().to_string())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder outside of the package, with the files that the text shows"""
    path = tmp_path_factory.mktemp("outside")
    for name, code in FILES.items():
        (path / name).write_text(code, encoding="utf-8")
    return path


def run(folder, code):
    """What a new process prints that runs `code` there"""
    env = os.environ | {"PYTHONPATH": str(TOP), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    env["SPAT_NB_RESULTS"] = str(folder / "results")
    command = [sys.executable, "-c", code]
    r = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


def test_there_is_code_for_each():
    assert {"corners.py", "squeezed.py", "study_squeezed.py"} == set(FILES)
    assert len(SCRIPTS) == 3


def test_an_attack(folder):
    said = run(folder, SCRIPTS[0])
    assert re.search(r"^corners +100 +0\.\d", said, re.M), said


def test_an_objective_a_head_and_an_activation(folder):
    said = run(folder, SCRIPTS[1])
    assert "robust" in said
    assert (folder / "runs/squeezed/weights.safetensors").is_file()


def test_an_edited_objective_is_another_run(folder):
    path = folder / "squeezed.py"
    text = path.read_text()
    path.write_text(text.replace("z.square()", "z.abs()"))
    try:
        with pytest.raises(AssertionError, match="objective"):
            run(folder, SCRIPTS[1])
    finally:
        path.write_text(text)


def test_a_data_set(folder):
    assert "n=100, shape=(1, 8, 8), c=2" in run(folder, SCRIPTS[2])


def test_a_study(folder):
    said = run(folder, STUDY)
    assert said.startswith("squeezed | PGD-AT | squeezed\n") and "\n1 run\n" in said
    assert re.search(r"^squeezed( +[\d.]+ \[\S+\s\S+\]){4} +[\d.]+ +1\b", said, re.M), said
    (result,) = (folder / "results/squeezed/laptop").glob("*.json")
    told = json.loads(result.read_text(encoding="utf-8"))
    assert (told["arm"], told["seed"]) == ("squeezed", 0)
    assert "squeezed(k=0.1)" in told["config"]["recipe"]["objective"]
    assert {"clean", "pgd20", "aa"} <= {*told["attacks"]}


def test_what_it_names_is_there():
    floors = re.findall(r"^\| `(\w+)` \|", TEXT, re.M)
    assert all((TOP / "spat_nb" / f).is_dir() for f in floors) and len(floors) == 11
    named = re.findall(r"`((?:nbs|spat_nb|tests|tools|docs)/[\w./]+\.\w+)`", TEXT)
    assert len(named) > 10
    missing = [n for n in named if not re.search("NAME|NN_", n) and not (TOP / n).exists()]
    assert not missing
    targets = set(re.findall(r"^([a-z-]+):.*## ", (TOP / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z-]+)`", TEXT)) <= targets
