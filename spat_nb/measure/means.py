"""The interval of a mean over seeds"""

from __future__ import annotations

import math

__all__ = ["mean_interval"]


def mean_interval(
    values,  # one for each seed
    level: float = 0.95,  # confidence, in (0,1)
) -> tuple:  # mean, half the width of Student's interval: NaN with one value
    "Mean of independent values and how far it may lie from the true one"
    from scipy.stats import t

    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, t.ppf((1 + level) / 2, n - 1) * deviation / math.sqrt(n)
