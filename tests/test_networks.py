"""Layers and networks: closed forms, parameter counts, what an attack needs of a network, and the
two slots
"""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb.data.sources import get_data
from spat_nb.models.layers import (
    CIFAR,
    DIGITS,
    Normalize,
    PreActBlock,
    activation,
    conv,
)
from spat_nb.models.net import ARCHITECTURES, Net, architecture, count
from spat_nb.models.networks import (
    PreActResNet10,
    PreActResNet18,
    PreActResNet34,
    SmallCNN,
    WideResNet,
)


def near(a, b, eps=1e-5):
    torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=eps)


MU, SIGMA = torch.tensor([0.5, 0.5, 0.4]), torch.tensor([0.25, 0.25, 0.2])


# ---- normalisation
def test_normalize_by_hand():
    norm, x = Normalize(3, MU, SIGMA), torch.tensor([1.0, 0.5, 0.2])
    near(norm(x.view(1, 3, 1, 1)).flatten(), (x - MU) / SIGMA)
    xs = torch.rand(2, 3, 4, 4)
    near(norm(xs), torch.stack([(xs[:, c] - MU[c]) / SIGMA[c] for c in range(3)], 1))
    # one number serves all channels
    grey = torch.full((1, 3, 1, 1), 0.75)
    assert torch.equal(Normalize(3, 0.5, 0.25)(grey), torch.ones(1, 3, 1, 1))
    assert torch.equal(Normalize(3).mean.flatten(), torch.tensor(CIFAR[0]))
    assert abs(Normalize(1).std.item() - DIGITS[1]) < 1e-6


def test_normalize_takes_the_dtype_of_the_weights_and_is_not_trained():
    norm, xs = Normalize(3, MU, SIGMA), torch.rand(2, 3, 4, 4)
    for dtype in (torch.float64, torch.bfloat16):
        assert copy.deepcopy(norm).to(dtype)(xs).dtype == dtype
    assert len(list(norm.parameters())) == 0 and sorted(norm.state_dict()) == ["mean", "std"]


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda: Normalize(3)(torch.rand(2, 1, 4, 4)),
            "images have 1 channels but the network was made for 3",
        ),
        (lambda: Normalize(3, (0.5, 0.5)), "mean has 2 values"),
        (lambda: Normalize(1, 0.5, 0.0), "std is 0.0"),
        *[(lambda d=d: WideResNet(d), "10, 16, 22, 28") for d in (4, 27, 30)],
    ],
)
def test_one_sentence_where_something_does_not_fit(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_normalised_outside_a_radius_is_another_and_pixels_leave_the_box():
    eps, g = 8 / 255, torch.Generator().manual_seed(0)
    mu, sigma = (torch.tensor(v).view(1, 3, 1, 1) for v in CIFAR)
    x = torch.rand(64, 3, 32, 32, generator=g)
    x[:, :, :4] = 0.0  # some black pixels
    sign = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).sign()
    moved = ((x - mu) / sigma + eps * sign) * sigma + mu
    near((moved - x).abs().amax((0, 2, 3)) / eps, sigma.flatten(), 1e-4)
    assert ((moved < 0) | (moved > 1)).float().mean() > 0.05


# ---- the activation slot
class PerChannel(nn.Module):
    "y = x * w with a weight per channel"

    def __init__(self, channels, start=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), start))

    def forward(self, x):
        return x * self.weight


def test_a_factory_gets_the_channels_only_if_it_requires_them():
    assert activation(nn.ReLU, 16).inplace is False  # and not 16
    assert type(activation(nn.SiLU, 16)) is nn.SiLU
    assert activation(nn.PReLU, 16).num_parameters == 1
    assert activation(lambda c: nn.PReLU(c), 16).num_parameters == 16
    assert activation(partial(nn.LeakyReLU, negative_slope=0.2), 16).negative_slope == 0.2
    assert activation(PerChannel, 16).weight.shape == (16, 1, 1)
    near(activation(partial(PerChannel, start=2.0), 16).weight.mean(), torch.tensor(2.0))
    # fixed by the partial: nothing is required any more
    assert activation(partial(PerChannel, channels=1), 16).weight.shape == (1, 1, 1)
    assert activation(nn.ReLU, 16) is not activation(nn.ReLU, 16)


@pytest.mark.parametrize("bad", [nn.ReLU(), F.relu, torch.relu, "relu", None, abs])
def test_what_is_no_factory(bad):
    with pytest.raises(TypeError, match="give a factory, such as nn.ReLU"):
        activation(bad, 16)


def test_an_inplace_activation_overwrites_what_a_hook_kept():
    def recorded(act):
        torch.manual_seed(0)
        net, kept = SmallCNN(act=act).eval(), []
        net.body[1].register_forward_hook(lambda m, args, out: kept.append(out))
        net(torch.rand(4, 1, 8, 8))
        return kept[0]

    honest, over = recorded(nn.ReLU), recorded(lambda c: nn.ReLU(c))
    assert (honest < 0).any() and not (over < 0).any() and torch.equal(honest.relu(), over)


# ---- first weights
def test_first_weights_are_normal_with_the_variance_of_the_backward_pass():
    w = conv(64, 128, 3).weight
    assert abs(w.std().item() - (2 / (9 * 128)) ** 0.5) < 1e-3 and abs(w.mean().item()) < 1e-3
    assert conv(2, 4, 3, 2)(torch.rand(1, 2, 9, 9)).shape == (1, 4, 5, 5)
    assert conv(2, 4, 1)(torch.rand(1, 2, 9, 9)).shape == (1, 4, 9, 9)
    assert conv(2, 4).bias is None


def test_a_gradient_keeps_its_size_through_twenty_layers():
    def first(make):
        torch.manual_seed(0)
        x = h = torch.randn(8, 64, 12, 12, requires_grad=True)
        for _ in range(20):
            h = make(64, 64)(h).relu()
        g = torch.randn_like(h)
        (v,) = torch.autograd.grad(h, x, g)
        return (v.pow(2).mean() / g.pow(2).mean()).sqrt()

    assert 0.2 < first(conv) < 2
    assert first(lambda i, o: nn.Conv2d(i, o, 3, padding=1, bias=False)) < 1e-7


def test_behind_batch_normalisation_a_factor_divides_the_gradient():
    torch.manual_seed(0)
    c, norm = conv(4, 4).double(), nn.BatchNorm2d(4, eps=1e-12).double()
    h = torch.randn(8, 4, 6, 6).double()

    def loss(w):
        return norm(F.conv2d(h, w, padding=1)).pow(3).mean()

    large = (10 * c.weight).detach().requires_grad_()
    near(loss(large), loss(c.weight), 1e-9)
    near(
        torch.autograd.grad(loss(large), large)[0],
        torch.autograd.grad(loss(c.weight), c.weight)[0] / 10,
        1e-9,
    )


# ---- the block
def bn(v, m):
    return F.batch_norm(v, m.running_mean, m.running_var, m.weight, m.bias)


def test_the_block_is_its_formula_and_without_conv2_the_identity():
    b, h = PreActBlock(4, 4).eval(), torch.randn(2, 4, 6, 6)
    near(b(h), h + b.conv2(bn(b.conv1(bn(h, b.bn1).relu()), b.bn2).relu()))
    nn.init.zeros_(b.conv2.weight)
    assert torch.equal(b(h), h)
    v = h.clone().requires_grad_()
    (g,) = torch.autograd.grad(b(v).sum(), v)
    assert torch.equal(g, torch.ones_like(g))


def test_a_shortcut_that_changes_shape_starts_behind_the_activation():
    c, h = PreActBlock(4, 8, 2).eval(), torch.randn(2, 4, 6, 6)
    nn.init.zeros_(c.conv2.weight)
    assert c(torch.randn(2, 4, 7, 7)).shape == (2, 8, 4, 4)
    near(c(h), F.conv2d(bn(h, c.bn1).relu(), c.short.weight, stride=2))
    shortcuts = [PreActBlock(*a).short is None for a in ((4, 4), (4, 8), (4, 4, 2))]
    assert shortcuts == [True, False, False]


# ---- the frame
def test_features_head_and_logits():
    body = nn.Sequential(conv(1, 3), nn.ReLU())
    net, xs = Net(body, 3, classes=5, channels=1), torch.rand(2, 1, 6, 6)
    near(net.features(xs), body(net.normalize(xs)).mean((2, 3)))
    assert net.features(xs).shape == (2, 3) and net(xs).shape == (2, 5)
    near(net(xs), net.features(xs) @ net.head.weight.T + net.head.bias)
    assert count(net) == 9 * 3 + 3 * 5 + 5 and repr(net) == "Net(): 47 parameters"
    # a shared layer counts once
    assert count(nn.Sequential(layer := nn.Linear(2, 2), layer)) == 6

    def two_layers(d, c):
        return nn.Sequential(nn.Linear(d, 7), nn.Linear(7, c))

    assert type(Net(body, 3, 5, two_layers, 1).head) is nn.Sequential
    with pytest.raises(TypeError, match=r"head=Linear\(in_features=3"):
        Net(body, 3, 5, head=nn.Linear(3, 5))


def test_an_architecture_keeps_its_arguments():
    @architecture
    def Toy(width: int = 2, act=nn.ReLU):
        return Net(nn.Sequential(conv(3, width), activation(act, width)), width)

    assert Toy(4).config == {"name": "Toy", "width": 4, "act": nn.ReLU}
    assert Toy(act=nn.SiLU).config["width"] == 2
    said = "Toy(width=4, act=ELU(alpha=0.5)): 158 parameters"
    assert repr(Toy(4, partial(nn.ELU, alpha=0.5))) == said
    assert count(Toy(4)) == 27 * 4 + 4 * 10 + 10
    assert ARCHITECTURES.pop("Toy") is Toy
    with pytest.raises(TypeError, match="depth"):
        Toy(depth=3)


# ---- the small network
def small_count(chs, classes):
    return sum(9 * i * o + 2 * o for i, o in zip(chs, chs[1:])) + chs[-1] * classes + classes


def test_the_small_network_halves_until_the_side_is_2():
    assert count(SmallCNN()) == small_count([1, 16, 32, 64], 10)
    large = SmallCNN(7, 8, channels=3, size=28)
    assert count(large) == small_count([3, 8, 16, 32, 32], 7)
    for s in (4, 8, 16, 28, 32):
        assert SmallCNN(size=s).body(torch.rand(2, 1, s, s)).shape[1:] == (64, 2, 2)
    # another size works too
    assert SmallCNN(size=28)(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("size, sees", [(8, 9), (28, 27)])
def test_what_one_number_of_the_last_map_sees(size, sees):
    torch.manual_seed(0)
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    # the ReLUs are left out: they would cut some paths by chance
    net = SmallCNN(act=nn.Identity, size=size).eval()
    m = net.body(net.normalize(x))
    (g,) = torch.autograd.grad(m[0, :, m.shape[2] // 2, m.shape[3] // 2].sum(), x)
    assert (g[0, 0] != 0).any(0).sum() == sees


def test_it_learns_digits():
    data = get_data("digits", batch_size=64, device="cpu")
    torch.manual_seed(0)
    net = SmallCNN()
    opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10 * len(data.train))
    for e in range(10):
        for x, y in data.train.epoch(e):
            F.cross_entropy(net(x), y).backward()
            opt.step()
            opt.zero_grad()
            plan.step()
    x, y = data.test.tensors()
    assert (net.eval()(x).argmax(1) == y).float().mean() > 0.9


# ---- the families
def closed(stem, widths, blocks, classes=10, channels=3):
    "Number of parameters, by hand"
    total, i = 9 * channels * stem, stem
    for s, (o, n) in enumerate(zip(widths, blocks)):
        for b in range(n):
            short = i * o if i != o or (s and not b) else 0
            total += 2 * i + 9 * i * o + 2 * o + 9 * o * o + short
            i = o
    return total + 2 * i + i * classes + classes


def preact(w, blocks, **kw):
    return closed(w, [w, 2 * w, 4 * w, 8 * w], blocks, **kw)


def wide(depth, k, **kw):
    return closed(16, [16 * k, 32 * k, 64 * k], [(depth - 4) // 6] * 3, **kw)


def test_parameter_counts():
    assert count(PreActResNet18(width=16)) == preact(16, (2, 2, 2, 2)) == 701_018
    assert preact(64, (2, 2, 2, 2)) == 11_172_170
    assert count(PreActResNet10(width=16)) == preact(16, (1, 1, 1, 1))
    small = preact(8, (3, 4, 6, 3), classes=7, channels=1)
    assert count(PreActResNet34(7, 8, channels=1)) == small
    assert preact(64, (3, 4, 6, 3)) == 21_280_330
    # published
    assert (wide(28, 10), wide(34, 10)) == (36_479_194, 46_160_474)
    for d, k, c in ((10, 1, 10), (16, 4, 7), (28, 2, 100)):
        assert count(WideResNet(d, k, c)) == wide(d, k, classes=c)
    with torch.device("meta"):
        assert count(PreActResNet18()) == 11_172_170
        assert [count(WideResNet()), count(WideResNet(34))] == [36_479_194, 46_160_474]


def test_twice_the_width_is_nearly_four_times_the_parameters():
    sizes = [count(PreActResNet18(width=w)) for w in (4, 8, 16, 32)]
    assert all(3.5 < b / a < 4.1 for a, b in zip(sizes, sizes[1:]))


def diary(build, *args):
    "Number of activations that `build` asks for, and the sum of their channels"
    seen = []

    def act(channels):
        seen.append(channels)
        return nn.SiLU()

    with torch.device("meta"):
        net = build(*args, act=act)
    assert sum(isinstance(m, nn.SiLU) for m in net.modules()) == len(seen)
    assert not any(isinstance(m, nn.ReLU) for m in net.modules())
    return len(seen), sum(seen)


def test_every_activation_is_exchanged():
    assert diary(PreActResNet18) == (17, 3904)
    assert diary(PreActResNet34)[0] == 33
    assert diary(PreActResNet10) == (9, 1984)
    assert diary(WideResNet, 34, 10) == (31, 11216)
    assert diary(WideResNet)[0] == 25
    assert diary(SmallCNN) == (3, 16 + 32 + 64)


class Swish(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * (self.beta * x).sigmoid()


def test_an_activation_with_a_number_per_channel():
    assert count(PreActResNet18(width=16, act=Swish)) == 701_018 + 3904 // 4
    x = torch.linspace(-3, 3, 54).view(2, 3, 3, 3)
    near(Swish(3)(x), F.silu(x))


class Cosine(nn.Module):
    "scale * cos of the angle between feature and weight"

    def __init__(self, d, classes, scale=15.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, d))
        self.scale = scale

    def forward(self, h):
        return self.scale * F.normalize(h) @ F.normalize(self.weight).T


@pytest.mark.parametrize(
    "build",
    [
        partial(PreActResNet18, width=4),
        partial(PreActResNet34, width=4),
        partial(WideResNet, 10, 1),
        partial(SmallCNN, width=4, channels=3, size=32),
    ],
)
def test_another_head(build):
    xs = torch.rand(4, 3, 32, 32)
    net = build(classes=7, head=partial(Cosine, scale=3.0)).eval()
    assert net(xs).shape == (4, 7) and net.features(xs).shape == (4, net.head.weight.shape[1])
    assert net(xs).abs().max() <= 3 + 1e-4
    near(net(xs), net.head(net.features(xs)))


# ---- what an attack needs
@pytest.mark.parametrize(
    "make",
    [
        lambda: PreActResNet18(width=4),
        lambda: WideResNet(10, 1),
        lambda: SmallCNN(width=4, channels=3, size=32),
    ],
    ids=["preact", "wide", "small"],
)
def test_what_holds_for_every_network(make):
    torch.manual_seed(0)
    net, xs = make(), torch.rand(4, 3, 32, 32)
    # one batch in train mode fills the statistics
    net(torch.rand(64, 3, 32, 32))
    z = net.eval()(xs)
    # the same image, the same logits, in whatever company
    assert torch.equal(z, net(xs))
    near(z[:1], net(xs[:1]), 1e-4)
    v = xs.clone().requires_grad_()
    (g,) = torch.autograd.grad(net(v).logsumexp(1).sum(), v)
    assert (g.flatten(1).norm(dim=1) > 0).all()
    # other dtypes, memory orders and image sizes
    d = copy.deepcopy(net).double()
    assert d(xs).dtype == torch.float64
    near(d(xs.double()).float(), z, 1e-3)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    near(last(xs.contiguous(memory_format=torch.channels_last)), z, 1e-4)
    h = copy.deepcopy(net).bfloat16()
    assert h(xs).dtype == torch.bfloat16
    assert (h(xs) - z).abs().max() < 0.1 * z.abs().max()
    assert net(torch.rand(2, 3, 96, 96)).shape == (2, 10)
    assert net(torch.rand(2, 3, 17, 23)).shape == (2, 10)


def test_the_gradient_agrees_with_finite_differences():
    # a smooth activation, so differences are honest
    net = PreActResNet18(width=2, act=nn.SiLU, channels=1).double().eval()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, x)


def test_in_training_mode_logits_depend_on_the_neighbours():
    torch.manual_seed(0)
    net = SmallCNN()
    a, b, c = torch.rand(3, 8, 1, 8, 8)
    before = net.body[1].running_mean.clone()
    first, second = net(torch.cat([a, b]))[:8], net(torch.cat([a, c]))[:8]
    assert (first - second).abs().max() > 0.01
    assert not torch.equal(net.body[1].running_mean, before)
    net.eval()
    near(net(torch.cat([a, b]))[:8], net(torch.cat([a, c]))[:8])
