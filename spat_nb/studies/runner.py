"Runs of a study: what is missing is done, what was killed goes on"

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time

import torch

from ..core.files import write_aside
from ..core.precision import compiler
from ..core.settings import default_device
from ..models.saving import save
from .budget import OutOfTime, alone_in, time_limit
from .frames import results
from .study import SCHEMA, find_study, jobs
from .work import begin, commit_now, judge_run, learn, load_result, trained, write_result


def one(job, device, budget=None, quiet=False) -> bool:
    """Train, judge and write one run.

    False where another process is at it, or where it is there already
    """
    import shutil

    import spat_nb

    job.device, job.quiet = device, quiet
    with alone_in(job.work) as mine:
        if not mine or job.done():
            return False
        begin(job)
        if not (job.work / "weights.safetensors").is_file():
            trained(job)
        # the graphs of the run before, and the memory that they hold
        if job.compiled:
            torch.compiler.reset()
        start, log = time.monotonic(), job.work / "seconds.json"
        before = (
            json.loads(log.read_text(encoding="utf-8"))
            if log.is_file()
            else dict(train=0.0, judge=0.0)
        )
        weights, phase = job.work / "weights.safetensors", "train"

        def spend():
            nonlocal start
            before[phase] += time.monotonic() - start
            start = time.monotonic()
            with write_aside(log) as part:
                part.write_text(json.dumps(before), encoding="utf-8")

        try:
            with time_limit(budget, job.compiled):
                if weights.is_file() and not job.arm.train:
                    model, told = (
                        load_result(job, weights),
                        json.loads((job.work / "history.json").read_text(encoding="utf-8")),
                    )
                else:
                    model, *told = job.arm.train(job) if job.arm.train else learn(job)
                    spend()
                    with write_aside(job.work / "history.json") as part:
                        part.write_text(json.dumps(told), encoding="utf-8")
                    if not job.arm.train:
                        save(
                            model,
                            weights,
                            data=job.size.data,
                            arm=job.arm_name,
                            study=job.study.name,
                            seed=job.seed,
                            eps=job.size.eps,
                        )
                spend()
                phase = "judge"
                if job.arm.finish:
                    model = job.arm.finish(model, job)
                seen = judge_run(model, job)
        finally:
            spend()
        history, chosen = (*told, None)[:2]
        d = dict(
            schema=SCHEMA,
            study=job.study.name,
            arm=job.arm_name,
            size=job.size_name,
            seed=job.seed,
            config=job.config,
            **job.how,
            code=dict(
                spat_nb=spat_nb.__version__,
                commit=commit_now(),
                **({"arm": job.code} if job.code else {}),
            ),
            torch=torch.__version__,
            python=platform.python_version(),
            threads=torch.get_num_threads(),
            device=(
                torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else f"cpu, {platform.machine()}"
            ),
            seconds={k: round(v, 1) for k, v in before.items()},
            parameters=sum(p.numel() for p in model.parameters()),
            chosen_step=chosen,
            history=history,
            **seen,
        )
        write_result(job, d)
    if weights.is_file():
        job.kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(weights, job.kept)
    shutil.rmtree(job.work, ignore_errors=True)
    return True


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


# runs finished
def run(
    name,
    size="laptop",
    budget=None,
    device=None,
    seeds=None,
    arms=None,
    whole=False,
    quiet=False,
    say=print,
    workers=1,
) -> int:
    """Do what is missing, in order, for at most `budget` seconds; with `whole`, only runs that are
    expected to fit into what is left; `workers` processes side by side. RuntimeError where one
    of these fails
    """
    study, device, end = (
        find_study(name),
        default_device(device),
        None if budget is None else time.monotonic() + budget,
    )
    todo = jobs(study, size, seeds, arms)
    missing, done = [j for j in todo if not j.done()], 0
    if device.type == "cuda" and not compiler(device) and any(j.size.compile for j in missing):
        say(
            "there is no C compiler on the path: the networks run uncompiled, which takes longer;"
            " install gcc to change that."
        )
    if workers > 1 and len(missing) > 1:
        return _side_by_side(missing, min(workers, len(missing)), budget, device, whole)
    for job in missing:
        # another process was faster
        if job.done():
            continue
        left = None if end is None else end - time.monotonic()
        took = [
            sum(d["seconds"].values())
            for d in results(study.name, size)
            if d["device"].startswith("cpu") == (device.type == "cpu")
        ]
        if left is not None and (
            left <= 0 or whole and took and sorted(took)[len(took) // 2] > left
        ):
            break
        if not quiet:
            say(f"{study.name}, {size}: {job.arm_name}, seed {job.seed}")
        start = time.monotonic()
        try:
            mine = one(job, device, left, quiet)
        except OutOfTime:
            say("the budget is spent; the same command goes on from here")
            break
        done += mine
        if mine:
            say(
                f"{study.name}, {size}: {job.arm_name}, seed {job.seed} took"
                f" {time.monotonic() - start:.0f} s; {sum(j.path.is_file() for j in todo)} of"
                f" {len(todo)} runs are there"
            )
    return done


def _side_by_side(missing, workers, budget, device, whole):
    "The same command in several processes of one thread each: a run's lock says who does it"
    job, listed = missing[0], lambda flag, v: [flag, *map(str, v)]
    command = [
        sys.executable,
        "-m",
        "spat_nb",
        "study",
        "run",
        job.study.name,
        "--size",
        job.size_name,
        "--device",
        str(device),
        "--workers",
        "1",
        "--quiet",
        *listed("--seeds", sorted({j.seed for j in missing})),
        *listed("--arms", dict.fromkeys(j.arm_name for j in missing)),
        *([] if budget is None else ["--budget", f"{budget:.1f}"]),
        *(["--whole"] if whole else []),
    ]
    children = [
        subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1", "SPAT_NB_THREADS": "1"}
        )
        for _ in range(workers)
    ]
    try:
        codes = [c.wait() for c in children]
    finally:
        for c in children:
            c.terminate()
    if any(codes):
        raise RuntimeError(
            f"a worker of {job.study.name} ended with status {max(codes, key=abs)}, see above; what"
            " was done is kept, the same command goes on."
        )
    return sum(j.done() for j in missing)


def _moved(was, now) -> str:
    "What is no longer as it was, of two judgements of one network; '' where all came back"

    def count(v):
        return f"{v['correct']} of {v['n']}"

    rows = [
        f"{k} {count(v)}, now {count(now['attacks'][k])}"
        for k, v in was["attacks"].items()
        if {**now["attacks"][k], **v} != now["attacks"][k]
    ]
    a, b = (", ".join(d["trust"]["flags"]) or "none" for d in (was, now))
    return "; ".join([*rows, *[f"flags of the trust card {a}, now {b}"] * (a != b)])


# networks whose numbers did not come back
def verify(name, size="laptop", seeds=None, arms=None, device=None, quiet=False, say=print) -> int:
    """Judge the kept networks of a study once more; a line for each. Results of before answers were
    kept image by image get them, where all numbers came back. A kill loses nothing
    """
    import shutil

    study, moved = find_study(name), 0
    for job in jobs(study, size, seeds, arms):
        job.device, job.quiet, who = (
            default_device(device),
            quiet,
            f"{study.name}, {size}: {job.arm_name}, seed {job.seed}",
        )
        if not job.done() or not job.kept.is_file():
            say(f"{who}: {'no weights were kept' if job.done() else 'has not been run'}")
            continue
        with alone_in(job.work) as mine:
            if not mine:
                say(f"{who}: another process is at it")
                continue
            begin(job)
            model, was = (
                load_result(job, job.kept),
                json.loads(job.path.read_text(encoding="utf-8")),
            )
            now = judge_run(job.arm.finish(model, job) if job.arm.finish else model, job)
            if told := _moved(was, now):
                moved += 1
            else:
                write_result(job, {**was, "attacks": now["attacks"]})
        shutil.rmtree(job.work, ignore_errors=True)
        say(f"{who}: {told or 'all numbers came back'}")
    return moved
