"""`lean` against AutoAttack standard, network by network, in turns: python bench/lean.py

Shipped networks of both data sets in both norms, and planted faults that hide a gradient. A row is
written when it is done, and rows that are there already are left alone. `only_lean` counts the
images that stand under `lean` alone, `only_standard` those that stand under AutoAttack alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from spat_nb import L2, Linf, autoattack, get_data, lean, zoo
from spat_nb.core.files import write_aside
from spat_nb.core.machine import device_name
from spat_nb.core.remarks import remarks
from spat_nb.core.spec import text
from spat_nb.measure import faults, faulty_gradients
from spat_nb.measure.metering import Meter, watching

OUT = Path(__file__).parents[1] / "results/lean/laptop.json"
IMAGES = {"digits": 100, "cifar10": 40}
BALLS = {
    "digits": {"Linf": Linf(0.15), "L2": L2(1.0)},
    "cifar10": {"Linf": Linf(8 / 255), "L2": L2(0.5)},
}
FAULTS = {
    "logits times 256": faults.Times,
    "reversed gradient": faulty_gradients.Reversed,
    "gradient on whole bytes only": faulty_gradients.Grid,
    "gradient by lot": faulty_gradients.Lottery,
    "ripple": faulty_gradients.Pitted,
    "rounded pixels": lambda net: faulty_gradients.Rounded(net, levels=8),
    "rounded, straight through": lambda net: faulty_gradients.Straight(net, levels=8),
}


def subjects():
    "(name of the row, data set, ball, network, does it hide?)"
    in_l2 = {"digits/pgd_at/w16", "digits/trades/w16", "digits/he_s15/w16", "cifar10/pgd_at/w8"}
    in_l2 |= {"cifar10/standard/w8", "digits/standard/w16"}
    for name in zoo.table().index:
        data = name.split("/")[0]
        for norm, ball in BALLS[data].items():
            if norm == "Linf" or name in in_l2:
                yield f"{name} {norm}", data, ball, zoo.load(name, "cpu"), False
    net = zoo.load("digits/pgd_at/w16", "cpu")
    for name, fault in FAULTS.items():
        yield f"{name}, digits/pgd_at/w16", "digits", BALLS["digits"]["Linf"], fault(net), True


def run(attack, model, x, y):
    "Who stands, passes, seconds of the processor, and what the attack said"
    meter = Meter()
    torch.manual_seed(0)
    start = time.process_time()
    with watching(model, meter) as counted, remarks() as said:
        x_adv = attack(counted, x, y)
    seconds = time.process_time() - start
    with torch.no_grad():
        stands = model(x_adv).argmax(1) == y
    return stands, meter.forward + meter.backward, seconds, said


def row(data, ball, model):
    "The figures of one network"
    x, y = get_data(data, device="cpu").test.subset(IMAGES[data]).tensors()
    model = model.eval()
    short, few, quick, said = run(lean(ball), model, x, y)
    full, many, slow, _ = run(autoattack(ball), model, x, y)
    return {
        "ball": text(ball),
        "n": len(y),
        "standard": int(full.sum()),
        "lean": int(short.sum()),
        "only_lean": int((short & ~full).sum()),
        "only_standard": int((full & ~short).sum()),
        "passes": few / many,
        "cpu": quick / slow,
        "seconds": slow,
        "remarks": said,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="Read and write this file.")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    found = json.loads(out.read_text()) if out.is_file() else {"machine": "", "rows": {}}
    found["machine"] = f"{device_name(torch.device('cpu'))}, torch {torch.__version__}, one thread"
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, data, ball, model, masked in subjects():
        if name in found["rows"]:
            continue
        found["rows"][name] = {**row(data, ball, model), "masked": masked}
        it = found["rows"][name]
        print(
            f"{name:45} standard {it['standard']:3} lean {it['lean']:3} of {it['n']}"
            f" passes {it['passes']:.3f} cpu {it['cpu']:.3f} {'; '.join(it['remarks'])[:60]}",
            flush=True,
        )
        with write_aside(out) as part:
            part.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
