"""Look at a trained network class by class: who falls, and to whom. Prints the tables, and writes
them with pictures to one HTML page
"""

from __future__ import annotations

import time
from pathlib import Path

from ..arguments import add_judging, whole

EXAMPLE = "spat_nb diagnose digits/pgd_at/w16 --n-test 100 --out diagnosis.html"


def add(parser):
    "Its flags"
    add_judging(parser)
    parser.add_argument(
        "--taus",
        type=whole(1),
        metavar="N",
        help="Choose also the temperature of PGD on N validation images, and compare attacks at "
        "100 gradients each.",
    )
    parser.add_argument("--record", help="Write the answers to this JSON file.")
    parser.add_argument(
        "--out",
        default="diagnosis.html",
        help="Write this page. The default is diagnosis.html.",
    )


def run(a):
    "Judge, print, write"
    from spat_nb.classwise.diagnosis import USUAL, diagnose
    from spat_nb.measure.battery import chosen_attacks

    from ..opening import attacks_in, open_weights

    _check_places(a)
    it = open_weights(a)
    text = a.attacks or it.attacks or USUAL
    attacks = attacks_in(text, it.ball)
    specs = {k: told for k, (_, told) in chosen_attacks(text, it.ball, outside=True).items()}
    print("\n".join([it.head(a.precision), *it.notes]), end="\n\n", flush=True)
    chosen = {}
    if a.taus:
        chosen = _temperature(a, it, attacks)
    start = time.monotonic()
    found = diagnose(it.model, it.data.test, attacks, precision=a.precision, resume=a.resume)
    found.record.info |= {**it.facts(), **chosen}
    found.record.info["specs"] |= specs
    print(found)
    if a.record:
        found.record.save(a.record)
    found.html(a.out)
    took = time.monotonic() - start
    attacked = sum(v for k, v in found.record.info["seconds"].items() if k != "clean")
    print(
        f"\nwith pictures: {Path(a.out).absolute()}\n"
        f"{took:.0f} s, {attacked / took:.1%} of it in the attacks"
    )


def _check_places(a):
    "Refuse, before any work is done, what cannot be written"
    from spat_nb.core.paths import check_writable

    check_writable(a.out, ending=".html")
    if a.record:
        check_writable(a.record, ending=".json")
    if a.resume:
        check_writable(a.resume)


def _temperature(a, it, attacks):
    "Choose it on validation images, and add attacks of one budget to `attacks`"
    from spat_nb.classwise.budgets import best_tau, equal_budget, tau_sweep
    from spat_nb.classwise.temperature import temperature_pgd

    held = it.data.valid.subset(min(a.taus, it.data.valid.n))
    sweep = tau_sweep(
        it.model,
        held,
        lambda tau: temperature_pgd(it.ball, tau),
        precision=a.precision,
        resume=a.resume and f"{a.resume}.taus",
    )
    tau = best_tau(sweep)
    table = sweep.table().to_string(float_format="{:.4f}".format)
    print(
        f"temperature-PGD, 20 steps, on {held.n} validation images: "
        f"tau = {tau:g} leaves least\n{table}\n"
    )
    attacks |= {f"{k} 100": v for k, v in equal_budget(it.ball, tau).items()}
    right = {f"{t:g}": int(sweep.correct(k).sum()) for k, t in sweep.info["tau"].items()}
    return {"tau": tau, "taus": {t: [n, held.n] for t, n in right.items()}}
