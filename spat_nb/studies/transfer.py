"Is robustness kept when a robust network is taken to other data, without attacks there?"

from functools import partial

import torch

from spat_nb.attacks.attack import pgd
from spat_nb.data.sources import Data
from spat_nb.papers.transfer import head_only, lwf, new_head
from spat_nb.studies.claims import gain
from spat_nb.studies.study import Arm, Study
from spat_nb.training.building import open_data
from spat_nb.training.callbacks import Validate
from spat_nb.training.objectives import pgd_at, standard

FEW = 100  # images to train on of the second half of the classes, drawn by the seed


def half(data, second):
    "The first half of the classes (digits 0 to 4), or the second, with labels from 0"

    def part(batches):
        m = batches.c // 2
        some = batches.take(((batches.y >= m) == second).nonzero()[:, 0])
        names = batches.classes[m:] if second else batches.classes[:m]
        return some.with_(y=some.y - m * second, classes=names)

    return Data(*map(part, data))


def fitted(job, net, data, objective, epochs, **more):
    "(network after the last epoch, history, step); four looks at validation images on the way"
    look = Validate(data.valid, pgd(job.ball, 10), every=max(1, epochs // 4))
    inner = pgd(job.ball, job.size.steps)
    told = {"epochs": epochs, "validate": look, "best": None, "quiet": True, **more}
    done = job.fitted(net.to(job.device), data.train, objective, inner, **told)
    return done.model, done.history, done.step


def first(job, objective):
    "A network of the first half of the classes; without an objective nobody has trained it"
    whole = open_data(job.recipe, job.device)
    job.data = half(whole, second=False)
    torch.manual_seed(1000 + job.seed)
    net = job.net()
    if objective is not None:
        epochs, seed = job.recipe.epochs, 1000 + job.seed
        net = fitted(job, net, job.data, objective, epochs, seed=seed)[0]
    return net.eval()


def alone(source, objective):
    "An objective that asks for no source"
    return objective


def second(job, source, objective):
    "Train on a few images of the second half, for as many steps as on the first"
    start = first(job, source)
    many = job.data.train.n
    data = half(open_data(job.recipe, job.device), second=True)
    few = min(FEW, data.train.n)
    data = data._replace(train=data.train.subset(few, seed=job.seed))
    job.data = data
    torch.manual_seed(job.seed)
    net = new_head(start, data.train.c)
    epochs = max(1, job.recipe.epochs * many // few)
    return fitted(job, net, data, objective(start), epochs)


def arm(source, objective, **kw):
    return Arm(train=partial(second, source=source, objective=objective), **kw)


HEAD = partial(alone, objective=head_only)


def claims(paper="Robust transfer", T="transfer"):
    "What is said of it, and what is measured instead"
    for k, what in {
        "new head, standard source": "the source has to be robust",
        "new head, random source": "features have to be trained",
        "fine-tuned, robust source": "plain fine-tuning forgets",
    }.items():
        yield gain(paper, f"a new head keeps robustness: {what}", T, "new head, robust source", k)
    yield gain(
        paper,
        "without forgetting it is at least as robust as a new head",
        T,
        "without forgetting",
        "new head, robust source",
    )
    yield gain(
        paper,
        "... and more accurate on clean images",
        T,
        "without forgetting",
        "new head, robust source",
        "clean",
    )
    for k in ("new head, robust source", "without forgetting"):
        yield gain(paper, f"{k}: more robust than PGD-AT on few images", T, k, "PGD-AT, few")


study = Study(
    "transfer",
    "Is robustness kept when a robust network is taken to other data, without attacks there?",
    {
        "PGD-AT, few": arm(None, partial(alone, objective=pgd_at), note="no source"),
        "new head, robust source": arm(pgd_at, HEAD),
        "without forgetting": arm(
            pgd_at,
            partial(lwf, lam=0.003),
            note="the weight was chosen on held-out images of another seed",
        ),
        "fine-tuned, robust source": arm(
            pgd_at, partial(lwf, lam=0.0), note="the same with the weight 0"
        ),
        "new head, standard source": arm(standard, HEAD),
        "new head, random source": arm(None, HEAD),
    },
    # features that were trained on five classes keep little at the radius .15 of the other studies
    sizes={
        "laptop": {
            "ball": "Linf(0.1)",
            "strong": "lean",
            "judged": 100,
            "trusted": 32,
            "epochs": 24,
        }
    },
    claims=tuple(claims()),
)
