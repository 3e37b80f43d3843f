"""History for TensorBoard and MLflow: every row once, at its step, and nothing else changes"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from spat_nb import Recipe, Tracker, train
from spat_nb.training import trackers

torch.set_num_threads(1)
RECIPE = Recipe(data="digits", epochs=2, n=200)


@pytest.fixture
def heard(monkeypatch):
    "A tracker that keeps what it is told"
    told = SimpleNamespace(rows=[], ended=0, folder=None)

    def opened(folder):
        told.folder = folder

        def end():
            told.ended += 1

        return lambda values, step: told.rows.append((step, values)), end

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", ("json", opened))
    return told


def test_every_row_of_the_history_once(heard):
    run = train(RECIPE, quiet=True, callbacks=[Tracker(folder="here")])
    assert heard.folder == "here" and heard.ended == 1
    assert [step for step, _ in heard.rows] == [row["step"] for row in run.history]
    for (_, values), row in zip(heard.rows, run.history, strict=True):
        assert values == {k: v for k, v in row.items() if k != "step"}
    assert {"loss", "lr", "clean", "robust"} <= heard.rows[-1][1].keys()


def test_a_tracker_changes_nothing(heard):
    alone = train(RECIPE, quiet=True)
    tracked = train(RECIPE, quiet=True, callbacks=[Tracker()])
    assert alone.history == tracked.history
    both = zip(alone.model.state_dict().values(), tracked.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in both)


def test_a_resumed_run_hands_over_what_is_new(heard, tmp_path):

    learner = SimpleNamespace(history=[{"step": 3, "loss": 1.0}], devices=None)
    tracker = Tracker()
    tracker.before_fit(learner)
    learner.history.append({"step": 6, "loss": 0.5, "note": "no number"})
    tracker.after_validate(learner)
    tracker.after_fit(learner)
    assert heard.rows == [(6, {"loss": 0.5})] and heard.ended == 1


def test_of_many_processes_the_first_one_speaks(heard):
    learner = SimpleNamespace(history=[], devices=SimpleNamespace(first=False))
    tracker = Tracker()
    tracker.before_fit(learner)
    learner.history.append({"step": 6, "loss": 0.5})
    tracker.after_fit(learner)
    assert heard.rows == [] and heard.folder is None


def test_mlflow(monkeypatch):
    fake = ModuleType("mlflow")
    fake.calls = []
    fake.active_run = lambda: None
    fake.start_run = lambda run_name: fake.calls.append(("start", run_name))
    fake.log_metrics = lambda values, step: fake.calls.append((step, values))
    fake.end_run = lambda: fake.calls.append("end")
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    learner = SimpleNamespace(history=[], devices=None)
    tracker = Tracker("mlflow", "run1/mlflow")
    tracker.before_fit(learner)
    learner.history.append({"step": 6, "epoch": 1.0, "robust": 0.25})
    tracker.after_fit(learner)
    assert fake.calls == [("start", "run1"), (6, {"epoch": 1.0, "robust": 0.25}), "end"]
    # a run that the reader has opened stays open
    fake.calls.clear()
    fake.active_run = lambda: "theirs"
    tracker.before_fit(learner)
    tracker.after_fit(learner)
    assert fake.calls == []


def test_what_is_not_there_is_said(monkeypatch):
    with pytest.raises(ValueError, match="tracker is 'wandb'; write tensorboard or mlflow"):
        Tracker("wandb")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match="mlflow is not installed; pip install mlflow"):
        Tracker("mlflow")


def test_by_the_command(heard, tmp_path):
    from spat_nb.app.cli import main

    out = tmp_path / "run1"
    flags = f"train --epochs 1 --n 100 --n-test 50 --out {out} --track tensorboard"
    assert not main(flags.split())
    assert heard.folder == str(out / "tensorboard") and heard.ended == 1 and heard.rows
