"Invariants of every attack, for shapes, radii and dtypes that hypothesis draws"

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.attacks.ascent import Recorder, at_x, gaussian, uniform
from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import ce, dlr, margin
from spat_nb.attacks.wrapped import smoothed, targeted, tempered
from spat_nb.core.precision import fast

BALLS = (Linf, L2, L1)
LOSSES = {
    "ce": ce,
    "margin": margin,
    "dlr": dlr,
    "targeted": targeted(ce),
    "tempered": tempered(ce, 5.0),
    "smoothed": smoothed(ce, 0.3),
}


def net(shape, dtype=torch.float32, c=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    m = nn.Sequential(
        nn.Flatten(), nn.Linear(shape[1] * shape[2] * shape[3], 7), nn.Tanh(), nn.Linear(7, c)
    )
    for p in m.parameters():
        p.data = torch.randn(p.shape, generator=g)
    return m.to(dtype)


shapes = st.tuples(st.integers(1, 5), st.sampled_from((1, 3)), st.integers(1, 6), st.integers(1, 6))
radii = st.one_of(st.just(0.0), st.floats(1e-4, 2.0))


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    eps=radii,
    ball=st.sampled_from(BALLS),
    loss=st.sampled_from(sorted(LOSSES)),
    dtype=st.sampled_from((torch.float16, torch.bfloat16, torch.float32, torch.float64)),
    start=st.sampled_from((at_x, uniform, gaussian(0.1))),
    steps=st.integers(0, 4),
    restarts=st.integers(1, 2),
    best=st.booleans(),
    eot=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_every_output_is_inside_ball_and_box(
    shape, eps, ball, loss, dtype, start, steps, restarts, best, eot, seed
):
    g = torch.Generator().manual_seed(seed)
    # exact blacks and whites occur
    x, y = (
        torch.rand(shape, generator=g).round(decimals=2).to(dtype),
        torch.randint(0, 4, shape[:1], generator=g),
    )
    # no pixel can move further than that
    b = ball(min(eps, 1.0) if ball is Linf else eps)
    x_adv = Attack(
        b, steps, loss=LOSSES[loss], start=start, restarts=restarts, best=best, eot=eot, generator=g
    )(net(shape, dtype), x, y)
    assert x_adv.shape == x.shape and x_adv.dtype == (
        torch.float64 if dtype == torch.float64 else torch.float32
    )
    assert (
        b.inside(x_adv, x.to(x_adv.dtype), tol=1e-6).all() and x_adv.min() >= 0 and x_adv.max() <= 1
    )
    if eps == 0:
        assert torch.equal(x_adv, x.to(x_adv.dtype))


@settings(max_examples=40, deadline=None)
@given(
    shape=shapes,
    eps=st.floats(1e-3, 0.2),
    ball=st.sampled_from((Linf, L2)),
    seed=st.integers(0, 99),
)
def test_one_step_on_a_linear_model_gains_the_dual_norm(shape, eps, ball, seed):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(shape[1] * shape[2] * shape[3], generator=g, dtype=torch.float64)

    def f(x):
        return torch.stack([-x.flatten(1) @ w / 2, x.flatten(1) @ w / 2], 1)

    x, y = torch.full(shape, 0.5, dtype=torch.float64), torch.zeros(shape[0], dtype=torch.long)
    gain = margin(f(fgsm(ball(eps), loss=margin)(f, x, y)), y) - margin(f(x), y)
    dual = w.abs().sum() if ball is Linf else w.norm()
    torch.testing.assert_close(gain, (eps * dual).expand(shape[0]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ball", BALLS)
def test_randomness_belongs_to_the_generator(ball):
    x, y = torch.rand(3, 1, 5, 5), torch.tensor([0, 1, 2])
    m, before = net(x.shape), torch.get_rng_state()

    def run(seed):
        return pgd(ball(0.1), 3, 0.01, restarts=2, generator=torch.Generator().manual_seed(seed))(
            m, x, y
        )

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    assert torch.equal(torch.get_rng_state(), before)
    pgd(ball(0.1), 3)(m, x, y)
    # without one, torch's own stream is drawn from
    assert not torch.equal(torch.get_rng_state(), before)


def test_passes_modes_and_gradients_are_left_alone():
    m = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    ).train()
    m[3].eval()
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    m(x).sum().backward()
    grads, stats, modes = (
        [p.grad.clone() for p in m.parameters()],
        [b.clone() for b in m.buffers()],
        [k.training for k in m.modules()],
    )
    counts = [0, 0]
    m[0].register_forward_hook(lambda *_: counts.__setitem__(0, counts[0] + 1))
    m[0].register_full_backward_hook(lambda *_: counts.__setitem__(1, counts[1] + 1))
    for attack, passes in (
        (pgd(Linf(0.1), 6), [6, 6]),
        (pgd(Linf(0.1), 6, restarts=3), [21, 18]),
        (pgd(Linf(0.1), 6, recorder=Recorder()), [7, 6]),
        (fgsm(Linf(0.1)), [1, 1]),
        (pgd(Linf(0.1), 6, best=True), [7, 6]),
        (pgd(Linf(0.1), 6, eot=3), [18, 18]),
        (pgd(Linf(0.1), 6, best=True, eot=2, restarts=2), [28, 24]),
    ):
        counts[:] = 0, 0
        attack(m, x, y)
        assert counts == passes
    assert all(torch.equal(p.grad, g) for p, g in zip(m.parameters(), grads)) and all(
        torch.equal(a, b) for a, b in zip(m.buffers(), stats)
    )
    assert [k.training for k in m.modules()] == modes


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(0, 6), restarts=st.integers(1, 3), seed=st.integers(0, 99))
def test_best_is_the_worst_of_all_points_of_all_climbs(steps, restarts, seed):
    "Against a list of every point: any that fools before any that does not, then the highest loss"
    g = torch.Generator().manual_seed(seed)
    x, y, pts = torch.rand(4, 1, 4, 4, generator=g), torch.randint(0, 4, (4,), generator=g), []
    m = net(x.shape)
    x_adv, v, won = Attack(
        Linf(0.2),
        steps,
        0.15,
        restarts=restarts,
        best=True,
        generator=g,
        recorder=lambda s: pts.append((s.x, s.val, s.won)),
    ).run(m, x, y)
    for i in range(4):
        x_, v_, won_ = max(
            ((p[0][i], p[1][i], p[2][i]) for p in pts), key=lambda p: (p[2].item(), p[1].item())
        )
        assert v[i] == v_ and won[i] == won_ and torch.equal(x_adv[i], x_)
    assert len(pts) == restarts * (steps + 1)


@pytest.mark.parametrize("precision", ("channels_last", "bfloat16"))
def test_images_stay_in_float32_whatever_the_model_runs_in(precision):
    m = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
    x, y, ball = torch.rand(8, 3, 8, 8), torch.randint(0, 10, (8,)), Linf(8 / 255)
    x_adv = pgd(ball, 5, start=at_x)(fast(m, precision), x, y)
    assert x_adv.dtype == torch.float32 and ball.inside(x_adv, x, tol=1e-7).all()
    # full steps of 2/255, not what bfloat16 would leave of them
    assert ((x_adv - x).abs() > 8 / 255 - 1e-6).double().mean() > 0.5
    # weights that are bfloat16 themselves
    half = pgd(ball, 5, start=at_x)(m.bfloat16(), x, y)
    assert half.dtype == torch.float32 and ball.inside(half, x, tol=1e-7).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_cpu_generator_gives_the_same_start_on_the_gpu():
    x, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])

    def run(d):
        return pgd(Linf(0.1), 0, generator=torch.Generator().manual_seed(0))(
            net(x.shape).to(d), x.to(d), y.to(d)
        ).cpu()

    assert torch.equal(run("cpu"), run("cuda"))
