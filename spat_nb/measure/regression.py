"""Has robust accuracy fallen by more than is allowed? A test on the same images, how often it
catches a fall, and how many images that takes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Fall", "chance_to_catch", "compared", "images_needed", "lower_limit"]

TAIL = 1e-9  # share of the counts that may be left out of a sum, at each end
MANY = 30_000  # images: from here on the normal distribution is as good as the sum


def lower_limit(
    lost,  # images right before and wrong now: a count, or an array of them
    won,  # images wrong before and right now, likewise
    n: int,  # images; n >= 2
    level: float = 0.95,  # confidence, one-sided, in (0,1)
):  # share in [-1,1], of the shape of `lost`
    """The least fall that is plausible: lower end of the one-sided interval of lost - won

    Agresti and Min (2005) add half an image to each of the four cells. Student's quantile in place
    of the normal one keeps false alarms at 1 - level for few images too.

    Parameters
    ----------
    lost
        images right before and wrong now: a count, or an array of them
    won
        images wrong before and right now, likewise
    n : int
        images; n >= 2
    level : float
        confidence, one-sided, in (0,1) (default: 0.95)

    Returns
    -------
    share in [-1,1], of the shape of `lost`

    Raises
    ------
    ValueError
        for fewer than two images, or a level out of range
    """
    from scipy.stats import t

    if n < 2:
        raise ValueError(f"n is {n}; a fall is judged on two images or more.")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; a confidence lies between 0 and 1, .95 say.")
    smoothed = n + 2
    difference = lost - won
    spread = np.sqrt(lost + won + 1 - difference**2 / smoothed)
    return np.maximum((difference - t.ppf(level, n - 1) * spread) / smoothed, -1.0)


@dataclass(frozen=True)
class Fall:
    """How a row of answers has changed, image by image

    Parameters
    ----------
    n : int
        images
    before : float
        accuracy of the baseline, in [0,1]
    after : float
        accuracy now, in [0,1]
    lost : int
        images right before and wrong now
    won : int
        images wrong before and right now
    low : float
        least plausible fall, one-sided, in [-1,1]
    """

    n: int  # images
    before: float  # accuracy of the baseline, in [0,1]
    after: float  # accuracy now, in [0,1]
    lost: int  # images right before and wrong now
    won: int  # images wrong before and right now
    low: float  # least plausible fall, one-sided, in [-1,1]

    @property
    def drop(self) -> float:
        "How far it has fallen, in [-1,1]; below 0 where it has risen"
        return (self.lost - self.won) / self.n

    @property
    def luck(self) -> float:
        "Share of images that change for the better though the network is no better, about"
        return (self.won + 1) / (self.n + 2)

    def beyond(
        self,
        allowed: float,  # fall that is allowed, in [0,1]
    ) -> bool:
        """Has it fallen by more than `allowed`, beyond chance?

        Parameters
        ----------
        allowed : float
            fall that is allowed, in [0,1]

        Returns
        -------
        bool
        """
        return self.low > allowed


def compared(
    before,  # (n,) bool: which images the baseline answers right
    after,  # (n,) bool: which are answered right now, same images, same order
    level: float = 0.95,  # confidence, one-sided
) -> Fall:
    """Set answers against those of a baseline, image by image

    Parameters
    ----------
    before
        (n,) bool: which images the baseline answers right
    after
        (n,) bool: which are answered right now, same images, same order
    level : float
        confidence, one-sided (default: 0.95)

    Returns
    -------
    Fall

    Raises
    ------
    ValueError
        where there are not as many of both
    """
    before = np.asarray(before, bool)
    after = np.asarray(after, bool)
    if before.shape != after.shape or before.ndim != 1:
        raise ValueError(
            f"answers of shapes {before.shape} and {after.shape}; give the right answers of both to"
            " the same images, (n,) each."
        )
    lost = int((before & ~after).sum())
    won = int((after & ~before).sum())
    low = float(lower_limit(lost, won, len(before), level))
    return Fall(len(before), float(before.mean()), float(after.mean()), lost, won, low)


def chance_to_catch(
    n: int,  # images
    fall: float,  # true fall, in [0,1]
    allowed: float,  # fall that is allowed, in [0,1)
    luck: float = 0.02,  # share of images that change for the better all the same, in [0,1)
    level: float = 0.95,  # confidence, one-sided
) -> float:  # in [0,1]
    """How often `Fall.beyond` says yes, where the true fall is `fall`: a sum over all counts

    Parameters
    ----------
    n : int
        images
    fall : float
        true fall, in [0,1]
    allowed : float
        fall that is allowed, in [0,1)
    luck : float
        share of images that change for the better all the same, in [0,1) (default: 0.02)
    level : float
        confidence, one-sided (default: 0.95)

    Returns
    -------
    float
        in [0,1]
    """
    from scipy.stats import binom

    loses = fall + luck
    if loses + luck > 1 + TAIL:
        raise ValueError(
            f"a fall of {fall:.2f} with {luck:.2f} won besides is more than all images can show."
        )
    first, last = (int(binom.ppf(q, n, loses)) for q in (TAIL, 1 - TAIL))
    lost = np.arange(first, last + 1)[:, None]
    wins = min(luck / (1 - loses), 1.0) if loses < 1 else 0.0  # among the images that are not lost
    won = np.arange(int(binom.ppf(1 - TAIL, n, wins)) + 1)[None]
    weight = binom.pmf(lost, n, loses) * binom.pmf(won, n - lost, wins)
    return float((weight * (lower_limit(lost, won, n, level) > allowed)).sum())


def images_needed(
    fall: float,  # true fall that is to be caught, in [0,1]
    allowed: float,  # fall that is allowed, in [0,1)
    luck: float = 0.02,  # share of images that change for the better all the same
    chance: float = 0.95,  # how often it is to be caught
    level: float = 0.95,  # confidence, one-sided
) -> int:
    """Least number of images, to two digits and rounded up, with which a fall is caught

    Parameters
    ----------
    fall : float
        true fall that is to be caught, in [0,1]
    allowed : float
        fall that is allowed, in [0,1)
    luck : float
        share of images that change for the better all the same (default: 0.02)
    chance : float
        how often it is to be caught (default: 0.95)
    level : float
        confidence, one-sided (default: 0.95)

    Returns
    -------
    int

    Raises
    ------
    ValueError
        where the fall is one that is allowed
    """
    if fall <= allowed:
        raise ValueError(f"a fall of {fall} is allowed where {allowed} is; none is to be caught.")
    guess = _roughly(fall, allowed, luck, chance, level)
    if guess > MANY:
        return _two_digits(guess)
    n = _two_digits(max(guess // 2, 10))
    while chance_to_catch(n, fall, allowed, luck, level) < chance:
        n = _two_digits(n + 1)
    return n


def _roughly(fall, allowed, luck, chance, level):
    "The same by the normal distribution"
    from scipy.stats import norm

    spread = fall + 2 * luck
    wide = norm.ppf(level) * (spread - allowed**2) ** 0.5
    wide += norm.ppf(chance) * (spread - fall**2) ** 0.5
    return int((wide / (fall - allowed)) ** 2) + 1


def _two_digits(n):
    "Rounded up"
    unit = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit
