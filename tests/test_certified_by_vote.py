"""Smoothing, training by bounds, and the card that sets proof beside attack"""

import math

import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

from spat_nb import IBP, CrownIBP, Learner, Linf, SmallCNN, Smoothed, gaussian_noise, get_data, pgd
from spat_nb.attacks.certify import certified_margins
from spat_nb.measure.gap import gap_table, plot_gap, radii_table
from spat_nb.measure.record import Record
from spat_nb.measure.smoothing import lower_share, smoothed_radius
from spat_nb.training.certified import worst_loss


@pytest.mark.parametrize("k,n,alpha", [(90, 100, 0.01), (510, 1000, 0.001), (1, 20, 0.05)])
def test_the_lower_share_is_the_one_at_which_the_count_is_just_unlikely(k, n, alpha):
    assert binom.sf(k - 1, n, lower_share(k, n, alpha)) == pytest.approx(alpha, rel=1e-6)


def test_ends_of_the_lower_share():
    assert lower_share(0, 10) == 0
    assert lower_share(50, 50, 0.01) == pytest.approx(0.01 ** (1 / 50))
    assert smoothed_radius(0.4, 1.0) == 0 and smoothed_radius(0.5, 1.0) == 0


def half_space(at):
    def model(x):
        rise = x.flatten(1)[:, 0] - at
        return torch.stack([-rise, rise], 1)

    return model


def always_certifies(k, n, sigma):
    "The planted fault: the counted share as it is, no abstention"
    return sigma * float(norm.ppf(k / n))


def test_a_vote_near_one_half_abstains_and_the_planted_certificate_is_caught():
    "The true distance is .005: whoever certifies more, or the wrong class, is caught"
    x, sigma, n = torch.full((200, 1, 1, 1), 0.5), 0.25, 200
    smoothed = Smoothed(half_space(0.495), sigma, n0=50, n=n)
    answers, radii = smoothed.certify(x)
    wrong = ((answers == 0) & (radii > 0)) | (radii > 0.005)
    assert wrong.sum() <= 3  # alpha = .001 for each of 200
    caught = 0
    for i in range(100):
        votes = smoothed.votes(x[i], n, torch.Generator().manual_seed(i))
        k = int(votes.max())
        radius = always_certifies(k, n, sigma)
        caught += radius > 0 and (int(votes.argmax()) == 0 or radius > 0.005)
    assert caught > 50


def test_smoothing_is_the_same_in_batches_and_again():
    x = torch.rand(3, 1, 2, 2)
    whole = Smoothed(half_space(0.4), n0=20, n=60).certify(x)
    again = Smoothed(half_space(0.4), n0=20, n=60).certify(x)
    assert all(torch.equal(a, b) for a, b in zip(whole, again))
    first = Smoothed(half_space(0.4), n0=20, n=60).certify(x[:1])
    assert torch.equal(first[1], whole[1][:1])
    assert Smoothed(half_space(0.4), n0=7, n=30, batch=4).certify(x)[0].shape == (3,)


@pytest.mark.parametrize("bad", [{"sigma": 0}, {"alpha": 0.6}, {"n": 0}])
def test_smoothing_refuses(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Smoothed(half_space(0), **bad)


def test_the_worst_loss_is_cross_entropy_of_the_worst_logits():
    margins = torch.tensor([[2.0, -1.0]])
    z = torch.tensor([[0.0, -2.0, 1.0]])
    want = nn.functional.cross_entropy(z, torch.tensor([0]))
    torch.testing.assert_close(worst_loss(margins)[0], want)


@pytest.mark.parametrize("make", [IBP, CrownIBP])
def test_training_by_bounds_sees_the_network_in_train_mode(make):
    torch.manual_seed(0)
    model, objective = SmallCNN(width=2), make(Linf(0.05))
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    was = model.body[1].running_mean.clone()
    loss = objective(model.train(), x, y)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    assert all(g.isfinite().all() for g in grads) and grads[0].abs().sum() > 0
    assert not torch.equal(model.body[1].running_mean, was) and model.training
    assert not any(hasattr(m, "seen") for m in model.modules())
    # a network of one layer: the loss is that of the exact worst case, half of it
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    low = certified_margins(one, x, y, Linf(0.05), dtype=torch.float32)
    clean = nn.functional.cross_entropy(one(x), y)
    want = (clean + worst_loss(low).mean()) / 2
    torch.testing.assert_close(objective(one, x, y), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [IBP, CrownIBP])
def test_without_a_ball_it_is_the_attacks(make):
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    given, of_attack = make(Linf(0.05))(model, x, y), make()(model, x, y, pgd(Linf(0.05), 3))
    assert torch.equal(given, of_attack)
    assert not torch.equal(given, make()(model, x, y, pgd(Linf(0.1), 3)))
    with pytest.raises(TypeError, match="no ball is given"):
        make()(model, x, y)


def test_the_radius_rises_over_the_run_and_the_objective_trains():
    data = get_data("digits", n=256, device="cpu", batch_size=64)
    objective, seen = CrownIBP(Linf(0.05), begin=0.0, end=1.0), []
    model = SmallCNN(width=4)

    def watched(*a):
        seen.append(objective.done)
        return objective(*a)

    Learner(model, data.train, watched, epochs=1, callbacks=[objective]).fit()
    assert seen == [0, 0.25, 0.5, 0.75] and objective.done == 1
    loss = gaussian_noise(model, *data.test[:4]) if hasattr(data.test, "__getitem__") else None
    assert loss is None or loss.isfinite()
    with pytest.raises(ValueError, match="kappa is 2"):
        CrownIBP(Linf(0.1), kappa=2)


def record():
    y = torch.tensor([0, 0, 1, 1])
    return Record(y, {"clean": y, "pgd": torch.tensor([0, 1, 1, 1])}, ("a", "b", "c"))


def test_the_card_counts_from_both_sides():
    card = gap_table(record(), torch.tensor([True, False, True, False]))
    assert card.loc["c"].isna().sum() == 3  # no images, no share
    card = card.drop("c")
    assert card.certified.tolist() == [0.5, 0.5, 0.5] and card.attacked.tolist() == [0.5, 1, 0.75]
    assert card.gap.tolist() == [0, 0.5, 0.25] and card.loc["all", "n"] == 4
    assert (card.lo < card.certified).all() and (card.hi >= card.attacked).all()
    with pytest.raises(ValueError, match="1 certified images fell under pgd, image 1 first"):
        gap_table(record(), torch.tensor([True, True, True, False]))
    with pytest.raises(ValueError, match="one bool for each of the 4"):
        gap_table(record(), torch.tensor([True]))


def test_radii_and_figure_of_a_linear_model():
    from spat_nb import fab, pgd

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval().requires_grad_(False)
    x = 0.4 + 0.2 * torch.rand(4, 1, 2, 2)
    model[1].bias += torch.tensor([-0.5, 0.5]) * model(x).diff(dim=1).mean().neg()
    y = model(x).argmax(1)
    row = model[1].weight[0] - model[1].weight[1]
    z = model(x)
    want = (z[:, 0] - z[:, 1]).abs() / row.abs().sum()
    keep = want < 0.3  # far from the edges of the pixels
    assert keep.any()
    table = radii_table(model, x, y, fab(Linf), halvings=12)
    proved, found = torch.tensor(table.certified), torch.tensor(table.found)
    torch.testing.assert_close(proved[keep], want[keep].double(), rtol=0, atol=2e-3)
    torch.testing.assert_close(found[keep], want[keep].double(), rtol=0.02, atol=2e-3)
    shares = plot_gap(model, x, y, [Linf(e) for e in (0.0, 0.05, 0.4)], lambda b: pgd(b, 5))
    assert all(a <= b for a, b in zip(shares["certified"], shares["attacked"]))
    assert shares["attacked"][0] == 1 and not math.isnan(shares["attacked"][2])
