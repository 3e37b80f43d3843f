"""Networks to play with: shipped ones, and recipes for more"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spat_nb.training import run as runs
from spat_nb.training.methods import method

# what the playground begins with
SHIPPED = {
    "standard": "digits/standard/w16",
    "PGD-AT": "digits/pgd_at/w16",
    "SPAT": "digits/spat/w16",
    "hypersphere (HE)": "digits/he/w16",
    "prototypes": "digits/prototypes/w16",
    "Sparta": "digits/sparta/w16",
}

# for photographs, 3 x 32 x 32
PHOTOGRAPHS = {
    "CIFAR-10, standard": "cifar10/standard/w8",
    "CIFAR-10, PGD-AT": "cifar10/pgd_at/w8",
    "CIFAR-10, SPAT": "cifar10/spat/w8",
    "CIFAR-10, hypersphere (HE)": "cifar10/he/w8",
    "CIFAR-10, prototypes": "cifar10/prototypes/w8",
}

# name -> row of the table of methods, and what differs from it
RECIPES = {
    "standard": ("standard", {}),
    "PGD-AT": ("pgd_at", {}),
    "SPAT": ("spat", {}),
    "hypersphere (HE)": (
        "hypersphere",
        {"objective": "pgd_at(loss=margin_ce(m=0.1, scale=10))", "head": "Hypersphere(scale=10)"},
    ),
    "prototypes": ("prototypes", {}),
    "Sparta": ("sparta", {}),
}


def train(
    name: str,  # key of `RECIPES`
    epochs: int = 8,  # over 1,258 digits
) -> Callable:  # network in eval mode
    """A digits network by its recipe, seed 0, trained here and now; torch's random state is left
    alone

    Parameters
    ----------
    name : str
        key of `RECIPES`
    epochs : int
        over 1,258 digits (default: 8)

    Returns
    -------
    Callable
        network in eval mode
    """
    row, changes = RECIPES[name]
    recipe = method(row, **changes, epochs=epochs, best="last", look=epochs)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        return runs.train(recipe, device="cpu", quiet=True).model


@functools.cache
def network(
    name: str,  # key of `SHIPPED`
) -> Callable:  # the same one at each call
    """The shipped network, or one that is trained now.

    Parameters
    ----------
    name : str
        key of `SHIPPED`

    Returns
    -------
    Callable
        the same one at each call

    Raises
    ------
    ValueError
        for an unknown name
    """
    if name not in SHIPPED:
        raise ValueError(f"there is no network {name!r}; there are {', '.join(SHIPPED)}.")
    from spat_nb.app import zoo

    return zoo.load(SHIPPED[name], "cpu") if SHIPPED[name] in zoo.names() else train(name)


def networks() -> dict:  # name -> function that gives the network
    """The menu, without loading anything

    Returns
    -------
    dict
        name -> function that gives the network
    """
    return {name: partial(network, name) for name in SHIPPED}


@dataclass(frozen=True, eq=False)
class Shelf:
    """Networks that read the same kind of image, and images for them

    Parameters
    ----------
    nets : dict
        name -> function that gives a network
    classes : tuple
        c class names
    x : Tensor
        (n,ch,h,w) images to choose from, n may be 0
    y : Tensor
        (n,) their labels
    eps : float
        the usual radius for Linf
    """

    nets: dict  # name -> function that gives a network
    classes: tuple  # c class names
    x: Tensor  # (n,ch,h,w) images to choose from, n may be 0
    y: Tensor  # (n,) their labels
    eps: float  # the usual radius for Linf

    @property
    def shape(self) -> tuple:  # (ch,h,w)
        "Of an image"
        return tuple(self.x.shape[1:])


def photograph_shelf() -> Shelf:
    """The shipped networks that read photographs. They come without images: those of CIFAR-10 are
    not shipped, and the reader brings one

    Returns
    -------
    Shelf
    """
    from spat_nb.app import zoo

    @functools.cache
    def get(name):
        return zoo.load(PHOTOGRAPHS[name], "cpu")

    card = zoo.card(next(iter(PHOTOGRAPHS.values())))
    nets = {name: partial(get, name) for name in PHOTOGRAPHS}
    nothing = torch.zeros(0, dtype=torch.long)
    return Shelf(nets, tuple(card["classes"]), torch.zeros(0, 3, 32, 32), nothing, card["eps"])
