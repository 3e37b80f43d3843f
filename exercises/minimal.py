"""Exercises of the lesson on the smallest change"""

import math

import torch

from spat_nb import Linf, fab, get_data, pgd, within, zoo
from spat_nb.learn.exercise import Exercise

# ---- 2. one DeepFool step


def onto_the_plane(g, v):
    squares = (g * g).T.sum(0)
    return (-v / squares * g.T).T


def by_length(g, v):
    n = g.norm(dim=1)
    return g / n[:, None] * (-v / n)[:, None]


def length_once(g, v):
    return -v[:, None] * g / g.norm(dim=1, keepdim=True)


def away_from_it(g, v):
    return v[:, None] * g / g.square().sum(1, keepdim=True)


def step_cases():
    rng = torch.Generator().manual_seed(0)
    return [
        (torch.randn(3, 4, generator=rng), -torch.rand(3, generator=rng)),
        (torch.tensor([[3.0, 4.0]]), torch.tensor([-1.0])),
    ]


# ---- 3. there and back


def there_and_back(x, near):
    w = torch.atanh((2 * x - 1) * (1 - near))
    return w, (torch.tanh(w) + 1) / 2


def without_the_shrinking(x, near):
    return ((2 * x - 1) * (1 - near)).atanh(), x


def clamped_instead(x, near):
    w = (2 * x - 1).clamp(-1 + near, 1 - near).atanh()
    return w, (w.tanh() + 1) / 2


def pixels():
    rng = torch.Generator().manual_seed(1)
    return [(torch.tensor([0.0, 0.25, 1.0]), 0.01), (torch.rand(2, 5, generator=rng), 1e-1)]


# ---- 4. the middle of the curve


def middle(d):
    return sorted(d.tolist())[(len(d) + 1) // 2 - 1]


def by_sort(d):
    return d.sort().values[math.ceil(len(d) / 2) - 1]


def of_those_found(d):
    return d[d.isfinite()].median()


def upper_middle(d):
    return d.sort().values[len(d) // 2]


def distances():
    t, inf = torch.tensor, math.inf
    rng = torch.Generator().manual_seed(2)
    return [
        (t([0.0, 0.1, 0.2, 0.3]),),
        (t([0.3, 0.1, inf, 0.2, inf]),),
        (t([inf, inf, 0.1]),),
        (torch.rand(101, generator=rng),),
        (torch.rand(8, generator=rng),),
    ]


# ---- 5. the masked model


def shipped():
    net = zoo.load("digits/standard/w16", "cpu").requires_grad_(False)
    x, y = get_data("digits", device="cpu").test.tensors()
    return net, x[:50], y[:50]


def breaks_the_mask(attack, eps=0.15):
    net, x, y = shipped()

    def masked(x):
        return net((32 * x).round() / 32)

    x_adv = attack(x.clone(), y.clone(), eps)
    if x_adv is None:
        raise NotImplementedError
    if not Linf(eps).inside(x_adv, x).all():
        return "some images lie outside of Linf(eps), or of the box."
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        left = int((masked(x_adv).argmax(1) == y).sum())
        by_pgd = int((net(pgd(Linf(eps), 40, generator=rng)(net, x, y)).argmax(1) == y).sum())
    if left > by_pgd + 5:
        return f"{left} of 50 images are still answered right; at most {by_pgd + 5} may be."
    return ""


def by_another_network(x, y, eps):
    rng = torch.Generator().manual_seed(0)
    return pgd(Linf(eps), 40, generator=rng)(shipped()[0], x, y)


def by_best_point(x, y, eps):
    rng = torch.Generator().manual_seed(1)
    return pgd(Linf(eps), 40, best=True, generator=rng)(shipped()[0], x, y)


def only_just(x, y, eps):
    return within(fab(Linf, steps=5), Linf(eps))(shipped()[0], x, y)


def nothing(x, y, eps):
    return x


def too_far(x, y, eps):
    return by_another_network(x, y, 2 * eps)


EXERCISES = {
    "minimal 2": Exercise(
        reference=onto_the_plane,
        cases=step_cases,
        right=[by_length],
        wrong=[length_once, away_from_it],
        hints=(
            "One unit along g raises the value by |g|; and the shortest step goes along g.",
            "The displacement is a multiple of g: which factor makes g.d equal to -v?",
        ),
    ),
    "minimal 3": Exercise(
        reference=there_and_back,
        cases=pixels,
        tol=1e-5,
        wrong=[without_the_shrinking, clamped_instead],
        hints=(
            "First from [0,1] to [-1,1], then the shrinking, then atanh.",
            "Back again: tanh, and from [-1,1] to [0,1]. Nobody takes the shrinking back.",
        ),
    ),
    "minimal 4": Exercise(
        reference=middle,
        cases=distances,
        right=[by_sort],
        wrong=[of_those_found, upper_middle],
        hints=(
            "Sort: what was wrong already comes first, what is never fooled comes last.",
            "Half of n, rounded up, must be fooled. At which place of the sorted list is the last"
            " of them?",
        ),
    ),
    "minimal 5": Exercise(
        check=breaks_the_mask,
        solution=by_another_network,
        right=[by_best_point],
        wrong=[only_just, nothing, too_far],
        hints=(
            "`net` and `masked` answer nearly alike, so an image that fools the one often fools"
            " the other.",
            "Do not stop at the boundary: an attack that goes on to the edge of the ball is hard"
            " to round back.",
        ),
    ),
}
