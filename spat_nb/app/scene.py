"""An attack on one image in numbers: its path, its plane, and the landscape around it"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spat_nb.app.plane import axes, recorded_path, window
from spat_nb.attacks.ascent import at_x
from spat_nb.attacks.attack import Attack
from spat_nb.attacks.balls import Ball
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.wrapped import targeted
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.tensors import logits
from spat_nb.core.threads import fitting_threads


def towards(
    ball: Ball,  # threat model
) -> Attack:
    """Five steps from the clean image towards a wanted class: the second direction of the plane

    Parameters
    ----------
    ball : Ball
        threat model

    Returns
    -------
    Attack
    """
    return Attack(ball, 5, loss=targeted(ce), start=at_x)


@dataclass(frozen=True, eq=False)
class Scene:
    """One attack on one image, in numbers

    Parameters
    ----------
    x : Tensor
        (1,ch,h,w) clean image
    x_adv : Tensor
        (1,ch,h,w) attacked image
    y : int
        label
    classes : tuple
        c class names
    attack : Attack
        the attack
    p : Tensor
        (2,c) what the network believes of x and of x_adv
    path : Tensor
        (K+1,ch,h,w) iterates of the attack
    losses : Tensor
        (K+1,) the attack's loss there
    won : Tensor
        (K+1,) bool, is the network fooled there?
    e : Tensor
        (2,n) axes of the plane
    track : Tensor
        (K+1,2) the iterates in the plane
    rival : Tensor
        (2,) end of the second attack in the plane
    aim : int
        class that the second attack was sent to
    u : Tensor
        (g,) grid to the right: distance along e[0]
    v : Tensor
        (g,) grid upwards: distance along e[1]
    values : Tensor
        (g,g) the attack's loss on the grid
    lead : Tensor
        (g,g) logit of the best wrong class minus that of y: below 0 the answer is y
    said : Tensor
        (g,g) answers on the grid
    norms : Tensor
        (g,g) distance from x in the norm of the ball
    """

    x: Tensor  # (1,ch,h,w) clean image
    x_adv: Tensor  # (1,ch,h,w) attacked image
    y: int  # label
    classes: tuple  # c class names
    attack: Attack  # the attack
    p: Tensor  # (2,c) what the network believes of x and of x_adv
    path: Tensor  # (K+1,ch,h,w) iterates of the attack
    losses: Tensor  # (K+1,) the attack's loss there
    won: Tensor  # (K+1,) bool, is the network fooled there?
    e: Tensor  # (2,n) axes of the plane
    track: Tensor  # (K+1,2) the iterates in the plane
    rival: Tensor  # (2,) end of the second attack in the plane
    aim: int  # class that the second attack was sent to
    u: Tensor  # (g,) grid to the right: distance along e[0]
    v: Tensor  # (g,) grid upwards: distance along e[1]
    values: Tensor  # (g,g) the attack's loss on the grid
    lead: Tensor  # (g,g) logit of the best wrong class minus that of y: below 0 the answer is y
    said: Tensor  # (g,g) answers on the grid
    norms: Tensor  # (g,g) distance from x in the norm of the ball

    @property
    def answers(self):
        return tuple(self.p.argmax(1).tolist())

    @property
    def off(self):  # (K+1,)
        "How far each iterate lies from the plane (Euclidean)"
        d = (self.path - self.x).flatten(1)
        return (d - self.track @ self.e).norm(dim=1)

    def verdict(self) -> str:
        "The outcome in a few words"
        (a, b), name = self.answers, self.classes
        if a != self.y:
            return f"Wrong before the attack: {name[self.y]} is read as {name[a]}."
        if b == self.y:
            return f"It holds: still read as {name[b]}."
        return f"Fooled: {name[a]} is read as {name[b]}."

    def alternatives(self) -> dict:  # name of a panel -> what it shows
        "The panels in words, for those who do not see them"
        (a, b), name, fooled = self.answers, self.classes, int(self.won.sum())
        first, last = self.losses[0].item(), self.losses[-1].item()
        return {
            "clean": f"the clean image, read as {name[a]}",
            "change": f"the change, {self.attack.ball.norm(self.x_adv - self.x).item():.3g} long",
            "attacked": f"the attacked image, read as {name[b]}",
            "belief": f"probabilities of the classes, before: {name[a]}, after: {name[b]}",
            "loss": f"the loss goes from {first:.3g} to {last:.3g}, fooled at {fooled} points",
            "landscape": "a map of the loss around the image, with the path of the attack",
        }

    def rival_words(self) -> str:
        "What the second attack was for"
        return f"The green diamond is the end of a second attack, sent to {self.classes[self.aim]}."

    def words(self) -> str:
        "The picture in a sentence or two"
        (a, b), name, (p, q) = self.answers, self.classes, self.p.amax(1).tolist()
        ball, d = self.attack.ball, self.x_adv - self.x
        first = self.won.nonzero()[:, 0].tolist()
        ended = (
            f"still {name[b]} ({q:.0%})"
            if b == self.y
            else f"{name[b]} ({q:.0%})"
            + (f", fooled at step {first[0]} for the first time" if first and a == self.y else "")
        )
        begin = f"{name[a]} ({p:.0%})" + (
            "" if a == self.y else f", which is wrong, it is {name[self.y]}"
        )
        return (
            f"Clean: {begin}. Attacked: {ended}. The change is {ball.norm(d).item():.3g} of"
            f" {ball.eps:.3g} long ({type(ball).__name__}), {d.norm().item():.3g} in Euclidean"
            " length."
        )


def _other(p, y):
    """The most likely class but the true one and the answer under attack (of two classes: the wrong
    one)
    """
    out = {int(y), int(p[1].argmax())} if p.shape[1] > 2 else {int(y)}
    return p.sum(0).index_fill(0, torch.tensor(sorted(out), device=p.device), -1).argmax()[None]


def scene(
    model: Callable,  # pixels to logits
    x: Tensor,  # (1,ch,h,w) one image, pixels in [0,1]
    y: Tensor,  # (1,) its label
    attack: Attack,  # how x is attacked, and in which ball
    classes: tuple | None = None,  # c class names; default: numbers
    # spans the plane, on the way to another class; default: `towards(attack.ball)`
    rival: Attack | None = None,
    grid: int = 25,  # points per side of the landscape
) -> Scene:
    """One run of an attack, its plane, and the landscape around it.

    Parameters
    ----------
    model : Callable
        pixels to logits
    x : Tensor
        (1,ch,h,w) one image, pixels in [0,1]
    y : Tensor
        (1,) its label
    attack : Attack
        how x is attacked, and in which ball
    classes : tuple | None
        c class names; default: numbers
    rival : Attack | None
        spans the plane, on the way to another class; default: `towards(attack.ball)`
    grid : int
        points per side of the landscape (default: 25)

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        for several images or restarts
    """
    ball = attack.ball
    with eval_mode(model), fitting_threads(model, x.expand(grid * grid, *x.shape[1:])):
        x_adv, path, losses, won = recorded_path(model, x, y, attack)
        x = x.to(x_adv)
        with torch.no_grad():
            p = logits(model, torch.cat([x, x_adv])).softmax(1)
        aim = _other(p, y)
        end = (rival or towards(ball))(model, x, aim) - x
        e = axes(x_adv - x, end)
        track, end = ((d.flatten(1) @ e.T) for d in (path - x, end))
        u, v = window(torch.cat([track, end, 0 * end]), 0.03 * math.sqrt(x.numel()), grid)
        d = (torch.cartesian_prod(v, u).flip(1) @ e).view(-1, *x.shape[1:])
        with torch.no_grad():
            z = logits(model, (x + d).clamp(ball.lo, ball.hi))
    ys, square = y.expand(len(d)), (grid, grid)
    return Scene(
        x,
        x_adv,
        int(y),
        classes or tuple(map(str, range(p.shape[1]))),
        attack,
        p,
        path,
        losses,
        won,
        e,
        track,
        end[0],
        int(aim),
        u,
        v,
        attack.loss(z, ys).view(square),
        margin(z, ys).view(square),
        z.argmax(1).view(square),
        ball.norm(d).view(square),
    )
