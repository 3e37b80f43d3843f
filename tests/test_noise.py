"""Coloured noise: its covariance, rolls that are held, and the number of a random network"""

import pytest
import torch
from torch import nn

from spat_nb import Linf, SmallCNN, get_data, load, pgd, save, trust
from spat_nb.core.rng import generator
from spat_nb.papers.noise import ColouredNoise, held, over_rolls
from spat_nb.studies.noise import learned

data = get_data("digits", device="cpu", batch_size=64)
x, y = data.test.subset(20).tensors()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SmallCNN(channels=1, act=ColouredNoise).eval()


@pytest.mark.parametrize("rank", [0, 1, 4])
def test_the_covariance_is_that_of_its_draws(rank):
    torch.manual_seed(1)
    layer = ColouredNoise(5, rank, scale=0.5)
    assert torch.allclose(layer.covariance().diag(), torch.full((5,), 0.25), atol=1e-6)
    layer.diagonal.data = torch.linspace(0.1, 0.6, 5)
    layer.low.data.mul_(1.5)
    seen = layer(torch.zeros(50, 5, 40, 40)).detach().transpose(0, 1).flatten(1)
    d, u = layer.diagonal, layer.low
    want = torch.diag(d**2) + u @ u.T
    assert torch.allclose(layer.covariance(), want)
    assert torch.allclose(seen.cov(), want, atol=0.015) and seen.mean().abs() < 0.01


def test_places_and_images_are_independent():
    torch.manual_seed(2)
    layer = ColouredNoise(1, 0, scale=1.0)
    seen = layer(torch.zeros(20000, 1, 1, 2)).detach()[:, 0, 0]
    assert seen.T.cov()[0, 1].abs() < 0.03
    assert not torch.equal(seen[0], seen[1])


def test_no_scale_is_the_activation_alone(net):
    for rank in (0, 3):
        z = torch.randn(4, 6, 2, 2)
        assert torch.equal(ColouredNoise(6, rank, scale=0.0)(z), z.relu())
    quiet = SmallCNN(channels=1)
    quiet.load_state_dict(net.state_dict(), strict=False)
    assert torch.equal(held(net, None)(x), quiet.eval()(x))
    assert not torch.equal(net(x), net(x))


def test_a_held_roll_is_the_same_in_any_company(net):
    once = held(net, 3)
    assert torch.equal(once(x), once(x))
    assert torch.allclose(once(x)[5:8], once(x[5:8]), atol=1e-5)
    assert not torch.allclose(once(x), held(net, 4)(x), atol=1e-3)
    assert not torch.equal(net(x), net(x))  # the network itself rolls on


def test_the_mean_of_logits_tends_to_no_noise_in_a_linear_network():
    torch.manual_seed(3)
    layer, head = ColouredNoise(3, 2, scale=0.4), nn.Linear(3, 4)
    z = torch.rand(1, 3, 1, 1)

    def answer(v):
        return head(layer(v)[:, :, 0, 0])

    with torch.no_grad():
        seen = answer(z.expand(40000, 3, 1, 1))
        want = head(z[:, :, 0, 0])[0]
        cov = head.weight @ layer.covariance() @ head.weight.T
    assert torch.allclose(seen.mean(0), want, atol=0.02)
    assert torch.allclose(seen.T.cov(), cov, atol=0.02)
    # a convex loss is lower at the mean of the logits (Jensen)
    loss = nn.CrossEntropyLoss()
    label = torch.zeros(1, dtype=torch.long)
    assert loss(seen.mean(0)[None], label) < loss(seen, label.expand(40000))


def test_it_is_learned_unless_it_is_not(net):
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    layers = [m for m in net.modules() if isinstance(m, ColouredNoise)]
    assert len(layers) == 3
    assert all(m.diagonal.grad.abs().sum() > 0 and m.low.grad.abs().sum() > 0 for m in layers)
    still = ColouredNoise(4, learned=False)
    assert not any(p.requires_grad for p in still.parameters())
    told = learned(net)
    assert [round(d["deviation"], 3) for d in told] == [0.25] * 3
    assert all(abs(d["shared"] - 0.5) < 1e-3 for d in told)


def coin(v):
    "Right (label 0) with the chance that the image says, at each roll anew"
    hit = torch.rand(len(v), generator=coin.stream) < v.flatten(1)[:, 0]
    return torch.stack([hit.float(), torch.full((len(v),), 0.5)], 1)


def test_the_mean_over_rolls_of_coins():
    coin.stream = generator(0)
    labels = torch.zeros(400, dtype=torch.long)
    chance = torch.rand(3, 400, generator=generator(1))
    images = [c[:, None, None, None] for c in chance]
    seen = over_rolls(coin, labels, images, 400)
    assert seen.mean().item() == pytest.approx(chance.amin(0).mean().item(), abs=0.01)
    assert (seen - chance.amin(0)).abs().mean() < 0.05
    # twenty attacks that do nothing: no union, and no minimum of noisy shares
    idle = [torch.full((400, 1, 1, 1), 0.9)] * 20
    assert over_rolls(coin, labels, idle, 20).mean().item() == pytest.approx(0.9, abs=0.01)


def test_without_dice_it_is_the_union(net):
    still = held(net, None)
    images = [pgd(Linf(0.1), 3, generator=generator(k))(still, x, y) for k in range(2)]
    with torch.no_grad():
        union = torch.stack([still(v).argmax(1) == y for v in images]).all(0)
    assert torch.equal(over_rolls(still, y, images, 4), union.double())


def test_the_dice_gate_speaks(net):
    small = (x[:16], y[:16])
    ask = dict(n=16, cost=0.1, progress=False)
    said = {c.name: c.verdict for c in trust(net, small, Linf(0.1), **ask).checks}
    still = {c.name: c.verdict for c in trust(held(net), small, Linf(0.1), **ask).checks}
    assert said["G1 repeats"] == "flag" and still["G1 repeats"] != "flag"


def test_it_is_kept_and_what_is_refused(net, tmp_path):
    save(net, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert torch.equal(held(again)(x), held(net)(x))
    for more in (dict(rank=-1), dict(scale=-0.1), dict(scale=float("nan"))):
        with pytest.raises(ValueError, match="at least 0"):
            ColouredNoise(3, **more)
