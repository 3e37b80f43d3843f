"""Losses: closed forms, gradients against finite differences, what scale and shift do, wrappers
that can be nested, and one sentence where labels do not fit
"""

import math
from functools import partial

import pytest
import torch
from torch import tensor
from torch.nn import functional as F

from spat_nb.attacks.losses import ce, dlr, kl, margin, missed
from spat_nb.attacks.wrapped import (
    dlr_targeted,
    margin_targeted,
    smooth,
    smoothed,
    targeted,
    tempered,
)
from spat_nb.core.rng import generator

same = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
near = partial(torch.testing.assert_close, rtol=0, atol=1e-5)

Z = 3 * torch.randn(200, 10, dtype=torch.float64, generator=generator(0))
Y = torch.randint(0, 10, (200,), generator=generator(1))
Q = torch.randn(200, 10, dtype=torch.float64, generator=generator(2)).softmax(1)
T = (Y + torch.randint(1, 10, (200,), generator=generator(3))) % 10  # wanted classes
E = F.one_hot(Y, 10).double()
P = Z.softmax(1)
ROWS = tensor([[3.0, 1.0, 0.0, -5.0]]).expand(3, -1)
LABELS = tensor([0, 1, 3])
ZEROS = torch.zeros(3, dtype=torch.int64)


def grad(loss, z, *args):
    "Gradient of `loss` in the logits (b,c)"
    z = z.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(z, *args).sum(), z)[0]


# ---- cross-entropy
def test_cross_entropy_by_hand():
    z = tensor([[6.0, 3.0, 1.0]]).log()
    for k, p in enumerate((0.6, 0.3, 0.1)):
        near(ce(z, tensor([k])), tensor([-math.log(p)]))


def test_a_label_is_a_sure_target():
    same(ce(Z, E), ce(Z, Y))
    same(ce(Z, Q), -(Q * Z.log_softmax(1)).sum(1))


def test_the_gradient_of_cross_entropy_is_softmax_minus_target():
    same(grad(ce, Z, Y), P - E)
    same(grad(ce, Z, Q), P - Q)


def test_cross_entropy_ignores_shifts_and_other_samples():
    same(ce(Z + 7, Y), ce(Z, Y))
    same(ce(Z[3:5], Y[3:5]), ce(Z, Y)[3:5])
    assert (ce(Z, Y) >= 0).all() and ce(Z, Y).shape == (200,) and ce(Z, Y).dtype == torch.float64


def on_both(gap, dtype=torch.float32):
    "Gradients of cross-entropy on label and rival, where the label leads by `gap`"
    return grad(ce, tensor([[gap, 0.0]], dtype=dtype), tensor([0]))[0].tolist()


def test_where_the_gradient_of_cross_entropy_rounds_to_zero():
    assert on_both(105.0) == [0.0, 0.0]
    assert on_both(18.0)[0] == 0.0
    assert on_both(85.0)[1] > 0 > on_both(16.0)[0]
    assert on_both(18.0, torch.float64)[0] < 0 < on_both(105.0, torch.float64)[1]
    lead = next(k for k in range(1, 2000) if on_both(float(k), torch.float64)[1] == 0)
    assert abs(lead - (1074 + 1) * math.log(2)) < 1.5


def blind_from(loss):
    "The largest gap rival - label at which the gradient is exactly zero, or None"
    m = torch.linspace(-120, 20, 1401)
    z = torch.stack([torch.zeros_like(m), m, torch.full_like(m, -200.0)], 1)
    zero = grad(loss, z, torch.zeros(len(m), dtype=torch.int64))[:, 1] == 0
    return m[zero].max().item() if zero.any() else None


def test_margin_and_dlr_are_never_blind():
    at_1 = blind_from(ce)
    # -87 on machines without the tiniest numbers
    assert -104.5 < at_1 < -86 and abs(5 * blind_from(tempered(ce, 5.0)) - at_1) < 1
    assert blind_from(margin) is blind_from(dlr) is None


def one_step(loss, scale, eps=0.2):
    "One sign step on a linear model: share of zero gradients, and accuracy after it"
    torch.manual_seed(0)
    w, x = 0.5 * torch.randn(64, 5), torch.rand(500, 64)
    y = (x @ w).argmax(1)
    assert torch.equal((1000 * (x @ w)).argmax(1), y)
    x_ = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(scale * (x_ @ w), y).sum(), x_)
    right = ~missed((x + eps * g.sign()) @ w, y)
    return (g == 0).all(1).float().mean().item(), right.float().mean().item()


def test_a_scale_blinds_cross_entropy_alone():
    zero, accuracy = one_step(ce, 1000.0)
    assert zero > 0.9 and accuracy > 0.9
    zero, accuracy = one_step(ce, 1.0)
    assert zero == 0 and accuracy < 0.2
    for loss in (margin, dlr):
        before, after = one_step(loss, 1.0), one_step(loss, 1000.0)
        assert after == pytest.approx(before, abs=0.01) and before[1] < 0.5
    assert one_step(tempered(ce, 1e-3), 1000.0) == pytest.approx(one_step(ce, 1.0), abs=0.01)


def test_cross_entropy_ranks_points_by_scale_and_the_others_do_not():
    a, b, y = tensor([[0.0] + 9 * [-1.0]]), tensor([[0.0, -0.1] + 8 * [-10.0]]), tensor([0])
    assert ce(a, y) > ce(b, y) and ce(10 * a, y) < ce(10 * b, y)
    assert all(f(s * a, y) < f(s * b, y) for f in (margin, dlr) for s in (1, 10))


# ---- who won
def test_missed_counts_labels_targets_and_ties():
    assert missed(ROWS, LABELS).tolist() == [False, True, True]
    assert missed(ROWS, F.one_hot(LABELS, 4).float()).tolist() == [False, True, True]
    # a tie: the first class answers
    assert missed(torch.zeros(2, 3), tensor([0, 2])).tolist() == [False, True]


# ---- margin
def test_margin_by_hand_and_by_a_loop():
    assert margin(ROWS, LABELS).tolist() == [-2.0, 2.0, 8.0]
    others = [torch.cat([v[:k], v[k + 1 :]]).max() - v[k] for v, k in zip(Z, Y)]
    same(margin(Z, Y), torch.stack(others))


def test_the_sign_of_the_margin_is_the_answer():
    assert torch.equal(margin(Z, Y) > 0, missed(Z, Y))
    assert (margin(Z, Z.argmax(1)) < 0).all()
    assert margin(torch.zeros(2, 3), tensor([0, 2])).tolist() == [0.0, 0.0]


def test_the_gradient_of_the_margin_is_1_and_minus_1():
    g = grad(margin, Z, Y)
    same(g.gather(1, Y[:, None])[:, 0], -torch.ones(200).double())
    same(g.sum(1), torch.zeros(200).double())
    assert (g != 0).sum(1).unique().tolist() == [2]


def test_cross_entropy_is_a_smooth_margin():
    same(ce(Z[:, :2], Y % 2), F.softplus(margin(Z[:, :2], Y % 2)))
    cut = margin(Z, Y).clamp_min(0)
    assert (ce(Z, Y) >= cut).all() and (ce(Z, Y) <= cut + math.log(10)).all()


# ---- dlr
def test_dlr_by_hand():
    near(dlr(ROWS, LABELS), tensor([-2 / 3, 2 / 3, 8 / 3]))
    # a dead network
    assert torch.isfinite(dlr(torch.zeros(2, 3), tensor([0, 1]))).all()


def test_dlr_tells_the_place_of_the_label():
    place = (Z > Z.gather(1, Y[:, None])).sum(1)  # 0: the label came first
    v = dlr(Z, Y)
    assert all((place == k).any() for k in (0, 1, 2, 3))
    assert ((v >= -1) & (v <= 0))[place == 0].all()
    assert ((v >= 0) & (v <= 1))[(place == 1) | (place == 2)].all()
    assert (v > 1)[place > 2].all()


@pytest.mark.parametrize("scale", [0.01, 1.0, 1e4])
@pytest.mark.parametrize("loss", [dlr, dlr_targeted(T)], ids=["dlr", "dlr_targeted"])
def test_scale_and_shift_do_nothing_to_the_ratios(loss, scale):
    torch.testing.assert_close(loss(scale * Z + 7, Y), loss(Z, Y), rtol=1e-7, atol=1e-9)


# ---- towards a wanted label
def test_targeted_is_minus_the_loss():
    f = targeted(margin)
    assert f(ROWS, LABELS).tolist() == [2.0, -2.0, -8.0]
    assert f.won(ROWS, LABELS).tolist() == [True, False, False]
    assert torch.equal(f(Z, Y) > 0, f.won(Z, Y))
    assert torch.equal(targeted()(Z, Y), -ce(Z, Y))
    assert not hasattr(ce, "won")


def test_dlr_targeted_by_hand():
    wanted = tensor([1, 2, 3])
    near(dlr_targeted(wanted)(ROWS, ZEROS), tensor([-2.0, -3.0, -8.0]) / 5.5)
    # third place: not stuck
    g = grad(dlr_targeted(wanted[1:2]), ROWS[:1], ZEROS[:1])
    assert g[0, 2] > 0 > g[0, 0]
    assert torch.isfinite(dlr_targeted(wanted)(torch.zeros(3, 4), ZEROS)).all()


def test_above_0_the_wanted_class_beats_the_label():
    v = dlr_targeted(T)(Z, Y)
    assert torch.equal(v > 0, Z.gather(1, T[:, None])[:, 0] > Z.gather(1, Y[:, None])[:, 0])
    # then the label cannot have won
    assert missed(Z, Y)[v > 0].all() and not hasattr(dlr_targeted(T), "won")
    assert torch.equal(margin_targeted(T)(Z, Y).sign(), v.sign())


def test_towards_the_best_rival_it_is_the_margin_in_another_unit():
    second = Z.scatter(1, Y[:, None], -math.inf).argmax(1)
    assert torch.equal(dlr_targeted(second)(Z, Y).sign(), margin(Z, Y).sign())


# ---- temperature
@pytest.mark.parametrize("tau, by_hand", [(1, 0.1192), (0.2, 0.0803), (5, 0.000227)])
def test_temperature_by_hand(tau, by_hand):
    two = tensor([[2.0, 0.0]]).double()
    assert abs(grad(tempered(ce, tau), two, tensor([0]))[0, 1].item() - by_hand) < 1e-4


def test_temperature_1_is_no_temperature():
    for loss in (ce, margin, dlr):
        assert torch.equal(tempered(loss, 1)(Z, Y), loss(Z, Y))


@pytest.mark.parametrize("tau", [0.2, 5.0])
def test_what_temperature_does_to_each_loss(tau):
    same(grad(tempered(ce, tau), Z, Y), tau * ((tau * Z).softmax(1) - E))
    same(tempered(margin, tau)(Z, Y), tau * margin(Z, Y))
    torch.testing.assert_close(tempered(dlr, tau)(Z, Y), dlr(Z, Y))


@pytest.mark.parametrize("tau", [10.0, 1e3])
def test_sharp_cross_entropy_tends_to_the_margin_cut_at_zero(tau):
    off = tempered(ce, tau)(Z, Y) / tau - margin(Z, Y).clamp_min(0)
    assert off.abs().max() <= math.log(10) / tau


def test_wrappers_keep_what_is_inside():
    nested = tempered(targeted(ce), 2.0)
    assert torch.equal(nested.won(Z, Y), ~missed(Z, Y))
    assert nested.__name__ == "tempered(targeted(ce), 2.0)"


def test_losses_have_telling_names():
    made = [targeted(), targeted(margin), smoothed(ce, 0.3), dlr_targeted(T)]
    names = ["targeted(ce)", "targeted(margin)", "smoothed(ce, 0.3)", "dlr_targeted"]
    assert [f.__name__ for f in made] == names


# ---- smoothed labels
def test_smoothing_by_hand():
    near(smooth(tensor([1]), 0.2, 4), tensor([[0.05, 0.85, 0.05, 0.05]]))
    # the other convention
    same(smooth(Y, 0.3 * 10 / 9, 10, torch.float64), E * (1 - 0.3) + (1 - E) * 0.3 / 9)


@pytest.mark.parametrize("a", [0.0, 0.1, 0.6, 1.0])
def test_smoothed_cross_entropy_is_that_of_torch(a):
    q = smooth(Y, a, 10, torch.float64)
    same(q.sum(1), torch.ones(200).double())
    same(smoothed(ce, a)(Z, Y), F.cross_entropy(Z, Y, reduction="none", label_smoothing=a))
    same(smoothed(ce, a)(Z, Y), ce(Z, q))
    same(grad(smoothed(ce, a), Z, Y), P - q)


def test_smoothing_keeps_the_dtype_of_the_logits():
    assert smooth(Y, 0.1, 10).dtype == torch.float32
    assert smoothed(ce, 0.1)(Z.float(), Y).dtype == torch.float32
    assert smoothed(ce, 0.1)(Z, Y).dtype == torch.float64


def best_gap(a, c):
    "Lead of the label at which smoothed cross-entropy is smallest"
    return math.log((1 - a + a / c) / (a / c))


@pytest.mark.parametrize("a", [0.1, 0.3, 0.6])
def test_smoothed_cross_entropy_is_smallest_at_a_finite_lead(a):
    m = torch.linspace(-4, 14, 181)
    z = torch.cat([m[:, None], torch.zeros(181, 9)], 1)
    at = smoothed(ce, a)(z, torch.zeros(181, dtype=torch.int64)).argmin()
    assert abs(m[at] - best_gap(a, 10)) < 0.1


@pytest.mark.parametrize("beyond", [-1, 1])
def test_beyond_that_lead_an_ascent_helps_the_label(beyond):
    y = tensor([0])
    z = tensor([[best_gap(0.3, 10) + beyond] + 9 * [0.0]])
    up = z + 0.5 * grad(smoothed(ce, 0.3), z, y)
    assert (margin(up, y) > margin(z, y)).item() == (beyond < 0)


# ---- kl
def test_kl_is_cross_entropy_minus_entropy():
    near(kl(torch.zeros(1, 2), tensor([[1.0, 0.0]])), tensor([math.log(2)]))
    same(kl(Z, Q), ce(Z, Q) + (Q * Q.log()).sum(1))
    same(grad(kl, Z, Q), grad(ce, Z, Q))
    same(kl(Z, E), ce(Z, Y))


def test_kl_is_positive_and_not_symmetric():
    assert (kl(Z, Q) > 0).all()
    same(kl(Z, P), torch.zeros(200).double())
    same(kl(Z + 7, Q), kl(Z, Q))
    assert not torch.allclose(kl(Q.log(), P), kl(Z, Q))


def test_kl_has_a_finite_gradient_where_a_network_is_sure():
    "Its softmax is exactly (1,0,0) in float32; a NaN here would turn every weight into NaN"
    sure = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    g = torch.autograd.grad(kl(torch.zeros(1, 3), sure.softmax(1)).sum(), sure)[0]
    assert g.isfinite().all() and g.abs().max() < 1e-6


def test_kl_has_no_gradient_at_the_clean_answer():
    assert grad(kl, Z, P).abs().max() < 1e-15
    noise = 0.01 * torch.randn(Z.shape, generator=generator(3))
    assert grad(kl, Z + noise, P).abs().max() > 1e-3


# ---- all of them
MADE = [
    ce,
    margin,
    dlr,
    targeted(ce),
    dlr_targeted((Y[:8] + 1) % 10),
    tempered(ce, 3.0),
    tempered(ce, 0.3),
    smoothed(ce, 0.3),
    tempered(smoothed(ce, 0.2), 2.0),
]


@pytest.mark.parametrize("loss", MADE, ids=lambda f: f.__name__)
def test_gradients_agree_with_finite_differences(loss):
    z = Z[:8].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, Y[:8]), z)


@pytest.mark.parametrize("loss", [ce, kl])
def test_gradients_with_soft_targets_agree_with_finite_differences(loss):
    z = Z[:8].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, Q[:8]), z)


@pytest.mark.parametrize("loss", [ce, margin, dlr, smoothed(ce, 0.3)], ids=lambda f: f.__name__)
def test_float32_agrees_with_float64(loss):
    torch.testing.assert_close(loss(Z.float(), Y), loss(Z, Y).float(), rtol=1e-5, atol=1e-5)


# ---- refusals
@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: margin(Z, Q), r"margin needs labels \(b,\), but y has shape \(200, 10\)"),
        (lambda: dlr(Z, Q), "needs labels"),
        (lambda: dlr(Z[:, :2], Y % 2), "at least 3 classes"),
        (lambda: targeted(margin)(Z, Q), "needs labels"),
        (lambda: dlr_targeted(T)(Z[:, :3], Y % 3), "at least 4 classes"),
        (lambda: dlr_targeted(T)(Z, Q), "needs labels"),
        (lambda: dlr_targeted(T)(Z[:5], Y[:5]), "made for 200 samples, but z has 5"),
        (lambda: smoothed(margin, 0.1)(Z, Y), "margin needs labels"),
        (lambda: smoothed(ce, 0.1)(Z, Q), "smooth needs labels"),
        # (10,10) and (10,): broadcasting would not have noticed
        (lambda: kl(Z[:10], Y[:10]), "use ce for labels"),
        *[(lambda t=t: tempered(ce, t), f"tau is {t}") for t in (0, -1, math.nan, math.inf)],
        *[(lambda a=a: smooth(Y, a, 10), f"a is {a}") for a in (-0.1, 1.1, math.nan)],
        *[(lambda a=a: smoothed(ce, a), f"a is {a}") for a in (-0.1, 1.1, math.nan)],
    ],
)
def test_one_sentence_where_something_does_not_fit(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
