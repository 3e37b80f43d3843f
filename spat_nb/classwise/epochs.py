"""Every class watched during training, and its picture"""

from __future__ import annotations

from typing import Any

import torch

from ..core.protocols import AttackFunction
from ..measure.evaluate import evaluate
from ..measure.record import Record
from ..training.events import Callback
from .bootstrap import rates
from .disparity import disparity

__all__ = ["PerClass", "plot_epochs"]


class PerClass(Callback):
    """Measures every class during training: `records` holds epoch -> Record. ValueError where
    `every` is no whole number above 0
    """

    def __init__(
        self,
        data,  # held-out `Batches`
        every: int = 1,  # epochs between two looks; the last epoch is always looked at
        **attacks: AttackFunction,  # name=attack, as in `evaluate`
    ):
        if every < 1 or every != int(every):
            raise ValueError(f"every is {every}; it counts epochs between two looks: 1, 2, ...")
        self.data = data
        self.every = every
        self.attacks: dict[str, Any] = attacks
        self.records: dict = {}

    def after_epoch(self, learner):
        if learner.epoch % self.every and learner.epoch < learner.epochs:
            return
        self.records[learner.epoch] = evaluate(
            learner.model, self.data, learner.precision, progress=False, **self.attacks
        )

    def state(self):
        return {
            str(e): dict(y=r.y, preds=r.preds, classes=list(r.classes), info=r.info)
            for e, r in self.records.items()
        }

    def load(self, state):
        self.records = {
            int(e): Record(s["y"], s["preds"], tuple(s["classes"]), s["info"])
            for e, s in state.items()
        }


def plot_epochs(
    records: dict,  # epoch -> Record, from `PerClass`
    name: str,  # 'clean' or an attack
    mark: int = 3,  # classes that are named: the weakest at the end
):  # two axes
    """Accuracy of each class over training, its weakest named; and the mean, the worst class and
    the gap. ValueError without records
    """
    import matplotlib.pyplot as plt

    from spat_nb.core.plot import curves, plain, style

    if not records:
        raise ValueError(
            "there are no records; train with PerClass(data, pgd10=...) among the callbacks."
        )
    t, last = list(records), records[max(records)]
    R = torch.stack([rates(r.y, r.correct(name)) for r in records.values()])
    names = [last.classes[k] for k in last.y.unique()]
    axes = plt.subplots(1, 2, figsize=(8.4, 3.3), layout="constrained")[1]
    axes[0].plot(t, R.numpy(), color="#bbbbbb", lw=0.8)
    for i, k in enumerate(R[-1].argsort()[:mark].tolist()):
        axes[0].plot(t, R[:, k].tolist(), label=plain(names[k]), **style(i))
    axes[0].set(xlabel="epoch", ylabel=f"accuracy of a class, {plain(name)}", ylim=(-0.02, 1.02))
    axes[0].grid(alpha=0.3)
    axes[0].legend(fontsize=8, title="weakest", title_fontsize=8)
    d = disparity(R)
    curves(
        {k: (t, d[k]) for k in ("mean", "worst", "MCD")},
        "epoch",
        f"accuracy or gap, {plain(name)}",
        axes[1],
        ylim=(-0.02, 1.02),
    )
    return axes
