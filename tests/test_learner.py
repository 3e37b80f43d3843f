"""The Learner against a loop by hand, its callbacks, and runs that are killed at every kind of
moment: they end bit for bit where the whole run ends
"""

import contextlib
import copy
import io
import math
import random
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
from asserting import assert_close, assert_eq, assert_fails
from torch import nn
from torch.nn import functional as F

from spat_nb import (
    Best,
    Callback,
    Checkpoint,
    EarlyStop,
    Learner,
    Linf,
    PreActResNet18,
    Progress,
    SmallCNN,
    Validate,
    ce,
    crop_flip,
    evaluate,
    get_data,
    one_cycle,
    pgd,
    pgd_at,
    save,
    sgd,
)
from spat_nb.core.files import load_tree
from spat_nb.core.rng import generator
from spat_nb.training.checkpoint import _get_rng, _set_rng

data = get_data("digits", device="cpu", batch_size=64)
small = data.train.subset(256).with_(augment=crop_flip(1, flip=False))
valid = data.valid.subset(60)
few = data.train.subset(20).with_(batch_size=10, shuffle=False)
ball = Linf(0.15)
tmp = Path()  # a folder of each test


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    global tmp
    tmp = tmp_path


def new(seed=0):
    torch.manual_seed(seed)
    return SmallCNN(width=4)


def same(a, b):
    "Equal in every bit, for tensors and trees of tensors"
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def train_by_hand(model, train, epochs, lr, attack, schedule):
    "An earlier version, kept to check the Learner against"
    opt = torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for epoch in range(epochs):
        for k, (x, y) in enumerate(train.epoch(epoch)):
            opt.param_groups[0]["lr"] = lr * schedule(
                (epoch * len(train) + k) / (epochs * len(train))
            )
            model.train()
            loss = F.cross_entropy(model(attack(model, x, y)), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
    return model


def train(*callbacks, **kw):
    return Learner(
        new(),
        small,
        pgd_at,
        pgd(ball, 2),
        **{"epochs": 2, "lr": 0.1, "precision": "float32", "callbacks": callbacks, **kw},
    )


def look(every, epochs=2):
    return [
        r["step"] for r in train(Validate(valid, pgd(ball, 1), every), epochs=epochs).fit().history
    ]


def test_the_schedule_in_closed_form():
    for t, s in ((0.0, 0.04), (0.15, 0.52), (0.3, 1.0), (0.65, 0.5), (1.0, 0.0)):
        assert_close(one_cycle(t), s, eps=1e-12)
    assert_close(one_cycle(0.3 - 1e-9), one_cycle(0.3), eps=1e-12)
    ts = [(i + 0.5) / 10000 for i in range(10000)]
    for up in (0.3, 0.1, 0.0):
        assert_close(
            sum(one_cycle(t, up) for t in ts) / 10000, 0.52 * up + 0.5 * (1 - up), eps=1e-6
        )
    opt = sgd([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert_eq(
        {k: opt.defaults[k] for k in ("lr", "momentum", "nesterov", "weight_decay")},
        dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    )


class Count(Callback):
    "An example: count steps, and keep the count over a kill"

    def __init__(self):
        self.n = 0

    def after_step(self, learner):
        self.n += 1

    def state(self):
        return dict(n=self.n)


def test_every_event_can_be_heard():
    a, b = Count(), Count()
    for event in (
        "resume",
        "before_fit",
        "before_step",
        "after_step",
        "after_validate",
        "after_epoch",
        "after_fit",
    ):
        getattr(a, event)(None)
    b.load(a.state())
    assert_eq((a.n, b.n, Callback().state()), (1, 1, {}))


def test_the_learner_is_the_loop_by_hand():
    theirs = new()
    torch.manual_seed(3)
    train_by_hand(theirs, small, 3, 0.1, pgd(ball, 3), one_cycle)
    # in whatever mode it comes
    learner = Learner(
        new().eval(), small, pgd_at, pgd(ball, 3), epochs=3, lr=0.1, precision="float32", seed=3
    ).fit()
    assert same(theirs.state_dict(), learner.model.state_dict())
    assert_eq((learner.epoch, learner.batch, learner.done, learner.total), (3, 0, 12, 12))
    assert_eq([r["step"] for r in learner.history], [4, 8, 12])
    assert_eq([r["epoch"] for r in learner.history], [1.0, 2.0, 3.0])
    assert_close(learner.history[-1]["lr"], 0.1 * one_cycle(11 / 12), eps=1e-12)


def test_history_and_losses_that_are_not_finite():
    class Losses(Callback):
        def __init__(self):
            self.v = []

        def after_step(self, learner):
            self.v.append(learner.losses[-1].item())

    seen = Losses()
    learner = Learner(
        new(), small, pgd_at, pgd(ball, 3), epochs=2, lr=0.1, precision="float32", callbacks=[seen]
    ).fit()
    assert_close(learner.history[1]["loss"], sum(seen.v[4:]) / 4, eps=1e-6)

    def spoil(model, x, y, attack):
        return ce(model(x), y).mean() * (
            float("nan") if next(model.parameters()).sum() != first else 1.0
        )

    net = new()
    first = next(net.parameters()).sum()
    assert_fails(
        lambda: Learner(net, small, spoil, epochs=2, precision="float32").fit(),
        contains="the loss is nan at step 2 of 8; lower lr",
    )

    class Poison(Callback):
        def after_step(self, learner):
            if learner.done == 2:
                next(learner.model.parameters()).data.fill_(math.inf)

    assert_fails(
        lambda: Learner(
            new(), small, pgd_at, pgd(ball, 1), precision="float32", callbacks=[Poison()]
        ).fit(),
        contains="a weight is not finite after step 2 of 40",
    )


def test_where_the_looks_fall():
    # 4 batches an epoch
    assert_eq(look(1), [4, 8])
    assert_eq(look(0.5), [2, 4, 6, 8])
    assert_eq(look(0.01), [1, 2, 3, 4, 5, 6, 7, 8])
    # 2.8, 5.6; an epoch's end is in the history anyway
    assert_eq(look(0.7), [3, 4, 6, 8])
    assert_eq(look(5), [4, 8])
    assert_fails(lambda: Validate(valid, pgd(ball), 0), contains="every is 0")


def test_to_look_changes_nothing():
    learner = train(Validate(valid, pgd(ball, 5))).fit()
    r = evaluate(learner.model, valid, "float32", progress=False, robust=pgd(ball, 5))
    # of the network as it stands
    assert_eq(
        [learner.history[-1][k] for k in ("clean", "robust")],
        [r.accuracy(k) for k in ("clean", "robust")],
    )
    # to look changes nothing: no draw, no batch-norm update
    assert same(learner.model.state_dict(), train().fit().model.state_dict())


class Played(Callback):
    "A validation whose results are given"

    def __init__(self, values):
        self.values = list(values)

    def after_step(self, learner):
        learner.log(robust=self.values[learner.done - 1])
        learner("after_validate")


def test_best_and_early_stop_of_a_played_history():
    best = Best()
    learner = train(Played([0.1, 0.5, 0.3, 0.5, 0.2, 0.2, 0.2, 0.2]), best).fit()
    # the first of two equal ones
    assert_eq((best.value, best.step), (0.5, 2))
    halfway = new()
    best.restore(halfway)
    assert not same(halfway.state_dict(), learner.model.state_dict())

    class Snap(Callback):
        def after_step(self, learner):
            if learner.done == 2:
                self.weights = copy.deepcopy(learner.model.state_dict())

    snap = Snap()
    train(snap).fit()
    # what `best` kept are the weights of step 2
    assert same(halfway.state_dict(), snap.weights)
    assert_fails(lambda: Best().restore(halfway), contains="no validation")

    learner = train(Played([0.1, 0.5, 0.3, 0.5, 0.2, 0.2, 0.2, 0.2]), EarlyStop(3)).fit()
    # steps 3, 4, 5 brought nothing above .5
    assert_eq((learner.done, learner.stop), (5, True))
    assert_eq(train(Played(range(8)), EarlyStop(1)).fit().done, 8)


def small_resnet(seed=0):
    torch.manual_seed(seed)
    return PreActResNet18(width=8, channels=1, mean=0.3, std=0.375)


class Bomb(Callback):
    "Goes off at one event of one step"

    def __init__(self, event="after_step", step=1):
        self.step = step
        setattr(self, event, self.tick)

    def tick(self, learner):
        if learner.done == self.step:
            raise KeyboardInterrupt("killed")


class Dice(Callback):
    "Draws from Python's and NumPy's streams, as an augmentation might"

    def after_step(self, learner):
        random.random()
        numpy.random.rand()


class Mined:
    "An attack that goes off at its k-th call"

    def __init__(self, attack, k):
        self.attack, self.k, self.ball = attack, k, attack.ball

    def __identity__(self):
        return self.attack  # the checkpoint shall not notice

    def __call__(self, model, x, y):
        self.k -= 1
        if self.k == 0:
            raise KeyboardInterrupt("killed")
        return self.attack(model, x, y)


def run(
    path=None, bomb=None, seed=0, patience=9, own=False, precision="float32", every=0.0, look=None
):
    "A short run, with everything that has a state; returns the Learner and its Best"
    best, attack = Best(), pgd(ball, 2, generator=generator(7) if own else None)
    # first in the list: the Learner puts it last
    calls = [Checkpoint(path, every)] if path else []
    calls += [Validate(valid, look or pgd(ball, 2), 0.5), best, EarlyStop(patience), Dice()] + (
        [bomb] if bomb else []
    )
    net = new(seed) if precision == "float32" else small_resnet(seed)
    return (
        Learner(
            net,
            small,
            pgd_at,
            attack,
            epochs=3,
            lr=0.1,
            precision=precision,
            callbacks=calls,
            seed=5,
        ).fit(),
        best,
    )


def everything(learner, best):
    return [
        learner.model.state_dict(),
        learner.opt.state_dict(),
        learner.history,
        best.state(),
        (learner.epoch, learner.batch, learner.stop),
        _get_rng(learner),
    ]


def killed(*bombs, **kw):
    "The end of a run that was killed by each of `bombs` in turn"
    path = tmp / "run.safetensors"
    path.unlink(missing_ok=True)
    for k, b in enumerate(bombs):
        # other first weights: they must come from the file
        seed = 10 + k if path.exists() else 0
        try:
            run(path, seed=seed, **({"look": b} if isinstance(b, Mined) else {"bomb": b}), **kw)
            raise AssertionError("it was not killed")
        except KeyboardInterrupt:
            pass
    return everything(*run(path, seed=99 if path.exists() else 0, **kw))


def test_killed_at_every_kind_of_moment():
    whole = everything(*run())
    # in the middle of an epoch
    for step in (1, 2, 5, 7, 11):
        assert same(killed(Bomb("after_step", step)), whole), step
    # at its end
    for step in (4, 8):
        assert same(killed(Bomb("after_epoch", step)), whole), step
    # with the row in the history, but not in the file
    for step in (2, 6):
        assert same(killed(Bomb("after_validate", step)), whole), step
    # during a validation
    for call in (1, 2, 4):
        assert same(killed(Mined(pgd(ball, 2), call)), whole), call
    # a bad night
    assert same(
        killed(
            Bomb("after_step", 3),
            Bomb("after_epoch", 4),
            Mined(pgd(ball, 2), 2),
            Bomb("after_step", 9),
        ),
        whole,
    )
    # a file only at each epoch's end
    assert same(killed(Bomb("after_step", 7), every=1e9), whole)


def test_early_stops_own_generators_and_finished_runs():
    whole = everything(*run())
    short = everything(*run(patience=1))
    assert short[4][2] and same(killed(Bomb("after_step", 1), patience=1), short)
    own = everything(*run(own=True))
    assert not same(own[0], whole[0]) and same(killed(Bomb("after_step", 6), own=True), own)
    path = tmp / "again.safetensors"
    assert same(everything(*run(path)), whole) and same(everything(*run(path, seed=4)), whole)


def test_files_of_other_runs_are_refused():
    def try_(path, model=None, objective=pgd_at, callbacks=(), config=None, **kw):
        return Learner(
            model or new(),
            small,
            objective,
            pgd(ball, 2),
            callbacks=[Checkpoint(path, config=config), *callbacks],
            **{"epochs": 3, "lr": 0.1, "precision": "float32", "seed": 5, **kw},
        ).fit()

    path = tmp / "one.safetensors"
    try_(path, epochs=3, config=dict(eps=0.15, mean=(0.1, 0.2)))
    # its own is welcome
    try_(path, epochs=3, config=dict(eps=0.15, mean=(0.1, 0.2)))
    assert_fails(
        lambda: try_(path, config=dict(eps=0.3, mean=(0.1, 0.2))),
        contains="belongs to a run with eps = 0.15, not 0.3; delete it",
    )
    assert_fails(lambda: try_(path, config=dict(eps=0.15)), contains="mean = [0.1, 0.2], not None")
    assert_fails(
        lambda: try_(path, epochs=4, config=dict(eps=0.15, mean=(0.1, 0.2))),
        contains="epochs = 3, not 4",
    )
    assert_fails(
        lambda: try_(path, config=dict(eps=0.15, mean=(0.1, 0.2)), callbacks=[Best()]),
        contains="remembering = [], not ['Best']",
    )
    assert_fails(
        lambda: try_(path, SmallCNN(width=8), config=dict(eps=0.15, mean=(0.1, 0.2))),
        contains="with another model: ",
    )
    assert_fails(
        lambda: try_(
            path,
            objective=partial(pgd_at, loss=F.cross_entropy),
            config=dict(eps=0.15, mean=(0.1, 0.2)),
        ),
        contains="with another objective: ",
    )

    class Bare(nn.Module):
        "Does not say how large it is"

        def __init__(self, d):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(d, 10))

        def forward(self, x):
            return x.flatten(1)[:, : len(self.w)] @ self.w

    bare = tmp / "bare.safetensors"
    try_(bare, Bare(3), epochs=1)
    assert_fails(lambda: try_(bare, Bare(4), epochs=1), contains="with another model")

    def opt(decay):
        return partial(torch.optim.SGD, momentum=0.9, weight_decay=decay)

    decayed = tmp / "decayed.safetensors"
    try_(decayed, epochs=1, opt=opt(5e-4))
    assert_fails(
        lambda: try_(decayed, epochs=1, opt=opt(0.0)),
        contains="another optimiser: weight_decay was 0.0005, now 0.0",
    )
    cut = tmp / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-1000])
    assert_fails(lambda: try_(cut), contains="damaged or cut short")
    pickled = tmp / "pickled.safetensors"
    torch.save(new().state_dict(), pickled)
    assert_fails(lambda: try_(pickled), contains="is a pickle")
    weights = tmp / "weights.safetensors"
    save(new(), weights)
    assert_fails(lambda: try_(weights), contains="is no checkpoint")


class Burst:
    "An objective that is NaN from one step on"

    def __init__(self, step):
        self.n, self.step = 0, step

    def __call__(self, model, x, y, attack):
        self.n += 1
        return ce(model(x), y).mean() * (math.nan if self.n >= self.step else 1.0)


def test_a_run_that_bursts_keeps_its_last_good_file():
    path = tmp / "burst.safetensors"
    assert_fails(
        lambda: Learner(
            new(), small, Burst(6), callbacks=[Checkpoint(path, every=0)], precision="float32"
        ).fit(),
        contains="the loss is nan at step 6 of 40",
    )
    tree = load_tree(path)
    assert_eq((tree["epoch"], tree["batch"]), (1, 1))
    assert all(t.isfinite().all() for t in tree["model"].values())


def test_what_is_told_into_a_file():
    def listen(*callbacks, **kw):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            train(*callbacks, **kw).fit()
        return out.getvalue()

    text = listen(Progress(0, show=False), Validate(valid, pgd(ball, 2)))
    lines = text.splitlines()
    assert_eq(sum("images/s" in s and "left" in s for s in lines), 8)
    assert_eq(sum("robust" in s for s in lines), 2)
    assert_eq(listen(Progress(1e9, show=False)), "")
    with contextlib.suppress(KeyboardInterrupt):
        listen(Checkpoint(tmp / "p.safetensors", 0), Bomb("after_step", 6))
    assert listen(Progress(1e9, show=False), Checkpoint(tmp / "p.safetensors", 0)).startswith(
        "going on at epoch 1.25"
    )


def test_every_precision_trains():
    for precision in ("float32", "channels_last", "bfloat16"):
        learner = Learner(
            small_resnet(), few, pgd_at, pgd(Linf(0.05), 2), epochs=8, lr=0.05, precision=precision
        ).fit()
        assert_eq({p.dtype for p in learner.model.parameters()}, {torch.float32})
        assert learner.history[-1]["loss"] < 0.6 * learner.history[0]["loss"]
    assert_fails(
        lambda: Learner(new(), few, pgd_at, precision="float16"), contains="precision is 'float16'"
    )


def short_run(precision, path=None, bomb=None, seed=0):
    calls = ([Checkpoint(path, 0)] if path else []) + ([bomb] if bomb else [])
    learner = Learner(
        small_resnet(seed),
        few,
        pgd_at,
        pgd(Linf(0.05), 1),
        epochs=3,
        lr=0.05,
        precision=precision,
        callbacks=calls,
    ).fit()
    return [learner.model.state_dict(), learner.opt.state_dict(), learner.history]


def test_every_precision_goes_on_after_a_kill():
    for precision in ("channels_last", "bfloat16"):
        path = tmp / f"{precision}.safetensors"
        with contextlib.suppress(KeyboardInterrupt):
            short_run(precision, path, Bomb("after_step", 3))
        assert same(short_run(precision, path, seed=9), short_run(precision)), precision


def test_chosen_on_the_test_set_is_too_good():
    g = generator(0)

    # accuracy of 30 looks, on n images
    def looks(n, runs=2000):
        return torch.rand(runs, 30, n, generator=g).lt(0.5).double().mean(2)

    test, valid_ = looks(200), looks(200)
    # chosen on other images
    honest = test.gather(1, valid_.argmax(1, keepdim=True))[:, 0]
    # chosen on the test images
    flatter = test.amax(1)
    assert_close(honest.mean().item(), 0.5, eps=0.005)
    assert flatter.mean() > 0.56


class Forgetful(Checkpoint):
    "A checkpoint without one of its parts"

    def __init__(self, path, part):
        super().__init__(path, 0)
        self.part = part

    def restore(self, learner, tree):
        fresh, rng = copy.deepcopy(learner.opt.state_dict()), _get_rng(learner)
        super().restore(learner, tree)
        if self.part == "momentum":
            learner.opt.load_state_dict(fresh)
        if self.part == "random":
            _set_rng(learner, rng)
        if self.part == "batch":
            learner.batch = 0


def off(part):
    "Largest difference of a final weight"
    path = tmp / f"forget_{part}.safetensors"
    with contextlib.suppress(KeyboardInterrupt):
        train(Forgetful(path, part), Bomb("after_step", 6), epochs=3).fit()
    a, b = train(Forgetful(path, part), epochs=3).fit().model, train(epochs=3).fit().model
    return max((p - q).abs().max().item() for p, q in zip(a.parameters(), b.parameters()))


def test_each_part_of_a_checkpoint_matters():
    gap = {part: off(part) for part in ("nothing", "random", "momentum", "batch")}
    assert_eq(gap["nothing"], 0.0)
    assert min(v for k, v in gap.items() if k != "nothing") > 1e-5
