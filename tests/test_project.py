"What is generated is what the notebooks say, notebooks are clean, and imports are light"

import filecmp
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
NOTEBOOKS = sorted((TOP / "nbs").glob("*.ipynb"))
ROOMS = (
    "attacks.autoattack",
    "classwise.diagnosis",
    "learn.exercise",
    "measure.trust",
    "papers.sparta",
    "studies.study",
    "training.devices",
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "The notebooks and the package in a folder of their own"
    d = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "spat_nb"):
        shutil.copytree(
            TOP / name, d / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        )
    for name in ("pyproject.toml", "_quarto.yml", "settings.ini"):
        shutil.copy(TOP / name, d / name)
    return d


def command(name, cwd):
    # nbdev's commands do nothing where it is set
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    return subprocess.run(
        [str(Path(sys.executable).with_name(name))],
        cwd=cwd,
        env=env,
        check=True,
        capture_output=True,
    )


def test_export_would_change_nothing(copy):
    stale = copy / "spat_nb" / "attacks" / "balls.py"
    # that the export works at all
    stale.write_text(stale.read_text() + "# an edit by hand")
    command("nbdev-export", copy)
    ours = {p.name for p in (TOP / "spat_nb").glob("*.py")}
    assert ours == {p.name for p in (copy / "spat_nb").glob("*.py")}
    _, changed, _ = filecmp.cmpfiles(TOP / "spat_nb", copy / "spat_nb", ours, shallow=False)
    assert not changed, f"run `make export`: {changed}"


def test_notebooks_are_clean(copy):
    command("nbdev-clean", copy)
    dirty = [
        p.name
        for p in NOTEBOOKS
        if json.loads(p.read_text()) != json.loads((copy / "nbs" / p.name).read_text())
    ]
    assert not dirty, f"run `nbdev-clean`: {dirty}"


def text(path):
    return "".join("".join(c["source"]) + "\n" for c in json.loads(path.read_text())["cells"])


def test_map_has_every_notebook_and_its_minutes():
    "A row each, with the minutes of its box; a floor's minutes are the sum of its rows"
    rows = re.findall(
        r"^\| (?:\*\*.*?\*\*, (\d+) min )?\| \[.*?\]\((\w+)\.ipynb\) \|.*\| (\d+) \|$",
        text(TOP / "nbs" / "index.ipynb"),
        flags=re.M,
    )
    assert {name: int(m) for _, name, m in rows} == {
        p.stem: int(re.search(r"\*\*Minutes\*\* (\d+)", text(p))[1])
        for p in NOTEBOOKS
        if p.stem != "index"
    }
    floors = []
    for total, _, m in rows:
        if total:
            floors.append([int(total), 0])
        floors[-1][1] += int(m)
    assert all(a == b for a, b in floors) and len(floors) > 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_output_tells_of_the_machine_that_made_it(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        for output in cell.get("outputs", []):
            told = json.dumps({k: v for k, v in output.get("data", {}).items() if "image" not in k})
            told += "".join(output.get("text", ""))
            assert not re.search(r"/(root|home|work|tmp|var|Users)/\w", told), told[:300]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_stored_whole(path):
    "Executed outputs, no error, and small enough to load at once"
    code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    outputs = [o for c in code for o in c["outputs"]]
    assert outputs, "no stored outputs: run `make outputs`"
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert path.stat().st_size < 1.5e6
    big = [len(o["data"]["image/png"]) * 3 / 4 for o in outputs if "image/png" in o.get("data", {})]
    assert max(big, default=0) < 150e3


CODE = """
import sys, time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import spat_nb, {rooms}
print((time.perf_counter()-middle)/(middle-start))
print([m for m in ('torchvision', 'jupyterlab', 'IPython', 'matplotlib', 'pandas', 'sklearn', 'fastcore', 'nbdev') if m in sys.modules])
"""  # noqa: E501


def test_import_is_light(copy):
    code = CODE.format(rooms=", ".join(f"spat_nb.{r}" for r in ROOMS))
    # as on a reader's machine: compiled once
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=copy,
            env=env,
        ).stdout.splitlines()
        for _ in range(4)
    ]
    # seconds of `import torch`, in the same process
    assert min(float(r[0]) for r in runs) < 0.3, runs
    assert runs[0][1] == "[]"


BARE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'fastcore', 'nbdev', 'IPython', 'ipywidgets', 'jupyterlab', 'ipykernel', 'execnb'}: raise ImportError(f'{name} is not on a bare machine')
sys.meta_path.insert(0, Block())
from spat_nb.app.cli import main
sys.exit(main(sys.argv[1:]))
"""  # noqa: E501


def test_runs_on_a_bare_machine(tmp_path):
    """Training needs torch, torchvision, numpy, matplotlib, scikit-learn, pandas, tqdm, safetensors
    and nothing else
    """
    args = [
        "train",
        "--data",
        "digits",
        "--epochs",
        "1",
        "--n",
        "200",
        "--out",
        str(tmp_path / "run"),
    ]
    r = subprocess.run(
        [sys.executable, "-c", BARE, *args],
        capture_output=True,
        text=True,
        env={**os.environ, "SPAT_NB_RESULTS": str(tmp_path)},
    )
    assert r.returncode == 0, r.stderr


FAULTS = """
import resource, sys, torch
from spat_nb.core.threads import keep_memory
torch.set_num_threads(1)
if len(sys.argv) > 1: assert keep_memory()
net = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(6)))
step = lambda: net(torch.ones(64, 8, 32, 32)).sum().backward()  # maps of 2 MB, taken and given back
step(); was = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt-was)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_kept_memory_is_not_faulted_in_again():
    """Page faults of 20 steps of a small network: thousands where the memory goes back, a tenth of
    them where it is kept
    """
    faults = [
        int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, *more], capture_output=True, text=True, check=True
            ).stdout
        )
        for more in ((), ("keep",))
    ]
    assert faults[1] < faults[0] / 10, faults
