"""Networks that come as programs: exported by torch, TorchScript, ONNX

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from .library import first_line
from .pieces import content_hash, fixed_batch

__all__ = ["ENDINGS", "Fixed", "Program", "is_program", "open_program"]

ENDINGS = (".pt2", ".onnx", ".ts", ".torchscript")


@dataclass
class Program:
    "A network that came as a program"

    model: nn.Module  # pixels, or what else it takes, to what it returns
    kind: str  # what it is, in words
    notes: list = field(default_factory=list)  # sentences


def is_program(
    path,  # as it was typed
) -> bool:
    "Does the name of a file end as that of a program?"
    return str(path).lower().endswith(ENDINGS)


def open_program(
    path,  # .pt2, .onnx, or a TorchScript archive
    x: Tensor,  # (b,...) some of what it takes, to try it on
) -> Program:
    "The program of a file. FileNotFoundError, ImportError, or ValueError in one sentence"
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path of the network.")
    kind = path.suffix.lower()
    read = {".pt2": _exported, ".onnx": _onnx}.get(kind, _script)
    return read(path, x)


# ---- torch.export


class Fixed(nn.Module):
    "A program that was given its mode when it was exported: train and eval leave it alone"

    def __init__(
        self,
        model: nn.Module,  # the program
        sha256: str,  # of its file
    ):
        super().__init__()
        self.model = model
        self.sha256 = sha256
        self.training = False

    def __identity__(self):
        "Its file and its weights: what torch keeps beside them is another in every process"
        return {"file": self.sha256, "weights": dict(self.model.state_dict())}

    def train(self, mode: bool = True):
        return self

    def forward(self, x):
        return self.model(x)


def _refuse_pickles(path):
    "ValueError where an exported program holds a pickle that could run code"
    with zipfile.ZipFile(path) as z:
        names = z.namelist()
        _refuse_others(path, names)
        for name in names:
            if name.endswith(".pt"):
                _weights_only(path, name, z.read(name))
            if name.endswith("_config.json"):
                _refuse_objects(path, name, z)


OLD = ("serialized_state_dict.json", "serialized_constants.json")  # pickles, despite their names


def _refuse_others(path, names):
    "ValueError where an archive holds machine code, a name twice, or the pickles of old versions"
    if any("aotinductor" in n for n in names):
        raise ValueError(
            f"{path} holds compiled machine code, which is not run here; export the network with "
            "torch.export.save."
        )
    if len({*names}) < len(names) or {*OLD} & {*names}:
        raise ValueError(
            f"{path} is no archive that torch.export.save writes today; export the network again."
        )


def _refuse_objects(path, name, z):
    "The same of what a table of weights or constants lists"
    for row in json.loads(z.read(name)).get("config", {}).values():
        piece = f"{name.rpartition('/')[0]}/{row['path_name']}"
        is_tensor = row["path_name"].startswith(("weight_", "tensor_"))
        if row.get("use_pickle") or not is_tensor:
            _weights_only(path, piece, z.read(piece))


def _weights_only(path, name, content):
    "ValueError where a piece of a file is no plain tensor"
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise ValueError(
            f"{path} holds an object beside tensors ({name}), and reading that could run code; "
            "export the network without it."
        ) from None


def _exported(path, x):
    "What torch.export.save wrote"
    try:
        _refuse_pickles(path)
        exported = torch.export.load(path)
        model = exported.module()
    except ValueError as e:
        if str(e).startswith(str(path)):
            raise
        raise _unreadable(path, "exported program", e) from None
    except Exception as e:
        raise _unreadable(path, "exported program", e) from None
    known = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    inputs = [known[k] for k in exported.graph_signature.user_inputs if k in known]
    sizes = [n.meta["val"].shape for n in inputs if isinstance(n.meta.get("val"), Tensor)]
    batch = sizes[0][0] if sizes and isinstance(sizes[0][0], int) else None
    return _pieced(
        Program(Fixed(model, content_hash(path)), "a program that torch.export wrote"), x, batch
    )


def _unreadable(path, kind, e):
    return ValueError(f"{path} is no readable {kind} ({first_line(e)}); export it again.")


def _pieced(program, x, batch):
    "The program, fed in pieces where it takes batches of one size alone"
    model, note = fixed_batch(program.model, x, batch)
    return Program(model, program.kind, [*program.notes, *([note] if note else [])])


# ---- TorchScript


def _script(path, x):
    "What torch.jit.save wrote. Its code runs in TorchScript's interpreter, which is not Python"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, and files of it are still there
            model = torch.jit.load(path, map_location="cpu")
    except RuntimeError as e:
        raise _unreadable(path, "TorchScript program", e) from None
    return _pieced(Program(model, "a TorchScript program"), x, None)


# ---- ONNX


def _onnx(path, x):
    "An ONNX file: as layers of torch where it converts, so that it has gradients; else as it is"
    from .onnx_files import converted, session

    model, why, batch = converted(path, x)
    if model is not None:
        kind = "an ONNX file, converted to layers of torch"
        return _pieced(Program(model, kind), x, batch)
    note = f"gradient: {Path(path).name} runs in onnxruntime, since {why}."
    program = Program(session(path), "an ONNX file in onnxruntime", [note])
    return _pieced(program, x, batch)
