"""Free-AT and Fast-AT against loops by hand, killed runs, and what a sentry says"""

import contextlib
import copy
import io
import tempfile
import types
from unittest import mock

import torch
from asserting import assert_close, assert_eq, assert_fails
from torch import nn
from torch.nn import functional as F

from spat_nb import Callback, Checkpoint, Learner, Linf, SmallCNN, fgsm_rs, get_data, sgd, standard
from spat_nb.attacks.gradients import clip
from spat_nb.core.rng import generator
from spat_nb.training.fast import Free, Replay, Sentry

few = get_data("digits", device="cpu", batch_size=64).train.subset(160)  # batches of 64, 64 and 32


def test_replayed_batches_from_anywhere():
    class Numbers:
        "Five batches, which are numbers"

        n, seed = 10, 3

        def __len__(self):
            return 5

        def epoch(self, e=0, start=0):
            return iter([(i + 10 * e, i) for i in range(start, 5)])

    whole = list(Replay(Numbers(), 3).epoch(1))
    assert_eq([a for a, _ in whole], [k for k in range(10, 15) for _ in range(3)])
    assert_eq((len(Replay(Numbers(), 3)), Replay(Numbers(), 3).n), (15, 30))
    # from anywhere
    for start in range(16):
        assert_eq(list(Replay(Numbers(), 3).epoch(1, start)), whole[start:])
    assert_eq(list(Replay(Numbers(), 1).epoch()), list(Numbers().epoch()))
    assert_fails(lambda: Replay(Numbers(), 0), contains="m is 0")


def tiny(seed=0):
    torch.manual_seed(seed)
    return SmallCNN(width=4)


def free_by_hand(model, train, eps, m, epochs, lr):
    "Weights and perturbation after `epochs` passes"
    opt, noise = sgd(model.parameters(), lr=lr), torch.zeros(64, 1, 8, 8)
    for e in range(epochs):
        for x, y in train.epoch(e):
            for _ in range(m):
                d = noise[: len(x)].clone().requires_grad_()
                opt.zero_grad()
                F.cross_entropy(model(clip(x + d)), y).backward()
                noise[: len(x)] = (d.detach() + eps * d.grad.sign()).clamp(-eps, eps)
                opt.step()
    return model, noise


def always(t):
    return 1.0


def free_run(eps=0.15, m=3, *listeners, seed=0):
    free = Free(Linf(eps))
    learner = Learner(
        tiny(seed),
        Replay(few, m),
        free,
        epochs=2,
        lr=0.05,
        schedule=always,
        precision="float32",
        callbacks=[free, *listeners],
    ).fit()
    return learner.model, free.d


def equal(a, b):
    return all(torch.equal(s, t) for s, t in zip(a.state_dict().values(), b.state_dict().values()))


class Bomb(Callback):
    def __init__(self, step):
        self.step = step

    def after_step(self, learner):
        if learner.done == self.step:
            raise KeyboardInterrupt


def test_free_is_the_loop_by_hand():
    (hand, noise), (ours, d) = free_by_hand(tiny(), few, 0.15, 3, 2, 0.05), free_run()
    assert (
        equal(hand, ours)
        and torch.equal(noise, d)
        and d.abs().max() <= 0.15
        and (d.abs() == 0.15).float().mean() > 0.5
    )
    plain = (
        Learner(
            tiny(),
            Replay(few, 3),
            standard,
            epochs=2,
            lr=0.05,
            schedule=always,
            precision="float32",
        )
        .fit()
        .model
    )
    assert equal(free_run(eps=0.0)[0], plain)
    assert_eq(
        next(b for b in ours.modules() if isinstance(b, nn.BatchNorm2d)).num_batches_tracked.item(),
        2 * 3 * 3,
    )


def test_free_goes_on_after_a_kill_between_replays():
    ours, d = free_run()
    with tempfile.TemporaryDirectory() as tmp:
        # between replays, in the short batch, in the second epoch
        for step in (2, 8, 10):
            path = f"{tmp}/{step}.safetensors"
            with contextlib.suppress(KeyboardInterrupt):
                free_run(0.15, 3, Checkpoint(path, 0), Bomb(step))
            # other first weights: they must come from the file
            again_, d_ = free_run(0.15, 3, Checkpoint(path, 0), seed=9)
            assert equal(again_, ours) and torch.equal(d_, d), step
    assert_fails(
        lambda: Learner(tiny(), few, Free(Linf(0.1)), precision="float32").fit(),
        contains="must also listen",
    )


def test_where_fast_at_ends():
    grey, label = torch.full((400, 1, 8, 8), 0.5), torch.zeros(400, dtype=torch.long)

    class Dark(nn.Module):
        "The darker, the more it is class 0"

        def forward(self, x):
            m = x.flatten(1).mean(1)
            return torch.stack([-m, m], 1)

    moved = (fgsm_rs(Linf(0.1), generator=generator(0))(Dark(), grey, label) - grey) / 0.1
    # five deviations of 25,600 pixels
    assert_close(moved.mean().item(), 55 / 64, eps=0.008)
    assert_close((moved > 0.9999).float().mean().item(), 5 / 8, eps=0.016)
    assert_close(moved.min().item(), 0.25, eps=0.01)
    assert Linf(0.1).inside(grey + 0.1 * moved, grey).all()
    copy.deepcopy(Dark())
    # as the official code writes it
    x1 = grey + Linf(0.1).noise(grey, generator(4))
    theirs_ = (grey + (x1 - grey + 0.125 * 1.0).clamp(-0.1, 0.1)).clamp(0, 1)
    assert_close(fgsm_rs(Linf(0.1), generator=generator(4))(Dark(), grey, label), theirs_, eps=1e-6)


def played(pairs, drop=0.2):
    "What Sentry does when the looks are (robust, weak)"
    sentry = Sentry(None, None, drop)
    net = nn.Linear(1, 1, bias=False)

    class Fake:
        model, history, stop, done, total, precision = net, [], False, 0, len(pairs), "float32"

    for l_robust, l_weak in pairs:
        Fake.done += 1
        Fake.history.append(dict(robust=l_robust))
        net.weight.data.fill_(Fake.done)
        with (
            mock.patch.dict(
                Sentry.after_validate.__globals__,
                evaluate=lambda *a, **k: types.SimpleNamespace(accuracy=lambda name: l_weak),
            ),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            sentry.after_validate(Fake)
        if Fake.stop:
            break
    return Fake.stop, Fake.done, net.weight.item(), sentry.caught


def test_what_a_sentry_says_to_four_histories():
    stop, done, weight, text = played([(0.2, 0.4), (0.5, 0.6), (0.45, 0.7), (0.1, 0.9), (0.6, 0.9)])
    assert_eq((stop, done, weight), (True, 4, 2.0))
    assert text.startswith(
        "catastrophic overfitting at step 4 of 5: robust accuracy 0.500 -> 0.100, under the"
        " training"
        " attack 0.600 -> 0.900; the weights of step 2"
    )
    assert_eq(played([(0.5, 0.6), (0.1, 0.2), (0.5, 0.6)])[:2], (False, 3))  # both fell
    assert_eq(played([(0.5, 0.6), (0.35, 0.9)])[:2], (False, 2))  # not far enough
    assert_eq(played([(0.3, 0.4), (0.2, 0.5), (0.6, 0.7), (0.35, 0.75)])[:3], (True, 4, 3.0))
    assert_fails(lambda: Sentry(None, None, 0.0), contains="drop is 0.0")


def test_the_recorded_run_is_stopped_at_its_last_look():
    looks = [
        dict(zip(("epoch", "loss", "weak", "robust"), row))
        for row in (
            (2, 2.249, 0.183, 0.025),
            (4, 1.590, 0.408, 0.158),
            (6, 1.131, 0.508, 0.208),
            (8, 0.716, 0.717, 0.192),
            (10, 0.423, 0.842, 0.200),
            (12, 0.205, 0.875, 0.033),
        )
    ]
    stop, done, weight, text = played([(r["robust"], r["weak"]) for r in looks], drop=0.15)
    # at the last look; the weights of the third are back
    assert_eq((stop, done, weight), (True, 6, 3.0))
