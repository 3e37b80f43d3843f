"""Robust transfer: what is borrowed, what moves, and the trainings of its study by hand"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb import Linf, PreActResNet10, SmallCNN, get_data, load, pgd, save, standard, zoo
from spat_nb.core.precision import fast
from spat_nb.papers.transfer import head_only, lwf, new_head, with_features
from spat_nb.studies.transfer import FEW, half
from spat_nb.training.events import Callback
from spat_nb.training.fit import fit

data = get_data("digits", device="cpu", batch_size=64)
x, y = data.test.subset(30).tensors()


@pytest.fixture
def source():
    return zoo.load("digits/pgd_at/w16", "cpu").eval()


def test_all_but_the_head_is_borrowed(source, tmp_path):
    net = new_head(source, 5).eval()
    assert torch.equal(net.features(x), source.features(x))
    assert net(x).shape == (30, 5) and source(x).shape == (30, 10)
    for p in net.parameters():  # its own weights: the source does not move with them
        p.data.add_(1)
    assert torch.equal(source(x), zoo.load("digits/pgd_at/w16", "cpu")(x))
    save(source, tmp_path / "source.safetensors")
    again = new_head(str(tmp_path / "source.safetensors"), 3).eval()
    assert torch.equal(again.features(x), source.features(x))
    save(again, tmp_path / "new.safetensors")
    assert torch.equal(load(tmp_path / "new.safetensors")(x), again(x))
    wide = new_head(PreActResNet10(channels=1, width=4), 3)
    assert wide(x).shape == (30, 3)


def test_the_head_alone_moves(source):
    net = new_head(source, 10)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    # in channels-last the loop hands on another way to run the network
    done = fit(net, data.train.subset(64), head_only, None, 2, 0.1, best=None, quiet=True,
               precision="channels_last")  # fmt: skip
    moved = {k for k, v in done.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"head.weight", "head.bias"}


def test_the_loss_of_the_head_by_hand(source):
    net = new_head(source, 10).train()
    f = zoo.load("digits/pgd_at/w16", "cpu").eval().features(x)
    want = F.cross_entropy(f @ net.head.weight.T + net.head.bias, y)
    assert head_only(net, x, y).item() == pytest.approx(want.item(), abs=1e-5)
    assert net.training


def test_without_forgetting_by_hand(source):
    net = new_head(source, 10)
    net.body[0].weight.data.mul_(1.1)
    for lam in (0.0, 0.7):
        rule = lwf(source, lam)
        f, old = net.eval().features(x), source.features(x)
        far = (f - old).square().sum(1).sqrt().mean()
        want = F.cross_entropy(net.head(f), y) + lam * far
        net.train()
        loss = rule(net, x, y)
        assert loss.item() == pytest.approx(want.item(), abs=1e-5) and net.training
        mine = torch.autograd.grad(loss, net.body[0].weight)[0]
        theirs = torch.autograd.grad(want, net.body[0].weight)[0]
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert rule(fast(net, "channels_last"), x, y).item() == pytest.approx(loss.item(), abs=1e-4)
    for p in source.parameters():
        assert p.grad is None


def test_a_weight_holds_the_features(source):
    few = data.train.subset(100)
    f = source.features(x)
    far = {}
    for lam in (0.0, 0.3):
        torch.manual_seed(0)
        rule = lwf(source, lam)
        done = fit(new_head(source, 10), few, rule, None, 8, 0.005, best=None, quiet=True)
        far[lam] = (done.model.eval().features(x) - f).norm(dim=1).mean().item()
    assert far[0.3] < far[0.0]


def weights_after(rule, source, **told):
    "Of a network that begins as the source with another head"
    torch.manual_seed(0)
    few = data.train.subset(100)
    done = fit(new_head(source, 10), few, rule, None, 3, 0.01, best=None, quiet=True, **told)
    return done.model.state_dict()


def test_by_itself_the_source_is_the_network_as_it_began(source):
    rule = lwf(lam=0.1)
    want = weights_after(lwf(source, 0.1), source)
    for _ in range(2):  # a second run begins anew
        got = weights_after(rule, source)
        assert all(torch.equal(got[k], v) for k, v in want.items())


def test_the_source_survives_a_kill(source, tmp_path):
    class Kill(Callback):
        onlooker = True

        def after_step(self, learner):
            if learner.done == 4:
                raise KeyboardInterrupt

    want = weights_after(lwf(lam=0.1), source)
    place = dict(checkpoint=tmp_path / "checkpoint.safetensors", every=0)
    with pytest.raises(KeyboardInterrupt):
        weights_after(lwf(lam=0.1), source, callbacks=[Kill()], **place)
    got = weights_after(lwf(lam=0.1), source, **place)
    assert all(torch.equal(got[k], v) for k, v in want.items())


def test_what_is_refused(source):
    with pytest.raises(ValueError, match="lam is -1"):
        lwf(source, -1)
    with pytest.raises(ValueError, match="has no source"):
        lwf()(source, x, y)
    with pytest.raises(TypeError, match="Linear has no features"):
        with_features(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="cannot be built again"):
        odd = nn.Sequential(nn.Flatten())
        odd.features = nn.Flatten()
        new_head(odd)


def test_halves_share_no_class():
    low, high = half(data, False), half(data, True)
    for a, b, whole in zip(low, high, data):
        assert a.n + b.n == whole.n
        assert a.classes == tuple("01234") and b.classes == tuple("56789")
        assert set(a.y.tolist()) == set(b.y.tolist()) == set(range(5))
    seen = {v.flatten().numpy().tobytes() for v in low.train.x}
    assert not seen & {v.flatten().numpy().tobytes() for v in high.test.x}
    assert high.train.n > 4 * FEW


def test_the_text_of_its_bound(source):
    net = new_head(source, 10)
    x_adv = pgd(Linf(0.15), 5)(net, x, y)
    with torch.no_grad():
        s = (net.features(x_adv) - net.features(x)).norm(dim=1)
        fall = net(x) - net(x_adv)
    w = net.head.weight
    for k in range(10):
        assert ((fall[:, 0] - fall[:, k]).abs() <= (w[0] - w[k]).norm() * s + 1e-4).all()


def test_a_standard_step_moves_more_than_the_head(source):
    net = new_head(source, 10)
    grads = torch.autograd.grad(standard(net, x, y), list(net.parameters()))
    assert all(g.abs().max() > 0 for g in grads)
    assert isinstance(net, type(SmallCNN(channels=1)))
