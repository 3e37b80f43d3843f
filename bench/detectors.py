"""Who notices a hidden gradient, and who doubts honest networks: python bench/detectors.py

Our card, AutoAttack's five warnings, the indicators of attack failure (Pintor et al. 2022) and the
rule by the gradient's norm, on planted faults around shipped networks and on honest networks. A row
is written when it is done, and rows that are there already are left alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

from spat_nb import (
    Learner,
    Linf,
    PreActResNet10,
    SmallCNN,
    WideResNet,
    get_data,
    pgd,
    pgd_at,
    standard,
    trust,
    zoo,
)
from spat_nb.core.files import write_aside
from spat_nb.core.machine import device_name
from spat_nb.learn.lineup import MODELS
from spat_nb.measure import faulty_memory
from spat_nb.measure.detectors import autoattack_flags, failure_indicators, gradient_norms

OUT = Path(__file__).parents[1] / "results/detectors/laptop.json"
BALLS = {"digits": Linf(0.15), "cifar10": Linf(8 / 255)}
N = {"digits": 48, "cifar10": 24}
BASES = ("digits/pgd_at/w16", "digits/standard/w16", "cifar10/pgd_at/w8")


def lenet(pool, act):
    "Two convolutions with a pooling between"
    body = [nn.Conv2d(1, 16, 3, padding=1), act(), pool(2), nn.Conv2d(16, 32, 3, padding=1), act()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(32 * 16, 10))


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


# architecture -> how it is made, for digits
FRESH = {
    "perceptron": perceptron,
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    "LeNet, tanh": partial(lenet, nn.AvgPool2d, nn.Tanh),
    "LeNet, max": partial(lenet, nn.MaxPool2d, nn.ReLU),
    "LeNet, GELU": partial(lenet, nn.AvgPool2d, nn.GELU),
    "SmallCNN, SiLU": lambda: SmallCNN(channels=1, width=16, act=nn.SiLU),
    "PreActResNet10": lambda: PreActResNet10(channels=1, width=8),
    "WideResNet": lambda: WideResNet(channels=1, depth=10, widen=1),
}


def trained(make, objective, attack):
    "A network of three epochs"
    torch.manual_seed(0)
    data = get_data("digits", device="cpu", batch_size=64).train
    learner = Learner(make(), data, objective, attack, 3, lr=0.05, precision="float32")
    return learner.fit().model.eval()


def memories(net, x, y):
    "Faults that need the images"
    yield "cache of what was asked", faulty_memory.Cache(net)
    yield "cache of the test images", faulty_memory.Stored(net, x, y)


def subjects(images):
    "(name, data set, function that gives the network, kind of fault or 'honest')"
    for base in BASES:
        data = base.split("/")[0]
        yield f"honest: {base}", data, partial(zoo.load, base, "cpu"), "honest"
        for kind, (fault, _) in MODELS.items():
            made = partial(lambda f, b: f(zoo.load(b, "cpu")), fault, base)
            yield f"{kind}: {base}", data, made, kind
        if data == "digits":
            for kind, model in memories(zoo.load(base, "cpu"), *images[data]):
                yield f"{kind}: {base}", data, partial(copy.deepcopy, model), kind
    for name, make in FRESH.items():
        yield f"honest: {name}", "digits", partial(trained, make, standard, None), "honest"
    for name in ("perceptron", "LeNet, max", "SmallCNN, SiLU"):
        robust = partial(trained, FRESH[name], pgd_at, pgd(BALLS["digits"], 3))
        yield f"honest: {name}, PGD-AT", "digits", robust, "honest"
    for name in zoo.table().index:  # prototypes hide their gradient: they are not honest
        if name not in BASES and "prototypes" not in name:
            yield f"honest: {name}", name.split("/")[0], partial(zoo.load, name, "cpu"), "honest"


def row(make, x, y, ball, kind):
    "What each detector says of one network"
    found: dict = {"kind": kind}
    for name, ask in {
        "card": lambda m: [
            c.name
            for c in trust(m, (x, y), ball, cost=0.1, progress=False).checks
            if c.verdict == "flag"
        ],
        "autoattack": lambda m: autoattack_flags(m, x, y, ball),
        "indicators": lambda m: failure_indicators(m, x, y, ball),
        "norms": lambda m: gradient_norms(m, x, y),
    }.items():
        torch.manual_seed(0)
        start = time.process_time()
        try:
            found[name] = ask(make().eval())  # each sees a network that nobody has asked yet
        except ValueError as e:  # a detector that refuses a network has noticed something
            found[name] = [f"refused: {' '.join(str(e).split())[:80]}"]
        found[f"{name} seconds"] = round(time.process_time() - start, 1)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="Read and write this file.")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    found = json.loads(out.read_text()) if out.is_file() else {"machine": "", "n": N, "rows": {}}
    found["machine"] = f"{device_name(torch.device('cpu'))}, torch {torch.__version__}, one thread"
    out.parent.mkdir(parents=True, exist_ok=True)
    images = {k: get_data(k, device="cpu").test.subset(n).tensors() for k, n in N.items()}
    for name, data, make, kind in subjects(images):
        if name in found["rows"]:
            continue
        found["rows"][name] = it = row(make, *images[data], BALLS[data], kind)
        print(f"{name:45} card {it['card']} aa {it['autoattack']} norms {it['norms']}", flush=True)
        with write_aside(out) as part:
            part.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
