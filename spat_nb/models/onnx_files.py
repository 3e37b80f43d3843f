"""ONNX files: as layers of torch, or in onnxruntime

Written by hand: no notebook makes it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .library import first_line
from .pieces import content_hash

__all__ = ["converted", "session", "Session"]

INSTALL = 'run: pip install "spat_nb[onnx]"'
# versions of ONNX's operators that converters know, tried where that of a file is too new
VERSIONS = (17, 13)
NEAR = 1e-3  # largest difference of two logits, over the largest logit


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
        raise ValueError(
            f"{path} is no readable ONNX file ({first_line(e)}); export it again."
        ) from None


def _converter():
    "onnx2torch's, or None where it is not installed"
    from spat_nb.data.vision import torchvision

    try:
        torchvision()  # onnx2torch imports it, and may find it broken
        from onnx2torch import convert
    except (ImportError, RuntimeError):
        return None
    return convert


def _as_layers(graph, differs):
    "(network, '') of the graph that answers as it should, or (None, why there is none)"
    convert = _converter()
    if convert is None:
        return None, "onnx2torch is not installed"
    why = ""
    for write in _ways(graph):
        try:
            model = convert(write()).eval()
            wrong = differs(model)
        except Exception as e:
            wrong = f"onnx2torch cannot convert it ({first_line(e)})"
        if not wrong:
            return model, ""
        why = why or wrong
    return None, why


def _without_identities(graph):
    "A copy without the nodes that hand on what they get: exporters put them before shared weights"
    import onnx

    new = onnx.ModelProto()
    new.CopyFrom(graph)
    ends = {v.name for v in new.graph.output}
    same: dict[str, str] = {}
    for node in list(new.graph.node):
        for k, name in enumerate(node.input):
            node.input[k] = same.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in ends:
            same[node.output[0]] = node.input[0]
            new.graph.node.remove(node)
    return new


def _ways(graph):
    "Ways to write the graph so that a converter knows it: as it is, simpler, in older operators"
    from onnx import version_converter

    simple = _without_identities(graph)
    yield lambda: graph
    yield lambda: simple
    for version in VERSIONS:
        yield partial(version_converter.convert_version, simple, version)
    yield partial(_relabelled, simple, VERSIONS[0])


def _relabelled(graph, version):
    """A copy that says it is in an older version: right where its operators have not changed since,
    which the comparison of answers shows
    """
    import onnx
    import onnxruntime  # noqa: F401  # without it nobody compares

    new = onnx.ModelProto()
    new.CopyFrom(graph)
    for one in new.opset_import:
        if one.domain in ("", "ai.onnx"):
            one.version = min(one.version, version)
    return new


def converted(
    path,  # of an .onnx file
    x: Tensor,  # (b,...) what it takes, to compare answers on
) -> tuple:  # (network or None; why there is none; images it takes at once, or None)
    """An ONNX file as layers of torch. Where onnxruntime is there, the two must give one answer

    ImportError or ValueError in one sentence
    """
    graph = _read(path)
    batch = _batch(graph)
    model, why = _as_layers(graph, _comparison(path, x, batch))
    return model, why, batch


def _batch(graph):
    "How many images the graph takes at once; None where that is left open"
    own = {v.name for v in graph.graph.initializer}
    inputs = [v for v in graph.graph.input if v.name not in own]
    dims = inputs[0].type.tensor_type.shape.dim if inputs else ()
    return (dims[0].dim_value or None) if dims else None


def _comparison(path, x, batch):
    """A function of a converted network: in what its answers differ from those of onnxruntime, in
    words; '' where in nothing, or where nobody can say
    """
    x = x[:2] if batch is None else x[:1].expand(batch, *x.shape[1:])
    x = x.contiguous().cpu()
    try:
        want = _first(session(path)(x))
    except Exception:  # not installed, or it takes other images: that is said elsewhere
        return lambda model: ""

    def differs(model):
        with torch.no_grad():
            got = _first(model(x))
        if got.shape != want.shape:
            shapes = f"{tuple(got.shape)} and not {tuple(want.shape)}"
            return f"the converted network returns shape {shapes}"
        off = (got - want).abs().max().item() / max(want.abs().max().item(), 1e-6)
        return "" if off < NEAR else f"the converted network answers otherwise, by {off:.1%}"

    return differs


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
        raise ValueError(
            f"onnxruntime cannot run {path} ({first_line(e)}); export it again."
        ) from None
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
