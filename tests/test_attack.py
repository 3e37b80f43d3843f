"Invariants of every attack, for shapes, radii and dtypes that hypothesis draws"

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.app import zoo
from spat_nb.attacks.ascent import State, ascend, at_x, gaussian, steepest, uniform, worst
from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import ce, dlr, margin
from spat_nb.attacks.recorder import Recorder
from spat_nb.attacks.wrapped import smoothed, targeted, tempered
from spat_nb.core.precision import fast
from spat_nb.data.sources import get_data

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


# ---- parity, closed forms, and what the numbers of `run` mean
def small_net():
    "A network with batch normalisation and dropout, in training mode but for one frozen layer"
    torch.manual_seed(0)
    m = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 36, 10),
    )
    m[1].eval()
    x, y = torch.rand(8, 1, 8, 8), torch.randint(0, 10, (8,))
    return m, x, y


BALL = Linf(8 / 255)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pgd_by_hand(model, x, y, eps, steps, lr):
    "PGD as it stands in a hundred repositories"
    x_adv = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        x_adv.requires_grad_()
        loss = nn.functional.cross_entropy(model(x_adv), y, reduction="sum")
        g = torch.autograd.grad(loss, x_adv)[0]
        d = (x_adv.detach() + lr * g.sign() - x).clamp(-eps, eps)
        x_adv = (x + d).clamp(0, 1)
    return x_adv


def test_pgd_is_the_loop_by_hand_bit_for_bit():
    m, x, y = small_net()
    torch.manual_seed(5)
    ours = pgd(BALL, 10, 2 / 255)(m, x, y)
    torch.manual_seed(5)
    assert torch.equal(ours, pgd_by_hand(m.eval(), x, y, 8 / 255, 10, 2 / 255))


def test_k_steps_are_k_passes_and_nothing_is_touched():
    m, x, y = small_net()
    modes, before = [k.training for k in m.modules()], x.clone()
    counts = {"forward": 0, "backward": 0}
    m[0].register_forward_hook(lambda *_: counts.update(forward=counts["forward"] + 1))
    m[0].register_full_backward_hook(lambda *_: counts.update(backward=counts["backward"] + 1))
    x_adv = pgd(BALL, steps=7)(m, x, y)
    assert counts == {"forward": 7, "backward": 7}
    assert [k.training for k in m.modules()] == modes
    assert all(p.grad is None for p in m.parameters()) and torch.equal(x, before)
    assert BALL.inside(x_adv, x, tol=1e-6).all() and not x_adv.requires_grad


def test_no_radius_no_steps_and_one_step():
    m, x, y = small_net()
    assert torch.equal(pgd(Linf(0.0))(m, x, y), x) and torch.equal(pgd(L2(0.0))(m, x, y), x)
    torch.manual_seed(5)
    start = uniform(x, BALL)
    torch.manual_seed(5)
    assert torch.equal(pgd(BALL, steps=0)(m, x, y), start)
    # one full step from x is FGSM
    assert torch.equal(pgd(BALL, 1, BALL.eps, start=at_x)(m, x, y), fgsm(BALL)(m, x, y))


def test_images_are_lifted_to_float32_at_least():
    m, x, y = small_net()
    assert pgd(BALL)(m, x.half(), y).dtype == torch.float32
    assert pgd(BALL)(m.double(), x.double(), y).dtype == torch.float64
    m.float()
    assert BALL.inside(pgd(BALL)(nn.Sequential(*m).bfloat16(), x, y), x).all()


def test_the_same_generator_state_gives_the_same_images():
    m, x, y = small_net()
    rng = torch.get_rng_state()

    def draw(seed):
        return pgd(BALL, generator=seeded(seed))(m, x, y)

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda m, x, y: pgd(BALL)(m, x * 255, y), "divide by 255"),
        (lambda m, x, y: pgd(BALL)(m, x, y + 5), "y holds label"),
        (lambda m, x, y: pgd(BALL)(nn.Sequential(*m, nn.Softmax(1)), x, y), "probabilities"),
        (lambda m, x, y: pgd(8 / 255), r"Linf\(8/255\)"),
        (lambda m, x, y: pgd(BALL, steps=-1), "steps is -1"),
        (lambda m, x, y: pgd(BALL, restarts=0), "restarts is 0"),
        (lambda m, x, y: pgd(BALL, lr=-0.1), "lr is -0.1"),
        (lambda m, x, y: pgd(BALL, eot=0), "eot is 0"),
    ],
)
def test_bad_input_is_refused_at_the_door(call, sentence):
    m, x, y = small_net()
    with pytest.raises((ValueError, TypeError), match=sentence):
        call(m.eval(), x, y)


def test_restarts_only_make_it_worse():
    m, x, y = small_net()
    m.eval()

    def attack(n):
        return pgd(BALL, 3, generator=seeded(), restarts=n)(m, x, y)

    one, three = (nn.functional.cross_entropy(m(attack(n)), y, reduction="none") for n in (1, 3))
    fooled = [margin(m(attack(n)), y) > 0 for n in (1, 3)]
    # a success is never given back, and the loss does not fall
    assert (fooled[1] >= fooled[0]).all()
    assert (three >= one - 1e-6)[fooled[0] == fooled[1]].all()


def test_best_is_the_worst_of_all_iterates():
    m, x, y = small_net()

    def run(n, **kw):
        return pgd(BALL, n, 0.05, generator=seeded(), **kw).run(m, x, y)

    last, best = run(7), run(7, best=True)
    # no randomness after the start: the 7 steps, cut short
    points = [run(n) for n in range(8)]
    assert torch.equal(torch.stack([p[2] for p in points]).any(0), best[2])
    assert torch.equal(worst(best, last)[0], best[0])
    assert all(torch.equal(worst(p, best)[0], best[0]) for p in points)
    # what `run` reports is what the model says of these images
    m.eval()
    for x_adv, v, won in (last, best):
        z = m(x_adv)
        torch.testing.assert_close(v, ce(z, y), rtol=0, atol=1e-5)
        assert torch.equal(won, z.argmax(1) != y)
    # asking changes nothing
    assert torch.equal(last[0], pgd(BALL, 7, 0.05, generator=seeded())(m, x, y))


def test_best_keeps_a_point_that_the_last_step_left():
    def peak(x):  # class 0 is least likely at .51
        return torch.cat([(x - 0.51).abs(), 0 * x], 1).flatten(1)

    grey, y = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    end, kept = (pgd(BALL, 7, 0.05, start=at_x, best=b)(peak, grey, y) for b in (False, True))
    assert kept == 0.5 and abs(end - 0.51) > abs(kept - 0.51)


class Shaky(nn.Module):
    "A linear model of two classes; each pass adds noise of deviation `sigma` to its weights"

    def __init__(self, w, sigma):
        super().__init__()
        self.w = w
        self.sigma = sigma

    def forward(self, x):
        v = ((x - 0.5).flatten(1) * (self.w + self.sigma * torch.randn(len(x), 64))).sum(1)
        return torch.stack([v, -v], 1)


def test_the_mean_gradient_of_many_passes_fools_a_random_model():
    torch.manual_seed(0)
    shaky = Shaky(torch.randn(64).sign(), 3.0)
    mean = Shaky(shaky.w, 0.0)
    x = (0.5 + 0.02 * shaky.w).view(1, 1, 8, 8).expand(200, -1, -1, -1)
    y = torch.zeros(200, dtype=torch.long)

    def turned(n):
        x_adv = pgd(Linf(0.03), 5, eot=n, start=at_x, loss=margin)(shaky, x, y)
        return (mean(x_adv).argmax(1) != y).double().mean()

    assert turned(20) > 0.95 and turned(1) < 0.1
    passes = [0]
    shaky.register_forward_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    pgd(Linf(0.03), 5, eot=4, best=True)(shaky, x, y)
    assert passes == [4 * (5 + 1)]


def test_a_targeted_attack_lowers_the_loss_of_the_wanted_label():
    m, x, y = small_net()
    t = (y + 1) % 10
    towards = Attack(Linf(0.3), 20, loss=targeted(ce))(m, x, t)
    m.eval()
    assert (ce(m(towards), t) < ce(m(x), t)).all()


def test_a_recorder_sees_every_point():
    m, x, y = small_net()
    rec = Recorder()
    pgd(BALL, 5, recorder=rec)(m, x, y)
    frame = rec.frame()
    assert list(frame.step) == [0, 1, 2, 3, 4, 5]
    assert abs(frame.accuracy.iloc[-1] - (~rec.rows[-1]["won"]).double().mean()) < 1e-9
    assert frame.norm.max() <= 8 / 255 + 1e-6 and frame.loss.iloc[-1] > frame.loss.iloc[0]


# ---- on shipped networks
@pytest.fixture(scope="module")
def digits():
    m = zoo.load("digits/standard/w16", "cpu").requires_grad_(False)
    return m, *get_data("digits", device="cpu").test.tensors()


class Times(nn.Module):
    "The same answers, other logits"

    def __init__(self, model, s):
        super().__init__()
        self.model = model
        self.s = s

    def forward(self, x):
        return self.s * self.model(x)


def test_many_steps_beat_one_and_a_scale_hides_it(digits):
    m, x, y = digits

    def flight(model, attack, **kw):
        rec = Recorder()
        attack(recorder=rec, **kw)(model, x, y)
        return rec.frame()

    many = flight(m, lambda **kw: pgd(Linf(0.15), 20, generator=seeded(), **kw))
    one = flight(m, lambda **kw: fgsm(Linf(0.15), **kw))
    assert many.accuracy.iloc[-1] <= one.accuracy.iloc[-1] + 0.005
    loud = flight(Times(m, 256.0), lambda **kw: pgd(Linf(0.15), 20, generator=seeded(), **kw))
    assert loud.accuracy.iloc[-1] > many.accuracy.iloc[-1] + 0.1 and loud.zero[0] > 0.1


def test_the_margin_is_not_fooled_by_a_scale(digits):
    m, x, y = digits

    def attacked(model):
        return pgd(Linf(0.15), 20, loss=margin, generator=seeded())(model, x, y)

    # a power of two scales exactly: the very same images
    assert torch.equal(attacked(m), attacked(Times(m, 256.0)))


# ---- the ascent itself
def test_a_state_has_a_memory_of_its_own():
    x = torch.tensor([[0.2, 0.5]])
    s = State(x, Linf(0.1), 10, 0.02, x)
    assert (s.i, s.val, s.own) == (0, None, {})
    assert State(x, Linf(0.1), 10, 0.02, x).own is not s.own


def test_the_worse_of_two_points():
    yes, no = torch.tensor([True]), torch.tensor([False])
    points = ((1.0, 2.1, no), (2.0, 0.9, yes), (3.0, 1.4, yes))
    a, b, c = ((torch.tensor([[x]]), torch.tensor([v]), won) for x, v, won in points)
    # the order does not matter
    found = [worst(*pair)[0].item() for pair in ((b, a), (a, b), (c, b), (b, c))]
    assert found == [2.0, 2.0, 3.0, 3.0]
    # a tie: the old one stays
    tied = worst((c[0], b[1], yes), b)[0]
    assert worst(a) is a and tied is not c[0] and tied.item() == 2.0
    # each sample by itself
    both = worst(*[tuple(map(torch.cat, zip(*p))) for p in ((a, c), (b, b))])
    assert both[0].flatten().tolist() == [2.0, 3.0]


def test_starts_are_inside_and_drawn_as_they_say():
    x = torch.rand(3, 1, 4, 4, generator=seeded(1))
    assert at_x(x, Linf(0.1)) is x
    torch.manual_seed(3)
    ours = uniform(x, Linf(0.1))
    torch.manual_seed(3)
    # the draw of the loop by hand
    assert torch.equal(ours, (x + torch.empty_like(x).uniform_(-0.1, 0.1)).clamp(0, 1))
    d = gaussian(0.001)(torch.full((1, 1, 100, 100), 0.5), Linf(0.1), seeded()) - 0.5
    assert abs(d.std() - 0.001) < 1e-4
    assert Linf(0.0005).inside(gaussian(0.01)(x, Linf(0.0005)), x).all()


def test_a_step_has_length_lr_along_the_gradient():
    x = torch.tensor([[0.2, 0.5]])
    s = State(x, L2(0.5), 10, 0.1, x, g=torch.tensor([[3.0, -4.0]]))
    torch.testing.assert_close(steepest(s), torch.tensor([[0.2 + 0.1 * 0.6, 0.5 - 0.1 * 0.8]]))


def hill(x):
    return (-((x[:, 0] - 0.9) ** 2) - (x[:, 1] - 0.65) ** 2 / 2,)


def iterates(ball, lr):
    points, middle = [], torch.tensor([[0.4, 0.4]])
    ascend(hill, middle, ball, 12, steepest, at_x, lr, recorder=lambda s: points.append(s.x[0]))
    return torch.stack(points)


def test_the_ascent_ends_at_the_best_point_of_the_ball():
    square, disc = iterates(Linf(0.15), 0.04), iterates(L2(0.15), 0.04)
    assert len(square) == 13  # 12 steps, 13 points
    torch.testing.assert_close(square[-1], torch.tensor([0.55, 0.55]), rtol=0, atol=1e-6)
    assert abs((disc[-1] - 0.4).norm() - 0.15) < 1e-6
    angles = torch.linspace(0, 2 * torch.pi, 3601)
    rim = 0.4 + 0.15 * torch.stack([angles.cos(), angles.sin()], 1)
    assert hill(disc[-1:])[0] >= hill(rim)[0].max() - 1e-4
