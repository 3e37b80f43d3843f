"Do examples that move along what images differ by keep their meaning better than those of a cube?"

from functools import partial
from typing import Any

import torch

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import L2
from spat_nb.core.rng import generator
from spat_nb.papers.latent import Latent, principal
from spat_nb.papers.spat_meaning import ambiguity, matched, oracle, strength
from spat_nb.studies.claims import Claim, accuracy_of, gain
from spat_nb.studies.study import Arm, Study
from spat_nb.training.building import build_model
from spat_nb.training.objectives import standard

K = 8  # directions of the latent space
RADIUS = 0.8  # of the latent training and attack: about as strong as Linf(0.15) on PGD-AT's digits
FAR = 4.0  # from here a radius is narrowed until an attack is as strong as the usual one


def space(job):
    "The latent space of the training images"
    return principal(job.open().train.with_(augment=None, shuffle=False).tensors()[0], K)


def chance(basis):
    "As many directions, drawn at random"
    drawn = torch.randn(basis.shape[::-1], generator=generator(0)).to(basis)
    return torch.linalg.qr(drawn).Q.T.contiguous()


def latent_attack(job):
    return {"latent": pgd(Latent(RADIUS, basis=space(job)), 20)}


def witness(job):
    "A network of another seed, trained without attacks, that says what an image shows"
    recipe, train = job.usual.but(seed=1000), job.open().train
    net = build_model(recipe, train).to(job.device)
    return job.fitted(net, train, standard, seed=1000, quiet=True).model.eval()


def meaning(model, job, record):
    "What the witness says of examples that all have the strength of the usual attack"
    x, y = job.open().valid.tensors()
    judge, basis = witness(job), space(job)
    want = strength(model, x, y, pgd(job.ball, 20, generator=generator(0)))
    far = {
        "latent": Latent(FAR, basis=basis),
        "L2": L2(FAR),
        "random directions": Latent(2 * FAR, basis=chance(basis)),
    }
    balls = {"Linf": job.ball} | far
    found: dict[str, Any] = {"want": want}
    for name, ball in balls.items():
        attack = pgd(ball, 20, ball.eps / 8, generator=generator(0))
        if name in far:
            attack = matched(model, x, y, attack, want, 8)
        v = attack(model, x, y)
        said = oracle({"": judge}, model, v, y)
        found[name] = {
            "eps": attack.ball.eps,
            "strength": strength(model, x, y, lambda m, x, y, v=v: v),
            "kept": float(said.kept.mean()),
            "same": float(said.same.mean()),
            "entropy": ambiguity(judge, v)[0].mean().item(),
            "length": (v - x).flatten(1).norm(dim=1).mean().item(),
        }
    return found


def kept(a, b, d):
    return 100 * (d["extra"][a]["kept"] - d["extra"][b]["kept"])


def claims(paper="Latent ball", N="latent"):
    "What is said of such examples, and what is measured instead"
    for b, what in {
        "Linf": "",
        "L2": ", beyond being short",
        "random directions": ", and it is these directions",
    }.items():
        yield Claim(
            paper,
            f"latent examples keep their meaning better{what}",
            f"a witness keeps the label, same strength: latent - {b}, points",
            N,
            ("PGD-AT",),
            partial(kept, "latent", b),
        )
    yield gain(paper, "training on them makes networks robust", N, "latent AT", "standard")
    yield gain(paper, "... as robust as PGD-AT", N, "latent AT", "PGD-AT")
    yield Claim(
        paper,
        "... and more so against latent attacks",
        "latent: latent AT - PGD-AT, points",
        N,
        ("latent AT", "PGD-AT"),
        lambda a, b: accuracy_of(a, "latent") - accuracy_of(b, "latent"),
    )


arm = partial(Arm, attacks=latent_attack)

study = Study(
    "latent",
    "Do examples that move along what images differ by keep their meaning better than those of a"
    " cube?",
    {
        "standard": arm({"objective": "standard", "best": "clean"}),
        "PGD-AT": arm(extra=meaning),
        "latent AT": arm(
            {"objective": f"LatentAT(eps={RADIUS}, k={K})"},
            note="chosen by PGD-10 in the usual ball, as all are",
        ),
    },
    sizes={"laptop": {"strong": "lean", "judged": 100, "trusted": 32}},
    claims=tuple(claims()),
)
