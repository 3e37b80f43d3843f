"""Class by class on six data sets: one card, a row for each set

    python bench/six_sets.py digits mnist cifar10 cifar100 imagenette
    python bench/six_sets.py svhn stl10              # where their files lie in the data folder
    python bench/six_sets.py                         # show the card

On each set two networks are trained, by PGD-AT and by TRADES, in minutes on a processor, and
attacked by FGSM, PGD-20 and Temperature-PGD of 20 steps, whose tau is chosen on held-out images.
The claims are judged by `classwise.sets.class_claims`. Imagenette is 1,000 images of 64 pixels:
three folds, each judged by networks trained on the other two. A killed run goes on; a set that is
there is left alone (`--again` does it anew). Rows lie in results/sets/.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from spat_nb import Batches, Recipe, evaluate, fgsm, pgd, train
from spat_nb.classwise.budgets import best_tau, tau_sweep
from spat_nb.classwise.families import families
from spat_nb.classwise.sets import class_claims
from spat_nb.classwise.temperature import temperature_pgd
from spat_nb.core.files import write_aside
from spat_nb.core.machine import device_name
from spat_nb.core.settings import settings
from spat_nb.data.sources import Data
from spat_nb.data.vision import torchvision
from spat_nb.measure.record import Record

OUT = Path(__file__).parents[1] / "results" / "sets"
TAUS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
DEFENCES = {
    "PGD-AT": {},
    "TRADES": {"objective": "trades(beta=6.0)", "start": "gaussian(sigma=0.001)"},
}
NARROW = "PreActResNet18(width=8)"


@dataclass(frozen=True)
class Set:
    "How a data set is trained on here, and how many of its test images are judged"

    ball: str
    model: str
    epochs: int
    n: int | None  # training images; None: all
    judged: int | None  # test images; None: all
    lr: float = 0.1
    batch: int = 64
    folds: int = 0  # 0: the set has test images of its own


SETS = {
    "digits": Set("Linf(0.15)", "SmallCNN", 12, None, None),
    "mnist": Set("Linf(0.3)", "SmallCNN", 4, 20_000, 2000),
    "cifar10": Set("Linf(8/255)", NARROW, 4, 20_000, 2000, 0.2, 128),
    "cifar100": Set("Linf(8/255)", NARROW, 6, 20_000, 4000, 0.2, 128),
    "imagenette": Set("Linf(4/255)", NARROW, 15, None, None, 0.1, 32, folds=3),
    "svhn": Set("Linf(8/255)", NARROW, 4, 20_000, 2000, 0.1, 128),
    "stl10": Set("Linf(8/255)", NARROW, 15, None, 2000, 0.1, 32),
}


def imagenette(size: int = 64) -> Batches:
    "All images of the folder, their shorter side made `size` pixels long, the middle cut out"
    from PIL import Image

    where = Path(settings().data) / "imagenette" / "val"
    v2 = torchvision("transforms.v2")
    cut = v2.Compose([v2.Resize(size), v2.CenterCrop(size)])
    folder = torchvision("datasets").ImageFolder(
        where, loader=lambda path: cut(Image.open(path).convert("RGB"))
    )
    x = torch.stack([torch.from_numpy(np.array(img)) for img, _ in folder])
    return Batches(x.permute(0, 3, 1, 2).contiguous(), torch.tensor(folder.targets), folder.classes)


def parts_of(name: str, how: Set):
    "(folder, recipe's data, Data or None) of each training: one, or one for each fold"
    if not how.folds:
        yield "all", name, None
        return
    images = imagenette()
    # of each class an equal share in each fold
    order = torch.cat([(images.y == k).nonzero()[:, 0] for k in range(images.c)])
    fold_of = torch.empty(images.n, dtype=torch.long)
    fold_of[order] = torch.arange(images.n) % how.folds
    for k in range(how.folds):
        rest = (fold_of != k).nonzero()[:, 0]
        # a tenth of the rest is held out: it chooses tau and the weights
        held = torch.arange(len(rest)) % 10 == 0
        learn = images.take(rest[~held]).with_(shuffle=True, batch_size=how.batch)
        test = images.take((fold_of == k).nonzero()[:, 0])
        yield f"fold{k}", "imagefolder", Data(learn, images.take(rest[held]), test)


def judged(name, how, part, source, data, defence, folder) -> Record:
    "Train a network of one part by one defence, and attack it"
    ball = Recipe(ball=how.ball).made("ball")
    more = {"augment": "crop_flip(4)"} if data else {}
    recipe = Recipe(
        data=source,
        model=how.model,
        ball=how.ball,
        epochs=how.epochs,
        lr=how.lr,
        batch=how.batch,
        n=None if data else how.n,
        precision=settings().precision,
        attack=f"pgd(steps=5, start={DEFENCES[defence].get('start', 'uniform')})",
        objective=DEFENCES[defence].get("objective", "pgd_at"),
        **more,
    )
    run = train(recipe, out=folder / f"{part}-{defence}", data=data, quiet=True)
    test = run.data.test if how.judged is None else run.data.test.subset(how.judged)
    few = run.data.valid.with_(batch_size=128)

    def tempered(tau):
        return temperature_pgd(ball, tau, 20, ball.eps / 4)

    tau = best_tau(tau_sweep(run.model, few, tempered, TAUS, progress=False))
    print(f"{name} {part} {defence}: tau {tau:g}", flush=True)
    return evaluate(
        run.model,
        test.with_(batch_size=128),
        settings().precision,
        progress=False,
        fgsm=fgsm(ball),
        pgd20=pgd(ball, 20, ball.eps / 4),
        t_pgd=tempered(tau),
    )


def joined(records: list[Record]) -> Record:
    "The answers of all folds as one record"
    first = records[0]
    preds = {k: torch.cat([r.preds[k] for r in records]) for k in first.preds}
    return Record(torch.cat([r.y for r in records]), preds, first.classes)


def row(name: str, folder: Path) -> dict:
    "What is written of a set"
    how = SETS[name]
    found: dict[str, list] = {defence: [] for defence in DEFENCES}
    for part, source, data in parts_of(name, how):
        for defence in DEFENCES:
            found[defence].append(judged(name, how, part, source, data, defence, folder / name))
    records = {defence: joined(parts) for defence, parts in found.items()}
    first = records["PGD-AT"]
    claims = class_claims(records, families(first.classes))
    return {
        "set": name,
        "how": vars(how),
        "n": len(first.y),
        "torch": torch.__version__,
        "device": device_name(torch.device("cpu")),
        "precision": settings().precision,
        "accuracy": {
            defence: {k: r.accuracy(k) for k in r.preds} for defence, r in records.items()
        },
        "worst": {
            defence: {k: r.per_class(k).accuracy.min() for k in r.preds}
            for defence, r in records.items()
        },
        "claims": json.loads(claims.to_json(orient="index")),
    }


def _told(claim):
    "Verdict, value and interval"
    # shares of what stood: a class in which nothing stood has none
    if claim["value"] is None:
        return f"{claim['verdict']}: not defined, a class has nothing left"
    return "{verdict} {value:.2f} [{lo:.2f}, {hi:.2f}]".format(**claim)


def table(folder: Path = OUT) -> pd.DataFrame:
    "A row for each set, a column for each claim: verdict, value and interval"
    rows = {}
    for path in folder.glob("*.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        rows[told["set"]] = {claim: _told(c) for claim, c in told["claims"].items()} | {
            "n": told["n"]
        }
    found = pd.DataFrame.from_dict(rows, orient="index").reindex([s for s in SETS if s in rows])
    # not every set has families of classes
    return found.fillna("")


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("sets", nargs="*", choices=[*SETS, []], help="data sets, in this order")
    ap.add_argument("--work", type=Path, default=Path("runs") / "sets", help="folder of the runs")
    ap.add_argument("--again", action="store_true", help="also where a row is there")
    given = ap.parse_args()
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for name in given.sets:
        path = OUT / f"{name}.json"
        if path.is_file() and not given.again:
            continue
        told = row(name, given.work)
        with write_aside(path) as part:
            part.write_text(json.dumps(told, indent=1), encoding="utf-8")
    print(table().to_string())


if __name__ == "__main__":
    main()
