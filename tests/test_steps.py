"""MIM and APGD: against torchattacks in float64 where that is installed, and what every step rule
promises
"""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.attacks.ascent import at_x
from spat_nb.attacks.attack import Attack
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import ce, dlr, margin
from spat_nb.attacks.recorder import Recorder
from spat_nb.attacks.steps import Targeted, adaptive, apgd, apgd_t, checkpoints, mim, momentum, rim
from spat_nb.models.networks import PreActResNet18

try:
    import torchattacks
except ImportError:
    torchattacks = None
parity = pytest.mark.skipif(torchattacks is None, reason="torchattacks is not installed")


@pytest.fixture
def float64():
    "torchattacks keeps its losses in the default dtype"
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


NETS = {
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 10),
        ),
        (3, 12, 12),
    ),
    "smooth": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 12, 3),
            nn.BatchNorm2d(12),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(12 * 9, 32),
            nn.GELU(),
            nn.Linear(32, 10),
        ),
        (1, 8, 8),
    ),
    "preact": (lambda: PreActResNet18(classes=10, width=4), (3, 8, 8)),
}


def case(name, n=200):
    """A network fitted for a moment to noisy prototypes, images, their labels, and a radius for
    each norm at which about half of them fall
    """
    torch.manual_seed(0)
    make, shape = NETS[name]
    net, proto = make(), torch.rand(10, *shape)

    def draw(n):
        return (lambda y: ((proto[y] + 0.35 * torch.randn(n, *shape)).clamp(0, 1), y))(
            torch.arange(n) % 10
        )

    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(15):
        x, y = draw(100)
        opt.zero_grad()
        ce(net(x), y).mean().backward()
        opt.step()
    x, _ = draw(n)
    net.eval()
    with torch.no_grad():
        y = net(x).argmax(1)
    # linear guess of the distance
    lead = -margin(net(x.requires_grad_()), y)
    g = torch.autograd.grad(lead.sum(), x)[0].flatten(1)
    return (
        net,
        x.detach(),
        y,
        (lead / g.abs().sum(1)).median().item(),
        (lead / g.norm(dim=1)).median().item(),
    )


def their_start(x, ball, generator=None):
    "torchattacks' own draw"
    t = 2 * torch.rand(x.shape) - 1 if isinstance(ball, Linf) else torch.randn(x.shape)
    n = (
        t.flatten(1).abs().amax(1)
        if isinstance(ball, Linf)
        else t.pow(2).sum((1, 2, 3)).sqrt() + 1e-12
    )
    return (x + ball.eps * t / n.view(-1, 1, 1, 1)).clamp(0, 1)


def as_official(s, **kw):
    """`adaptive`, with the first loss that the official code compares with: a row of its table that
    nobody has written yet
    """
    new = adaptive(s, **kw)
    if s.i == 0:
        s.own["apgd"].val = torch.zeros_like(s.val)
    return new


@parity
@pytest.mark.parametrize("name", NETS)
def test_apgd_decides_as_torchattacks(name, float64):
    net, x, y, *radii = case(name)
    for norm, ball in zip(("Linf", "L2"), (Linf(radii[0]), L2(radii[1]))):
        for loss, allowed in ((ce, 0), (dlr, 1)):
            theirs = (
                net(
                    torchattacks.APGD(
                        net, norm=norm, eps=ball.eps, steps=20, loss=loss.__name__, seed=3
                    )(x, y)
                ).argmax(1)
                != y
            )
            fooled = {}
            for step in (adaptive, as_official)[: 1 + (loss is dlr)]:
                torch.manual_seed(3)
                x_adv, _, fooled[step] = apgd(ball, 20, loss, step=step, start=their_start).run(
                    net, x, y
                )
                assert torch.equal(net(x_adv).argmax(1) != y, fooled[step])
            assert 20 < theirs.sum() < 180  # a case that could tell
            assert (fooled[adaptive] != theirs).sum() <= allowed, (norm, loss)
            assert loss is ce or (fooled[as_official] != theirs).sum() == 0, (norm, loss)


@parity
@pytest.mark.parametrize("name", NETS)
def test_targeted_apgd_decides_as_torchattacks(name, float64):
    """The starts are drawn target by target for those that still stand, so one stream gives both
    the same
    """
    net, x, y, *radii = case(name, 100)
    for norm, ball in zip(("Linf", "L2"), (Linf(0.8 * radii[0]), L2(0.8 * radii[1]))):
        theirs = (
            net(
                torchattacks.APGDT(net, norm=norm, eps=ball.eps, steps=10, n_classes=4, seed=3)(
                    x, y
                )
            ).argmax(1)
            != y
        )
        torch.manual_seed(3)
        ours = apgd_t(ball, 10, 3, start=their_start).run(net, x, y)[2]
        assert (ours != theirs).sum() <= 1 and 10 < theirs.sum() < 90


@parity
@pytest.mark.parametrize("name", NETS)
def test_mim_is_theirs_bit_for_bit(name):
    """Theirs climbs the mean loss, ours the sum: the same slope up to the batch size, which a power
    of two divides exactly, and the normalisation undoes. What differs: the default step (2/255
    there, eps/steps here), and a slope of zero on the way, which makes their sum 0/0 = NaN for good
    (the image freezes), and here is no vote
    """
    make, shape = NETS[name]
    torch.manual_seed(0)
    net = make().eval()
    x, y = torch.rand(16, *shape), torch.arange(16) % 10
    for mu, steps in ((1.0, 10), (0.5, 4)):
        theirs = torchattacks.MIFGSM(net, eps=8 / 255, alpha=2 / 255, steps=steps, decay=mu)(x, y)
        assert torch.equal(mim(Linf(8 / 255), steps, mu, lr=2 / 255)(net, x, y), theirs)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10))
    flat[1].weight.data.zero_()
    assert torch.equal(mim(Linf(0.1))(flat, x, y), x) and torch.equal(
        torchattacks.MIFGSM(flat)(x, y), x
    )


def net(shape, dtype=torch.float32, c=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    m = nn.Sequential(
        nn.Flatten(), nn.Linear(shape[1] * shape[2] * shape[3], 7), nn.Tanh(), nn.Linear(7, c)
    )
    for p in m.parameters():
        p.data = torch.randn(p.shape, generator=g)
    return m.to(dtype)


MAKE = {
    "mim": mim,
    "apgd": apgd,
    "apgd dlr": partial(apgd, loss=dlr),
    "apgd_t": partial(apgd_t, targets=3),
    "pgd_t": lambda b, n, **kw: Targeted(Attack(b, n, **kw), 2),
}


@settings(max_examples=60, deadline=None)
@given(
    make=st.sampled_from(sorted(MAKE)),
    ball=st.sampled_from((Linf, L2)),
    eps=st.one_of(st.just(0.0), st.floats(1e-4, 2.0)),
    steps=st.integers(0, 12),
    restarts=st.integers(1, 2),
    eot=st.integers(1, 2),
    shape=st.tuples(
        st.integers(1, 5), st.sampled_from((1, 3)), st.integers(1, 6), st.integers(1, 6)
    ),
    dtype=st.sampled_from((torch.bfloat16, torch.float32, torch.float64)),
    seed=st.integers(0, 99),
)
def test_inside_ball_and_box_and_never_worse_than_the_start(
    make, ball, eps, steps, restarts, eot, shape, dtype, seed
):
    g = torch.Generator().manual_seed(seed)
    x, y = (
        torch.rand(shape, generator=g).round(decimals=2).to(dtype),
        torch.randint(0, 5, shape[:1], generator=g),
    )
    # no pixel can move further than that
    m, b = net(shape, dtype), ball(min(eps, 1.0) if ball is Linf else eps)
    x_adv, v, won = MAKE[make](b, steps, restarts=restarts, eot=eot, generator=g).run(m, x, y)
    assert (
        x_adv.shape == x.shape
        and x_adv.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        and v.shape == won.shape == y.shape
    )
    assert (
        b.inside(x_adv, x.to(x_adv.dtype), tol=1e-6).all() and x_adv.min() >= 0 and x_adv.max() <= 1
    )
    if eps == 0:
        assert torch.equal(x_adv, x.to(x_adv.dtype))
    # what it says is so
    if dtype != torch.bfloat16:
        assert torch.equal(won, m(x_adv).argmax(1) != y)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5),
    steps=st.integers(0, 30),
    make=st.sampled_from(sorted(MAKE)),
    ball=st.sampled_from((Linf, L2)),
)
def test_no_slope_no_harm(n, steps, make, ball):
    x, y = torch.rand(n, 1, 4, 4), torch.zeros(n, dtype=torch.long)
    m = net(x.shape)
    m[1].weight.data.zero_()
    m[3].bias.data = torch.tensor([9.0, 1.0, 2.0, 0.0, -3.0])
    x_adv, _, won = MAKE[make](ball(0.1), steps).run(m, x, y)
    assert x_adv.isfinite().all() and ball(0.1).inside(x_adv, x).all() and not won.any()
    if make == "mim":
        assert torch.equal(x_adv, x)


def test_each_sample_has_its_own_step_size():
    "A batch gives what each of its images gives alone, best points and step sizes"
    x, y = torch.rand(6, 1, 6, 6, dtype=torch.float64), torch.arange(6) % 5
    m, b = net(x.shape, torch.float64), Linf(0.1)
    start = rim(x, b)

    def fly(i):
        etas = []
        a = apgd(
            b,
            40,
            start=lambda *_: start[i],
            recorder=lambda s: etas.append(s.own["apgd"].eta) if s.i else None,
        )
        return a.run(m, x[i], y[i])[1], torch.stack(etas, 1)

    v, eta = fly(slice(None))
    alone = [fly(slice(i, i + 1)) for i in range(6)]
    torch.testing.assert_close(v, torch.cat([a[0] for a in alone]))
    assert torch.equal(eta, torch.cat([a[1] for a in alone]))
    assert eta[:, -1].unique().numel() > 1 and (eta.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("make", sorted(MAKE))
def test_mode_gradients_randomness_and_inputs_are_left_alone(make):
    m = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )
    x = torch.rand(6, 1, 8, 8)
    y = m.eval()(x).argmax(1)
    m.train()
    m[1].eval()
    m(x).sum().backward()
    grads, modes, before, stats, rng = (
        [p.grad.clone() for p in m.parameters()],
        [k.training for k in m.modules()],
        x.clone(),
        [b.clone() for b in m.buffers()],
        torch.get_rng_state(),
    )

    def run(seed):
        return MAKE[make](Linf(0.2), 6, generator=torch.Generator().manual_seed(seed))(m, x, y)

    assert torch.equal(run(1), run(1))
    assert make == "mim" or not torch.equal(run(1), run(2))
    assert (
        torch.equal(torch.get_rng_state(), rng)
        and torch.equal(x, before)
        and [k.training for k in m.modules()] == modes
    )
    assert all(torch.equal(p.grad, g) for p, g in zip(m.parameters(), grads)) and all(
        torch.equal(a, b) for a, b in zip(m.buffers(), stats)
    )


def test_the_recorder_sees_every_point():
    x, y, rec = torch.rand(4, 1, 5, 5), torch.arange(4), Recorder()
    apgd(Linf(0.1), 7, recorder=rec)(net(x.shape), x, y)
    assert len(rec.rows) == 8 and rec.frame().norm.max() <= 0.1 + 1e-6


def test_steps_compose_with_other_slots():
    x, y = torch.rand(4, 1, 5, 5), torch.arange(4)
    m = net(x.shape)
    a = Attack(Linf(0.1), 12, lr=0.2, step=adaptive, start=at_x, loss=margin, best=True)
    assert (a.run(m, x, y)[1] >= margin(m(x), y)).all()  # never below its start
    b = Attack(L2(0.1), 12, step=partial(momentum, mu=0.9))
    assert L2(0.1).inside(b(m, x, y), x).all()
    assert checkpoints(100)[-1] == 99
    with pytest.raises(ValueError, match="APGD for L1 is another algorithm"):
        apgd(L1(3.0))
    with pytest.raises(ValueError, match="targets is 0"):
        apgd_t(Linf(0.1), targets=0)


@pytest.mark.parametrize("name", NETS)
def test_targets_side_by_side_find_what_they_find_one_by_one(name, monkeypatch):
    """In float64 and without random starts: FAB finds the same distances, and whom APGD-T fools one
    by one, it fools side by side
    """
    from spat_nb.attacks import steps
    from spat_nb.attacks.minimal import fab

    net, x, y, eps, _ = case(name, 40)
    net, x = net.double(), x.double()
    still = apgd_t(Linf(eps), 10, 9, start=at_x)
    found = []
    for together in (steps.TOGETHER, 1):
        monkeypatch.setattr(steps, "TOGETHER", together)
        found.append((still.run(net, x, y)[2], fab(Linf, 8, targets=9, restarts=1)(net, x, y)))
    (a, fa), (b, fb) = found
    assert torch.equal(a, b) and 0 < a.sum() < len(a)
    assert torch.allclose(fa, fb, atol=1e-9)
