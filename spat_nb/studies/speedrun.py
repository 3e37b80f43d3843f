"""How robust can a network become for a given number of passes? Recipes against PGD-5, each for as
many passes as its eight epochs take
"""

from functools import partial

from spat_nb.studies.study import Arm, Study

SMOOTHED = "smoothed(loss=ce, a=0.1)"
SHARE = 0.1  # of the steps, with PGD


def equal_passes(size, share=SHARE, **more):
    """As many epochs as the passes of PGD-AT allow, if a share of them costs what its epochs do and
    the others two passes
    """
    whole = size.epochs * (size.steps + 1)
    return {"epochs": max(1, round(whole / (share * (size.steps + 1) + 2 * (1 - share)))), **more}


study = Study(
    "speedrun",
    "How robust can a network become for a given number of passes?",
    {
        "PGD-5": Arm(note="the house recipe"),
        "PGD-5 + EMA + smoothing": Arm(
            {"objective": f"pgd_at(loss={SMOOTHED})", "callbacks": "EMA"}
        ),
        "N-FGSM, then PGD-5": Arm(partial(equal_passes, objective=f"Staged(share={SHARE})")),
        "N-FGSM, then PGD-5, + EMA + smoothing": Arm(
            partial(
                equal_passes,
                objective=f"Staged(share={SHARE}, loss={SMOOTHED})",
                callbacks="EMA",
            )
        ),
    },
    # what its rows are called by, whatever the size `small` is otherwise
    sizes={"small": {"epochs": 8, "steps": 5}},
)
