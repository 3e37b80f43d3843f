"""One minute with the package: train two networks on digits, attack both, say what happened, with
pictures
"""

from __future__ import annotations

import base64
import html
import time
from pathlib import Path

EPS, EPOCHS, SEED = 0.15, 12, 0


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>spat_nb: a tour</title><style>
:root {{ color-scheme: light dark; --ink: #1c2430; --back: #ffffff; --line: #d5dbe3; --soft: #f3f6f9; --mark: #0072b2 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e4e8ee; --back: #14181f; --line: #39424f; --soft: #1d232c; --mark: #56b4e9 }} }}
body {{ font: 17px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 56rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.7rem; margin: 0 }} h2 {{ margin: 2.2rem 0 .4rem }} .sub {{ opacity: .75; margin-top: .2rem }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; font-size: .9rem }}
th, td {{ padding: .35rem .45rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }} th:first-child, td:first-child {{ text-align: left }}
figure {{ margin: 1rem 0; background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem }} figure img {{ max-width: 100%; display: block; margin: auto }}
figcaption {{ color: #444; font-size: .9rem; padding: .4rem .3rem 0 }} code {{ background: var(--soft); padding: .1em .3em; border-radius: 3px }}
.box {{ background: var(--soft); border-left: 4px solid var(--mark); padding: .6rem 1rem; border-radius: 4px }} a {{ color: var(--mark) }}
</style></head><body>
<h1>A network that can be fooled, and one that resists</h1>
<p class="sub">spat_nb {version} · scikit-learn's digits, 8x8 pixels · every pixel may move by at most eps = {eps} · seed {seed} · {seconds:.0f} s on {device}</p>
<p>Two networks of the same make, {params:,} parameters each. The first was trained in the usual way. The second saw, in each step,
images that an attacker had just made worse for it: <b>PGD adversarial training</b>. Then both were attacked on {n} test images that neither had seen.</p>
<h2>What they still get right</h2>
<div class="wide">{table}</div>
<p class="box">{verdict} The brackets are 95% intervals (Wilson). The last column is the class that suffers most: an average hides it.</p>
<h2>What the attack looks like</h2>
{attack}
<h2>Which digits fall</h2>
{classes}
<h2>How they were trained</h2>
{curves}
<h2>Where next</h2>
<p><code>spat_nb lab</code> opens the notebooks (in a checkout: <code>make lab</code>); start with <code>index.ipynb</code>. The same on real photographs:
<code>spat_nb train --data cifar10 --objective pgd_at --width 16 --epochs 2 --precision channels_last</code>.</p>
</body></html>
"""  # noqa: E501


def figure(ax, caption, alt):
    "The matplotlib figure of `ax` as an HTML figure that needs no other file"
    from spat_nb.core.plot import png

    data = base64.b64encode(png(ax, 110)).decode()
    return (
        f'<figure><img alt="{html.escape(alt)}"'
        f' src="data:image/png;base64,{data}"><figcaption>{html.escape(caption)}</figcaption></figure>'  # noqa: E501
    )


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
    from spat_nb.core.files import write_aside
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
    table = rows(records)
    print(
        f"\n{data.test.n} test digits, eps {EPS} (Linf), 95% intervals in"
        f" brackets\n\n{table.to_string()}\n"
    )
    a, b = (r.accuracy("pgd20") for r in records.values())
    verdict = (
        f"Under PGD-20 the standard network keeps {a:.0%} of its answers right, the adversarially"
        f" trained one {b:.0%}."
    )
    page = PAGE.format(
        version=spat_nb.__version__,
        eps=EPS,
        seed=SEED,
        seconds=time.monotonic() - start,
        device=device,
        n=data.test.n,
        params=count(models["standard"]),
        table=table.reset_index().to_html(index=False, border=0),
        verdict=verdict,
        **pictures(models, records, histories, data),
    )
    with write_aside(out) as part:
        part.write_text(page, encoding="utf-8")
    print(f"{verdict}\nPictures and curves: {Path(out).absolute()}")
