"Does noise of a learned colour make networks robust, or does the attack miss a moving target?"

from functools import partial

import torch

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.lean import lean
from spat_nb.attacks.losses import ce, margin
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.tensors import logits
from spat_nb.measure.evaluate import evaluate
from spat_nb.papers.noise import ColouredNoise, held, over_rolls
from spat_nb.studies.claims import Claim, accuracy_of, extra_gain
from spat_nb.studies.study import Arm, Study

STEPS, DRAWS, ROLLS = 20, 10, 32


def attacks(model, ball):
    "name -> (attack, network that it is made on): two average over rolls, one sees no noise"
    averaged = partial(pgd, ball, STEPS, best=True, eot=DRAWS)
    return {
        "ce": (averaged(loss=ce), model),
        "margin": (averaged(loss=margin), model),
        "no noise": (lean(ball), held(model, None)),
    }


def layers(model):
    return [m for m in model.modules() if isinstance(m, ColouredNoise)]


def learned(model):
    "Of each layer: deviation of a channel, and the part of the variance that channels share"
    found = []
    for m in layers(model):
        total = m.covariance().trace().item()
        part = m.low.square().sum().item() / total if total else 0.0
        found.append({"deviation": (total / len(m.diagonal)) ** 0.5, "shared": part})
    return found


def rolled(model, job, record):
    "Shares of the same images in [0,1], by four ways of counting"
    data = job.open().test
    x, y = data.subset(min(job.size.judged or data.n, data.n)).tensors()
    torch.manual_seed(job.seed)
    images = [attack(net, x, y) for attack, net in attacks(model, job.ball).values()]
    with torch.no_grad(), eval_mode(model):
        answers = torch.stack([logits(model, v).argmax(1) == y for v in images])
        rolls = [torch.stack([logits(model, v) for v in images]) for _ in range(ROLLS)]
        mean = torch.stack(rolls).mean(0)
    one = evaluate(held(model, 0), (x, y), job.precision, progress=False, lean=lean(job.ball))
    return {
        "over_rolls": over_rolls(model, y, images, ROLLS).mean().item(),
        "clean_over_rolls": over_rolls(model, y, [x], ROLLS).mean().item(),
        "union": answers.all(0).double().mean().item(),
        "averaged": (mean.argmax(2) == y).all(0).double().mean().item(),
        "held": one.accuracy("lean"),
        "layers": learned(model),
    }


noisy = partial(Arm, extra=rolled)


def claims(paper="Coloured noise", N="noise"):
    "What is said of it, and what is measured instead"
    for k in ("white", "no noise", "coloured, not learned"):
        yield Claim(
            paper,
            f"coloured noise makes networks more robust than: {k}",
            f"mean over rolls, hardest of three attacks: coloured - {k}, points",
            N,
            ("coloured", k),
            partial(extra_gain, key="over_rolls"),
        )
    yield Claim(
        paper,
        "it is the network, not the dice",
        "lean with one roll held: coloured - no noise, points",
        N,
        ("coloured", "no noise"),
        partial(extra_gain, key="held"),
    )
    yield Claim(
        paper,
        "the attack that is usual misses a moving target (ours)",
        "pgd20 less mean over rolls: coloured - no noise, points",
        N,
        ("coloured", "no noise"),
        lambda a, b: (
            accuracy_of(a, "pgd20") - accuracy_of(b, "pgd20") - extra_gain(a, b, "over_rolls")
        ),
    )
    yield Claim(
        paper,
        "the trust card sees the dice (ours)",
        "coloured: flag of G1 repeats, > .5",
        N,
        ("coloured",),
        lambda d: float("G1 repeats" in d["trust"]["flags"]),
        0.5,
    )


study = Study(
    "noise",
    "Does noise of a learned colour make networks robust, or does the attack miss a moving target?",
    {
        "no noise": noisy(),
        "white": noisy({"act": "ColouredNoise(rank=0)"}, note="each channel by itself, as in PNI"),
        "coloured": noisy({"act": "ColouredNoise(rank=4)"}),
        "coloured, not learned": noisy({"act": "ColouredNoise(rank=4, learned=False)"}),
    },
    sizes={
        "laptop": {
            "strong": "autoattack(version='rand', steps=25, eot=10)",
            "judged": 100,
            "trusted": 32,
        }
    },
    claims=tuple(claims()),
)
