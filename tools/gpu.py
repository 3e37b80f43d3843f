"""One call on a machine with a GPU: what only a GPU can show, in order of worth, as far as the time
goes

    python tools/gpu.py --out gpu --budget 9m --data FOLDER     # FOLDER holds CIFAR-10, as `spat_nb data cifar10` lays it
    python tools/gpu.py --dry-run                               # the same on a CPU, with tiny networks: it must pass before a GPU is asked for

1. placement.json: every kind of attack, the evaluation, the card, a training that is killed and
   goes on, all on the device, beside the CPU.
2. speed.json: seconds of PGD-10, of a step of PGD-AT and of AutoAttack, in each precision, compiled
   or not, beside the bare loop (and torchattacks where it is installed).
3. results/: rows of the studies at size `paper`, the most wanted first; each is a result file like
   any other.

A part whose file is there is not done again, so the same command goes on after a kill; study rows
go on in the middle. Needs torch and what spat_nb needs.
"""  # noqa: E501

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

# The rows of `paper`, the most wanted first: study and arm
ROWS = [
    ("combine", "PGD-AT"),
    ("combine", "SPAT"),
    ("combine", "HE"),
    ("baseline", "TRADES"),
    ("combine", "SPAT + HE"),
    ("sparta", "Sparta gate-ReLU (V1d)"),
    ("sparta", "gate-ReLU 1x1"),
    ("prototypes", "prototypes + AT"),
    ("prototypes", "simplex + AT"),
]


def write(path, value):
    "JSON that is there in full or not at all"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(part, path)


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- 1. placement


def placement_cases(device):  # noqa: C901
    "name -> function that raises where the device goes wrong"
    from spat_nb.app import zoo
    from spat_nb.attacks.attack import fgsm, pgd
    from spat_nb.attacks.autoattack import autoattack
    from spat_nb.attacks.balls import L1, L2, Linf
    from spat_nb.attacks.minimal import cw, deepfool, fab
    from spat_nb.attacks.nearest import within
    from spat_nb.attacks.rays import rays
    from spat_nb.attacks.spsa import spsa
    from spat_nb.attacks.square import square
    from spat_nb.attacks.steps import apgd, mim
    from spat_nb.attacks.targets import apgd_t
    from spat_nb.core.precision import fast
    from spat_nb.core.tensors import logits
    from spat_nb.data.sources import get_data
    from spat_nb.measure.evaluate import evaluate
    from spat_nb.measure.trust import trust
    from spat_nb.models.networks import SmallCNN
    from spat_nb.training.callbacks import Validate
    from spat_nb.training.checkpoint import Checkpoint
    from spat_nb.training.events import Callback
    from spat_nb.training.learner import Learner
    from spat_nb.training.objectives import pgd_at, trades

    ball, round_ = Linf(0.15), L2(1.5)
    attacks = {
        "fgsm": fgsm(ball),
        "pgd": pgd(ball, 10),
        "pgd l2": pgd(round_, 10),
        "pgd l1": pgd(L1(5.0), 10),
        "mim": mim(ball),
        "apgd": apgd(ball, 10),
        "apgd_t": apgd_t(ball, 10, targets=3),
        "fab": within(fab(Linf, 10), ball),
        "deepfool": within(deepfool(L2, 10), round_),
        "cw": within(cw(2, 20), round_),
        "square": square(ball, 50),
        "spsa": spsa(ball, 100),
        "rays": rays(ball, 50),
        "autoattack": autoattack(ball, steps=10, targets=3, queries=50),
    }
    net = zoo.load("digits/pgd_at/w16").to(device)
    here, there = get_data("digits", device=device), get_data("digits", device="cpu")
    x, y = here.test.subset(64).tensors()

    def attack(name):
        out = attacks[name](net, x, y)
        assert out.device == x.device and out.isfinite().all()
        assert attacks[name].ball.inside(out, x).all()

    def same_answers():
        judge = copy.deepcopy(net).cpu()
        z, z_cpu = logits(net, x).cpu(), logits(judge, x.cpu())
        assert (z - z_cpu).abs().max() < 1e-2 * z_cpu.abs().max(), (z - z_cpu).abs().max()
        a, b = (
            evaluate(n, d.test, progress=False, fgsm=fgsm(ball))
            for n, d in ((net, here), (judge, there))
        )
        assert abs(a.accuracy("fgsm") - b.accuracy("fgsm")) < 0.02

    def card():
        assert trust(net, (x, y), ball, cost=0.1, progress=False).flags == []

    class Kill(Callback):
        def after_step(self, learner):
            if learner.done == 9:
                raise KeyboardInterrupt

    def resume(precision, compile):
        def run(path, *more):
            torch.manual_seed(0)
            model = SmallCNN(classes=10, channels=1).to(device)
            calls = [Checkpoint(path, every=0), Validate(here.valid, pgd(ball, 3)), *more]
            return Learner(
                model,
                here.train,
                pgd_at,
                pgd(ball, 2),
                epochs=1,
                callbacks=calls,
                precision=precision,
                compile=compile,
            )

        with tempfile.TemporaryDirectory() as tmp:
            whole = run(Path(tmp) / "a.safetensors").fit()
            try:
                run(Path(tmp) / "b.safetensors", Kill()).fit()
            except KeyboardInterrupt:
                pass
            again = run(Path(tmp) / "b.safetensors").fit()
        worst = max(
            (a - b).abs().max().item()
            for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values())
            if a.is_floating_point()
        )
        # a GPU adds up in no fixed order
        assert worst < (1e-6 if device.type == "cpu" else 1e-2), worst

    def learns():
        torch.manual_seed(0)
        learner = Learner(
            SmallCNN(classes=10, channels=1).to(device),
            here.train,
            trades,
            pgd(ball, 3),
            epochs=2,
            precision="bfloat16",
        ).fit()
        assert learner.history[-1]["loss"] < learner.history[0]["loss"]

    def mixed(precision):
        out = pgd(ball, 5)(fast(copy.deepcopy(net), precision), x, y)
        assert out.dtype == torch.float32 and ball.inside(out, x).all()

    cases = {f"attack {k}": partial(attack, k) for k in attacks}
    cases |= {
        "same answers as on the CPU": same_answers,
        "card": card,
        "learns in bfloat16": learns,
    }
    cases |= {f"attack in {p}": partial(mixed, p) for p in ("channels_last", "bfloat16")}
    cases |= {
        f"killed and resumed, {p}": partial(resume, p, False) for p in ("float32", "bfloat16")
    }
    if device.type == "cuda":
        cases |= {"killed and resumed, compiled": partial(resume, "bfloat16", True)}
    return cases


def placement(device, say):
    told = {}
    for name, case in placement_cases(device).items():
        start = time.perf_counter()
        try:
            case()
            told[name] = dict(ok=True)
        except Exception as e:
            told[name] = dict(
                ok=False,
                error=f"{type(e).__name__}: {e}"[:500],
                where=traceback.format_exc(limit=-3)[-800:],
            )
        told[name]["seconds"] = round(time.perf_counter() - start, 2)
        say(
            f"{'ok  ' if told[name]['ok'] else 'FAIL'} {name} ({told[name]['seconds']} s)"
            f" {told[name].get('error', '')}"
        )
    return told


# ---- 2. speed


def seconds(run, device, rounds):
    "Median seconds of `run`, after two warm-up rounds"
    for _ in range(2):
        run()
    took = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def speed(device, say, tiny):
    from bench import bare
    from spat_nb.attacks.ascent import at_x
    from spat_nb.attacks.attack import pgd
    from spat_nb.attacks.autoattack import autoattack
    from spat_nb.attacks.balls import Linf
    from spat_nb.core.precision import compiler, fast
    from spat_nb.models.networks import PreActResNet10, PreActResNet18
    from spat_nb.training.objectives import pgd_at

    eps, rounds = 8 / 255, 3 if tiny else 10
    torch.manual_seed(0)
    net = PreActResNet10(width=8) if tiny else PreActResNet18()
    net = net.to(device)
    x, y = (
        torch.rand(8 if tiny else 256, 3, 32, 32, device=device),
        torch.randint(10, (8 if tiny else 256,), device=device),
    )
    attack = pgd(Linf(eps), 10, eps / 4, start=at_x)
    ways = {
        "float32": ("float32", False),
        "channels_last": ("channels_last", False),
        "bfloat16": ("bfloat16", False),
    }
    if device.type == "cuda" and compiler(device):
        ways |= {"bfloat16, compiled": ("bfloat16", True)}
    table = {}

    def measure(what, way, run):
        try:
            table[f"{what}, {way}"] = seconds(run, device, rounds)
        except Exception as e:
            table[f"{what}, {way}"] = f"{type(e).__name__}: {e}"[:300]
        shown = table[f"{what}, {way}"]
        say(f"{what}, {way}: {f'{1000 * shown:.1f} ms' if isinstance(shown, float) else shown}")

    for name, (precision, compile) in ways.items():
        model = copy.deepcopy(net).eval()
        run = fast(model, precision, compile)
        measure("bare PGD-10", name, lambda m=run: bare(eps)(m, x, y))
        measure("PGD-10", name, lambda m=run: attack(m, x, y))
        opt = torch.optim.SGD(model.parameters(), 0.01)

        def step(m=run, model=model, opt=opt):
            model.train()
            loss = pgd_at(m, x, y, attack)
            opt.zero_grad()
            loss.backward()
            opt.step()

        measure("a step of PGD-AT", name, step)
    model = copy.deepcopy(net).eval()
    judged = logits_of(model, x)
    aa = autoattack(Linf(eps), steps=5 if tiny else 100, queries=20 if tiny else 1000)
    table["AutoAttack (1,000 queries of Square), float32"] = once(
        lambda: aa(model, x, judged), device
    )
    try:
        import torchattacks

        their = torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=10, random_start=False)
        measure("PGD-10 of torchattacks", "float32", lambda: their(x, y))
    except ImportError:
        say("torchattacks is not installed, so it is left out")
    return dict(network=repr(net), images=len(x), rounds=rounds, seconds=table)


def logits_of(model, x):
    "The classes that the network itself answers: labels under which it is always right"
    with torch.no_grad():
        return model(x).argmax(1)


def once(run, device):
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


# ---- 3. rows


def rows(device, out, left, say, tiny):
    "Rows of the studies at size `paper`, seed 0, then further seeds, while time is left"
    from spat_nb.attacks.autoattack import autoattack
    from spat_nb.studies import runner
    from spat_nb.studies.finding import studies

    done = 0
    for seed in (0,) if tiny else (0, 1, 2):
        for name, arm in ROWS[:2] if tiny else ROWS:
            if left() < (0 if tiny else 30):
                return done
            study, size = studies()[name], "paper"
            if arm not in study.arms:
                say(f"{name} has no arm {arm!r}")
                continue
            if tiny:
                brief = dict(
                    epochs=1,
                    judged=8,
                    tested=8,
                    trusted=4,
                    cost=0.02,
                    strong=partial(autoattack, steps=2, targets=1, queries=4),
                )
                study, size = replace(study, sizes={"laptop": brief}), "laptop"
            done += runner.run(
                study, size, None if tiny else left(), device, [seed], [arm], quiet=True, say=say
            )
    return done


def main(argv=None):
    from spat_nb.app.arguments import seconds as length

    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument(
        "--out",
        help="folder for all that is found; the same one goes on (default: runs/gpu, of a dry run"
        " runs/gpu-dry)",
    )
    p.add_argument("--budget", type=length, default=540.0, help="stop after 90s, 9m (default: 9m)")
    p.add_argument("--data", help="folder that holds CIFAR-10 (default: the setting)")
    p.add_argument("--device", default="auto")
    p.add_argument(
        "--dry-run", action="store_true", help="tiny networks and short searches, on any device"
    )
    a = p.parse_args(argv)
    out = Path(a.out or ("runs/gpu-dry" if a.dry_run else "runs/gpu"))
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "SPAT_NB_RESULTS": str(out / "results"),
        "TQDM_DISABLE": "1",
        **({"SPAT_NB_DATA": a.data} if a.data else {}),
    }
    from spat_nb.core.settings import default_device
    from spat_nb.core.threads import use_threads

    if a.dry_run:
        torch.set_num_threads(1)
    device = default_device(a.device)
    use_threads()

    def left():
        return a.budget - (time.monotonic() - start)

    def say(text):
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    if device.type != "cuda" and not a.dry_run:
        p.error("there is no GPU here; --dry-run tries everything with tiny networks")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    say(f"{name}, torch {torch.__version__}")
    failed = []
    for file, part in (
        ("placement.json", lambda: placement(device, say)),
        ("speed.json", lambda: speed(device, say, a.dry_run)),
    ):
        if (out / file).is_file():
            say(f"{file} is there")
            continue
        if left() <= 0:
            say("the budget is spent; the same command goes on")
            return 1
        told = dict(device=name, torch=torch.__version__, found=part())
        write(out / file, told)
    failed = [
        k
        for k, v in json.loads((out / "placement.json").read_text(encoding="utf-8"))[
            "found"
        ].items()
        if not v["ok"]
    ]
    say(f"{rows(device, out, left, say, a.dry_run)} rows finished")
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
