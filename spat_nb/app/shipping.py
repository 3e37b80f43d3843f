"How networks get into the zoo"

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import torch

from ..core.files import write_aside
from ..core.paths import shell
from ..core.settings import settings
from ..measure.battery import named_attacks
from ..measure.evaluate import evaluate
from ..models.saving import model_config
from ..studies.finding import find_study
from ..studies.job import Job
from ..studies.work import counts_of, keep_weights, load_result
from .zoo import WEIGHTS, card, file_of, names, sha256_of

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


# ---- from a run to the shelf


def _run(job):
    """The result and the weights of a run.

    FileNotFoundError where one is missing, ValueError where the study has changed since
    """
    again = (
        "run:"
        f" {shell('spat_nb', 'study', 'run', job.study.name, '--scale', job.size_name, '--seeds', job.seed, '--arms', job.arm_name)}"  # noqa: E501
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
    return counts_of(
        evaluate(
            net.to(job.device),
            part,
            precision,
            progress=False,
            **named_attacks("pgd(steps=20)", job.ball),
            **({"aa": job.strong()} if aa else {}),
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
    job = Job(find_study(study), arm, size, seed, torch.device(device))
    if arm not in job.study.arms:
        raise ValueError(f"{study} has no arm {arm!r}; it has {', '.join(job.study.arms)}.")
    run, weights = _run(job)
    net = load_result(job, weights)
    half = _halved(net, name)
    shipped = _same(name, job, run, net, half, images, aa)
    file = WEIGHTS / f"{name}.safetensors"
    keep_weights(job, half, file, zoo=name)
    if (n := file.stat().st_size) > LIMIT:
        file.unlink()
        raise ValueError(f"{name} takes {n:,} bytes; at most {LIMIT:,} are shipped.")
    about = dict(
        name=name,
        sha256=sha256_of(file),
        bytes=n,
        data=job.size.data,
        eps=job.ball.eps,
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
            results_sha256=sha256_of(job.path),
            weights_sha256=sha256_of(weights),
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
    job, c = Job(find_study(study), arm, size, seed), card(name)
    return (c["source"]["results_sha256"], c["source"]["weights_sha256"], c["sha256"]) == (
        sha256_of(job.path),
        sha256_of(job.kept),
        sha256_of(file_of(name)),
    )


def _there(study, size, arm, seed):
    "`seed`, or the next one whose run is there. As `_run`, for `seed`, where none is"
    for s in range(seed, seed + 5):
        try:
            _run(Job(find_study(study), arm, size, s))
        except (FileNotFoundError, ValueError):
            continue
        return s
    _run(Job(find_study(study), arm, size, seed))  # says what is missing
    return seed


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
