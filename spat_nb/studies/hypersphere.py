"""What each switch of hypersphere embedding gives, and what of it stands under attacks that no
scale can blunt
"""

import math
from functools import partial

import torch

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.losses import ce, tempered
from spat_nb.attacks.steps import apgd
from spat_nb.papers.hypersphere import Hypersphere, at_taus, gradient_ratio, margin_ce
from spat_nb.studies.study import Arm, Study
from spat_nb.training.objectives import pgd_at, trades

# chosen on validation digits, see 50_hypersphere; all arms are attacked at the same factors
S, M = 10.0, 0.1
he = partial(Hypersphere, scale=S)


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
    z, other = pgd(job.ball, 20, job.ball.eps / 4)(model, x, y), job.third(job.size.epochs // 3)
    with torch.no_grad():
        transfer = (other(z).argmax(1) == y).double().mean().item()
    r = gradient_ratio(model, x, y, pgd(job.ball, 10)).values()
    return dict(transfer=transfer, ratio=math.exp(sum(map(math.log, r)) / len(r)))


arm = partial(Arm, attacks=scales, extra=extra)
study = Study(
    "hypersphere",
    "Does hypersphere embedding make networks more robust, or attacks blunter?",
    {
        "PGD-AT": arm(pgd_at),
        "+FN": arm(pgd_at, slots=dict(head=partial(he, wn=False))),
        "+WN": arm(
            pgd_at,
            slots=dict(head=partial(he, fn=False, scale=1.0)),
            note="the length of h is its scale",
        ),
        "+FN+WN": arm(pgd_at, slots=dict(head=he)),
        "+FN+WN+AM (HE)": arm(partial(pgd_at, loss=margin_ce(M, S)), slots=dict(head=he)),
        "TRADES": arm(partial(trades, beta=6.0), attack=partial(pgd, start=gaussian())),
        "TRADES+HE": arm(
            partial(trades, beta=6.0, loss=margin_ce(M, S)),
            attack=partial(pgd, start=gaussian()),
            slots=dict(head=he),
        ),
    },
)
