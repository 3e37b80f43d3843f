"What the usual ways of training give, in one recipe"

from spat_nb.studies.study import Arm, Study

NEAR = "gaussian(sigma=0.001)"
TRADES = {"objective": "trades(beta=6.0)", "start": NEAR}


study = Study(
    "baseline",
    "How robust are the usual ways of training, in one recipe?",
    {
        "standard": Arm({"objective": "standard", "best": "clean"}),
        "PGD-AT": Arm(),
        "TRADES": Arm(TRADES),
        "MART": Arm({"objective": "mart(beta=5.0)", "start": NEAR}),
        "ALP": Arm({"objective": "alp(beta=0.5)"}),
        "Fast-AT": Arm({"attack": "fgsm_rs"}),
        "Free-AT, 4 replays": Arm(
            # a look after every four passes over the images, as it were an epoch
            {"objective": "Free", "replays": 4, "look": 4},
            note="each epoch shows every batch four times",
        ),
        "PGD-AT + AWP": Arm({"objective": "awp(objective=pgd_at, gamma=0.01)"}),
        "PGD-AT + EMA": Arm({"callbacks": "EMA"}),
        "PGD-AT, Muon": Arm({"optimiser": "muon"}),
        "TRADES + AWP": Arm(
            {"objective": "awp(objective=trades(beta=6.0), gamma=0.005)", "start": NEAR}
        ),
    },
    # fewer than elsewhere: fifty runs are to fit into ten minutes of two cores
    sizes={"laptop": {"judged": 50}},
)
