"""A finished training, in memory and in its folder"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from .. import __version__
from ..core.files import load_tree, save_tree, write_aside
from ..core.machine import device_name
from ..core.paths import check_writable, what_is
from ..core.precision import check_compiler
from ..data.sources import Data
from ..models.saving import load, save
from .building import new_model, open_data
from .recipe import Recipe
from .sameness import difference

if TYPE_CHECKING:
    from spat_nb.measure.report import Report

__all__ = [
    "SCHEMA",
    "FILES",
    "ELSE",
    "Run",
    "stands",
    "begin",
    "kept_identity",
    "write",
    "write_weights",
    "read_weights",
    "open_run",
    "weights_info",
]

SCHEMA = 2  # of what is kept beside weights and in result.json
FILES = ("checkpoint.safetensors", "weights.safetensors", "recipe.json", "result.json")
# what to do where another run lies in the folder
ELSE = "give another out, or resume=False to train anew in it"


@dataclass
class Run:
    "A training that is done: the network that validation chose, and how it came about"

    recipe: Recipe  # that was trained
    model: nn.Module  # in eval mode
    history: list = field(default_factory=list)  # a row for each look at validation images
    best: int | None = None  # step at which the chosen weights stood
    steps: int = 0  # of the optimiser
    seconds: float = 0.0  # of training in this process
    passes: dict | None = None  # forward and backward passes for each training image
    folder: Path | None = None  # where it lies; None: nowhere
    opened: Data | None = field(default=None, repr=False)  # its data, where they are open

    @cached_property
    def data(self) -> Data:  # train, valid, test
        "Its data, opened when they are asked for"
        where = next((p.device for p in self.model.parameters()), None)
        return self.opened or open_data(self.recipe, where)

    def judge(self, *args, **kwargs) -> Report:
        """`judge` on its test images, in the ball it was trained for

        Run.judge('fgsm, autoattack', trust=True)
        """
        from spat_nb.measure.judge import judge  # a training alone needs none of its attacks

        ball = kwargs.pop("ball", self.recipe.made("ball"))
        kwargs = {
            "precision": self.recipe.precision,
            "source": f"{self.recipe.data}, test",
            **kwargs,
        }
        report = judge(self.model, self.data.test, ball, *args, **kwargs)
        report.made["recipe"] = self.recipe.as_dict()
        return report

    def __str__(self):
        chosen = (
            f"weights of step {self.best} of {self.steps}"
            if self.best is not None
            else f"{self.steps} steps"
        )
        where = f"; in {self.folder}" if self.folder else ""
        return f"{self.recipe}\n{self.model}\n{chosen}, {self.seconds:.0f} s{where}"


def _read(path):
    "JSON values of a file, or None where it is not there. ValueError where it is damaged"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(
            f"{path} is {what_is(path)} and no whole result; move it away and train again."
        ) from None


def stands(
    folder: Path,  # of a run
    told: dict,  # `identity` of the recipe that is asked for
) -> bool:
    """Is this very run finished there?

    ValueError where another one lies in the folder: it says what differs, slot by slot
    """
    was = _read(folder / "result.json") or _read(folder / "recipe.json")
    if was is None:
        return False
    if not isinstance(was, dict) or not isinstance(was.get("recipe"), dict):
        raise ValueError(f"{folder} holds a run of an earlier version of spat_nb; {ELSE}.")
    slots = difference(was["recipe"], told["recipe"])
    if slots:
        raise ValueError(f"{folder} holds a run with {slots.said()}; {ELSE}.")
    edited = [
        k
        for k in {**was.get("code", {}), **told["code"]}
        if was.get("code", {}).get(k) != told["code"].get(k)
    ]
    if edited:
        raise ValueError(
            f"{folder} holds a run whose {' and '.join(edited)} had another source; {ELSE}."
        )
    return (folder / "result.json").is_file() and (folder / "weights.safetensors").is_file()


def kept_identity(
    folder: Path,  # of a run
    told: dict,  # `identity` of its recipe, as it is written today
) -> dict:
    "The same as it was written when the run began, which is how its checkpoint has it"
    was = _read(folder / "recipe.json") or told
    return {k: was[k] for k in told}


def begin(
    folder: Path,  # of a run; made where it is missing
    told: dict,  # `identity` of the recipe
    resume: bool,  # go on from what lies there
    compiling=None,  # device to compile for
):
    """What is done before any work

    Refuse what cannot be written or compiled, clear away what is not gone on with, and say which
    run this is
    """
    check_writable(folder, folder=True)
    for name in FILES:
        check_writable(folder / name)
    if compiling is not None:
        try:
            check_compiler(compiling, "compile")
        except RuntimeError as e:
            raise ValueError(str(e)) from None
    if not resume:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
    if not (folder / "recipe.json").is_file():
        with write_aside(folder / "recipe.json") as part:
            part.write_text(json.dumps({"schema": SCHEMA, **told}, indent=1), encoding="utf-8")


def write_weights(
    model: nn.Module,
    path,  # .safetensors file
    told: dict,  # `identity` of the recipe that it was trained by
    train,  # images that it was trained on: their shape and classes are kept
    **more,  # JSON values: study and row, say
) -> dict:  # what was kept beside the weights
    "Write a network with what is known of it, in the one layout that all our files have"
    info = {
        "schema": SCHEMA,
        "spat_nb": __version__,
        **told,
        "shape": list(train.shape),
        "classes": [*map(str, train.classes)],
        **more,
    }
    if isinstance(getattr(model, "config", None), dict):
        save(model, path, **info)
    else:  # a network of the reader's own: only its recipe can build it
        save_tree(path, {"model": {"name": None}, "weights": model.state_dict(), "info": info})
    return info


def write(
    run: Run,  # finished, with its folder and its data open
    told: dict,  # `identity` of its recipe
    devices=None,  # of one process in many
):
    "Weights, then result.json, which says that the run is finished; the checkpoint goes"
    train = cast(Data, run.opened).train
    folder = cast(Path, run.folder)
    about = write_weights(run.model, folder / "weights.safetensors", told, train)
    where = next((p.device for p in run.model.parameters()), None)
    result = {
        "kind": "run",
        **about,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "device": device_name(where),
        "processes": devices.of if devices is not None else 1,
        "seconds": run.seconds,
        "steps": run.steps,
        "best": run.best,
        "passes": run.passes,
        "history": run.history,
    }
    with write_aside(folder / "result.json") as part:
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)


def weights_info(
    path,  # weights.safetensors of a run
) -> dict:  # schema, spat_nb, recipe, code, shape, classes
    "What a weights file says of its run. ValueError where it was not written by `train`"
    tree = load_tree(path)
    info = tree.get("info") if isinstance(tree, dict) else None
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} does not say of which run it is; give the weights that train wrote."
        )
    return info


def _weights_of(path):
    "The weights file of a run's folder, or the file itself. FileNotFoundError where there is none"
    path = Path(path)
    file = path / "weights.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no finished run in {path}; check the path, or train first.")
    return file


def open_run(
    path,  # folder of a run, or its weights file, which may stand alone
    device=None,  # where the network goes; default: the CPU
    recipe: Recipe | None = None,  # as it was typed; needed where it names what is not ours
) -> Run:
    """Read a finished run

    FileNotFoundError where there is none.

    Parameters
    ----------
    path
        folder of a run, or its weights file, which may stand alone
    device
        where the network goes; default: the CPU
    recipe : Recipe | None
        as it was typed; needed where it names what is not ours (default: None)

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError
        where there is none
    ValueError
        where it names what a file may not name
    """
    file = _weights_of(path)
    info = weights_info(file)
    recipe = recipe or Recipe.from_dict(info["recipe"])
    result = _read(file.parent / "result.json") if Path(path).is_dir() else None
    told = (
        {k: result[k] for k in ("history", "best", "steps", "seconds", "passes")} if result else {}
    )
    model = read_weights(file, recipe)
    return Run(recipe, model.to(device or "cpu").eval(), folder=file.parent, **told)


def read_weights(
    file,  # what `write_weights` wrote
    recipe: Recipe,  # as it was typed, for a network that the file cannot name
) -> nn.Module:  # on the CPU, in eval mode
    "The network of a weights file; one of the reader's own is built by its recipe"
    tree = load_tree(file)
    made = tree["model"]
    if made.get("name") and made.get("act") is not None and made.get("head") is not None:
        return load(file)
    info = weights_info(file)
    model = new_model(recipe, len(info["classes"]), tuple(info["shape"]))
    model.load_state_dict(tree["weights"])
    return model.eval()
