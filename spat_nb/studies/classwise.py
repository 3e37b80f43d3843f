"Does anything help the weakest class, and what do the others pay?"

import json
from functools import partial

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.filling import attack_in
from spat_nb.classwise.faal import faal
from spat_nb.classwise.heads import biased, fit_bias, fit_power, normalised
from spat_nb.classwise.homing import homing
from spat_nb.classwise.minmax import FRL
from spat_nb.classwise.temperature import temperature_pgd
from spat_nb.studies.claims import Claim, gain
from spat_nb.studies.study import Arm, Study
from spat_nb.training.building import build_model
from spat_nb.training.objectives import pgd_at

TRADES = {"objective": "trades(beta=6.0)", "start": "gaussian(sigma=0.001)"}


def taus(job):
    return {
        f"t_pgd {t:g}": temperature_pgd(job.ball, t, 20, job.ball.eps / 4) for t in (0.2, 5.0, 20.0)
    }


def power(model, job):
    return normalised(model, fit_power(model, job.open().valid, pgd(job.ball, 10)))


def bias(model, job):
    return biased(model, fit_bias(model, job.open().valid, pgd(job.ball, 10)))


def frl(job):
    """TRADES, then the class-weighted fine-tuning of FRL for a third of the epochs at a tenth of
    the rate
    """
    data, recipe = job.open(), job.recipe
    attack = attack_in(recipe.made("attack"), job.ball)
    net = build_model(recipe, data.train).to(job.device)
    tuning = FRL(data.valid)
    first = job.fitted(
        net,
        data.train,
        recipe.made("objective"),
        attack,
        validate=job.look(),
        checkpoint=job.work / "part0.safetensors",
    )
    second = job.fitted(
        net,
        data.train,
        tuning,
        attack,
        epochs=max(1, recipe.epochs // 3),
        lr=recipe.lr / 10,
        validate=job.look(),
        checkpoint=job.work / "part1.safetensors",
    )
    return net, [*first.history, *second.history]


def dropped(t):
    "A tenth of the rate in the second half, as FAAL's code has it"
    return 1.0 if t < 0.5 else 0.1


def tuned(job, objective):
    """PGD-AT with its best weights, then two epochs of another objective at a tenth of the rate;
    the last weights are kept, so that nothing is chosen
    """
    data, recipe = job.open(), job.usual
    attack = attack_in(recipe.made("attack"), job.ball)
    net = build_model(recipe, data.train).to(job.device)
    first = job.fitted(
        net,
        data.train,
        pgd_at,
        attack,
        validate=job.look(),
        best="robust",
        checkpoint=job.work / "part0.safetensors",
    )
    second = job.fitted(
        net,
        data.train,
        objective,
        attack,
        epochs=2,
        lr=recipe.lr / 10,
        schedule=dropped,
        validate=job.look(),
        checkpoint=job.work / "part1.safetensors",
    )
    return net, [*first.history, *second.history]


def recipe(job):
    "images to train on -> a network trained on them by PGD-AT, for `homing`"

    def train(images):
        left = "-".join(map(str, images.classes))
        net = build_model(job.usual, images).to(job.device)
        attack = pgd(job.ball, job.size.steps)
        path = job.work / f"without-{left}.safetensors"
        return job.fitted(net, images, pgd_at, attack, checkpoint=path).model

    return train


def home(model, job, record):
    "Homing for the most frequent confusion, with a class that is rarely taken as the control"
    C = record.confusion("pgd20").clone()
    C.fill_diagonal_(-1)
    i, j = divmod(int(C.argmax()), len(C))
    C[i, i] = C.max() + 1
    t = homing(
        recipe(job),
        model,
        job.open().train,
        job.open().test,
        pgd(job.ball, 20, job.ball.eps / 4),
        i,
        j,
        [int(C[i].argmin())],
        job.seed,
    )
    return dict(
        i=record.classes[i], j=record.classes[j], rows=json.loads(t.to_json(orient="records"))
    )


def dafa(size):
    return {**TRADES, "objective": f"DAFA(warmup={max(1, round(size.epochs * 70 / 110))})"}


def weakest_of(d, attack="cw20"):
    "Accuracy of the class that is answered worst, percent"
    v = d["attacks"][attack]
    return 100 * min(k / n for k, n in zip(v["class_correct"], v["class_n"]) if n)


def lifted(a, b):
    return weakest_of(a) - weakest_of(b)


def claims(paper="FAAL", C="classwise"):
    "What is said of FAAL, and what is measured instead"
    mine, plain = "FAAL, two epochs more", "PGD-AT, two epochs more"
    test = "weakest class, cw20: {} - {}, points"
    yield Claim(
        paper,
        "two epochs lift the weakest class",
        test.format(mine, plain),
        C,
        (mine, plain),
        lifted,
    )
    rows = ("FAAL throughout", "PGD-AT")
    yield Claim(paper, "... and throughout (ours)", test.format(*rows), C, rows, lifted)
    yield gain(paper, "the average loses less than a point", C, mine, plain, "cw20", least=-1.0)


# rows that came later: the same verdict for a tenth of the passes
LEAN, LATER = {"strong": "lean"}, "aa is the lean AutoAttack"
arm = partial(Arm, attacks=taus)
study = Study(
    "classwise",
    "Does anything help the weakest class, and what do the others pay?",
    {
        "PGD-AT": arm(),
        "PGD-AT, homing": arm(extra=home),
        "PGD-AT + EMA": arm({"callbacks": "EMA"}),
        "PGD-AT, class temperatures (T1)": arm({"objective": "T1"}),
        "PGD-AT, head normalised (I1)": arm(finish=power),
        "PGD-AT, logit bias (I2)": arm(finish=bias),
        "CFA": arm({"objective": "CFA"}),
        "CFOL": arm({"objective": "CFOL(pace=50)"}),
        "TRADES": arm(TRADES),
        "WAT": arm({**TRADES, "objective": "WAT"}),
        "DAFA": arm(dafa),
        "FRL": arm(TRADES, train=frl),
        "FAAL, two epochs more": arm(LEAN, train=partial(tuned, objective=faal), note=LATER),
        "PGD-AT, two epochs more": arm(LEAN, train=partial(tuned, objective=pgd_at), note=LATER),
        "FAAL throughout": arm({**LEAN, "objective": "faal(r=0.5)"}, note=LATER),
    },
    claims=tuple(claims()),
)
