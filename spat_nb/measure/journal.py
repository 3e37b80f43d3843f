"""What an evaluation writes down while it runs, to go on after a kill"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from ..core.digest import digest
from ..core.files import write_aside
from ..core.identity import difference
from ..core.paths import what_is

__all__ = ["marks_of", "Journal"]


def marks_of(
    x: Tensor,  # (b,...) pixels in [0,1]
) -> list:  # of int, one for each image
    """A number for each image: equal where its pixels are, to 16 bits.

    Devices do not divide by 255 in quite the same way
    """
    grid = (x.detach().float().cpu() * 65535).round().to(torch.int32).contiguous()
    shape = repr(tuple(x.shape[1:])).encode()
    return [
        int.from_bytes(
            hashlib.blake2b(shape + row.tobytes(), digest_size=8).digest(), "big", signed=True
        )
        for row in grid.numpy()
    ]


def _now(old, new):
    return f"({old}, now {new})"


def _other(old, new):
    "What of a journal's key `old` is not as in `new`, in words; '' where all is the same"
    if told := difference(old["model"], new["model"]):
        return f"another model: {told}"
    if list(old["attacks"]) != list(new["attacks"]):
        return "other attacks " + _now(*(", ".join(k["attacks"]) or "none" for k in (old, new)))
    for k, v in new["attacks"].items():
        if told := difference(old["attacks"][k], v):
            return f"another {k}: {told}"
    for k, words in dict(
        seed="another seed",
        precision="another precision",
        classes="other classes",
        batch="other images in a batch",
    ).items():
        a, b = old[k], new[k]
        if a != b and not (k in ("classes", "batch") and None in (a, b)):
            return f"{words} {_now(a, b)}"
    return ""


class Journal:
    """What every finished step gave, in a file that is never half written; without a path nothing
    is kept. ValueError where the file belongs to other things than `key` says
    """

    FORM = 2

    def __init__(
        self,
        path,  # .safetensors file; None: nothing is kept
        key,  # what must be equal to go on: model, data, attacks, seed
        streams=(),  # generators that go on where they were
    ):
        self.path, self.state, self.streams, self.stood = (
            path and Path(path),
            dict(form=self.FORM, key=key, done={}),
            streams,
            None,
        )
        if not path or not self.path.is_file():
            return
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(state["key"], dict) or not isinstance(state["done"], dict):
                raise TypeError("no dict")
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{path} is damaged or no state of an evaluation (it is {what_is(path)}); give"
                " another path."
            ) from None
        if state.get("form") != self.FORM:
            self.refuse(
                f"by {'an earlier' if 'form' not in state else 'another'} version of spat_nb, and"
                " does not say of what its attacks were made"
            )
        now = {
            **json.loads(json.dumps(key)),
            "model": key["model"],
            "attacks": dict(key["attacks"]),
        }
        if told := _other(state["key"], now):
            self.refuse(f"with {told}")
        self.state, self.stood = state, state.get("streams")

    def refuse(self, why):
        raise ValueError(
            f"{self.path} was begun {why}; give another path, or delete it to begin anew."
        )

    def __call__(self, name, tensors, make):
        """What `make()` (JSON values) gave for these tensors (images, labels), today or before the
        kill
        """
        if not self.path:
            return make()
        mark, done = [digest(t) for t in tensors], self.state["done"]
        if name in done:
            for word, a, b in zip(("images", "labels"), done[name][0], mark):
                if a != b:
                    self.refuse(f"with other {word} (they differ at {name})")
            return done[name][1]
        for g, s in zip(self.streams, self.stood or ()):
            g.set_state(torch.tensor(list(base64.b64decode(s)), dtype=torch.uint8))
        # an attack's own generator goes on from where it stood
        self.stood = None
        done[name] = [mark, make()]
        self.state["streams"] = [
            base64.b64encode(bytes(g.get_state().tolist())).decode() for g in self.streams
        ]
        with write_aside(self.path) as part:
            part.write_text(json.dumps(self.state), encoding="utf-8")
        return done[name][1]
