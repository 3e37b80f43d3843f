"Runs of a study: what is missing is done, what was killed goes on"

from __future__ import annotations

import json
import os
import platform
import shutil
import time

import torch

from .. import __version__
from ..core.files import write_aside
from ..core.machine import device_name
from ..core.precision import compiler
from ..core.settings import default_device
from .budget import OutOfTime, alone_in, time_limit
from .finding import find_study
from .job import Job, jobs
from .results import STUDY_SCHEMA
from .rows import runs_of
from .spread import executor_on, side_by_side, spread
from .work import (
    begin,
    commit_now,
    judge_run,
    keep_weights,
    learn,
    load_result,
    trained,
    write_result,
)

__all__ = ["one", "run", "expected"]


class _Clock:
    "Seconds of the phases of a run, kept over kills"

    def __init__(self, folder):
        self.log, self.phase, self.start = folder / "seconds.json", "train", time.monotonic()
        self.seconds = {"train": 0.0, "judge": 0.0}
        if self.log.is_file():
            self.seconds = json.loads(self.log.read_text(encoding="utf-8"))

    def spend(self):
        now = time.monotonic()
        self.seconds[self.phase] += now - self.start
        self.start = now
        with write_aside(self.log) as part:
            part.write_text(json.dumps(self.seconds), encoding="utf-8")


def _network(job, weights, clock):
    """(trained network, history, and as far as they are known chosen step and passes): read where
    it is there, else trained and kept
    """
    history = job.work / "history.json"
    if weights.is_file() and not job.arm.train:
        return load_result(job, weights), *json.loads(history.read_text(encoding="utf-8"))
    model, *told = job.arm.train(job) if job.arm.train else learn(job)
    clock.spend()
    with write_aside(history) as part:
        part.write_text(json.dumps(told), encoding="utf-8")
    if not job.arm.train:
        keep_weights(job, model, weights)
    return model, *told


def _result(job, own, model, told, seen, seconds):
    "What is written of a run"
    # a training of a row's own may tell its history alone
    history, chosen, passes = (*told, None, None)[:3]
    code = {"spat_nb": __version__, "commit": commit_now()}
    if own:
        code["arm"] = own
    return {
        "schema": STUDY_SCHEMA,
        "study": job.study.name,
        "arm": job.arm_name,
        "size": job.size_name,
        "seed": job.seed,
        "config": job.config,
        **job.how,
        "code": code,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "device": device_name(job.device),
        "seconds": {k: round(v, 1) for k, v in seconds.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "passes": passes,
        "chosen_step": chosen,
        "history": history,
        **seen,
    }


def one(
    job: Job,
    device: torch.device,
    budget: float | None = None,  # seconds; OutOfTime where they are spent
    quiet: bool = False,  # no bars and no lines
) -> bool:
    """Train, judge and write one run.

    False where another process is at it, or where it is there already
    """
    job.device, job.quiet = device, quiet
    with alone_in(job.work) as mine:
        if not mine or job.done():
            return False
        begin(job)
        code = job.code  # as it is now: a file may be edited while it runs
        weights = job.work / "weights.safetensors"
        if not weights.is_file():
            trained(job)
        # the graphs of the run before, and the memory that they hold
        if job.compiled:
            torch.compiler.reset()
        clock = _Clock(job.work)
        try:
            with time_limit(budget, job.compiled):
                model, *told = _network(job, weights, clock)
                clock.spend()
                clock.phase = "judge"
                if job.arm.finish:
                    model = job.arm.finish(model, job)
                seen = judge_run(model, job)
        finally:
            clock.spend()
        write_result(job, _result(job, code, model, told, seen, clock.seconds))
        # while nobody else may begin: the kept network is that of the result
        if weights.is_file():
            job.kept.parent.mkdir(parents=True, exist_ok=True)
            os.replace(weights, job.kept)
    shutil.rmtree(job.work, ignore_errors=True)
    return True


def expected(study, size, device):
    "Seconds that a run takes on such a device, by those that are there; None where there are none"
    took = sorted(
        sum(d["seconds"].values())
        for d in runs_of(study, size)
        if d["device"].startswith("cpu") == (device.type == "cpu")
    )
    return took[len(took) // 2] if took else None


def run(
    name,  # a study, its name, or its file: 'mine.py'
    size: str = "laptop",  # one of `SIZES`
    budget: float | None = None,  # seconds; default: until all is done
    device=None,  # default: the reader's setting
    seeds=None,  # default: as many as the size asks for
    arms=None,  # rows; default: all
    whole: bool = False,  # only runs that are expected to fit into what is left of the budget
    quiet: bool = False,  # no bars and no lines
    say=print,  # what is called with each line
    workers: int = 1,  # processes of one thread each, side by side on this machine
    executor=None,  # a concurrent.futures.Executor, or what has `submit` as it has
    on: str | None = None,  # where an executor comes from: 'dask://host:port', 'slurm(...)'
) -> int:  # runs finished
    """Do what is missing, in order, for at most `budget` seconds.

    RuntimeError where a worker fails: what was done is kept, and the same command goes on.
    KeyError for an unknown row, ValueError for an unknown study or size
    """
    study, device = find_study(name), default_device(device)
    end = None if budget is None else time.time() + budget
    todo = jobs(study, size, seeds, arms)
    missing = [j for j in todo if not j.done()]
    if device.type == "cuda" and not compiler(device) and any(j.size.compile for j in missing):
        say(
            "there is no C compiler on the path: the networks run uncompiled, which takes longer;"
            " install gcc to change that."
        )
    if not missing:
        return 0
    if executor is not None or on is not None:
        with executor_on(on, executor) as given:
            return spread(given, missing, device, end, whole, quiet, say)
    if workers > 1 and len(missing) > 1:
        return side_by_side(missing, min(workers, len(missing)), end, device, whole)
    return _in_turn(missing, todo, device, end, whole, quiet, say)


def _in_turn(missing, todo, device, end, whole, quiet, say):
    "One run after the other, in this process"
    done = 0
    for job in missing:
        # another process was faster
        if job.done():
            continue
        left = None if end is None else end - time.time()
        needs = expected(job.study, job.size_name, device) if whole else None
        if left is not None and (left <= 0 or needs and needs > left):
            break
        who = f"{job.study.name}, {job.size_name}: {job.arm_name}, seed {job.seed}"
        if not quiet:
            say(who)
        start = time.monotonic()
        try:
            mine = one(job, device, left, quiet)
        except OutOfTime:
            say("the budget is spent; the same command goes on from here")
            break
        done += mine
        if mine:
            there = sum(j.done() for j in todo)
            took = time.monotonic() - start
            say(f"{who} took {took:.0f} s; {there} of {len(todo)} runs are there")
    return done
