"""The images that a command judges on: of a recipe, or a person's own

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import torch

from ..data.judged import is_ones_own, open_judged
from ..data.sources import Data
from ..training.building import open_data
from ..training.recipe import Recipe

__all__ = ["open_images"]


def open_images(
    a,  # what was typed: data, split, size, root, n_test
    recipe: Recipe,  # what is judged on where nobody typed data of their own
    device,  # where the images go
    size: int | None = None,  # of pictures in files, where nobody typed one
) -> tuple[Data, str]:  # train, valid and test; where the test images are from, in words
    """What is judged on. Of a person's own data train and valid are empty

    ValueError, TypeError or FileNotFoundError in one sentence where it cannot be opened
    """
    if not a.data or not is_ones_own(a.data):
        if a.split not in (None, "test"):
            raise ValueError(
                f"split is {a.split}; of {recipe.data} the test images are judged: leave it out."
            )
        return open_data(recipe, device), f"{recipe.data}, test"
    if a.root is not None:
        raise ValueError(f"root: {a.data} says where it lies; leave it out.")
    images, source = open_judged(a.data, a.split, a.size or size, None, device, recipe.batch or 128)
    if a.n_test is not None:
        if a.n_test > images.n:
            raise ValueError(
                f"n_test is {a.n_test}, but there are {images.n} images; leave it out to take all."
            )
        images = images.subset(a.n_test)
    nothing = images.take(torch.zeros(0, dtype=torch.int64))
    return Data(nothing, nothing, images), source
