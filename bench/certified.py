"""Certificates on the digits: a network trained by CROWN-IBP beside PGD-AT, and attacks against
every certificate of the shipped networks

    python bench/certified.py train     the network and its figures: results/certified/digits.json
    python bench/certified.py attack    100,000 attacked points: results/certified/attacked.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from spat_nb import Linf, SmallCNN, get_data, pgd, zoo
from spat_nb.attacks.certify import certify
from spat_nb.core.files import write_aside
from spat_nb.training.certified import CrownIBP
from spat_nb.training.learner import Learner

OUT = Path(__file__).resolve().parents[1] / "results/certified"
EPS = (0.01, 0.03, 0.05, 0.08, 0.1)
EPOCHS, LR, BALL = 25, 0.05, Linf(0.06)


def write(name, told):
    OUT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(told, indent=1) + "\n"
    with write_aside(OUT / name) as path:
        Path(path).write_text(text, encoding="utf-8")
    print(text if len(text) < 3000 else f"written: {name}")


def share(mask):
    return mask.double().mean().item()


def curve(model, x, y, by):
    "Clean, and for each radius certified and under PGD"
    model.requires_grad_(False)
    certified = {f"{e:g}": share(certify(model, x, y, Linf(e), by)) for e in EPS}
    attacked = {}
    for e in EPS:
        attack = pgd(Linf(e), 20, generator=torch.Generator().manual_seed(0))
        attacked[f"{e:g}"] = share(model(attack(model, x, y)).argmax(1) == y)
    clean = share(model(x).argmax(1) == y)
    return {"clean": clean, "by": by, "certified": certified, "pgd(steps=20)": attacked}


def train():
    data = get_data("digits", device="cpu", batch_size=64)
    torch.manual_seed(0)
    model, objective = SmallCNN(channels=1), CrownIBP(BALL)
    Learner(model, data.train, objective, epochs=EPOCHS, lr=LR, callbacks=[objective]).fit()
    x, y = (t[:N] for t in data.test.tensors())
    told = {"data": "digits", "n": len(x), "seed": 0, "model": "SmallCNN", "epochs": EPOCHS}
    told |= {"lr": LR, "trained in": str(BALL), "objective": "CrownIBP"}
    told["networks"] = {"CROWN-IBP": curve(model.eval(), x, y, "crown-ibp")}
    write("digits.json", told)
    told["networks"]["PGD-AT"] = curve(zoo.load("digits/pgd_at/w16", "cpu"), x, y, "crown")
    write("digits.json", told)


def asked(name):
    "(images, radii, bound's dtype) for a shipped network; a deep one has small certified radii"
    if name.startswith("cifar10/"):
        return 1, (0.0001, 0.001), torch.float32
    # a product of two maps is dear: every entry is taken back
    return 2 if "sparta" in name else 20, (0.01, 0.03), torch.float64


def right_ones(model, name, n):
    "The first digits; of photographs the first that are answered right"
    data = name.split("/")[0]
    x, y = (t[:20] for t in get_data(data, device="cpu").test.tensors())
    if data == "cifar10":
        right = model(x).argmax(1) == y
        x, y = x[right], y[right]
    return x[:n], y[:n]


def attack():
    place = OUT / "attacked.json"
    told = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {"rows": []}
    rows = told["rows"]
    done = {(r["network"], r["eps"]) for r in rows}
    for name in sorted(zoo.names()):
        n, radii, dtype = asked(name)
        model = zoo.load(name, "cpu").requires_grad_(False)
        x, y = right_ones(model, name, n)
        for eps in radii:
            if (name, eps) in done:
                continue
            holds = certify(model, x, y, Linf(eps), "crown", dtype=dtype)
            again = x[holds].repeat(260, 1, 1, 1), y[holds].repeat(260)
            attack = pgd(Linf(eps), 8, generator=torch.Generator().manual_seed(0))
            fell = sum(
                int((model(attack(model, a, b)).argmax(1) != b).sum())
                for a, b in zip(again[0].split(1000), again[1].split(1000))
            )
            rows.append(dict(network=name, eps=eps, n=n, certified=int(holds.sum()), crossed=fell))
            points = 260 * sum(r["certified"] for r in rows)
            print(rows[-1], points, flush=True)
            crossed = sum(r["crossed"] for r in rows)
            write("attacked.json", dict(points=points, crossed=crossed, steps=8, rows=rows))


N = 120

if __name__ == "__main__":
    torch.set_num_threads(1)
    {"train": train, "attack": attack}[sys.argv[1]]()
