"One run of a study, step by step: train, judge, write"

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ..core.files import write_aside
from ..core.identity import fingerprint
from ..measure.battery import STANDARD, named_attacks
from ..measure.evaluate import evaluate
from ..measure.trust import trust
from ..training.building import build_model, listeners, training_parts
from ..training.fit import fit
from ..training.rundir import read_weights, write_weights
from ..training.sameness import identity
from .answers import bits

OF_A_JUDGEMENT = ("usual.json", "aa.json")  # half a judgement, in the folder of a run


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
    "(network, history, chosen step, passes of each image) of a row by its recipe"
    recipe, data = job.recipe, job.open()
    parts = training_parts(recipe, data)
    done = fit(
        build_model(recipe, data.train).to(job.device),
        **parts,
        callbacks=listeners(recipe, data, parts),
        checkpoint=job.work / "checkpoint.safetensors",
        config=job.config["recipe"],
        **job.how,
        seed=job.seed,
        quiet=job.quiet,
    )
    return done.model, done.history, done.step, done.passes


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
    more = job.arm.attacks(job) if job.arm.attacks else {}
    return {**named_attacks(f"{STANDARD}, pgd(steps=20, loss=margin)", job.ball), **more}


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
        aa=job.strong(),
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
    mark = job.work / "run.json"
    mine = {
        "train": [
            job.config["recipe"],
            job.config.get("train"),
            job.precision,
            _said(job, "train"),
        ],
        "judge": [job.config["judge"], _said(job, "judge")],
    }
    was = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}
    if was == mine:
        return
    same = was.get("train") == mine["train"]
    for f in job.work.iterdir():
        if f.name != "lock" and (not same or f.name in OF_A_JUDGEMENT):
            f.unlink()
    with write_aside(mark) as part:
        part.write_text(json.dumps(mine), encoding="utf-8")


def _said(job, phase):
    return fingerprint(job.made(phase, ours=True))


def trained(job):
    "Lay ready what was trained, where the result's judge alone is outdated"
    d = job.result()
    if d is None or job.outdated(d) != {"judge"} or job.arm.train or not job.kept.is_file():
        return
    ready = {
        "history.json": [d["history"], d["chosen_step"], d.get("passes")],
        "seconds.json": {"train": d["seconds"]["train"], "judge": 0.0},
    }
    for name, v in ready.items():
        with write_aside(job.work / name) as part:
            part.write_text(json.dumps(v), encoding="utf-8")
    with write_aside(job.work / "weights.safetensors") as part:
        part.write_bytes(job.kept.read_bytes())


def keep_weights(job, model, path, **more):
    "Write the trained network, with the recipe that it comes from and `more` JSON values"
    recipe = job.recipe.but(precision=job.precision)
    row = {"study": job.study.name, "arm": job.arm_name, "size": job.size_name, "seed": job.seed}
    write_weights(model, path, identity(recipe), job.open().train, **row, **more)


def load_result(job, weights):
    "The trained network of a run, on its device"
    return read_weights(weights, job.recipe).to(job.device)
