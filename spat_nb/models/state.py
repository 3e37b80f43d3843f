"""Weights that were saved elsewhere: read without running anything, and put into a network

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.paths import what_is
from .library import first_line

__all__ = ["read_state", "without_prefixes", "load_weights", "is_script"]

# under which key trainers keep weights, the likeliest first
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "ema",
    "model_ema",
    "state_dict_ema",
)
# what wrappers of networks put before every key
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "ema.")
MOST = 3  # keys that a sentence names


def is_script(
    path,  # of a file
) -> bool:
    "Is this a TorchScript archive?"
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as z:
        names = z.namelist()
    return any(n.endswith("constants.pkl") for n in names) and any("/code/" in n for n in names)


def _harmless():
    "Types that trainers keep beside weights, and that can do nothing: arguments, numbers of numpy"
    import numpy as np

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]  # numpy has no stub for it
    kinds = [type(np.dtype(k)) for k in ("float64", "float32", "int64")]
    return [argparse.Namespace, scalar, np.dtype, *kinds]


def _tree(path):
    "What a file of torch holds, by the reader that runs nothing. ValueError in one sentence"
    if is_script(path):
        raise ValueError(
            f"{path} is a TorchScript program and no file of weights; it is judged as it is: "
            f"spat_nb evaluate {path}."
        )
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is a pickle that holds more than weights, and reading that can run code; "
            "where you trust it, keep its weights alone: "
            "torch.save(model.state_dict(), 'weights.pth')."
        ) from None
    except Exception as e:
        raise ValueError(
            f"{path} is {what_is(path)} and no readable file of weights ({first_line(e)}); "
            "give a .safetensors file, or what torch.save(model.state_dict(), path) wrote."
        ) from None


def _are_weights(tree):
    return (
        isinstance(tree, dict)
        and len(tree) > 0
        and all(isinstance(k, str) for k in tree)
        and all(isinstance(v, Tensor) for v in tree.values())
    )


def _unwrapped(tree, path):
    "(weights, note) of what a trainer saved"
    if isinstance(tree, dict) and not _are_weights(tree):
        found = [k for k in WRAPPERS if isinstance(tree.get(k), dict)]
        for key in found:
            weights, _ = _unwrapped(tree[key], path)
            others = [k for k in found if k != key]
            also = f"; it also has {', '.join(map(repr, others))}" if others else ""
            return weights, f"weights: those under {key!r} of {Path(path).name}{also}."
        # beside weights, a state may hold counters and options
        tensors = {k: v for k, v in tree.items() if isinstance(v, Tensor) and isinstance(k, str)}
        if any("." in k for k in tensors):
            return tensors, ""
    if _are_weights(tree):
        return tree, ""
    told = f"its keys are {', '.join(map(str, list(tree)[:5]))}" if isinstance(tree, dict) else ""
    raise ValueError(
        f"{path} holds a {type(tree).__name__} and no weights{told and f' ({told})'}; "
        "give what torch.save(model.state_dict(), path) wrote."
    )


def read_state(
    path,  # .safetensors, or what torch.save wrote
) -> tuple:  # (name -> tensor on the CPU, a note or '')
    """The weights of a file; nothing in it is run, and nothing is imported for it

    FileNotFoundError, or ValueError in one sentence
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path of the weights.")
    if what_is(path) == "a safetensors file":
        return _safe_state(path), ""
    return _unwrapped(_tree(path), path)


def _safe_state(path):
    "The tensors of a safetensors file"
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as f:
            ours = "tree" in (f.metadata() or {})
            state = {k: f.get_tensor(k) for k in f.keys()}
    except (SafetensorError, OSError) as e:
        raise ValueError(f"{path} is damaged or cut short ({e}); fetch it again.") from None
    if ours:
        raise ValueError(f"{path} was written by spat_nb, and says which network it is: load it.")
    return state


def without_prefixes(
    state: dict,  # name -> tensor
    names,  # of the network's own weights
) -> tuple:  # (name -> tensor, the prefix that was taken away)
    "The weights with those prefixes taken away that wrappers have put there, if they then fit"
    wanted = {*names}
    best = (len(wanted & state.keys()), state, "")
    tried = {""}
    queue = [("", state)]
    while queue:
        gone, now = queue.pop(0)
        hits = len(wanted & now.keys())
        if hits > best[0]:
            best = hits, now, gone
        for prefix in PREFIXES:
            inner = {k.removeprefix(prefix): v for k, v in now.items() if k.startswith(prefix)}
            # an average of weights counts its steps beside them
            outside = {k for k in now if not k.startswith(prefix)} - {"n_averaged"}
            if inner and not outside and gone + prefix not in tried and len(gone) < 60:
                tried.add(gone + prefix)
                queue.append((gone + prefix, inner))
    return best[1:]


def _listed(names):
    "The first few of many, and how many more there are"
    names = list(names)
    more = len(names) - MOST
    return ", ".join(names[:MOST]) + (f" and {more} more" if more > 0 else "")


def _misfit(own, state):
    "What does not fit, in words; '' where all does"
    needed = [k for k in own if not k.endswith("num_batches_tracked")]  # older files lack these
    missing = [k for k in needed if k not in state]
    unknown = [k for k in state if k not in own]
    odd = [
        f"{k} ({'x'.join(map(str, state[k].shape))} instead of {'x'.join(map(str, v.shape))})"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    said = []
    if missing:
        said.append(f"{len(missing)} of its {len(needed)} are missing ({_listed(missing)})")
    if unknown:
        said.append(f"{len(unknown)} are not its own ({_listed(unknown)})")
    if odd:
        said.append(f"{len(odd)} have another shape ({_listed(odd)})")
    return ", ".join(said)


def load_weights(
    model: nn.Module,  # that is filled
    state,  # a file that `read_state` reads, or a dict name -> tensor
    name: str = "",  # of the network, for sentences; default: its make
) -> list:  # of notes, sentences
    """Fill a network with weights that were saved elsewhere: every weight, or none.

    Parameters
    ----------
    model : nn.Module
        that is filled
    state
        a file that `read_state` reads, or a dict name -> tensor
    name : str
        of the network, for sentences; default: its make

    Returns
    -------
    list
        of notes, sentences

    Raises
    ------
    FileNotFoundError
        where there is no such file
    ValueError
        in one sentence that names what is missing, unknown, or of another shape

    Examples
    --------
    >>> import torch
    >>> from spat_nb import load_weights
    >>> net = torch.nn.Linear(3, 2)
    >>> load_weights(net, {"module." + k: v for k, v in net.state_dict().items()})
    ["weights: 'module.' was taken off the names."]
    """
    told = "the dict" if isinstance(state, dict) else str(state)
    notes = []
    if not isinstance(state, dict):
        state, note = read_state(state)
        notes += [note] if note else []
    own = model.state_dict()
    state, gone = without_prefixes(state, own)
    if gone:
        notes.append(f"weights: {gone!r} was taken off the names.")
    name = name or f"the {type(model).__name__}"
    if why := _misfit(own, state):
        raise ValueError(
            f"the weights in {told} do not fit {name}: {why}; name the network that they were "
            "saved from."
        )
    model.load_state_dict(state, strict=False)
    return notes
