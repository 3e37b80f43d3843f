"Studies: files, resume, budgets, and what is read from them"

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from spat_nb.attacks.autoattack import autoattack
from spat_nb.studies import answers, budget, finding, job, rows, runner, sizes, study, verify, work
from spat_nb.training import building
from spat_nb.training.objectives import pgd_at, standard

CPU = torch.device("cpu")
TINY = dict(
    epochs=1,
    judged=10,
    trusted=10,
    cost=0.05,
    valid=60,
    strong=partial(autoattack, steps=2, targets=1, queries=5),
    seeds=2,
)
TOY = study.Study(
    "toy",
    "Does it run?",
    {"standard": study.Arm({"objective": "standard"}), "PGD-AT / x": study.Arm({"steps": 2})},
    {"laptop": TINY},
)


def known(monkeypatch, toy):
    "Let all rooms find the study `toy`"
    for room in (rows, runner, verify):
        monkeypatch.setattr(
            room, "find_study", lambda name: toy if name == "toy" else finding.find_study(name)
        )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    known(monkeypatch, TOY)
    return tmp_path / "results"


def go(**kw):
    return runner.run("toy", device="cpu", quiet=True, say=lambda *_: None, **kw)


def test_run_writes_what_is_read(folder):
    assert go() == 4 and go() == 0
    files = sorted(p.name for p in (folder / "toy" / "laptop").glob("*.json"))
    assert files == [
        "PGD-AT_x-s0.json",
        "PGD-AT_x-s1.json",
        "standard-s0.json",
        "standard-s1.json",
    ] and not any((folder / ".work").rglob("*.safetensors"))
    d = json.loads((folder / "toy" / "laptop" / "standard-s1.json").read_text())
    assert (
        d["seed"] == 1
        and d["torch"] == torch.__version__
        and len(d["history"]) == 1
        and d["attacks"]["clean"]["n"] == 360
        and d["attacks"]["aa"]["n"] == 10
    )
    # plain training: each image passes once forward and once back in an epoch
    assert (d["passes"]["forward"], d["passes"]["backward"]) == (1, 1)
    for v in d["attacks"].values():
        assert sum(v["class_n"]) == v["n"] and sum(v["class_correct"]) == v["correct"] <= v["n"]
        if "confusion" in v:
            assert [sum(r) for r in v["confusion"]] == v["class_n"] and [
                r[i] for i, r in enumerate(v["confusion"])
            ] == v["class_correct"]
    f = rows.results_of("toy").frame()
    assert rows.whole("toy")
    assert len(f) == 4 * 6 and set(f.attack) == {"clean", "fgsm", "pgd20", "cw20", "aa", "worst"}
    t = rows.results_of("toy").table()
    assert (
        list(t.index) == ["standard", "PGD-AT / x"]
        and list(t.seeds) == [2, 2]
        and all("±" in v for v in t.clean)
    )
    m, lo, hi, n = rows.results_of("toy").compare("standard", "PGD-AT / x", "clean")
    v = {(r.arm, r.seed): r.accuracy for r in f[f.attack == "clean"].itertuples()}
    assert (
        n == 2
        and lo <= m <= hi
        and m == pytest.approx(sum(v["standard", s] - v["PGD-AT / x", s] for s in (0, 1)) / 2)
    )
    s = rows.status("toy")
    assert (
        tuple(s.loc[("toy", "laptop")][["done", "of", "further", "outdated"]]) == (4, 4, 0, 0)
        and s.loc[("toy", "small")].done == 0
    )
    import matplotlib

    matplotlib.use("agg")
    assert len(rows.results_of("toy").plot().get_yticks()) == 2


def test_weights_are_kept_and_give_the_counts(folder):
    from spat_nb.measure.evaluate import evaluate
    from spat_nb.models.saving import load

    go(seeds=[0], arms=["standard"])
    assert not rows.whole("toy")
    # one seed: the interval is over images
    r = rows.results_of("toy").frame().set_index("attack").loc["clean"]
    assert (
        rows.results_of("toy").table().clean["standard"]
        == f"{100 * r.accuracy:.1f} [{100 * r.lo:.1f},\u00a0{100 * r.hi:.1f}]"
        and r.hi - r.lo > 0.01
    )
    d = rows.runs_of("toy")[0]
    r = evaluate(
        load(folder / "toy" / "laptop" / "weights" / "standard-s0.safetensors"),
        job.Job(TOY, "standard", "laptop", 0, CPU).open().test,
        "float32",
        progress=False,
    )
    assert int(r.correct().sum()) == d["attacks"]["clean"]["correct"]


def test_fewer_images_where_attacks_are_many(folder, monkeypatch):
    """`tested` images under the usual attacks, `judged` under the strongest; a size without it has
    the configuration that it had before
    """
    some = study.Study(
        "toy", "?", {"standard": study.Arm({"objective": "standard", "tested": 40})}, TOY.sizes
    )
    assert (
        job.Job(some, "standard", "laptop", 0).config["judge"]["tested"] == 40
        and "tested" not in job.Job(TOY, "standard", "laptop", 0).config["judge"]
    )
    known(monkeypatch, some)
    go(seeds=[0])
    n = {k: v["n"] for k, v in rows.runs_of("toy")[0]["attacks"].items()}
    assert n["clean"] == n["cw20"] == 40 and n["aa"] == 10


def test_the_checkpoint_is_chosen_by_what_the_arm_says(folder, monkeypatch):
    """The first look with the highest value; and the field that came later leaves the configuration
    of all other arms as it was
    """
    arms = {
        k: study.Arm({"objective": "standard", "best": k, "epochs": 4, "lr": 0.3})
        for k in ("clean", "robust")
    }
    known(monkeypatch, study.Study("toy", "", arms, {"laptop": TINY}))
    runner.run("toy", device="cpu", quiet=True, say=lambda *_: None, seeds=[0])
    for k in arms:
        d = json.loads((folder / "toy" / "laptop" / f"{k}-s0.json").read_text())
        looks = [r for r in d["history"] if k in r]
        assert (
            len(looks) == 4
            and d["chosen_step"] == max(looks, key=lambda r: r[k])["step"]
            and d["config"]["recipe"]["best"] == k
        )
    assert (
        len(
            {
                json.loads(p.read_text())["chosen_step"]
                for p in (folder / "toy" / "laptop").glob("*.json")
            }
        )
        == 2
    )


def test_a_changed_arm_is_run_again(folder, monkeypatch):
    go(seeds=[0], arms=["standard"])
    changed = study.Study(
        "toy",
        "?",
        {**TOY.arms, "standard": study.Arm({"objective": "standard", "lr": 0.05})},
        TOY.sizes,
    )
    known(monkeypatch, changed)
    assert (
        rows.status("toy").loc[("toy", "laptop")].outdated == 1
        and go(seeds=[0], arms=["standard"]) == 1
    )
    assert rows.status("toy").loc[("toy", "laptop")].outdated == 0


def test_a_budget_loses_nothing(folder):
    whole = study.Study("toy", "?", TOY.arms, {"laptop": {**TINY, "epochs": 6}})

    def run():
        return job.Job(whole, "PGD-AT / x", "laptop", 0)

    rounds = 0
    # a little longer each time: some time it is enough, wherever the clock rings
    while True:
        try:
            runner.one(run(), CPU, budget=0.4 + 0.3 * rounds, quiet=True)
            break
        except budget.OutOfTime:
            rounds += 1
            assert not run().path.exists() and rounds < 40
    assert rounds >= 2
    first = json.loads(run().path.read_text())
    os.remove(run().path)
    assert runner.one(run(), CPU, quiet=True)
    again = json.loads(run().path.read_text())
    assert (
        again["history"] == first["history"]
        and again["attacks"] == first["attacks"]
        and again["trust"] == first["trust"]
    )


def test_what_another_precision_left_is_cleared_away(folder, monkeypatch):
    def run():
        return job.Job(TOY, "PGD-AT / x", "laptop", 0)

    def stop(*a):
        raise budget.OutOfTime

    with monkeypatch.context() as m:
        m.setattr(runner, "judge_run", stop)
        with pytest.raises(budget.OutOfTime):
            runner.one(run(), CPU, quiet=True)
    assert (run().work / "weights.safetensors").is_file()
    monkeypatch.setitem(sizes.SIZES, "laptop", replace(sizes.SIZES["laptop"], precision="float32"))
    assert (
        runner.one(run(), CPU, quiet=True)
        and json.loads(run().path.read_text())["precision"] == "float32"
    )


def test_two_runners_do_not_meet(folder):
    run = job.Job(TOY, "standard", "laptop", 0)
    with budget.alone_in(run.work) as mine:
        assert mine and not runner.one(job.Job(TOY, "standard", "laptop", 0), CPU, quiet=True)
    assert runner.one(run, CPU, quiet=True) and run.done()


@pytest.mark.slow
def test_ten_kills_leave_no_broken_file(folder, tmp_path):
    code = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_study as T; from spat_nb.studies import runner, study
        runner.find_study = lambda name: study.Study('toy', '?', T.TOY.arms, {{'laptop': {{**T.TINY, 'epochs': 8, 'seeds': 1}}}})
        print('ready', flush=True)
        runner.run('toy', device='cpu', quiet=True)""")  # noqa: E501
    import random

    from spat_nb.core.files import load_tree

    dice, far = random.Random(0), []

    def reached():
        "Runs done, and the epoch of the run in work (9: it is trained and being judged)"
        done = [json.loads(f.read_text()) for f in (folder / "toy").rglob("*.json")]
        epochs = [
            9 if (f.parent / "weights.safetensors").exists() else load_tree(f)["epoch"]
            for f in (folder / ".work").rglob("checkpoint.safetensors")
        ]
        return len(done), max(epochs, default=0)

    for _k in range(10):
        p = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        p.stdout.readline()
        time.sleep(dice.uniform(0.2, 2))
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stdout.close()
        far.append(reached())
    # a kill costs what was done since the last epoch's end, never more
    assert far == sorted(far)
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert len(list((folder / "toy" / "laptop").glob("*.json"))) == 2


@pytest.mark.parametrize(
    "call,word",
    [
        (lambda: runner.run("nothing"), "no study 'nothing'"),
        (lambda: runner.run("baseline", "huge"), "size is 'huge'"),
        (lambda: runner.run("baseline", arms=["x"]), "no arm 'x'"),
        (lambda: rows.results_of("baseline", "paper"), "spat_nb study run baseline --scale paper"),
    ],
)
def test_bad_calls(call, word, tmp_path, monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    with pytest.raises((ValueError, KeyError), match=word):
        call()


def test_damaged_files_are_named(folder):
    go(seeds=[0], arms=["standard"])
    path = folder / "toy" / "laptop" / "standard-s0.json"
    for text in (path.read_text()[:-9], '{"schema": 99}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="standard-s0.json"):
            rows.runs_of("toy")
    assert not job.Job(TOY, "standard", "laptop", 0).done()


@pytest.mark.parametrize(
    "odd,says",
    [
        ({"seed": "0"}, "no whole result \\('seed'\\)"),
        ({"config": None}, "no whole result \\('config'\\)"),
        ({"attacks": {"aa": {"n": 0, "correct": 0}}}, "no whole result \\('attacks'\\)"),
        ({"attacks": {"aa": None}}, "no whole result \\('attacks'\\)"),
        ({"seed": 1}, "'standard' with seed 1, whose place is standard-s1.json; move it away"),
        ({"arm": "PGD-AT / x"}, "whose place is PGD-AT_x-s0.json"),
        ({"study": "other"}, "a run of the study 'other' at size 'laptop'; move it away"),
        ({"size": "small"}, "of the study 'toy' at size 'small'; move it away"),
    ],
)
def test_a_run_in_the_place_of_another_is_none(odd, says, folder):
    go(seeds=[0], arms=["standard"])
    path = folder / "toy" / "laptop" / "standard-s0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **odd}))
    with pytest.raises(ValueError, match=says):
        rows.runs_of("toy")
    with pytest.raises(ValueError, match="size is 'lptop'; it is laptop"):
        rows.runs_of("toy", "lptop")


def test_a_study_that_does_not_fit_together_is_refused():
    arm = study.Arm()
    claim = SimpleNamespace(study="mine", arms=("a", "gone"))
    for given, says in (
        (("../up", "?", {"a": arm}), "its name is a word"),
        (("", "?", {"a": arm}), "its name is a word"),
        (("mine", "?", {}), "mine has no rows"),
        (("mine", "?", {"a": {}}), r"mine, 'a' is \{\}; a row is Arm"),
        (("mine", "?", {"a b": arm, "a/b": arm}), "'a b' and 'a/b', whose results .* one file"),
        (("mine", "?", {"a": arm}, {"lptop": {}}), "size 'lptop'; it is laptop"),
        (("mine", "?", {"a": arm}, {}, claim), "give a tuple"),
        (("mine", "?", {"a": arm}, {}, ("a beats b",)), "a claim is a `Claim`"),
        (("mine", "?", {"a": arm}, {}, (claim,)), "something of 'gone'; its rows are a"),
    ):
        with pytest.raises(ValueError, match=says):
            study.Study(*given)


def test_every_study_says_what_it_is():
    found = finding.studies()
    assert "baseline" in found
    for name, s in found.items():
        assert s.name == name and s.question.endswith("?") and s.arms
        for a in s.arms:
            text = json.dumps(job.Job(s, a, "laptop", 0).config)
            assert "<lambda>" not in text and " at 0x" not in text, (name, a)


def few(name, **kw):
    "Thirty-two digits to train on; for MNIST the same ones, as large as MNIST's"
    from spat_nb.data.sources import get_data

    d = get_data("digits", device="cpu", batch_size=16, seed=kw.get("seed", 0))
    d = d._replace(train=d.train.subset(32))
    return (
        d._replace(valid=d.valid.subset(20), test=d.test.subset(20))
        if name == "digits"
        else d._replace(
            **{k: b.with_(x=torch.nn.functional.pad(b.x, [10] * 4)) for k, b in d._asdict().items()}
        )
    )


@pytest.mark.parametrize("name", finding.studies())
def test_every_arm_takes_its_first_steps(name, folder, monkeypatch, capsys):
    "A part of one arm that does not fit another shows here, not after hours of the study"
    import importlib

    module = importlib.import_module(f"spat_nb.studies.{name}")
    monkeypatch.setattr(building, "get_data", few)
    for arm in finding.studies()[name].arms:
        one = job.Job(
            replace(module.study, sizes={"laptop": dict(epochs=1, steps=2)}),
            arm,
            "laptop",
            0,
            CPU,
            quiet=True,
        )
        one.work.mkdir(parents=True)
        net, history = (one.arm.train(one) if one.arm.train else work.learn(one))[:2]
        assert (
            history
            and all(math.isfinite(row["loss"]) for row in history)
            and all(p.isfinite().all() for p in net.parameters())
        ), arm
    # nor does it speak when it is told to be quiet
    assert not capsys.readouterr().out


@pytest.mark.slow
def test_a_committed_row_comes_out_again(tmp_path, monkeypatch):
    "A run of the same seed lies within the 95% intervals of the committed one, under every attack"
    from spat_nb.core.settings import settings
    from spat_nb.measure.intervals import wilson

    def run():
        return job.Job(finding.studies()["baseline"], "standard", "laptop", 0, CPU)

    there = json.loads(
        (settings().results / "baseline" / "laptop" / "standard-s0.json").read_text()
    )
    assert there["config"] == run().config
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert runner.one(run(), CPU, quiet=True)
    new = json.loads(run().path.read_text())
    for k in ("clean", "fgsm", "pgd20", "cw20", "aa"):
        lo, hi = wilson(there["attacks"][k]["correct"], there["attacks"][k]["n"])
        assert (
            new["attacks"][k]["n"] == there["attacks"][k]["n"]
            and lo <= new["attacks"][k]["correct"] / new["attacks"][k]["n"] <= hi
        ), k


def test_answers_come_back_image_by_image():
    torch.manual_seed(0)
    for n in (1, 7, 8, 9, 180):
        right = torch.rand(n) < 0.4
        assert torch.equal(answers.unpacked(answers.bits(right), n), right)
    with pytest.raises(ValueError, match="1 bytes hold the answers, not those to 9 images"):
        answers.unpacked(answers.bits(torch.ones(8, dtype=bool)), 9)


def test_verify_gives_the_numbers_again_and_says_where_it_does_not(folder, capsys):
    go(seeds=[0])
    path, lines = folder / "toy" / "laptop" / "standard-s0.json", []
    whole = json.loads(path.read_text())
    old = json.loads(path.read_text())
    for v in old["attacks"].values():
        v.pop("right", None)
    # as results were before answers were kept
    path.write_text(json.dumps(old))

    def look():
        return verify.verify(
            "toy", device="cpu", seeds=[0], arms=["standard"], quiet=True, say=lines.append
        )

    assert (
        look() == 0
        and json.loads(path.read_text()) == whole
        and "came back" in lines[-1]
        and not list((folder / ".work").rglob("*.json"))
    )
    old["attacks"]["clean"]["correct"] -= 1
    text = json.dumps(old)
    path.write_text(text)
    n = whole["attacks"]["clean"]["correct"]
    # a result that does not come back stays as it is
    assert (
        look() == 1
        and path.read_text() == text
        and f"clean {n - 1} of 360, now {n} of 360" in lines[-1]
    )
    (folder / "toy" / "laptop" / "weights" / "standard-s0.safetensors").unlink()
    assert (
        look() == 0
        and "no weights" in lines[-1]
        and verify.verify("toy", seeds=[1], quiet=True, say=lines.append) == 0
        and "not been run" in lines[-1]
    )


def test_one_seed_is_compared_image_by_image(folder):
    from spat_nb.measure.versus import paired

    go(seeds=[0])
    a, b = (next(d for d in rows.runs_of("toy") if d["arm"] == k) for k in TOY.arms)
    assert (
        answers.solved(a, "worst") is None
        and int(answers.solved(a, "cw20").sum()) == a["attacks"]["cw20"]["correct"]
    )
    assert rows.results_of("toy").compare(*TOY.arms, "cw20") == (
        *paired(answers.solved(a, "cw20"), answers.solved(b, "cw20")),
        1,
    )
    # of one seed's weakest class there is no such interval
    assert math.isnan(rows.results_of("toy").compare(*TOY.arms, "cw20", column="weakest")[1])


# ---- a machine that is not Unix

WINDOWS = """
import sys
import platformdirs  # on Windows it takes another module; the one of Unix wants getuid at once
for name in ('fcntl', 'resource', 'pty', 'termios'): sys.modules[name] = None
import os, signal
for home, names in ((signal, ('SIGALRM', 'SIGKILL', 'alarm', 'setitimer', 'ITIMER_REAL')), (os, ('sched_getaffinity', 'geteuid', 'getuid', 'killpg'))):
    for name in names:
        if hasattr(home, name): delattr(home, name)
"""  # noqa: E501


def windows(code, folder, **kw):
    code = (
        WINDOWS + f"sys.path.insert(0, {os.path.dirname(__file__)!r})\nimport test_study as T; from"
        " spat_nb.studies import runner\nrunner.find_study = lambda name: T.TOY\n"
        + textwrap.dedent(code)
    )
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **kw,
    )


def test_a_study_runs_where_there_is_no_unix(folder):
    """No fcntl, no SIGALRM: a run that is killed goes on, a budget stops it, and the numbers are
    those of a run that nobody disturbed
    """
    run = (
        "print('ready', flush=True); print('runs', runner.run('toy', device='cpu', quiet=True,"
        " say=print, seeds=[0], arms=['PGD-AT / x'], budget=%r))"
    )
    p = windows(run % None, folder)
    assert p.stdout.readline() == "ready\n"
    end = time.monotonic() + 60
    while not list((folder / ".work").rglob("run.json")) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    p.kill()
    p.communicate()
    assert list((folder / ".work").rglob("run.json")) and not list(
        (folder / "toy").rglob("*.json")
    ), "the run was over before it could be killed"
    text = windows(run % 0.3, folder).communicate(timeout=120)[0]
    assert "the budget is spent" in text and "runs 0" in text, text
    text = windows(run % None, folder).communicate(timeout=300)[0]
    assert "runs 1" in text, text
    there = json.loads((folder / "toy" / "laptop" / "PGD-AT_x-s0.json").read_text())
    (folder / "toy" / "laptop" / "PGD-AT_x-s0.json").unlink()
    go(seeds=[0], arms=["PGD-AT / x"])
    here = json.loads((folder / "toy" / "laptop" / "PGD-AT_x-s0.json").read_text())
    assert (
        here["history"] == there["history"]
        and here["attacks"] == there["attacks"]
        and here["trust"] == there["trust"]
    )


def test_progress_is_kept_where_there_is_no_unix(tmp_path):
    code = (
        WINDOWS + "from spat_nb.learn.kept import keep_attempt\nfor k in range(20):"
        " keep_attempt(f'{sys.argv[1]} {k}', True)"
    )
    env = {**os.environ, "SPAT_NB_PROGRESS": str(tmp_path / "progress.json")}
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, who],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for who in "ab"
    ]
    texts = [p.communicate(timeout=120)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0], texts
    assert len(json.loads((tmp_path / "progress.json").read_text())) == 40 and [
        p.name for p in tmp_path.iterdir()
    ] == ["progress.json"]


def test_nothing_asks_for_unix():
    from pathlib import Path

    for f in Path(study.__file__).parents[1].rglob("*.py"):
        text = f.read_text(encoding="utf-8")
        for word in (
            "import fcntl",
            "SIGALRM",
            "SIGKILL",
            "setitimer",
            "import resource",
            "import pty",
            "/dev/null",
            "os.fork(",
        ):
            assert word not in text, (f.name, word)


class Slow(torch.nn.Module):
    "A network that takes its time"

    def __init__(self):
        super().__init__()
        self.passes = 0
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def forward(self, x):
        self.passes += 1
        return self.net(x)


@pytest.mark.parametrize("what", ["train", "validate", "evaluate", "trust", "an arm's own loop"])
def test_a_budget_stops_whatever_runs(what, folder, monkeypatch):
    """Within a training step, on a clock that a pass moves by a second. The clock and its hook are
    gone afterwards, and a training has written its checkpoint
    """
    from spat_nb.attacks.attack import pgd
    from spat_nb.attacks.balls import Linf
    from spat_nb.data.sources import get_data
    from spat_nb.measure.evaluate import evaluate
    from spat_nb.measure.trust import trust
    from spat_nb.training.callbacks import Validate
    from spat_nb.training.checkpoint import Checkpoint
    from spat_nb.training.events import EVERYWHERE
    from spat_nb.training.learner import Learner

    data, net, attack, path = (
        get_data("digits", device="cpu", batch_size=8),
        Slow(),
        pgd(Linf(0.1), 10),
        folder / "c.safetensors",
    )
    calls = [Validate(data.valid, attack, 0.01)] * (what == "validate") + [
        Checkpoint(path, every=1e9)
    ]

    def own():
        while True:
            net(data.test.tensors()[0][:1])

    do = dict(
        train=lambda: Learner(net, data.train, pgd_at, attack, epochs=9, callbacks=calls).fit(),
        validate=lambda: Learner(net, data.train, standard, epochs=9, callbacks=calls).fit(),
        evaluate=lambda: evaluate(net, data.test, progress=False, a=attack),
        trust=lambda: trust(net, data.test, Linf(0.1), progress=False),
    ).get(what, own)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: net.passes))
    with pytest.raises(budget.OutOfTime):
        with budget.time_limit(35):
            do()
    # a step of training may end: ten steps of PGD, and the one that is learned from
    assert 35 <= net.passes <= 35 + 11
    assert not EVERYWHERE and not torch.nn.modules.module._global_forward_pre_hooks
    if what == "train":
        from spat_nb.core.files import load_tree

        assert load_tree(path)["batch"] > 0
    net(data.test.tensors()[0][:1])  # no clock stops it any more


def test_no_budget_is_no_clock():
    from spat_nb.training.events import EVERYWHERE

    with budget.time_limit(None):
        assert not EVERYWHERE and not torch.nn.modules.module._global_forward_pre_hooks
