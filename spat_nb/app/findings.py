"What the doctor finds: Python, and the packages that it was promised"

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import platform
import re
from dataclasses import dataclass

from .lab import PIP

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


def have(requirement):
    """Installed version of a `packaging` requirement and whether it is one that is asked for;
    (None, False) where it is missing
    """
    try:
        v = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return None, False
    return v, requirement.specifier.contains(v, prereleases=True)


def said(e):
    return f"{type(e).__name__}: {str(e).splitlines()[0][:160] if str(e) else ''}"


@functools.cache
def modules_of() -> dict:  # distribution, in small letters -> its top modules
    found: dict[str, list[str]] = {}
    for module, dists in importlib.metadata.packages_distributions().items():
        for dist in dists:
            found.setdefault(dist.lower().replace("_", "-"), []).append(module)
    return found


def why_not_loaded(name) -> str:  # why not; '' where it does
    "Import what a distribution brings: that it is listed as installed says little"
    for module in modules_of().get(name.lower().replace("_", "-"), ()):
        if module.startswith("_") or not module.isidentifier():
            continue
        try:
            importlib.import_module(module)
        except Exception as e:
            return said(e)
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


def look_at_python():
    v = platform.python_version()
    yield Finding("ok", "Python", v)


def look_at_packages():
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
        v, good = have(r)
        what, mend = (
            f"{v}, {r.specifier} is asked for" if v else "not installed",
            f'{PIP} "spat_nb[{extra}]"' if extra and not v else f'{PIP} "{r.name}{r.specifier}"',
        )
        if good and (why := why_not_loaded(r.name)):
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
