"""The public names of spat_nb, in one table; whoever reads it has imported nothing else

A name that is not here may move without notice. Written by hand: no notebook makes it.
"""

from __future__ import annotations

import importlib

# floor -> module -> its public names. How a name may stand in a spec (see spat_nb.core.spec):
#   name     it is named, or given arguments by keyword; whoever uses it calls it
#   name()   a call that has all its arguments is made at once: a ball, a loss with numbers
#   name!    it works, measures, or touches files: it can be named, but not be given arguments
#   name.    a module
FLOORS = {
    "core": {
        "spat_nb.core": "spec.",
        "spat_nb.core.settings": "settings! default_device!",
        "spat_nb.core.rng": "seed_everything!",
        "spat_nb.core.evalmode": "eval_mode!",
        "spat_nb.core.protocols": "LossFunction! AttackFunction! ObjectiveFunction! ModelFunction!",
        "spat_nb.core.pictures": "show_images! show_attack!",
    },
    "data": {
        "spat_nb.data.sources": "get_data! Data!",
        "spat_nb.data.draws": "crop_flip()",
        "spat_nb.data.batches": "Batches!",
        "spat_nb.data.pairs": "in_memory!",
        "spat_nb.data.streams": "resized_crop()",
        "spat_nb.data.corruptions": "corrupted!",
    },
    "models": {
        "spat_nb.models.networks": "SmallCNN PreActResNet10 PreActResNet18 PreActResNet34 "
        "WideResNet",
        "spat_nb.models.layers": "Normalize",
        "spat_nb.models.saving": "save! load! model_info!",
        "spat_nb.models.adapters": "adapt!",
        "spat_nb.models.inputs": "StraightThrough!",
        "spat_nb.models.state": "load_weights!",
    },
    "attacks": {
        "spat_nb.attacks.threat": "Ball!",
        "spat_nb.attacks.balls": "Linf() L2() L1()",
        "spat_nb.attacks.sparse": "L0() Patch()",
        "spat_nb.attacks.union": "Union() each()",
        "spat_nb.attacks.pixels": "pixel_search()",
        "spat_nb.attacks.families": "Rotation() Shift() Colour() Smooth()",
        "spat_nb.attacks.parametric": "parametric()",
        "spat_nb.attacks.losses": "ce margin dlr dlr_or_margin kl",
        "spat_nb.attacks.wrapped": "targeted() tempered() smoothed() dlr_targeted margin_targeted",
        "spat_nb.attacks.attack": "Attack() fgsm() pgd()",
        "spat_nb.attacks.ascent": "at_x uniform gaussian() steepest",
        "spat_nb.attacks.recorder": "Recorder!",
        "spat_nb.attacks.steps": "mim() apgd() momentum adaptive rim",
        "spat_nb.attacks.targets": "apgd_t() Targeted()",
        "spat_nb.attacks.minimal": "deepfool() cw() fab()",
        "spat_nb.attacks.minimal_steps": "ddn() fmn() alma()",
        "spat_nb.attacks.nearest": "within() norms! robust_curve!",
        "spat_nb.attacks.oracle": "BlackBox()",
        "spat_nb.attacks.square": "square()",
        "spat_nb.attacks.spsa": "spsa()",
        "spat_nb.attacks.rays": "rays()",
        "spat_nb.attacks.autoattack": "autoattack()",
        "spat_nb.attacks.lean": "lean()",
        "spat_nb.attacks.cascade": "Cascade()",
        "spat_nb.attacks.certify": "certify! certified_radius! certified_margins!",
    },
    "measure": {
        "spat_nb.measure.evaluate": "evaluate!",
        "spat_nb.measure.judge": "judge!",
        "spat_nb.measure.report": "Report!",
        "spat_nb.measure.record": "Record!",
        "spat_nb.measure.sweep": "sweep!",
        "spat_nb.measure.intervals": "wilson!",
        "spat_nb.measure.versus": "paired!",
        "spat_nb.measure.anytime": "Anytime!",
        "spat_nb.measure.loading": "check_loading!",
        "spat_nb.measure.against": "against_baseline!",
        "spat_nb.measure.cases": "worst_cases!",
        "spat_nb.measure.trust": "trust!",
        "spat_nb.measure.card": "Card!",
        "spat_nb.measure.followup": "follow_up!",
        "spat_nb.measure.adaptive": "thorough!",
        "spat_nb.measure.uncut": "uncut!",
        "spat_nb.measure.standins": "fitted! averaged!",
        "spat_nb.measure.forgetful": "forgetful!",
        "spat_nb.measure.smoothing": "Smoothed!",
    },
    "training": {
        "spat_nb.training.learner": "Learner!",
        "spat_nb.training.events": "Callback!",
        "spat_nb.training.schedule": "sgd one_cycle",
        "spat_nb.training.callbacks": "Validate Best() EarlyStop()",
        "spat_nb.training.progress_bar": "Progress()",
        "spat_nb.training.checkpoint": "Checkpoint!",
        "spat_nb.training.trackers": "Tracker!",
        "spat_nb.training.objectives": "standard pgd_at trades alp mart boosted",
        "spat_nb.training.fast": "Replay! Free() fgsm_rs() Sentry",
        "spat_nb.training.tricks": "awp() in_train()",
        "spat_nb.training.averages": "EMA()",
        "spat_nb.training.flips": "AlternatingFlips()",
        "spat_nb.training.muon": "muon",
        "spat_nb.training.staged": "noisy() n_fgsm() Staged",
        "spat_nb.training.onestep": "zeroed() zerograd() coins() grad_align NuAT",
        "spat_nb.training.certified": "IBP() CrownIBP() gaussian_noise",
        "spat_nb.training.devices": "many!",
        "spat_nb.training.recipe": "Recipe!",
        "spat_nb.training.methods": "method!",
        "spat_nb.training.run": "train!",
        "spat_nb.training.rundir": "open_run!",
    },
    "classwise": {
        "spat_nb.classwise.diagnosis": "diagnose!",
        "spat_nb.classwise.temperature": "temperature_pgd() safe_ce",
        "spat_nb.classwise.fairness": "CFA() CFATrades() DAFA()",
        "spat_nb.classwise.minmax": "WAT FRL CFOL",
        "spat_nb.classwise.faal": "faal",
        "spat_nb.classwise.averages": "FAWA",
        "spat_nb.classwise.radii": "T1",
    },
    "papers": {
        "spat_nb.papers.spat": "spat preserving() blurred()",
        "spat_nb.papers.spat_shared": "spat_shared",
        "spat_nb.papers.spat_meaning": "at_strength",
        "spat_nb.papers.hypersphere": "Hypersphere margin_ce()",
        "spat_nb.papers.prototypes": "Prototypes pull pull_cos",
        "spat_nb.papers.points": "simplex repulsive hyperspherical",
        "spat_nb.papers.activations": "SmoothReLU PSSiLU FReLU DYReLU",
        "spat_nb.papers.sparta": "Sparta PooledSparta",
        "spat_nb.papers.arks": "arks()",
        "spat_nb.papers.rpg": "privacy!",
        "spat_nb.papers.transfer": "head_only lwf()",
        "spat_nb.papers.noise": "ColouredNoise",
        "spat_nb.papers.latent": "LatentAT()",
        "spat_nb.papers.apart": "APART",
        "spat_nb.papers.jeat": "energy langevin()",
        "spat_nb.papers.mlcat": "between() mlcat()",
    },
    "studies": {
        "spat_nb.studies.study": "Study! Arm!",
        "spat_nb.studies.leaderboard": "leaderboard!",
        "spat_nb.studies.reading": "read!",
    },
    "app": {
        "spat_nb.app": "zoo.",
        "spat_nb.app.playground": "Playground!",
        "spat_nb.app.report_page": "write_report!",
    },
    "learn": {
        "spat_nb.learn.exercise": "predict!",
        "spat_nb.learn.attack_judge": "check_attack!",
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
    likeness: float = 0.6,  # in [0,1]: how near a name must be
) -> str:  # "; did you mean 'pgd'?", or ''
    "The end of a sentence about an unknown name"
    import difflib

    close = difflib.get_close_matches(name, list(known), 1, likeness)
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
