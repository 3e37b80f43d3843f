"What a machine lacks, one line each"

from __future__ import annotations

import json
import platform
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..core.paths import check_writable
from .findings import Finding, look_at_packages, look_at_python
from .findings_torch import look_at_torch
from .lab import HOME, PIP, clean_environment, notebooks, results


def _settings():
    from spat_nb.core.settings import settings

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
                clean_environment(key.upper(), Path.home() / f"spat_nb-{key}"),
            )
        else:
            yield Finding("ok", name, f"{p}{'' if p.exists() else ' (will be made)'}")
    yield from _sets(s.data)


def _sets(root):
    "Which data sets lie there; each is opened"
    from spat_nb.data.sources import SOURCES, get_data

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
    "Python": look_at_python,
    "torch": look_at_torch,
    "packages": look_at_packages,
    "folders": _folders,
    "notebooks": _shipped,
}


def examine(
    looks: dict | None = None,  # name -> function that yields findings; default: `LOOKS`
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
def doctor(say: Callable = print, looks: dict | None = None) -> int:
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
