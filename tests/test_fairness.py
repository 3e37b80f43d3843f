"""Recipes for the weakest class keep what they promise for any number of classes, and go on bit for
bit after a kill
"""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.attacks.ascent import at_x, gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.attacks.losses import margin
from spat_nb.classwise.accounts import class_errors, rho
from spat_nb.classwise.averages import FAWA
from spat_nb.classwise.fairness import CFA, DAFA, CFATrades, dafa_weights
from spat_nb.classwise.heads import biased, fit_bias, normalised
from spat_nb.classwise.minmax import CFOL, FRL, WAT
from spat_nb.classwise.radii import T1, resized
from spat_nb.data.batches import Batches
from spat_nb.data.sources import get_data
from spat_nb.models.networks import SmallCNN
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.events import Callback
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at


def toy(n=120, c=4, side=4, seed=0):
    "Noisy prototypes of `c` classes as bytes, the last class hard: it lies near the first"
    g = torch.Generator().manual_seed(seed)
    proto = torch.rand(c, 1, side, side, generator=g)
    proto[-1] = 0.7 * proto[0] + 0.3 * proto[-1]
    y = torch.arange(n) % c
    x = (proto[y] + 0.15 * torch.randn(n, 1, side, side, generator=g)).clamp(0, 1)
    return Batches((x * 255).round().byte(), y, tuple("abcdefgh"[:c]), 30, True)


def linear(data, seed=0):
    torch.manual_seed(seed)
    m = nn.Sequential()
    m.add_module("flat", nn.Flatten())
    m.add_module("head", nn.Linear(data.x[0].numel(), data.c))
    m.forward = lambda x: m.head(m.flat(x))
    return m


@pytest.fixture(scope="module")
def trained():
    "digits and a PGD-AT network"
    data = get_data("digits", device="cpu", batch_size=64)
    torch.manual_seed(0)
    return (
        data,
        Learner(
            SmallCNN(width=8),
            data.train,
            pgd_at,
            pgd(Linf(0.15), 3),
            5,
            lr=0.1,
            precision="float32",
        )
        .fit()
        .model.eval(),
    )


def test_mixed_radii_are_what_each_image_gets_alone(trained):
    data, m = trained
    x, y = (t[:12] for t in data.test.tensors())
    v = torch.linspace(0, 2, 12)
    x_adv = resized(pgd(Linf(0.1), 4, start=at_x), v)(m, x, y)
    alone = torch.cat(
        [
            pgd(Linf(0.1 * s), 4, start=at_x)(m, x[i : i + 1], y[i : i + 1])
            for i, s in enumerate(v.tolist())
        ]
    )
    assert (x_adv - alone).abs().max() < 1e-6 and torch.equal(x_adv[0], x[0])
    assert (
        (resized(pgd(Linf(0.1), 4), v)(m, x, y) - x).flatten(1).abs().amax(1) <= 0.1 * v + 1e-6
    ).all()
    with pytest.raises(TypeError, match="made for Linf"):
        resized(pgd(L2(1.0)), v)


MAKE = {
    "t1": lambda t, v: T1(v),
    "cfa": lambda t, v: CFA(t.c),
    "cfa trades": lambda t, v: CFATrades(t.c),
    "wat": lambda t, v: WAT(v),
    "dafa": lambda t, v: DAFA(t.c, 2, 0.3),
    "frl": lambda t, v: FRL(v),
    "cfol": lambda t, v: CFOL(t, eta=0.05),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("c", (3, 5))
def test_any_number_of_classes_and_a_killed_run(name, c, tmp_path):
    """Every recipe trains with K != 10, changes something about its classes, and a run that was
    killed ends bit for bit as the other
    """

    def run(epochs_now, path):
        train, valid = toy(c=c), toy(60, c, seed=1)
        m = MAKE[name](train, valid)
        model = linear(train)

        class Cut(Callback):
            order, onlooker = 2, True  # no part of the run: a kill

            def after_epoch(self, learner):
                learner.stop = learner.epoch >= epochs_now

        learner = Learner(
            model,
            m if name == "cfol" else train,
            m,
            pgd(Linf(0.1), 2, start=gaussian()),
            4,
            lr=0.1,
            callbacks=[m, Checkpoint(path, every=1e9), FAWA(start=99), Cut()],
            precision="float32",
        )
        if path.exists():
            learner.callbacks[-1].after_epoch = lambda learner: None
        return learner.fit(), m

    whole, a = run(4, tmp_path / "a.safetensors")
    assert all(math.isfinite(r["loss"]) for r in whole.history)
    memory = torch.cat([t.flatten() for t in a.state().values()]).double()
    assert memory.isfinite().all() and memory.std() > 0
    first, _ = run(2, tmp_path / "b.safetensors")
    assert first.epoch == 2
    second, b = run(4, tmp_path / "b.safetensors")
    assert all(
        torch.equal(p, q) for p, q in zip(whole.model.parameters(), second.model.parameters())
    )
    assert all(torch.equal(p, q) for p, q in zip(a.state().values(), b.state().values()))


@settings(max_examples=40, deadline=None)
@given(c=st.integers(2, 20), seed=st.integers(0, 99))
def test_weights_keep_their_promises(c, seed):
    g = torch.Generator().manual_seed(seed)
    valid = SimpleNamespace(c=c)
    S = (3 * torch.rand(c, c, generator=g)).softmax(1)
    assert abs(dafa_weights(S, 0.1).sum().item() - c) < 1e-4
    frl = FRL(valid)
    for e in torch.rand(20, 2, c, generator=g):
        frl.update(e)
    assert (
        (frl.w.sum(1) - 1).abs().max() < 1e-5
        and (frl.w > 0).all()
        and (frl.v >= 0.98).all()
        and (frl.v <= 3).all()
    )
    cfol = CFOL(toy(60, min(c, 8)))
    cfol.w = 30 * torch.randn(min(c, 8), generator=g)
    assert abs(cfol.q.sum().item() - 1) < 1e-5 and (cfol.q >= 0.5 / len(cfol.w) - 1e-6).all()
    t1 = T1(valid)
    for R in torch.rand(20, c, generator=g):
        t1.update(R)
    assert (t1.tau >= 0.5).all() and (t1.tau <= 2).all()


def test_heads(trained):
    data, m = trained
    x, y = data.valid.tensors()
    kept = [p.clone() for p in m.parameters()]
    n = normalised(m, 1.0).head.weight.norm(dim=1)
    torch.testing.assert_close(n, m.head.weight.norm(dim=1).mean().expand(10))
    assert torch.equal(normalised(m, 0.0)(x), m(x))
    a = pgd(Linf(0.15), 4, loss=margin, start=at_x)
    b = fit_bias(m, data.valid, a, 4)
    s = [1 - class_errors(k, data.valid, a).sum(0) for k in (m, biased(m, b))]
    assert s[1].mean() + s[1].min() >= s[0].mean() + s[0].min()  # 0 is among the biases
    assert all(torch.equal(p, q) for p, q in zip(kept, m.parameters()))


def test_bad_input():
    with pytest.raises(ValueError, match="divides by both"):
        rho(0.5, 0.1, 0.0, 0.1)
    with pytest.raises(ValueError, match="nothing was averaged"):
        FAWA().restore(None)
