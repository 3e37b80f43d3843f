"""Which output of a network stands for which class, and which command a file needs"""

from __future__ import annotations

from pathlib import Path

import torch

from ..core.paths import shell, what_is
from ..models.labels import are_wnids, imagenet_names, outputs_for, read_labels
from ..models.libraries import count_in, open_library
from ..models.state import read_state, without_prefixes

__all__ = ["OTHER", "named_outputs", "is_ours", "command_for"]

OTHER = "any other"  # the class of all outputs that stand for none of the data's classes
# architectures that weights are held against, to name the one that they are of
USUAL = (
    "resnet18 resnet34 resnet50 resnet101 wide_resnet50_2 vgg16 vgg16_bn densenet121 "
    "mobilenet_v2 mobilenet_v3_large mobilenet_v3_small efficientnet_b0 convnext_tiny vit_b_16 "
    "swin_t alexnet"
).split()


# ---- outputs


def _by_words(labels, outputs, classes):
    "The names of the outputs as --labels says; ValueError where there are not as many"
    if labels == "folder":
        names = tuple((str(c),) for c in classes)
    else:
        names = imagenet_names() if labels == "imagenet" else read_labels(labels)
    if len(names) != outputs:
        raise ValueError(
            f"labels: {labels} names {len(names)} classes, but the network has {outputs} outputs."
        )
    return names


def _found_by_name(labels, outputs, classes, known):
    "(outputs chosen or None, why not) by the names that are at hand"
    if labels is not None:
        chosen, why = outputs_for(classes, _by_words(labels, outputs, classes))
        if chosen is None:
            raise ValueError(f"labels: of the outputs in {labels}, {why}.")
        return chosen, ""
    chosen, why = None, "nobody says what its outputs are called"
    if len(known) == outputs:
        chosen, why = outputs_for(classes, known)
    if chosen is None and outputs == 1000 and are_wnids(classes):
        chosen, why = outputs_for(classes, imagenet_names())
    return chosen, why


def named_outputs(
    labels: str | None,  # a file, 'imagenet' or 'folder'; None: nobody says
    outputs: int,  # of the network
    classes: tuple,  # of the data, their names
    known: tuple,  # names of the outputs that the library gives; (): none
    data: str,  # name of the data set, for sentences
) -> tuple:  # (outputs chosen or None: all in their order; notes; names of the classes then)
    """Which outputs stand for the data's classes, by name; by order where there are as many and
    nobody says it

    ValueError in one sentence where they cannot be told
    """
    c = len(classes)
    chosen, why = _found_by_name(labels, outputs, classes, known)
    if chosen is None and outputs != c:
        raise ValueError(
            f"the network has {outputs} outputs, but {data} has {c} classes, and {why}; give "
            "--labels FILE with the name of each output, a name a line."
        )
    if chosen is None:
        return None, [f"labels: output i stands for class i of the data, since {why}."], classes
    if chosen == tuple(range(outputs)):
        return None, [], classes
    if outputs == c:
        return chosen, ["labels: the outputs are put in the order of the data's classes."], classes
    note = (
        f"labels: {c} of its {outputs} outputs stand for the data's classes, by name; the largest "
        f"of the rest counts as one more class, {OTHER!r}."
    )
    return chosen, [note], (*classes, OTHER)


# ---- files that say too little


def is_ours(
    path,  # of a file that is there
) -> bool:
    "Did spat_nb write these weights? Of a damaged file yes: whoever reads it says what is wrong"
    from safetensors import SafetensorError, safe_open

    if what_is(path) != "a safetensors file":
        return False
    try:
        with safe_open(path, "pt") as f:
            return "tree" in (f.metadata() or {})
    except (SafetensorError, OSError):
        return True


def _architecture(state, path):
    "The usual architecture of torchvision that has these weights; '' where none has"
    near = sorted(USUAL, key=lambda n: n not in Path(path).name.lower())
    for name in near:
        if _has(name, state):
            return f"torchvision:{name}"
    return ""


def _has(name, state):
    "Are these the weights of this architecture, with however many outputs?"
    try:
        library = open_library(f"torchvision:{name}")
        with torch.device("meta"):
            keys = library.build(2, 3).state_dict().keys()
    except Exception:  # a help in a sentence about something else
        return False
    bare, _ = without_prefixes(state, keys)
    if {k for k in keys if not k.endswith("num_batches_tracked")} - bare.keys():
        return False
    return keys >= bare.keys() and count_in(lambda c: library.build(c, 3), bare) is not None


def command_for(
    a,  # what was typed
    path,  # of a file that holds weights and no network
) -> str:
    "A sentence with the command that judges these weights"
    if Path(path).is_dir():
        return f"{path} is a folder of transformers; write {_typed(a, f'hf:{path}')}."
    state, _ = read_state(path)
    found = _architecture(state, path)
    command = _typed(a, found or "mine.py:net", "--weights", path)
    if found:
        return f"{path} holds weights and no network; they fit {found}: {command}."
    return (
        f"{path} holds weights and no network; write {command}, where mine.py has a function "
        "net() that makes it, or timm:NAME or torchvision:NAME in its place."
    )


def _typed(a, *words):
    "The command with what was typed, and what it needs besides"
    more = {k: getattr(a, k) for k in ("root", "size", "n_test", "attacks", "device", "out")}
    more = {k: v for k, v in more.items() if v is not None}
    radius = {"eps": a.eps} if a.eps is not None and not a.ball else {}
    ball = {} if radius else {"ball": a.ball or "Linf(8/255)"}
    flags = {"data": a.data or "DATA", **more, **ball, **radius}
    typed = [w for k, v in flags.items() for w in (f"--{k.replace('_', '-')}", v)]
    return shell("spat_nb", a.command, *words, *typed)
