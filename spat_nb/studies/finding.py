"Which studies there are: those of the package, and anybody's in a file"

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

from ..core import outside
from ..public import nearest
from .study import Study

__all__ = ["NAMES", "studies", "find_study"]

# modules of this folder that hold a `study`
NAMES = (
    "apart",
    "arks",
    "baseline",
    "classwise",
    "combine",
    "fast",
    "hypersphere",
    "jeat",
    "latent",
    "mlcat",
    "noise",
    "proofs",
    "prototypes",
    "rpg",
    "sparta",
    "sparta_transfer",
    "spat",
    "speedrun",
    "transfer",
)


def studies() -> dict:
    "name -> Study, of the package"
    return {k: importlib.import_module(f"spat_nb.studies.{k}").study for k in NAMES}


def find_study(
    name: str | Study,  # of the package's, or a file: 'mine.py', 'mine.py:other'; or the study
) -> Study:
    """The study of that name, or the `study` of a file, which is run as Python.

    ValueError where there is none
    """
    if isinstance(name, Study):
        return name
    if ".py" in str(name):
        return _of_a_file(str(name))
    if name in NAMES:
        return importlib.import_module(f"spat_nb.studies.{name}").study
    raise ValueError(
        f"there is no study {name!r}; there are {', '.join(NAMES)}"
        f"{nearest(name, NAMES, 0.7) or '.'} One of your own is given by its file, mine.py say."
    )


def _of_a_file(name):
    "The study of 'mine.py' or 'mine.py:other'"
    file, colon, attribute = name.rpartition(":")
    if not colon or attribute.endswith(".py"):  # C:\mine.py has a colon too
        file, attribute = name, "study"
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"there is no file {file}; check the path of your study.")
    found = outside.find(f"{path}:{attribute}")
    if not isinstance(found, Study):
        raise ValueError(
            f"{attribute} in {file} is a {type(found).__name__}; let it be a Study: "
            f"{attribute} = Study('mine', 'Does it help?', {{'PGD-AT': Arm()}})."
        )
    if found.name in NAMES:
        raise ValueError(
            f"{file} calls its study {found.name!r}, as one of the package's is called; give it "
            "another name, or its results would lie among those."
        )
    return replace(found, file=f"{path}:{attribute}")
