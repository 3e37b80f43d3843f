"""What each process of test_devices.py does; a module, so that a server of processes can import it
once for all
"""

import os
import sys
from functools import cache

import accelerate  # noqa: F401, loaded before the server forks
import torch
from counters import Count
from torch import nn

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.classwise.fairness import CFA, DAFA, CFATrades
from spat_nb.classwise.minmax import CFOL, FRL, WAT
from spat_nb.classwise.radii import T1
from spat_nb.core.files import save_tree
from spat_nb.data.draws import crop_flip
from spat_nb.data.sources import get_data
from spat_nb.models.networks import SmallCNN
from spat_nb.training.callbacks import Best, EarlyStop, Validate
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.devices import many
from spat_nb.training.events import Callback
from spat_nb.training.fast import Free, Replay
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import mart, pgd_at, trades
from spat_nb.training.progress_bar import Progress

ball = Linf(0.15)


class Grads(Callback):
    def __init__(self):
        self.g, self.loss = [], []

    def after_step(self, learner):
        self.g.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                    for p in learner.model.parameters()
                ]
            )
        )
        self.loss.append(learner.losses[-1])


def bare():
    # the others must get the first one's weights
    torch.manual_seed(int(os.environ.get("RANK", 0)))
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 10),
    ).double()


class Rare(nn.Module):
    "One layer for bright images only, which not every share holds, and one for none"

    def __init__(self):
        super().__init__()
        self.usual, self.bright, self.idle = (
            bare(),
            nn.Linear(64, 10).double(),
            nn.Linear(2, 2).double(),
        )
        self.skipped = 0

    def forward(self, x):
        z, few = self.usual(x), x.mean((1, 2, 3)) > 0.35
        self.skipped += self.training and not few.any()
        return (
            z
            + torch.zeros_like(z).index_put((few.nonzero()[:, 0],), self.bright(x[few].flatten(1)))
            if few.any()
            else z
        )


def norm():
    torch.manual_seed(0)
    return SmallCNN(width=4)


@cache
def digits():
    return get_data("digits", device="cpu", batch_size=50)


# batches of 50, 50, 37: shares of unequal size
def some():
    return digits().train.subset(137).with_(augment=crop_flip(1, False))


def learn(net, objective, attack, *calls, shared=False, epochs=2, train=None, **kw):
    return Learner(
        net,
        train or some(),
        objective,
        attack,
        epochs,
        0.05,
        callbacks=calls,
        precision="float32",
        devices=many("cpu", 60, shared),
        **kw,
    )


def gradients(out):
    kept, near, plain = {}, pgd(ball, 3, start=gaussian()), pgd(ball, 3)
    for name, objective, attack, net, shared in (
        ("pgd_at bare", pgd_at, plain, bare(), False),
        ("trades bare", trades, near, bare(), False),
        ("mart bare", mart, plain, bare(), False),
        ("pgd_at shared", pgd_at, plain, norm().double(), True),
        ("pgd_at own", pgd_at, plain, norm(), False),
    ):
        g = Grads()
        learner = learn(
            net, objective, attack, g, shared=shared, epochs=2 if name == "pgd_at bare" else 1
        ).fit()
        kept[name] = dict(
            g=g.g, loss=g.loss, weights=learner.model.state_dict(), history=learner.history
        )
    free, g = Free(ball), Grads()
    learner = learn(bare(), free, None, free, g, train=Replay(some(), 2), epochs=1).fit()
    rare, seen = Rare(), Grads()
    made = learn(
        rare, pgd_at, plain, seen, train=digits().train.subset(140).with_(batch_size=4), epochs=1
    ).fit()
    kept["pgd_at rare"] = dict(
        g=seen.g,
        loss=seen.loss,
        weights=made.model.state_dict(),
        skipped=[rare.skipped],
        idle=[rare.idle.weight.grad is None],
    )
    return {
        **kept,
        "free bare": dict(
            g=g.g, loss=g.loss, weights=learner.model.state_dict(), history=learner.history
        ),
    }


def recipes(out):
    "All that remember something of the classes"
    kept, t, v, plain, near = (
        {},
        some(),
        digits().valid.subset(60),
        pgd(ball, 2),
        pgd(ball, 2, start=gaussian()),
    )
    for make, attack in (
        (lambda: T1(v, 5.0), plain),
        (lambda: CFA(10), plain),
        (lambda: CFATrades(10), near),
        (lambda: WAT(v), near),
        (lambda: DAFA(10, 1, 0.3), near),
        (lambda: FRL(v, 0.01), near),
        (lambda: CFOL(t, eta=0.05), plain),
    ):
        m = make()
        learner = learn(bare(), m, attack, m, train=m if isinstance(m, CFOL) else t).fit()
        kept[type(m).__name__] = dict(weights=learner.model.state_dict(), memory=m.state())
    return kept


def collectives(out):
    counts = {}
    for k in (1, 9):
        learner = learn(norm(), pgd_at, pgd(ball, k), epochs=1)
        learner.devices.before_fit(learner)
        x, y = next(learner.train.epoch())
        with Count() as c:
            learner.step(x, y)
            learner.step(x, y)
        counts[str(k)] = c.seen
    return counts


def run(out, path):
    class Log(Callback):
        def after_step(self, learner):
            (out / f"{os.environ['RANK']}.step").write_text(str(learner.done))

    best, data = Best(), digits()
    calls = [
        Checkpoint(path, 0),
        Validate(data.valid.subset(61), pgd(ball, 2), 0.5),
        best,
        EarlyStop(50),
        Progress(1e9, False),
        Log(),
    ]
    learner = learn(norm(), trades, pgd(ball, 2, start=gaussian()), *calls, epochs=3, seed=4).fit()
    return dict(
        weights=learner.model.state_dict(),
        opt=learner.opt.state_dict(),
        history=learner.history,
        best=best.state(),
        random=torch.get_rng_state(),
    )


def dies(out):
    class Die(Callback):
        def after_step(self, learner):
            if learner.done == 2 and learner.devices.rank == 1:
                os._exit(7)

    learn(bare(), pgd_at, pgd(ball, 1), Die()).fit()


def split(out):
    learn(
        norm(),
        pgd_at,
        pgd(ball, 1),
        Checkpoint(out / f"own{os.environ.get('RANK', 'lone')}.safetensors", 0),
        epochs=1,
    ).fit()


def work(env, what, out, *args):
    "One process: `what`, its result into a file, its words into another"
    os.environ.update(env)
    torch.set_num_threads(1)
    rank = env.get("RANK", "lone")
    with open(out / f"{rank}.txt", "w") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
    try:
        result = globals()[what](out, *args)
    finally:
        sys.stdout.flush()
    if result:
        save_tree(out / f"{rank}.safetensors", result)
