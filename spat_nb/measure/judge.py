"""Judge a network: one battery of attacks, one report"""

from __future__ import annotations

import platform

import torch
from torch import nn

from spat_nb.core.protocols import ModelFunction

from .. import __version__
from ..attacks.threat import Ball, a_ball
from ..core import spec
from ..core.evalmode import device_of
from ..core.machine import device_name
from ..core.settings import default_device
from ..data.draws import pick
from ..data.items import from_dataset, is_dataset
from ..data.pairs import is_pair
from .battery import STANDARD, chosen_attacks
from .evaluate import evaluate
from .followup import follow_up
from .metering import metered
from .proved import check_provable, prove
from .report import Report
from .stopping import judged_until
from .told import images_told, network_told
from .trust import trust as trust_card

__all__ = ["judge"]


def _check_trust(data, ball):
    "Refuse what the trust gates cannot look at, before anything has run"
    if ball.eps == 0:
        raise ValueError(
            "trust asks whether a robust accuracy is real, which needs a radius above 0; "
            "give another ball."
        )
    if not hasattr(data, "subset") and not is_pair(data):
        raise TypeError(
            f"data is a {type(data).__name__}, of which trust can take no part; "
            "give Batches, which in_memory(data) makes of it, or tensors (x, y)."
        )


def _part(data, n):
    "`n` images of the data, as many of each class as can be; all where `n` is None"
    if n is None:
        return data
    if hasattr(data, "subset"):
        if n > data.n:
            raise ValueError(f"n is {n}, but there are {data.n} images; leave it out to take all.")
        return data.subset(n)
    if is_pair(data):
        x, y = data
        if n > len(y):
            raise ValueError(f"n is {n}, but there are {len(y)} images; leave it out to take all.")
        chosen = pick(y, n).to(x.device)
        return x[chosen], y[chosen]
    raise TypeError(f"data is a {type(data).__name__}, of which no part can be taken; leave out n.")


def _bound(certify, model, data, ball):
    "By which bound to prove, refused here where it cannot; '' where nothing is to be proved"
    bound = "crown" if certify is True else certify or ""
    if bound:
        check_provable(model, data, ball, bound)
    return bound


def _card(model, data, ball, notes, given):
    "The trust card, with what else the reader should know"
    card = trust_card(model, data, ball, **given)
    if notes:
        card.info["notes"] = list(notes)
    return card


def _shape(data):
    "(ch,h,w) of an image; None where nobody knows before it comes"
    if is_pair(data):
        return tuple(data[0].shape[1:])
    return getattr(data, "shape", None)


def judge(
    model: ModelFunction,  # pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data,  # `Batches`, a Dataset, a DataLoader, tensors (x, y), or what yields such batches
    ball: Ball | str,  # threat model, or its spec: 'L2(0.5)'
    attacks=STANDARD,  # see `named_attacks`; pgd without lr= steps by a quarter of the radius
    trust: bool
    | dict = False,  # also ask whether the number is real; a dict is more for `trust`: n, cost, ...
    follow: bool = False,  # and run the attacks that the flags of the card call for; implies trust
    certify: bool
    | str
    | None = False,  # also prove what no attack can cross; a bound of `certify`, CROWN
    device=None,  # where the network is judged; default: where it is
    resume=None,  # file that keeps what is done: a judgement that was killed goes on from it
    # how the network runs while it is attacked; default: the reader's setting
    precision: str | None = None,
    n: int | None = None,  # so many images, balanced by class; default: all
    # in random order, until the 95% interval of the hardest row reaches so far to each side
    within: float | None = None,
    budget: float | None = None,  # in random order, until so many seconds are over
    seed: int = 0,  # of random starts
    progress: bool = True,  # show a bar
    name: str = "",  # of the network, for the report; default: its make
    source: str = "",  # of the images, for the report: 'digits, test'
    devices=None,  # `devices.many()`: this process is one of many, each judges its share
    outside: bool = False,  # may texts name what is not ours? Only where a person typed them
    notes=(),  # what else the reader should know, sentences: how the network was opened
) -> Report:
    """Attack the network, count what stands, and say whether the number can be trusted.

    ValueError or TypeError in one sentence where network, data, ball and attacks do not fit

    Parameters
    ----------
    model : ModelFunction
        pixels (b,ch,h,w) in [0,1] to logits (b,c)
    data
        `Batches`, a Dataset, a DataLoader, tensors (x, y), or what yields such batches
    ball : Ball | str
        threat model, or its spec: 'L2(0.5)'
    attacks
        see `named_attacks`; pgd without lr= steps by a quarter of the radius (default: STANDARD)
    trust : bool | dict
        also ask whether the number is real; a dict is more for `trust`: n, cost, ... (default:
        False)
    follow : bool
        and run the attacks that the flags of the card call for; implies trust (default: False)
    certify : bool | str | None
        also prove what no attack can cross; a bound of `certify`, CROWN (default: False)
    device
        where the network is judged; default: where it is
    resume
        file that keeps what is done: a judgement that was killed goes on from it (default: None)
    precision : str | None
        how the network runs while it is attacked; default: the reader's setting
    n : int | None
        so many images, balanced by class; default: all
    within : float | None
        in random order, until the 95% interval of the hardest row reaches so far to each side
        (default: None)
    budget : float | None
        in random order, until so many seconds are over (default: None)
    seed : int
        of random starts (default: 0)
    progress : bool
        show a bar (default: True)
    name : str
        of the network, for the report; default: its make
    source : str
        of the images, for the report: 'digits, test' (default: "")
    devices
        `devices.many()`: this process is one of many, each judges its share (default: None)
    outside : bool
        may texts name what is not ours? Only where a person typed them (default: False)
    notes
        what else the reader should know, sentences: how the network was opened (default: ())

    Returns
    -------
    Report

    Raises
    ------
    ValueError or TypeError
        in one sentence where network, data, ball and attacks do not fit

    Examples
    --------
    >>> from spat_nb import Linf, SmallCNN, get_data, judge
    >>> test = get_data("digits").test.subset(50)
    >>> model = SmallCNN(channels=1).to(test.x.device)
    >>> report = judge(model, test, Linf(0.1), attacks="fgsm, pgd(steps=3)")
    >>> report.attacks["fgsm"], report.hardest
    ('fgsm', 'worst')
    """
    ball = a_ball(spec.make(ball, outside=outside) if isinstance(ball, str) else ball)
    if is_dataset(data):
        data = from_dataset(data)
    trust = trust or follow
    if trust:
        _check_trust(data, ball)
    if device is not None and isinstance(model, nn.Module):
        model = model.to(default_device(device))
    chosen = chosen_attacks(attacks, ball, outside)
    made = {k: attack for k, (attack, _) in chosen.items()}
    counted, meters = metered(made)
    data = _part(data, n)
    bound = _bound(certify, model, data, ball)
    run = devices.evaluate if devices is not None else evaluate
    progress = progress and (devices is None or devices.first)

    def judge_images(images, seed, resume):
        return run(model, images, precision, seed=seed, resume=resume, progress=progress, **counted)

    record, stopped = judged_until(judge_images, data, within, budget, seed, resume)
    if notes:
        record.info["notes"] = [*notes, *record.notes]
    card = followed = proved = None
    if trust:
        more = trust if isinstance(trust, dict) else {}
        given = {"progress": progress, "seed": seed, "judged": record, **more}
        card = _card(model, data, ball, notes, given)
    if follow and card is not None:
        followed = follow_up(card, progress=progress)
    if bound:
        proved = prove(model, data, record, ball, bound, stopped is not None, progress)
    return Report(
        record=record,
        ball=spec.text(ball),
        network=network_told(model, name),
        data=images_told(len(record.y), len(record.classes), _shape(data), source),
        device=device_name(device_of(model)),
        threads=torch.get_num_threads(),
        attacks={k: told for k, (_, told) in chosen.items()},
        card=card,
        follow=followed,
        proved=proved,
        stopped=stopped,
        passes=_passes(made, meters),
        made={
            "spat_nb": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": seed,
        },
    )


def _passes(attacks, meters):
    """attack -> passes for each image it was run on; of a cascade the members'

    What a journal gave back was not counted
    """
    out = {k: m.each() for k, m in meters.items() if m.images}
    for name, attack in attacks.items():
        if name in meters:
            continue
        members = [meters[f"{name}/{m}"] for m in attack.members]
        first = members[0].images
        if first:
            out[name] = {
                "images": first,
                "forward": round(sum(m.forward for m in members) / first, 4),
                "backward": round(sum(m.backward for m in members) / first, 4),
            }
    return out
