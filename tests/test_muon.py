"""Muon as an optimiser slot: torch's own on matrices, a convolution as a matrix, all memory orders,
a run that goes on
"""

import copy

import pytest
import torch
from torch import nn

from spat_nb import Callback, Checkpoint, Learner, Recipe, SmallCNN, get_data, sgd, standard
from spat_nb.training.muon import muon

few = get_data("digits", device="cpu", batch_size=64).train.subset(160)


def stepped(weights, grads, opt, steps=3):
    "The weights after some steps with given gradients"
    weights = [nn.Parameter(w.clone()) for w in weights]
    made = opt(weights)
    for k in range(steps):
        for w, g in zip(weights, grads):
            w.grad = (k + 1) * g.clone()
        made.step()
    return [w.detach() for w in weights]


def drawn(*shapes):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=g) for s in shapes]


def test_a_matrix_is_torchs():
    w, g = drawn((6, 10), (6, 10))
    mine = stepped([w], [g], lambda p: muon(p, lr=0.1, share=0.3))[0]
    theirs = stepped([w], [g], lambda p: torch.optim.Muon(p, lr=0.1 * 0.3, weight_decay=0.1))[0]
    assert torch.equal(mine, theirs)


def test_a_convolution_is_a_matrix_of_its_channels():
    w, g = drawn((6, 3, 2, 2), (6, 3, 2, 2))
    flat = stepped([w.flatten(1)], [g.flatten(1)], lambda p: muon(p, lr=0.1))[0]
    for order in (torch.contiguous_format, torch.channels_last):
        laid = [w.contiguous(memory_format=order)], [g.contiguous(memory_format=order)]
        mine = stepped(*laid, lambda p: muon(p, lr=0.1))[0]
        assert torch.equal(mine.flatten(1), flat)


def test_the_rest_is_sgd():
    w, g = drawn((5,), (5,))
    mine, theirs = (stepped([w], [g], lambda p, f=f: f(p, lr=0.1))[0] for f in (muon, sgd))
    assert torch.equal(mine, theirs)


def test_a_step_is_nearly_a_rotation():
    "Whatever the gradient's singular values, those of the step are about one times the rate"
    u, v = (torch.linalg.qr(m).Q for m in drawn((8, 8), (8, 8)))
    g = u @ torch.diag(torch.logspace(0, -2, 8)) @ v.T
    step = stepped([torch.zeros(8, 8)], [g], lambda p: muon(p, lr=1.0, share=1.0), 1)[0]
    sizes = torch.linalg.svdvals(step)
    assert sizes.min() > 0.5 and sizes.max() < 1.3  # five steps of Newton and Schulz come that near


@pytest.mark.parametrize("kill", [1, 4])
def test_a_killed_run_goes_on(tmp_path, kill):
    def learner(*listeners):
        torch.manual_seed(0)
        more = dict(opt=muon, callbacks=listeners, precision="channels_last", lr=0.1)
        return Learner(SmallCNN(width=4), few, standard, epochs=2, **more)

    whole = learner().fit().model
    with pytest.raises(KeyboardInterrupt):
        learner(Stop(kill), Checkpoint(tmp_path / "c.safetensors", 0)).fit()
    again = learner(Stop(99), Checkpoint(tmp_path / "c.safetensors", 0)).fit().model
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters()))


class Stop(Callback):
    "Kills a run after a step"

    def __init__(self, step):
        self.step = step

    def after_step(self, learner):
        if learner.done == self.step:
            raise KeyboardInterrupt("killed")


def test_it_is_a_slot():
    assert Recipe(optimiser="muon(share=0.1)").optimiser == "muon(share=0.1)"
    net = SmallCNN(width=4)
    before = copy.deepcopy(net.state_dict())
    opt = Recipe(optimiser="muon").made("optimiser")(net.parameters(), lr=0.1)
    net(few.tensors()[0][:8]).sum().backward()
    opt.step()
    assert any(not torch.equal(v, before[k]) for k, v in net.state_dict().items())
    opt.zero_grad()
    assert all(p.grad is None for p in net.parameters())
