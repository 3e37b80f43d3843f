"""The notebooks in a folder of the reader's own, JupyterLab upon them, and a doctor who says what
this machine lacks
"""

# `copy` lays the notebooks of this version, and the results that they read, into a folder and notes
# a hash of each file in MANIFEST:
# a file that still has its hash was not touched by the reader and may be replaced. `examine` looks
# at the machine; a finding names its mend.
from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from .files import write_aside
from .paths import check_writable, shell

MANIFEST = ".spat_nb.json"
HOME = Path(__file__).parent
PIP = shell(sys.executable, "-m", "pip", "install")


def _env(key, value):
    return (
        f"set SPAT_NB_{key}={value}" if os.name == "nt" else f"export SPAT_NB_{key}={shell(value)}"
    )


SETTINGS = """# Your settings for the notebooks of this folder; remove the "# " in front of a key to change its default.
# Relative folders are taken from the folder of this file. The notebook 00_core explains all of them.
[spat_nb]
"""  # noqa: E501

PLAYGROUND = {
    "cells": [
        {
            "cell_type": "code",
            "id": "page",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": "from spat_nb.playground import Playground\nPlayground()",
        }
    ],
    "metadata": {
        "title": "spat_nb: playground",
        "kernelspec": {"display_name": "python3", "language": "python", "name": "python3"},
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}

# ---- the folder


def _home(name, there) -> Path:
    "A folder of the wheel, or of the checkout where there is no wheel"
    return p if (p := HOME / name).is_dir() else HOME.parent / there


def notebooks() -> Path:
    return _home("notebooks", "nbs")


def results() -> Path:
    return _home("notebooks/results", "results")


def _settings_file():
    from .core import Settings

    return (SETTINGS + "".join(f"# {f.name} = {f.default}\n" for f in fields(Settings))).encode()


def files() -> dict:  # relative path -> bytes
    """What a reader's folder gets: all notebooks, the results that they read, settings, and the
    playground as a page of its own. FileNotFoundError where the notebooks are missing
    """
    found = {p.name: p.read_bytes() for p in sorted(notebooks().glob("*.ipynb"))}
    if "index.ipynb" not in found:
        raise FileNotFoundError(
            f"no notebooks in {notebooks()}; install spat_nb again: pip install --force-reinstall"
            " --no-deps spat_nb"
        )
    runs = [
        p
        for pattern in ("*/*.json", "*/*/*.json")
        for p in sorted(results().glob(pattern))
        if p.relative_to(results()).parts[0][0] != "."
    ]
    found |= {f"results/{p.relative_to(results()).as_posix()}": p.read_bytes() for p in runs}
    return found | {
        "settings.ini": _settings_file(),
        "playground.ipynb": json.dumps(PLAYGROUND, indent=1).encode(),
    }


def _sha(data):
    return hashlib.sha256(data).hexdigest()


def _beside(path, version, data) -> Path:
    "A free name for the new `data` beside the reader's file: 13_steps.new-0.1.0.ipynb"
    names = (
        path.with_name(f"{path.stem}.new-{version}{k}{path.suffix}")
        for k in ("", *(f"-{n}" for n in range(2, 999)))
    )
    return next(p for p in names if not p.exists() or p.read_bytes() == data)


def _put(path, data):
    with write_aside(path) as part:
        part.write_bytes(data)


def _lay(folder, name, data, was, version) -> tuple:  # what was done, where
    "Lay one file; `was` is the hash of what was laid there last, None where that is not known"
    path = folder / name
    now, new = _sha(path.read_bytes()) if path.exists() else None, _sha(data)
    if now == new:
        return "same", path
    if now in (None, was):
        _put(path, data)
        return ("new" if now is None else "updated"), path
    # the reader's own, and there is nothing newer; or a run of his own
    if was == new or name.startswith("results/"):
        return "kept", path
    side = _beside(path, version, data)
    _put(side, data)
    return "beside", side


def copy(
    folder,  # made where it is missing
    what: dict = None,  # relative path -> bytes; default: `files()`
    version: str = None,  # default: that of the package
) -> dict:  # relative path -> ('new', 'updated', 'same', 'kept' or 'beside', path)
    """Lay the notebooks into `folder`.

    What the reader changed stays; where this version has something newer, that goes beside it.
    ValueError for a folder of the package itself
    """
    import spat_nb

    folder, version = Path(folder).expanduser().absolute(), version or spat_nb.__version__
    if folder.resolve() in (notebooks().resolve(), HOME.resolve(), HOME.parent.resolve()):
        raise ValueError(
            f"{folder} belongs to spat_nb itself; give another folder: spat_nb lab my-notebooks"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder: spat_nb lab my-notebooks")
    note = folder / MANIFEST
    try:
        before = (
            dict(json.loads(note.read_text(encoding="utf-8"))["files"]) if note.exists() else {}
        )
    # damaged: every file that differs counts as the reader's
    except (ValueError, KeyError, TypeError):
        before = {}
    what = files() if what is None else what
    done = {
        name: _lay(folder, name, data, before.get(name), version) for name, data in what.items()
    }
    _put(
        note,
        json.dumps(
            {"version": version, "files": before | {k: _sha(v) for k, v in what.items()}}, indent=1
        ).encode(),
    )
    return done


def told(done, folder) -> str:
    "What `copy` did, for the reader"
    n, nb = (
        Counter(how for how, _ in done.values()),
        lambda *how: [p.name for k, (h, p) in done.items() if h in how],
    )
    lines = [
        f"{len([k for k in done if k.endswith('.ipynb')])} notebooks in {Path(folder).absolute()}: "
        + ", ".join(
            f"{n[k]} files {w}"
            for k, w in (
                ("new", "new"),
                ("updated", "updated"),
                ("same", "as they were"),
                ("kept", "changed by you and kept"),
                ("beside", "changed by you and kept, with the new one beside"),
            )
            if n[k]
        )
    ]
    return "\n".join(lines + [f"  new beside yours: {p}" for p in nb("beside")])


# ---- JupyterLab and Voila


def _need(module, extra="lab"):
    if importlib.util.find_spec(module) is None:
        raise ValueError(f'{module} is not installed; run: {PIP} "spat_nb[{extra}]"')


def command(folder, playground=False, browser=True, port=None, ip=None, more=()) -> list:
    """The command line that opens JupyterLab on the index, or the playground alone.

    ValueError where the tool is not installed
    """
    tool, page = ("voila", "playground.ipynb") if playground else ("jupyterlab", "index.ipynb")
    _need(tool)
    if playground:
        _need("ipywidgets")
    root = ["--allow-root"] if not playground and getattr(os, "geteuid", lambda: 1)() == 0 else []
    opts = [
        *([] if browser else ["--no-browser"]),
        *([f"--port={port}"] if port else []),
        *([f"{'--Voila.ip' if playground else '--ip'}={ip}"] if ip else []),
    ]
    return [sys.executable, "-m", tool, *root, *opts, *more, page]


def become(args, folder) -> int:
    """Run `args` in `folder`, in place of this process where the system can do that (Ctrl-C then
    goes to Jupyter alone)
    """
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.call(args, cwd=folder)
    os.chdir(folder)
    os.execv(args[0], args)


# ---- the doctor


@dataclass(frozen=True)
class Finding:
    "One thing that was looked at"

    # 'ok', 'note' (could be better), 'missing' (something does not work without it) or 'BROKEN'
    # (nothing does)
    verdict: str
    name: str
    seen: str  # what was found
    mend: str = ""  # the command, or the line of settings.ini, that mends it


def _have(requirement):
    """Installed version of a `packaging` requirement and whether it is one that is asked for;
    (None, False) where it is missing
    """
    try:
        v = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return None, False
    return v, requirement.specifier.contains(v, prereleases=True)


def _said(e):
    return f"{type(e).__name__}: {str(e).splitlines()[0][:160] if str(e) else ''}"


@functools.cache
def _modules() -> dict:  # distribution, in small letters -> its top modules
    found = {}
    for module, dists in importlib.metadata.packages_distributions().items():
        for dist in dists:
            found.setdefault(dist.lower().replace("_", "-"), []).append(module)
    return found


def _loads(name) -> str:  # why not; '' where it does
    "Import what a distribution brings: that it is listed as installed says little"
    for module in _modules().get(name.lower().replace("_", "-"), ()):
        if module.startswith("_") or not module.isidentifier():
            continue
        try:
            importlib.import_module(module)
        except Exception as e:
            return _said(e)
    return ""


def requirements() -> list:  # (Requirement, extra or '')
    "What spat_nb asks for: always, and for its extras; [] where it is not installed"
    from packaging.requirements import Requirement

    try:
        asked = importlib.metadata.requires("spat_nb") or []
    except importlib.metadata.PackageNotFoundError:
        return []

    def extra(line):
        return (re.search(r"extra == ['\"](\w+)", line) or ["", ""])[1]

    return [(Requirement(line), extra(line)) for line in asked]


def _python():
    v = platform.python_version()
    yield Finding("ok", "Python", v)


def _packages():
    try:
        asked = requirements()
    except ImportError:
        yield Finding(
            "note", "packages", "not looked at: `packaging` is missing", f"{PIP} packaging"
        )
        return
    if not asked:
        yield Finding(
            "note",
            "packages",
            "not looked at: spat_nb runs from a folder and is not installed",
            f"{PIP} -e .",
        )
    for r, extra in asked:
        if extra not in ("", "lab") or r.name in ("torch", "torchvision"):
            continue
        v, good = _have(r)
        what, mend = (
            f"{v}, {r.specifier} is asked for" if v else "not installed",
            f'{PIP} "spat_nb[{extra}]"' if extra and not v else f'{PIP} "{r.name}{r.specifier}"',
        )
        if good and (why := _loads(r.name)):
            good, what, mend = (
                False,
                f"{v} is installed, but does not load ({why})",
                f'{PIP} --force-reinstall "{r.name}{r.specifier}"',
            )
        yield (
            Finding("ok", r.name, v)
            if good
            else Finding("missing" if extra else "BROKEN", r.name, what, mend)
        )


def _torch():
    try:
        import torch
    except Exception as e:
        yield Finding(
            "BROKEN", "torch", f"does not load ({_said(e)})", f'{PIP} "torch>=2.11" torchvision'
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
    from . import vision

    try:
        parts = {
            name: vision.torchvision(name)
            for name in ("datasets", "transforms.v2", "models", "utils", "io", "ops")
        }
    except Exception as e:
        return Finding(
            "BROKEN", "torchvision", f"does not load ({_said(e)})", f"{PIP} --upgrade torchvision"
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
                f"{name} is here, but cannot multiply ({_said(e)})",
                "choose the build for your driver at https://pytorch.org/get-started/locally, or "
                + _env("DEVICE", "cpu"),
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
            return _said(e)
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
    from .core import compiler

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
            now = _settings().precision
        except ValueError:
            return
        yield Finding(
            "ok" if now == want else "note",
            "precision",
            f"{now}; {said}",
            (
                ""
                if now == want
                else f"{_env('PRECISION', want)}    (or precision = {want} in settings.ini)"
            ),
        )


def _threads(torch):
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        n = _settings().threads or torch.get_num_threads()
    except ValueError:
        return
    yield (
        Finding("ok", "threads", f"{n} on {here} cores")
        if n <= here
        else Finding(
            "note",
            "threads",
            f"{n} on {here} cores: they wait for each other",
            _env("THREADS", here),
        )
    )


def _settings():
    from .core import settings

    return settings()


def _folders():
    try:
        s = _settings()
    except ValueError as e:
        yield Finding("BROKEN", "settings", str(e), "mend that line, or take it out")
        return
    for name, p in (("data folder", s.data), ("results folder", s.results)):
        key = name.split()[0]
        try:
            check_writable(p, folder=True)
        except OSError as e:
            yield Finding(
                "missing",
                name,
                str(e).rstrip("."),
                _env(key.upper(), Path.home() / f"spat_nb-{key}"),
            )
        else:
            yield Finding("ok", name, f"{p}{'' if p.exists() else ' (will be made)'}")
    yield from _sets(s.data)


def _sets(root):
    "Which data sets lie there; each is opened"
    from .data import SOURCES, get_data

    names = [name for name in SOURCES if name != "imagefolder"]
    more = (
        sorted(p.stem for p in root.glob("*.npz") if p.stem not in SOURCES) if root.is_dir() else []
    )
    for name in names + more:
        try:
            d = get_data(name, device="cpu", root=root)
        except FileNotFoundError:
            yield Finding("note", name, "not in the data folder", f"spat_nb data {name}")
        except Exception as e:
            yield Finding(
                "missing",
                name,
                " ".join(str(e).split()).rstrip("."),
                f"spat_nb data {name}" if name in SOURCES else f"write {root / name}.npz again",
            )
        else:
            yield Finding(
                "ok",
                name,
                (
                    "bundled with scikit-learn"
                    if name == "digits"
                    else f"{d.train.n + d.valid.n:,} + {d.test.n:,} images in {root}"
                ),
            )


def _shipped():
    n = {
        "notebooks": len([*notebooks().glob("*.ipynb")]),
        "recorded runs": len([*results().glob("*/*/*.json")]),
    }
    try:
        json.loads((notebooks() / "index.ipynb").read_text(encoding="utf-8"))
    # there, but not to be read
    except (OSError, ValueError):
        n["notebooks"] = 0
    yield Finding(
        "ok" if n["notebooks"] else "missing",
        "notebooks",
        f"{n['notebooks']} in {notebooks()}, {n['recorded runs']} recorded runs",
        "" if n["notebooks"] else f"{PIP} --force-reinstall --no-deps spat_nb",
    )


LOOKS = {
    "Python": _python,
    "torch": _torch,
    "packages": _packages,
    "folders": _folders,
    "notebooks": _shipped,
}


def examine(
    looks: dict = None,  # name -> function that yields findings; default: `LOOKS`
) -> list:  # of Finding
    "Look at the machine; a look that fails is itself a finding"
    found = []
    for name, look in (LOOKS if looks is None else looks).items():
        try:
            found += look()
        except Exception as e:
            found.append(
                Finding(
                    "BROKEN",
                    name,
                    f"could not be looked at ({type(e).__name__}: {e})",
                    f'{PIP} --force-reinstall "spat_nb[lab]"',
                )
            )
    return found


# 1 where something essential is missing, else 0
def doctor(say: Callable = print, looks: dict = None) -> int:
    "Say what is there and what is not, and the command that mends it"
    import spat_nb

    found = examine(looks)
    say(
        f"spat_nb {spat_nb.__version__} in {HOME}, {sys.executable}, {platform.system()}"
        f" {platform.machine()}\n"
    )
    for f in found:
        say(
            f"{f.verdict:8} {f.name:15} {f.seen}"
            + (f"\n{'':8} {'':15}   -> {f.mend}" if f.mend else "")
        )
    n = Counter(f.verdict for f in found)
    say(
        "\n"
        + (
            f"{n['BROKEN']} essential thing{'s are' if n['BROKEN'] > 1 else ' is'} broken: mend"
            " what is marked BROKEN first."
            if n["BROKEN"]
            else "Everything essential is here."
            + (
                f" {n['missing']} optional thing{'s are' if n['missing'] > 1 else ' is'} missing."
                if n["missing"]
                else ""
            )
        )
    )
    return int(n["BROKEN"] > 0)
