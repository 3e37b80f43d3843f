"""One run on many devices: what each process does beside the loop"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.digest import digest
from ..core.settings import default_device
from ..measure.evaluate import evaluate
from ..measure.record import Record
from .events import Callback
from .norms import share_norms
from .progress_bar import Progress
from .shares import Share, spread

__all__ = ["Devices", "many"]


class Devices(Callback):
    """What one of many processes does beside the loop.

    All of them make the same Learner; `many` makes this
    """

    order = 2  # after the checkpoint
    onlooker = True

    def __init__(
        self,
        accelerator,  # of Hugging Face's Accelerate
        # batch norm over all shares; else each process takes its own share's statistics
        shared_norm: bool = False,
    ):
        self.accelerator, self.shared_norm = accelerator, shared_norm
        self.rank, self.of, self.first = (
            accelerator.process_index,
            accelerator.num_processes,
            accelerator.is_main_process,
        )
        self.device = (
            accelerator.device if accelerator.device.type == "cuda" else torch.device("cpu")
        )

    def join(self, learner):
        "Called by the Learner when it is made"
        if self.shared_norm:
            share_norms(learner.model)
        learner.train = self.share = Share(learner.train, self.rank, self.of)
        learner.attack = spread(learner.attack, self.share)
        learner.callbacks = [
            c for c in learner.callbacks if self.first or not isinstance(c, Progress)
        ] + [self]

    def before_fit(self, learner):
        """All begin from the same place with the first one's weights.

        ValueError where they do not stand at the same step
        """
        from accelerate.utils import broadcast, gather_object

        steps = gather_object([learner.done])
        if len({*steps}) > 1:
            raise ValueError(
                f"the processes stand at the steps {steps}; let all machines see the same folder"
                " with the checkpoint, or none of them one."
            )
        for t in learner.model.state_dict().values():
            t.copy_(broadcast(t.clone(), 0))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(gather_object([torch.cuda.get_rng_state()])[0])

    def backward(self, model, loss):
        """The gradient, the loss and batch norm's statistics of the whole batch, in one sum over
        all processes. Returns the loss
        """
        part = len(range(self.rank, self.share.whole, self.of)) / self.share.whole
        (loss * part).backward()
        kept: list[Any] = [
            b
            for m in model.modules()
            if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None
            for b in (m.running_mean, m.running_var)
        ]
        ps = [p for p in model.parameters() if p.requires_grad]
        used, grads = (
            [p.grad is not None for p in ps],
            [torch.zeros_like(p) if p.grad is None else p.grad for p in ps],
        )
        sent = [loss.detach() * part, *(b * part for b in kept), *grads, loss.new_tensor(used)]
        back = self.sum(torch.cat([t.flatten() for t in sent])).split([t.numel() for t in sent])
        for t, v in zip([*kept, *grads], back[1:]):
            t.copy_(v.view_as(t))
        # a weight that no image of this share has used: take the others' gradient; where nobody has
        # one, it has none
        if not all(used):
            for p, g, n in zip(ps, grads, back[-1].tolist()):
                p.grad = g if n else None
        return back[0].view(())

    def sum(self, x):
        "The sum over all processes. ConnectionError where one of them is gone"
        try:
            return self.accelerator.reduce(x, "sum")
        except RuntimeError as e:
            raise ConnectionError(
                "another process of this run is gone or does not answer; its own words say why"
                f" ({str(e).splitlines()[0][:120]})."
            ) from None

    def evaluate(self, model, data, precision=None, **kw) -> Record:
        """`spat_nb.evaluate`, each process on its share of the images; all get the whole
        record
        """
        from accelerate.utils import gather_object

        kw = {"progress": self.first, **kw}
        if not hasattr(data, "take") or data.n < self.of:
            return evaluate(model, data, precision, **kw)
        r = evaluate(model, data.take(torch.arange(self.rank, data.n, self.of)), precision, **kw)
        parts = gather_object([{"y": r.y, "marks": r.marks, **r.preds}])

        def woven(k):
            out = torch.empty(data.n, dtype=torch.int64)
            for i, p in enumerate(parts):
                out[i :: self.of] = p[k]
            return out

        r.info["identity"]["images"] = digest(marks := woven("marks"))
        return replace(r, y=woven("y"), preds={k: woven(k) for k in r.preds}, marks=marks)

    def wait(self):
        "Until all processes are here"
        self.accelerator.wait_for_everyone()

    def close(self):
        "Say goodbye to the others"
        self.accelerator.end_training()


def many(
    # 'cpu', or 'cuda': each process takes its own one; default: the reader's setting
    device: str | None = None,
    timeout: float = 600,  # seconds after which a process that does not answer is given up
    shared_norm: bool = False,  # batch norm over all shares
) -> Devices | None:  # None where this process is the only one: the usual run
    """Which of the processes am I that `torchrun` or `accelerate launch` started?.

    Parameters
    ----------
    device : str | None
        'cpu', or 'cuda': each process takes its own one; default: the reader's setting
    timeout : float
        seconds after which a process that does not answer is given up (default: 600)
    shared_norm : bool
        batch norm over all shares (default: False)

    Returns
    -------
    Devices | None
        None where this process is the only one: the usual run

    Raises
    ------
    ImportError
        where there are many, but no accelerate
    """
    n = int(os.environ.get("WORLD_SIZE", 1))
    if n < 2:
        return None
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError:
        raise ImportError(
            f"this is one of {n} processes, which need accelerate; pip install accelerate."
        ) from None
    group = InitProcessGroupKwargs(timeout=timedelta(seconds=timeout))
    return Devices(
        Accelerator(cpu=default_device(device).type != "cuda", kwargs_handlers=[group]), shared_norm
    )
