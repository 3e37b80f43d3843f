"""Runs of a study on many processes: of this machine, or of any executor

Each run is a task of its own. Its lock says who does it, and its folder keeps what is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import torch

from ..core.grammar import Call, Named, parse
from ..core.settings import settings
from ..core.threads import keep_memory, use_threads

__all__ = ["cores", "executor_on", "spread", "side_by_side", "task", "worker"]

PATIENCE = 20  # seconds until a scheduler counts as away
_ALONE = threading.Lock()  # runs set torch's seed: in one process there is one at a time


def cores() -> int:
    "Cores that this process may use"
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- any executor


def task(
    study,  # its name or file; or the study itself, where it is neither
    size: str,
    arm: str,
    seed: int,
    device: str,
    results: str,  # folder of the results
    end: float | None,  # time.time() at which all must be over
    whole: bool,  # only where it is expected to be over by then
    quiet: bool,
) -> str:  # 'done', 'there' (somebody else did it, or is at it) or 'late'
    "One run, in whatever process it finds itself"
    from .budget import OutOfTime
    from .finding import find_study
    from .job import Job
    from .runner import expected, one

    with _ALONE, _environment(SPAT_NB_RESULTS=results):
        job, left = Job(find_study(study), arm, size, seed), None
        where = torch.device(device)
        if end is not None:
            left = end - time.time()
            needs = expected(job.study, size, where) if whole else None
            if left <= 0 or needs and needs > left:
                return "late"
        try:
            return "done" if one(job, where, left, quiet) else "there"
        except OutOfTime:
            return "late"


@contextlib.contextmanager
def _environment(**values):
    "Environment variables for a while"
    was = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for k, v in was.items():
            if v is None:
                os.environ.pop(k, None)
            else:
                os.environ[k] = v


def _reference(study):
    "What another process finds the study by; the study itself where nothing names it"
    from .finding import NAMES, find_study

    if study.file:
        return study.file
    return study.name if study.name in NAMES and find_study(study.name) is study else study


def spread(
    executor,  # a concurrent.futures.Executor, or what has `submit` as it has
    missing,  # Jobs
    device: torch.device,
    end: float | None,  # time.time() at which all must be over
    whole: bool,
    quiet: bool,
    say,  # what is called with each line
    every: float = 0.2,  # seconds between two looks at the tasks
) -> int:  # runs finished
    "A task for each run. RuntimeError where one fails, once all others are over"
    first = missing[0]
    study, results = _reference(first.study), str(settings().results.absolute())
    waiting = []
    for job in missing:
        named = study, first.size_name, job.arm_name, job.seed
        future = executor.submit(task, *named, str(device), results, end, whole, quiet)
        waiting.append((job, future))
    counts, failed = {"done": 0, "there": 0, "late": 0}, []
    try:
        while waiting:
            over = [pair for pair in waiting if pair[1].done()]
            waiting = [pair for pair in waiting if pair not in over]
            for job, future in over:
                who = f"{job.study.name}, {job.size_name}: {job.arm_name}, seed {job.seed}"
                try:
                    said = future.result()
                except Exception as e:
                    failed.append(f"{who} ({type(e).__name__}: {' '.join(str(e).split())[:300]})")
                    continue
                counts[said] += 1
                if said == "done" and not quiet:
                    say(f"{who} is done; {len(waiting)} runs to go")
            if waiting and not over:
                time.sleep(every)
    finally:  # nobody waits for them any more
        for _, future in waiting:
            future.cancel()
    if counts["late"]:
        say("the budget is spent; the same command goes on from here")
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(missing)} runs failed, first {failed[0]}; what was done is "
            "kept, the same command goes on."
        )
    return counts["done"]


@contextlib.contextmanager
def executor_on(
    on: str | None,  # 'dask://host:port', 'slurm', 'slurm(timeout_min=240, slurm_partition="gpu")'
    executor=None,  # given instead
):  # gives what has `submit`
    "The executor that is asked for. ValueError for another word or a missing package"
    if executor is not None:
        yield executor
    elif on and on.startswith("dask://"):
        with _dask(f"tcp://{on.removeprefix('dask://')}") as client:
            yield client.get_executor(pure=False)
    else:
        yield _slurm(on or "")


def _needs(package, on):
    return ValueError(
        f"{on} needs the package {package}, which is not installed; "
        "run: pip install 'spat_nb[cluster]'."
    )


@contextlib.contextmanager
def _dask(address):
    "A client of a Dask cluster. ValueError where it does not answer"
    try:
        from distributed import Client
    except ImportError:
        raise _needs("distributed", "dask://") from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except OSError as e:
        raise ValueError(
            f"no Dask scheduler answers at {address} ({type(e).__name__}); "
            "start one with: dask scheduler."
        ) from None
    with client:
        yield client


def _slurm(on):
    "submitit's executor, with the parameters that `on` gives"
    node = parse(on)
    node = Call(node, (), {}) if isinstance(node, Named) else node
    if not isinstance(node, Call) or node.what.name != "slurm" or node.args:
        raise ValueError(
            f"on is {on!r}; write dask://host:port, slurm, or slurm(timeout_min=240) with what "
            "submitit takes."
        )
    try:
        import submitit
    except ImportError:
        raise _needs("submitit", "slurm") from None
    given = dict(node.keywords)
    folder = settings().results.absolute() / ".work" / "slurm"
    executor = submitit.AutoExecutor(folder=folder, cluster=given.pop("cluster", "slurm"))
    try:
        executor.update_parameters(**{"timeout_min": 240, "name": "spat_nb", **given})
    except (TypeError, NameError) as e:
        raise ValueError(f"on is {on!r}, and submitit says: {' '.join(str(e).split())}") from None
    return executor


# ---- processes of this machine


def side_by_side(
    missing,  # Jobs
    workers: int,  # processes
    end: float | None,  # time.time() at which all must be over
    device: torch.device,
    whole: bool,
) -> int:  # runs that are done
    """The same runs in several processes of one thread each: a run's lock says who does it.

    ValueError for a study that no other process finds, RuntimeError where a process fails
    """
    job = missing[0]
    study = _reference(job.study)
    if not isinstance(study, str):
        raise ValueError(
            f"the study {job.study.name!r} is known in this process only; write it to a file, "
            "mine.py, and run that: other processes read it."
        )
    told = {
        "name": study,
        "size": job.size_name,
        "budget": None if end is None else end - time.time(),
        "device": str(device),
        "seeds": sorted({j.seed for j in missing}),
        "arms": [*dict.fromkeys(j.arm_name for j in missing)],
        "whole": whole,
    }
    code = "from spat_nb.studies.spread import worker; worker()"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(told)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "SPAT_NB_THREADS": "1"},
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


def worker():
    "What a process of `side_by_side` does: its share of the runs, one after the other"
    from .runner import run

    keep_memory()
    use_threads()
    try:
        run(**json.loads(sys.argv[-1]), quiet=True)
    except (ValueError, KeyError) as e:
        sys.exit(f"spat_nb: {e.args[0] if e.args else e}")
