"""Exercises of the lesson on robust transfer"""

import torch

from spat_nb.learn.exercise import Exercise

# ---- 2. where features go


def soft_threshold(source, wish, lam):
    d = wish - source
    return source + d.sign() * (d.abs() - lam).clamp_min(0)


def by_clamping(source, wish, lam):
    return wish - (wish - source).clamp(-lam, lam)


def squared(source, wish, lam):
    return (wish + 2 * lam * source) / (1 + 2 * lam)


def towards_zero(source, wish, lam):
    return wish.sign() * (wish.abs() - lam).clamp_min(0)


def too_far_back(source, wish, lam):
    return wish - lam * (wish - source).sign()


def wishes():
    g = torch.Generator().manual_seed(0)
    return [(torch.randn(6, generator=g), torch.randn(6, generator=g), lam) for lam in (0, 0.5, 2)]


# ---- 3. a certificate for a head


def lead_over_shift(f, weight, bias, y, s):
    z = f @ weight.T + bias
    lead = z.gather(1, y[:, None]) - z
    falls = (weight[y][:, None] - weight[None]).norm(dim=2) * s
    others = torch.arange(len(weight)) != y[:, None]
    return ((lead > falls) | ~others).all(1)


def one_by_one(f, weight, bias, y, s):
    said = []
    for v, label in zip(f, y.tolist()):
        rest = [k for k in range(len(weight)) if k != label]
        leads = [
            (v @ (weight[label] - weight[k]) + bias[label] - bias[k])
            / (weight[label] - weight[k]).norm()
            for k in rest
        ]
        said.append(bool(min(leads) > s))
    return torch.tensor(said)


def clean_only(f, weight, bias, y, s):
    return (f @ weight.T + bias).argmax(1) == y


def both_norms(f, weight, bias, y, s):
    z = f @ weight.T + bias
    lead = z.gather(1, y[:, None]) - z
    falls = (weight[y].norm(dim=1)[:, None] + weight.norm(dim=1)[None]) * s
    others = torch.arange(len(weight)) != y[:, None]
    return ((lead > falls) | ~others).all(1)


def without_bias(f, weight, bias, y, s):
    return lead_over_shift(f, weight, torch.zeros_like(bias), y, s)


def heads():
    g = torch.Generator().manual_seed(1)
    cases = []
    for s in (0.0, 0.2, 0.6):
        weight = torch.randn(4, 3, generator=g)
        bias = torch.randn(4, generator=g)
        f = 2 * torch.randn(40, 3, generator=g)
        y = (f @ weight.T + bias).argmax(1)
        y[:5] = (y[:5] + 1) % 4  # some are wrong to begin with
        cases.append((f, weight, bias, y, s))
    return cases


EXERCISES = {
    "transfer 2": Exercise(
        reference=soft_threshold,
        cases=wishes,
        right=[by_clamping],
        wrong=[squared, towards_zero, too_far_back],
        hints=(
            "Move the source to 0 first: what matters is wish - source.",
            "A wish up to lam moves nothing; a longer one is cut by lam.",
        ),
    ),
    "transfer 3": Exercise(
        reference=lead_over_shift,
        cases=heads,
        right=[one_by_one],
        wrong=[clean_only, both_norms, without_bias],
        hints=(
            "The lead over class k is (w_y - w_k) . f + b_y - b_k. How far can it fall?",
            "By |w_y - w_k| s, and there is a shift that does it. Each k needs a lead above that.",
        ),
    ),
}
