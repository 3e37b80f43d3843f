"""How many passes a search takes: images shown to a network, and gradients taken back through it"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, nn

from spat_nb.core.protocols import AttackFunction, ModelFunction

from ..core.digest import describe

__all__ = ["Meter", "watching", "Metered", "metered"]


@dataclass
class Meter:
    "A tally of passes; one pass of `b` images counts `b`"

    forward: int = 0  # images that went through the network
    backward: int = 0  # images to which a gradient came back; a vectorised backward counts once
    images: int = 0  # images for which all of this was done

    def note(self, z: Tensor, n: int):
        "One forward pass of `n` images gave `z`; its backward pass is noted when it comes"
        self.forward += n
        if isinstance(z, Tensor) and z.requires_grad:
            z.register_hook(lambda gradient: self.note_backward(n))

    def note_backward(self, n: int):
        self.backward += n

    def each(self) -> dict:
        "Passes for one image: forward, backward; with the number of images it is the mean of"
        return {
            "images": self.images,
            "forward": round(self.forward / max(self.images, 1), 4),
            "backward": round(self.backward / max(self.images, 1), 4),
        }

    def as_state(self) -> dict:
        return {"forward": self.forward, "backward": self.backward, "images": self.images}


class _Counted:
    "A callable that tells a meter of its calls; all else it leaves to `model`"

    def __init__(self, model, meter):
        self.model = model
        self.meter = meter

    def __getattr__(self, name):
        if name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    def __call__(self, x):
        z = self.model(x)
        self.meter.note(z, len(x))
        return z


def _is_compiled(model):
    "Does torch.compile run a part of it? A hook would make it compile anew"
    return any(m._compiled_call_impl or "_orig_mod" in m._modules for m in model.modules())


@contextmanager
def watching(
    model: ModelFunction,  # pixels (b,ch,h,w) to logits (b,c); left without a trace
    meter: Meter,  # that is told of every pass
):  # gives what to run
    "Count the passes of `model` for a while. A compiled network is not counted"
    if not isinstance(model, nn.Module):
        yield _Counted(model, meter)
        return
    if _is_compiled(model):
        yield model
        return
    hook = model.register_forward_hook(lambda module, args, z: meter.note(z, len(args[0])))
    try:
        yield model
    finally:
        hook.remove()


class Metered:
    "`attack`, with the passes it takes counted; to all who ask it is the attack itself"

    def __init__(
        self,
        attack: AttackFunction,  # (model, x, y) -> x_adv
        meter: Meter,  # that is told of every pass
    ):
        self.attack = attack
        self.meter = meter

    def __getattr__(self, name):
        if name in ("attack", "meter"):
            raise AttributeError(name)
        return getattr(self.attack, name)

    def __identity__(self):
        return self.attack

    def __repr__(self):
        return describe(self.attack)

    def __call__(self, model, x, y):
        self.meter.images += len(x)
        with watching(model, self.meter) as counted:
            return self.attack(counted, x, y)


def metered(
    attacks: dict,  # name -> attack(model, x, y)
) -> tuple:  # the same, counted; name -> Meter, 'aa/square' for a member of 'aa'
    "Let every attack, and every member of a cascade, count its passes"
    out, meters = {}, {}
    for name, attack in attacks.items():
        if isinstance(getattr(attack, "members", None), dict):
            members = {}
            for member, inner in attack.members.items():
                meters[f"{name}/{member}"] = Meter()
                members[member] = Metered(inner, meters[f"{name}/{member}"])
            out[name] = replace(attack, members=members)
        else:
            meters[name] = Meter()
            out[name] = Metered(attack, meters[name])
    return out, meters
