"""Runs of a study on other processes: any executor, Dask, submitit, and a user's own file in two
workers; nothing lost, no run done twice
"""

import collections
import concurrent.futures
import json
import os
import signal
import threading
import time

import pytest

from spat_nb.studies import finding, rows, runner, spread, verify

FILE = """
import json, os
from pathlib import Path
from spat_nb.attacks.losses import ce
from spat_nb.studies.study import Arm, Study

def squeezed(model, x, y, attack):
    "Of images with half the contrast"
    return ce(model(0.25 + 0.5 * attack(model, x, y)), y).mean()

def noted(model, job, record):
    "One line for each run that is judged"
    with open(Path(__file__).parent / "judged.txt", "a") as f:
        f.write(f"{{job.stem}} {{os.getpid()}}\\n")
    return {{}}

study = Study(
    "mine",
    "Does squeezing help?",
    {{"PGD-AT": Arm(extra=noted), "squeezed": Arm({{"objective": squeezed}}, extra=noted)}},
    {{"laptop": dict(epochs={epochs}, judged=5, tested=40, trusted=4, cost=0.02, valid=60, seeds=2,
                     strong="autoattack(steps=2, targets=1, queries=5)")}},
)
"""
ALL = ["PGD-AT-s0", "PGD-AT-s1", "squeezed-s0", "squeezed-s1"]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    "A user's study file; from another folder than its own"
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    (home / "mine.py").write_text(FILE.format(epochs=1))
    return home / "mine.py"


def whole(mine):
    "Every run is there, whole, and was judged once"
    judged = [line.split()[0] for line in (mine.parent / "judged.txt").read_text().splitlines()]
    assert collections.Counter(judged) == dict.fromkeys(ALL, 1), judged
    folder = mine.parent.parent / "results" / "mine" / "laptop"
    assert sorted(p.stem for p in folder.glob("*.json")) == ALL
    assert sorted(p.stem for p in (folder / "weights").iterdir()) == ALL
    assert all(json.loads(p.read_text())["seed"] == int(p.stem[-1]) for p in folder.glob("*.json"))
    assert rows.status(mine).done.sum() == 4 and rows.whole(mine)


def run(mine, **kw):
    return runner.run(str(mine), device="cpu", quiet=True, say=lambda *_: None, **kw)


def test_a_file_of_ones_own_in_two_workers(mine):
    "Run, then listed, judged again, shown as a table and a figure"
    assert run(mine, workers=2) == 4 and run(mine, workers=2) == 0
    whole(mine)
    table = rows.results_of(mine).table()
    assert [*table.index] == ["PGD-AT", "squeezed"] and [*table.seeds] == [2, 2]
    assert len(rows.results_of(mine).plot().get_yticks()) == 2
    said = []
    assert verify.verify(mine, device="cpu", arms=["squeezed"], quiet=True, say=said.append) == 0
    assert len(said) == 2 and all("all numbers came back" in v for v in said)
    with pytest.raises(ValueError, match=f"study run {mine} --scale mini"):
        rows.results_of(mine, "mini")


def test_any_executor(mine):
    "Of threads too: runs set torch's seed, so one process does one at a time"
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert run(mine, executor=pool) == 4
        whole(mine)
        assert run(mine, executor=pool) == 0


def test_a_budget_is_for_all_of_an_executor(mine):
    said = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        told = dict(device="cpu", quiet=True, say=said.append, executor=pool)
        assert runner.run(str(mine), budget=0.05, **told) == 0
    assert "budget is spent" in said[-1]
    assert run(mine) == 4
    whole(mine)


def test_a_run_that_fails_is_named_and_the_others_are_done(mine):
    text = mine.read_text().replace(
        "return ce(model(0.25", "raise OSError('no disk')\n    return ("
    )
    mine.write_text(text.replace("y)), y).mean()", "y)), y"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match="2 of 4 runs failed, first mine, laptop: squeezed"):
            run(mine, executor=pool)
    assert sum(j.done() for j in runner.jobs(finding.find_study(mine), "laptop")) == 2


@pytest.mark.slow
def test_dask_with_a_worker_that_is_killed(mine, tmp_path):
    "A run that was begun there goes on from its checkpoint on the other"
    from distributed import Client, LocalCluster

    mine.write_text(FILE.format(epochs=8))
    told = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with LocalCluster(**told, local_directory=str(tmp_path / "dask")) as cluster:
        with Client(cluster) as client:
            pids = client.run(os.getpid)
        assert len({*pids.values()}) == 2
        where, found = cluster.scheduler_address.removeprefix("tcp://"), []
        thread = threading.Thread(
            target=lambda: found.append(run(mine, on=f"dask://{where}")), daemon=True
        )
        thread.start()
        work, end = tmp_path / "results" / ".work", time.monotonic() + 120
        while len([*work.rglob("run.json")]) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)  # both are in the middle of their trainings
        assert not [*(tmp_path / "results" / "mine").rglob("*.json")], "too fast to be killed"
        os.kill([*pids.values()][0], signal.SIGKILL)
        thread.join(300)
        assert found == [4]
    whole(mine)


def test_submitit(mine):
    "Its local executor: what it does with Slurm, with processes of this machine"
    told = "slurm(cluster='local', timeout_min=10)"
    assert run(mine, on=told, seeds=[0]) == 2
    assert run(mine, on=told, seeds=[0]) == 0
    assert run(mine, on=told) == 2
    whole(mine)


@pytest.mark.parametrize(
    "on,says",
    [
        ("slurm(", "is no spec"),
        ("cloud", "write dask://host:port, slurm"),
        ("slurm(cluster='local', colour=3)", "submitit says: .*colour"),
        ("dask://127.0.0.1:9", "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_other_words_for_an_executor(on, says, mine, monkeypatch):
    monkeypatch.setattr(spread, "PATIENCE", 1)
    with pytest.raises(ValueError, match=says):
        run(mine, on=on)


@pytest.mark.parametrize("on,package", [("dask://h:1", "distributed"), ("slurm", "submitit")])
def test_a_package_that_is_missing(on, package, mine, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ValueError, match=rf"{package}.*pip install 'spat_nb\[cluster\]'"):
        run(mine, on=on)


@pytest.mark.parametrize(
    "text,says",
    [
        ("x = 1", "has no 'study'"),
        ("study = 3", "study in .*mine.py is a int; let it be a Study"),
        ("import nothing_of_this_name", "does not run"),
        (
            "from spat_nb.studies.study import Arm, Study\n"
            "study = Study('spat', '?', {'a': Arm()})",
            "calls its study 'spat', as one of the package's",
        ),
    ],
)
def test_files_that_are_no_study(text, says, mine):
    mine.write_text(text)
    with pytest.raises(ValueError, match=says):
        run(mine)


def test_there_is_no_such_study(mine):
    with pytest.raises(ValueError, match="no study 'sparta2'.*did you mean 'sparta'"):
        finding.find_study("sparta2")
    with pytest.raises(ValueError, match="no file nothing.py"):
        finding.find_study("nothing.py")
    assert finding.find_study(f"{mine}:study").name == "mine"


def test_a_study_of_this_process_alone_has_no_workers(mine):
    from dataclasses import replace

    typed = replace(finding.find_study(mine), file=None)
    with pytest.raises(ValueError, match="write it to a file, mine.py"):
        run_study = dict(device="cpu", quiet=True, say=lambda *_: None)
        runner.run(typed, workers=2, **run_study)
