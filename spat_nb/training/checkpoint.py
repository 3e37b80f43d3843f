"""A checkpoint: a killed run goes on bit by bit"""

from __future__ import annotations

import json
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..core.files import load_tree, save_tree
from ..core.identity import difference, fingerprint, made_of
from .events import Callback

__all__ = ["Checkpoint"]


def _streams(learner):
    "The generators that the attacks of a run draw from"
    attacks = [learner.attack, *(getattr(c, "attack", None) for c in learner.callbacks)]
    return [g for a in attacks if (g := getattr(a, "generator", None)) is not None]


def _get_rng(learner):
    "The state of every random stream of a run"
    import numpy as np

    state: Any = np.random.get_state()  # of the old kind, a tuple
    kind, keys, *rest = state
    return dict(
        python=random.getstate(),
        numpy=[kind, torch.from_numpy(keys.astype("int64")), *rest],
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        attacks=[g.get_state() for g in _streams(learner)],
    )


def _set_rng(learner, s):
    "Put every random stream back"
    import numpy as np

    (v, keys, gauss), (kind, np_keys, *rest) = s["python"], s["numpy"]
    random.setstate((v, tuple(keys), gauss))
    np.random.set_state((kind, np_keys.numpy().astype("uint32"), *rest))
    torch.set_rng_state(s["torch"])
    if s["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(s["cuda"])
    for g, state in zip(_streams(learner), s["attacks"], strict=True):
        g.set_state(state)


def _keeps(c):
    return isinstance(c, Callback) and type(c).state is not Callback.state


def _settings(c):
    "What decides about an objective or a listener; of one that keeps a state all but that"
    if not _keeps(c):
        return c
    kept = c.state()
    return {"class": type(c), **{k: v for k, v in vars(c).items() if k not in kept}}


def _listeners(learner):
    "name -> what a checkpoint asks of it, of all listeners that may change something"
    found = {}
    for c in learner.callbacks:
        if c.onlooker:
            continue
        name = type(c).__name__
        while name in found:
            name += "'"
        found[name] = made_of(_settings(c) if _keeps(c) or c.decides else type(c), modes=False)
    return found


def _images(data):
    "What training images are made of; of files their names and, up to 100,000, their sizes"
    if not hasattr(data, "files"):
        return data
    size = os.path.getsize if data.n <= 100_000 else lambda f: ""
    names = [f"{Path(f).parent.name}/{Path(f).name} {size(f)}" for f in data.files]
    return {
        **{k: v for k, v in vars(data).items() if k not in ("workers", "device")},
        "files": fingerprint(names),
    }


def _made(learner):
    """What a run is made of: part -> its `identity.made_of`.

    Weights do not count, they lie in the file
    """
    look = partial(made_of, weights=False, modes=False)
    opt = look(learner.opt)
    # the schedule sets it
    for k in [k for k in opt if k.split(".")[-1] in ("lr", "initial_lr")]:
        del opt[k]
    return dict(
        model=look(learner.model),
        objective=look(_settings(learner.objective)),
        attack=look(learner.attack),
        optimiser=opt,
        schedule=look(learner.schedule),
        training_data=look(
            _images(getattr(learner.train, "__identity__", lambda: learner.train)())
        ),
        **_listeners(learner),
    )


def _fixed(model):
    "name -> text of a network's buffers and frozen weights"
    frozen = {k: p for k, p in model.named_parameters() if not p.requires_grad}
    return {k: made_of(t)["it"] for k, t in {**dict(model.named_buffers()), **frozen}.items()}


class Checkpoint(Callback):
    """Write the whole run to `path` now and then, and go on from it: the end is the same, bit for
    bit.

    Parameters
    ----------
    path
        .safetensors file
    every : float
        seconds between two writings; also at the end of each epoch (default: 60)
    config : dict | None
        JSON values that identify the run, beside what the Learner knows of itself (default: None)

    Raises
    ------
    ValueError
        for a file of another run
    """

    order = 1  # after all others: what they did at this step is in the file
    onlooker = True

    def __init__(
        self,
        path,  # .safetensors file
        every: float = 60,  # seconds between two writings; also at the end of each epoch
        # JSON values that identify the run, beside what the Learner knows of itself
        config: dict | None = None,
    ):
        self.path = Path(path)
        self.every = every
        self.config = config or {}
        self.at = time.monotonic()
        self.begun: dict[str, Any] = {}  # what the run is made of, once it has begun

    def facts(self, learner):
        "What must be equal for a run to go on, as far as numbers and texts say it"
        facts = dict(
            epochs=learner.epochs,
            lr=learner.lr,
            seed=learner.seed,
            precision=learner.precision,
            images=learner.train.n,
            batches=len(learner.train),
            order=getattr(learner.train, "seed", None),
            remembering=[type(c).__name__ for c in self.keepers(learner)],
        )
        return json.loads(json.dumps({**facts, **self.config}))

    def begin(self, learner):
        "Note what the run is made of, before it moves"
        self.begun = dict(
            facts=self.facts(learner), made=_made(learner), fixed=_fixed(learner.model)
        )

    def keepers(self, learner):
        return [c for c in learner.callbacks if type(c).state is not Callback.state]

    def other(self, tree):
        "How the file belongs to another run, in words; '' where it is this one"
        old, new = tree["facts"], self.begun["facts"]
        others = [
            f"{k} = {old.get(k)!r}, not {new.get(k)!r}"
            for k in {**new, **old}
            if old.get(k) != new.get(k)
        ]
        if others:
            return f"belongs to a run with {' and '.join(others)}"
        if "made" not in tree:
            return (
                "was begun by an earlier version of spat_nb and does not say what its run was"
                " made of"
            )
        for k, now in self.begun["made"].items():
            if k in tree["made"] and (told := difference(tree["made"][k], now)):
                return f"belongs to a run with another {k.replace('_', ' ')}: {told}"
        for k in {*self.begun["made"]} ^ {*tree["made"]}:
            if k in ("Validate", "EarlyStop"):
                return f"belongs to a run {'with' if k in tree['made'] else 'without'} {k}"
        told = difference(
            tree["fixed"], {k: v for k, v in self.begun["fixed"].items() if k in tree["fixed"]}
        )
        return f"belongs to a run with another model: {told}" if told else ""

    def resume(self, learner):
        self.begin(learner)
        if not self.path.exists():
            return
        tree = load_tree(self.path)
        if not isinstance(tree, dict) or "facts" not in tree:
            raise ValueError(f"{self.path} is no checkpoint; choose another path for it.")
        if told := self.other(tree):
            raise ValueError(f"{self.path} {told}; delete it or choose another path.")
        try:
            self.restore(learner, tree)
        except (RuntimeError, KeyError, ValueError) as e:
            raise ValueError(
                f"{self.path} does not fit this model ({' '.join(str(e).split())[:150]}); delete it"
                " or choose another path."
            ) from None

    def restore(self, learner, tree):
        learner.model.load_state_dict(tree["model"])
        learner.opt.load_state_dict(
            {**tree["opt"], "state": {int(k): v for k, v in tree["opt"]["state"].items()}}
        )
        learner.epoch, learner.batch, learner.stop, learner.history = (
            tree[k] for k in ("epoch", "batch", "stop", "history")
        )
        learner.losses = list(tree["losses"].to(next(learner.model.parameters()).device))
        for c, s in zip(self.keepers(learner), tree["callbacks"], strict=True):
            c.load(s)
        _set_rng(learner, tree["rng"])

    def after_step(self, learner):
        if time.monotonic() - self.at >= self.every:
            self.write(learner)

    def after_epoch(self, learner):
        self.write(learner)

    def write(self, learner):
        learner.check()  # never over a good file
        if not self.begun:
            self.begin(learner)
        now = _fixed(learner.model)
        # what training moves is no mark of the model
        fixed = {k: v for k, v in self.begun["fixed"].items() if now.get(k) == v}
        # one process writes for all
        if not learner.devices or learner.devices.first:
            save_tree(
                self.path,
                dict(
                    self.begun,
                    fixed=fixed,
                    model=learner.model.state_dict(),
                    opt=learner.opt.state_dict(),
                    epoch=learner.epoch,
                    batch=learner.batch,
                    stop=learner.stop,
                    history=learner.history,
                    losses=torch.stack(learner.losses) if learner.losses else torch.zeros(0),
                    callbacks=[c.state() for c in self.keepers(learner)],
                    rng=_get_rng(learner),
                ),
            )
        self.at = time.monotonic()
