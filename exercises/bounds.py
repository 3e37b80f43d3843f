"""Exercises of the lesson on bounds"""

import math

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. bound a neuron


def by_middle(W, b, lo, hi):
    mid, half = W @ ((lo + hi) / 2) + b, W.abs() @ ((hi - lo) / 2)
    return (mid - half).relu(), (mid + half).relu()


def by_sign(W, b, lo, hi):
    plus, minus = W.clamp_min(0), W.clamp_max(0)
    return (plus @ lo + minus @ hi + b).relu(), (plus @ hi + minus @ lo + b).relu()


def ends_alone(W, b, lo, hi):
    return (W @ lo + b).relu(), (W @ hi + b).relu()


def without_bias(W, b, lo, hi):
    return by_middle(W, 0 * b, lo, hi)


def without_relu(W, b, lo, hi):
    mid, half = W @ ((lo + hi) / 2) + b, W.abs() @ ((hi - lo) / 2)
    return mid - half, mid + half


def neuron_cases():
    g = torch.Generator().manual_seed(0)
    one = torch.tensor([[3.0, -2.0]]), torch.tensor([1.0])
    box = torch.tensor([0.4, 0.1]), torch.tensor([0.6, 0.3])
    W, b = torch.randn(5, 3, generator=g), torch.randn(5, generator=g)
    lo = torch.rand(3, generator=g)
    return [(*one, *box), (W, b, lo, lo + 0.5), (W, b, lo, lo)]


# ---- 3. find the loose layer


def largest_factor(seen, bounded):
    loose = torch.cat([torch.ones(1), bounded / seen])
    return int((loose[1:] / loose[:-1]).argmax())


def by_hand(seen, bounded):
    before, best, at = 1.0, 0.0, 0
    for i, (s, b) in enumerate(zip(seen.tolist(), bounded.tolist())):
        if b / s / before > best:
            best, at = b / s / before, i
        before = b / s
    return at


def the_loosest(seen, bounded):
    return int((bounded / seen).argmax())


def the_widest(seen, bounded):
    return int(bounded.argmax())


def by_difference(seen, bounded):
    loose = torch.cat([torch.ones(1), bounded / seen])
    return int(loose.diff().argmax())


def layer_cases():
    t = torch.tensor
    return [
        (t([1.0, 1.0, 1.0]), t([1.1, 5.0, 12.0])),
        (t([1.0, 2.0, 0.5]), t([3.0, 7.0, 2.5])),
        (t([2.0, 1.0, 4.0, 1.0]), t([2.2, 1.5, 30.0, 20.0])),
        (t([1.0, 9.0]), t([1.0, 9.5])),
    ]


# ---- 4. the forgotten bias

WEIGHTS, BIAS, EPS = torch.tensor([1.0, -2.0, 0.3]), -0.2, 0.05


def uncertified(fn):
    x, x_adv = fn()
    if x.shape != (3,) or x_adv.shape != (3,):
        return f"both should have shape (3,), not {tuple(x.shape)} and {tuple(x_adv.shape)}."
    both = torch.stack([x, x_adv])
    if not (both.isfinite().all() and (both >= 0).all() and (both <= 1).all()):
        return "all pixels should lie in [0,1]."
    if (x_adv - x).abs().max() > EPS + 1e-6:
        return f"a pixel moves by {(x_adv - x).abs().max().item():.3f}; {EPS} is allowed."
    if WEIGHTS @ x + BIAS <= 0:
        return "x itself is answered wrong."
    if WEIGHTS @ x - EPS * WEIGHTS.abs().sum() <= 0:
        return "x is not certified, not even without the bias."
    if WEIGHTS @ x_adv + BIAS > 0:
        return f"x_adv is still right, its margin is {(WEIGHTS @ x_adv + BIAS).item():.3f}."
    return ""


def behind_the_bias():
    x = torch.tensor([0.5, 0.1, 0.2])
    return x, x - EPS * WEIGHTS.sign()


def another_point():
    x = torch.tensor([0.3, 0.05, 0.5])
    return x, x - EPS * WEIGHTS.sign()


def really_safe():
    x = torch.tensor([0.9, 0.1, 0.2])
    return x, x - EPS * WEIGHTS.sign()


def wrong_already():
    x = torch.tensor([0.3, 0.1, 0.2])
    return x, x - EPS * WEIGHTS.sign()


# ---- 5. the wrong sign


def against(fn):
    for c, a, lo, hi in [(0.6, 1.0, -1.0, 1.0), (0.6, 0.5, -1.0, 1.0), (1.0, 2.0, -3.0, 0.6)]:
        v = fn(c, a, lo, hi)
        broken = c - a * hi <= 0
        if v is None and broken:
            return f"for c={c}, a={a}, [{lo},{hi}] the margin does reach 0 or less."
        if v is not None and not broken:
            return f"for c={c}, a={a}, [{lo},{hi}] the margin stays above 0: return None."
        if v is None:
            continue
        if not (math.isfinite(float(v)) and lo <= v <= hi):
            return f"v = {float(v)} lies outside of [{lo},{hi}]."
        if c - a * max(float(v), 0.0) > 0:
            return f"at v = {float(v)} the margin is still above 0."
    return ""


def at_the_top(c, a, lo, hi):
    return hi if c - a * hi <= 0 else None


def at_the_root(c, a, lo, hi):
    return (c / a + hi) / 2 if c / a <= hi else None


def at_the_bottom(c, a, lo, hi):
    return lo if c - a * hi <= 0 else None


def always(c, a, lo, hi):
    return hi


EXERCISES = {
    "bounds 2": Exercise(
        reference=by_middle,
        cases=neuron_cases,
        right=[by_sign],
        wrong=[ends_alone, without_bias, without_relu],
        hints=(
            "A negative weight is largest where its input is lowest.",
            "Middle: W applied to the box's middle, plus b. Half width: |W| applied to half of"
            " hi - lo. ReLU only rises, so it maps ends to ends.",
        ),
    ),
    "bounds 3": Exercise(
        reference=largest_factor,
        cases=layer_cases,
        right=[by_hand],
        wrong=[the_loosest, the_widest, by_difference],
        hints=(
            "The last layer is nearly always the loosest: it inherits what was lost before.",
            "Compute bounded/seen, put a 1 in front, divide each entry by the one before.",
        ),
    ),
    "bounds 4": Exercise(
        check=uncertified,
        solution=behind_the_bias,
        right=[another_point],
        wrong=[really_safe, wrong_already],
        hints=(
            "The certificate looks at w x, the model at w x - 0.2. For which values of w x do the"
            " two disagree after a fall of 0.165?",
            "w x between 0.2 and 0.365: right at x, certified, and yet it falls. Move each pixel"
            " against the sign of its weight.",
        ),
    ),
    "bounds 5": Exercise(
        check=against,
        solution=at_the_top,
        right=[at_the_root],
        wrong=[at_the_bottom, always],
        hints=(
            "Where in the interval is c - a relu(v) least?",
            "At v = u, where the chord above meets ReLU: so the right bound decides it exactly.",
        ),
    ),
}
