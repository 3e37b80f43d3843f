"How large a study is run"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    "On what an arm is run, and for how long: the recipe that all arms of a study share"

    data: str  # data set, as in `get_data`
    model: str | Callable  # spec of the network; classes, channels and size come from the data
    ball: str | Callable  # spec of the threat model
    epochs: int
    lr: float  # highest learning rate of the one-cycle schedule
    batch: int
    seeds: int  # how many runs make an arm complete
    again: int = 0  # so many further seeds must agree before a claim counts as supported
    steps: int = 5  # of the training attack
    # held-out images that choose the checkpoint; default: the data set's own
    valid: int | None = None
    strong: str | Callable = "autoattack"  # spec of the strongest attack, called 'aa'
    judged: int | None = None  # test images under it, balanced over the classes; default: all
    tested: int | None = None  # test images under all else, likewise
    trusted: int = 64  # images that the trust card looks at
    cost: float = 0.2  # factor of trust's effort
    chunk: int | None = None  # images that are judged at once; default: `batch`
    # how networks run on a CPU; default: the reader's setting. A GPU runs bfloat16
    precision: str | None = None
    compile: bool = False  # torch.compile the network, on a GPU


DIGITS = Size(
    data="digits",
    model="SmallCNN",
    ball="Linf(0.15)",
    epochs=12,
    lr=0.1,
    batch=64,
    seeds=5,
    again=5,
    judged=180,
    chunk=256,
    precision="channels_last",
)
CIFAR = Size(
    data="cifar10",
    model="PreActResNet18(width=16)",
    ball="Linf(8/255)",
    epochs=8,
    lr=0.2,
    batch=128,
    seeds=3,
    judged=1000,
)


def _cifar(**changes):
    return Size(**{**vars(CIFAR), **changes})


SIZES = {
    "laptop": DIGITS,
    "mini": _cifar(model="PreActResNet18(width=8)", epochs=4, chunk=256, precision="channels_last"),
    # two steps of attack, the lean AutoAttack: a run is to fit into half an hour of one core that
    # has bfloat16
    "small": _cifar(epochs=4, steps=2, strong="lean", tested=2000, chunk=256),
    "paper": _cifar(model="PreActResNet18(width=64)", epochs=30, steps=10, compile=True),
}
