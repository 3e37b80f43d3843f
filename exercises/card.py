"""Exercises of the lesson on reading a trust card"""

from spat_nb.learn.exercise import Exercise
from spat_nb.measure.card import Card
from spat_nb.measure.checks import gap

# ---- 2. how much was claimed too much?


def overstated(card):
    return 100 * (card.accuracy[card.claim] - card.accuracy["everything"])


def from_the_clean(card):
    return 100 * (card.accuracy["clean"] - card.accuracy["everything"])


def as_a_share(card):
    return card.accuracy[card.claim] - card.accuracy["everything"]


def of_plain_pgd(card):
    return 100 * (card.accuracy["PGD-20"] - card.accuracy["everything"])


def card_cases():
    accuracy = {"clean": 0.98, "PGD-20": 0.81, "yours": 0.9, "PGD-100": 0.8, "everything": 0.42}
    other = {"clean": 0.9, "PGD-20": 0.5, "yours": 0.6, "PGD-100": 0.5, "everything": 0.5}
    info = {"ball": "Linf(0.15)"}
    return [
        (Card((), shares, [], 96, claim, info),)
        for shares in (accuracy, other)
        for claim in ("yours", "PGD-100")
    ]


# ---- 3. too few images


def too_few(share, limit):
    blind = [n for n in range(20, 2001, 20) if gap(round(share * n), 0, n)[1] <= limit]
    return max(blind, default=0)


def by_walking_down(share, limit):
    for n in range(2000, 0, -20):
        if gap(round(share * n), 0, n)[1] <= limit:
            return n
    return 0


def by_the_figure(share, limit):
    return 0 if share > limit else 2000


def upper_end(share, limit):
    blind = [n for n in range(20, 2001, 20) if gap(round(share * n), 0, n)[2] <= limit]
    return max(blind, default=0)


def share_cases():
    return [
        (0.05, 0.03),
        (0.1, 0.03),
        (0.3, 0.03),
        (0.05, 0.01),
        (0.1, 0.05),
        (0.9, 0.03),
        (0.05, 0.05),
    ]


EXERCISES = {
    "card 2": Exercise(
        reference=overstated,
        cases=card_cases,
        right=[],
        wrong=[from_the_clean, as_a_share, of_plain_pgd],
        hints=(
            "Which of the accuracies was claimed? `card.claim` is its name.",
            "Accuracies are shares; a difference of .01 is one point.",
        ),
    ),
    "card 3": Exercise(
        reference=too_few,
        cases=share_cases,
        right=[by_walking_down],
        wrong=[by_the_figure, upper_end],
        hints=(
            "gap(lost, 0, n) returns three numbers; which of them does a gate compare with its"
            " limit?",
            "Try n = 20, 40, ..., 2000 with lost = round(share*n), and keep the largest n whose"
            " lowest plausible value is not above the limit.",
        ),
    ),
}
