"""The notebooks in a folder of the reader's own, JupyterLab upon them, and a doctor who says what
this machine lacks
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

from ..core.files import write_aside
from ..core.paths import shell

MANIFEST = ".spat_nb.json"


HOME = Path(__file__).parents[1]


PIP = shell(sys.executable, "-m", "pip", "install")


def clean_environment(key, value):
    return (
        f"set SPAT_NB_{key}={value}" if os.name == "nt" else f"export SPAT_NB_{key}={shell(value)}"
    )


SETTINGS = """# Your settings for the notebooks of this folder; remove the "# " in front of a key to change its default.
# Relative folders are taken from the folder of this file. The notebook 00_settings explains all of them.
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
            "source": "from spat_nb.app.playground import Playground\nPlayground()",
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
    from spat_nb.core.settings import Settings

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
    what: dict | None = None,  # relative path -> bytes; default: `files()`
    version: str | None = None,  # default: that of the package
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
    # the printed address opens the index too, where no browser is opened
    opened = [page] if playground else [f"--LabApp.default_url=/lab/tree/{page}"]
    opts = [
        *([] if browser else ["--no-browser"]),
        *([f"--port={port}"] if port else []),
        *([f"{'--Voila.ip' if playground else '--ip'}={ip}"] if ip else []),
    ]
    return [sys.executable, "-m", tool, *root, *opts, *more, *opened]


def become(args, folder) -> int:
    """Run `args` in `folder`, in place of this process where the system can do that (Ctrl-C then
    goes to Jupyter alone)
    """
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.call(args, cwd=folder)
    os.chdir(folder)
    os.execv(args[0], args)
