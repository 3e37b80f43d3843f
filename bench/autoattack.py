"""AutoAttack standard with its published budget: ours against torchattacks' members, on the same
real CIFAR-10 images, in one run

    python bench/autoattack.py WEIGHTS --n 500 --state aa.json

torchattacks 3.5.1 ships its AutoAttack with 10 steps of APGD and FAB where the standard has 100, so
the same four members are built here with the published budget (`--shipped` takes the 10 steps on
both sides). Each member gets what the ones before left of its batch, as in torchattacks' own
MultiAttack. Ours runs through `evaluate`, which gathers survivors into full batches. Seconds are
those of the attacks: process time on a CPU (other programs do not count), wall time on a GPU. After
a kill the same command goes on from the state files; with another `--precision` it runs only ours
again. Verdicts are float32 always.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import torch

from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.cascade import Cascade
from spat_nb.core.files import write_aside
from spat_nb.core.settings import PRECISIONS, default_device
from spat_nb.core.threads import use_threads
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.saving import load

MEMBERS = ("apgd_ce", "apgd_t", "fab_t", "square")


class Book:
    "Seconds and verdicts so far, on disk"

    def __init__(self, path, key):
        self.path, self.d = Path(path), dict(key=key, seconds={}, theirs=[])
        if self.path.is_file():
            d = json.loads(self.path.read_text())
            if d["key"] != key:
                raise SystemExit(
                    f"{path} belongs to another run ({d['key']}); give another --state, or"
                    " delete it."
                )
            self.d = d

    def save(self):
        with write_aside(self.path) as part:
            part.write_text(json.dumps(self.d))


class Clock:
    "An attack whose time is written down"

    def __init__(self, name, attack, book):
        self.name, self.attack, self.book, self.ball = (
            name,
            attack,
            book,
            getattr(attack, "ball", None),
        )

    def __repr__(self):
        return repr(self.attack)

    def now(self, x):
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        return time.perf_counter() if x.device.type == "cuda" else time.process_time()

    def __call__(self, model, x, y):
        t = self.now(x)
        out = self.attack(model, x, y)
        self.book.d["seconds"][self.name] = (
            self.book.d["seconds"].get(self.name, 0) + self.now(x) - t
        )
        self.book.save()
        return out


def torchattacks_members(model, ball, steps, targets, queries, seed=0):
    "torchattacks' four members with the given budget, as attack(model, x, y)"
    import torchattacks as ta

    kw = dict(eps=ball.eps, norm=type(ball).__name__, seed=seed)
    t = dict(n_classes=targets + 1)
    made = [
        ta.APGD(model, steps=steps, loss="ce", **kw),
        ta.APGDT(model, steps=steps, **t, **kw),
        ta.FAB(model, steps=steps, multi_targeted=True, **t, **kw),
        ta.Square(model, n_queries=queries, **kw),
    ]
    return {k: lambda m, x, y, a=a: a(x, y) for k, a in zip(MEMBERS, made)}


def one_batch(model, members, x, y):
    """For every image the first member that fools it: 0 if it was wrong already, 1 to 4, or 5 where
    it stands (MultiAttack runs its first member on all images)
    """

    def right(x_adv, y):
        return model(x_adv).argmax(1) == y

    with torch.no_grad():
        fell = torch.where(right(x, y), 5, 0)
    left = torch.arange(len(x), device=x.device)
    for i, attack in enumerate(members.values(), 1):
        if not len(left):
            break
        x_adv = attack(model, x[left], y[left])
        with torch.no_grad():
            ok = right(x_adv, y[left])
        fell[left[~ok]] = fell[left[~ok]].clamp(max=i)
        left = left[ok]
    return fell.tolist()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("weights", help=".safetensors of spat_nb.models")
    p.add_argument("--n", type=int, default=500, help="test images, balanced over the classes")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--norm", choices=["Linf", "L2"], default="Linf")
    p.add_argument("--eps", type=float, default=None, help="default 8/255 or .5")
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--targets", type=int, default=9)
    p.add_argument("--queries", type=int, default=5000)
    p.add_argument(
        "--shipped", action="store_true", help="10 steps of APGD and FAB, as torchattacks ships it"
    )
    p.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="channels_last",
        help="how ours runs the network; verdicts are float32",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default=None)
    p.add_argument("--data", default=None, help="folder of CIFAR-10; default: the setting")
    p.add_argument(
        "--state",
        default="autoattack-bench.json",
        help="what is done so far; ours keeps its own beside it, one for each precision",
    )
    a = p.parse_args()
    use_threads(a.threads)
    device = default_device(a.device)
    steps = 10 if a.shipped else a.steps
    ball = (Linf if a.norm == "Linf" else L2)(a.eps or (8 / 255 if a.norm == "Linf" else 0.5))
    model = load(a.weights).to(device).eval()
    data = (
        get_data("cifar10", device=device, root=a.data).test.subset(a.n).with_(batch_size=a.batch)
    )
    key = dict(
        weights=hashlib.sha1(Path(a.weights).read_bytes()).hexdigest()[:12],
        n=a.n,
        batch=a.batch,
        ball=repr(ball),
        steps=steps,
        targets=a.targets,
        queries=a.queries,
        seed=a.seed,
        threads=a.threads,
        device=str(device),
    )
    book = Book(a.state, key)

    aa = autoattack(ball, steps=steps, targets=a.targets, queries=a.queries)
    ours = Cascade(
        {k: Clock(f"{a.precision} {k}", m, book) for k, m in aa.members.items()},
        ball,
        aa.check,
        aa.review,
    )
    r = evaluate(model, data, a.precision, a.seed, aa=ours, resume=f"{a.state}.{a.precision}")
    for note in r.notes:
        print(note)

    members = {
        k: Clock(f"theirs {k}", m, book)
        for k, m in torchattacks_members(model, ball, steps, a.targets, a.queries, a.seed).items()
    }
    for i, (x, y) in enumerate(data):
        if i < len(book.d["theirs"]):
            continue
        before = dict(book.d["seconds"])
        try:
            book.d["theirs"].append(one_batch(model, members, x, y))
        except BaseException:
            book.d["seconds"] = before
            raise
        finally:
            book.save()
        print(f"torchattacks: {sum(map(len, book.d['theirs']))} of {a.n} images", flush=True)

    fell = torch.tensor(sum(book.d["theirs"], []))
    s = book.d["seconds"]
    print(
        f"\n{Path(a.weights).name}, {a.n} real CIFAR-10 images, {ball}, {steps} steps, {a.targets}"
        f" targets, {a.queries} queries, batches of {a.batch}, {a.precision}, {device}, {a.threads}"
        f" threads, seed {a.seed}"
    )
    print(
        f"{'':9}{'robust accuracy':>28}{'seconds':>28}\n{'after':9}{'ours':>14}{'torchattacks':>14}{'ours':>14}{'torchattacks':>14}{'ratio':>8}"  # noqa: E501
    )
    print(f"{'clean':9}{r.accuracy():14.2%}{(fell > 0).double().mean():14.2%}")
    for i, k in enumerate(MEMBERS, 1):
        o, t = s.get(f"{a.precision} {k}", 0.0), s.get(f"theirs {k}", 0.0)
        print(
            f"{k:9}{r.accuracy(f'aa/{k}'):14.2%}{(fell > i).double().mean():14.2%}{o:14.1f}{t:14.1f}{o / max(t, 1e-9):8.2f}"  # noqa: E501
        )
    o, t = (sum(v for k, v in s.items() if k.startswith(who)) for who in (a.precision, "theirs"))
    print(
        f"{'all':9}{r.accuracy('aa'):14.2%}{(fell > 4).double().mean():14.2%}{o:14.1f}{t:14.1f}{o / max(t, 1e-9):8.2f}"  # noqa: E501
    )
    print(f"images with another verdict: {int((r.correct('aa') != (fell > 4)).sum())} of {a.n}")


if __name__ == "__main__":
    main()
