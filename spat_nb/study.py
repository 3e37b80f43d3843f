"Studies: grids of runs whose results lie in files that one command wrote and can write again"

# A study is a `Study` of named `Arm`s in `spat_nb/studies/`; an arm says what differs from the
# house recipe, a `Size` says on what and
# for how long. `run` does what is missing and goes on where it was killed; `frame`, `table` and
# `plot` read the files.
from __future__ import annotations

import base64
import contextlib
import importlib
import json
import math
import os
import pkgutil
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from .attack import fgsm, pgd
from .autoattack import autoattack
from .balls import Linf
from .core import compiler, default_device, settings, torch_seed
from .data import get_data
from .evaluate import evaluate, paired, wilson
from .files import write_aside
from .identity import describe, fingerprint, made_of
from .learner import EVERYWHERE, Best, Callback, Checkpoint, Learner, Progress, Validate
from .losses import margin
from .models import PreActResNet18, SmallCNN, save
from .objectives import pgd_at, standard
from .paths import shell, what_is
from .trust import trust

SCHEMA = 1


def digits_net(data, **slots):
    return SmallCNN(data.c, channels=data.shape[0], size=data.shape[1], **slots)


def slim(data, **slots):
    return PreActResNet18(data.c, **{"width": 8, "channels": data.shape[0], **slots})


def narrow(data, **slots):
    return PreActResNet18(data.c, **{"width": 16, "channels": data.shape[0], **slots})


def full(data, **slots):
    return PreActResNet18(data.c, **{"width": 64, "channels": data.shape[0], **slots})


@dataclass(frozen=True)
class Size:
    "On what an arm is run, and for how long: the recipe that all arms of a study share"

    data: str  # data set, as in `get_data`
    net: Callable  # (train batches, **slots) -> network
    eps: float  # radius of the Linf ball
    epochs: int
    lr: float  # highest learning rate of the one-cycle schedule
    batch: int
    seeds: int  # how many runs make an arm complete
    steps: int = 5  # of the training attack
    # held-out images that choose the checkpoint; default: the data set's own
    valid: int = None
    strong: Callable = autoattack  # (ball) -> the strongest attack, called 'aa'
    judged: int = None  # test images under it, balanced over the classes; default: all
    tested: int = None  # test images under all else, likewise
    trusted: int = 64  # images that the trust card looks at
    cost: float = 0.2  # factor of trust's effort
    chunk: int = None  # images that are judged at once; default: `batch`
    # how networks run on a CPU; default: the reader's setting. A GPU runs bfloat16
    precision: str = None
    compile: bool = False  # torch.compile the network, on a GPU


# fields of `Size` that say how a run is done, not which
HOW = ("seeds", "chunk", "precision", "compile")

SIZES = {
    "laptop": Size(
        "digits", digits_net, 0.15, 12, 0.1, 64, 5, judged=180, chunk=256, precision="channels_last"
    ),
    "mini": Size(
        "cifar10", slim, 8 / 255, 4, 0.2, 128, 3, judged=1000, chunk=256, precision="channels_last"
    ),
    "small": Size("cifar10", narrow, 8 / 255, 8, 0.2, 128, 3, judged=1000),
    "paper": Size("cifar10", full, 8 / 255, 30, 0.2, 128, 3, steps=10, judged=1000, compile=True),
}


@dataclass(frozen=True)
class Arm:
    """One row of a study: what differs from PGD-AT by the house recipe.

    Functions are named ones or partials of such: their text is the run's identity
    """

    objective: Callable = pgd_at  # (model, x, y, attack) -> loss ()
    attack: Callable = pgd  # (ball, steps) -> the training attack
    slots: dict = field(default_factory=dict)  # act=, head=, width= of the network
    callbacks: Callable = None  # (job) -> more listeners for the Learner
    # fields of `Size` that this arm changes: lr, epochs, ...; or a function of the Size that gives
    # them
    change: dict = field(default_factory=dict)
    learner: Callable = Learner  # another loop, Free-AT's say
    # (job) -> (objective, training set) instead, where it needs the data; an objective may listen
    # as a Callback
    make: Callable = None
    # (job) -> (model, history): a training of its own instead of all above
    train: Callable = None
    # (model, job) -> the model that is judged: a head fitted on validation images, say
    finish: Callable = None
    attacks: Callable = None  # (job) -> {name: attack}: further attacks of the final judgement
    extra: Callable = None  # (model, job, record) -> JSON values that are kept as 'extra'
    # validation accuracy that chooses the checkpoint: under PGD-10, or 'clean' where nobody trains
    # against attacks
    best: str = "robust"
    note: str = ""  # what a reader should know of the row


@dataclass(frozen=True)
class Study:
    "Named arms and the question that they answer"

    name: str
    question: str
    arms: dict  # name -> Arm
    # size name -> fields of `Size` that the whole study changes
    sizes: dict = field(default_factory=dict)

    def size(self, name, arm) -> Size:
        if name not in SIZES:
            raise ValueError(f"size is {name!r}; it is {', '.join(SIZES)}.")
        size, change = replace(SIZES[name], **self.sizes.get(name, {})), self.arms[arm].change
        return replace(size, **(change(size) if callable(change) else change))


# fields of Arm and of Size that hold code
PHASES = dict(
    train=(("objective", "attack", "slots", "callbacks", "learner", "make", "train"), ("net",)),
    judge=(("finish", "attacks", "extra"), ("strong",)),
)


@dataclass
class Job:
    "One run: an arm at a size with a seed"

    study: Study
    arm_name: str
    size_name: str
    seed: int
    device: torch.device = None
    data: tuple = None  # Data(train, valid, test), once opened
    quiet: bool = False  # no bars and no lines on the way

    @property
    def arm(self):
        return self.study.arms[self.arm_name]

    @property
    def size(self):
        return self.study.size(self.size_name, self.arm_name)

    @property
    def ball(self):
        return Linf(self.size.eps)

    @property
    def stem(self):
        return f"{re.sub('[^A-Za-z0-9.+=-]+', '_', self.arm_name)}-s{self.seed}"

    @property
    def home(self):
        return settings().results / self.study.name / self.size_name

    @property
    def path(self):
        return self.home / f"{self.stem}.json"

    @property
    # of the network that was judged
    def kept(self):
        return self.home / "weights" / f"{self.stem}.safetensors"

    @property
    def work(self):
        return settings().results / ".work" / self.study.name / self.size_name / self.stem

    @property
    def config(self):
        # fields that came after the first results, and what these were made with
        later = [("tested", None), ("best", "robust")]

        def told(o, *but):
            return {
                k: describe(v) for k, v in vars(o).items() if k not in but and (k, v) not in later
            }

        return dict(arm=told(self.arm, "note"), size=told(self.size, *HOW))

    def made(self, phase, ours=False):
        """What this run is trained by, or judged by, as `identity.made_of`; our own functions by
        name, or by what they say
        """
        arm, size = PHASES[phase]
        return made_of(
            [{k: getattr(self.arm, k) for k in arm}, {k: getattr(self.size, k) for k in size}],
            ours=ours,
        )

    @property
    def code(self):
        "phase -> fingerprint of it, where a function or class in it is not ours"
        made = {phase: self.made(phase) for phase in PHASES}
        return {
            phase: fingerprint(p)
            for phase, p in made.items()
            if any(k.startswith(("function ", "class ")) for k in p)
        }

    @property
    def precision(self):
        return (
            "bfloat16"
            if self.device and self.device.type == "cuda"
            else self.size.precision or settings().precision
        )

    @property
    def compiled(self):
        return self.size.compile and self.device.type == "cuda" and bool(compiler(self.device))

    @property
    # how networks run while they are trained
    def how(self):
        return dict(precision=self.precision, compile=self.compiled)

    def open(self):
        if self.data is None:
            self.data = get_data(
                self.size.data,
                device=self.device,
                batch_size=self.size.batch,
                seed=self.seed,
                **({} if self.size.valid is None else {"valid": self.size.valid}),
            )
        return self.data

    def net(self, **slots):
        torch.manual_seed(torch_seed(self.seed))
        return self.size.net(self.open().train, **{**self.arm.slots, **slots}).to(self.device)

    def third(self, epochs):
        """A network with the usual head, trained without attacks, the same for all arms of a seed:
        for transfer
        """
        torch.manual_seed(torch_seed(1000 + self.seed))
        return (
            Learner(
                self.size.net(self.open().train).to(self.device),
                self.open().train,
                standard,
                epochs=max(1, epochs),
                lr=self.size.lr,
                **self.how,
                seed=1000 + self.seed,
            )
            .fit()
            .model.eval()
        )

    def shown(self):
        "What shows the progress of a training"
        return [] if self.quiet else [Progress()]

    def look(self):
        return Validate(self.open().valid, pgd(self.ball, 10))

    def done(self):
        "Is there a result of just this configuration?"
        try:
            d = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return d.get("schema") == SCHEMA and d.get("config") == self.config and not self.edited(d)

    def edited(self, d):
        """The phases whose code was edited since result `d` was written, as far as it says; results
        of before do not
        """
        was = d.get("code", {}).get("arm")
        return {k for k in PHASES if was.get(k) != self.code.get(k)} if was else set()


def jobs(study, size, seeds=None, arms=None) -> list:
    """All runs, seed by seed: after each round every arm has one seed more.

    KeyError for an unknown arm
    """
    if bad := {*(arms or ())} - {*study.arms}:
        raise KeyError(f"{study.name} has no arm {min(bad)!r}; it has {', '.join(study.arms)}.")
    rows = [
        Job(study, a, size, s)
        for a in arms or study.arms
        for s in (range(study.size(size, a).seeds) if seeds is None else seeds)
    ]
    return sorted(rows, key=lambda j: j.seed)


def studies() -> dict:
    "name -> Study, of all modules in `spat_nb.studies`"
    from . import studies as folder

    found = (
        importlib.import_module(f"{folder.__name__}.{m.name}").study
        for m in pkgutil.iter_modules(folder.__path__)
        if m.name[0] != "_"
    )
    return {s.name: s for s in found}


def _study(name):
    if isinstance(name, Study):
        return name
    have = studies()
    if name not in have:
        raise ValueError(f"there is no study {name!r}; there are {', '.join(have)}.")
    return have[name]


# ---- a bit for each image


def _bits(right):
    "(n,) bool as text: eight images to a byte, in base64"
    import numpy as np

    return base64.b64encode(np.packbits(right.cpu().numpy()).tobytes()).decode()


def _unbits(text, n):
    "(n,) bool from what `_bits` wrote. ValueError where that is not n images"
    import numpy as np

    raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(raw) != -(-n // 8):
        raise ValueError(
            f"{len(raw)} bytes hold the answers, not those to {n} images; the file is damaged, run"
            " the study again."
        )
    return torch.from_numpy(np.unpackbits(raw, count=n).astype(bool))


# ---- running


class OutOfTime(BaseException):
    """The budget is spent; what was done lies on disk. No error: nothing that catches errors may
    swallow it
    """


class Deadline(Callback):
    """Stops whatever runs when the time is up: a training between two steps, its checkpoint
    written; all else at the next pass of a network
    """

    def __init__(self, end):
        self.end, self.stepping = end, False

    @property
    def late(self):
        return time.monotonic() >= self.end

    def before_step(self, learner):
        if self.late:
            for c in learner.callbacks:
                if isinstance(c, Checkpoint):
                    c.write(learner)
            raise OutOfTime
        self.stepping = True

    # validation and the like: they may be stopped
    def after_step(self, learner):
        self.stepping = False

    def on_pass(self, module, args):
        if self.late and not self.stepping:
            raise OutOfTime


@contextlib.contextmanager
def _budget(seconds, compiled=False):
    """Let all loops look at the clock, and stop them after so many seconds; None lets them run. A
    `compiled` network bears no hook: there only trainings look
    """
    if seconds is None:
        yield
        return
    clock = Deadline(time.monotonic() + seconds)
    EVERYWHERE.append(clock)
    hook = (
        None
        if compiled
        else torch.nn.modules.module.register_module_forward_pre_hook(clock.on_pass)
    )
    try:
        yield
    finally:
        EVERYWHERE.remove(clock)
        if hook:
            hook.remove()


@contextlib.contextmanager
def _alone(folder):
    "Hold the run's folder; gives False where another process holds it. A kill lets go of it"
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        lock = None
    try:
        yield lock is not None
    finally:
        if lock:
            lock.release()


def _write(job, d):
    with write_aside(job.path) as part:
        part.write_text(json.dumps(d, separators=(",", ":")), encoding="utf-8")


def _commit():
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


def _learn(job):
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


def _counts(record):
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
            out[k] |= dict(confusion=record.confusion(k).tolist(), right=_bits(record.correct(k)))
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


def _judge(model, job):
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
    strong = _counts(aa)
    return dict(
        classes=list(record.classes),
        attacks={**_counts(record), **{k: v for k, v in strong.items() if k != "clean"}},
        notes=[*record.notes, *aa.notes],
        trust=dict(
            flags=[c.name for c in card.checks if c.verdict == "flag"], n=card.n, cost=size.cost
        ),
        extra=job.arm.extra(model, job, record) if job.arm.extra else {},
    )


def _begin(job):
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


def _trained(job):
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


def _load(job, weights):
    "The trained network of a run, on its device"
    from .models import load

    return load(weights, **job.arm.slots if {*job.arm.slots} <= {"act", "head"} else {}).to(
        job.device
    )


def one(job, device, budget=None, quiet=False) -> bool:
    """Train, judge and write one run.

    False where another process is at it, or where it is there already
    """
    import shutil

    import spat_nb

    job.device, job.quiet = device, quiet
    with _alone(job.work) as mine:
        if not mine or job.done():
            return False
        _begin(job)
        if not (job.work / "weights.safetensors").is_file():
            _trained(job)
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
            with _budget(budget, job.compiled):
                if weights.is_file() and not job.arm.train:
                    model, told = (
                        _load(job, weights),
                        json.loads((job.work / "history.json").read_text(encoding="utf-8")),
                    )
                else:
                    model, *told = job.arm.train(job) if job.arm.train else _learn(job)
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
                seen = _judge(model, job)
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
                commit=_commit(),
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
        _write(job, d)
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
        _study(name),
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
        "spat_nb.cli",
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

    study, moved = _study(name), 0
    for job in jobs(study, size, seeds, arms):
        job.device, job.quiet, who = (
            default_device(device),
            quiet,
            f"{study.name}, {size}: {job.arm_name}, seed {job.seed}",
        )
        if not job.done() or not job.kept.is_file():
            say(f"{who}: {'no weights were kept' if job.done() else 'has not been run'}")
            continue
        with _alone(job.work) as mine:
            if not mine:
                say(f"{who}: another process is at it")
                continue
            _begin(job)
            model, was = _load(job, job.kept), json.loads(job.path.read_text(encoding="utf-8"))
            now = _judge(job.arm.finish(model, job) if job.arm.finish else model, job)
            if told := _moved(was, now):
                moved += 1
            else:
                _write(job, {**was, "attacks": now["attacks"]})
        shutil.rmtree(job.work, ignore_errors=True)
        say(f"{who}: {told or 'all numbers came back'}")
    return moved


# pandas.DataFrame: a row per study and size; runs done, runs in all, minutes that they took
def status(name=None):
    "What is done and what is missing"
    import pandas as pd

    rows = []
    for s in [_study(name)] if name else studies().values():
        for size in SIZES:
            all_ = jobs(s, size)
            there = [j for j in all_ if j.done()]
            old = sum(j.path.is_file() for j in all_) - len(there)
            rows.append(
                dict(
                    study=s.name,
                    size=size,
                    done=len(there),
                    of=len(all_),
                    outdated=old,
                    minutes=round(
                        sum(sum(d["seconds"].values()) for d in results(s.name, size)) / 60, 1
                    ),
                )
            )
    return pd.DataFrame(rows).set_index(["study", "size"])


# ---- reading


def results(study, size="laptop") -> list:  # dicts, as written
    "All results of a study at a size. ValueError where a file is damaged"
    out = []
    for p in sorted((settings().results / study / size).glob("*.json")):
        try:
            d = json.loads(p.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(
                f"{p} is {what_is(p)} and no whole result; move it away and run the study again."
            ) from None
        if d.get("schema") != SCHEMA:
            raise ValueError(
                f"{p} has schema {d.get('schema')!r}, this version reads {SCHEMA}; run the study"
                " again."
            )
        out.append(d)
    return out


def whole(study, size="laptop") -> bool:
    "Has every arm at least one result?"
    return {*_study(study).arms} <= {d["arm"] for d in results(study, size)}


def frame(study, size="laptop"):  # pandas.DataFrame, a row per run and attack
    """arm, seed, attack, n, accuracy, lo, hi (Wilson), weakest_class, weakest, flags, seconds,
    parameters. ValueError where there are no results
    """
    import pandas as pd

    rows = []
    for d in results(study, size):
        for k, v in d["attacks"].items():
            if "/" in k:
                continue
            acc = [c / n if n else math.nan for c, n in zip(v["class_correct"], v["class_n"])]
            weak = min((a, c) for a, c in zip(acc, d["classes"]) if a == a)
            lo, hi = wilson(v["correct"], v["n"])
            rows.append(
                dict(
                    arm=d["arm"],
                    seed=d["seed"],
                    attack=k,
                    n=v["n"],
                    accuracy=v["correct"] / v["n"],
                    lo=lo,
                    hi=hi,
                    weakest_class=weak[1],
                    weakest=weak[0],
                    flags=", ".join(d["trust"]["flags"]),
                    seconds=sum(d["seconds"].values()),
                    parameters=d["parameters"],
                    extra=d["extra"],
                )
            )
    if not rows:
        raise ValueError(
            f"there are no results of {study!r} at size {size!r} in {settings().results}; run:"
            f" {shell('spat_nb', 'study', 'run', study, '--size', size)}"
        )
    return pd.DataFrame(rows)


def _mean(v, level=0.95):
    "Mean of the seeds' values and half the width of Student's interval; NaN with one seed"
    from scipy.stats import t

    n, m = len(v), sum(v) / len(v)
    if n < 2:
        return m, math.nan
    sd = math.sqrt(sum((a - m) ** 2 for a in v) / (n - 1))
    return m, t.ppf((1 + level) / 2, n - 1) * sd / math.sqrt(n)


# pandas.DataFrame, a row per arm
def table(study, size="laptop", attacks=("clean", "pgd20", "cw20", "aa"), weakest="cw20"):
    """Percent, mean over seeds ± half of Student's 95% interval (one seed: [Wilson's 95% interval
    over its images]): each attack, the weakest class under the attack `weakest`; seeds, flags of
    the trust cards
    """
    import pandas as pd

    f, order = frame(study, size), list(_study(study).arms)

    def show(g, column="accuracy"):
        m, half = (100 * v for v in _mean(list(g[column])))
        if len(g) == 1:
            return f"{m:.1f}" + (
                f" [{100 * g.lo.item():.1f},\u00a0{100 * g.hi.item():.1f}]"
                if column == "accuracy"
                else ""
            )
        # narrow columns break nowhere in it
        return f"{m:.1f}\u00a0±\u00a0{half:.1f}"

    rows = {}
    for arm in sorted(f.arm.unique(), key=lambda a: order.index(a) if a in order else len(order)):
        g = f[f.arm == arm]
        flags = sorted({k for t in g["flags"] for k in t.split(", ") if k})
        rows[arm] = {
            **{
                k: show(g[g.attack == k]) if (g.attack == k).any() else ""
                for k in attacks
                if (f.attack == k).any()
            },
            f"weakest class, {weakest}": show(g[g.attack == weakest], "weakest"),
            "seeds": g.seed.nunique(),
            "flags": ", ".join(flags),
        }
    return pd.DataFrame(rows).T.rename_axis("arm")


def solved(d, attack="aa"):  # (n,) bool, or None
    "Which images a result's network answers right under an attack; None where that was not kept"
    v = d["attacks"].get(attack, {})
    return _unbits(v["right"], v["n"]) if "right" in v else None


# mean of a-b over the seeds that both have, lowest and highest plausible value, number of seeds
def compare(study, a, b, attack="aa", size="laptop", column="accuracy") -> tuple:
    """Paired difference between two arms; shares. Over seeds Student's 95% interval; of one seed
    the one over its images, where their answers were kept (else NaN): that one holds for these two
    networks, not for two more trainings. ValueError where the arms share no seed"""
    f = frame(study, size)
    va, vb = (f[(f.arm == k) & (f.attack == attack)].set_index("seed")[column] for k in (a, b))
    both = sorted({*va.index} & {*vb.index})
    if not both:
        raise ValueError(
            f"{a!r} and {b!r} share no seed in {study} at size {size!r} under {attack!r}."
        )
    if len(both) == 1 and column == "accuracy":
        ra, rb = (
            solved(d, attack)
            for k in (a, b)
            for d in results(study, size)
            if (d["arm"], d["seed"]) == (k, both[0])
        )
        if ra is not None and rb is not None:
            return (*paired(ra, rb), 1)
    m, half = _mean([va[s] - vb[s] for s in both])
    return m, m - half, m + half, len(both)


def plot(study, size="laptop", attacks=("clean", "pgd20", "aa"), ax=None):
    "Every run a dot, every arm's mean with Student's 95% interval; arms from top to bottom"
    import matplotlib.pyplot as plt

    from .plot import PALETTE, plain

    f, order = frame(study, size), list(_study(study).arms)
    arms = sorted(f.arm.unique(), key=lambda a: order.index(a) if a in order else len(order))
    ax = ax or plt.subplots(figsize=(7, 0.8 + 0.42 * len(arms)), layout="constrained")[1]
    for k, attack in enumerate(attacks):
        first = True
        for i, arm in enumerate(arms):
            v = list(100 * f[(f.arm == arm) & (f.attack == attack)].accuracy)
            if not v:
                continue
            at, (m, half) = i + (k - (len(attacks) - 1) / 2) * 0.22, _mean(v)
            ax.plot(v, [at] * len(v), ".", color=PALETTE[k], alpha=0.35, ms=6)
            ax.errorbar(
                m,
                at,
                xerr=None if math.isnan(half) else half,
                fmt="osD^v"[k % 5],
                color=PALETTE[k],
                ms=5,
                capsize=2,
                lw=1,
                label=plain(attack) if first else None,
            )
            first = False
    ax.set_yticks(range(len(arms)), [plain(a) for a in arms])
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set(
        xlabel=f"accuracy, % of test images ({size}); dots: seeds, bars: 95% intervals of the mean"
    )
    ax.legend(fontsize=8)
    return ax
