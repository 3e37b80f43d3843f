"""Compiled networks train as the others do: the same losses, in whole graphs, and no attack pays
for gradients of weights. Traced by `aot_eager`, which needs no C++ compiler
"""

import importlib
from dataclasses import replace

import pytest
import torch
from counters import Wasted
from placement_worker import QUICK
from test_study import CPU, few
from torch import nn

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import Linf
from spat_nb.core import precision as precision_room
from spat_nb.core.precision import fast
from spat_nb.models.networks import SmallCNN
from spat_nb.papers.spat_shared import class_grads
from spat_nb.studies import work
from spat_nb.studies.job import Job
from spat_nb.training import building, fit, learner
from spat_nb.training.fit import Passes
from spat_nb.training.tricks import in_train


@pytest.fixture
def traced(monkeypatch):
    "Compile without a compiler; whoever would go on uncompiled fails"
    own = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self: own(self, backend="aot_eager", fullgraph=True)
    )
    monkeypatch.setattr(precision_room, "compiler", lambda device: "none needed")
    # they outlive a reset
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch.compiler.reset()


def losses(name, folder, monkeypatch, compiled):
    study, arm = name.split(": ", 1)
    module = importlib.import_module(f"spat_nb.studies.{study}")
    monkeypatch.setattr(building, "get_data", few)
    monkeypatch.setattr(
        learner, "fast", lambda model, precision, _: fast(model, precision, compiled)
    )
    # the Learner is not told that its network is compiled: so its passes are not to be counted
    monkeypatch.setattr(fit, "Passes", lambda **_: Passes(counts=not compiled))
    job = Job(
        replace(module.study, sizes={"laptop": dict(epochs=2, steps=2)}),
        arm,
        "laptop",
        0,
        CPU,
        quiet=True,
    )
    (folder / str(compiled)).mkdir()
    monkeypatch.setenv("SPAT_NB_RESULTS", str(folder / str(compiled)))
    job.work.mkdir(parents=True)
    try:
        torch.set_default_dtype(torch.float64)
        return [r["loss"] for r in (job.arm.train(job) if job.arm.train else work.learn(job))[1]]
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_arms_train_alike_one_after_the_other(traced, tmp_path, monkeypatch):
    """All in one process, as `study run` has them: the compiler's cache has room for more than its
    usual 8 graphs
    """
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    # these two take as long as all others
    for i, name in enumerate(n for n in QUICK if "FRL" not in n and "transfer" not in n):
        (folder := tmp_path / str(i)).mkdir()
        with monkeypatch.context() as m:
            a, b = (losses(name, folder, m, compiled) for compiled in (False, True))
        # in float64: an attack that begins beside the clean image, as that of TRADES does, follows
        # the signs of gradients that float32 rounds to noise, on another processor to other noise
        assert a == pytest.approx(b, rel=1e-9), name
    assert traced["stats"]["unique_graphs"] > 8


@pytest.mark.parametrize("name", ["pgd", "in train", "autoattack", "class_grads"])
def test_no_attack_pays_for_weights(name, traced, monkeypatch):
    ball, wasted, grad = Linf(0.1), Wasted(), torch.autograd.grad
    attack = {
        "pgd": pgd(ball, 2),
        "in train": in_train(pgd(ball, 2)),
        "autoattack": autoattack(ball, steps=2, targets=1, queries=2),
        "class_grads": lambda m, x, y: class_grads(m, x),
    }[name]
    torch.manual_seed(0)
    net, x = fast(SmallCNN(width=4), "channels_last", compile=True), torch.rand(4, 1, 8, 8)
    y = net.eval()(x).argmax(1)

    def counted(*a, **kw):
        with wasted:
            return grad(*a, **kw)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    attack(net, x, y)
    assert (
        wasted.n == 0
        and traced["stats"]["unique_graphs"]
        and all(p.requires_grad for p in net.parameters())
    )
    monkeypatch.setattr(torch.autograd, "grad", grad)
    u = x.detach().requires_grad_()
    z = net(u).sum()
    with wasted:
        torch.autograd.grad(z, u)
    # the counter counts, where nobody takes care
    assert wasted.n


@pytest.mark.filterwarnings("ignore:this CPU has no bfloat16")
def test_bfloat16_compiled(traced):
    """Autocast inside the graph: as near to float32 as without the compiler, and pixels get float32
    gradients
    """
    torch.manual_seed(0)
    net, x = SmallCNN(width=4).eval(), torch.rand(4, 1, 8, 8)
    want, plain, comp = net(x), fast(net)(x), fast(net, compile=True)
    assert (
        comp(x).dtype == torch.float32
        and (comp(x) - want).abs().max() <= 2 * (plain - want).abs().max()
        and not torch.equal(comp(x), want)
    )
    out = pgd(Linf(0.1), 2)(comp, x, want.argmax(1))
    assert out.dtype == torch.float32 and traced["stats"]["unique_graphs"]


def test_float32_compiled_is_a_wrapper(traced):
    """A bare nn.Sequential is compiled too, and the reader's own network is left as it was:
    uncompiled, in its own memory order
    """
    torch.manual_seed(0)
    net, x = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)).eval(),
        torch.rand(4, 3, 8, 8),
    )
    order, want = net[0].weight.stride(), net(x)
    comp = fast(net, "float32", compile=True)
    assert torch.equal(comp(x), want) and traced["stats"]["unique_graphs"] == 1
    assert (
        net._compiled_call_impl is None
        and net[0].weight.stride() == order
        and net[0].weight.is_contiguous()
    )
