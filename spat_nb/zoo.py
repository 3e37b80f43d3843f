"""Small trained networks that come with the package, each with a card that says where it comes from
and what it withstands
"""

# `load(name)` checks the file against its card before it reads it. `ship` makes both files of a
# network from a study's run:
# weights in float16, and a card (JSON) whose numbers are those of the run; SHELF says which runs
# are on offer.
from __future__ import annotations

import copy
import hashlib
import json
import re
import textwrap
from pathlib import Path

import torch

from .attack import pgd
from .core import default_device, settings
from .evaluate import evaluate, wilson
from .files import write_aside
from .models import load as read
from .models import model_config, save
from .paths import shell
from .study import Job, _counts, _study

WEIGHTS = Path(__file__).parent / "weights"
# bytes of a file; images and share by which float16 may differ
LIMIT, IMAGES, SLACK = 3_000_000, 1000, 0.005

# study, size, arm, seed (where its run is missing: the next one that is there), name:
# data/method/variant, w for the width of the first layer
SHELF = [
    ("baseline", "laptop", "standard", 0, "digits/standard/w16"),
    ("spat", "laptop", "PGD-AT", 0, "digits/pgd_at/w16"),
    ("hypersphere", "laptop", "TRADES", 0, "digits/trades/w16"),
    ("baseline", "laptop", "PGD-AT + AWP", 0, "digits/pgd_at_awp/w16"),
    ("baseline", "laptop", "PGD-AT + EMA", 0, "digits/pgd_at_ema/w16"),
    ("spat", "laptop", "SPAT a=.1", 0, "digits/spat/w16"),
    ("hypersphere", "laptop", "+FN+WN+AM (HE)", 0, "digits/he/w16"),
    # s = 15, m = .2; the hypersphere study has s = 10, m = .1
    ("combine", "laptop", "HE", 0, "digits/he_s15/w16"),
    ("combine", "laptop", "SPAT + HE", 0, "digits/spat_he/w16"),
    ("prototypes", "laptop", "prototypes", 0, "digits/prototypes/w16"),
    ("prototypes", "laptop", "simplex + AT", 0, "digits/simplex_at/w16"),
    ("sparta", "laptop", "Sparta (V2)", 0, "digits/sparta/w16"),
    ("prototypes", "mini", "standard", 0, "cifar10/standard/w8"),
    ("prototypes", "mini", "prototypes", 0, "cifar10/prototypes/w8"),
    *[
        ("combine", size, arm, 0, f"cifar10/{name}/{w}")
        for size, w in (("mini", "w8"), ("small", "w16"))
        for arm, name in (
            ("PGD-AT", "pgd_at"),
            ("SPAT", "spat"),
            ("HE", "he"),
            ("SPAT + HE", "spat_he"),
            ("PGD-AT + AWP + EMA", "pgd_at_awp_ema"),
            ("HE + AWP + EMA", "he_awp_ema"),
        )
    ],
]


def _sha(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# ---- what a user calls


def names() -> list:
    "The networks that are shipped, in the order of the alphabet"
    return sorted(
        p.relative_to(WEIGHTS).with_suffix("").as_posix() for p in WEIGHTS.glob("*/*/*.safetensors")
    )


def _file(name, ending=".safetensors"):
    if name in names():
        return WEIGHTS / f"{name}{ending}"
    raise ValueError(
        f"there is no shipped network {name!r}; there are {', '.join(names()) or 'none yet'}."
    )


def path(name) -> Path:
    """The weights of a network, after a look whether they are those of its card.

    ValueError for an unknown name, or where the file was changed
    """
    file, said = _file(name), card(name)["sha256"]
    if (is_ := _sha(file)) != said:
        raise ValueError(
            f"{file} has the SHA-256 {is_}, but its card says {said}: it was changed or cut short;"
            " install spat_nb again."
        )
    return file


def load(name, device=None):
    """The network `name`, in float32 and eval mode: load('digits/pgd_at/w16').

    ValueError for an unknown name, or where the file was changed
    """
    return read(path(name)).float().to(default_device(device))


class Card(dict):
    "What is known of a shipped network; prints as text"

    # right answers as a share, ends of the Wilson interval, images
    def accuracy(self, attack="clean") -> tuple:
        v = self["accuracy"][attack]
        return v["correct"] / v["n"], *wilson(v["correct"], v["n"]), v["n"]

    def weakest(self, attack="aa") -> tuple:  # name, share of right answers, images
        "The class that is answered worst; the first of equals"
        v = self["accuracy"][attack]
        a, n, k = min(
            (c / n, n, k) for c, n, k in zip(v["class_correct"], v["class_n"], self["classes"]) if n
        )
        return k, a, n

    def __repr__(self):
        def row(k):
            return "{}: {:.1%} [{:.1%}, {:.1%}], n = {}; weakest class {} {:.1%} of {}".format(
                k, *self.accuracy(k), *self.weakest(k)
            )

        s, t, arm = self["source"], self["trained"], self["recipe"]["arm"]
        told = ", ".join(
            f"{k} {v}"
            for k, v in {**arm, **self["recipe"]["size"]}.items()
            if v not in ("None", "{}") and k not in ("extra", "attacks", "trusted", "cost")
        )
        told = re.sub(r"<(?:function|class) '?([\w.]+)'?>", r"\1", told).replace(
            "spat_nb.learner.", ""
        )
        lines = [
            (
                f"{self['name']}: {self['model']['name']}, {self['parameters']:,} parameters,"
                f" {self['bytes'] / 1e3:.0f} kB in float16"
            ),
            (
                f"data {self['data']}, Linf eps {self['eps']:.4g}; row {s['arm']!r} of the study"
                f" {s['study']!r} at size {s['size']!r}, seed {s['seed']}"
            ),
            *map(row, (k for k in self["accuracy"] if "/" not in k)),
            f"in float16, on {self['shipped']['n']} of these images: "
            + ", ".join(
                f"{k} {v['correct'] / v['n']:.1%} (in float32 {v['float32'] / v['n']:.1%})"
                for k, v in self["shipped"]["accuracy"].items()
            ),
            f"trust card, {self['trust']['n']} images:"
            f" {', '.join(self['trust']['flags']) or 'no flags'}"
            + "".join(f"; {k}" for k in self["notes"]),
            f"recipe: {told}; trained in {t['seconds']:.0f} s on {t['device']}, torch {t['torch']}",
            f"from {s['results']}, commit {s['commit']}; SHA-256 {self['sha256']}",
            self["limits"],
        ]
        return "\n".join(textwrap.fill(v, 118, subsequent_indent="  ") for v in lines)


def card(name) -> Card:
    "The card of the network `name`. ValueError for an unknown name"
    return Card(json.loads(_file(name, ".json").read_text(encoding="utf-8")))


def table():  # pandas.DataFrame, a row per network
    "All shipped networks: accuracies in percent, images under AutoAttack, flags of the trust card"
    import pandas as pd

    def row(c):
        def at(k):
            return round(100 * c.accuracy(k)[0], 1) if k in c["accuracy"] else None

        worst = c.weakest("aa") if "aa" in c["accuracy"] else None
        return {
            "clean": at("clean"),
            "pgd20": at("pgd20"),
            "aa": at("aa"),
            "worst class, aa": f"{worst[0]} {100 * worst[1]:.0f}" if worst else "",
            "n, aa": c["accuracy"].get("aa", {}).get("n"),
            "parameters": c["parameters"],
            "kB": round(c["bytes"] / 1e3),
            "flags": ", ".join(c["trust"]["flags"]),
        }

    return pd.DataFrame({n: row(card(n)) for n in names()}).T.rename_axis("network")


# ---- from a run to the shelf


def _run(job):
    """The result and the weights of a run.

    FileNotFoundError where one is missing, ValueError where the study has changed since
    """
    again = (
        "run:"
        f" {shell('spat_nb', 'study', 'run', job.study.name, '--size', job.size_name, '--seeds', job.seed, '--arms', job.arm_name)}"  # noqa: E501
    )
    for p in (job.path, job.kept):
        if not p.is_file():
            raise FileNotFoundError(f"no file {p}; {again}")
    if not job.done():
        raise ValueError(
            f"{job.path} belongs to another configuration than the study has today; {again}"
        )
    return json.loads(job.path.read_text(encoding="utf-8")), job.kept


def _measured(net, job, precision, n, aa):
    """Counts of right answers on at most `n` test images, clean and under PGD-20; with `aa` also
    under the size's strongest attack
    """
    test = job.open().test
    part = (test if n >= test.n else test.subset(n)).with_(
        batch_size=job.size.chunk or job.size.batch
    )
    return _counts(
        evaluate(
            net.to(job.device),
            part,
            precision,
            progress=False,
            pgd20=pgd(job.ball, 20, job.ball.eps / 4),
            **({"aa": job.size.strong(job.ball)} if aa else {}),
        )
    )


def _halved(net, name):
    "A copy of `net` in float16. ValueError where a number is too large for it"
    half = copy.deepcopy(net).half()
    if bad := [k for k, v in half.state_dict().items() if not v.isfinite().all()]:
        raise ValueError(
            f"{name}: {bad[0]} holds numbers that float16 cannot hold; this network cannot be"
            " shipped."
        )
    return half


def _same(name, job, run, net, half, n, aa):
    """What float16 gives beside float32, on the same images.

    ValueError where they differ by more than half a point (or one image), or where the weights are
    not those of the run
    """
    was, now = (
        _measured(v, job, run["precision"], n, aa) for v in (net, copy.deepcopy(half).float())
    )
    said = {
        k: run["attacks"][k]
        for k in was
        if k in run["attacks"] and run["attacks"][k]["n"] == was[k]["n"]
    }
    for what, other in (("float16", now), ("the result", said)):
        for k in other:
            a, b = was[k]["correct"] / was[k]["n"], other[k]["correct"] / other[k]["n"]
            if abs(a - b) > max(SLACK, 1.001 / was[k]["n"]) and k in ("clean", "pgd20", "aa"):
                raise ValueError(
                    f"{name}: {k} accuracy is {a:.2%} in float32, but {what} gives {b:.2%}, on the"
                    f" same {was[k]['n']} images; it is not shipped."
                )
    return {
        k: dict(n=v["n"], correct=v["correct"], float32=was[k]["correct"])
        for k, v in now.items()
        if k in ("clean", "pgd20", "aa")
    }


def ship(study, size, arm, seed, name, aa=False, images=IMAGES, device="cpu") -> Path:
    """Write weights (float16) and card of a run to the shelf as `name`.

    FileNotFoundError where run or weights are missing, ValueError where float16 changes the numbers
    """
    if not re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+){2}", name):
        raise ValueError(
            f"name is {name!r}; write data/method/variant in small letters, digits/pgd_at/w16 say."
        )
    job = Job(_study(study), arm, size, seed, torch.device(device))
    if arm not in job.study.arms:
        raise ValueError(f"{study} has no arm {arm!r}; it has {', '.join(job.study.arms)}.")
    run, weights = _run(job)
    net = read(weights)
    half = _halved(net, name)
    shipped = _same(name, job, run, net, half, images, aa)
    file, eps = WEIGHTS / f"{name}.safetensors", job.size.eps
    save(half, file, data=job.size.data, config=dict(data=job.size.data, eps=eps), zoo=name)
    if (n := file.stat().st_size) > LIMIT:
        file.unlink()
        raise ValueError(f"{name} takes {n:,} bytes; at most {LIMIT:,} are shipped.")
    about = dict(
        name=name,
        sha256=_sha(file),
        bytes=n,
        data=job.size.data,
        eps=eps,
        classes=run["classes"],
        model=model_config(half),
        parameters=run["parameters"],
        accuracy=run["attacks"],
        shipped=dict(dtype="float16", n=shipped["clean"]["n"], accuracy=shipped),
        trust=run["trust"],
        notes=run["notes"],
        recipe=run["config"],
        trained=dict(
            seconds=run["seconds"]["train"],
            device=run["device"],
            torch=run["torch"],
            precision=run["precision"],
            chosen_step=run["chosen_step"],
        ),
        source=dict(
            study=study,
            size=size,
            arm=arm,
            seed=seed,
            results=job.path.relative_to(settings().results.parent).as_posix(),
            results_sha256=_sha(job.path),
            weights_sha256=_sha(weights),
            commit=run["code"]["commit"],
        ),
        limits=(
            "A network for learning and for tests, trained in minutes: one seed, small data or a"
            " narrow network; its numbers say nothing of what a full training gives."
        ),
    )
    with write_aside(file.with_suffix(".json")) as part:
        part.write_text(json.dumps(about, indent=1), encoding="utf-8")
    return file


def _current(study, size, arm, seed, name):
    "Is what lies on the shelf made from just these files?"
    if name not in names():
        return False
    job, c = Job(_study(study), arm, size, seed), card(name)
    return (c["source"]["results_sha256"], c["source"]["weights_sha256"], c["sha256"]) == (
        _sha(job.path),
        _sha(job.kept),
        _sha(_file(name)),
    )


def _there(study, size, arm, seed):
    "`seed`, or the next one whose run is there. As `_run`, for `seed`, where none is"
    first = None
    for s in range(seed, seed + 5):
        try:
            _run(Job(_study(study), arm, size, s))
            return s
        except (FileNotFoundError, ValueError) as e:
            first = first or e
    raise first


def ship_all(again=False, **kw):  # yields (name, what was done) for each row of SHELF
    "Ship every row of SHELF whose run is there and has not been shipped; `again` ships all of them"
    for study, size, arm, seed, name in SHELF:
        try:
            seed = _there(study, size, arm, seed)
            if not again and _current(study, size, arm, seed, name):
                yield name, "shipped before"
                continue
            ship(study, size, arm, seed, name, **kw)
            yield name, f"shipped, seed {seed}"
        except (FileNotFoundError, ValueError) as e:
            yield name, str(e)
