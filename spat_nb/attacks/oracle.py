"""Between an attack and a model that only answers: queries are counted, the best attempt is kept"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.checks import check_labels, check_logits
from ..core.protocols import LossFunction, ModelFunction
from ..core.tensors import alike, logits
from .door import door
from .losses import margin, missed
from .threat import Ball, a_ball

__all__ = ["BlackBox", "Oracle", "those"]


def those(
    v: Tensor,  # (b,...)
    i: Tensor,  # (k,) int64, rising numbers
) -> Tensor:  # (k,...); `v` itself where these are all
    "v[i], without a copy where nobody is missing"
    return v if len(i) == len(v) else v[i]


class Oracle:
    """Answers questions about the images of one batch.

    It counts them per image, and keeps of each image the best attempt. The first question is the
    clean image
    """

    def __init__(
        self,
        model: ModelFunction,  # pixels (b,ch,h,w) to logits (b,c), in eval mode
        x: Tensor,  # (b,ch,h,w) clean images
        y: Tensor,  # (b,) labels or (b,c) probabilities
        loss: LossFunction,  # (z, y) -> (b,), up is worse for the model
        queries: int,  # questions allowed per image, >= 1
    ):
        self.model, self.x, self.y, self.loss, self.queries = model, x, y, loss, queries
        self.used = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.best, self.val = x.clone(), x.new_full((len(x),), -torch.inf)
        z, _, self.won = self.look(x, torch.arange(len(x), device=x.device))
        # the model may want its own tensor back as it was
        self.z = z.clone()

    @property
    def live(self) -> Tensor:  # (k,) int64, numbers of the images that may still be asked about
        "Not fooled yet, and questions left"
        return (~self.won & (self.used < self.queries)).nonzero()[:, 0]

    def look(
        self,
        z: Tensor,  # (k,ch,h,w) images to show
        i: Tensor,  # (k,) int64, rising numbers: which images of the batch they belong to
    ) -> tuple:  # logits (k,c), loss (k,), won (k,) bool
        "One question each: what does the model say? Nothing is kept"
        self.used[i] += 1
        a, y = alike(logits(self.model, z), z), those(self.y, i)
        if not hasattr(self, "z"):
            check_labels(y, c=check_logits(a, len(z)).shape[1])
        return a, self.loss(a, y), getattr(self.loss, "won", missed)(a, y)

    def __call__(
        self,
        z: Tensor,  # (k,ch,h,w) attempts, inside ball and box
        i: Tensor,  # (k,) int64, rising numbers: which images of the batch they belong to
    ):
        "One question each; keep the attempts that fool the model or raise the loss"
        self.z[i], v, won = self.look(z, i)
        up = (won | (v > those(self.val, i))).nonzero()[:, 0]
        for old, new in ((self.best, z), (self.val, v), (self.won, won)):
            old[i[up]] = new[up]


@dataclass(frozen=True)
class BlackBox:
    """A search in `ball` that only asks the model for its answers; call it as `attack(model, x,
    y)`.

    Parameters
    ----------
    ball : Ball
        how far: Linf(8/255), L2(.5)
    search : Callable
        (ask, x, ball, generator): puts its questions to the `Oracle`
    queries : int
        questions per image at most, the clean image included (default: 5000)
    loss : LossFunction
        (z, y) -> (b,), up is worse for the model (default: margin)
    generator : torch.Generator | None
        random stream; default: torch's own

    Raises
    ------
    TypeError
        where the search does not know the ball
    ValueError
        where `queries` is no whole number above 0
    """

    ball: Ball  # how far: Linf(8/255), L2(.5)
    search: Callable  # (ask, x, ball, generator): puts its questions to the `Oracle`
    queries: int = 5000  # questions per image at most, the clean image included
    loss: LossFunction = margin  # (z, y) -> (b,), up is worse for the model
    generator: torch.Generator | None = None  # random stream; default: torch's own

    def __post_init__(self):
        a_ball(self.ball)
        known: tuple = getattr(self.search, "balls", (Ball,))
        if not isinstance(self.ball, known):
            raise TypeError(
                f"ball is {self.ball!r}; {self.search!r} knows"
                f" {' and '.join(k.__name__ for k in known)} only."
            )
        if self.queries < 1 or self.queries != int(self.queries):
            raise ValueError(
                f"queries is {self.queries}; give a whole number >= 1, the clean image is the"
                " first."
            )

    def __call__(self, model, x, y) -> Tensor:  # (b,ch,h,w) attacked images, inside ball and box
        "Attack `x`. TypeError or ValueError where model, images and labels do not fit"
        return self.run(model, x, y)[0]

    def run(
        self,
        # pixels (b,ch,h,w) to logits (b,c); no gradient is asked of it, its mode is left as it was
        model: ModelFunction,
        # (b,ch,h,w) pixels in [0,1]; kept in float32 or float64 whatever the model's precision
        x: Tensor,
        y: Tensor,  # (b,) labels or (b,c) probabilities
    ) -> tuple:  # attacked images (b,ch,h,w), inside ball and box; questions used (b,) int64
        """Attack `x` and say what it cost.

        TypeError or ValueError where model, images and labels do not fit

        Parameters
        ----------
        model : ModelFunction
            pixels (b,ch,h,w) to logits (b,c); no gradient is asked of it, its mode is left as it
            was
        x : Tensor
            (b,ch,h,w) pixels in [0,1]; kept in float32 or float64 whatever the model's precision
        y : Tensor
            (b,) labels or (b,c) probabilities

        Returns
        -------
        tuple
            attacked images (b,ch,h,w), inside ball and box; questions used (b,) int64

        Raises
        ------
        TypeError or ValueError
            where model, images and labels do not fit
        """
        with door(model, x, y) as (_, x, y), torch.no_grad():
            self.fits(x)
            ask = Oracle(model, x, y, self.loss, self.queries)
            self.search(ask, x, self.ball, self.generator)
        return ask.best, ask.used

    def fits(self, x):
        """ValueError where the search needs images and `x` is none

        Raises
        ------
        ValueError
            where the search needs images and `x` is none
        """
        if getattr(self.search, "images", False) and x.ndim != 4:
            raise ValueError(
                f"{type(self.search).__name__} paints on images (b,ch,h,w), but x has shape"
                f" {tuple(x.shape)}; use rays or spsa, or of AutoAttack all but that:"
                " autoattack(ball).without('square')."
            )
