"""MIM and APGD: against torchattacks in float64 where that is installed, and what every step rule
promises
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.app import zoo
from spat_nb.attacks import targets
from spat_nb.attacks.ascent import State, ascend, at_x, steepest
from spat_nb.attacks.attack import Attack, pgd
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.gradients import value_and_grad
from spat_nb.attacks.losses import ce, dlr, margin, missed
from spat_nb.attacks.recorder import Recorder
from spat_nb.attacks.steps import adaptive, apgd, checkpoints, mim, momentum, rim
from spat_nb.attacks.targets import Targeted, apgd_t, in_turn
from spat_nb.attacks.wrapped import margin_targeted
from spat_nb.core.rng import generator
from spat_nb.data.sources import get_data
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
    from spat_nb.attacks.minimal import fab

    net, x, y, eps, _ = case(name, 40)
    net, x = net.double(), x.double()
    still = apgd_t(Linf(eps), 10, 9, start=at_x)
    found = []
    for together in (targets.TOGETHER, 1):
        monkeypatch.setattr(targets, "TOGETHER", together)
        found.append((still.run(net, x, y)[2], fab(Linf, 8, targets=9, restarts=1)(net, x, y)))
    (a, fa), (b, fb) = found
    assert torch.equal(a, b) and 0 < a.sum() < len(a)
    assert torch.allclose(fa, fb, atol=1e-9)


# ---- by hand, on one or two pixels
near = partial(torch.testing.assert_close, rtol=0, atol=1e-5)


def tent(x, top=0.63):
    return (-(x[:, 0] - top).abs(),)


def ridge(x):
    return (-(x.sum(1) - 1.5).abs() / 2 - 10 * (x[:, 0] - x[:, 1]) ** 2,)


FOOT = torch.tensor([[0.3, 0.24]])


def iterates(step, steps, lr, f=tent, x0=None, ball=None):
    "The points of an ascent: (steps+1, n)"
    points = []
    x0 = torch.zeros(1, 1) if x0 is None else x0

    def record(s):
        points.append(s.x[0])

    ascend(f, x0, ball or Linf(1.0), steps, step, at_x, lr, recorder=record)
    return torch.stack(points)


def test_a_fixed_step_is_too_long_or_too_short():
    long, short = iterates(steepest, 20, 0.2)[:, 0], iterates(steepest, 20, 0.01)[:, 0]
    near(long[[3, 4, 19, 20]], torch.tensor([0.6, 0.8, 0.6, 0.8]))
    near(short[-1], torch.tensor(0.2))
    sizes = torch.logspace(-3, 0, 120)
    gap = torch.stack([(iterates(steepest, 20, lr.item())[-1, 0] - 0.63).abs() for lr in sizes])
    assert gap[0] > 0.6 and gap[-1] > 0.3 and gap.min() < 0.01


def second_step(mu, g1, g2, ball=None):
    "The second proposal of `momentum` after gradients g1, g2"
    s = State(torch.zeros_like(g1), ball or Linf(1.0), 2, 0.1, torch.zeros_like(g1), g=g1)
    momentum(s, mu=mu)
    s.i, s.g = 1, g2
    return momentum(s, mu=mu)


def test_momentum_by_hand():
    g1, g2 = torch.tensor([[1.2, -0.8]]), torch.tensor([[-0.8, 1.2]])
    near(second_step(1.0, g1, g2), torch.tensor([[0.1, 0.1]]))
    near(second_step(0.0, g1, g2), torch.tensor([[-0.1, 0.1]]))
    # a steep point has one vote, an image without a gradient none
    near(second_step(1.0, 1000 * g1, g2), torch.tensor([[0.1, 0.1]]))
    near(second_step(1.0, g1, 0 * g2), torch.tensor([[0.1, -0.1]]))
    near(second_step(1.0, 0 * g1, 0 * g2), torch.tensor([[0.0, 0.0]]))
    near(second_step(1.0, g1, g2, L2(1.0)).norm(), torch.tensor(0.1))


def test_momentum_overshoots():
    far = iterates(momentum, 20, 0.1, f=lambda x: tent(x, 0.35))[:, 0]
    near(far.max(), torch.tensor(0.7))


def test_on_a_ridge_momentum_and_apgd_get_along():
    plain = iterates(steepest, 12, 0.05, ridge, FOOT, Linf(0.45))
    heavy = iterates(momentum, 12, 0.05, ridge, FOOT, Linf(0.45))
    assert (plain[::2] - FOOT).abs().max() < 1e-6
    assert ridge(heavy[-1:])[0] > ridge(FOOT)[0] + 0.25
    long, hasty = (iterates(adaptive, n, 0.9, ridge, FOOT, Linf(0.45)) for n in (60, 30))
    best = ridge(long)[0].max()
    assert best > ridge(heavy)[0].max() > ridge(hasty)[0].max()
    assert (iterates(adaptive, 60, 2.0)[:, 0] - 0.63).abs().min() < 0.002


# ---- MIM, the rim, the schedule
@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    m = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10)).double()
    return m, torch.rand(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)])
def test_forgetful_momentum_is_pgd(small, ball):
    m, x, y = small
    as_pgd = pgd(ball, 5, ball.eps / 5, start=at_x)(m, x, y)
    torch.testing.assert_close(mim(ball, 5, mu=0.0)(m, x, y), as_pgd)
    assert ball.inside(mim(ball)(m, x, y), x).all() and torch.equal(mim(ball, 0)(m, x, y), x)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)])
def test_the_rim_is_at_distance_eps_in_every_direction(small, ball):
    d = rim(torch.full((500, 1, 8, 8), 0.5), ball, generator(0)) - 0.5
    torch.testing.assert_close(ball.norm(d), torch.full((500,), ball.eps))
    assert (d.mean(0).abs() < 5 * d.std(0) / 500**0.5).all()
    x = small[1]
    assert ball.inside(rim(x, ball), x).all()
    assert torch.equal(rim(x, ball, generator(1)), rim(x, ball, generator(1)))
    assert torch.equal(rim(x, replace(ball, eps=0.0)), x)


def test_the_schedule_is_that_of_the_paper():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(20) == [4, 7, *range(9, 21)]
    assert (checkpoints(1), checkpoints(0)) == ([1], [])
    for n in range(1, 300):
        ends = checkpoints(n)
        k = [b - a for a, b in zip([0] + ends, ends)]
        # no room for one more; never longer again
        assert ends[-1] <= n < ends[-1] + k[-1]
        assert k == sorted(k, reverse=True) and k[0] == max(int(0.22 * n), 1)


# ---- APGD against algorithm 1, written out
def apgd_by_hand(f, x0, x, ball, n, rho=0.75, a=0.75):
    """Algorithm 1 in the paper's letters: `f` gives loss and gradient at x; returns the best loss,
    and the step sizes
    """
    W = [0] + checkpoints(n)
    eta, v, g = 2 * ball.eps, *f(x)
    old, losses, etas, best, cut, top = x, [v], [], (v, x, g), True, v
    for k in range(n):
        if k in W[1:]:
            j = W.index(k)
            rises = sum(losses[i + 1] > losses[i] for i in range(W[j - 1], W[j]))
            cut, top = rises <= rho * (W[j] - W[j - 1]) or (not cut and best[0] == top), best[0]
            if cut:
                eta, x, g = eta / 2, *best[1:]
        z = ball.project(x + eta * ball.ascent(g), x0)
        # projected again, as the engine does with every proposal
        new = ball.project(z if k == 0 else x + a * (z - x) + (1 - a) * (x - old), x0)
        old, x = x, new
        v, g = f(x)
        losses.append(v)
        etas.append(eta)
        if v > best[0]:
            best = (v, x, g)
    return best[0], etas


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.6)])
@pytest.mark.parametrize("loss", [ce, dlr])
def test_apgd_is_algorithm_1_bit_for_bit(small, ball, loss):
    """A network adds up eight images in another order than one, and where DLR divides by next to
    nothing that shows; so each image passes the network by itself, on both sides
    """
    m, x, y = small
    start, n = rim(x, ball, generator(0)), 40

    def f(y):
        return lambda x: (torch.cat([loss(m(x[[i]]), y[[i]]) for i in range(len(x))]),)

    values, etas = [], []

    def record(s):
        values.append(s.val)
        if s.i:
            etas.append(s.own["apgd"].eta)

    ascend(f(y), x, ball, n, adaptive, lambda *_: start, 2 * ball.eps, recorder=record)
    for i in range(8):

        def alone(x, i=i):
            v, g = value_and_grad(f(y[[i]]), x)
            return v.item(), g

        best, sizes = apgd_by_hand(alone, x[[i]], start[[i]], ball, n)
        assert torch.stack(values).amax(0)[i] == best
        assert torch.stack(etas, 1)[i].tolist() == sizes


def test_on_a_linear_model_every_checkpoint_halves():
    w = torch.randn(12, dtype=torch.float64, generator=generator(0)) * torch.arange(1, 13)
    x, seen = torch.full((3, 3, 2, 2), 0.5, dtype=torch.float64), []

    def f(x):
        return (x.flatten(1) @ w,)

    def record(s):
        seen.append((s.val.clone(), s.own["apgd"].eta / 0.01 if s.i else None))

    ascend(f, x, Linf(0.01), 100, adaptive, rim, 0.02, generator(0), recorder=record)
    # the corner, after one step
    rise = seen[1][0] - f(x)[0]
    torch.testing.assert_close(rise, (0.01 * w.abs().sum()).expand(3), rtol=0, atol=1e-12)
    # halved before steps 23, 42, ..., 100
    sizes = [seen[k + 1][1].unique().tolist() for k in (0, 21, 22, 41, 99)]
    assert sizes == [[2.0], [2.0], [1.0], [0.5], [2 / 2**8]]


def test_without_a_gradient_nothing_moves():
    x = torch.full((3, 3, 2, 2), 0.5, dtype=torch.float64)

    def zero(x):
        return (x.flatten(1).sum(1) * 0,)

    assert ascend(zero, x, Linf(0.01), 30, adaptive, at_x, 0.02).x.equal(x)


@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.5)])
def test_apgd_returns_the_worst_point_and_reports_it(small, ball):
    m, x, y = small
    x_adv, v, won = apgd(ball, 20, generator=generator(0)).run(m, x, y)
    assert ball.inside(x_adv, x).all()
    torch.testing.assert_close(v, ce(m(x_adv), y))
    assert torch.equal(won, m(x_adv).argmax(1) != y)
    # never below its start
    found = apgd(ball, 20, dlr, generator=generator(0)).run(m, x, y)[1]
    assert (found >= dlr(m(rim(x, ball, generator(0))), y) - 1e-12).all()


def test_apgd_looks_at_the_last_point_without_a_gradient(small):
    m, x, y = small
    passes = [0, 0]
    m[0].register_forward_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    m[0].register_full_backward_hook(lambda *_: passes.__setitem__(1, passes[1] + 1))
    apgd(Linf(0.05), 20)(m, x, y)
    m[0]._forward_hooks.clear()
    m[0]._backward_hooks.clear()
    assert passes == [21, 20]
    assert apgd(Linf(0.05)).lr == 0.1 and apgd(Linf(0.05), lr=0.03).lr == 0.03


# ---- on a shipped network
@pytest.fixture(scope="module")
def digits():
    m = zoo.load("digits/trades/w16", "cpu").requires_grad_(False)
    return m, *get_data("digits", device="cpu").test.tensors()


BALL = Linf(0.2)


def broken(attack, digits, model=None):
    m, x, y = digits
    model = model or m
    return model(attack(model, x, y)).argmax(1) != y


def test_apgd_needs_no_step_size(digits):
    "No fixed step of PGD comes out clearly below it, and the worst ones far above"
    m, x, y = digits
    last, kept = [], []
    for lr in torch.logspace(-2.5, 0.5, 10):
        rec = Recorder()
        lr = lr.item() * BALL.eps
        pgd(BALL, 20, lr, start=rim, generator=generator(0), recorder=rec)(m, x, y)
        won = torch.stack([r["won"] for r in rec.rows])
        last.append(int((~won[-1]).sum()))
        kept.append(int((~won.any(0)).sum()))
    ours = int((~broken(apgd(BALL, 20, generator=generator(0)), digits)).sum())
    assert max(kept) > ours + 0.3 * len(y) and ours <= min(kept) + 0.02 * len(y)
    assert all(k <= least for k, least in zip(kept, last))


def losses_of(attack, digits):
    "Best loss so far at each point (steps+1, b), and step sizes (steps, b) of APGD"
    values, etas = [], []

    def record(s):
        values.append(s.val)
        if s.i and "apgd" in s.own:
            etas.append(s.own["apgd"].eta)

    replace(attack, recorder=record, generator=generator(0))(*digits)
    return torch.stack(values).cummax(0).values, etas


def test_step_sizes_spread_and_the_loss_is_that_of_a_good_choice(digits):
    top, etas = losses_of(apgd(BALL, 50), digits)
    for lr in (0.01, 0.1, 1.0):
        fixed = losses_of(pgd(BALL, 50, lr * BALL.eps, start=rim), digits)[0]
        assert top[-1].mean() >= fixed[-1].mean() - 0.02 * top[-1].mean()
    halved = (2 * BALL.eps / torch.stack(etas)).log2().round().long()
    shares = torch.stack([(halved == k).double().mean(1) for k in range(6)])
    # most, but not all
    at = shares.T[checkpoints(50)]
    assert all((s > 0).sum() >= 2 and s.max() > 0.5 for s in at) and shares.sum(0).min() > 0.999


def test_attacks_of_one_budget(digits):
    hit = {
        "pgd": broken(pgd(BALL, 20, generator=generator(0)), digits),
        "mim": broken(mim(BALL, 20), digits),
        "ce": broken(apgd(BALL, 20, generator=generator(0)), digits),
        "dlr": broken(apgd(BALL, 20, dlr, generator=generator(0)), digits),
    }
    n = {k: int(v.sum()) for k, v in hit.items()}
    assert n["mim"] < n["pgd"] < n["dlr"] and n["mim"] < n["ce"]
    together = torch.stack([*hit.values()]).any(0)
    assert all((together >= h).all() for h in hit.values())
    # a step size that adapts does not help where cross-entropy has no gradient; dlr has one
    m, _, y = digits

    def loud(x):
        return 1024 * m(x)

    rec = Recorder()
    blind = broken(apgd(BALL, 20, generator=generator(0), recorder=rec), digits, loud)
    assert (~blind).sum() > (~hit["ce"]).sum() + 0.1 * len(y)
    assert rec.rows[0]["zero"].double().mean() > 0.1
    seen = broken(apgd(BALL, 20, dlr, generator=generator(0)), digits, loud)
    assert abs(int(seen.sum()) - n["dlr"]) <= 0.01 * len(y)
    by_margin = broken(apgd(BALL, 20, margin, generator=generator(0)), digits, loud)
    assert (~by_margin).sum() <= (~hit["ce"]).sum() + 0.02 * len(y)
    # MultiTargeted (Gowal et al. 2019): any attack, one class after another
    multi = Targeted(pgd(BALL, 20, generator=generator(0)), 9, margin_targeted)
    assert (~broken(multi, digits)).sum() <= (~hit["pgd"]).sum() + 0.01 * len(y)


def test_the_unwritten_row_halves_dlr_once_more(digits):
    m, x, y = digits

    def run(rule):
        "Step sizes after the first checkpoint in eps, loss after step 1, and what `run` returned"
        seen = []

        def record(s):
            seen.append((s.val, s.own["apgd"].eta / BALL.eps if s.i else None))

        attack = apgd(BALL, 20, dlr, step=rule, generator=generator(0), recorder=record)
        out = attack.run(m, x, y)
        return seen[checkpoints(20)[0] + 1][1], seen[1][0], out

    paper, after1, out = run(adaptive)
    code, _, out2 = run(as_official)
    # right after step 1: always halved; fooled after step 1: always a rise
    assert (code[after1 <= 0] == 1).all()
    assert (code[after1 > 0] >= paper[after1 > 0]).all()
    assert (paper == 2).sum() > (code == 2).sum()
    assert (out[2] != out2[2]).double().mean() < 0.02


def test_dlr_needs_three_classes():
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(ValueError, match="at least 3 classes"):
        apgd(Linf(0.1), 5, dlr)(two, torch.rand(6, 1, 8, 8), torch.zeros(6, dtype=torch.long))


# ---- one class after another
def dealt(ks, x, standing, at=2):
    return [deal[at].tolist() for deal in in_turn(ks, x, standing)]


def test_targets_are_dealt_side_by_side_where_they_fit():
    x, up = torch.zeros(3, 1, 8, 8), torch.tensor([0, 2])
    ks = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    all_at_once = [[v.tolist() for v in deal] for deal in in_turn(ks, x, lambda: up)]
    assert all_at_once == [[[0, 2], [0, 2, 0, 2, 0, 2], [1, 7, 2, 8, 3, 9]]]
    # one try, three rivals
    assert dealt(ks[:, None], x, lambda: up) == [[[1, 2, 3], [7, 8, 9]]]
    # 1 at a time fits
    wide = torch.zeros(1).expand(3, 1, 600, 600)
    assert dealt(ks, wide, lambda: up) == [[1, 7], [2, 8], [3, 9]]
    fallen = iter((up, up[:1], up[:0]))
    # nobody is left for the third
    assert dealt(ks, wide, lambda: next(fallen)) == [[1, 7], [2]]


class Counting(nn.Module):
    "How many images were asked, pass by pass"

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.n = []

    def forward(self, x):
        self.n.append(len(x))
        return self.model(x)


def test_targeted_asks_only_those_that_are_still_right(digits, monkeypatch):
    m, x, y = digits[0], digits[1][:60], digits[2][:60]

    def run(model, k=9):
        return apgd_t(BALL, 10, k, generator=generator(0)).run(model, x, y)

    x_adv, _, won = run(m)
    assert torch.equal(won, missed(m(x_adv), y)) and BALL.inside(x_adv, x).all()
    assert x_adv.shape == x.shape
    # wrong from the beginning: left alone
    already = missed(m(x), y)
    assert torch.equal(x_adv[already], x[already])
    # few images: all nine targets side by side
    count = Counting(m)
    run(count)
    assert count.n == [60] + 11 * [9 * int((~already).sum())]
    # one target at a time; a success is never given back
    monkeypatch.setattr(targets, "TOGETHER", 1)
    one, nine = (run(m, k)[2] for k in (1, 9))
    assert (nine >= one).all()
    count = Counting(m)
    run(count)
    stand = count.n[1::11]
    assert count.n[0] == 60 and len(count.n) == 1 + 11 * len(stand)
    assert stand == sorted(stand, reverse=True)
    assert stand[0] == int((~already).sum()) and stand[-1] >= int((~nine).sum())


def test_targeted_with_few_classes():
    x = torch.rand(6, 1, 8, 8)
    a = apgd_t(L2(0.5), 30, 4, rho=0.6)
    found = (a.ball, a.targets, a.attack.steps, a.attack.lr, a.attack.best)
    assert found == (L2(0.5), 4, 30, 1.0, True)
    torch.manual_seed(0)
    three = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    # with fewer than 4 classes the margin takes its place
    assert BALL.inside(apgd_t(BALL, 5)(three, x, three(x).argmax(1)), x).all()
    four = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    y = four(x).argmax(1)
    # three targets are all there are
    assert apgd_t(BALL, 5)(four, x, y).shape == x.shape
    with pytest.raises(ValueError, match="labels run from 0 to 3"):
        apgd_t(BALL, 5)(four, x, y + 4)
