"Records of bench/speedrun.py: written from a run, judged again, refused with another network"

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from spat_nb import Recipe, load, train

FILE = Path(__file__).parents[1] / "bench" / "speedrun.py"


@pytest.fixture(scope="module")
def speedrun():
    spec = importlib.util.spec_from_file_location("speedrun", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def records(speedrun, tmp_path_factory):
    "Two records of digits, of one epoch each"
    folder = tmp_path_factory.mktemp("records")
    for name, recipe in {
        "pgd": Recipe(epochs=1, n=300, attack="pgd(steps=2)"),
        "fast": Recipe(epochs=1, n=300, objective="Staged(share=0.5)", attack="pgd(steps=2)"),
    }.items():
        run = train(recipe, out=folder / "runs" / name, quiet=True)
        speedrun.write(run.folder, folder / f"{name}.json", n=20)
    return folder


def test_passes_are_counted(records, speedrun):
    found = speedrun.table(records)
    # of each image: two steps of PGD and the step of training, forward and backward
    assert found.loc["pgd", "passes"] == pytest.approx(300 * 6 / 1e6)
    # half of the steps take one step of attack
    assert 300 * 4 / 1e6 < found.loc["fast", "passes"] < 300 * 6 / 1e6
    assert found.index.tolist() == ["fast", "pgd"]


def test_the_difference_is_paired(records, speedrun):
    found = speedrun.table(records)
    row = found.loc["fast"]
    assert row["over PGD-AT"] == pytest.approx(row["AutoAttack"] - found.loc["pgd", "AutoAttack"])
    assert row["low"] < row["over PGD-AT"] < row["high"]
    assert found.loc["pgd", ["low", "high"]].isna().all()


def test_verified(records, speedrun, capsys):
    assert speedrun.verify(records / "pgd.json")
    assert "0 images answered otherwise" in capsys.readouterr().out


def test_what_was_judged_is_what_lies_there(records, speedrun, tmp_path, capsys):
    for name in ("pgd.json", "pgd.safetensors"):
        (tmp_path / name).write_bytes((records / name).read_bytes())
    told = json.loads((tmp_path / "pgd.json").read_text())
    (tmp_path / "pgd.safetensors").write_bytes((records / "fast.safetensors").read_bytes())
    assert not speedrun.verify(tmp_path / "pgd.json")
    assert "is not the network" in capsys.readouterr().out
    # a number that the answers do not give
    (tmp_path / "pgd.safetensors").write_bytes((records / "pgd.safetensors").read_bytes())
    (tmp_path / "pgd.json").write_text(json.dumps({**told, "correct": told["correct"] + 1}))
    assert not speedrun.verify(tmp_path / "pgd.json")


def test_half_precision(records):
    weights = load(records / "pgd.safetensors").state_dict().values()
    assert {w.dtype for w in weights if w.is_floating_point()} == {torch.float16}
