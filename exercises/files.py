"""Exercises of the lesson on files"""

import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from spat_nb.core.files import write_aside
from spat_nb.learn.exercise import Exercise

# ---- 2. read a header by hand


def header(raw):
    n = int.from_bytes(raw[:8], "little")
    return sorted(k for k in json.loads(raw[8 : 8 + n]) if k != "__metadata__")


def with_the_metadata(raw):
    return sorted(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")]))


def header_cases():
    from safetensors.torch import save

    two = {"w": torch.ones(3), "b": torch.zeros(2, 2)}
    many = {f"layer{i}.weight": torch.ones(i + 1) for i in range(12, 0, -1)}
    return [save(two, {"note": "x"}), save(many), save({"only": torch.ones(1)}, {"a": "b" * 300})]


# ---- 3. count the numbers of a tree


def count(tree):
    if isinstance(tree, Tensor):
        return tree.numel()
    if isinstance(tree, dict):
        tree = list(tree.values())
    return sum(map(count, tree)) if isinstance(tree, (list, tuple)) else 0


def of_one_level(tree):
    return sum(v.numel() for v in tree if isinstance(v, Tensor))


def trees():
    t = torch.ones
    return [
        ({"a": t(2, 3), "b": [t(4), {"c": torch.tensor(1.0)}, "text", 5]},),
        (t(3),),
        ([],),
        ({"s": {0: {"m": torch.empty(0)}}, "n": None},),
        ((t(2), [[t(1, 5)]]),),
    ]


# ---- 4. append a line to a file that is never half written


def append(path, line):
    so_far = path.read_text() if path.exists() else ""
    with write_aside(path) as part:
        part.write_text(so_far + line + "\n")


def forgetful(path, line):
    with write_aside(path) as part:
        part.write_text(line + "\n")


def in_place(path, line):
    with open(path, "a") as f:
        f.write(line + "\n")


def appends_safely(fn):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.txt"
        for i, line in enumerate(["epoch 1", "", "epoch 2"], 1):
            before = path.stat().st_ino if path.exists() else None
            fn(path, line)
            if not path.exists():
                return "there is no file afterwards."
            lines = path.read_text().split("\n")
            if lines != ["epoch 1", "", "epoch 2"][:i] + [""]:
                return f"after {i} lines the file holds {path.read_text()!r}."
            if path.stat().st_ino == before:
                return "the old file was written to in place; a kill would leave half a line."
    return ""


EXERCISES = {
    "files 2": Exercise(
        reference=header,
        cases=header_cases,
        wrong=[with_the_metadata],
        hints=(
            "The first 8 bytes are a number n, lowest byte first; the next n bytes are the table.",
            "The table is a dict in JSON. Its keys are the names, but for one that is no tensor.",
        ),
    ),
    "files 3": Exercise(
        reference=count,
        cases=trees,
        wrong=[of_one_level],
        hints=(
            "There are three kinds of tree: a tensor, something with parts, and a leaf that is no"
            " tensor.",
            "What has parts holds the sum of what its parts hold; a dict keeps its parts in"
            " values().",
        ),
    ),
    "files 4": Exercise(
        check=appends_safely,
        solution=append,
        wrong=[forgetful, in_place],
        hints=(
            "The temporary file is empty: what the file held must be written again.",
            "Read the old text first, where there is one; then write it and the new line inside one"
            " `with` block.",
        ),
    ),
}
