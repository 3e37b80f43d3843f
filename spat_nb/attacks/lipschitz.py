from __future__ import annotations
from .operations import Product, Sum
from .program import Program
def stretch(
    program: Program,  # a network, read by `program_of`
    norm: float,  # 2 or infinity
    shapes: list,  # of each step's output
    at: int,  # a step
) -> float:
    """How much farther apart can two outputs of step `at` be than two images? The product of all
    layers on the way (Szegedy et al. 2014, sec. 4.3), their sum where ways meet. Of a convolution
    an upper bound of its norm: a power iteration would be a lower one, and prove nothing
    """
    far = [1.0]
    for op, feeds in program.steps[1 : at + 1]:
        if isinstance(op, Product):
            raise TypeError("a product of two maps has no largest slope; use by='crown'.")
        if isinstance(op, Sum):
            far.append(sum(far[j] for j in feeds))
        else:
            far.append(far[feeds[0]] * op.stretch(norm, shapes[feeds[0]]))
    return far[at]
