"""Networks to play with: shipped ones, and recipes for more"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial

import torch

from spat_nb.training import run as runs
from spat_nb.training.methods import method

SHIPPED = {
    "standard": "digits/standard/w16",
    "PGD-AT": "digits/pgd_at/w16",
    "SPAT": "digits/spat/w16",
    "hypersphere (HE)": "digits/he/w16",
    "prototypes": "digits/prototypes/w16",
    "Sparta": "digits/sparta/w16",
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
