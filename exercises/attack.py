"""Exercises of the lesson on the engine"""

import torch

from spat_nb import L2, Linf, pgd
from spat_nb.attacks.ascent import State
from spat_nb.core.rng import randn_like
from spat_nb.learn.exercise import Exercise

# ---- 2. FGSM in one line


def fgsm(x, g, eps):
    return (x + eps * g.sign()).clamp(0, 1)


def by_comparing(x, g, eps):
    step = torch.where(g > 0, eps, torch.where(g < 0, -eps, 0.0))
    return (x + step).clamp(0, 1)


def by_size(x, g, eps):
    return (x + eps * g).clamp(0, 1)


def without_the_box(x, g, eps):
    return x + eps * g.sign()


def downhill(x, g, eps):
    return (x - eps * g.sign()).clamp(0, 1)


def fgsm_cases():
    rng = torch.Generator().manual_seed(0)
    x, g = torch.rand(2, 3, 3, 4, generator=rng), torch.randn(2, 3, 3, 4, generator=rng)
    g[:, 0, 0] = 0
    return [(x, g, eps) for eps in (0.0, 0.1, 0.6)]


# ---- 3. a start of one's own


def right_start(fn):
    rng = torch.Generator().manual_seed(5)
    x = torch.rand(2, 3, 4, 5, generator=rng)
    state = torch.get_rng_state()
    for ball, seed in ((Linf(0.1), 0), (Linf(0.3), 1), (Linf(0.3, lo=0.2), 2)):
        x_ = x.clamp(ball.lo, ball.hi)
        got = fn(x_.clone(), ball, torch.Generator().manual_seed(seed))
        if got is None:
            raise NotImplementedError
        if got.shape != x.shape:
            return f"the shape should stay {tuple(x.shape)}, not become {tuple(got.shape)}."
        if not torch.equal(torch.get_rng_state(), state):
            return "torch's own random stream was used; all draws should come from `generator`."
        if not ball.inside(got, x_).all():
            return f"some images lie outside of {ball}, or of its box."
        low, high = (x_ - ball.eps).clamp(ball.lo, ball.hi), (x_ + ball.eps).clamp(ball.lo, ball.hi)
        at_low, at_high = ((got - side).abs() < 1e-6 for side in (low, high))
        if not (at_low | at_high).all():
            return f"some pixels are neither at -eps nor at +eps of {ball}, cut at the box."
        if not 0.3 < at_low.double().mean() < 0.7:
            return "plus and minus should be about equally frequent."
        if torch.equal(got, fn(x_.clone(), ball, torch.Generator().manual_seed(seed + 9))):
            return "two seeds of the generator give the same point."
    return ""


def at_a_corner(x, ball, generator=None):
    return ball.project(x + ball.eps * randn_like(x, generator).sign(), x)


def coin(x, ball, generator=None):
    up = torch.rand(x.shape, generator=generator) < 0.5
    return (x + torch.where(up, ball.eps, -ball.eps)).clamp(ball.lo, ball.hi)


def without_the_generator(x, ball, generator=None):
    return ball.project(x + ball.eps * torch.randn_like(x).sign(), x)


def uniform(x, ball, generator=None):
    return ball.uniform(x, generator)


def brightest(x, ball, generator=None):
    return ball.project(x + ball.eps, x)


# ---- 4. a step of one's own


def states():
    rng = torch.Generator().manual_seed(6)
    for ball, i, steps, lr in (
        (Linf(1.0), 0, 10, 0.1),
        (Linf(1.0), 5, 10, 0.1),
        (L2(1.0), 9, 10, 0.2),
        (L2(1.0), 3, 4, 0.3),
    ):
        x = torch.rand(2, 1, 2, 3, generator=rng)
        g = torch.randn(2, 1, 2, 3, generator=rng)
        yield State(x.clone(), ball, steps, lr, x + 0.01, i=i, g=g)


def faded(s):
    return s.x + s.lr * (1 - s.i / s.steps) * s.ball.ascent(s.g)


def right_step(fn):
    for s in states():
        got, want = fn(s), faded(s)
        if got is None:
            raise NotImplementedError
        if got.shape != want.shape or not torch.allclose(got, want, atol=1e-6):
            return (
                f"at step {s.i} of {s.steps} with lr {s.lr} in {s.ball} it proposes another point."
            )
    return ""


def full_length(s):
    return s.x + s.lr * s.ball.ascent(s.g)


def along_the_gradient(s):
    return s.x + s.lr * (1 - s.i / s.steps) * s.g


def from_the_clean_image(s):
    return s.x0 + s.lr * (1 - s.i / s.steps) * s.ball.ascent(s.g)


def from_the_second_step(s):
    return s.x + s.lr * (1 - (s.i + 1) / s.steps) * s.ball.ascent(s.g)


# ---- 5. an attack that cheats


def passes_the_check(attack):
    w = torch.tensor([1.0, -2.0, 3.0, -1.0])

    def model(x):
        v = (x - 0.5).flatten(1) @ w
        return torch.stack([v, -v], 1)

    x = (0.5 + 0.25 * w.sign()).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    y = torch.zeros(3, dtype=torch.long)
    x_adv = attack(model, x, y, 0.05)
    if x_adv is None:
        raise NotImplementedError
    if x_adv.shape != x.shape or x_adv.min() < 0 or x_adv.max() > 1:
        return "x_adv should have the shape of x, and pixels in [0,1]."
    with torch.no_grad():
        right = (model(x_adv).argmax(1) == y).sum()
    if right:
        return f"the model still answers {right} of 3 images right."
    far = (x_adv - x).abs().max()
    if far > 0.05 + 1e-6:
        return f"the check sees it: a pixel of x_adv - x is {far:.2f}, and eps is 0.05."
    return ""


def moves_x(model, x, y, eps):
    x.copy_(pgd(Linf(0.5), 20)(model, x, y))
    return x.clone()


def moves_half(model, x, y, eps):
    x_adv = pgd(Linf(0.5), 20)(model, x, y)
    x.copy_(x_adv)
    return x


def honest(model, x, y, eps):
    return pgd(Linf(eps), 20)(model, x, y)


def too_far(model, x, y, eps):
    return pgd(Linf(0.5), 20)(model, x, y)


EXERCISES = {
    "attack 2": Exercise(
        reference=fgsm,
        cases=fgsm_cases,
        right=[by_comparing],
        wrong=[by_size, without_the_box, downhill],
        hints=(
            "Every pixel moves by eps, however small its gradient is.",
            "Only the sign of g counts; and the box comes last.",
        ),
    ),
    "attack 3": Exercise(
        check=right_start,
        solution=at_a_corner,
        right=[coin],
        wrong=[without_the_generator, uniform, brightest],
        hints=(
            "A random sign is the sign of a normal draw.",
            "`ball.eps` times these signs is a corner; `ball.project` brings it into the box.",
        ),
    ),
    "attack 4": Exercise(
        check=right_step,
        solution=faded,
        wrong=[full_length, along_the_gradient, from_the_clean_image, from_the_second_step],
        hints=(
            "`steepest` is s.x + s.lr*s.ball.ascent(s.g). Only its length changes.",
            "Step s.i of s.steps: which share of the steps is still to come?",
        ),
    ),
    "attack 5": Exercise(
        check=passes_the_check,
        solution=moves_x,
        right=[moves_half],
        wrong=[honest, too_far],
        hints=(
            "The check compares two tensors. Does anything keep the second one as it was?",
            "Attack with an eps of your choice, then write the result into x itself.",
        ),
    ),
}
