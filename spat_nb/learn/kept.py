"""The file that remembers what a reader has solved"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ..core.files import write_aside
from ..core.settings import settings

__all__ = ["keep_attempt", "read_kept", "reader_at_work"]


def reader_at_work() -> bool:
    "Is somebody at work in Jupyter? Tests, builds and scripts leave no trace"
    if os.environ.get("IN_TEST") or os.environ.get("TQDM_DISABLE"):
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(c.__name__ == "ZMQInteractiveShell" for c in type(shell).__mro__)


@contextmanager
def _alone(path: Path):
    "Others who want to write the file at `path` wait; a kill lets them go on"
    from filelock import FileLock

    mark = hashlib.sha1(str(path.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    # not beside it: the reader's folder stays tidy
    with FileLock(Path(tempfile.gettempdir()) / f"spat_nb-{mark}.lock"):
        yield


def read_kept(
    path: Path,  # a JSON file
) -> dict:  # exercise -> 'attempted' or 'right'
    "What is kept. A damaged file is laid aside, with a sentence"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if {*kept.values()} <= {"attempted", "right"}:
            return kept
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        pass
    names = (path.with_name(f"{path.name}.damaged{i}") for i in itertools.count(1))
    aside = path.rename(next(name for name in names if not name.exists()))
    print(
        f"progress: {path} is damaged; it now lies beside as {aside.name}, and a new file begins."
    )
    return {}


def keep_attempt(
    name: str,  # of the exercise
    right: bool,
    once: bool = False,  # only the first attempt can make it right
) -> None:
    "Note an attempt at an exercise. Where nothing can be kept, one sentence says so"
    try:
        path = settings().progress
        with _alone(path), write_aside(path) as part:
            kept = read_kept(path)
            if name not in kept or right and not once:
                kept[name] = "right" if right else "attempted"
            part.write_text(json.dumps(kept, indent=1, sort_keys=True), encoding="utf-8")
    except (OSError, ValueError) as e:
        print(f"progress is not kept: {e}")
