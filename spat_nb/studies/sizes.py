"How large a study is run"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..attacks.autoattack import autoattack
from ..models.networks import PreActResNet18, SmallCNN


def digits_net(data, **slots):
    return SmallCNN(data.c, channels=data.shape[0], size=data.shape[1], **slots)


def slim(data, **slots):
    return PreActResNet18(data.c, **{"width": 8, "channels": data.shape[0], **slots})


def narrow(data, **slots):
    return PreActResNet18(data.c, **{"width": 16, "channels": data.shape[0], **slots})


def full(data, **slots):
    return PreActResNet18(data.c, **{"width": 64, "channels": data.shape[0], **slots})


@dataclass(frozen=True)
class Size:
    "On what an arm is run, and for how long: the recipe that all arms of a study share"

    data: str  # data set, as in `get_data`
    net: Callable  # (train batches, **slots) -> network
    eps: float  # radius of the Linf ball
    epochs: int
    lr: float  # highest learning rate of the one-cycle schedule
    batch: int
    seeds: int  # how many runs make an arm complete
    steps: int = 5  # of the training attack
    # held-out images that choose the checkpoint; default: the data set's own
    valid: int = None
    strong: Callable = autoattack  # (ball) -> the strongest attack, called 'aa'
    judged: int = None  # test images under it, balanced over the classes; default: all
    tested: int = None  # test images under all else, likewise
    trusted: int = 64  # images that the trust card looks at
    cost: float = 0.2  # factor of trust's effort
    chunk: int = None  # images that are judged at once; default: `batch`
    # how networks run on a CPU; default: the reader's setting. A GPU runs bfloat16
    precision: str = None
    compile: bool = False  # torch.compile the network, on a GPU


# fields of `Size` that say how a run is done, not which
HOW = ("seeds", "chunk", "precision", "compile")


SIZES = {
    "laptop": Size(
        "digits", digits_net, 0.15, 12, 0.1, 64, 5, judged=180, chunk=256, precision="channels_last"
    ),
    "mini": Size(
        "cifar10", slim, 8 / 255, 4, 0.2, 128, 3, judged=1000, chunk=256, precision="channels_last"
    ),
    "small": Size("cifar10", narrow, 8 / 255, 8, 0.2, 128, 3, judged=1000),
    "paper": Size("cifar10", full, 8 / 255, 30, 0.2, 128, 3, steps=10, judged=1000, compile=True),
}
