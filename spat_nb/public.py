"""The public names of spat_nb, in one table; whoever reads it has imported nothing else

A name that is not here may move without notice. Written by hand: no notebook makes it.
"""

from __future__ import annotations

import importlib

# floor -> module -> its public names. How a name may stand in a spec (see spat_nb.spec):
#   name     it is named, or given arguments by keyword; whoever uses it calls it
#   name()   a call that has all its arguments is made at once: a ball, a loss with numbers
#   name!    it works, measures, or touches files: it can be named, but not be given arguments
#   name.    a module
FLOORS = {
    "core": {
        "spat_nb": "spec.",
        "spat_nb.core": "settings! default_device! seed_everything! eval_mode!",
        "spat_nb.protocols": "LossFunction! AttackFunction! ObjectiveFunction! ModelFunction!",
    },
    "data": {
        "spat_nb.data": "get_data! Data! Batches! crop_flip() resized_crop()",
    },
    "models": {
        "spat_nb.models": "SmallCNN PreActResNet10 PreActResNet18 PreActResNet34 WideResNet "
        "Normalize save! load! model_info!",
    },
    "attacks": {
        "spat_nb.balls": "Ball! Linf() L2() L1()",
        "spat_nb.losses": "ce margin dlr dlr_or_margin kl targeted() tempered() smoothed() "
        "dlr_targeted margin_targeted",
        "spat_nb.attack": "Attack() fgsm() pgd() at_x uniform gaussian() steepest Recorder!",
        "spat_nb.steps": "mim() apgd() apgd_t() Targeted() momentum adaptive rim",
        "spat_nb.minimal": "deepfool() cw() fab() within() norms! robust_curve!",
        "spat_nb.queries": "BlackBox() square() spsa() rays()",
        "spat_nb.autoattack": "autoattack() Cascade()",
    },
    "measure": {
        "spat_nb.evaluate": "evaluate! Record! sweep! wilson! paired!",
        "spat_nb.trust": "trust! Card!",
        "spat_nb.lineup": "check_attack!",
        "spat_nb.judge": "judge!",
        "spat_nb.verdict": "Report!",
        "spat_nb.reading": "read!",
    },
    "training": {
        "spat_nb.learner": "Learner! Callback! Validate Best() EarlyStop() Checkpoint! Progress() "
        "sgd one_cycle",
        "spat_nb.objectives": "standard pgd_at trades alp mart boosted Replay! Free() "
        "fgsm_rs() Sentry",
        "spat_nb.tricks": "awp() EMA() in_train()",
        "spat_nb.devices": "many!",
        "spat_nb.recipe": "Recipe!",
        "spat_nb.methods": "method!",
        "spat_nb.run": "train!",
        "spat_nb.rundir": "open_run!",
    },
    "classwise": {
        "spat_nb.classwise": "diagnose! Diagnosis!",
        "spat_nb.temperature": "temperature_pgd() safe_ce",
        "spat_nb.fairness": "T1 FAWA CFA() CFATrades() WAT DAFA() FRL CFOL",
    },
    "papers": {
        "spat_nb.spat": "spat preserving() blurred() spat_shared at_strength",
        "spat_nb.hypersphere": "Hypersphere margin_ce()",
        "spat_nb.prototypes": "Prototypes simplex repulsive hyperspherical pull pull_cos",
        "spat_nb.sparta": "Sparta PooledSparta SmoothReLU PSSiLU FReLU DYReLU",
    },
    "studies": {
        "spat_nb.study": "Study! Arm!",
        "spat_nb.compare": "leaderboard!",
    },
    "app": {
        "spat_nb": "zoo.",
        "spat_nb.plot": "show_images! show_attack!",
        "spat_nb.playground": "Playground!",
    },
    "learn": {
        "spat_nb.exercise": "predict!",
    },
}

# Names of PyTorch that a spec may hold; they are no names of spat_nb
BORROWED = {
    "torch.nn": "ReLU LeakyReLU PReLU ELU CELU SELU GELU SiLU Mish Softplus Hardswish Sigmoid Tanh "
    "Identity Linear",
    "torch.optim": "SGD Adam AdamW",
}

MARKS = {"()": "made", "!": "works", ".": "module"}


def _rows(homes):
    "(name, module, kind) of every name, in the order of the table"
    for module, names in homes.items():
        for name in names.split():
            mark = next((m for m in MARKS if name.endswith(m)), "")
            yield name.removesuffix(mark), module, MARKS.get(mark, "")


HOME: dict[str, str] = {}  # name -> module, PyTorch's too
KIND: dict[str, str] = {}  # name -> 'made', 'works', 'module' or ''
NAMES: list[str] = []  # those of spat_nb, by floor
for _homes in FLOORS.values():
    for _name, _module, _kind in _rows(_homes):
        HOME[_name], KIND[_name] = _module, _kind
        NAMES.append(_name)
for _name, _module, _kind in _rows(BORROWED):
    HOME[_name], KIND[_name] = _module, _kind


def nearest(
    name: str,  # that is unknown
    known,  # the names that are known
) -> str:  # "; did you mean 'pgd'?", or ''
    "The end of a sentence about an unknown name"
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def resolve(
    name: str,  # a public name, or one of `BORROWED`
):  # the function, class or module of that name
    "What a public name stands for; its module is imported. AttributeError for an unknown name"
    if name not in HOME:
        end = nearest(name, NAMES) or "; dir(spat_nb) lists those there are."
        raise AttributeError(f"spat_nb has no public name {name!r}{end}", name=name)
    if KIND[name] == "module":
        return importlib.import_module(f"{HOME[name]}.{name}")
    return getattr(importlib.import_module(HOME[name]), name)
