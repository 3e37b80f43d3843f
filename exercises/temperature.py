"""Exercises of the lesson on temperature"""

import math

import torch
from torch.nn import functional as F

from spat_nb import Linf, ce, get_data, pgd, temperature_pgd, tempered, zoo
from spat_nb.learn.exercise import Exercise

# ---- 2. the safe loss


def safe_m(z, y, tau):
    own = F.one_hot(y, z.shape[1]).bool()
    return (tau * z).masked_fill(own, -math.inf).logsumexp(1) / tau - z[own]


def losing_digits(z, y, tau):
    "log 0: the sum is lost beside the 1"
    return ((tau * (z - z.gather(1, y[:, None]))).exp().sum(1) - 1).log() / tau


def loss_cases():
    g = torch.Generator().manual_seed(0)
    t = torch.tensor
    return [
        (t([[120.0, 0.0, -3.0]]), t([0]), 100.0),
        (torch.randn(4, 5, generator=g), t([0, 1, 2, 4]), 0.1),
        (t([[-300.0, 500.0, 2.0]]), t([1]), 7.0),
    ]


# ---- 3. the shares of the rivals


def shares(z, y, tau):
    return (tau * z).masked_fill(F.one_hot(y, z.shape[1]).bool(), -math.inf).softmax(1)


def label_took_its_share(z, y, tau):
    return (tau * z).softmax(1) * (1 - F.one_hot(y, z.shape[1]))


def share_cases():
    g = torch.Generator().manual_seed(0)
    t = torch.tensor
    return [
        (t([[2.0, 1.0, -1.0]]), t([0]), 1.0),
        (torch.randn(4, 5, generator=g), t([0, 1, 2, 4]), 0.1),
        (t([[3.0, 3.0, 3.0]]), t([1]), 50.0),
    ]


# ---- 4. a temperature at which the plain attack is blind


def very_sharp():
    return 100.0


def blinds(fn):
    tau = float(fn())
    if not tau > 0 or not math.isfinite(tau):
        return f"tau is {tau:g}; give a number above 0."
    x, y = (v[:100] for v in get_data("digits", device="cpu").test.tensors())
    net = zoo.load("digits/pgd_at/w16", "cpu").eval()
    left = []
    for attack in (
        pgd(Linf(0.15), 20, loss=tempered(ce, tau), generator=torch.Generator().manual_seed(0)),
        temperature_pgd(Linf(0.15), tau, generator=torch.Generator().manual_seed(0)),
    ):
        right = net(attack(net, x, y)).argmax(1) == y
        left.append(100 * right.double().mean().item())
    if left[0] < left[1] + 5:
        return (
            f"at tau = {tau:g} the plain attack leaves {left[0]:.0f}%, the safe one {left[1]:.0f}%."
        )
    return ""


EXERCISES = {
    "temperature 2": Exercise(
        reference=safe_m,
        cases=loss_cases,
        wrong=[losing_digits, lambda z, y, tau: (tau * z).logsumexp(1) / tau],
        hints=(
            "The label takes no part in the sum: put minus infinity in its place.",
            "exp(12000) is infinite. `logsumexp` takes the largest entry out before it raises"
            " anything to a power; subtract the logit of the label last.",
        ),
    ),
    "temperature 3": Exercise(
        reference=shares,
        cases=share_cases,
        wrong=[label_took_its_share],
        hints=(
            "A softmax over the rivals alone: what must stand in the place of the label so that it"
            " gets no share?",
            "exp(-inf) is 0. Fill the place of the label with -math.inf, after the multiplication"
            " by tau.",
        ),
    ),
    "temperature 4": Exercise(
        check=blinds,
        solution=very_sharp,
        right=[lambda: 50.0],
        wrong=[lambda: 1.0, lambda: 0.05],
        hints=(
            "Where does float32 lose the gradient of cross-entropy? At a lead of 16, and of 104.",
            "The network's lead is about 5 on average, and tau multiplies it.",
        ),
    ),
}
