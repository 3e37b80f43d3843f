"""MLCAT: which losses keep their gradient, the code's scaling and weights by hand"""

import copy

import pytest
import torch
from torch import tensor
from torch.nn import functional as F

from spat_nb import Linf, SmallCNN, get_data, pgd, pgd_at, zoo
from spat_nb.core.rng import generator
from spat_nb.papers.mlcat import between, mlcat, scaled

x, y = get_data("digits", device="cpu").test.subset(40).tensors()
LOSSES = [0.3, 1.0, 2.0, 3.0]


def attack(model, x, y):
    "The same images each time"
    return pgd(Linf(0.15), 2, generator=generator(0))(model, x, y)


@pytest.fixture
def net():
    return zoo.load("digits/pgd_at/w16", "cpu").train()


def weights(rule):
    "d rule / d loss, for four losses"
    v = tensor(LOSSES, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(rule(v, None).sum(), v)[0].tolist()


def itself(v, y):
    return v


def codes(v, y):
    "As `train_step4_scale_15.py` writes it"
    rate = 1.5 / v
    above, below = (rate <= 1).to(v), (rate > 1).to(v)
    return v * (rate * below + above)


def test_which_losses_keep_their_gradient():
    assert weights(between(low=1.5, loss=itself)) == [0, 0, 1, 1]
    assert weights(between(high=1.5, loss=itself)) == [1, 1, 0, 0]
    assert weights(scaled(loss=itself)) == [0, 0, 1, 1]
    assert weights(scaled(detached=True, loss=itself)) == pytest.approx([5, 1.5, 1, 1])
    assert weights(codes) == pytest.approx([0, 0, 1, 1], abs=1e-12)
    v = tensor(LOSSES, dtype=torch.float64)
    assert torch.allclose(codes(v, None), scaled(loss=itself)(v, None))
    assert torch.allclose(codes(v, None), scaled(detached=True, loss=itself)(v, None))


def test_scaling_is_dropping(net):
    rules = (between(low=0.5), scaled(least=0.5))
    grads = []
    for rule in rules:
        m = copy.deepcopy(net)  # each pass moves batch norm's statistics
        loss = pgd_at(m, x, y, attack, loss=rule)
        grads.append(torch.autograd.grad(loss, list(m.parameters())))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*grads))
    assert any(g.abs().max() > 1e-4 for g in grads[0])


def test_a_loss_of_zero_gives_numbers():
    z = tensor([[200.0, 0.0]], requires_grad=True)
    for rule in (between(low=0.5), between(high=0.5), scaled(), scaled(detached=True)):
        g = torch.autograd.grad(rule(z, tensor([0])).sum(), z)[0]
        assert g.isfinite().all()
    v = tensor([0.0], requires_grad=True)
    assert torch.autograd.grad(scaled(detached=True, loss=itself)(v, None).sum(), v)[0].isfinite()


def by_hand(model, x_adv, y, least, steps, gamma, rate=0.01):
    "`WeightPerturb.calc_wp` of the code: two proxies, of which one takes a step of SGD"
    names = {k for k, p in model.named_parameters() if "weight" in k and p.ndim > 1}
    start = {k: p.detach().clone() for k, p in model.named_parameters()}
    total, far = {}, {k: torch.zeros_like(start[k]) for k in names}
    for _ in range(steps):
        proxy = copy.deepcopy(model)
        with torch.no_grad():
            for k, p in proxy.named_parameters():
                p.copy_(start[k] + gamma * far[k] if k in names else start[k])
        before = {k: p.detach().clone() for k, p in proxy.named_parameters()}
        v = F.cross_entropy(proxy(x_adv), y, reduction="none")
        opt = torch.optim.SGD(proxy.parameters(), lr=rate)
        (-(v * (v < least)).mean()).backward()
        opt.step()
        moved = {k: p.detach() - before[k] for k, p in proxy.named_parameters() if k in names}
        total = {k: total.get(k, 0) + d for k, d in moved.items()}
        size = torch.cat([start[k].flatten() for k in names]).norm()
        length = torch.cat([total[k].flatten() for k in names]).norm()
        far = {k: size / (length + 1e-20) * d for k, d in total.items()}
    return far


@pytest.mark.parametrize("steps", [1, 3])
def test_the_direction_is_the_codes(net, steps):
    net, xs = net.double(), x.double()
    x_adv = attack(net, xs, y)
    want = by_hand(net, x_adv, y, 0.5, steps, 0.05)
    mine = mlcat(0.5, steps, 0.05).direction(net, x_adv, y)
    assert {*mine} == {*want}
    assert all(torch.allclose(mine[k], want[k], atol=1e-8) for k in mine)
    sizes = [
        torch.cat([d.flatten() for d in t]).norm()
        for t in (mine.values(), [net.get_parameter(k) for k in mine])
    ]
    assert torch.allclose(*sizes)


def test_the_gradient_is_taken_at_the_moved_weights_and_used_at_the_old(net):
    rule, old = mlcat(0.5, 2, 0.05), {k: v.clone() for k, v in net.state_dict().items()}
    other = copy.deepcopy(net)
    loss = rule(net, x, y, attack)
    loss.backward()
    x_adv = attack(other, x, y)
    v = rule.direction(copy.deepcopy(other), x_adv, y)
    with torch.no_grad():
        for k, d in v.items():
            other.get_parameter(k).add_(0.05 * d)
    F.cross_entropy(other(x_adv), y).backward()
    pairs = zip(net.parameters(), other.parameters())
    assert all(torch.allclose(p.grad, q.grad, atol=1e-5) for p, q in pairs)
    assert all(torch.equal(p, old[k]) for k, p in net.named_parameters())
    # the passes that look for the direction leave batch norm's statistics alone
    for (k, b), (_, c) in zip(net.named_buffers(), other.named_buffers()):
        assert torch.allclose(b.double(), c.double(), atol=1e-4), k


def test_its_limits(net):
    at = pgd_at(copy.deepcopy(net), x, y, attack)
    assert torch.allclose(mlcat(gamma=0.0, steps=1)(copy.deepcopy(net), x, y, attack), at)
    assert torch.allclose(mlcat(steps=0)(copy.deepcopy(net), x, y, attack), at)
    # no loss is small: nothing moves
    v = mlcat(least=0.0, steps=2).direction(copy.deepcopy(net), x, y)
    assert not any(d.any() for d in v.values())


def test_the_direction_raises_small_losses():
    torch.manual_seed(0)
    net = SmallCNN(width=4).train()
    rule = mlcat(least=10.0, steps=1, gamma=1e-3)
    v = rule.direction(net, x, y)
    before = F.cross_entropy(net(x), y)
    with torch.no_grad():
        for k, d in v.items():
            net.get_parameter(k).add_(1e-3 * d)
    assert F.cross_entropy(net(x), y) > before
