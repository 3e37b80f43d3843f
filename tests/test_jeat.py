"""Energies: cross-entropy is their difference, the step along the gradient hangs on the scale of
the logits, a dream of a linear network goes along its weights
"""

import pytest
import torch
from torch import nn

from spat_nb import Linf, at_x, get_data, pgd, zoo
from spat_nb.attacks.losses import ce
from spat_nb.core.rng import generator
from spat_nb.papers.jeat import dream, energy, langevin, nearest_class

x, y = get_data("digits", device="cpu").test.subset(30).tensors()


@pytest.fixture
def net():
    return zoo.load("digits/pgd_at/w16", "cpu").eval()


class Linear(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        return x.flatten(1) @ self.w.T


def test_cross_entropy_is_a_difference_of_energies():
    z = torch.randn(20, 10, generator=generator(0), dtype=torch.float64) * 5
    label = torch.arange(20) % 10
    assert torch.allclose(energy(z, label) - energy(z), ce(z, label))
    assert torch.allclose(energy(z + 3, label), energy(z, label) - 3)  # cross-entropy stays
    assert torch.allclose(energy(z + 3), energy(z) - 3)
    with pytest.raises((TypeError, ValueError), match="energy"):
        energy(z, z.softmax(1))


def test_one_step_of_each_kind_on_a_linear_network():
    w = torch.randn(10, 64, generator=generator(1))
    g = -w[y].view(-1, 1, 8, 8)  # of E(x,y) = -w_y x
    ball = Linf(0.3)
    one = dict(steps=1, lr=0.05, loss=energy, start=at_x)
    usual = pgd(ball, **one)(Linear(w), x, y)
    assert torch.allclose(usual, (x + 0.05 * g.sign()).clamp(0, 1), atol=1e-6)
    raw = pgd(ball, step=langevin(scale=0.5, noise=0.0), **one)(Linear(w), x, y)
    want = (x + (0.025 * g).clamp(-0.3, 0.3)).clamp(0, 1)
    assert torch.allclose(raw, want, atol=1e-6)
    # ten times the logits: the sign stays, the gradient does not
    assert torch.equal(pgd(ball, **one)(Linear(10 * w), x, y), usual)
    assert not torch.allclose(
        pgd(ball, step=langevin(0.5, 0.0), **one)(Linear(10 * w), x, y), raw, atol=1e-3
    )


def test_noise_is_drawn_from_the_stream_of_the_attack(net):
    def made(seed, noise):
        step = langevin(0.0, noise)
        attack = pgd(Linf(1.0), 1, 0.01, loss=energy, start=at_x, step=step)
        attack = pgd(
            Linf(1.0), 1, lr=0.01, loss=energy, start=at_x, step=step, generator=generator(seed)
        )
        return attack(net, torch.full_like(x, 0.5), y) - 0.5

    assert torch.equal(made(0, 1.0), made(0, 1.0)) and not torch.equal(made(0, 1.0), made(1, 1.0))
    assert made(0, 1.0).std().item() == pytest.approx(0.01, rel=0.1)
    assert not made(0, 0.0).any()


def test_a_dream_of_a_linear_network():
    w = torch.randn(10, 64, generator=generator(2))
    w += w.sign()  # none is so small that its pixel takes long
    begin = torch.full((10, 1, 8, 8), 0.5)
    asked = torch.arange(10)
    unit = (w / w.norm(dim=1, keepdim=True)).view(10, 1, 8, 8)
    # six steps of .1 do not reach the box
    assert torch.allclose(dream(Linear(w), begin, asked, 6, 0.1), begin + 0.6 * unit, atol=1e-5)
    # the end of a long one is the corner that holds most of the class
    corner = (w > 0).float().view(10, 1, 8, 8)
    assert torch.allclose(dream(Linear(w), begin, asked, 500, 0.1), corner, atol=1e-3)


def test_a_dream_goes_downhill_and_stays_in_the_box(net):
    noise = torch.rand(20, 1, 8, 8, generator=generator(3))
    asked = torch.arange(20) % 10
    images = dream(net, noise, asked, steps=50)
    assert images.min() >= 0 and images.max() <= 1
    assert (energy(net(images), asked) < energy(net(noise), asked)).all()


def test_the_nearest_image_by_a_loop():
    images = torch.rand(7, 1, 8, 8, generator=generator(4))
    label, far = nearest_class(images, x, y)
    for i, v in enumerate(images):
        d = (x - v).flatten(1).norm(dim=1)
        assert label[i] == y[d.argmin()] and far[i].item() == pytest.approx(
            d.min().item(), abs=1e-4
        )
    label, far = nearest_class(x, x, y)
    assert torch.equal(label, y) and far.max() < 1e-2
