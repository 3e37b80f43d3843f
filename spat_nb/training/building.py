"""From a recipe to what a run is made of

Its data, its network, what it minimises, and who listens
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import nn

from ..attacks.attack import pgd
from ..attacks.filling import attack_in, filled, objective_in
from ..core.rng import torch_seed
from ..data.sources import Data, get_data
from .callbacks import Validate
from .fast import Replay
from .recipe import Recipe

__all__ = ["open_data", "new_model", "build_model", "training_parts", "listeners"]


def open_data(
    recipe: Recipe,  # data, batch, seed, n, valid, n_test, root, size, augment
    device=None,  # where the images live; default: the reader's setting
    workers: int = 0,  # of an image folder: processes that read ahead
) -> Data:  # train, valid, test
    "The data of a recipe. ValueError where there are fewer test images than it asks for"
    data = get_data(
        recipe.data,
        device=device,
        batch_size=cast(int, recipe.batch),  # set when the recipe was made
        seed=recipe.seed,
        n=recipe.n,
        valid=recipe.valid,
        augment=recipe.made("augment"),
        root=recipe.root,
        size=recipe.size,
        workers=workers,
    )
    if recipe.n_test is None:
        return data
    if recipe.n_test > data.test.n:
        raise ValueError(
            f"n_test is {recipe.n_test}, but there are {data.test.n} test images; "
            "leave it out to take all."
        )
    return data._replace(test=data.test.subset(recipe.n_test))


def new_model(
    recipe: Recipe,  # its slot `model`
    classes: int,  # number of logits
    shape: tuple,  # (ch,h,w) of the images
    **slots,  # layers that no spec can name: act=, head=
) -> nn.Module:
    "A network of this make for such images. TypeError where the slot makes no network"
    channels, height, _ = shape
    known = {"classes": classes, "channels": channels, "size": height}
    elsewhere = {
        "c": classes,
        "num_classes": classes,
        "in_channels": channels,
        "in_chans": channels,
    }
    model = filled(partial(recipe.made("model"), **slots), **known, **elsewhere)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {recipe.model}, which makes a {type(model).__name__}; "
            "give what makes an nn.Module."
        )
    return model


def build_model(
    recipe: Recipe,  # model and seed
    train,  # `Batches`: number of classes and shape of the images
) -> nn.Module:
    "A new network for these images, its first weights drawn by the recipe's seed"
    torch.manual_seed(torch_seed(recipe.seed))
    return new_model(recipe, train.c, train.shape)


def _look(recipe, data):
    "What looks at held-out images; None where there are none"
    if not data.valid.n:
        return None
    every = recipe.look / recipe.replays  # an epoch of the loop shows each batch so often
    return Validate(data.valid, pgd(recipe.made("ball"), 10), every=every)


def training_parts(
    recipe: Recipe,  # that is trained
    data: Data,  # its data
) -> dict:  # keywords of `fit`
    "What is minimised, over what, for how long, and what chooses the weights"
    ball = recipe.made("ball")
    known = {
        "ball": ball,
        "train": data.train,
        "valid": data.valid,
        "c": data.train.c,
        "classes": data.train.c,
    }
    objective = objective_in(recipe.made("objective"), **known, epochs=recipe.epochs)
    draws = hasattr(objective, "epoch") and hasattr(
        objective, "n"
    )  # CFOL chooses its images itself
    images: Any = objective if draws else data.train
    epochs = recipe.epochs
    if recipe.replays > 1:
        images = Replay(images, recipe.replays)
        epochs = max(1, round(epochs / recipe.replays)) if epochs else 0
    look = _look(recipe, data)
    return {
        "train": images,
        "objective": objective,
        "attack": attack_in(recipe.made("attack"), ball, recipe.attack),
        "epochs": epochs,
        "lr": recipe.lr,
        "validate": look,
        "best": recipe.best if look is not None and epochs and recipe.best != "last" else None,
        "opt": recipe.made("optimiser"),
        "schedule": recipe.made("schedule"),
    }


def listeners(
    recipe: Recipe,  # its slot `callbacks`
    data: Data,  # its data
    parts: dict,  # what `training_parts` gave
) -> list:  # of Callbacks, in the order of the recipe
    """The listeners of a recipe, each with what it asks for

    An average of weights looks at validation images by itself
    """
    known = {
        "look": parts["validate"],
        "data": data.valid,
        "valid": data.valid,
        "train": data.train,
        "weak": parts["attack"],
        "ball": recipe.made("ball"),
        "c": data.train.c,
    }
    return [filled(make, **known) for make in recipe.made("callbacks")]
