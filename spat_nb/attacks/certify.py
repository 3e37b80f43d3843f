"""Certificates: which images no attack in the ball can change, and how far that holds"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ..core.checks import check_count, check_images, check_labels, check_logits
from ..core.evalmode import eval_mode
from ..core.tensors import own
from .backward import Start, margins_below, rivals
from .balls import L1, L2, Linf
from .lipschitz import stretch
from .operations import Dense
from .program import program_of
from .search import hair
from .threat import Ball, a_ball

__all__ = ["BOUNDS", "certified_margins", "certified_radius", "certify"]

# how a bound is found, from weak and cheap to strong and dear
BOUNDS = ("lipschitz", "ibp", "crown-ibp", "crown")


class _Certifier:
    "A network read once, in the numbers that bounds are computed in"

    def __init__(self, model, x, y, norm, by, dtype):
        if by not in BOUNDS:
            raise ValueError(f"by is {by!r}; a bound is found by {', '.join(BOUNDS)}.")
        if dtype not in (torch.float64, torch.float32):
            raise ValueError(f"dtype is {dtype}; bounds are computed in torch.float64 or float32.")
        if not isinstance(model, nn.Module):
            program_of(model)  # says what is wrong
        self.by, self.norm = by, norm
        with eval_mode(model):
            net = copy.deepcopy(model).to(dtype).requires_grad_(False)
        self.program = program_of(net.eval())
        self.x, self.y = own(check_images(x)).to(dtype), own_labels(y, len(x))
        with torch.no_grad():
            self.values = self.program.values(self.x)
        z = check_logits(self.values[-1], len(x))
        check_labels(self.y, c=z.shape[1])
        self.hair = hair(z)

    def margins(self, at, eps):
        "(m,c-1) lower bounds for the images `at` at radii `eps` (m,)"
        start = Start(self.x[at], eps.to(self.x), self.norm)
        with torch.no_grad():
            if self.by == "lipschitz":
                return self.by_lipschitz(at, start)
            tight, lines = self.by == "crown", self.by != "ibp"
            return margins_below(self.program, start, self.y[at], tight, lines)

    def by_lipschitz(self, at, start):
        z = self.values[-1][at]
        c, _ = rivals(self.y[at], z.shape[1], z)
        p = {Linf: math.inf, L2: 2}.get(type(self.norm))
        if p is None:
            raise TypeError(
                f"ball is {self.norm}; a Lipschitz bound is written for Linf and L2; take"
                " by='crown'."
            )
        shapes = [v.shape for v in self.values]
        op, _ = self.program.steps[-1]
        if isinstance(op, Dense):  # its two rows are one row of differences, with its dual norm
            rows = c @ op.weights()[0]
            far = stretch(self.program, p, shapes, len(shapes) - 2)
            each = rows.norm(dim=2) if p == 2 else rows.abs().sum(2)
        else:
            far = stretch(self.program, p, shapes, len(shapes) - 1)
            each = torch.full_like(c[:, :, 0], 2)
        return (c @ z[:, :, None])[..., 0] - start.eps[:, None] * far * each

    def holds(self, at, eps):
        "(m,) bool: every margin stays above 0 by more than rounding"
        return self.margins(at, eps).amin(1) > self.hair[at]


def own_labels(y, n):
    y = own(check_labels(y, n)) if y.is_floating_point() else y.detach()
    if y.ndim == 1:
        return y
    raise ValueError(f"y has shape {tuple(y.shape)}; a certificate is for labels (b,) only.")


def certified_margins(
    model: nn.Module,  # pixels to logits; left as it was found
    x: Tensor,  # (n,ch,h,w) pixels in [0,1]
    y: Tensor,  # (n,) labels
    ball: Ball,  # `Linf`, `L2` or `L1`
    by: str = "crown",  # one of `BOUNDS`
    batch: int = 16,  # images at once
    dtype: torch.dtype = torch.float64,  # of the bounds
) -> Tensor:  # (n,c-1), in the order of the classes, y left out
    """z_y - z_k is at least this, for every image of the ball. With a head that has a
    `linear_twin` these are margins of the twin, whose signs are the head's. Errors as in `certify`

    Parameters
    ----------
    model : nn.Module
        pixels to logits; left as it was found
    x : Tensor
        (n,ch,h,w) pixels in [0,1]
    y : Tensor
        (n,) labels
    ball : Ball
        `Linf`, `L2` or `L1`
    by : str
        one of `BOUNDS` (default: "crown")
    batch : int
        images at once (default: 16)
    dtype : torch.dtype
        of the bounds (default: torch.float64)

    Returns
    -------
    Tensor
        (n,c-1), in the order of the classes, y left out
    """
    check_count("batch", batch)
    c = _Certifier(model, x, y, a_ball(ball), by, dtype)
    parts = torch.arange(len(x), device=x.device).split(batch)
    return torch.cat([c.margins(at, torch.full((len(at),), ball.eps, dtype=dtype)) for at in parts])


def certify(
    model: nn.Module,  # pixels to logits; left as it was found
    x: Tensor,  # (n,ch,h,w) pixels in [0,1]
    y: Tensor,  # (n,) labels
    ball: Ball,  # `Linf`, `L2` or `L1`
    by: str = "crown",  # 'lipschitz', 'ibp', 'crown-ibp' or 'crown': weak and cheap to strong
    batch: int = 16,  # images at once
    dtype: torch.dtype = torch.float64,  # of the bounds
) -> Tensor:  # (n,) bool; False says nothing: the bound may be too weak
    """Is it proved that the model answers `y` everywhere in the ball? IBP as in Gowal et al. 2018,
    CROWN as in Zhang et al. 2018, CROWN-IBP as in Zhang et al. 2020. A margin has to stay above 0
    by 1e-5 of the logits' range: a precaution against rounding in the network, not a proof.

    TypeError for a network with a layer that no bound is written for, or another ball.

    Parameters
    ----------
    model : nn.Module
        pixels to logits; left as it was found
    x : Tensor
        (n,ch,h,w) pixels in [0,1]
    y : Tensor
        (n,) labels
    ball : Ball
        `Linf`, `L2` or `L1`
    by : str
        'lipschitz', 'ibp', 'crown-ibp' or 'crown': weak and cheap to strong (default: "crown")
    batch : int
        images at once (default: 16)
    dtype : torch.dtype
        of the bounds (default: torch.float64)

    Returns
    -------
    Tensor
        (n,) bool; False says nothing: the bound may be too weak

    Raises
    ------
    TypeError
        for a network with a layer that no bound is written for, or another ball
    ValueError
        for an unknown `by`

    Examples
    --------
    >>> from spat_nb import Linf, certify, get_data, zoo
    >>> x, y = (t[:8] for t in get_data("digits", device="cpu").test.tensors())
    >>> certify(zoo.load("digits/pgd_at/w16", "cpu"), x, y, Linf(0.001)).sum() <= 8
    tensor(True)
    """
    check_count("batch", batch)
    c = _Certifier(model, x, y, a_ball(ball), by, dtype)
    parts = torch.arange(len(x), device=x.device).split(batch)
    return torch.cat([c.holds(at, torch.full((len(at),), ball.eps, dtype=dtype)) for at in parts])


def certified_radius(
    model: nn.Module,  # pixels to logits; left as it was found
    x: Tensor,  # (n,ch,h,w) pixels in [0,1]
    y: Tensor,  # (n,) labels
    norm: type = Linf,  # `Linf`, `L2` or `L1`
    by: str = "crown",  # as in `certify`
    top: float | None = None,  # largest radius looked at; default: 0.5 in Linf, 4 in L2, 32 in L1
    halvings: int = 9,  # of the stretch from 0 to `top`
    batch: int = 16,  # images at once
    dtype: torch.dtype = torch.float64,  # of the bounds
) -> Tensor:  # (n,) >= 0; 0 where nothing is proved
    """The largest radius found, by halving, at which `certify` says yes: a lower bound of the
    distance to the nearest image that fools the model.

    TypeError where `norm` is none of the three; other errors as in `certify`

    Parameters
    ----------
    model : nn.Module
        pixels to logits; left as it was found
    x : Tensor
        (n,ch,h,w) pixels in [0,1]
    y : Tensor
        (n,) labels
    norm : type
        `Linf`, `L2` or `L1` (default: Linf)
    by : str
        as in `certify` (default: "crown")
    top : float | None
        largest radius looked at; default: 0.5 in Linf, 4 in L2, 32 in L1
    halvings : int
        of the stretch from 0 to `top` (default: 9)
    batch : int
        images at once (default: 16)
    dtype : torch.dtype
        of the bounds (default: torch.float64)

    Returns
    -------
    Tensor
        (n,) >= 0; 0 where nothing is proved

    Raises
    ------
    TypeError
        where `norm` is none of the three; other errors as in `certify`
    """
    tops = {Linf: 0.5, L2: 4.0, L1: 32.0}
    if norm not in tops:
        raise TypeError(f"norm is {norm!r}; give the class Linf, L2 or L1.")
    check_count("batch", batch)
    check_count("halvings", halvings)
    top = tops[norm] if top is None else top
    c = _Certifier(model, x, y, norm(top), by, dtype)
    return torch.cat(
        [_halved(c, at, top, halvings) for at in torch.arange(len(x)).to(x.device).split(batch)]
    )


def _halved(c, at, top, halvings):
    good = torch.zeros(len(at), dtype=torch.float64, device=at.device)
    bad = torch.full_like(good, top)
    good = torch.where(c.holds(at, bad), bad, good)
    for _ in range(halvings):
        mid = (good + bad) / 2
        holds = c.holds(at, mid)
        good, bad = torch.where(holds, mid, good), torch.where(holds, bad, mid)
    return good
