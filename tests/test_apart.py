"""APART: its two passes by hand, what an image remembers, lengths that go uphill, and a run that
goes on bit by bit
"""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb import Batches, Linf, PreActResNet10, SmallCNN, get_data, pgd_at
from spat_nb.attacks.attack import fgsm
from spat_nb.models.between import at_inputs
from spat_nb.papers.apart import APART, inner_layers
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.events import Callback
from spat_nb.training.fast import Replay
from spat_nb.training.learner import Learner

BALL = Linf(0.15)
data = get_data("digits", device="cpu", batch_size=32, n=80)


def net(seed=0):
    torch.manual_seed(seed)
    return SmallCNN(width=4)


def learner(rule, *more, epochs=2, train=data.train):
    return Learner(net(), train, rule, fgsm(BALL), epochs, 0.1, callbacks=[rule, *more], seed=1)


def through(m, x, extra):
    "Logits, and the inputs of the inner convolutions, to which `extra` was added"
    h, inputs = m.normalize(x), []
    for k, layer in enumerate(m.body):
        if isinstance(layer, nn.Conv2d) and k:
            h = h + extra[len(inputs)]
            inputs.append(h)
        h = layer(h)
    return m.head(h.mean((2, 3))), inputs


def by_hand(m, x, y, memory, a, w, b):
    "Loss of the second pass, the sign of its gradient to the pixels, and d loss / d (a, w)"
    eps = BALL.eps
    start = (x + eps * w * memory).clamp(x - eps, x + eps).clamp(0, 1).requires_grad_()
    m.eval()
    z, inputs = through(m, start, [0.0, 0.0])
    g, *inner = torch.autograd.grad(F.cross_entropy(z, y), [start, *inputs])
    m.train()
    lengths = torch.tensor([a, w], dtype=x.dtype, requires_grad=True)
    d = eps * (lengths[1] * memory + lengths[0] * g.sign())
    shown = (x + d.clamp(-eps, eps)).clamp(0, 1)
    loss = F.cross_entropy(through(m, shown, [eps * v * s.sign() for v, s in zip(b, inner)])[0], y)
    g2, up = torch.autograd.grad(loss, [shown, lengths], retain_graph=True)
    return loss, g2.sign(), up


@pytest.mark.parametrize(
    "a,w,b", [(0.5, 0.3, (0.2, 0.1)), (1.2, 0.0, (0.0, 0.0)), (0.4, 0.7, (0.1, 0.0))]
)
def test_a_step_by_hand(a, w, b):
    rule = APART(BALL, a, w, lr=0.01)
    run = learner(rule)
    rule.before_fit(run)
    rule.memory = torch.rand(data.train.n, 1, 8, 8) * 2 - 1
    rule.lengths[2:] = torch.tensor(b)
    x, y = next(data.train.epoch(0))
    rule.before_step(run)
    kept, which = rule.memory.clone(), run.indices
    other = copy.deepcopy(run.model)
    mine = rule(run.model.train(), x, y)
    want, g2, up = by_hand(other, x, y, kept[which], a, w, b)
    assert torch.allclose(mine, want, atol=1e-6)
    mine.backward()
    want.backward()
    pairs = zip(run.model.parameters(), other.parameters())
    assert all(torch.allclose(p.grad, q.grad, atol=1e-5) for p, q in pairs)
    rule.after_step(run)
    new = kept[which] + (a / w * g2 if w else 1e9 * g2)
    assert torch.allclose(rule.memory[which], new.clamp(-1, 1), atol=1e-5)
    rest = torch.ones(data.train.n, dtype=torch.bool).index_fill(0, which, False)
    assert torch.equal(rule.memory[rest], kept[rest]) and len(which) == 32
    rate = 0.01 * run.opt.param_groups[0]["lr"] / 0.1
    old = torch.tensor([a, w])
    assert torch.allclose(rule.lengths[:2], old + rate * (up - 0.4 * old), atol=1e-6)


def test_each_image_meets_its_own_memory():
    class Look(Callback):
        def __init__(self):
            self.seen = []

        def before_step(self, learner):
            self.seen.append(learner.indices)
            assert torch.equal(learner.x, data.train.tensors()[0][learner.indices])

    rule, look = APART(BALL, lr=0.0), Look()
    learner(rule, look, epochs=1).fit()
    assert sorted(torch.cat(look.seen).tolist()) == [*range(data.train.n)]
    assert (rule.memory.abs() == 1).float().mean() > 0.5  # a / w is large: signs
    assert torch.equal(rule.lengths, torch.tensor([0.5, 0.003, 0.0, 0.0]))  # frozen


class Killed(Exception):
    "In the middle of a run"


class Kill(Callback):
    def __init__(self, step):
        self.step = step

    def before_step(self, learner):
        if learner.done == self.step:
            raise Killed


@pytest.mark.parametrize("step", [2, 4])
def test_a_killed_run_goes_on_bit_by_bit(tmp_path, step):
    rule = APART(BALL)
    whole = learner(rule).fit()
    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        learner(APART(BALL), Checkpoint(path, 0), Kill(step)).fit()
    torn = APART(BALL)
    again = learner(torn, Checkpoint(path, 0)).fit()
    assert torch.equal(torn.memory, rule.memory) and torch.equal(torn.lengths, rule.lengths)
    states = zip(whole.model.state_dict().values(), again.model.state_dict().values())
    assert all(torch.equal(u, v) for u, v in states) and whole.history == again.history
    with pytest.raises(ValueError, match="another"):
        learner(APART(BALL, lr=0.5), Checkpoint(path, 0)).fit()


def test_what_it_refuses():
    moved = data.train.with_(augment=lambda x, g: x)
    with pytest.raises(ValueError, match="augment=None"):
        learner(APART(BALL), train=moved).fit()
    with pytest.raises(ValueError, match="train is a Replay"):
        learner(APART(BALL), train=Replay(data.train, 2)).fit()


def test_indices_are_those_of_the_batch_that_comes_next():
    run = learner(pgd_at_listener := APART(BALL), epochs=3)
    run.epoch, run.batch = 2, 1
    x, _ = next(data.train.epoch(2, 1))
    assert torch.equal(data.train.tensors()[0][run.indices], x) and pgd_at_listener is not pgd_at
    assert isinstance(data.train, Batches)


def test_inner_layers_and_what_they_get():
    m = PreActResNet10(width=4)
    assert len(inner_layers(m)) == 4 and len(inner_layers(net())) == 2
    x = torch.rand(2, 1, 8, 8)
    small = net().eval()
    plain = small(x)
    for change, same in ((lambda k, h: None, True), (lambda k, h: h + k, False)):
        with at_inputs(inner_layers(small), change):
            assert torch.equal(small(x), plain) is same
    with nullcontext():
        assert torch.equal(small(x), plain)  # no hook is left behind
