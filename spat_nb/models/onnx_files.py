"""ONNX files: as layers of torch, or in onnxruntime

Written by hand: no notebook makes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .pieces import content_hash

__all__ = ["converted", "session", "Session"]

INSTALL = 'run: pip install "spat_nb[onnx]"'
# versions of ONNX's operators that converters know, tried where that of a file is too new
VERSIONS = (17, 13)
NEAR = 1e-3  # largest difference of two logits, over the largest logit


def _why(e):
    return (str(e).strip().splitlines() or [type(e).__name__])[0].rstrip(". ")[:120]


def _read(path):
    "The graph of a file. ImportError or ValueError in one sentence"
    try:
        import onnx
    except ImportError:
        raise ImportError(f"{path} needs onnx, which is not installed; {INSTALL}.") from None
    try:
        graph = onnx.load(str(path))
        onnx.checker.check_model(graph)
        return graph
    except Exception as e:
        raise ValueError(f"{path} is no readable ONNX file ({_why(e)}); export it again.") from None


def _as_layers(graph):
    "(network, '') of the graph, or (None, why not)"
    from spat_nb.data.vision import torchvision

    try:
        torchvision()  # onnx2torch imports it, and may find it broken
        from onnx2torch import convert
    except (ImportError, RuntimeError):
        return None, "onnx2torch is not installed"
    from onnx import version_converter

    why = ""
    for version in (None, *VERSIONS):
        try:
            now = graph if version is None else version_converter.convert_version(graph, version)
            return convert(now).eval(), ""
        except Exception as e:
            why = why or f"onnx2torch cannot convert it ({_why(e)})"
    return None, why


def converted(
    path,  # of an .onnx file
    x: Tensor,  # (b,...) what it takes, to compare answers on
) -> tuple:  # (network or None; why there is none; images it takes at once, or None)
    """An ONNX file as layers of torch. Where onnxruntime is there, the two must give one answer

    ImportError or ValueError in one sentence
    """
    graph = _read(path)
    batch = _batch(graph)
    model, why = _as_layers(graph)
    if model is not None:
        why = _difference(model, path, x, batch)
    return (None, why, batch) if why else (model, "", batch)


def _batch(graph):
    "How many images the graph takes at once; None where that is left open"
    own = {v.name for v in graph.graph.initializer}
    inputs = [v for v in graph.graph.input if v.name not in own]
    dims = inputs[0].type.tensor_type.shape.dim if inputs else ()
    return (dims[0].dim_value or None) if dims else None


def _difference(model, path, x, batch):
    "In what the answers of the converted network differ from those of onnxruntime, in words; or ''"
    try:
        judge = session(path)
        x = x[:1].expand(batch or 1, *x.shape[1:]).contiguous().cpu()
        with torch.no_grad():
            a, b = _first(model(x)), _first(judge(x))
    except ImportError:
        return ""
    except Exception:
        return ""  # it takes other images: that is said elsewhere
    if a.shape != b.shape:
        return f"the converted network returns shape {tuple(a.shape)} and not {tuple(b.shape)}"
    off = (a - b).abs().max().item() / max(b.abs().max().item(), 1e-6)
    return "" if off < NEAR else f"the converted network answers otherwise, by {off:.1%}"


def _first(out):
    return out if isinstance(out, Tensor) else out[0]


class Session(nn.Module):
    """An ONNX file in onnxruntime: answers, and no gradients

    Parameters
    ----------
    path
        of the .onnx file
    """

    def __init__(
        self,
        path,  # of the .onnx file
    ):
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise ImportError(
                f"{path} needs onnxruntime, which is not installed; {INSTALL}."
            ) from None
        self.sha256 = content_hash(path)
        self.run = _runner(onnxruntime, path)

    def __identity__(self):
        return {"file": self.sha256}

    def forward(self, x):
        outs = [torch.from_numpy(v).to(x.device) for v in self.run(x)]
        return outs[0] if len(outs) == 1 else tuple(outs)


def _runner(onnxruntime, path):
    "x -> arrays. ValueError where the file cannot be run"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    try:
        made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:
        raise ValueError(f"onnxruntime cannot run {path} ({_why(e)}); export it again.") from None
    first = made.get_inputs()[0]
    kind = torch.float16 if first.type == "tensor(float16)" else torch.float32
    if first.type == "tensor(double)":
        kind = torch.float64

    def run(x):
        return made.run(None, {first.name: x.detach().to("cpu", kind).contiguous().numpy()})

    return run


def session(
    path,  # of an .onnx file
) -> Session:
    "An ONNX file in onnxruntime. ImportError or ValueError in one sentence"
    return Session(path)
