"""What the gates say of the playground's network, and the attack that a flag calls for

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import html
from collections.abc import Callable

from spat_nb.app.shelf import Shelf
from spat_nb.attacks.balls import Ball
from spat_nb.core.evalmode import device_of
from spat_nb.measure.card import Card
from spat_nb.measure.followup import FollowUp, follow_up
from spat_nb.measure.trust import trust

__all__ = ["ask_the_gates", "verdict_html"]

N = 128  # images
COST = 0.25  # of the card's usual steps and queries


def ask_the_gates(
    model: Callable,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    shelf: Shelf,  # whose images are asked
    ball: Ball,  # threat model
) -> tuple:  # (Card, FollowUp)
    """A small trust card, and the attacks that its flags call for.

    Parameters
    ----------
    model : Callable
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    shelf : Shelf
        whose images are asked
    ball : Ball
        threat model

    Returns
    -------
    tuple
        (Card, FollowUp)

    Raises
    ------
    ValueError
        where the shelf has no images, or the ball no radius
    """
    if not len(shelf.x):
        raise ValueError(
            "The gates need images with labels, and none are here for these networks: go back to"
            " the test images first."
        )
    if ball.eps == 0:
        raise ValueError("A ball of radius 0 holds one image: move eps to the right first.")
    device = device_of(model) or shelf.x.device
    data = shelf.x.to(device), shelf.y.to(device)
    card = trust(model, data, ball, n=N, cost=COST, progress=False)
    return card, follow_up(card, progress=False)


def verdict_html(
    name: str,  # of the network
    card: Card,  # of `trust`
    found: FollowUp,  # what its flags led to
) -> str:
    """The number to publish, the flags with what they mean, and the attack to keep

    Parameters
    ----------
    name : str
        of the network
    card : Card
        of `trust`
    found : FollowUp
        what its flags led to

    Returns
    -------
    str
    """
    said = [f"<p><b>{html.escape(name)}</b>: {html.escape(card.headline)}</p>"]
    flags = "".join(f"<li>{html.escape(line)}</li>" for line in card.advice())
    if not flags:
        return said[0] + "<p>No gate flags this network, so no attack is called for.</p>"
    said += [f"<ul>{flags}</ul>", f"<p><b>Followed up:</b> {html.escape(found.headline)}</p>"]
    said += ["<ul>", *(f"<li>{html.escape(line)}</li>" for line in found.lines()), "</ul>"]
    keep = found.best
    if keep:
        summary = f"The attack that left least, as a cell to keep: {keep.attack}"
        said.append(
            f"<details><summary>{html.escape(summary)}</summary>"
            f"<pre>{html.escape(keep.cell)}</pre></details>"
        )
    return "".join(said)
