"""One minute with the package: train two networks on digits, attack both, say what happened, with
pictures
"""

from __future__ import annotations

import time
from pathlib import Path

EPS, EPOCHS, SEED = 0.15, 12, 0


def train(data, objective, attack):
    "A digits network trained by `objective`; returns it with its history"
    import torch

    from spat_nb.models.networks import SmallCNN
    from spat_nb.training.callbacks import Validate
    from spat_nb.training.learner import Learner

    torch.manual_seed(SEED)
    model = SmallCNN(classes=10, channels=1, size=8).to(data.train.y.device)
    learner = Learner(
        model,
        data.train,
        objective,
        attack,
        EPOCHS,
        lr=0.1,
        callbacks=[Validate(data.valid, attack)],
        precision="float32",
        seed=SEED,
    )
    return learner.fit().model, learner.history


def rows(records):
    "The table: a row per network, each cell with its interval"
    import pandas as pd

    def cell(r, k):
        return "{:.1%}  [{:.1%}, {:.1%}]".format(r.accuracy(k), *r.interval(k))

    def weak(r):
        return "{}: {:.1%}".format(*r.weakest("pgd20"))

    return pd.DataFrame(
        [
            {
                "network": n,
                "clean": cell(r, "clean"),
                "FGSM": cell(r, "fgsm"),
                "PGD-20": cell(r, "pgd20"),
                "weakest class": weak(r),
            }
            for n, r in records.items()
        ]
    ).set_index("network")


def pictures(models, records, histories, data):
    "The three figures of the page"
    import matplotlib.pyplot as plt
    import torch

    from spat_nb.attacks.attack import pgd
    from spat_nb.attacks.balls import Linf
    from spat_nb.core import plot
    from spat_nb.core.pages import figure

    (std, rob), ((x, y), net) = records, (data.test.tensors(), next(iter(models.values())))
    fell = (
        (records[std].correct() & ~records[std].correct("pgd20") & records[rob].correct("pgd20"))
        .nonzero()[:8, 0]
        .to(x.device)
    )
    x, y = x[fell], y[fell]
    x_adv = pgd(Linf(EPS), 20, EPS / 4, generator=torch.Generator().manual_seed(SEED))(net, x, y)
    with torch.no_grad():
        shown = plot.show_attack(x, x_adv, y, net(x_adv).argmax(1))
    bars = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True, layout="constrained")[1]
    for ax, (name, r) in zip(bars, records.items()):
        t = r.per_class("pgd20")
        plot.class_bars(
            list(t.index), t.accuracy, t.lo, t.hi, xlabel="accuracy under PGD-20", ax=ax, title=name
        )
    lines = plt.subplots(figsize=(9, 3.2), layout="constrained")[1]
    plot.curves(
        {
            f"{n}, {k}": ([r["epoch"] for r in h], [r[k] for r in h])
            for n, h in histories.items()
            for k in ("clean", "robust")
        },
        "epoch",
        "validation accuracy",
        lines,
    )
    return dict(
        attack=figure(
            shown,
            "Digits that both networks read. In the middle what PGD-20 changed, below the result,"
            f" with the answer of the {std} network: you still read the digit, it does not.",
            "Three rows of small images: digits, the changes in red and blue, attacked digits with"
            " wrong answers above them",
        ),
        classes=figure(
            bars,
            "Each digit by itself under PGD-20, the weakest on top, with 95% intervals.",
            "Two bar charts of accuracy by digit, one for each network",
        ),
        curves=figure(
            lines,
            "Accuracy on validation images after each epoch: clean, and under the attack that was"
            " trained with.",
            "Four curves of validation accuracy over epochs",
        ),
    )


def tour(out=Path("tour.html")):
    "Train, attack, print the table, write the page"
    import spat_nb
    from spat_nb.attacks.attack import fgsm, pgd
    from spat_nb.attacks.balls import Linf
    from spat_nb.core.pages import table as page_table
    from spat_nb.core.pages import write_page
    from spat_nb.core.settings import default_device
    from spat_nb.core.threads import use_threads
    from spat_nb.data.sources import get_data
    from spat_nb.measure.evaluate import evaluate
    from spat_nb.models.networks import count
    from spat_nb.training.objectives import pgd_at, standard

    start, device = time.monotonic(), default_device()
    use_threads()
    data = get_data("digits", device=device, batch_size=64)
    ball = Linf(EPS)
    models, histories, records = {}, {}, {}
    for name, objective in (("standard", standard), ("PGD-AT", pgd_at)):
        print(
            f"training the {name} network on {data.train.n:,} digits, {EPOCHS} epochs ...",
            end=" ",
            flush=True,
        )
        t = time.monotonic()
        models[name], histories[name] = train(data, objective, pgd(ball, 7))
        records[name] = evaluate(
            models[name],
            data.test,
            "float32",
            progress=False,
            fgsm=fgsm(ball),
            pgd20=pgd(ball, 20, EPS / 4),
        )
        print(f"{time.monotonic() - t:.0f} s")
    results = rows(records)
    print(
        f"\n{data.test.n} test digits, eps {EPS} (Linf), 95% intervals in"
        f" brackets\n\n{results.to_string()}\n"
    )
    a, b = (r.accuracy("pgd20") for r in records.values())
    verdict = (
        f"Under PGD-20 the standard network keeps {a:.0%} of its answers right, the adversarially"
        f" trained one {b:.0%}."
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
        params=count(models["standard"]),
        results=page_table(results),
        verdict=verdict,
        **pictures(models, records, histories, data),
    )
    print(f"{verdict}\nPictures and curves: {Path(out).absolute()}")
