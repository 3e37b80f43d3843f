"""One minute with the package: train two networks on digits, attack both, say what happened, with
pictures
"""

from __future__ import annotations

import time
from pathlib import Path

EPS, EPOCHS, SEED = 0.15, 12, 0
# how the page calls a network -> the row of the table of methods that it is trained by
NETWORKS = {"standard": "standard", "PGD-AT": "pgd_at"}
# how the page calls an attack -> the row of the report
ATTACKS = {"clean": "clean", "FGSM": "fgsm", "PGD-20": "pgd20"}


def recipes() -> dict:  # name -> Recipe
    "What the two networks are trained by"
    from spat_nb.training.methods import method

    same = {"attack": "pgd(steps=7)", "eps": EPS, "epochs": EPOCHS, "seed": SEED}
    return {name: method(row, data="digits", **same) for name, row in NETWORKS.items()}


def rows(
    reports: dict,  # name -> Report
):  # pandas.DataFrame, a row per network, each cell with its interval
    "The table"
    import pandas as pd

    def cell(record, name):
        lo, hi = record.interval(name)
        return f"{record.accuracy(name):.1%}  [{lo:.1%}, {hi:.1%}]"

    table = {}
    for network, report in reports.items():
        weakest, accuracy = report.record.weakest("pgd20")
        cells = {told: cell(report.record, name) for told, name in ATTACKS.items()}
        table[network] = {**cells, "weakest class": f"{weakest}: {accuracy:.1%}"}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("network")


def pictures(
    runs: dict,  # name -> Run
    reports: dict,  # name -> Report
) -> dict:  # name -> Figure
    "The three figures of the page"
    return {
        "attack": _attack_shown(runs, reports),
        "classes": _classes_shown(reports),
        "curves": _curves_shown(runs),
    }


def _attack_shown(runs, reports):
    "Images that both networks read, and what the attack makes of them"
    import torch

    from spat_nb.core.pages import figure
    from spat_nb.core.pictures import show_attack
    from spat_nb.measure.battery import standard_battery

    plain, robust = (reports[name].record for name in NETWORKS)
    run = runs[next(iter(NETWORKS))]
    x, y = run.data.test.tensors()
    fell = plain.correct() & ~plain.correct("pgd20") & robust.correct("pgd20")
    chosen = fell.nonzero()[:8, 0].to(x.device)
    x, y = x[chosen], y[chosen]
    torch.manual_seed(SEED)
    x_adv = standard_battery(run.recipe.made("ball"))["pgd20"](run.model, x, y)
    with torch.no_grad():
        shown = show_attack(x, x_adv, y, run.model(x_adv).argmax(1))
    return figure(
        shown,
        "Digits that both networks read. In the middle what PGD-20 changed, below the result,"
        " with the answer of the standard network: you still read the digit, it does not.",
        "Three rows of small images: digits, the changes in red and blue, attacked digits with"
        " wrong answers above them",
    )


def _classes_shown(reports):
    "Each class by itself, network by network"
    import matplotlib.pyplot as plt

    from spat_nb.core.pages import figure

    bars = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True, layout="constrained")[1]
    for ax, (name, report) in zip(bars, reports.items(), strict=True):
        report.plot("pgd20", ax)
        ax.set(title=name, xlabel="accuracy under PGD-20")
    return figure(
        bars,
        "Each digit by itself under PGD-20, the weakest on top, with 95% intervals.",
        "Two bar charts of accuracy by digit, one for each network",
    )


def _curves_shown(runs):
    "Validation accuracy over the epochs"
    import matplotlib.pyplot as plt

    from spat_nb.core import plot
    from spat_nb.core.pages import figure

    ax = plt.subplots(figsize=(9, 3.2), layout="constrained")[1]
    lines = {}
    for name, run in runs.items():
        epochs = [r["epoch"] for r in run.history]
        for key in ("clean", "robust"):
            lines[f"{name}, {key}"] = (epochs, [r[key] for r in run.history])
    plot.curves(lines, "epoch", "validation accuracy", ax)
    return figure(
        ax,
        "Accuracy on validation images after each epoch: clean, and under PGD-10.",
        "Four curves of validation accuracy over epochs",
    )


def tour(
    out=Path("tour.html"),  # page to write
):
    "Train, attack, print the table, write the page"
    import spat_nb
    from spat_nb.core.pages import table as page_table
    from spat_nb.core.pages import write_page
    from spat_nb.core.settings import default_device
    from spat_nb.measure.told import network_told
    from spat_nb.models.net import count
    from spat_nb.training.building import build_model, open_data

    from .opening import facts_of, lines_above, settle

    start = time.monotonic()
    settle()
    device = default_device()
    planned = recipes()
    recipe = next(iter(planned.values()))
    data = open_data(recipe, device)
    network = build_model(recipe, data.train)
    facts = facts_of(network_told(network), data.test, "digits, test", recipe.made("ball"), device)
    print(lines_above(facts, recipe.precision), end="\n\n")
    runs, reports = _work(planned, data, device)
    results = rows(reports)
    print(
        f"\n{data.test.n} test digits, eps {EPS} (Linf), 95% intervals in"
        f" brackets\n\n{results.to_string()}\n"
    )
    kept = [report.record.accuracy("pgd20") for report in reports.values()]
    verdict = (
        f"Under PGD-20 the standard network keeps {kept[0]:.0%} of its answers right, the"
        f" adversarially trained one {kept[1]:.0%}."
    )
    write_page(
        out,
        "tour.html",
        version=spat_nb.__version__,
        eps=EPS,
        seed=SEED,
        seconds=time.monotonic() - start,
        device=device,
        n=data.test.n,
        params=count(network),
        results=page_table(results),
        verdict=verdict,
        **pictures(runs, reports),
    )
    print(f"{verdict}\nPictures and curves: {Path(out).absolute()}")


def _work(planned, data, device):
    "Train and judge each network: name -> Run, name -> Report"
    from spat_nb.training.run import train

    runs, reports = {}, {}
    for name, recipe in planned.items():
        print(
            f"training the {name} network on {data.train.n:,} digits, {EPOCHS} epochs ...",
            end=" ",
            flush=True,
        )
        start = time.monotonic()
        runs[name] = train(recipe, device=str(device), quiet=True, data=data)
        reports[name] = runs[name].judge(progress=False)
        print(f"{time.monotonic() - start:.0f} s")
    return runs, reports
