"""Exercises of the lesson on Square"""

import torch
from torch.nn import functional as F

from spat_nb import Linf, get_data, pgd, square, zoo
from spat_nb.attacks.painting import coin, window
from spat_nb.attacks.square import blot
from spat_nb.core.rng import generator
from spat_nb.learn.exercise import Exercise

# ---- 2. waste nothing


def wastes_nothing(move):
    for ch, s in ((1, 1), (1, 3), (3, 1), (3, 2)):
        rng, ball = generator(0), Linf(0.1)
        x = 0.3 + 0.4 * torch.rand(500, ch, 8, 8, generator=rng)
        now = x + 0.1 * coin(x, rng)
        new = move(now.clone(), x.clone(), s, ball, rng)
        if new is None:
            raise NotImplementedError
        if new.shape != x.shape:
            return f"the shape should stay {tuple(x.shape)}, not become {tuple(new.shape)}."
        if ((new - x).abs() - 0.1).abs().max() > 1e-5:
            return "some pixels are neither at +eps nor at -eps."
        changed = (new - now).abs() > 1e-4
        wasted = (~changed.flatten(1).any(1)).double().mean()
        if wasted:
            return f"{wasted:.1%} of the proposals change nothing (side {s}, {ch} channels)."
        if changed.flatten(2).sum(2).max() > s * s:
            return f"a proposal of side {s} changes more than {s * s} pixels of a channel."
        painted = torch.zeros_like(changed[:, 0])
        painted = changed.any(1) | painted
        rows, columns = painted.any(2).sum(1).max(), painted.any(1).sum(1).max()
        if rows > s or columns > s:
            return f"what changes does not lie in one window of side {s}."
        if s > 1 and changed.flatten(2).sum(2).double().mean() < 0.3 * s * s:
            return "only single pixels change; a proposal paints its whole square."
    return ""


def turned(best, x, s, ball, generator=None):
    d, pixels = (best - x).flatten(2), window(x, s, generator)
    first = d.gather(2, pixels[:, :, :1].expand(-1, d.shape[1], -1))
    inside = torch.zeros_like(d[:, :1]).scatter(2, pixels, 1)
    return x + torch.where(inside > 0, torch.where(first > 0, -ball.eps, ball.eps), d).view_as(x)


def by_scatter(best, x, s, ball, generator=None):
    pixels = window(x, s, generator).expand(-1, x.shape[1], -1)
    d = (best - x).flatten(2)
    sign = -d.gather(2, pixels[:, :, :1]).sign()
    paint = (ball.eps * sign).expand(-1, -1, pixels.shape[2])
    return x + d.scatter(2, pixels, paint).view_as(x)


def one_sign_for_all(best, x, s, ball, generator=None):
    return best - 2 * (best - x)


def one_pixel(best, x, s, ball, generator=None):
    return turned(best, x, 1, ball, generator)


# ---- 3. a defence that blinds Square


def blinds_square(layer):
    net = zoo.load("digits/standard/w16", "cpu").requires_grad_(False)
    x, y = (t[:100] for t in get_data("digits", device="cpu").test.tensors())
    ball = Linf(0.15)

    def model(x):
        return layer(net(x))

    def right(x_adv):
        with torch.no_grad():
            return (model(x_adv).argmax(1) == y).double().mean().item()

    with torch.no_grad():
        if layer(net(x)) is None:
            raise NotImplementedError
        if not torch.equal(model(x).argmax(1), net(x).argmax(1)):
            return "it changes answers."
    by_pgd = right(pgd(ball, 20, generator=generator(0))(model, x, y))
    if by_pgd > 0.4:
        return f"PGD-20 leaves {by_pgd:.0%} right; it should stay strong, at most 40%."
    by_square = right(square(ball, 150, generator=generator(0))(model, x, y))
    if by_square < 0.8:
        return f"Square leaves {by_square:.0%} right; at least 80% are asked."
    return ""


def only_the_winner(z):
    return 10.0 * F.one_hot(z.argmax(1), z.shape[1]) + (z - z.detach())


def with_a_softer_winner(z):
    return 5.0 * F.one_hot(z.argmax(1), z.shape[1]).to(z) + 2 * z - (2 * z).detach()


def unchanged(z):
    return z


def without_a_gradient(z):
    return 10.0 * F.one_hot(z.argmax(1), z.shape[1]) + 0 * z


def scaled(z):
    return 100 * z


EXERCISES = {
    "square 2": Exercise(
        check=wastes_nothing,
        solution=turned,
        right=[by_scatter],
        wrong=[blot, one_sign_for_all, one_pixel],
        hints=(
            "The sign of a pixel is the sign of best-x at its place: gather it from"
            " (best-x).flatten(2) at the first number of the window.",
            "A window as a mask: scatter ones into zeros at its numbers. Inside it torch.where"
            " paints minus the sign times ball.eps, outside it leaves best as it is.",
        ),
    ),
    "square 3": Exercise(
        check=blinds_square,
        solution=only_the_winner,
        right=[with_a_softer_winner],
        wrong=[unchanged, without_a_gradient, scaled],
        hints=(
            "Square keeps a proposal if the margin rises. What if the margin has only two values?",
            "Values and gradients can be chosen separately: z - z.detach() is zero, and its"
            " gradient is one.",
        ),
    ),
}
