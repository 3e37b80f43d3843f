"""The import of torchvision: repaired where its operators are missing, left alone where anything
else is wrong
"""

import importlib
import subprocess
import sys
import types

import pytest

from spat_nb.data import vision


def importer(monkeypatch, *outcomes):
    "Let `import_module` give or raise `outcomes` one after the other; returns what was asked for"
    asked, left = [], list(outcomes)

    def import_module(name):
        asked.append(name)
        out = left.pop(0)
        if isinstance(out, Exception):
            raise out
        return out

    monkeypatch.setattr(vision, "importlib", types.SimpleNamespace(import_module=import_module))
    monkeypatch.setattr(vision, "_library", None)
    return asked


@pytest.fixture
def declared(monkeypatch):
    calls = []

    def declare():
        calls.append(1)
        vision._library = object()

    monkeypatch.setattr(vision, "_declare", declare)
    return calls


NMS = RuntimeError("operator torchvision::nms does not exist")


def test_declares_and_imports_again(monkeypatch, declared):
    asked = importer(monkeypatch, NMS, "module")
    assert vision.torchvision() == "module"
    assert asked == ["torchvision"] * 2 and declared == [1]


def test_part(monkeypatch, declared):
    asked = importer(monkeypatch, NMS, "v2")
    assert (
        vision.torchvision("transforms.v2") == "v2" and asked == ["torchvision.transforms.v2"] * 2
    )


def test_nothing_is_declared_where_the_import_works(monkeypatch, declared):
    importer(monkeypatch, "module")
    assert vision.torchvision() == "module" and declared == []


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::roi_align does not exist"),
        RuntimeError("CUDA error"),
        ImportError("no torchvision"),
        OSError("libc"),
    ],
    ids=str,
)
def test_other_failures_are_raised_as_they_are(monkeypatch, declared, error):
    asked = importer(monkeypatch, error)
    with pytest.raises(type(error)) as e:
        vision.torchvision()
    assert e.value is error and declared == [] and len(asked) == 1


def test_a_repair_that_did_not_help_is_not_tried_twice(monkeypatch, declared):
    asked = importer(monkeypatch, NMS, NMS, NMS)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="torchvision::nms"):
            vision.torchvision()
    assert declared == [1] and len(asked) == 3


# A package that needs the two operators at import, as torchvision does, on torch that has never
# heard of them
BROKEN = """
import torch
@torch.library.register_fake('torchvision::nms')
def f(dets, scores, iou_threshold): return dets
@torch.library.register_fake('torchvision::qnms')
def g(dets, scores, iou_threshold): return dets
"""
PLAIN = """
try: import torchvision
except RuntimeError as e: print('plain:', e)
"""
OURS = """
from spat_nb.data import vision
tv = vision.torchvision()
import torch
print('ours:', tv is vision.torchvision(), vision._library is not None, torch.ops.torchvision.nms.default._schema)
"""  # noqa: E501


def fresh(code, path):
    r = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"],
        capture_output=True,
        text=True,
    )
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_in_a_fresh_process(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BROKEN)
    out = fresh(PLAIN + OURS, tmp_path)
    # the message that we look for is the one that torch writes
    assert f"plain: {vision.MISSING}" in out
    assert (
        "ours: True True torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) ->"
        " Tensor" in out
    )


def test_the_installed_one():
    tv = vision.torchvision()
    v2 = vision.torchvision("transforms.v2")
    import torch

    assert tv is importlib.import_module("torchvision") and v2 is tv.transforms.v2
    assert v2.Resize(4)(torch.zeros(3, 8, 8)).shape == (3, 4, 4) and hasattr(
        vision.torchvision("datasets"), "CIFAR10"
    )
