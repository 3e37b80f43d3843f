"""What an evaluation is given: batches of images, and attacks that can be run on them"""

from __future__ import annotations

from ..attacks.door import misfits
from ..core.checks import check_images, check_labels
from ..data.pairs import Pairs, pair

__all__ = ["batches_of", "checked_attacks", "image_count", "batch_size_of"]


def batches_of(data, size=256):
    "The batches of `data` in their own order and not augmented; tensors (x, y) in pieces"
    if hasattr(data, "test"):
        raise TypeError("data holds several parts; evaluate one of them, data.test say.")
    if hasattr(data, "with_"):
        return data.with_(shuffle=False, augment=None)
    if not (isinstance(data, (tuple, list)) and len(data) > 1) or isinstance(
        data[0], (tuple, list, dict)
    ):
        return Pairs(data)
    x, y = pair(data)
    check_labels(y, len(check_images(x)))
    return list(zip(x.split(size), y.split(size))) if len(x) else []


def checked_attacks(attacks):
    "`attacks`, if each can be called and none has a name that means something else"
    for k, a in attacks.items():
        if not callable(a):
            raise TypeError(
                f"{k} is {a!r}, which is no attack; give name=attack, such as"
                " pgd20=pgd(Linf(8/255), 20)."
            )
        if k in ("clean", "worst") or "/" in k:
            raise ValueError(
                f"an attack is called {k!r}, which is a row of its own kind in the table; choose"
                " another name."
            )
        try:
            misfits(a)
        except ValueError as e:
            raise ValueError(f"{k}: {e}") from None
    return attacks


def image_count(data):
    "How many images `data` holds; None where it does not say"
    if isinstance(data, list):
        return sum(len(x) for x, _ in data)
    n = getattr(data, "n", None)
    return (
        len(data.dataset) if n is None and hasattr(getattr(data, "dataset", None), "__len__") else n
    )


def batch_size_of(data):
    "How many images stand in a batch; None where nobody knows before it comes"
    if isinstance(data, list):
        return len(data[0][0]) if data else None
    return getattr(data, "batch_size", None)
