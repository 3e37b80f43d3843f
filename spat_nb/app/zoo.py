"""Small trained networks that come with the package, each with a card that says where it comes from
and what it withstands
"""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path

from ..core.settings import default_device
from ..measure.intervals import wilson
from ..models.saving import load as read

WEIGHTS = Path(__file__).parents[1] / "weights"


def sha256_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# ---- what a user calls


def names() -> list:
    "The networks that are shipped, in the order of the alphabet"
    return sorted(
        p.relative_to(WEIGHTS).with_suffix("").as_posix() for p in WEIGHTS.glob("*/*/*.safetensors")
    )


def file_of(name, ending=".safetensors"):
    if name in names():
        return WEIGHTS / f"{name}{ending}"
    raise ValueError(
        f"there is no shipped network {name!r}; there are {', '.join(names()) or 'none yet'}."
    )


def path(name) -> Path:
    """The weights of a network, after a look whether they are those of its card.

    ValueError for an unknown name, or where the file was changed
    """
    file, said = file_of(name), card(name)["sha256"]
    if (is_ := sha256_of(file)) != said:
        raise ValueError(
            f"{file} has the SHA-256 {is_}, but its card says {said}: it was changed or cut short;"
            " install spat_nb again."
        )
    return file


def load(name, device=None):
    """The network `name`, in float32 and eval mode: load('digits/pgd_at/w16').

    ValueError for an unknown name, or where the file was changed
    """
    return read(path(name)).float().to(default_device(device))


class Card(dict):
    "What is known of a shipped network; prints as text"

    # right answers as a share, ends of the Wilson interval, images
    def accuracy(self, attack="clean") -> tuple:
        v = self["accuracy"][attack]
        return v["correct"] / v["n"], *wilson(v["correct"], v["n"]), v["n"]

    def weakest(self, attack="aa") -> tuple:  # name, share of right answers, images
        "The class that is answered worst; the first of equals"
        v = self["accuracy"][attack]
        a, n, k = min(
            (c / n, n, k) for c, n, k in zip(v["class_correct"], v["class_n"], self["classes"]) if n
        )
        return k, a, n

    def __repr__(self):
        def row(k):
            return "{}: {:.1%} [{:.1%}, {:.1%}], n = {}; weakest class {} {:.1%} of {}".format(
                k, *self.accuracy(k), *self.weakest(k)
            )

        s, t, c = self["source"], self["trained"], self["recipe"]
        told = ", ".join(f"{k} {v}" for k, v in c["recipe"].items() if k not in ("data", "ball"))
        if "train" in c:
            told = f"{c['train']}; {told}"
        if "finish" in c["judge"]:
            told = f"{told}; then {c['judge']['finish']}"
        lines = [
            (
                f"{self['name']}: {self['model']['name']}, {self['parameters']:,} parameters,"
                f" {self['bytes'] / 1e3:.0f} kB in float16"
            ),
            (
                f"data {self['data']}, {c['recipe']['ball']}; row {s['arm']!r} of the study"
                f" {s['study']!r} at size {s['size']!r}, seed {s['seed']}"
            ),
            *map(row, (k for k in self["accuracy"] if "/" not in k)),
            f"in float16, on {self['shipped']['n']} of these images: "
            + ", ".join(
                f"{k} {v['correct'] / v['n']:.1%} (in float32 {v['float32'] / v['n']:.1%})"
                for k, v in self["shipped"]["accuracy"].items()
            ),
            f"trust card, {self['trust']['n']} images:"
            f" {', '.join(self['trust']['flags']) or 'no flags'}"
            + "".join(f"; {k}" for k in self["notes"]),
            f"recipe: {told}; trained in {t['seconds']:.0f} s on {t['device']}, torch {t['torch']}",
            f"from {s['results']}, commit {s['commit']}; SHA-256 {self['sha256']}",
            self["limits"],
        ]
        return "\n".join(textwrap.fill(v, 118, subsequent_indent="  ") for v in lines)


def card(name) -> Card:
    "The card of the network `name`. ValueError for an unknown name"
    return Card(json.loads(file_of(name, ".json").read_text(encoding="utf-8")))


def table():  # pandas.DataFrame, a row per network
    "All shipped networks: accuracies in percent, images under AutoAttack, flags of the trust card"
    import pandas as pd

    def row(c):
        def at(k):
            return round(100 * c.accuracy(k)[0], 1) if k in c["accuracy"] else None

        worst = c.weakest("aa") if "aa" in c["accuracy"] else None
        return {
            "clean": at("clean"),
            "pgd20": at("pgd20"),
            "aa": at("aa"),
            "worst class, aa": f"{worst[0]} {100 * worst[1]:.0f}" if worst else "",
            "n, aa": c["accuracy"].get("aa", {}).get("n"),
            "parameters": c["parameters"],
            "kB": round(c["bytes"] / 1e3),
            "flags": ", ".join(c["trust"]["flags"]),
        }

    return pd.DataFrame({n: row(card(n)) for n in names()}).T.rename_axis("network")
