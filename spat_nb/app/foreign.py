"""A network that was made elsewhere, opened as a command names it

timm:resnet18, torchvision:resnet50, hf:folder, mine.py:net, a program in a file
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..attacks.balls import L1
from ..attacks.filling import filled, open_names
from ..core import spec
from ..core.grammar import OUTSIDE, is_outside
from ..data.sources import Data
from ..data.vision import MISSING, torchvision
from ..models.adapters import Adapted, adapt, input_layers
from ..models.inputs import pixel_numbers
from ..models.libraries import count_in, is_library, open_library
from ..models.library import Library
from ..models.programs import is_program, open_program
from ..models.state import is_script, load_weights, read_state, without_prefixes
from ..training.methods import changed
from ..training.recipe import Recipe
from .images import open_images
from .naming import named_outputs

__all__ = ["FLAGS", "Foreign", "is_foreign", "open_foreign"]

# flags that only such a network has, by the name of their value
FLAGS = ("state", "mean", "std", "labels", "preprocess", "untrained", "pretrained")
NEEDED = "write --ball 'Linf(8/255)' say"


@dataclass(frozen=True)
class Foreign:
    "A network from elsewhere that takes pixels and gives logits, its data and its ball"

    model: Adapted  # on its device, in eval mode
    data: Data  # train, valid, test
    recipe: Recipe  # data and ball
    source: str  # of the test images, in words
    normalisation: tuple | None = None  # (mean, std) that stands before the network; None: none
    notes: tuple = ()  # how it was opened, sentences

    @property
    def attacks(self) -> str:
        "What it is judged by where nobody says it; '': what every network is judged by"
        if self.model.gradient:
            return ""
        queries = "spsa(queries=1000, samples=16)"
        return queries if isinstance(self.recipe.made("ball"), L1) else f"square, {queries}"


@dataclass
class Found:
    "A network as it came, and what is known of the images it takes"

    model: object  # what is called
    channels: int | None = None  # that it takes
    notes: list = field(default_factory=list)  # sentences
    library: Library | None = None  # that it is from


def _is_typed_name(text):
    "Is this file.py:name or package.module:name, perhaps with arguments?"
    name = text.partition("(")[0]
    return bool(re.fullmatch(OUTSIDE, name)) or is_outside(name)


def is_foreign(
    text: str,  # as it was typed
) -> bool:
    "Does this name a network that was made elsewhere?"
    if is_library(text) or is_program(text):
        return True
    path = Path(text).expanduser()
    return is_script(path) if path.is_file() else _is_typed_name(text)


def _recipe(a, library):
    "Data and ball as they were typed. ValueError where one is not"
    if not a.data:
        raise ValueError(f"{a.weights} does not say its data set; give --data.")
    if a.ball is None and a.eps is None:
        raise ValueError(f"{a.weights} does not say its ball; {NEEDED}.")
    if a.model:
        raise ValueError(f"model: {a.weights} is the network already; leave it out.")
    typed = {k: getattr(a, k) for k in ("root", "size", "n_test", "ball")}
    if a.size is None and library is not None:
        typed["size"] = library.size
    recipe = Recipe(data=a.data, **{k: v for k, v in typed.items() if v is not None})
    return recipe if a.eps is None else changed(recipe, eps=a.eps)


def open_foreign(
    a,  # what was typed
    device,  # where it goes
) -> Foreign:
    "Open what was typed. FileNotFoundError, ImportError, TypeError or ValueError in one sentence"
    library = open_library(a.weights, a.pretrained) if is_library(a.weights) else None
    for flag in ("pretrained", "untrained"):
        if library is None and getattr(a, flag):
            raise ValueError(
                f"{flag}: only an architecture of timm, torchvision or transformers has weights of "
                f"its library; leave it out for {a.weights}."
            )
    recipe = _recipe(a, library)
    data, source = open_images(a, recipe, device, library.size if library else None)
    x = data.test.subset(min(8, data.test.n)).tensors()[0].cpu()
    around = _around(a, library, recipe)
    found = _found(a, library, data.test, partial(input_layers, x, **around))
    around["channels"] = found.channels
    around |= _numbers(a, library, found.channels or x.shape[1])
    look = partial(_adapted, a, found.model, x, classes=data.test.c, **around)
    model = look()
    if not model.gradient and getattr(a, "aa", False):
        raise ValueError(
            f"aa: AutoAttack follows gradients, and none reaches the pixels of {a.weights}; leave "
            "it out, and it is judged by queries."
        )
    outputs = model(x[:1]).shape[1]
    chosen, more, classes = named_outputs(
        a.labels, outputs, data.test.classes, library.names if library else (), a.data
    )
    if chosen is not None:
        model = look(chosen=chosen)
        data = Data(*(_with_classes(part, classes) for part in data))
    notes = [*found.notes, *_said_of_pixels(a, library), *model.notes, *more]
    model = model.to(device).eval()
    pixels = pixel_numbers(around.get("mean"), around.get("std")) or None
    return Foreign(model, data, recipe, source, pixels, tuple(notes))


def _with_classes(part, classes):
    "The same images with these names of classes; groups of classes go where one has joined them"
    more = {}
    if len(classes) != part.c and getattr(part, "superclasses", ()):
        more = {"superclasses": (), "superclass_of_class": ()}
    return part.with_(classes=classes, **more)


def _adapted(a, model, x, **around):
    "The network with what is missing put around it; a sentence about it names it"
    try:
        return adapt(model, x, **around)
    except (TypeError, ValueError) as e:
        raise type(e)(str(e).replace("the network", a.weights, 1)) from None


def _around(a, library, recipe):
    "What is known of the images before the network is there"
    own = {"size": None if recipe.data == "imagefolder" else a.size}
    if a.preprocess:
        own["preprocess"] = _looked_up(a.preprocess)
    return {**own, **_numbers(a, library, None)}


def _numbers(a, library, channels):
    "Mean and deviation: as they were typed, else as the library says"
    if a.mean is not None or a.std is not None:
        return {"mean": a.mean, "std": a.std}
    if library is None or not library.pixels or a.preprocess:
        return {}
    mean, std = library.pixels
    if channels is not None and len(mean) not in (1, channels):
        mean, std = ((sum(v) / len(v),) for v in (mean, std))
    return {"mean": mean, "std": std}


def _said_of_pixels(a, library):
    "Who says how pixels are normalised"
    if a.mean is not None or a.std is not None or a.preprocess:
        return []
    if library is not None and library.pixels:
        return [f"normalisation: from {library.source}, since --mean and --std are not given."]
    return ["normalisation: none is put before the network; --mean and --std give one."]


# ---- the network itself


def _found(a, library, test, layers):
    "The network as it came"
    if library is not None:
        return _in_float32(_of_library(a, library, test))
    if is_program(a.weights) or Path(a.weights).expanduser().is_file():
        if a.state:
            raise ValueError(f"state: {a.weights} has its weights in it; leave it out.")
        before, _ = layers()
        with torch.no_grad():
            program = open_program(a.weights, before(layers.args[0]))
        return Found(program.model, None, [f"network: {program.kind}.", *program.notes])
    return _in_float32(_typed(a, test))


def _in_float32(found):
    "The same with weights in float32, in which everything is judged"
    if isinstance(found.model, nn.Module):
        kinds = {p.dtype for p in found.model.parameters() if p.is_floating_point()}
        if kinds - {torch.float32}:
            told = ", ".join(sorted(str(k).removeprefix("torch.") for k in kinds))
            found.notes.append(f"precision: its weights are {told}; it is judged in float32.")
            found.model.float()
    return found


def _of_library(a, library, test):
    "An architecture of a library, with weights"
    if a.state:
        return _filled(a, library, test)
    if library.trained is not None and not a.untrained:
        model = library.trained()
        return Found(model, library.channels or test.shape[0], [], library)
    if not a.untrained:
        raise ValueError(
            f"{a.weights} has no weights; give them: --weights FILE.safetensors or FILE.pth, "
            "or let the library fetch its own: --pretrained. --untrained judges random ones."
        )
    channels = library.channels or test.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = library.build(test.c, channels)
    return Found(model, channels, ["weights: random ones, as --untrained asks for."], library)


def _filled(a, library, test):
    "An architecture of a library, filled from a file; the file says how many outputs it has"
    state, note = read_state(a.state)
    channels = library.channels or test.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = library.build(test.c, channels)
        bare, _ = without_prefixes(state, model.state_dict())
        classes = count_in(lambda c: library.build(c, channels), bare) or test.c
        if library.channels is None:
            channels = count_in(lambda n: library.build(classes, n), bare) or channels
        if (classes, channels) != (test.c, test.shape[0]):
            model = library.build(classes, channels)
    notes = [note] if note else []
    try:
        notes += load_weights(model, state, library.name)
    except ValueError as e:
        raise ValueError(str(e).replace("the dict", str(a.state), 1)) from None
    return Found(model, channels, notes, library)


def _typed(a, test):
    "What a person wrote: a network, a function from images to logits, or what makes one"
    thing = _looked_up(a.weights)
    channels, height, _ = test.shape
    known = {"classes": test.c, "channels": channels, "size": height, "c": test.c}
    known |= {"num_classes": test.c, "in_channels": channels, "in_chans": channels}
    notes = []
    if _is_factory(thing, known):
        notes.append(f"network: what {a.weights} made, with the weights that it gave it.")
        thing = filled(thing, **known)
    if not callable(thing):
        raise TypeError(
            f"{a.weights} is a {type(thing).__name__}; give a network, a function from images to "
            "logits, or a function that makes one."
        )
    if a.state:
        if not isinstance(thing, nn.Module):
            raise TypeError(f"state: {a.weights} is no nn.Module that weights could be put into.")
        notes = ["network: " + a.weights + ".", *load_weights(thing, a.state, a.weights)]
    return Found(thing, None, notes)


def _looked_up(text):
    "What a typed name means; where its file finds torchvision broken, that is mended first"
    try:
        return spec.make(text, outside=True, now=False)
    except ValueError as e:
        if MISSING not in str(e):
            raise
    torchvision()
    return spec.make(text, outside=True, now=False)


def _is_factory(thing, known):
    "Does it make a network, from nothing but what is known? A network is no factory"
    if isinstance(thing, nn.Module):
        return False
    if isinstance(getattr(thing, "func", thing), type):
        return True
    asked = [
        p.name
        for p in open_names(thing).values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    return all(name in known for name in asked)
