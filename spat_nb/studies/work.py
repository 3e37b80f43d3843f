"One run of a study, step by step: train, judge, write"

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

from ..attacks.attack import fgsm, pgd
from ..attacks.losses import margin
from ..core.files import write_aside
from ..core.identity import fingerprint
from ..measure.evaluate import evaluate
from ..measure.trust import trust
from ..training.callbacks import Best
from ..training.checkpoint import Checkpoint
from ..training.learner import Callback
from .study import SCHEMA

# ---- a bit for each image


def bits(right):
    "(n,) bool as text: eight images to a byte, in base64"
    import numpy as np

    return base64.b64encode(np.packbits(right.cpu().numpy()).tobytes()).decode()


def write_result(job, d):
    with write_aside(job.path) as part:
        part.write_text(json.dumps(d, separators=(",", ":")), encoding="utf-8")


def commit_now():
    "The commit of the code, with a + where it was changed since; None outside a checkout"

    def git(*a):
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *a],
            capture_output=True,
            text=True,
            timeout=20,
        )

    try:
        head, dirty = (
            git("rev-parse", "--short=12", "HEAD"),
            git("status", "--porcelain", "--untracked-files=no", "--", "spat_nb"),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (
        head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
        if head.returncode == 0
        else None
    )


def learn(job):
    "(network, history, chosen step) of an arm by the house recipe"
    size, arm, data = job.size, job.arm, job.open()
    best = Best(arm.best)
    objective, train = arm.make(job) if arm.make else (arm.objective, data.train)
    more = [
        *([objective] if isinstance(objective, Callback) else ()),
        *(arm.callbacks(job) if arm.callbacks else ()),
    ]
    # an average of weights is looked at instead
    look = [] if any(getattr(c, "look", None) for c in more) else [job.look()]
    calls = [
        *look,
        best,
        *more,
        *job.shown(),
        Checkpoint(job.work / "checkpoint.safetensors", config=job.config),
    ]
    learner = arm.learner(
        job.net(),
        train,
        objective,
        arm.attack(job.ball, size.steps),
        size.epochs,
        size.lr,
        callbacks=calls,
        **job.how,
        seed=job.seed,
    ).fit()
    best.restore(learner.model)
    return learner.model, learner.history, best.step


def counts_of(record):
    """Images and right answers of every class, under every attack; who was taken for whom, and
    which images were right
    """
    out = {}
    for k in record.names:
        t = record.per_class(k)
        out[k] = dict(
            n=int(t.n.sum()),
            correct=int(t.correct.sum()),
            class_n=t.n.tolist(),
            class_correct=t.correct.tolist(),
        )
        if k != "worst" and "/" not in k:
            out[k] |= dict(confusion=record.confusion(k).tolist(), right=bits(record.correct(k)))
    return out


def usual(job):
    "What every run is judged by on all test images; a step is a quarter of the radius"
    b = job.ball
    return dict(
        fgsm=fgsm(b),
        pgd20=pgd(b, 20, b.eps / 4),
        cw20=pgd(b, 20, b.eps / 4, loss=margin),
        **(job.arm.attacks(job) if job.arm.attacks else {}),
    )


def judge_run(model, job):
    "Everything that is counted of a trained network"
    size, data = job.size, job.open()
    data = data._replace(test=data.test.with_(batch_size=size.chunk or size.batch))

    def some(n):
        return data.test.subset(n) if n and n < data.test.n else data.test

    record = evaluate(
        model,
        some(size.tested),
        job.precision,
        progress=not job.quiet,
        resume=job.work / "usual.json",
        **usual(job),
    )
    aa = evaluate(
        model,
        some(size.judged),
        job.precision,
        progress=not job.quiet,
        resume=job.work / "aa.json",
        aa=size.strong(job.ball),
    )
    card = trust(
        model,
        data.test.subset(min(size.trusted, data.test.n)),
        job.ball,
        n=size.trusted,
        cost=size.cost,
        progress=not job.quiet,
    )
    strong = counts_of(aa)
    return dict(
        classes=list(record.classes),
        attacks={**counts_of(record), **{k: v for k, v in strong.items() if k != "clean"}},
        notes=[*record.notes, *aa.notes],
        trust=dict(
            flags=[c.name for c in card.checks if c.verdict == "flag"], n=card.n, cost=size.cost
        ),
        extra=job.arm.extra(model, job, record) if job.arm.extra else {},
    )


def begin(job):
    "Clear away what another configuration or precision left half done"
    mark, mine = (
        job.work / "run.json",
        dict(
            config=job.config,
            precision=job.precision,
            code=fingerprint(job.made("train", ours=True)),
        ),
    )
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == mine:
        return
    for f in job.work.iterdir():
        if f.name != "lock":
            f.unlink()
    with write_aside(mark) as part:
        part.write_text(json.dumps(mine), encoding="utf-8")


def trained(job):
    "Lay ready what was trained, where the result's judge alone was edited"
    try:
        d = json.loads(job.path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if (
        d.get("schema") != SCHEMA
        or d.get("config") != job.config
        or job.edited(d) != {"judge"}
        or job.arm.train
        or not job.kept.is_file()
    ):
        return
    for name, v in {
        "history.json": [d["history"], d["chosen_step"]],
        "seconds.json": dict(train=d["seconds"]["train"], judge=0.0),
    }.items():
        with write_aside(job.work / name) as part:
            part.write_text(json.dumps(v), encoding="utf-8")
    with write_aside(job.work / "weights.safetensors") as part:
        part.write_bytes(job.kept.read_bytes())


def load_result(job, weights):
    "The trained network of a run, on its device"
    from spat_nb.models.saving import load

    return load(weights, **job.arm.slots if {*job.arm.slots} <= {"act", "head"} else {}).to(
        job.device
    )
