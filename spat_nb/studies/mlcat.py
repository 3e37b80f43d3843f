"What is robust overfitting made of: images that are learned already?"

import copy

import torch

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.losses import ce
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.rng import generator
from spat_nb.core.tensors import logits
from spat_nb.studies.claims import Claim, gain
from spat_nb.studies.classwise import dropped
from spat_nb.studies.study import Arm, Study
from spat_nb.training.building import build_model, listeners, training_parts
from spat_nb.training.callbacks import Best
from spat_nb.training.events import Callback
from spat_nb.training.fit import fit
from spat_nb.training.objectives import pgd_at

FEW = {"n": 300, "look": 5, "best": "last"}  # few images, shown often: that overfits
SMALL = 0.5  # a loss below it is small; the code's 1.5 is a number of CIFAR-10


def robust(model, job):
    "Accuracy and mean cross-entropy under PGD-20 on the test images"
    x, y = job.open().test.tensors()
    with eval_mode(model):
        x_adv = pgd(job.ball, 20, generator=generator(job.seed, x.device))(model, x, y)
        with torch.no_grad():
            z = logits(model, x_adv)
    return {"accuracy": (z.argmax(1) == y).double().mean().item(), "loss": ce(z, y).mean().item()}


class Later(Callback):
    "PGD-AT, and from the drop of the rate on, where robust overfitting begins, the row's objective"

    decides = True

    def __init__(self, objective):
        self.objective, self.late = objective, False

    def before_fit(self, learner):
        self.late = dropped(learner.done / learner.total) < 1

    after_step = before_fit

    def __call__(self, model, x, y, attack):
        return (self.objective if self.late else pgd_at)(model, x, y, attack)


def both_ends(job):
    """Train at a rate that drops once. The last weights are judged; the best ones, which validation
    images choose, are tested beside them
    """
    recipe, data, best = job.recipe, job.open(), Best()
    parts = {**training_parts(recipe, data), "schedule": dropped}
    parts["objective"] = Later(parts["objective"])
    done = fit(
        build_model(recipe, data.train).to(job.device),
        **parts,
        callbacks=[*listeners(recipe, data, parts), best],
        checkpoint=job.work / "checkpoint.safetensors",
        config=job.config["recipe"],
        **job.how,
        seed=job.seed,
        quiet=job.quiet,
    )
    chosen = copy.deepcopy(done.model)
    best.restore(chosen)
    done.history[-1]["ends"] = {"best": robust(chosen, job), "last": robust(done.model, job)}
    return done.model, done.history, done.step, done.passes


def lost(d):
    "Points of robust accuracy from the best weights to the last ones"
    ends = d["history"][-1]["ends"]
    return 100 * (ends["best"]["accuracy"] - ends["last"]["accuracy"])


def risen(d):
    "By how much the robust loss has risen from the best weights to the last ones"
    ends = d["history"][-1]["ends"]
    return ends["last"]["loss"] - ends["best"]["loss"]


def less_lost(a, b):
    return lost(a) - lost(b)


def less_risen(a, b):
    return risen(a) - risen(b)


def arm(note="", **changes):
    return Arm({**FEW, **changes}, train=both_ends, note=note)


def claims(paper="MLCAT", M="mlcat"):
    "What is said of robust overfitting, and what is measured instead"
    yield Claim(
        paper,
        "PGD-AT overfits",
        "robust accuracy, best - last weights, points",
        M,
        ("PGD-AT",),
        lost,
    )
    yield Claim(paper, "... in its loss", "robust loss, last - best weights", M, ("PGD-AT",), risen)
    for title, row in (
        ("small losses make it overfit", "without small losses"),
        ("MLCAT's weights mend it", "MLCAT-WP"),
        ("AWP mends it", "AWP"),
    ):
        both = ("PGD-AT", row)
        points, loss = f"points lost: PGD-AT - {row}", f"loss risen: PGD-AT - {row}"
        yield Claim(paper, title, points, M, both, less_lost)
        yield Claim(paper, f"... {row}, in the loss", loss, M, both, less_risen)
    yield gain(paper, "MLCAT-WP beats AWP at the end", M, "MLCAT-WP", "AWP")


study = Study(
    "mlcat",
    "What is robust overfitting made of: images that are learned already?",
    {
        "PGD-AT": arm(),
        "without small losses": arm(
            "and the code's scaling, too: its gradient is 0 there",
            objective=f"pgd_at(loss=between(low={SMALL}))",
        ),
        "small losses alone": arm(objective=f"pgd_at(loss=between(high={SMALL}))"),
        "MLCAT-WP": arm(objective=f"mlcat(least={SMALL}, steps=3)"),
        "AWP": arm(objective="awp(objective=pgd_at, gamma=0.01)"),
    },
    sizes={
        "laptop": {
            "ball": "Linf(0.2)",
            "epochs": 60,
            "strong": "lean",
            "judged": 100,
            "trusted": 32,
        }
    },
    claims=tuple(claims()),
)
