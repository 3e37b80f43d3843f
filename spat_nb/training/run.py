"""Train by a recipe

One folder, one run, which goes on after a kill and is never mixed up with another
"""

from __future__ import annotations

import json
from pathlib import Path

from ..core.settings import default_device
from ..data.sources import Data
from .building import build_model, listeners, open_data, training_parts
from .fit import fit
from .recipe import Recipe
from .rundir import Run, begin, kept_identity, open_run, stands, write
from .sameness import identity

__all__ = ["train"]


def train(
    recipe: Recipe,  # everything that the run depends on
    out=None,  # folder for checkpoint, weights and result; None: nothing is written
    device: str | None = None,  # default: the reader's setting
    resume: bool = True,  # go on from what lies in `out`; False trains anew in it
    quiet: bool = False,  # no bar and no lines
    compile: bool = False,  # torch.compile the network (pays on GPUs)
    devices=None,  # `devices.many()`: this process is one of many
    callbacks=(),  # more listeners than the recipe has, which change nothing: a tracker, a picture
    workers: int = 0,  # of an image folder: processes that read ahead
    every: float = 60,  # seconds between two checkpoints
    data: Data | None = None,  # the recipe's data, where they are open already
) -> Run:  # its model, history and data; `out` holds the same
    """Train the network of a recipe, and give the weights that validation chose.

    ValueError where `out` holds another run: it says in which slots; or where it cannot be written

    Parameters
    ----------
    recipe : Recipe
        everything that the run depends on
    out
        folder for checkpoint, weights and result; None: nothing is written (default: None)
    device : str | None
        default: the reader's setting
    resume : bool
        go on from what lies in `out`; False trains anew in it (default: True)
    quiet : bool
        no bar and no lines (default: False)
    compile : bool
        torch.compile the network (pays on GPUs) (default: False)
    devices
        `devices.many()`: this process is one of many (default: None)
    callbacks
        more listeners than the recipe has, which change nothing: a tracker, a picture (default: ())
    workers : int
        of an image folder: processes that read ahead (default: 0)
    every : float
        seconds between two checkpoints (default: 60)
    data : Data | None
        the recipe's data, where they are open already (default: None)

    Returns
    -------
    Run
        its model, history and data; `out` holds the same

    Raises
    ------
    ValueError
        where `out` holds another run: it says in which slots; or where it cannot be written

    Examples
    --------
    >>> from spat_nb import Recipe, train
    >>> run = train(Recipe(data="digits", epochs=1, n=200), quiet=True)
    >>> run.steps
    4
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(
            f"recipe is a {type(recipe).__name__}; give a Recipe, Recipe(data='digits') say."
        )
    place = devices.device if devices is not None else default_device(device)
    told = json.loads(json.dumps(identity(recipe)))
    folder = Path(out) if out is not None else None
    if folder is not None:
        _wait(devices)  # nobody looks for files that the first one deletes or writes
        if resume and stands(folder, told):
            return open_run(folder, place, recipe)
        _wait(devices)
        if _is_first(devices):
            begin(folder, told, resume, place if compile else None)
        _wait(devices)
        told = kept_identity(folder, told)
    data = data or open_data(recipe, place, workers)
    parts = training_parts(recipe, data)
    fitted = fit(
        build_model(recipe, data.train).to(place),
        **parts,
        callbacks=[*listeners(recipe, data, parts), *callbacks],
        checkpoint=folder / "checkpoint.safetensors" if folder is not None else None,
        every=every,
        config=told,
        precision=recipe.precision,
        compile=compile,
        seed=recipe.seed,
        devices=devices,
        quiet=quiet,
    )
    run = Run(
        recipe=recipe,
        model=fitted.model.eval(),
        history=fitted.history,
        best=fitted.step,
        steps=fitted.steps,
        seconds=round(fitted.seconds, 1),
        passes=fitted.passes,
        folder=folder,
        opened=data,
    )
    if folder is not None and _is_first(devices):
        write(run, told, devices)
    _wait(devices)
    return run


def _is_first(devices):
    return devices is None or devices.first


def _wait(devices):
    if devices is not None:
        devices.wait()
