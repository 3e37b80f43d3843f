"""Exercises of the lesson on one-step training that holds"""

import torch

from spat_nb import Linf, fgsm, get_data, zoo
from spat_nb.learn.exercise import Exercise
from spat_nb.training.onestep import grad_align

# ---- 3. the most for its length


def is_spread(fn):
    for b, c in ((2, 2), (3, 5), (8, 4), (1, 6)):
        m = torch.as_tensor(fn(b, c)).double()
        if m.shape != (b, c):
            return f"for b={b}, c={c} its shape is {tuple(m.shape)}."
        if abs(m.norm().item() - 1) > 1e-4:
            return f"for b={b}, c={c} its Frobenius norm is {m.norm():.3f}."
        nuclear, most = torch.linalg.matrix_norm(m, "nuc").item(), min(b, c) ** 0.5
        if nuclear < most - 1e-3:
            return f"for b={b}, c={c} its nuclear norm is {nuclear:.3f}, and {most:.3f} can be had."
    return ""


def equal_values(b, c):
    k = min(b, c)
    return torch.eye(b, c) / k**0.5


def a_rotation(b, c):
    m = torch.linalg.qr(torch.randn(max(b, c), min(b, c))).Q
    m = m if b >= c else m.T
    return m / m.norm()


def one_direction(b, c):
    return torch.ones(b, c) / (b * c) ** 0.5


def too_long(b, c):
    return torch.eye(b, c)


# ---- 4. no direction


def is_aligned(fn):
    net = zoo.load("digits/standard/w16", "cpu").eval()
    x, y = get_data("digits", device="cpu").test.subset(60).tensors()
    with torch.no_grad():
        right = net(x).argmax(1) == y
        x, y = x[right], y[right]
        seen = fn(net)
        if not torch.equal(seen(x).argmax(1), net(x).argmax(1)):
            return "it gives other answers to clean digits."
    free, whole = (grad_align(seen, x, y, fgsm(Linf(1e-4)), lam).detach() for lam in (0.0, 1000.0))
    if not (free.isfinite() and whole.isfinite()):
        return "its loss is not finite."
    return "" if (whole - free).abs() < 1e-3 else f"its angle is {(whole - free) / 1000:.3f}."


def certain(model):
    return lambda x: 1e6 * model(x)


def unchanged(model):
    return model


EXERCISES = {
    "onestep 3": Exercise(
        check=is_spread,
        solution=equal_values,
        right=[a_rotation],
        wrong=[one_direction, too_long],
        hints=(
            "Both norms are norms of the list of singular values: the sum, and the root of the sum"
            " of squares.",
            "A sum of k numbers whose squares add up to 1 is largest when all are equal.",
        ),
    ),
    "onestep 4": Exercise(
        check=is_aligned,
        solution=certain,
        right=[],
        wrong=[unchanged],
        hints=(
            "A gradient of zero has no direction, and is left out. When is the gradient of"
            " cross-entropy zero?",
            "In float32 the probability of the right class rounds to 1 where its margin is large:"
            " multiply the logits.",
        ),
    ),
}
