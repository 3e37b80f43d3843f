"""What a trust card borrows: some of the images, and the model in eval mode"""

from __future__ import annotations

from contextlib import contextmanager

import torch

from ..core.checks import check_images, check_labels
from ..core.evalmode import eval_mode
from ..core.modes import networks
from ..core.tensors import own
from ..data.batches import pick
from ..data.pairs import pair
from .stages import stream_for

__all__ = ["some_images", "borrowed"]


def some_images(data, n, seed, device):
    "At most `n` images and labels, as many of each class as can be"
    if hasattr(data, "test"):
        raise TypeError("data holds several parts; judge by one of them, data.test say.")
    if hasattr(data, "subset"):
        x, y = data.subset(min(n, data.n), seed=seed).tensors()
    else:
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                f"data is a {type(data).__name__}; give Batches, which in_memory(data) makes of it,"
                " or tensors (x, y)."
            )
        x, y = pair(data)
        check_labels(y, len(check_images(x)))
        if len(x) > n:
            i = pick(y, n, seed).to(x.device)
            x, y = x[i], y[i]
    if len(x) == 0:
        raise ValueError("the data holds no images; check how it was split.")
    if y.ndim != 1:
        raise ValueError(
            f"y has shape {tuple(y.shape)}; answers are right or wrong against labels (b,) only,"
            " use y.argmax(1)."
        )
    return own(x).to(device or x.device), own(y).to(device or x.device)


@contextmanager
def borrowed(
    model,  # a network, or a function that reads some
    device: torch.device,  # where it is
    seed,  # of the random streams meanwhile
):
    """`model` in eval mode; modes, statistics and the random streams (of the CPU and this device)
    go back to what they were
    """
    kept = [(b, b.clone()) for n in networks(model) for b in n.buffers()]
    with stream_for(device, seed, "trust"), eval_mode(model):
        try:
            yield
        finally:
            for b, was in kept:
                b.detach().copy_(was)
