"""What a command judges: the folder of a run, a weights file, or a network of the zoo

Its data, its ball, and the lines that every output begins with
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..attacks.balls import Ball
from ..core import spec
from ..core.evalmode import device_of
from ..core.machine import device_name
from ..core.paths import what_is
from ..core.settings import default_device, settings
from ..core.slots import normal
from ..core.threads import keep_memory, use_threads
from ..data.sources import Data
from ..measure.battery import named_attacks
from ..measure.told import heading, images_told, network_told
from ..models.saving import load, model_info
from ..training.methods import changed
from ..training.recipe import Recipe
from ..training.rundir import SCHEMA, open_run
from . import zoo
from .foreign import FLAGS, is_foreign, open_foreign
from .images import open_images
from .naming import command_for, is_ours

__all__ = [
    "Opened",
    "settle",
    "facts_of",
    "lines_above",
    "attacks_in",
    "weights_file",
    "open_weights",
]

# of what a weights file says this is needed to judge it
KEPT = ("data", "ball", "batch", "root", "seed", "valid", "n_test", "size")
OF_DATA = ("root", "seed", "valid", "n_test", "size")  # of no use for another data set


@dataclass(frozen=True)
class Opened:
    "A trained network, and what it is judged by"

    name: str  # as it was typed
    model: nn.Module  # on its device, in eval mode
    data: Data  # train, valid, test
    ball: Ball  # threat model
    source: str  # of the images, in words: 'digits, test'
    notes: tuple = ()  # how a network from elsewhere was opened, sentences
    attacks: str = ""  # what it is judged by where nobody says it; '': as every network
    is_foreign: bool = False  # was it made elsewhere?
    normalisation: tuple | None = None  # (mean, std) put before a network from elsewhere
    file: Path | None = None  # that holds its weights

    def facts(self) -> dict:  # network, data, ball, device: texts; threads: a number
        "What the numbers hang on"
        network = network_told(self.model, self.name)
        return facts_of(network, self.data.test, self.source, self.ball, device_of(self.model))

    def head(self, precision: str | None = None) -> str:
        "What every output begins with"
        return lines_above(self.facts(), precision)


def settle() -> int:  # the number of threads
    "What a command that computes sets for its process: threads, and memory that is kept"
    keep_memory()
    return use_threads()


def facts_of(
    network: str,  # in words
    test,  # `Batches` that are judged
    source: str,  # where they are from
    ball: Ball,  # threat model
    device,  # torch.device
    processes: int = 1,  # that work together
) -> dict:  # network, data, ball, device: texts; threads: a number
    "What the numbers hang on"
    where = device_name(device)
    if processes > 1:
        where += f", {processes} processes"
    return {
        "network": network,
        "data": images_told(test.n, test.c, test.shape, source),
        "ball": spec.text(ball),
        "device": where,
        "threads": torch.get_num_threads(),
    }


def lines_above(
    facts: dict,  # what `facts_of` gave
    precision: str | None = None,  # how the network runs; default: the reader's setting
) -> str:
    "What every output begins with"
    return "\n".join(heading(**facts, precision=precision or settings().precision))


def attacks_in(
    text: str,  # specs of attacks, as they were typed
    ball: Ball,  # threat model
) -> dict:  # name -> attack
    "The attacks. ValueError or TypeError in one sentence that begins with the name of the flag"
    try:
        return named_attacks(text, ball, outside=True)
    except (TypeError, ValueError) as e:
        raise type(e)(f"attacks: {e}") from None


def _is_shipped(weights):
    "Is this the name of a shipped network, and no path?"
    path = Path(weights)
    is_name = weights.count("/") == 2 and not weights.endswith(".safetensors")
    return is_name and not path.exists() and not path.is_absolute()


def weights_file(
    weights: str,  # folder of a run, a .safetensors file, or a shipped network
) -> Path:
    "The file that is meant. FileNotFoundError or ValueError in one sentence where there is none"
    if _is_shipped(weights):
        return zoo.path(weights)
    path = Path(weights).expanduser()
    inside = path / "weights.safetensors"
    return inside if path.is_dir() and inside.is_file() else path


def _of_recipe(told, typed_model, path):
    "What a recipe in a file says of the judging; a network is taken from it where it has to be"
    values = {k: told["recipe"][k] for k in KEPT if told["recipe"].get(k) is not None}
    if typed_model:
        return values
    try:
        return {**values, "model": normal(told["recipe"]["model"])}
    except ValueError:  # no public name: it can be built only where the file says how
        made = told["model"]
        if made.get("name") and made.get("act") is not None and made.get("head") is not None:
            return values
        raise ValueError(
            f"{path} holds a network that is not spat_nb's, {told['recipe']['model']}; "
            "type it again: --model file.py:name."
        ) from None


def _of_config(told):
    "The same of weights that name data set and radius alone"
    config = {**told, **told.get("config", {})}  # a study's weights say it outright
    values = {k: config[k] for k in KEPT if config.get(k) is not None and k != "ball"}
    if config.get("eps") is not None:
        values["ball"] = f"Linf({float(config['eps'])!r})"
    return values


def _recipe(a, path):
    "The recipe by which weights are judged: what their file says, and over it what was typed"
    told = model_info(path)
    has_recipe = told.get("schema") == SCHEMA and isinstance(told.get("recipe"), dict)
    values = _of_recipe(told, a.model, path) if has_recipe else _of_config(told)
    if a.data and a.data != values.get("data"):
        values = {k: v for k, v in values.items() if k not in OF_DATA}
    typed = {k: getattr(a, k) for k in ("data", "root", "size", "n_test")}
    typed = {k: v for k, v in typed.items() if v is not None}
    values |= typed
    if "data" not in values or not ("ball" in values or a.ball or a.eps is not None):
        raise ValueError(
            f"{path} does not say its data set and ball; give --data, and --ball or --eps."
        )
    recipe = Recipe.from_dict(values)  # nothing that a file says may name what is not ours
    for word in ("model", "ball"):
        if getattr(a, word):
            recipe = recipe.but(**{word: getattr(a, word)})
    return (recipe if a.eps is None else changed(recipe, eps=a.eps)), has_recipe


def _batches_of_card(name, test):
    "In the batches of its card: random starts are drawn batch by batch"
    from spat_nb.studies.sizes import SIZES

    size = SIZES[zoo.card(name)["source"]["size"]]
    return test.with_(batch_size=size.chunk or size.batch)


def _our_file(a):
    "The file of weights of ours. ValueError with the command to write where they are not ours"
    for flag in FLAGS:
        if getattr(a, flag):
            raise ValueError(
                f"{flag} is for a network that was made elsewhere, such as torchvision:resnet18; "
                f"{a.weights} says for itself how it is opened."
            )
    path = weights_file(a.weights)
    if path.suffix == ".py" and path.is_file():
        raise ValueError(f"{path} is Python; write {path}:NAME, a network in it or what makes one.")
    is_checkpoint = path.is_dir() and (path / "config.json").is_file()
    if is_checkpoint or path.is_file() and _holds_weights(path) and not is_ours(path):
        raise ValueError(command_for(a, path))
    return path


def _file(name):
    "The file of this name; None where it is no file"
    path = Path(name).expanduser()
    return path if path.is_file() else None


def _holds_weights(path):
    "Is this a file of weights, whoever wrote it?"
    return what_is(path) in ("a pickle", "a safetensors file")


def open_weights(
    a,  # what was typed: weights, model, data, root, size, ball, eps, n_test, device, `FLAGS`
) -> Opened:
    """Open what a command judges

    FileNotFoundError or ValueError in one sentence where it is not there, or does not say enough
    """
    settle()
    if is_foreign(a.weights):
        it = open_foreign(a, default_device(a.device))
        ball = it.recipe.made("ball")
        return Opened(
            a.weights,
            it.model,
            it.data,
            ball,
            it.source,
            it.notes,
            it.attacks,
            is_foreign=True,
            normalisation=it.normalisation,
            file=_file(a.state or a.weights),
        )
    path = _our_file(a)
    recipe, has_recipe = _recipe(a, path)
    device = default_device(a.device)
    data, source = open_images(a, recipe, device)
    if _is_shipped(a.weights):
        data = data._replace(test=_batches_of_card(a.weights, data.test))
    model = open_run(path, device, recipe).model if has_recipe else load(path).to(device)
    if _is_shipped(a.weights):
        model = model.float()
    return Opened(a.weights, model, data, recipe.made("ball"), source, file=path)
