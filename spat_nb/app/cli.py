"The console command `spat_nb`: tour, train, evaluate, diagnose, study, zoo, data, lab, doctor"

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

# What a data set is usually trained with: network, radius of the ball, epochs, learning rate,
# batch, augmentation is the data's own
PRESETS = {
    "digits": dict(model="small", eps=0.15, epochs=15, lr=0.1, batch=64),
    "mnist": dict(model="small", eps=0.3, epochs=3, lr=0.05, batch=128),
    "imagefolder": dict(model="preact18", eps=4 / 255, epochs=8, lr=0.1, batch=64),
    "default": dict(model="preact18", eps=8 / 255, epochs=8, lr=0.2, batch=128),
}


OBJECTIVES = ("standard", "pgd_at", "trades")


MODELS = ("small", "preact10", "preact18", "preact34", "wrn28", "wrn34")


def number(text):
    "A number or a fraction: 8/255"
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write .03 or 8/255") from None


def above(text):
    "A number above 0"
    if (v := number(text)) > 0:
        return v
    raise argparse.ArgumentTypeError(f"{text} is not above 0")


def not_below(text):
    "A number that is 0 or more"
    if (v := number(text)) >= 0:
        return v
    raise argparse.ArgumentTypeError(f"{text} is below 0")


def radius(text):
    "A radius in pixels of [0,1]"
    if 0 <= (v := number(text)) <= 1:
        return v
    raise argparse.ArgumentTypeError(
        f"{text} is no radius of pixels in [0,1]"
        + (f"; did you mean {text}/255?" if 1 < v <= 255 else "")
    )


def whole(least=None, most=None):
    "A whole number from `least` to `most`"

    def parse(text):
        try:
            v = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if least is not None and v < least:
            raise argparse.ArgumentTypeError(f"{v} is too small; give at least {least}")
        if most is not None and v > most:
            raise argparse.ArgumentTypeError(f"{v} is too large; give at most {most}")
        return v

    return parse


def seconds(text):
    "90, 90s, 9m or 1.5h"
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], None)
    try:
        v = float(text if unit is None else text[:-1]) * (unit or 1)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no length of time; write 90s, 9m or 1.5h"
        ) from None
    if 0 < v < math.inf:
        return v
    raise argparse.ArgumentTypeError(
        f"{text!r} is no length of time that passes; write 90s, 9m or 1.5h"
    )


def build(name, data, width):
    "The network called `name`, for the images and classes of `data`"
    from spat_nb.models import networks

    ch, h, _ = data.shape
    if name == "small":
        return networks.SmallCNN(classes=data.c, width=width or 16, channels=ch, size=h)
    if name.startswith("wrn"):
        return networks.WideResNet(
            depth=int(name[3:]), widen=width or 10, classes=data.c, channels=ch
        )
    return {
        "preact10": networks.PreActResNet10,
        "preact18": networks.PreActResNet18,
        "preact34": networks.PreActResNet34,
    }[name](classes=data.c, width=width or 64, channels=ch)


def attacks(eps):
    "What every run is measured by; a step is a quarter of the radius, 2/255 for 8/255"
    from spat_nb.attacks.attack import fgsm, pgd
    from spat_nb.attacks.balls import Linf

    return dict(fgsm=fgsm(Linf(eps)), pgd20=pgd(Linf(eps), 20, eps / 4))


def show(record, say=print):
    "The table, and each class by itself"
    say("\n" + record.table().to_string(float_format="{:.4f}".format))
    say("\n" + record.class_table().to_string(float_format="{:.3f}".format))


def configure(a):
    """The whole configuration of a run, defaults filled in: it names the run, and a checkpoint of
    another one is refused
    """
    from spat_nb.core.settings import settings

    preset = PRESETS.get(a.data, PRESETS["default"])
    c = {
        k: getattr(a, k)
        for k in (
            "data",
            "objective",
            "model",
            "width",
            "epochs",
            "lr",
            "batch",
            "eps",
            "steps",
            "beta",
            "seed",
            "n",
            "valid",
            "n_test",
            "root",
            "size",
        )
    }
    c = {k: preset.get(k) if v is None else v for k, v in c.items()}
    # to be found again from elsewhere
    if c["data"].lower().endswith(".npz") and Path(c["data"]).exists():
        c["data"] = str(Path(c["data"]).absolute())
    return c | dict(precision=a.precision or settings().precision)


def aims(c):
    "Objective and training attack of configuration `c`"
    from spat_nb.attacks.ascent import gaussian, uniform
    from spat_nb.attacks.attack import pgd
    from spat_nb.attacks.balls import Linf
    from spat_nb.training import objectives

    attack = pgd(
        Linf(c["eps"]), c["steps"], start=gaussian() if c["objective"] == "trades" else uniform
    )
    objective = getattr(objectives, c["objective"])
    return partial(objective, beta=c["beta"]) if c["objective"] == "trades" else objective, attack


def made(c):
    """What a run of configuration `c` is made of: part -> its `identity.made_of`.

    With it a finished run tells whether it would be the same today
    """
    from spat_nb.core.identity import made_of
    from spat_nb.models import networks

    objective, attack = aims(c)
    name = c["model"]
    net = (
        networks.SmallCNN
        if name == "small"
        else (
            networks.WideResNet
            if name.startswith("wrn")
            else getattr(networks, f"PreActResNet{name[6:]}")
        )
    )
    return {
        k: made_of(v)
        for k, v in dict(
            objective=objective, attack=attack, network=net, measure=attacks(c["eps"])
        ).items()
    }


def another(c, out):
    """How the finished run in `out` differs from configuration `c` and today's code, in words; ''
    where it does not
    """
    from spat_nb.core.identity import difference

    try:
        was = json.loads((out / "result.json").read_text(encoding="utf-8"))
        old = dict(was["config"])
    except (ValueError, KeyError, TypeError):
        return f"{out}/result.json is damaged"
    told = [f"{k} {old.get(k)}, not {c.get(k)}" for k in {**c, **old} if old.get(k) != c.get(k)]
    if told:
        return f"{out} holds a run with {' and '.join(told)}"
    if "identity" not in was:
        return ""
    for k, now in made(c).items():
        # a newer version is no other run
        def ours(p):
            return {key: v for key, v in p.items() if not key.startswith("library ")}

        if told := difference(ours(was["identity"].get(k, {})), ours(now)):
            return f"{out} holds a run with another {k}: {told}"
    return ""


def learner(c, data, out, device, compile=False, every=60, devices=None):
    "The run that configuration `c` describes"
    import torch

    from spat_nb.attacks.attack import pgd
    from spat_nb.attacks.balls import Linf
    from spat_nb.core.rng import torch_seed
    from spat_nb.training.callbacks import Best, Progress, Validate
    from spat_nb.training.checkpoint import Checkpoint
    from spat_nb.training.learner import Learner

    torch.manual_seed(torch_seed(c["seed"]))
    model = build(c["model"], data.train, c["width"]).to(device)
    ball = Linf(c["eps"])
    objective, attack = aims(c)
    # epochs between two validations
    look = 1.0 if c["epochs"] > 3 or c["data"] == "digits" else 0.5
    best = Best()
    calls = [
        Validate(data.valid, pgd(ball, 10), every=look),
        best,
        Progress(),
        Checkpoint(out / "checkpoint.safetensors", every, c),
    ]
    return (
        Learner(
            model,
            data.train,
            objective,
            attack,
            c["epochs"],
            c["lr"],
            callbacks=calls,
            precision=c["precision"],
            compile=compile,
            seed=c["seed"],
            devices=devices,
        ),
        best,
    )


def finish(c, trainer, best, data, out, seconds):
    "Measure the network that validation chose, and write weights, record, results and plot"
    import platform

    import torch

    import spat_nb
    from spat_nb.core.files import write_aside
    from spat_nb.measure.evaluate import evaluate
    from spat_nb.models.saving import save

    best.restore(trainer.model)
    t = time.monotonic()
    record = (trainer.devices.evaluate if trainer.devices else evaluate)(
        trainer.model, data.test, c["precision"], **attacks(c["eps"])
    )
    # one process writes
    if trainer.devices and not trainer.devices.first:
        return record
    save(trainer.model, out / "weights.safetensors", data=c["data"], config=c)
    record.save(out / "record.json")
    rows = json.loads(record.table().reset_index().to_json(orient="records"))
    where = next(trainer.model.parameters()).device
    result = dict(
        config=c,
        identity=made(c),
        spat_nb=spat_nb.__version__,
        torch=torch.__version__,
        python=platform.python_version(),
        threads=torch.get_num_threads(),
        device=(
            torch.cuda.get_device_name(where)
            if where.type == "cuda"
            else platform.processor() or platform.machine()
        ),
        **({"processes": trainer.devices.of} if trainer.devices else {}),
        seconds=dict(train=round(seconds, 1), evaluate=round(time.monotonic() - t, 1)),
        chosen_step=best.step,
        history=trainer.history,
        table=rows,
        per_class=json.loads(record.class_table().to_json()),
    )
    try:
        picture(trainer.history, record, out / "curves.png")
    # hours of training are not lost for it
    except Exception as e:
        print(
            f"{out / 'curves.png'} could not be drawn ({' '.join(str(e).split())}); all else is"
            " there",
            flush=True,
        )
    # last: it says that the run is finished
    with write_aside(out / "result.json") as part:
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return record


def finished(out):
    "Is all that a later command needs of a run there?"
    return all((out / f).is_file() for f in ("result.json", "record.json", "weights.safetensors"))


def picture(history, record, path):
    "Training curves, and every class under the strongest attack"
    import matplotlib.pyplot as plt

    from spat_nb.core import plot
    from spat_nb.core.files import write_aside

    axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")[1]
    x, t = [r["epoch"] for r in history], record.per_class("pgd20")
    plot.curves(
        {k: (x, [r[k] for r in history]) for k in ("clean", "robust")},
        "epoch",
        "validation accuracy",
        axes[0],
    )
    plot.class_bars(
        list(t.index),
        t.accuracy,
        t.lo,
        t.hi,
        xlabel="accuracy under PGD-20, test images",
        ax=axes[1],
    )
    with write_aside(path) as part:
        part.write_bytes(plot.png(axes))


def name_of(c):
    return f"{re.sub('[^A-Za-z0-9_.+=-]+', '_', Path(c['data']).stem if c['data'].lower().endswith('.npz') else c['data'])}-{c['objective']}-{c['model']}{'-w%d' % c['width'] if c['width'] else ''}-s{c['seed']}-{hashlib.sha1(json.dumps(c, sort_keys=True).encode()).hexdigest()[:6]}"  # noqa: E501


def train(a):
    """Train, measure, write; the same command goes on after a kill. Under torchrun or accelerate
    launch, on many devices
    """
    from spat_nb.training.devices import many

    devices = many(a.device, a.timeout, a.shared_norm)
    try:
        run(a, devices, print if devices is None or devices.first else lambda *_, **__: None)
    finally:
        if devices:
            devices.close()


def run(a, devices, say):
    "The command `train`, as one of many `devices` or alone; `say` prints in one process"
    from spat_nb.core.settings import default_device, settings
    from spat_nb.data.sources import get_data
    from spat_nb.measure.record import Record

    c, threads = configure(a), settle()
    out = Path(a.out) if a.out else settings().results / name_of(c)
    if finished(out) and not a.again:
        if told := another(c, out):
            raise ValueError(f"{told}; give another --out, or --again to train anew in it.")
        say(f"finished before: {out} (--again trains once more)")
        return show(Record.load(out / "record.json"), say)
    # nobody looks for files that the first one deletes or writes
    if devices:
        devices.wait()
    if a.again and (devices is None or devices.first):
        for f in ("checkpoint.safetensors", "result.json"):
            (out / f).unlink(missing_ok=True)
    if devices:
        devices.wait()
    device = devices.device if devices else default_device(a.device)
    if devices is None or devices.first:
        ready(out, a.compile and device)
    data = get_data(
        c["data"],
        device=device,
        batch_size=c["batch"],
        seed=c["seed"],
        n=c["n"],
        valid=c["valid"],
        root=c["root"],
        size=c["size"],
        workers=a.workers,
    )
    data = data._replace(test=some(data.test, c["n_test"]))
    trainer, best = learner(c, data, out, device, a.compile, a.every, devices)
    from spat_nb.models.networks import count

    say(
        f"{c['objective']} on {c['data']}: {data.train.n:,} images to train on, {data.valid.n:,} to"
        f" choose by, {data.test.n:,} to test; {c['model']} with {count(trainer.model):,} parameters;"  # noqa: E501
        f" {f'{devices.of} processes, ' if devices else ''}{device}, {threads} threads,"
        f" {c['precision']}; into {out}",
        flush=True,
    )
    if (out / "checkpoint.safetensors").exists():
        say("going on from the checkpoint of a run that was interrupted")
    t = time.monotonic()
    trainer.fit()
    record = finish(c, trainer, best, data, out, time.monotonic() - t)
    if devices is None or devices.first:
        (out / "checkpoint.safetensors").unlink(missing_ok=True)
    show(record, say)
    for k in ("clean", "pgd20"):
        lo, hi = record.interval(k)
        say(
            f"{k:6} accuracy {record.accuracy(k):.2%}  (95% interval {lo:.2%} to {hi:.2%}, n ="
            f" {len(record.y):,})"
        )
    say(f"written: {out}/weights.safetensors, result.json, record.json, curves.png")


def ready(out, compile=False):
    """Refuse, before any work is done, a folder `out` that a run cannot write into, and a device to
    `compile` for that has no compiler
    """
    from spat_nb.core.paths import check_writable
    from spat_nb.core.precision import check_compiler

    check_writable(out, folder=True)
    for f in (
        "checkpoint.safetensors",
        "weights.safetensors",
        "record.json",
        "result.json",
        "curves.png",
    ):
        check_writable(out / f)
    try:
        compile and check_compiler(compile, "--compile")
    except RuntimeError as e:
        raise ValueError(str(e)) from None


def some(test, n):
    "`n` of the images of `test`; all where `n` is None"
    if n is None:
        return test
    if n > test.n:
        raise ValueError(
            f"--n-test is {n}, but there are {test.n} test images; leave it out to take all."
        )
    return test.subset(n)


def settle():
    """What a command that computes sets for its process: threads, and memory that is kept from step
    to step; gives the number of threads
    """
    from spat_nb.core.threads import keep_memory, use_threads

    keep_memory()
    return use_threads()


def opened(a):
    "What the weights of a command are measured by: (model, data, ball)"
    from spat_nb.attacks.balls import Linf
    from spat_nb.core.settings import default_device
    from spat_nb.data.sources import get_data
    from spat_nb.models.saving import load, model_info

    settle()
    shipped = (
        not Path(a.weights).is_file()
        and a.weights.count("/") == 2
        and not a.weights.endswith(".safetensors")
    )
    if shipped:
        from spat_nb.app.zoo import card, load, path
    told = model_info(path(a.weights) if shipped else a.weights)
    # a study's weights say it outright
    c = {**told, **told.get("config", {})}
    if "recipe" in told:
        from spat_nb.core import spec

        c |= {**told["recipe"], "eps": spec.make(told["recipe"]["ball"]).eps}
    name, eps = a.data or c.get("data"), a.eps if a.eps is not None else c.get("eps")
    if not name or eps is None:
        raise ValueError(
            f"{a.weights} does not say its data set and radius; give --data and --eps."
        )
    device = default_device(a.device)
    # its held-out images are those of its training
    kept = (
        {k: c[k] for k in ("root", "seed", "valid") if c.get(k) is not None}
        if name == c.get("data")
        else {}
    )
    data = get_data(name, device=device, size=c.get("size") or 224, **kept)
    test = some(data.test, a.n_test)
    # in the batches of its card: random starts are drawn batch by batch
    if shipped:
        from spat_nb.studies.sizes import SIZES

        size = SIZES[card(a.weights)["source"]["size"]]
        test = test.with_(batch_size=size.chunk or size.batch)
    return load(a.weights).to(device), data._replace(test=test), Linf(eps)


def evaluate(a):
    "Measure saved weights"
    from spat_nb.attacks.autoattack import autoattack
    from spat_nb.core.paths import check_writable
    from spat_nb.measure.evaluate import evaluate
    from spat_nb.measure.trust import trust

    if a.out:
        check_writable(a.out, ending=".json")
    if a.resume:
        check_writable(a.resume)
    model, (_, _, test), ball = opened(a)
    if a.trust and ball.eps == 0:
        raise ValueError(
            "--trust asks whether a robust accuracy is real, which needs a radius above 0; give"
            " --eps."
        )
    record = evaluate(
        model,
        test,
        a.precision,
        resume=a.resume,
        **attacks(ball.eps),
        **({"aa": autoattack(ball)} if a.aa else {}),
    )
    show(record)
    for note in record.notes:
        print(note)
    if a.out:
        record.save(a.out)
    if a.trust:
        print(f"\nIs this number real?\n{trust(model, test, ball)}")


def diagnose(a):
    "Saved weights class by class: who falls, and to whom; one HTML page"
    from spat_nb.classwise.diagnosis import diagnose, usual
    from spat_nb.classwise.temperature import best_tau, equal_budget, tau_sweep, temperature_pgd
    from spat_nb.core.paths import check_writable

    check_writable(a.out, ending=".html")
    if a.record:
        check_writable(a.record, ending=".json")
    if a.resume:
        check_writable(a.resume)
    model, (_, valid, test), ball = opened(a)
    attacks = usual(ball)
    if a.taus:
        held = valid.subset(min(a.taus, valid.n))
        sweep = tau_sweep(
            model,
            held,
            lambda t: temperature_pgd(ball, t),
            precision=a.precision,
            resume=a.resume and f"{a.resume}.taus",
        )
        tau = best_tau(sweep)
        print(
            f"temperature-PGD, 20 steps, on {held.n} validation images: tau = {tau:g} leaves"
            f" least\n{sweep.table().to_string(float_format='{:.4f}'.format)}\n"
        )
        attacks |= {f"{k} 100": v for k, v in equal_budget(ball, tau).items()}
    start = time.monotonic()
    d = diagnose(model, test, attacks, precision=a.precision, resume=a.resume)
    if a.taus:
        d.record.info |= dict(
            tau=tau,
            taus={
                f"{t:g}": [int(sweep.correct(k).sum()), held.n]
                for k, t in sweep.info["tau"].items()
            },
        )
    print(d)
    if a.record:
        d.record.save(a.record)
    d.html(a.out)
    seconds, attacked = (
        time.monotonic() - start,
        sum(v for k, v in d.record.info["seconds"].items() if k != "clean"),
    )
    print(
        f"\nwith pictures: {Path(a.out).absolute()}\n{seconds:.0f} s, {attacked / seconds:.1%} of"
        " it in the attacks"
    )


def data(a):
    "Download data sets into the data folder"
    from spat_nb.core.paths import check_writable
    from spat_nb.core.settings import settings
    from spat_nb.data.sources import get_data

    check_writable(settings().data, folder=True)
    for name in a.names:
        d = get_data(name, device="cpu", download=True)
        print(
            f"{name}: {d.train.n + d.valid.n:,} training and {d.test.n:,} test images of"
            f" {d.test.shape} in {settings().data}"
        )


def compare(a):
    "Set two records of `evaluate --out` (or of a training) against each other, image by image"
    from spat_nb.measure.record import Record

    t = Record.load(a.record).versus(Record.load(a.other), a.classes)

    def pct(v):
        return f"{100 * v:+.1f}"

    print(
        f"{a.record} against {a.other}{f', the classes under {a.classes}' if a.classes else ''};"
        " images, accuracies, difference in points with 95%"
        f" interval{' (all classes together)' if a.classes else ''}"
    )
    for k, r in t.iterrows():
        print(
            f"{k:12} {r.n:6.0f} {100 * r.accuracy:6.1f} {100 * r.other:6.1f}   {pct(r['diff'])}"
            f" [{pct(r.lo)}, {pct(r.hi)}]{'' if r.lo > 0 or r.hi < 0 else '   not told apart'}"
        )
    for note in t.attrs["notes"]:
        print(f"Note: {note}.")
    print(
        "It holds for these two networks on other images; how far two more trainings would lie"
        " apart only more seeds can say."
    )


def study(a):
    """Studies: list them, see what is done, run what is missing, judge once more, show tables and
    plots
    """
    from spat_nb.core.settings import default_device
    from spat_nb.studies import rows, runner, verify
    from spat_nb.studies.finding import studies
    from spat_nb.studies.spread import cores

    if a.what == "list":
        for name, s in studies().items():
            print(f"{name:12} {s.question}  ({len(s.arms)} rows: {', '.join(s.arms)})")
        return
    if a.what == "status":
        return print(rows.status(a.name).to_string())
    if not a.name:
        raise ValueError(
            f"which study? spat_nb study {a.what} NAME; they are {', '.join(studies())}."
        )
    if a.what == "table":
        return print(rows.results_of(a.name, a.size).table().to_string())
    if a.what == "plot":
        from spat_nb.core.files import write_aside
        from spat_nb.core.paths import check_writable
        from spat_nb.core.plot import png

        out = Path(a.out or f"{a.name}-{a.size}.png")
        check_writable(out, ending=".png")
        with write_aside(out) as part:
            part.write_bytes(png(rows.results_of(a.name, a.size).plot()))
        return print(f"written: {out}")
    from spat_nb.core.paths import check_writable
    from spat_nb.core.settings import settings

    check_writable(settings().results, folder=True)
    settle()
    device = default_device(a.device)
    if a.what == "verify":
        return (
            1
            if verify.verify(
                a.name, a.size, a.seeds, a.arms, device, a.quiet, partial(print, flush=True)
            )
            else 0
        )
    workers = a.workers or (cores() if device.type == "cpu" else 1)
    n = runner.run(
        a.name,
        a.size,
        a.budget,
        device,
        a.seeds,
        a.arms,
        a.whole,
        a.quiet,
        partial(print, flush=True),
        workers,
    )
    if a.quiet:
        return
    print(f"{n} runs finished\n\n{rows.status(a.name).to_string()}")
    if rows.runs_of(a.name, a.size):
        print(f"\n{rows.results_of(a.name, a.size).table().to_string()}")


def zoo(a):
    "Networks that come with the package: list them, show a card, ship the network of a study's run"
    from spat_nb.app import shipping
    from spat_nb.app import zoo as zoo_room

    if a.what == "list":
        return print(
            zoo_room.table().to_string()
            if zoo_room.names()
            else "no network is shipped yet: spat_nb zoo ship --all"
        )
    if a.what == "card":
        if not a.study:
            raise ValueError(
                f"which network? spat_nb zoo card NAME; they are {', '.join(zoo_room.names())}."
            )
        return print(zoo_room.card(a.study))
    settle()
    if a.all:
        for name, what in shipping.ship_all(a.again, aa=a.aa):
            print(f"{name:30} {what}", flush=True)
        return
    if not (a.study and a.arm and a.name):
        raise ValueError("spat_nb zoo ship needs STUDY, ARM and --name; or give --all.")
    print(
        f"written: {shipping.ship(a.study, a.size, a.arm, a.seed, a.name, a.aa)}\n\n{zoo_room.card(a.name)}"
    )


def lab(a):
    "Open JupyterLab on a copy of the notebooks (or --playground: the playground alone)"
    from spat_nb.app import lab as lab_room
    from spat_nb.core.paths import check_writable, shell

    check_writable(Path(a.folder).expanduser(), folder=True)
    done = lab_room.copy(a.folder)
    print(lab_room.told(done, a.folder))
    if a.copy_only:
        print(f"Open them: {shell('spat_nb', 'lab', a.folder)}")
    else:
        return lab_room.become(
            lab_room.command(a.folder, a.playground, not a.no_browser, a.port, a.ip, a.more),
            a.folder,
        )


def doctor(a):
    "Say what this machine lacks, and the command that mends it"
    from spat_nb.app import doctor as doctor_room

    return doctor_room.doctor()


def tour(a):
    "One minute: train, attack, compare"
    from spat_nb.app.tour import tour
    from spat_nb.core.paths import check_writable

    check_writable(a.out, ending=".html")
    tour(Path(a.out))


class Help(argparse.ArgumentDefaultsHelpFormatter):
    "Says a default only where there is one"

    def _get_help_string(self, action):
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    "Says in one sentence which flag is wrong"

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help tells more\n")


def parser():
    p = Parser("spat_nb", description="Adversarial robustness: learn it, use it, judge it")
    p.add_argument("--version", action="version", version=__import__("spat_nb").__version__)
    sub = p.add_subparsers(dest="command", required=True, metavar="command")

    def command(f):
        s = sub.add_parser(f.__name__, help=f.__doc__, description=f.__doc__, formatter_class=Help)
        s.set_defaults(run=f)
        return s

    s = command(tour)
    s.add_argument("--out", default="tour.html", help="page to write")
    s = command(train)
    s.add_argument(
        "--data",
        default="digits",
        help="digits, mnist, cifar10, cifar100, svhn, stl10, imagefolder, or arrays: my.npz",
    )
    s.add_argument(
        "--objective", default="pgd_at", choices=OBJECTIVES, help="what a step minimises"
    )
    s.add_argument("--model", choices=MODELS, help="network (default: by data set)")
    s.add_argument(
        "--width",
        type=whole(1),
        help="channels of the first stage (small: 16, preact: 64), widening factor (wrn: 10)",
    )
    s.add_argument(
        "--epochs", type=whole(1), help="passes over the training images (default: by data set)"
    )
    s.add_argument("--lr", type=above, help="highest learning rate (default: by data set)")
    s.add_argument("--batch", type=whole(1), help="images in a batch (default: by data set)")
    s.add_argument(
        "--eps", type=radius, help="radius of the Linf ball, 8/255 say (default: by data set)"
    )
    s.add_argument(
        "--steps", type=whole(1), default=5, help="steps of the training attack, each 2.5 eps/steps"
    )
    s.add_argument(
        "--beta", type=not_below, default=6.0, help="weight of the second term of TRADES"
    )
    s.add_argument(
        "--seed", type=whole(), default=0, help="of weights, order, augmentation and random starts"
    )
    s.add_argument(
        "--n",
        "--images",
        type=whole(1),
        help="train on this many images, balanced by class (default: all)",
    )
    s.add_argument(
        "--valid",
        type=whole(1),
        help="held-out images that choose the checkpoint (default: by data set)",
    )
    s.add_argument("--n-test", type=whole(1), help="test on this many images (default: all)")
    s.add_argument(
        "--root",
        help=(
            "folder of the data; for imagefolder the one with train/ and val/ (default: the"
            " setting)"
        ),
    )
    s.add_argument(
        "--size", type=whole(1), default=224, help="of imagefolder: height and width in pixels"
    )
    s.add_argument(
        "--workers",
        type=whole(0),
        default=0,
        help="of imagefolder: processes that read ahead, for each process that trains",
    )
    s.add_argument("--precision", help="float32, channels_last or bfloat16 (default: the setting)")
    s.add_argument(
        "--compile", action="store_true", help="torch.compile the network (pays on GPUs)"
    )
    s.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the setting)")
    s.add_argument("--every", type=not_below, default=60, help="seconds between two checkpoints")
    s.add_argument(
        "--out",
        help="folder to write to (default: in the results folder, named by the configuration)",
    )
    s.add_argument(
        "--shared-norm",
        action="store_true",
        help="of many processes: batch norm over the whole batch, not over each share",
    )
    s.add_argument(
        "--timeout",
        type=seconds,
        default=600.0,
        help="of many processes: give up one that does not answer for so long",
    )
    s.add_argument("--again", action="store_true", help="train once more where results exist")
    for s in (command(evaluate), command(diagnose)):
        s.add_argument(
            "weights",
            help=".safetensors file that train wrote, or a shipped network: digits/pgd_at/w16",
        )
        s.add_argument("--data", help="data set (default: what it was trained on)")
        s.add_argument("--eps", type=radius, help="radius (default: what it was trained with)")
        s.add_argument("--n-test", type=whole(1), help="test on this many images (default: all)")
        s.add_argument(
            "--resume",
            help="file that keeps what is done, so that the same command goes on after a kill",
        )
        s.add_argument("--precision", help="of the attacks; the verdict is float32")
        s.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the setting)")
    s.add_argument(
        "--taus",
        type=whole(1),
        metavar="N",
        help=(
            "also choose the temperature of PGD on N validation images, and compare attacks at 100"
            " gradients each"
        ),
    )
    s.add_argument("--record", help="JSON file for the answers")
    s.add_argument("--out", default="diagnosis.html", help="page to write")
    s = sub.choices["evaluate"]
    s.add_argument("--aa", action="store_true", help="AutoAttack standard too: minutes to hours")
    s.add_argument(
        "--trust",
        action="store_true",
        help="also ask whether the number is real: eleven gates on 256 images",
    )
    s.add_argument("--out", help="JSON file for the record")
    s = command(compare)
    s.add_argument("record", help="JSON file of a record")
    s.add_argument("other", help="the one that it is compared with, of the same images")
    s.add_argument(
        "--classes", metavar="ATTACK", help="class by class under this attack (or clean)"
    )
    s = command(study)
    s.add_argument(
        "what",
        choices=["list", "status", "run", "verify", "table", "plot"],
        help="verify judges the kept networks once more",
    )
    s.add_argument("name", nargs="?", help="of the study")
    s.add_argument(
        "--size",
        default="laptop",
        choices=["laptop", "mini", "small", "paper"],
        help="digits in minutes, CIFAR-10 with a narrow network, CIFAR-10 with the usual one",
    )
    s.add_argument(
        "--budget",
        type=seconds,
        help="stop after 90s, 9m, 1.5h; what is done is kept (default: no limit)",
    )
    s.add_argument(
        "--whole",
        action="store_true",
        help="begin only runs that are expected to fit into the budget",
    )
    s.add_argument(
        "--seeds",
        type=whole(0),
        nargs="+",
        help="only these (default: as many as the size asks for)",
    )
    s.add_argument("--arms", nargs="+", help="only these rows")
    s.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the setting)")
    s.add_argument(
        "--workers",
        type=whole(1),
        help="runs side by side, one thread each (default: as many as there are cores; 1 on a GPU)",
    )
    s.add_argument("--quiet", action="store_true", help="a line for each finished run, no bars")
    s.add_argument("--out", help="file of the plot")
    s = command(zoo)
    s.add_argument("what", nargs="?", default="list", choices=["list", "card", "ship"])
    s.add_argument(
        "study", nargs="?", help="the study whose run is shipped; the name of the network for card"
    )
    s.add_argument("arm", nargs="?", help="the row of that study")
    s.add_argument("--name", help="data/method/variant, digits/pgd_at/w16 say")
    s.add_argument(
        "--size", default="laptop", choices=["laptop", "mini", "small", "paper"], help="of the run"
    )
    s.add_argument("--seed", type=whole(), default=0, help="of the run")
    s.add_argument(
        "--all",
        action="store_true",
        help="ship every network of the list in spat_nb/app/shipping.py whose run is there",
    )
    s.add_argument(
        "--again", action="store_true", help="with --all: also those that were shipped before"
    )
    s.add_argument(
        "--aa", action="store_true", help="compare float16 with float32 under AutoAttack too"
    )
    s = command(data)
    s.add_argument("names", nargs="+", help="mnist, cifar10, cifar100, svhn, stl10")
    s = command(lab)
    s.add_argument(
        "folder",
        nargs="?",
        default="spat_nb-notebooks",
        help="of your own; what you change in it is never overwritten",
    )
    s.add_argument("--copy-only", action="store_true", help="lay the notebooks there and stop")
    s.add_argument(
        "--playground",
        action="store_true",
        help="open the playground as a page of its own (Voila) instead of JupyterLab",
    )
    s.add_argument("--no-browser", action="store_true", help="open no browser: print the address")
    s.add_argument("--port", type=whole(1, 65535), help="port of the server")
    s.add_argument("--ip", help="address that the server listens on")
    s.epilog = "Other flags of the form --ServerApp.key=value are passed on."
    command(doctor)
    return p


def main(argv=None):
    # a console of another code page prints what it cannot show as \u732b
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    p = parser()
    a, a.more = p.parse_known_args(argv)
    if a.more and (a.run is not lab or not all(m.startswith("--") and "=" in m for m in a.more)):
        p.error(f"unrecognized arguments: {' '.join(a.more)}")
    try:
        status = a.run(a)
        sys.stdout.flush()
    # the reader has gone, `| head` say: nothing to complain of
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # as of a process that the signal ended
        return 141
    # what a user can mend is said in one sentence
    except (ValueError, TypeError, KeyError, OSError, FloatingPointError, ImportError) as e:
        print(
            f"spat_nb {a.command}: {e.args[0] if isinstance(e, KeyError) and e.args else e}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
