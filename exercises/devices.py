"""Exercises of the lesson on many devices"""

from spat_nb.learn.exercise import Exercise

# ---- 1. a sum around a ring


def sent(s, R):
    return 2 * (R - 1) * s / R


def as_a_share(s, R):
    return 2 * s - 2 * s / R


def everything_to_everybody(s, R):
    return (R - 1) * s


def added_only(s, R):
    return (R - 1) * s / R


# ---- 3. the price of Free-AT


def together(K, m, work, sum):
    return (2 * K + 3) * work + sum, m * (3 * work + sum)


def written_out(K, m, work, sum):
    pgd = 2 * K * work + 3 * work + sum
    return pgd, 3 * m * work + m * sum


def one_sum(K, m, work, sum):
    return (2 * K + 3) * work + sum, m * 3 * work + sum


# ---- 4. a wrong mean


def far_apart(fn):
    a, b = fn()
    if not a or not b or not all(0 <= v <= 1 for v in (*a, *b)):
        return "give two lists of losses between 0 and 1, none of them empty."
    plain = (sum(a) / len(a) + sum(b) / len(b)) / 2
    whole = (sum(a) + sum(b)) / (len(a) + len(b))
    off = abs(plain - whole)
    return "" if off >= 0.3 else f"the plain mean is {plain:.2f}, the whole one {whole:.2f}."


def shares():
    return [1.0], [0.0] * 9


def other_way_round():
    return [1.0] * 20, [0.0]


def equal_sizes():
    return [1.0, 1.0], [0.0, 0.0]


EXERCISES = {
    "devices 1": Exercise(
        reference=sent,
        cases=lambda: [(100, 1), (100, 2), (102e6, 8), (102e6, 64), (30, 3)],
        right=[as_a_share],
        wrong=[everything_to_everybody, added_only],
        hints=(
            "Cut the vector into R parts. A part visits all devices once to be added up.",
            "That is R-1 parts of s/R bytes sent by each device; then the sums go round once more.",
        ),
    ),
    "devices 3": Exercise(
        reference=together,
        cases=lambda: [(7, 4, 1.0, 0.0), (7, 4, 1.0, 2.0), (2, 4, 0.01, 0.08), (0, 1, 1.0, 1.0)],
        right=[written_out],
        wrong=[one_sum],
        hints=(
            "Return two numbers: PGD-K first, Free-AT second.",
            "Each step of the weights is followed by one sum: PGD-K makes one, Free-AT m.",
        ),
    ),
    "devices 4": Exercise(
        check=far_apart,
        solution=shares,
        right=[other_way_round],
        wrong=[equal_sizes],
        hints=(
            "With shares of equal size the plain mean is right. Which sizes make it worst?",
            "One image alone counts as much as all others together.",
        ),
    ),
}
