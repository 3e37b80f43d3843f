"""Exercises of the lesson with the playground"""

import torch

from spat_nb import Linf, pgd, zoo
from spat_nb.data.sources import get_data
from spat_nb.learn.exercise import Exercise


# ---- 3: a plane that shows nothing
def directions(model, x, y):
    g = torch.Generator().manual_seed(0)
    return torch.randn(x.shape, generator=g), torch.randn(x.shape, generator=g)


def away_from_the_gradient(model, x, y):
    x = x.clone().requires_grad_()
    grad = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y), x)[0].flatten()
    g = torch.Generator().manual_seed(1)
    found = []
    for _ in range(2):
        d = torch.randn(x.numel(), generator=g)
        found.append((d - (d @ grad) / (grad @ grad) * grad).view_as(x))
    return found[0], found[1]


def of_the_attack(model, x, y):
    d = pgd(Linf(0.15), 20)(model, x, y) - x
    return d, directions(model, x, y)[0]


def nothing(model, x, y):
    return torch.zeros_like(x), torch.zeros_like(x)


def one_only(model, x, y):
    d = directions(model, x, y)[0]
    return d, 2 * d


def looks_safe(fn):
    model = zoo.load("digits/standard/w16", "cpu")
    xs, ys = (v[:40] for v in get_data("digits", device="cpu").test.tensors())
    attack = pgd(Linf(0.15), 20, generator=torch.Generator().manual_seed(0))
    steps, tried, calm = torch.linspace(-1, 1, 9), 0, 0
    for k in range(len(ys)):
        x, y = xs[k : k + 1], ys[k : k + 1]
        x_adv = attack(model, x, y)
        with torch.no_grad():
            if (model(x_adv).argmax(1) == y).all() or (model(x).argmax(1) != y).all():
                continue
        got = fn(model, x.clone(), y)
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            return "it should return two directions."
        a, b = (torch.as_tensor(v).float().flatten() for v in got)
        if len(a) != x.numel() or len(b) != x.numel():
            return f"each direction should have the shape {tuple(x.shape)}."
        a = a / a.norm().clamp_min(1e-20)
        b = b - (a @ b) * a
        if a.norm() < 0.5 or not b.norm() > 1e-3:
            return "the two directions should span a plane."
        b = b / b.norm()
        far = (x_adv - x).norm().item()
        grid = torch.cartesian_prod(steps, steps) * far
        points = (x.flatten() + grid @ torch.stack([a, b])).clamp(0, 1).view(-1, *x.shape[1:])
        with torch.no_grad():
            calm += bool((model(points).argmax(1) == y).all())
        tried += 1
        if tried == 12:
            break
    if calm < 0.6 * tried:
        return f"{calm} of {tried} maps show no wrong answer; six of ten are asked."
    return ""


# ---- 5: distance from the shadow
def off_plane(d, track):
    own = torch.einsum("kn,kn->k", d, d) - torch.einsum("kt,kt->k", track, track)
    return own.clamp_min(0).sqrt()


def by_lengths(d, track):
    return (d.norm(dim=1) ** 2 - track.norm(dim=1) ** 2).clamp_min(0) ** 0.5


def difference_of_lengths(d, track):
    return d.norm(dim=1) - track.norm(dim=1)


def without_the_root(d, track):
    return (d**2).sum(1) - (track**2).sum(1)


def path_cases():
    g = torch.Generator().manual_seed(0)
    cases = []
    for k, n in ((5, 12), (1, 6), (7, 3)):
        d = torch.randn(k, n, generator=g).double()
        axes = torch.linalg.qr(torch.randn(n, 2, generator=g).double()).Q
        cases.append((d, d @ axes))
    flat = torch.eye(4)[:3].double()
    cases.append((flat, flat[:, :2] * (1 + 1e-9)))  # rounding: a little too long
    return cases


EXERCISES = {
    "playground 3": Exercise(
        check=looks_safe,
        solution=directions,
        right=[away_from_the_gradient],
        wrong=[of_the_attack, nothing, one_only],
        hints=(
            "The attack needs one special direction out of 64. What do the others show?",
            "Take two random directions, with torch.randn.",
        ),
    ),
    "playground 5": Exercise(
        reference=off_plane,
        cases=path_cases,
        tol=1e-6,
        right=[by_lengths],
        wrong=[difference_of_lengths, without_the_root],
        hints=(
            "The plane holds one part of the displacement, the distance is the other, and both"
            " meet at a right angle.",
            "Square: |d|^2 = |track|^2 + distance^2. Mind rounding: a root of -1e-9 is NaN.",
        ),
    ),
}
