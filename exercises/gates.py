"""Exercises of the lesson on what gates do"""

import torch
from torch import nn

from spat_nb import SmallCNN, Sparta
from spat_nb.learn.exercise import Exercise
from spat_nb.papers.gate_moves import gates
from spat_nb.papers.gates import gate_values, off_centre


# ---- 2: saturated
def closed_or_open(A, edge):
    return ((A < edge) | (A > 1 - edge)).double().mean()


def by_distance(A, edge):
    return ((A - 0.5).abs() > 0.5 - edge).sum() / A.numel()


def closed_only(A, edge):
    return (A < edge).double().mean()


def the_others(A, edge):
    return 1 - closed_or_open(A, edge)


def gate_cases():
    g = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 5, 5), (7,), (2, 9))
    return [(torch.rand(s, generator=g), e) for s in shapes for e in (0.05, 0.3)]


# ---- 3: a view that counts for nothing
def pretend(net):
    for m in gates(net).values():
        nn.init.ones_(m.around[0].weight)
        nn.init.zeros_(m.around[1].weight)
    return net


def in_place(net):
    pretend(net)


def looks_around(net):
    for m in gates(net).values():
        nn.init.ones_(m.around[0].weight)
    return net


def constant_and_centred(net):
    for m in gates(net).values():
        nn.init.zeros_(m.around[1].weight)
    return net


def sees_nothing(fn):
    torch.manual_seed(0)
    net = SmallCNN(width=4, act=Sparta).eval()
    changed = fn(net)
    net = net if changed is None else changed
    if not isinstance(net, nn.Module) or not gates(net):
        return "it should return a network with Sparta gates."
    net = net.eval()
    least = min(off_centre(net).values())
    if not least >= 0.85:
        return f"off_centre is {least:.2f} in one of the gates; .85 is asked."
    values = gate_values(net, torch.rand(6, 1, 8, 8))
    for name, seen in values.items():
        spread = max((v - v[:1]).abs().max().item() for v in seen)
        if spread > 1e-6:
            return f"the gate {name} differs between images by up to {spread:.2g}."
    return ""


EXERCISES = {
    "gates 2": Exercise(
        reference=closed_or_open,
        cases=gate_cases,
        right=[by_distance],
        wrong=[closed_only, the_others],
        hints=(
            "Two conditions, joined by | between tensors of truth values.",
            "The share is the mean of the truth values, as numbers.",
        ),
    ),
    "gates 3": Exercise(
        check=sees_nothing,
        solution=pretend,
        right=[in_place],
        wrong=[looks_around, constant_and_centred],
        hints=(
            "What stands behind the kernel, and can multiply what it has seen?",
            "Batch norm: with a weight of 0 it passes its bias only, whatever the kernel sees.",
        ),
    ),
}
