"""The history of a run, handed to TensorBoard or MLflow"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from spat_nb.training.events import Callback
from spat_nb.training.learner import Learner

__all__ = ["TRACKERS", "Tracker"]


def _tensorboard(folder: str) -> tuple[Callable, Callable]:
    "What writes one row, and what ends it"
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)

    def write(values, step):
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write, writer.close


def _mlflow(folder: str) -> tuple[Callable, Callable]:
    "What writes one row, and what ends it. A run that is open already is used, and left open"
    import mlflow

    began = mlflow.active_run() is None
    if began:
        mlflow.start_run(run_name=Path(folder).parent.name)

    def write(values, step):
        mlflow.log_metrics(values, step=step)

    return write, mlflow.end_run if began else lambda: None


# name -> (package that must be installed, how it is opened)
TRACKERS = {"tensorboard": ("tensorboard", _tensorboard), "mlflow": ("mlflow", _mlflow)}


class Tracker(Callback):
    """Hands every new row of the history (loss, lr, clean and robust accuracy) to a tracker, at its
    optimiser step. It looks on and changes nothing; of many processes the first one speaks.

    Parameters
    ----------
    tracker : str
        or 'mlflow', which writes where its own settings say (default: "tensorboard")
    folder : str | Path
        of TensorBoard's files; MLflow: names the run (default: "runs/tensorboard")

    Raises
    ------
    ValueError
        for a tracker that is not known
    ImportError
        where it is not installed

    Examples
    --------
    >>> from spat_nb import Tracker
    >>> Tracker("wandb")
    Traceback (most recent call last):
    ValueError: tracker is 'wandb'; write tensorboard or mlflow.
    """

    onlooker = True

    def __init__(
        self,
        tracker: str = "tensorboard",  # or 'mlflow', which writes where its own settings say
        folder: str | Path = "runs/tensorboard",  # of TensorBoard's files; MLflow: names the run
    ):
        if tracker not in TRACKERS:
            raise ValueError(f"tracker is {tracker!r}; write {' or '.join(TRACKERS)}.")
        package, self.open = TRACKERS[tracker]
        try:
            importlib.import_module(package)
        except ImportError:
            raise ImportError(
                f"{package} is not installed; pip install {package}, or train without it."
            ) from None
        self.folder = str(folder)
        self.sent = 0
        self.writing: tuple[Callable, Callable] | None = None

    def before_fit(self, learner: Learner):
        if learner.devices is None or learner.devices.first:
            self.writing = self.open(self.folder)
        self.sent = len(learner.history)  # a resumed run: those rows were handed over before

    def after_validate(self, learner: Learner):
        for row in learner.history[self.sent :]:
            values = {k: float(v) for k, v in row.items() if isinstance(v, (int, float))}
            step = int(values.pop("step"))
            if self.writing:
                self.writing[0](values, step)
        self.sent = len(learner.history)

    def after_fit(self, learner: Learner):
        self.after_validate(learner)
        if self.writing:
            self.writing[1]()
            self.writing = None
