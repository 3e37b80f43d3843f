"The plan for an hour with a GPU is tried without one, so that it works at the first call"

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_dry_run_passes_and_goes_on(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "tools/gpu.py"),
        "--out",
        str(tmp_path),
        "--dry-run",
        "--device",
        "cpu",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, capture_output=True, text=True, env=env, timeout=400)
    assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-2000:]
    placement = json.loads((tmp_path / "placement.json").read_text())["found"]
    assert len(placement) >= 20 and all(v["ok"] for v in placement.values())
    speed = json.loads((tmp_path / "speed.json").read_text())["found"]["seconds"]
    assert all(isinstance(v, float) for v in speed.values()), speed
    assert len([*(tmp_path / "results").rglob("*.json")]) == 2
    again = subprocess.run(command, capture_output=True, text=True, env=env, timeout=400)
    assert (
        again.returncode == 0
        and "placement.json is there" in again.stdout
        and "0 rows finished" in again.stdout
    )


def test_without_a_gpu_it_says_so(tmp_path):
    r = subprocess.run(
        [sys.executable, str(ROOT / "tools/gpu.py"), "--out", str(tmp_path), "--device", "cpu"],
        capture_output=True,
        text=True,
    )
    assert r.returncode == 2 and "--dry-run" in r.stderr


def test_its_rows_are_rows_of_studies():
    sys.path.insert(0, str(ROOT / "tools"))
    import gpu

    from spat_nb.studies.finding import studies

    found = studies()
    assert all(arm in found[name].arms for name, arm in gpu.ROWS)
