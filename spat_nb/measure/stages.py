"""Attacks on batches of survivors: what one stage of an evaluation does, and what is left to do"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spat_nb.attacks.threat import Ball

from ..core.checks import check_images, check_logits
from ..core.protocols import AttackFunction, ModelFunction
from ..core.tensors import logits
from ..data.draws import rng

__all__ = ["stream_for", "logits_of", "attacked", "Stage", "stages_of", "passes_of", "outlook"]


@contextmanager
def stream_for(
    device,  # whose stream it is, beside the CPU's
    seed,  # None leaves the streams alone
    *key,  # what else tells this stream from others
):
    """torch's random streams, seeded by all these for a while; then as they were. A seed of None
    leaves them alone
    """
    if seed is None:
        yield
        return
    s, cuda = rng(seed, *key).initial_seed(), [device] if device.type == "cuda" else []
    # forks and seeds this device alone
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(s)
        for d in cuda:
            torch.cuda.default_generators[d.index].manual_seed(s)
        if device.type == "mps":
            torch.mps.manual_seed(s)
        yield


def logits_of(
    model: ModelFunction,  # pixels to logits
    x: Tensor,  # (b,...) pixels in [0,1]
    classes: tuple = (),  # names; (): not known
) -> Tensor:  # (b,c) logits
    "Logits without a graph. ValueError where they are none, or not as many as the data has classes"
    with torch.no_grad():
        z = check_logits(logits(model, x), len(x))
    if classes and z.shape[1] != len(classes):
        raise ValueError(
            f"the model returns {z.shape[1]} classes but the data has {len(classes)}; build it with"
            f" classes={len(classes)}."
        )
    return z


def attacked(
    name: str,  # for sentences
    attack: AttackFunction,  # that is run
    ball,  # where it must stay; None: anywhere
    model: ModelFunction,  # whose answers count
    net: ModelFunction,  # the same, in a faster way of running
    x: Tensor,  # (b,...) clean images
    y: Tensor,  # (b,) labels
) -> Tensor:  # (b,) answers
    """(b,) answers of `model` to images that were attacked through `net`, after a check that the
    attack kept to the rules
    """
    x_adv = attack(net, x.clone(), y.clone())
    if isinstance(x_adv, Tensor) and (lost := ~x_adv.isfinite().flatten(1).all(1)).any():
        raise ValueError(
            f"attack {name!r} returned no images: NaN or infinity in {int(lost.sum())} of {len(x)}"
            " images; look at its step, and at the gradients that it follows."
        )
    try:
        check_images(x_adv)
    except (TypeError, ValueError) as e:
        raise type(e)(f"attack {name!r} returned no images: {e}") from None
    if x_adv.shape != x.shape:
        raise ValueError(
            f"attack {name!r} returned shape {tuple(x_adv.shape)} for images of {tuple(x.shape)}."
        )
    if ball and not ball.inside(x_adv, x).all():
        raise ValueError(
            f"attack {name!r} left its ball: displacement {ball.norm(x_adv - x).max():.6g}, eps"
            f" {ball.eps:.6g}."
        )
    try:
        p = logits_of(model, x_adv).argmax(1)
    except ValueError as e:
        raise ValueError(f"the images of attack {name!r}: {e}") from None
    if net is model or not (again := (p == y) & (logits_of(net, x_adv).argmax(1) != y)).any():
        return p
    # rounding has misled the search: once more, without it
    p[again] = attacked(name, attack, ball, model, model, x[again], y[again])
    return p


@dataclass(eq=False)
class Stage:
    "One attack of an evaluation, the images that wait for it, and what it has done so far"

    name: str
    attack: AttackFunction | None = None  # None: the images are answered as they are
    ball: Ball | None = None  # where the attack must stay
    before: str | None = None  # the stage whose survivors come here
    held: list = field(default_factory=list)  # pieces (rows, x, y) in line
    runs: int = 0  # batches done
    n: int = 0  # images done
    stood: int = 0  # of these, answered right
    seconds: float = 0.0

    @property
    def waiting(self):
        return sum(len(rows) for rows, *_ in self.held)

    def take(self, size):
        "The first `size` images in line"
        line = [torch.cat(t) for t in zip(*self.held)]
        self.held = [tuple(t[size:] for t in line)] if len(line[0]) > size else []
        return [t[:size] for t in line]


def stages_of(
    attacks: dict,  # name -> attack
) -> dict:
    """name -> Stage in an order in which each stands behind the one before it; the members of a
    cascade form a row
    """
    stages = {"clean": Stage("clean")}
    for k, a in attacks.items():
        before = "clean"
        for name, m in (
            [(f"{k}/{j}", m) for j, m in a.members.items()]
            if isinstance(getattr(a, "members", None), dict)
            else [(k, a)]
        ):
            stages[name] = Stage(
                name, m, getattr(a, "ball", None) or getattr(m, "ball", None), before
            )
            before = name
    return stages


def passes_of(attack):
    """Forward and backward passes that an attack takes for an image, at most and roughly: a pass
    without a gradient is a third of one. None where it does not say
    """
    told = getattr(attack, "__dict__", {})
    if attack is None:
        return 1 / 3
    inner = told.get("attack")
    if inner is not None:
        passes = passes_of(inner)
    elif isinstance(told.get("queries"), int):
        passes = told["queries"] / 3
    else:
        passes = told.get("steps")
    if not isinstance(passes, (int, float)):
        return None
    for times in ("restarts", "targets", "eot"):
        if isinstance(told.get(times), int):
            passes *= told[times]
    return passes


def _pace(stages):
    "Seconds of a pass, over all stages that have run and say how many they take"
    ran = [(s, passes_of(s.attack)) for s in stages.values() if s.n]
    passes = sum(s.n * p for s, p in ran if p)
    return sum(s.seconds for s, p in ran if p) / passes if passes else None


def outlook(
    stages: dict,  # as `stages_of` gives them
    n: int,  # images in all
) -> tuple:
    """Of `n` images: accuracies so far (who waits still stands), the share of (image, attack) pairs
    that are settled, the seconds left, and how well these are known: '' where every stage has run,
    'about ' where one has not and its passes say what it will take, else 'more than '
    """
    first = stages["clean"]
    pace = _pace(stages)
    alive: dict[str, int] = {}
    todo: dict[str, float] = {}
    open_: dict[str, int] = {}
    left = 0.0
    known = ""
    for s in stages.values():
        alive[s.name] = s.stood if s is first else alive[s.before] - (s.n - s.stood)
        todo[s.name] = (
            n - s.n
            if s is first
            else s.waiting + todo[s.before] * stages[s.before].stood / max(stages[s.before].n, 1)
        )
        open_[s.name] = n - s.n if s is first else open_[s.before] + s.waiting
        each = s.seconds / max(s.n, 1)
        # what a stage costs that never ran, its passes say
        if not s.n and todo[s.name]:
            passes = passes_of(s.attack)
            told = pace is not None and passes is not None
            each = pace * passes if told else 0.0
            known = known if known == "more than " else "about " if told else "more than "
        left += todo[s.name] * each
    return (
        {k: v / max(first.n, 1) for k, v in alive.items()},
        1 - sum(open_.values()) / max(n * len(stages), 1),
        left,
        known,
    )
