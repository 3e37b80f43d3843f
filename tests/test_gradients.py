"""Gradients for the pixels: closed forms, each image by itself, weights untouched, a clear word
where there is none, and means over the passes of a random model
"""

import pytest
import torch
from torch import nn

from spat_nb.attacks.ascent import _see
from spat_nb.attacks.gradients import clip, value_and_grad

X = torch.tensor([[0.2, 0.5]])


def f(x):
    return (3 * x[:, 0] - x[:, 1] ** 2,)


@pytest.fixture
def squared():
    "x -> (value,) of a small network, that network, and four points"
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3))
    return lambda x: (net(x)[:, 0] ** 2,), net, torch.rand(4, 2)


def test_value_and_gradient_by_hand():
    v, g = value_and_grad(f, X)
    torch.testing.assert_close(v, torch.tensor([0.35]))
    torch.testing.assert_close(g, torch.tensor([[3.0, -1.0]]))


def test_each_image_has_its_own_gradient(squared):
    h, net, xs = squared
    alone = torch.cat([value_and_grad(h, x[None])[1] for x in xs])
    torch.testing.assert_close(value_and_grad(h, xs)[1], alone)
    assert [p.grad for p in net.parameters()] == [None] * 4


def test_it_works_whatever_surrounds_it(squared):
    h, _, xs = squared
    with torch.no_grad():
        assert value_and_grad(h, xs)[1].shape == xs.shape


def test_a_cut_graph_is_refused(squared):
    _, net, xs = squared
    for cut in (lambda x: (net(x.round().detach())[:, 0],), lambda x: (x.argmax(1),)):
        with pytest.raises(ValueError, match="no gradient flows"):
            value_and_grad(cut, xs)


def test_clip_has_a_gradient_on_its_bounds():
    edge = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    assert torch.equal(clip(edge).detach(), edge.detach().clamp(0, 1))
    g = torch.autograd.grad(clip(edge).sum(), edge)[0]
    assert torch.equal(g, torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]))


def test_the_mean_of_many_passes(squared):
    h, _, xs = squared
    torch.manual_seed(0)

    # the gradient is 2, plus noise of deviation 1
    def noisy(x):
        return (x * (2 + torch.randn(x.shape))).sum(1), x, torch.rand(len(x)) < 0.9

    _, g, z, won = _see(noisy, xs, 1000)
    assert (g - 2).abs().max() < 4 / 1000**0.5 and won.all() and won.dtype == torch.bool
    torch.testing.assert_close(z, xs)
    # one pass is not enough
    assert (_see(noisy, xs, 1)[1] - 2).abs().max() > 0.5
    assert len(_see(noisy, xs, 3, gradient=False)) == 3
    assert not _see(lambda x: (h(x)[0],), xs, 1, gradient=False)[0].requires_grad
    # one pass: nothing is touched
    assert all(torch.equal(p, q) for p, q in zip(_see(h, xs, 1), value_and_grad(h, xs)))
