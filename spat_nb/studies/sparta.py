"""Sparta, our reconstruction from the abstract: does an activation that looks around make networks
more robust, and is it the looking?
"""

from functools import partial

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.losses import margin
from spat_nb.core.slots import argument
from spat_nb.papers.gates import cut, held, off_centre, saturated
from spat_nb.studies.claims import Claim, accuracy_of, gain
from spat_nb.studies.study import Arm, Study


def twins(job):
    "The margin attack, misled in no way by the gates' slope"
    climb = pgd(job.ball, 20, job.ball.eps / 4, loss=margin)
    return dict(cut=cut(climb), held=held(climb))


def gate_edges(model, job, record) -> dict:
    """By gate: share of saturated values on at most 500 test images, share of the taps' energy off
    the centre
    """
    return dict(
        saturated=saturated(model, job.open().test.tensors()[0][:500]), off_centre=off_centre(model)
    )


# half the blocks of the other studies' network: a gate takes about as long as a convolution
SHORT = "PreActResNet10(width=8)"


def wider(size):
    "One channel more in the first stage: no gate adds as many parameters"
    usual = argument(size.model, "width") or 16  # of SmallCNN
    return {"width": usual + 1}


gated = partial(Arm, attacks=twins, extra=gate_edges)


def last_of(d):
    return 100 * [r["robust"] for r in d["history"] if "robust" in r][-1]


def claims(paper="Sparta (our reconstruction)", V="Sparta (V2)"):
    "What the paper says, and what is measured instead"
    yield gain(paper, "ReLU's sharing costs robustness", "sparta", V, "ReLU", least=1.0)
    yield Claim(
        paper,
        "... also at the last checkpoint",
        f"validation, PGD-10, after the last epoch: {V} - ReLU > 1, points",
        "sparta",
        (V, "ReLU"),
        lambda a, b: last_of(a) - last_of(b),
        1.0,
    )
    for k in ("SiLU", "Sparta 1x1"):
        yield gain(paper, "it is the space, not the smoothness", "sparta", V, k)
    yield gain(paper, "it matters where the gate looks", "sparta", V, "Sparta, shuffled")
    for k in ("PSSiLU", "DY-ReLU"):
        yield gain(paper, "better than other new activations", "sparta", V, k)
    yield gain(paper, "lower error on clean images too", "sparta", V, "ReLU", "clean")
    for k in ("ReLU", "ReLU, wider"):
        yield gain(
            paper,
            "a gate on ReLU does it (ours, picked after a look at these results)",
            "sparta",
            "Sparta gate-ReLU (V1d)",
            k,
            least=1.0,
        )
    yield gain(
        paper, "... and it is the space", "sparta", "Sparta gate-ReLU (V1d)", "gate-ReLU 1x1"
    )
    gated = (V, "Sparta 1x1", "Sparta, shuffled", "Sparta gate-ReLU (V1d)")
    yield Claim(
        paper,
        "its gates mask no slope (ours)",
        "1 - the most that cut or held gates find beyond the margin, in any Sparta, points",
        "sparta",
        gated,
        lambda *ds: (
            1
            - max(
                accuracy_of(d, "cw20") - min(accuracy_of(d, "cut"), accuracy_of(d, "held"))
                for d in ds
            )
        ),
    )
    yield Claim(
        paper,
        "... and no trust card of theirs has a flag (ours)",
        "less the flags of all Spartas, > -.5",
        "sparta",
        gated,
        lambda *ds: -float(sum(len(d["trust"]["flags"]) for d in ds)),
        -0.5,
    )


study = Study(
    "sparta",
    "Does an activation that looks around make networks more robust (Sparta, our reconstruction"
    " from the abstract)?",
    {
        "ReLU": Arm(),
        "SiLU": Arm({"act": "SiLU"}),
        "PSSiLU": Arm({"act": "PSSiLU"}),
        "DY-ReLU": Arm({"act": "DYReLU"}),
        "Sparta (V2)": gated({"act": "Sparta"}),
        "Sparta 1x1": gated(
            {"act": "Sparta(k=1)"},
            note=(
                "the same machinery, but the gate sees its own place only: smoothness without space"
            ),
        ),
        "Sparta, shuffled": gated(
            {"act": "Sparta(shuffle=True)"},
            note="each gate acts half a map away from where it looks",
        ),
        "Sparta gate-ReLU (V1d)": gated({"act": "Sparta(rectify=True)"}),
        "gate-ReLU 1x1": gated(
            {"act": "Sparta(k=1, rectify=True)"},
            note="V1d, but the gate sees its own place only",
        ),
        "ReLU, wider": Arm(
            wider,
            note="one channel more in the first stage: at least as many parameters as any Sparta",
        ),
    },
    sizes={"mini": {"tested": 1000, "model": SHORT}},
    claims=tuple(claims()),
)
