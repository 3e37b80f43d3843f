"""A record in a file: JSON, written aside and then renamed"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..core.files import write_aside
from ..core.paths import instead, what_is

if TYPE_CHECKING:
    from .record import Record

__all__ = ["write_record", "read_record"]


def write_record(record: Record, path):
    "Write the answers of `record`, its classes and what is known of the run"
    d = dict(
        y=record.y.tolist(),
        preds={k: v.tolist() for k, v in record.preds.items()},
        classes=list(record.classes),
        info=record.info,
    )
    with write_aside(path) as part:
        part.write_text(json.dumps(d), encoding="utf-8")


def read_record(
    kind: type[Record],  # what to make of it
    path,  # of a file that `write_record` wrote
) -> Record:
    """Read a record.

    FileNotFoundError, or ValueError where the file is damaged or no record
    """
    if Path(path).is_dir():
        raise FileNotFoundError(
            f"{path} is a folder; check the path: {instead(path, 'record.json')}."
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"no record {path}; check the path, or evaluate first.")
    try:
        d = json.loads(Path(path).read_text(encoding="utf-8"))
        return kind(
            torch.tensor(d["y"]),
            {k: torch.tensor(v) for k, v in d["preds"].items()},
            tuple(d["classes"]),
            d["info"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
        found = what_is(path)
        if found not in ("a record of answers", "a text file", "an empty file"):
            raise ValueError(
                f"{path} is {found} and holds no whole record; {instead(path, 'record.json')}."
            ) from None
        raise ValueError(f"{path} holds no whole record ({e}); evaluate again.") from None
