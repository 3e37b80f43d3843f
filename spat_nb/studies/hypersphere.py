"""What each switch of hypersphere embedding gives, and what of it stands under attacks that no
scale can blunt
"""

import math
from functools import partial

import torch

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.losses import ce
from spat_nb.attacks.steps import apgd
from spat_nb.attacks.wrapped import tempered
from spat_nb.papers.hypersphere import gradient_ratio
from spat_nb.papers.hypersphere_scale import at_taus
from spat_nb.studies.claims import Claim, accuracy_of, gain
from spat_nb.studies.study import Arm, Study

# chosen on validation digits, see 51_scale; all arms are attacked at the same factors
S, M = 10.0, 0.1
HEAD = f"Hypersphere(scale={S})"
AM = f"margin_ce(m={M}, scale={S})"
NEAR = "gaussian(sigma=0.001)"


def scales(job):
    """Cross-entropy at scale 1, S/2, 2 S and 5 S of a head of scale S (the same factors for other
    heads), and dlr; APGD-CE on cos is all that AutoAttack on cos does otherwise than on s cos
    """
    attacks = {
        **at_taus(job.ball, (0.1, 0.5, 2.0, 5.0)),
        "apgd_ce x0.1": apgd(job.ball, loss=tempered(ce, 0.1)),
    }
    return {k: a for k, a in attacks.items() if k != "margin"}  # every run has it as cw20


def extra(model, job, record):
    """Of at most 500 test images: accuracy of a third network on those made for this one; geometric
    mean of the gradient ratio
    """
    x, y = job.open().test.subset(min(500, job.open().test.n)).tensors()
    z, other = pgd(job.ball, 20, job.ball.eps / 4)(model, x, y), job.third(job.recipe.epochs // 3)
    with torch.no_grad():
        transfer = (other(z).argmax(1) == y).double().mean().item()
    r = gradient_ratio(model, x, y, pgd(job.ball, 10)).values()
    return dict(transfer=transfer, ratio=math.exp(sum(map(math.log, r)) / len(r)))


arm = partial(Arm, attacks=scales, extra=extra)


def claims(paper="Hypersphere embedding", H="+FN+WN+AM (HE)"):
    "What the paper says, and what is measured instead"
    yield gain(paper, "it raises accuracy under PGD", "hypersphere", H, "PGD-AT", "pgd20")
    yield gain(paper, "it raises robustness", "hypersphere", H, "PGD-AT", least=1.0)
    yield gain(
        paper,
        "it raises robustness, at the code's s and m for CIFAR-10",
        "combine",
        "HE",
        "PGD-AT",
        least=1.0,
    )
    yield gain(paper, "also under TRADES", "hypersphere", "TRADES+HE", "TRADES")
    yield gain(paper, "the margin helps", "hypersphere", H, "+FN+WN")
    yield Claim(
        paper,
        "an unscaled attack flatters it (ours)",
        "HE: ce at scale 1 - lower of margin and dlr, points",
        "hypersphere",
        (H,),
        lambda d: accuracy_of(d, "ce x0.1") - min(accuracy_of(d, "cw20"), accuracy_of(d, "dlr")),
    )
    yield Claim(
        paper,
        "feature normalisation makes perturbations stronger",
        "a third network on images made for +WN - on those for +FN+WN, points",
        "hypersphere",
        ("+FN+WN", "+WN"),
        lambda a, b: 100 * (b["extra"]["transfer"] - a["extra"]["transfer"]),
    )
    yield Claim(
        paper,
        "its gradient ratio is nearer to 1",
        "geometric mean of the ratio, cross-entropy: PGD-AT - HE",
        "hypersphere",
        ("PGD-AT", H),
        lambda a, b: a["extra"]["ratio"] - b["extra"]["ratio"],
    )


study = Study(
    "hypersphere",
    "Does hypersphere embedding make networks more robust, or attacks blunter?",
    {
        "PGD-AT": arm(),
        "+FN": arm({"head": f"Hypersphere(wn=False, scale={S})"}),
        "+WN": arm(
            {"head": "Hypersphere(fn=False, scale=1.0)"},
            note="the length of h is its scale",
        ),
        "+FN+WN": arm({"head": HEAD}),
        "+FN+WN+AM (HE)": arm({"objective": f"pgd_at(loss={AM})", "head": HEAD}),
        "TRADES": arm({"objective": "trades(beta=6.0)", "start": NEAR}),
        "TRADES+HE": arm(
            {"objective": f"trades(beta=6.0, loss={AM})", "start": NEAR, "head": HEAD}
        ),
    },
    claims=tuple(claims()),
)
