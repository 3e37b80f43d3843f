"""Exercises of the lesson on objectives"""

import torch
from torch import nn
from torch.nn import functional as F

from spat_nb import Linf, ce, fgsm, kl, pgd_at, standard
from spat_nb.learn.exercise import Exercise


def two_features(n=4000):
    "Images (n,1,1,2) and labels (n,)"
    y = torch.arange(n) % 2
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(n, 2, generator=g) * torch.tensor([0.1, 0.025])
    x = 0.5 + (2 * y - 1)[:, None] * torch.tensor([0.16, 0.04]) + noise
    return x.clamp(0, 1)[:, None, None], y


class Line(nn.Module):
    def __init__(self, w=(0.0, 0.0)):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        m = (x.flatten(1) - 0.5) @ self.w + self.b
        return torch.stack([-m / 2, m / 2], 1)


class Three(nn.Module):
    "Three logits of three pixels, so that a sum over classes is not a mean"

    def forward(self, x):
        return x.flatten(1) @ torch.tensor([[3.0, -1.0, 0.5], [0.0, 2.0, -2.0], [1.0, 1.0, -4.0]])


def batches():
    x, y = two_features(60)
    g = torch.Generator().manual_seed(1)
    rgb = torch.rand(7, 3, 1, 1, generator=g)
    return [
        (Line((3.0, 5.0)), x[:50], y[:50], fgsm(Linf(0.1))),
        (Line((-2.0, 9.0)), x[50:], y[50:], fgsm(Linf(0.05))),
        (Three(), rgb, torch.tensor([0, 1, 2, 2, 1, 0, 1]), fgsm(Linf(0.1))),
    ]


# ---- 2. the gradient of the KL


def kl_gradient(z, p):
    return z.softmax(1) - p


def by_autograd(z, p):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(kl(z, p).sum(), z)[0]


def downhill(z, p):
    return p - z.softmax(1)


def over_the_batch(z, p):
    return (z.softmax(1) - p) / len(z)


def kl_cases():
    g = torch.Generator().manual_seed(1)
    shapes = ((3, 5), (1, 2), (4, 3))
    return [
        (3 * torch.randn(*s, generator=g), torch.randn(*s, generator=g).softmax(1)) for s in shapes
    ]


# ---- 3. a mixture


def mixed(model, x, y, attack, share):
    return share * standard(model, x, y) + (1 - share) * pgd_at(model, x, y, attack)


def mixed_by_hand(model, x, y, attack, share):
    clean = F.cross_entropy(model(x), y)
    return share * clean + (1 - share) * F.cross_entropy(model(attack(model, x, y)), y)


def other_way_round(model, x, y, attack, share):
    return (1 - share) * standard(model, x, y) + share * pgd_at(model, x, y, attack)


def mixed_cases():
    return [(*batch, share) for batch in batches() for share in (0.0, 0.3, 0.5, 0.9, 1.0)]


# ---- 4. pairing without the clean half


def my_alp(model, x, y, attack, lam):
    x_adv = attack(model, x, y)
    z, z_adv = model(x), model(x_adv)
    return ce(z_adv, y).mean() + lam * ((z - z_adv) ** 2).mean()


def with_functional(model, x, y, attack, lam):
    x_adv = attack(model, x, y)
    return F.cross_entropy(model(x_adv), y) + lam * F.mse_loss(model(x_adv), model(x))


def sum_over_classes(model, x, y, attack, lam):
    x_adv = attack(model, x, y)
    z, z_adv = model(x), model(x_adv)
    return ce(z_adv, y).mean() + lam * ((z - z_adv) ** 2).sum(1).mean()


def clean_half(model, x, y, attack, lam):
    z, z_adv = model(x), model(attack(model, x, y))
    return ce(z, y).mean() + lam * ((z - z_adv) ** 2).mean()


def alp_cases():
    return [(*batch, lam) for batch in batches() for lam in (0.0, 0.5, 2.0)]


# ---- 5. break adversarial training


def is_broken(fn):
    (x, y), attack, calls = two_features(), fgsm(Linf(0.08)), []

    def counted(model, x, y):
        calls.append(1)
        return attack(model, x, y)

    model = Line()
    opt = torch.optim.Adam(model.parameters(), 8.0)
    steps = 300
    loss = torch.tensor(1.0)
    for i in range(steps):
        opt.param_groups[0]["lr"] = 8.0 * (1 - i / steps)
        opt.zero_grad()
        loss = fn(model, x, y, counted)
        loss.backward()
        opt.step()
    if len(calls) < steps:
        return f"the attack was called {len(calls)} times in {steps} steps."
    if loss.item() >= 0.1:
        return f"its loss ends at {loss.item():.3f}."
    left = (model(attack(model, x, y)).argmax(1) == y).double().mean().item()
    return "" if left < 0.65 else f"{left:.0%} of the images are right under attack."


def broken(model, x, y, attack):
    return ce(model(attack(model, x, 1 - y)), y).mean()


def mirrored(model, x, y, attack):
    return ce(model(2 * x - attack(model, x, y)), y).mean()


def not_broken(model, x, y, attack):
    return pgd_at(model, x, y, attack)


EXERCISES = {
    "objectives 2": Exercise(
        reference=kl_gradient,
        cases=kl_cases,
        right=[by_autograd],
        wrong=[downhill, over_the_batch],
        hints=(
            "Up to a constant, KL(p || softmax(z)) is the cross-entropy of z against the target p.",
            "With a label the gradient of cross-entropy is softmax(z) minus the one-hot vector."
            " What stands in its place here?",
        ),
    ),
    "objectives 3": Exercise(
        reference=mixed,
        cases=mixed_cases,
        right=[mixed_by_hand],
        wrong=[other_way_round],
        hints=(
            "Both losses are functions of this lesson: `standard` and `pgd_at`.",
            "`share` belongs to the clean one; at share = 1 no attack would be needed.",
        ),
    ),
    "objectives 4": Exercise(
        reference=my_alp,
        cases=alp_cases,
        tol=1e-5,
        right=[with_functional],
        wrong=[sum_over_classes, clean_half],
        hints=(
            "Make x_adv, then run the network on clean and on attacked images.",
            "1/c times a squared length is a mean over the classes; then comes the mean over the"
            " batch.",
        ),
    ),
    "objectives 5": Exercise(
        check=is_broken,
        solution=broken,
        right=[mirrored],
        wrong=[not_broken],
        hints=(
            "The attack does what it is asked. Which question makes it harmless, or even helpful?",
            "What does the attack do with an image whose label it is told wrongly?",
        ),
    ),
}
