"What the doctor finds of torch: devices, compilers, precision, threads"

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..core.settings import settings
from .findings import Finding, said
from .lab import PIP, clean_environment


def look_at_torch():
    try:
        import torch
    except Exception as e:
        yield Finding(
            "BROKEN", "torch", f"does not load ({said(e)})", f'{PIP} "torch>=2.11" torchvision'
        )
        return
    old = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 11)
    yield (
        Finding(
            "BROKEN",
            "torch",
            f"{torch.__version__}, >=2.11 is asked for",
            f'{PIP} --upgrade "torch>=2.11" torchvision',
        )
        if old
        else Finding("ok", "torch", torch.__version__)
    )
    yield _torchvision(torch)
    yield from (*_gpu(torch), *_compiler(torch), *_precision(torch), *_threads(torch))


def _torchvision(torch):
    "Import all that spat_nb uses of it, and try what only a build for this machine can do"
    from ..data import vision

    try:
        parts = {
            name: vision.torchvision(name)
            for name in ("datasets", "transforms.v2", "models", "utils", "io", "ops")
        }
    except Exception as e:
        return Finding(
            "BROKEN", "torchvision", f"does not load ({said(e)})", f"{PIP} --upgrade torchvision"
        )
    v, fails = importlib.metadata.version("torchvision"), []
    tries = {
        "ops.nms": lambda: parts["ops"].nms(torch.zeros(1, 4), torch.ones(1), 0.5),
        "io.encode_png": lambda: parts["io"].encode_png(torch.zeros(1, 2, 2, dtype=torch.uint8)),
    }
    for name, do in tries.items():
        try:
            do()
        except Exception:
            fails.append(name)
    alone = (
        f"`import torchvision` alone fails here ({vision.MISSING}); spat_nb mends that for itself,"
        " and "
        if vision.mended()
        else ""
    )
    if not alone and not fails:
        return Finding("ok", "torchvision", v)
    return Finding(
        "note",
        "torchvision",
        f"{v}: {alone}data sets, transforms and models"
        f" work{', ' + ' and '.join(fails) + ' do not' if fails else ''}",
        f"{PIP} --force-reinstall --no-deps torchvision"
        + (
            "" if torch.cuda.is_available() else " --index-url https://download.pytorch.org/whl/cpu"
        ),
    )


def _gpu(torch):
    kind = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else None
    )
    if kind:
        name = (
            ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
            if kind == "cuda"
            else "mps"
        )
        try:
            (torch.ones(8, 8, device=kind) @ torch.ones(8, 8, device=kind)).sum().item()
        except Exception as e:
            yield Finding(
                "missing",
                "GPU",
                f"{name} is here, but cannot multiply ({said(e)})",
                "choose the build for your driver at https://pytorch.org/get-started/locally, or "
                + clean_environment("DEVICE", "cpu"),
            )
        else:
            yield Finding("ok", "GPU", name)
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "missing",
            "GPU",
            f"nvidia-smi is here, but torch {torch.__version__} finds none",
            "choose the CUDA build for your driver at https://pytorch.org/get-started/locally",
        )
    else:
        yield Finding("note", "GPU", "none; digits take seconds without, CIFAR-10 hours")


def _compiles(name) -> str:  # why not; '' where it does
    "Let the compiler `name` translate the smallest program"
    with tempfile.TemporaryDirectory() as d:
        source = Path(d) / "a.c"
        source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
        try:
            done = subprocess.run(
                [name, source.name], cwd=d, capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            return said(e)
        return (
            ""
            if done.returncode == 0
            else (
                (done.stderr or done.stdout).strip().splitlines()[-1][:120]
                if (done.stderr or done.stdout).strip()
                else f"status {done.returncode}"
            )
        )


def _compiler(torch):
    # a CPU gains little
    if not torch.cuda.is_available():
        return
    from spat_nb.core.precision import compiler

    have = compiler("cuda")
    if have and (why := _compiles(have)):
        yield Finding(
            "note",
            "compiler",
            f"{have} is here, but compiles nothing ({why}): `--compile` will fail",
            "apt-get install gcc",
        )
        return
    yield (
        Finding("ok", "compiler", f"{have}, for `--compile`")
        if have
        else Finding(
            "note",
            "compiler",
            "none: `--compile` stops, and studies of size paper run uncompiled",
            "apt-get install gcc",
        )
    )


def _precision(torch):
    if torch.cuda.is_available():
        yield Finding(
            "ok",
            "precision",
            (
                "bfloat16 pays on the GPU"
                if torch.cuda.is_bf16_supported()
                else "this GPU has no bfloat16: keep float32"
            ),
        )
    else:
        bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        said = (
            "this CPU has bfloat16 instructions: about half the time of float32"
            if bf16
            else (
                "this CPU has no bfloat16 instructions: channels_last is the fastest, bfloat16 may"
                " run 20 times slower"
            )
        )
        want = "bfloat16" if bf16 else "channels_last"
        try:
            now = settings().precision
        except ValueError:
            return
        yield Finding(
            "ok" if now == want else "note",
            "precision",
            f"{now}; {said}",
            (
                ""
                if now == want
                else f"{clean_environment('PRECISION', want)}    (or precision = {want} in settings.ini)"  # noqa: E501
            ),
        )


def _threads(torch):
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        n = settings().threads or torch.get_num_threads()
    except ValueError:
        return
    yield (
        Finding("ok", "threads", f"{n} on {here} cores")
        if n <= here
        else Finding(
            "note",
            "threads",
            f"{n} on {here} cores: they wait for each other",
            clean_environment("THREADS", here),
        )
    )
