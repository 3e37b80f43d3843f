"""Does the attack that a flag calls for bring a masked network down to its honest twin?

Run: python bench/followup.py

Every planted fault around shipped networks is judged by a card, followed up, and set beside what
its honest twin keeps. Where a fault changes the answers (rounding, ripples, a search), the twin is
the same function attacked by somebody who knows the fault. Honest networks meet all attacks, asked
for or not: none may be lowered by more than chance. A row is written when it is done, and rows that
are there already are left alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from functools import partial
from pathlib import Path

import torch

from spat_nb import (
    Linf,
    StraightThrough,
    follow_up,
    get_data,
    margin,
    pgd,
    square,
    thorough,
    trust,
    zoo,
)
from spat_nb.core.files import write_aside
from spat_nb.core.machine import device_name
from spat_nb.learn.lineup import ATTACKS, MODELS
from spat_nb.measure import faulty_memory
from spat_nb.measure.calls import CALLS

OUT = Path(__file__).parents[1] / "results/followup/laptop.json"
BALL = Linf(0.15)
N = 128
COST = 0.5
# these give other answers than the network within: the twin is the same function
OTHERS = ("rounded input", "straight through", "rippled glass", "search inside", "random answers")
ROLLS = 100  # answers to an image of a network that rolls dice
BASES = ("digits/pgd_at/w16", "digits/standard/w16")
# what may be run on any network
FREE = sorted({k for ks in CALLS.values() for k in ks} - {"inner_gradient", "no_memory"})


def masked(base, x, y):
    "(name, network, attack or None) of every planted fault"
    net = zoo.load(base, "cpu")
    for name, (fault, _) in MODELS.items():
        yield name, fault(copy.deepcopy(net)), None
    yield "cache of what was asked", faulty_memory.Cache(net), None
    yield "cache of the test images", faulty_memory.Stored(net, x, y), None
    for name, (attack, _) in ATTACKS.items():
        yield name, copy.deepcopy(net), partial(attack, ball=BALL)


def knowing(model, x, y):
    "Share that somebody leaves who knows the fault: through the network within, and by questions"
    model = model.eval()
    stand = torch.ones(len(y), dtype=torch.bool)
    seen = StraightThrough(model, model.model)
    for attack, target in ((thorough(BALL, 100), seen), (square(BALL, 2000), model)):
        torch.manual_seed(0)
        x_adv = attack(target, x, y)
        with torch.no_grad():
            stand &= model(x_adv).argmax(1) == y
    return stand.double().mean().item()


def knowing_dice(model, x, y):
    "The same where answers are random: a mean over the dice under long EoT"
    model = model.eval()
    torch.manual_seed(0)
    x_adv = pgd(BALL, 100, loss=margin, best=True, eot=20)(model, x, y)
    with torch.no_grad():
        rolls = [model(x_adv).argmax(1) == y for _ in range(ROLLS)]
    return torch.stack(rolls).double().mean().item()


def followed(model, data, attack=None, attacks=None):
    "The figures of one network"
    card = trust(model, data, BALL, attack, n=N, cost=COST, progress=False)
    start = time.perf_counter()
    found = follow_up(card, attacks, progress=False)
    return {
        "flags": [c.name for c in card.checks if c.verdict == "flag"],
        "claimed": found.claimed,
        "before": found.before,
        "after": found.after,
        "lowered": list(found.lowered),
        "attacks": {f.attack: [f.stand, f.new, f.seconds, f.note] for f in found.falls},
        "seconds": time.perf_counter() - start,
    }


def rows(data):
    "(name, function that gives the figures)"
    x, y = data.tensors()
    for base in BASES:
        twin = partial(followed, zoo.load(base, "cpu"), data, attacks=FREE)
        yield f"honest: {base}", twin
        for name, model, attack in masked(base, x, y):
            yield f"{name}: {base}", partial(followed, model, data, attack)
    for name in zoo.table().index:
        if name.startswith("digits") and name not in BASES:
            yield f"honest: {name}", partial(followed, zoo.load(name, "cpu"), data, attacks=FREE)


def with_twin(name, row, found, models):
    "What the honest twin keeps"
    fault, base = name.split(": ", 1) if not name.startswith("attack") else name.rsplit(": ", 1)
    if fault == "honest":
        return row
    twin = found[f"honest: {base}"]["after"]
    if fault in OTHERS:
        know = knowing_dice if fault == "random answers" else knowing
        twin = know(*models(base, fault))
    return {**row, "twin": twin, "above": 100 * (row["after"] - twin)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="Read and write this file.")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    found = json.loads(out.read_text()) if out.is_file() else {"n": N, "machine": "", "rows": {}}
    found["machine"] = f"{device_name(torch.device('cpu'))}, torch {torch.__version__}, one thread"
    out.parent.mkdir(parents=True, exist_ok=True)
    data = get_data("digits", device="cpu").test.subset(N)

    def models(base, fault):
        return MODELS[fault][0](zoo.load(base, "cpu")), *data.tensors()

    for name, run in rows(data):
        if name in found["rows"]:
            continue
        row = with_twin(name, run(), found["rows"], models)
        found["rows"][name] = row
        print(
            f"{name:45} claimed {row['claimed']:.3f} before {row['before']:.3f} after"
            f" {row['after']:.3f} twin {row.get('twin', row['before']):.3f}"
            f" in {row['seconds']:.0f} s",
            flush=True,
        )
        with write_aside(out) as part:
            part.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
