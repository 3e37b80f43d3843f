"""How many images are read right when nobody attacks, but the camera is bad

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.protocols import ModelFunction
from ..data.corruptions import KINDS, corrupted
from .evaluate import evaluate
from .feed import batches_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["corruption_table"]


def corruption_table(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data,  # `Batches`, tensors (x, y), or what yields batches (x, y)
    kinds=tuple(KINDS),  # names of `corrupted`
    severities=(1, 2, 3, 4, 5),  # 1 to 5
    seed: int = 0,  # of what is drawn
) -> pd.DataFrame:  # accuracy; a row per kind and 'mean', a column per severity and 'mean'
    """Accuracy on corrupted images, by `evaluate`; ours, not CIFAR-10-C: set no published number
    beside it.

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data
        `Batches`, tensors (x, y), or what yields batches (x, y)
    kinds
        names of `corrupted` (default: tuple(KINDS))
    severities
        1 to 5 (default: (1, 2, 3, 4, 5))
    seed : int
        of what is drawn (default: 0)

    Returns
    -------
    pd.DataFrame
        accuracy; a row per kind and 'mean', a column per severity and 'mean'

    Raises
    ------
    ValueError
        for an unknown kind or severity
    """
    import pandas as pd

    batches = [(x, y) for x, y in batches_of(data)]
    out = {k: {s: _accuracy(model, batches, k, s, seed) for s in severities} for k in kinds}
    table = pd.DataFrame(out).T
    table["mean"] = table.mean(axis=1)
    table.loc["mean"] = table.mean()
    return table.rename_axis(index="kind", columns="severity")


def _accuracy(model, batches, kind, severity, seed):
    first, changed = 0, []
    for x, y in batches:
        changed.append((corrupted(x, kind, severity, seed, first), y))
        first += len(x)
    return evaluate(model, changed, progress=False).accuracy()
