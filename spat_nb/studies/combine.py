"Do SPAT, hypersphere embedding and the usual tricks add up?"

from spat_nb.studies.claims import gain
from spat_nb.studies.study import Arm, Study

# s and m of the official code for CIFAR-10
HE = "pgd_at(loss=margin_ce(m=0.2, scale=15.0))"
HEAD = "Hypersphere(scale=15.0)"
HE_AWP = f"awp(objective={HE}, gamma=0.01)"


def claims(paper="Together: SPAT and HE (ours)"):
    "What adds up, in accuracy under AutoAttack"
    yield gain(paper, "SPAT improves robustness", "combine", "SPAT", "PGD-AT")
    yield gain(paper, "SPAT adds to HE", "combine", "SPAT + HE", "HE")
    yield gain(paper, "HE adds to SPAT", "combine", "SPAT + HE", "SPAT")


study = Study(
    "combine",
    "Do SPAT, hypersphere embedding and the usual tricks add up?",
    {
        "PGD-AT": Arm(),
        "SPAT": Arm({"objective": "spat(a=0.1)"}),
        "HE": Arm({"objective": HE, "head": HEAD}),
        "SPAT + HE": Arm({"objective": f"spat(a=0.1, objective={HE})", "head": HEAD}),
        "PGD-AT + AWP + EMA": Arm(
            {"objective": "awp(objective=pgd_at, gamma=0.01)", "callbacks": "EMA"}
        ),
        "HE + AWP + EMA": Arm({"objective": HE_AWP, "head": HEAD, "callbacks": "EMA"}),
        "SPAT + HE + AWP + EMA": Arm(
            {
                "objective": f"spat(a=0.1, objective={HE_AWP})",
                "head": HEAD,
                "callbacks": "EMA",
            }
        ),
    },
    claims=tuple(claims()),
)
