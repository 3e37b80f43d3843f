"What do networks hold for a digit, and does training on energies change it?"

from functools import partial

import torch

from spat_nb.core.rng import generator
from spat_nb.papers.jeat import dream, nearest_class
from spat_nb.studies.claims import Claim, extra_gain, gain
from spat_nb.studies.study import Arm, Study

nearer = partial(extra_gain, key="far", scale=-1.0)
DREAMS = 200  # images, as many of each class


def dreamt(model, job, record):
    "Dreams from dark noise: how many lie nearest to a digit of their class, and how far from any"
    train = job.open().train
    x, y = train.tensors()
    asked = torch.arange(DREAMS, device=y.device) % train.c
    noise = 0.2 * torch.rand(DREAMS, *train.shape, generator=generator(job.seed)).to(x)
    label, far = nearest_class(dream(model, noise, asked), x, y)
    return {"found": (label == asked).double().mean().item(), "far": far.mean().item()}


def claims(paper="JEAT", J="jeat"):
    "What is said of energies, and what is measured instead"
    shown = "dreams nearest to a digit of their class: {} - {}, points"
    near = "how much nearer dreams of {} lie to a digit than those of {}, L2"
    for title, a, b in (
        ("robust networks can generate", "PGD-AT", "standard"),
        ("PreJEAT generates better than PGD-AT", "PreJEAT", "PGD-AT"),
    ):
        yield Claim(paper, title, shown.format(a, b), J, (a, b), partial(extra_gain, key="found"))
        yield Claim(paper, f"... {a}, by distance", near.format(a, b), J, (a, b), nearer)
    yield gain(paper, "PreJEAT is more robust than PGD-AT", J, "PreJEAT", "PGD-AT")
    yield gain(paper, "the sign beats the gradient itself", J, "PreJEAT", "JEAT")


study = Study(
    "jeat",
    "What do networks hold for a digit, and does training on energies change it?",
    {
        "standard": Arm({"objective": "standard", "best": "clean"}, extra=dreamt),
        "PGD-AT": Arm(extra=dreamt),
        "PreJEAT": Arm({"inner": "energy"}, extra=dreamt, note="our reading: PGD's step"),
        "JEAT": Arm(
            lambda size: {"attack": f"pgd(steps={size.steps}, loss=energy, step=langevin())"},
            extra=dreamt,
            note="our reading: the gradient itself, with noise",
        ),
    },
    sizes={"laptop": {"strong": "lean", "judged": 100, "trusted": 32}},
    claims=tuple(claims()),
)
