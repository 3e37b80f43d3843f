"""What is proved of the images that were judged, beside what attacks left standing

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..attacks.certify import BOUNDS, certify
from ..attacks.threat import Ball
from ..core.evalmode import device_of
from ..core.progress import bar
from ..core.tensors import own
from .feed import batches_of
from .record import Record
from .stopping import in_order

__all__ = ["Proved", "check_provable", "prove"]


@dataclass(frozen=True)
class Proved:
    """Which images stand whatever an attacker does in the ball

    Parameters
    ----------
    by : str
        bound that proved it: 'lipschitz', 'ibp', 'crown-ibp' or 'crown'
    certified : tuple
        of bool, one for each image of the record
    seconds : float
        that it took; 0 where it was read from a file (default: 0.0)
    """

    by: str  # bound that proved it: 'lipschitz', 'ibp', 'crown-ibp' or 'crown'
    certified: tuple  # of bool, one for each image of the record
    seconds: float = 0.0  # that it took; 0 where it was read from a file

    @property
    def share(self) -> float:  # in [0,1]
        "Of all images"
        return sum(self.certified) / max(len(self.certified), 1)

    def tensor(self) -> Tensor:  # (n,) bool
        "One bool for each image"
        return torch.tensor(self.certified, dtype=torch.bool)

    def as_dict(self) -> dict:
        "As JSON values; seconds differ from run to run and stay out"
        return {"by": self.by, "certified": list(self.certified)}

    @classmethod
    def of(cls, values: dict) -> Proved:
        "What `as_dict` gave"
        return cls(values["by"], tuple(map(bool, values["certified"])))


def check_provable(
    model,  # that is to be judged
    data,  # images that are to be judged
    ball: Ball,  # threat model
    by: str,  # see `certify`
):
    """Refuse what no bound can be written for, before any attack has run.

    TypeError or ValueError for a function, an unknown layer, bound or ball, and for data that comes
    only once
    """
    if by not in BOUNDS:
        raise ValueError(f"certify is {by!r}; it is one of {', '.join(BOUNDS)}.")
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model is a {type(model).__name__}, and a proof needs its layers; give an"
            " nn.Module, or leave out certify."
        )
    batches = batches_of(data)
    if not hasattr(batches, "__len__"):
        raise TypeError(
            f"data is a {type(data).__name__}, which may come only once, and a proof asks for the"
            " images again; give Batches or tensors (x, y), or leave out certify."
        )
    for x, y in batches:
        device = device_of(model) or x.device
        # the cheapest bound reads the same layers
        certify(model, own(x[:1]).to(device), own(y[:1]).to(device), ball, "ibp")
        return


def prove(
    model,  # a network with layers: pixels to logits
    data,  # what was judged
    record: Record,  # its answers
    ball: Ball,  # threat model
    by: str = "crown",  # see `certify`
    is_part: bool = False,  # were only the first images of a random order judged?
    progress: bool = True,  # show a bar
) -> Proved:
    """Certify the images of a record. ValueError where data does not give them again"""
    start = time.perf_counter()
    if is_part:
        data = in_order(data, record.info["seed"], len(record.y))
    device = device_of(model)
    labels, found = [], []
    quiet = {} if progress else {"disable": True}
    for x, y in bar(batches_of(data), desc=f"certify, {by}", **quiet):
        labels.append(y.cpu())
        right = certify(
            model, own(x).to(device or x.device), own(y).to(device or x.device), ball, by
        )
        found.append(right.cpu())
    if not torch.equal(torch.cat(labels), record.y.cpu()):
        raise ValueError("the data came in another order when it was read again; give tensors.")
    return Proved(by, tuple(torch.cat(found).tolist()), round(time.perf_counter() - start, 1))
