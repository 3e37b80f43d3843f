"""Exercises of the lesson on queries"""

import torch

from spat_nb import Linf, get_data, rays, square, zoo
from spat_nb.core.rng import generator
from spat_nb.learn.exercise import Exercise

# ---- 2. the boundary along a ray


def locates(f):
    for border, hi, tol in (
        (0.3, 1.0, 1e-3),
        (0.9999, 1.0, 1e-2),
        (0.001, 0.5, 1e-5),
        (0.5, 0.5, 1e-3),
        (2.7, 8.0, 1e-2),
    ):
        asked = [0]

        def fools(r, border=border, asked=asked):
            asked[0] += 1
            if asked[0] > 1000:
                raise RuntimeError("more than 1000 queries for one radius")
            return r >= border

        r = f(fools, hi, tol)
        if r is None:
            raise NotImplementedError
        if not r >= border:
            return f"with the boundary at {border} it returns {r:g}, which does not fool."
        if r - border > tol * 1.001:
            return f"with the boundary at {border} it returns {r:g}, more than tol = {tol:g} above."
        if asked[0] > 40:
            return f"it needs {asked[0]} queries; halving needs less than 40."
    return ""


def halving(fools, hi, tol):
    lo = 0.0
    while hi - lo > tol:
        mid = (lo + hi) / 2
        lo, hi = (lo, mid) if fools(mid) else (mid, hi)
    return hi


def lower_end(fools, hi, tol):
    return halving(fools, hi, tol) - tol


def small_steps(fools, hi, tol):
    r = hi
    while r > tol and fools(r - tol / 2):
        r -= tol / 2
    return r


def ten_times(fools, hi, tol):
    lo = 0.0
    for _ in range(10):
        mid = (lo + hi) / 2
        lo, hi = (lo, mid) if fools(mid) else (mid, hi)
    return hi


# ---- 3. the curve


def at_budget(used, fooled, q):
    return 1 - (fooled & (used <= q)).double().mean().item()


def from_survivors(used, fooled, q):
    return (~fooled | (used > q)).double().mean().item()


def whoever_stopped(used, fooled, q):
    return (used > q).double().mean().item()


def strictly_less(used, fooled, q):
    return 1 - (fooled & (used < q)).double().mean().item()


def runs():
    used, fooled = torch.tensor([1, 40, 40, 12]), torch.tensor([True, False, True, True])
    return [(used, fooled, q) for q in (0, 1, 12, 39, 40, 1000)]


# ---- 4. advertise an attack


def sounds_good(make):
    ball = Linf(0.1)
    net = zoo.load("digits/standard/w16", "cpu").requires_grad_(False)
    x, y = (t[:240] for t in get_data("digits", device="cpu").test.tensors())

    def successes(attack):
        x_adv, used = attack.run(net, x, y)
        with torch.no_grad():
            won = (net(x).argmax(1) == y) & (net(x_adv).argmax(1) != y)
        if not ball.inside(x_adv, x).all():
            raise ValueError("some images lie outside of Linf(0.1), or of the box")
        return used[won].double()

    attack = make(ball)
    if attack is None:
        raise NotImplementedError
    ours = successes(attack)
    most = len(successes(square(ball, 300, generator=generator(0))))
    if len(ours) < 3:
        return f"it fools {len(ours)} images; at least three are asked."
    if ours.mean() > 12:
        return f"its mean is {ours.mean():.1f} queries per success; at most 12 are asked."
    if len(ours) >= most / 2:
        return f"it fools {len(ours)} images, square(ball, 300) {most}; it should be weaker."
    return ""


def soon_tired(ball):
    return square(ball, 20, generator=generator(0))


def sooner_tired(ball):
    return square(ball, 15, generator=generator(1))


def patient(ball):
    return square(ball, 300, generator=generator(0))


def never_starts(ball):
    return square(ball, 1, generator=generator(0))


def too_long(ball):
    return rays(ball, 300)


EXERCISES = {
    "queries 2": Exercise(
        check=locates,
        solution=halving,
        wrong=[lower_end, small_steps, ten_times],
        hints=(
            "Keep two radii, one that does not fool and one that does, and ask in the middle.",
            "Stop when they are tol apart. Which of the two still fools?",
        ),
    ),
    "queries 3": Exercise(
        reference=at_budget,
        cases=runs,
        right=[from_survivors],
        wrong=[whoever_stopped, strictly_less],
        hints=(
            "Not robust at budget q: fooled, and with at most q queries.",
            "An image that was never fooled is robust at every budget, however many queries it"
            " used.",
        ),
    ),
    "queries 4": Exercise(
        check=sounds_good,
        solution=soon_tired,
        right=[sooner_tired],
        wrong=[patient, never_starts, too_long],
        hints=(
            "Which images raise the mean over the successes? Those that were hard to fool.",
            "An attack with a small budget only ever fools the easy ones.",
        ),
    ),
}
