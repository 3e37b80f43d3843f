"The claims of class-wise robustness on answers that are known"

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from spat_nb.classwise.sets import class_claims
from spat_nb.measure.record import Record

CLASSES = ("cat", "dog", "car", "ship")
FAMILIES = {"animals": ("cat", "dog"), "vehicles": ("car", "ship")}
EACH = 200


def record(**right):
    """Each class is right so often (of 200) under an attack; what is wrong is taken for the other
    class of its family
    """
    y = torch.arange(4).repeat_interleave(EACH)
    place = torch.arange(EACH).repeat(4)
    other = y ^ 1
    preds = {"clean": y}
    for name, counts in right.items():
        preds[name] = torch.where(place < torch.tensor(counts)[y], y, other)
    return Record(y, preds, CLASSES)


@pytest.fixture
def unequal():
    "Weak classes lose most to the stronger attack, and temperature takes more still"
    return record(fgsm=[80, 110, 150, 180], pgd20=[40, 80, 135, 175], t_pgd=[20, 60, 120, 170])


def test_all_that_is_claimed_holds(unequal):
    table = class_claims({"a": unequal, "b": unequal}, FAMILIES, times=300)
    assert set(table["verdict"]) == {"supported"}
    assert table.loc["disparity", "value"] == pytest.approx((175 - 40) / 200)
    assert table.loc["consistency", "value"] == 1
    assert table.loc["temperature", "value"] == pytest.approx(60 / 800)
    assert table.loc["family", ["value", "than"]].tolist() == pytest.approx([1, 1 / 3])


def test_the_opposite_is_refuted():
    "Equal classes; the stronger attack takes more from strong ones; temperature takes less"
    a = record(fgsm=[100, 110, 150, 180], pgd20=[98, 100, 102, 104], t_pgd=[140] * 4)
    b = record(fgsm=[180, 150, 110, 100], pgd20=[104, 102, 100, 98], t_pgd=[140] * 4)
    table = class_claims({"a": a, "b": b}, times=300)
    found = table["verdict"]
    assert found["gains"] == found["temperature"] == found["consistency"] == "refuted"
    assert found["disparity"] != "supported"
    assert "family" not in table.index


def test_luck_alone_supports_no_disparity():
    torch.manual_seed(0)
    shares = [torch.rand(800) < 0.5 for _ in range(3)]
    y = torch.arange(4).repeat_interleave(EACH)
    preds = {"clean": y} | {
        name: torch.where(ok, y, y ^ 1)
        for name, ok in zip(("fgsm", "pgd20", "t_pgd"), shares, strict=True)
    }
    r = Record(y, preds, CLASSES)
    assert class_claims({"a": r, "b": r}, times=300).loc["disparity", "verdict"] != "supported"


def test_two_defences(unequal):
    with pytest.raises(ValueError, match="1 defences; consistency needs two"):
        class_claims({"a": unequal})


def table_of(folder):
    "The card that bench/six_sets.py shows of a folder"
    file = Path(__file__).parents[1] / "bench" / "six_sets.py"
    spec = importlib.util.spec_from_file_location("six_sets", file)
    room = importlib.util.module_from_spec(spec)
    # its dataclasses look for their module by name
    sys.modules["six_sets"] = room
    spec.loader.exec_module(room)
    return room.table(folder)


def test_a_class_that_has_nothing_left_leaves_its_share_open(tmp_path):
    """Its loss in shares of what stood is not defined, and the card says so"""
    r = record(fgsm=[80, 110, 150, 180], pgd20=[0, 80, 135, 175], t_pgd=[0, 60, 120, 170])
    found = class_claims({"a": r, "b": r}, FAMILIES, times=300)
    assert found["verdict"]["gains, relative"] == "open" and found["verdict"]["gains"] != "open"
    kept = {"set": "digits", "n": 800, "claims": json.loads(found.to_json(orient="index"))}
    (tmp_path / "digits.json").write_text(json.dumps(kept))
    kept = {"set": "mnist", "n": 8, "claims": {"gains": kept["claims"]["gains"]}}
    (tmp_path / "mnist.json").write_text(json.dumps(kept))
    shown = table_of(tmp_path)
    assert shown["gains, relative"].tolist() == [
        "open: not defined, a class has nothing left",
        "",
    ]
    assert shown["gains"]["digits"].startswith("supported ")
