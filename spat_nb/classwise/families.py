"""Superclasses: do errors stay in the family?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..measure.intervals import wilson

__all__ = ["FAMILIES", "families", "in_family"]


_CIFAR100 = """aquatic mammals: beaver dolphin otter seal whale
fish: aquarium_fish flatfish ray shark trout
flowers: orchid poppy rose sunflower tulip
food containers: bottle bowl can cup plate
fruit and vegetables: apple mushroom orange pear sweet_pepper
household electrical devices: clock keyboard lamp telephone television
household furniture: bed chair couch table wardrobe
insects: bee beetle butterfly caterpillar cockroach
large carnivores: bear leopard lion tiger wolf
large man-made outdoor things: bridge castle house road skyscraper
large natural outdoor scenes: cloud forest mountain plain sea
large omnivores and herbivores: camel cattle chimpanzee elephant kangaroo
medium-sized mammals: fox porcupine possum raccoon skunk
non-insect invertebrates: crab lobster snail spider worm
people: baby boy girl man woman
reptiles: crocodile dinosaur lizard snake turtle
small mammals: hamster mouse rabbit shrew squirrel
trees: maple_tree oak_tree palm_tree pine_tree willow_tree
vehicles 1: bicycle bus motorcycle pickup_truck train
vehicles 2: lawn_mower rocket streetcar tank tractor"""


_CIFAR10 = "animals: bird cat deer dog frog horse\nvehicles: airplane automobile ship truck"


FAMILIES = [
    {line.split(": ")[0]: tuple(line.split(": ")[1].split()) for line in text.splitlines()}
    for text in (_CIFAR10, _CIFAR100)
]


def families(
    classes,  # class names
) -> dict | None:  # family -> names of its classes; None where the set is not known here
    "The superclasses of CIFAR-100, or animals and vehicles of CIFAR-10, recognised by the names"
    return next((f for f in FAMILIES if {c for cs in f.values() for c in cs} == set(classes)), None)


def in_family(
    C: Tensor,  # (K,K) counts; row: label, column: answer
    classes,  # K names
    groups: dict,  # family -> names of its classes
    level: float = 0.95,  # confidence
) -> dict:  # k of n errors, share, lo, hi, and the share that chance would give
    """Which share of the errors stays in the family (Wilson interval).

    ValueError where a class has no family
    """
    home = {c: i for i, cs in enumerate(groups.values()) for c in cs}
    if lost := [c for c in classes if c not in home]:
        raise ValueError(f"class {lost[0]!r} is in no family; groups must name every class.")
    g = torch.tensor([home[c] for c in classes])
    near = (g[:, None] == g).fill_diagonal_(False)
    off = torch.as_tensor(C).long().clone().fill_diagonal_(0)
    k, n = int(off[near].sum()), int(off.sum())
    chance = (off.sum(1) * near.sum(1)).sum().item() / max(n, 1) / (len(classes) - 1)
    lo, hi = wilson(k, n, level)
    return dict(
        k=k, n=n, share=k / n if n else math.nan, lo=lo, hi=hi, chance=chance if n else math.nan
    )
