"""How few passes does a robust network take? Records that anybody can verify, and their table

    spat_nb train --data cifar10 --model 'PreActResNet18(width=16)' ... --out runs/mine
    python bench/speedrun.py record runs/mine --name mine    # judge the run, write the record
    python bench/speedrun.py verify RECORD.json              # judge its network once more
    python bench/speedrun.py table                           # all records, beside PGD-AT

The target is 35% robust accuracy on CIFAR-10 at Linf(8/255): AutoAttack standard on 1,000 test
images, 100 of each class. What counts is passes: how many images went through the network in
training, forward or backward, those of the attack among them, in millions. Minutes and processor
stand beside them. A record is a JSON file and, beside it, the network that was judged, in half
precision. Attacks run in the precision of the settings, verdicts are in float32. A killed
judgement goes on.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import platform
from pathlib import Path

import pandas as pd
import torch

from spat_nb import autoattack, evaluate, get_data, load
from spat_nb.core.files import write_aside
from spat_nb.core.settings import default_device, settings
from spat_nb.measure.intervals import wilson
from spat_nb.measure.versus import paired
from spat_nb.studies.answers import bits, unpacked
from spat_nb.training.recipe import Recipe
from spat_nb.training.rundir import open_run, write_weights
from spat_nb.training.sameness import identity

RECORDS = Path(__file__).parents[1] / "results" / "records"
TARGET, JUDGED = 0.35, 1000


def processor() -> str:
    "What the machine calls its processor"
    told = Path("/proc/cpuinfo")
    rows = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def judged(weights, recipe, n=JUDGED, resume=None):
    "(n,) bool: which test images the network in a file answers right under AutoAttack"
    device = default_device()
    test = get_data(recipe.data, device=device, root=recipe.root, batch_size=250).test.subset(n)
    model = load(weights).float().to(device).eval()
    attack = autoattack(recipe.made("ball"))
    return evaluate(model, test, settings().precision, aa=attack, resume=resume).correct("aa")


def weights_of(record: Path) -> Path:
    "The network that belongs to a record"
    return record.with_suffix(".safetensors")


def sha256(path: Path) -> str:
    "Of a file's bytes"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, path: Path, n=JUDGED):
    "Judge the network of a run, and write the record and, beside it, the network"
    run = open_run(folder)
    if not run.passes:
        raise SystemExit(f"the passes of {folder} were not counted; train it without --compile.")
    half = copy.deepcopy(run.model).half()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(half, weights_of(path), identity(run.recipe), run.data.train)
    right = judged(weights_of(path), run.recipe, n, resume=folder / "speedrun.json")
    told = {
        "recipe": run.recipe.as_dict(),
        "passes": run.passes,
        "seconds": round(run.seconds),
        "processor": processor(),
        "device": str(default_device()),
        "torch": torch.__version__,
        "n": n,
        "correct": int(right.sum()),
        "right": bits(right),
        "weights": sha256(weights_of(path)),
    }
    with write_aside(path) as part:
        part.write_text(json.dumps(told, indent=1), encoding="utf-8")


def verify(path: Path) -> bool:
    """Judge the network of a record once more: does it reach what is written, as far as another
    processor's rounding allows (the interval of the paired difference holds zero)?
    """
    told = json.loads(path.read_text(encoding="utf-8"))
    if sha256(weights_of(path)) != told["weights"]:
        print(f"{path.stem}: {weights_of(path).name} is not the network that was judged")
        return False
    was = unpacked(told["right"], told["n"])
    now = judged(weights_of(path), Recipe.from_dict(told["recipe"]), told["n"])
    d, low, high = paired(now, was)
    print(
        f"{path.stem}: {int(was.sum())} of {len(was)}, now {int(now.sum())};"
        f" {int((now != was).sum())} images answered otherwise"
    )
    return int(was.sum()) == told["correct"] and low <= 0 <= high


def passes_of(counted: dict) -> float:
    "Millions of images that went through the network in training, forward or backward"
    return counted["images"] * (counted["forward"] + counted["backward"]) / 1e6


def read_record(path: Path) -> dict:
    "A row of the table, with the answers and the objective beside it"
    told = json.loads(path.read_text(encoding="utf-8"))
    low, high = wilson(told["correct"], told["n"])
    return {
        "record": path.stem,
        "passes": passes_of(told["passes"]),
        "AutoAttack": told["correct"] / told["n"],
        "from": low,
        "to": high,
        "reached": told["correct"] >= TARGET * told["n"],
        "minutes": round(told["seconds"] / 60),
        "processor": told["processor"],
        "objective": told["recipe"]["objective"],
        "right": unpacked(told["right"], told["n"]),
    }


def table(folder: Path = RECORDS) -> pd.DataFrame:
    """All records, fewest passes first. `over PGD-AT` is the difference to the record of plain
    PGD-AT whose passes are nearest, paired over the images, with its interval in `low` and `high`
    """
    rows = sorted(map(read_record, folder.glob("*.json")), key=lambda row: row["passes"])
    plain = [row for row in rows if row["objective"] == "pgd_at"]
    for row in rows:
        if plain and row["objective"] != "pgd_at":
            near = min(plain, key=lambda other: abs(other["passes"] - row["passes"]))
            row["over PGD-AT"], row["low"], row["high"] = paired(row["right"], near["right"])
    if not rows:
        raise SystemExit(f"no records in {folder}; write one with `record`.")
    return pd.DataFrame(rows).drop(columns=["objective", "right"]).set_index("record")


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    jobs = ap.add_subparsers(dest="job", required=True)
    one = jobs.add_parser("record", help="judge a run of `spat_nb train`, write its record")
    one.add_argument("folder", type=Path)
    one.add_argument("--name", required=True)
    again = jobs.add_parser("verify", help="judge the networks of records once more")
    again.add_argument("records", type=Path, nargs="+")
    jobs.add_parser("table", help="all records; differences are paired over images")
    given = ap.parse_args()
    if given.job == "record":
        write(given.folder, RECORDS / f"{given.name}.json")
    if given.job == "verify":
        held = [verify(path) for path in given.records]
        raise SystemExit(not all(held))
    print(table().round(3).to_string())


if __name__ == "__main__":
    main()
