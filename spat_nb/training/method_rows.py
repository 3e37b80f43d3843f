"""The rows of the table of slots: what each method says, and the few fields that it changes

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True)
class Method:
    "A row of the table of slots. An empty slot is as in the row of PGD-AT"

    says: str  # what it does, and whose it is
    fields: dict = field(default_factory=dict)  # fields of a Recipe, or short words, as specs
    target: str = ""  # what the training attack moves away from
    inner: str = ""  # loss that it maximises
    start: str = ""  # of the training attack
    step: str = ""  # of the training attack
    outer: str = ""  # what the weights descend
    net: str = ""  # what is changed in the network


NO_ATTACK = {"target": "-", "inner": "-", "start": "-", "step": "-"}
A_BOUND = {**NO_ATTACK, "inner": "a bound in place of an attack"}
NEAR = "gaussian(sigma=0.001)"
HYPERSPHERE = "Hypersphere(scale=15)"
REPULSIVE = "Prototypes(points='repulsive', rule='dot', metric='linf', width=100)"

METHODS = {
    "standard": Method(
        "training on clean images",
        {"objective": "standard", "best": "clean"},
        **NO_ATTACK,
        outer="ce(x)",
    ),
    "pgd_at": Method(
        "adversarial training (Madry et al. 2018)",
        {"objective": "pgd_at"},
        target="label",
        inner="ce",
        start="uniform",
        step="sign",
        outer="ce(x_adv)",
        net="as it is",
    ),
    "trades": Method(
        "accuracy plus steadiness (Zhang et al. 2019)",
        {"objective": "trades(beta=6)", "start": NEAR},
        target="probs(model, x)",
        start="gaussian",
        outer="ce(x) + beta kl",
    ),
    "mart": Method(
        "boosted loss, steadiness where the answer is in doubt (Wang et al. 2020)",
        {"objective": "mart(beta=5)", "start": NEAR},
        start="gaussian",
        outer="boosted(x_adv) + beta (1-p) kl",
    ),
    "alp": Method(
        "adversarial logit pairing (Kannan et al. 2018)",
        {"objective": "alp(beta=0.5)"},
        outer="(ce(x) + ce(x_adv))/2 + beta |z-z_adv|^2",
    ),
    "free": Method(
        "the perturbation moves with the gradient of the same pass (Shafahi et al. 2019)",
        {"objective": "Free", "replays": 4},
        start="the last one",
        step="one for each replay",
    ),
    "fast": Method(
        "one step from a random start (Wong et al. 2020), watched for catastrophic overfitting",
        {"objective": "pgd_at", "attack": "fgsm_rs", "callbacks": ("Sentry",)},
        step="sign x 1.25 eps, once",
    ),
    "n_fgsm": Method(
        "one step from strong noise, not projected back (de Jorge et al. 2022)",
        {"objective": "pgd_at", "attack": "n_fgsm"},
        start="uniform in 2 eps",
        step="sign x eps, once",
    ),
    "zerograd": Method(
        "one step that leaves the weakest pixels (Golgooni et al. 2021)",
        {"objective": "pgd_at", "attack": "zerograd", "callbacks": ("Sentry",)},
        step="sign x 2 eps, once, not where the gradient is small",
    ),
    "grad_align": Method(
        "gradients of one direction in the whole ball (Andriushchenko & Flammarion 2020)",
        {"objective": "grad_align(lam=0.2)", "attack": "fgsm", "callbacks": ("Sentry",)},
        start="at_x",
        step="sign x eps, once",
        outer="ce(x_adv) + lam (1 - cos)",
    ),
    "nuat": Method(
        "a batch's logits stay together, measured by singular values (Sriramanan et al. 2021)",
        {
            "objective": "NuAT(lam=4.5)",
            "attack": "fgsm(start=coins(k=0.5))",
            "callbacks": ("Sentry",),
        },
        inner="ce + lam |z - z_adv|_*",
        start="coins in eps/2",
        step="sign x eps, once",
        outer="ce(x) + lam |z - z_adv|_*",
    ),
    "awp": Method(
        "at the worst weights nearby (Wu et al. 2020)",
        {"objective": "awp(objective=pgd_at, gamma=0.01)"},
        outer="ce(x_adv) at moved weights",
    ),
    "ema": Method(
        "the average of the weights is what is kept",
        {"objective": "pgd_at", "callbacks": ("EMA(decay=0.999)",)},
        net="average of weights",
    ),
    "faal": Method(
        "classes weighted by the worst mixture of their margins (Zhang et al. 2024)",
        {"objective": "faal(r=0.5)"},
        outer="c p_y ce(x_adv)",
    ),
    "muon": Method(
        "matrices step in all directions alike (Jordan et al. 2024)",
        {"objective": "pgd_at", "optimiser": "muon"},
    ),
    "spat": Method(
        "the label is smoothed where the examples are made (our reading of arXiv 2009.10978)",
        {"objective": "spat(a=0.1)"},
        inner="smoothed(ce, a)",
    ),
    "hypersphere": Method(
        "features and weights on a sphere, a margin in the angle (Pang et al. 2020)",
        {"objective": "pgd_at(loss=margin_ce(m=0.2, scale=15))", "head": HYPERSPHERE},
        outer="margin_ce",
        net="Hypersphere head",
    ),
    "prototypes": Method(
        "fixed prototypes that repel each other, no attack in training",
        {"objective": "standard(loss=pull)", "head": REPULSIVE, "best": "clean"},
        **NO_ATTACK,
        outer="pull(x)",
        net="Prototypes head",
    ),
    "ibp": Method(
        "worst logits that boxes allow, in a radius that rises (Gowal et al. 2018)",
        {"objective": "IBP", "best": "last"},
        **A_BOUND,
        outer="kappa ce(x) + (1-kappa) ce(worst logits)",
    ),
    "crown_ibp": Method(
        "... whose bounds begin tighter (Zhang et al. 2020)",
        {"objective": "CrownIBP", "best": "last"},
        **A_BOUND,
        outer="kappa ce(x) + (1-kappa) ce(worst logits)",
    ),
    "smoothing": Method(
        "noisy images, for a vote over noisy copies (Cohen et al. 2019)",
        {"objective": "gaussian_noise(sigma=0.25)", "best": "clean"},
        **NO_ATTACK,
        outer="ce(x + noise)",
        net="`Smoothed` around it when it is judged",
    ),
    "arks": Method(
        "a kernel in place of the ball: far images count less (Zhu et al. 2022)",
        {"objective": "arks(sigma=0.5)"},
        inner="k(u,x) ce",
        start="at_x",
        step="AMSGrad, no ball",
        outer="k(u,x) ce(u)",
    ),
    "head_only": Method(
        "a new head on features that stay (Shafahi et al. 2020); they are borrowed by `new_head`,"
        " and random without it",
        {"objective": "head_only", "best": "clean"},
        **NO_ATTACK,
        outer="ce(head(f(x))), f fixed",
        net="a robust source, new head",
    ),
    "lwf": Method(
        "fine-tuning that keeps the features of a robust source (Shafahi et al. 2020); by itself,"
        " those that the network begins with",
        {"objective": "lwf(lam=0.003)", "best": "clean"},
        **NO_ATTACK,
        outer="ce(x) + lam |f - f_source|",
        net="a robust source, new head",
    ),
    "latent_at": Method(
        "along what images differ by (after Poursaeed et al. 2021, with a linear generator)",
        {"objective": "LatentAT(eps=0.8, k=8)"},
        start="uniform in the latent space",
        step="P g / |P g|",
    ),
    "coloured_noise": Method(
        "noise of a learned covariance behind each activation (after Zheltonozhskii et al. 2020)",
        {"objective": "pgd_at", "act": "ColouredNoise(rank=4)"},
        net="relu + noise of covariance D^2 + U U^T",
    ),
    "apart": Method(
        "a start that each image remembers, lengths that are learned (Li et al. 2020)",
        {"objective": "APART", "attack": "fgsm", "augment": "none", "callbacks": ("Sentry",)},
        start="w eps x memory of the image",
        step="sign x a eps, once, inner layers too",
    ),
    "jeat": Method(
        "the attack goes up an energy (our reading of Zhu et al. 2021, PreJEAT)",
        {"objective": "pgd_at", "inner": "energy"},
        inner="energy: -z_y",
    ),
    "mlcat": Method(
        "at weights where small losses are larger (Yu et al. 2022, MLCAT-WP)",
        {"objective": "mlcat(least=1.5)"},
        outer="ce(x_adv) at moved weights",
    ),
    "sparta": Method(
        "activations that look around (our reconstruction from the abstract)",
        {"objective": "pgd_at", "act": "Sparta"},
        net="Sparta activation",
    ),
}
