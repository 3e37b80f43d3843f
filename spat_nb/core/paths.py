"""What lies at a path, whether it can be written, and how to write it on a command line.

Written by hand: no notebook makes it
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

HEADS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF"),
    (b"\x93NUMPY", "an array of numpy"),
    (b"\x1f\x8b", "a gzip archive"),
)


JSONS = (
    ({"cells", "nbformat"}, "a notebook"),
    ({"y", "preds", "classes"}, "a record of answers"),
    ({"config", "history", "table"}, "the results of a training"),
    ({"key", "done"}, "the state of an evaluation"),
    ({"schema", "study", "arm"}, "the result of a study"),
    ({"checks", "curve", "claim"}, "a trust card"),
    ({"sha256", "recipe"}, "the card of a shipped network"),
    ({"schema", "kind", "record", "passes"}, "a report"),
    ({"schema", "recipe", "history"}, "the results of a training"),
    ({"schema", "recipe", "code"}, "the recipe of a training"),
)


MEANT = {
    "weights.safetensors": "the .safetensors file that `spat_nb train` or models.save wrote",
    "record.json": "what record.save or `spat_nb evaluate --out` wrote",
    "report.json": "the report.json of a run, or what `spat_nb evaluate --out` wrote",
}


# what the commands write under these endings
WRITTEN = {
    ".json": ("a record of answers", "a report"),
    ".html": ("an HTML page",),
    ".png": ("a PNG picture",),
}


# ---- what a file is


def _zip(path):
    import zipfile

    try:
        names = zipfile.ZipFile(path).namelist()
    except (zipfile.BadZipFile, OSError):
        return "a damaged zip archive"
    if any(n.endswith("data.pkl") for n in names):
        return "a pickle"
    return (
        "an .npz file of arrays"
        if names and all(n.endswith(".npy") for n in names)
        else "a zip archive"
    )


def _json(path):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return "a text file"
    keys = {*value} if isinstance(value, dict) else set()
    return next((name for need, name in JSONS if need <= keys), "a JSON file")


def what_is(
    path,  # of a file or folder that is there
) -> str:  # 'a folder', 'a PNG picture', 'a record of answers', ...
    "What lies at `path`, by its content"
    path = Path(path)
    if path.is_dir():
        return "a folder"
    with path.open("rb") as f:
        head = f.read(4096)
    if not head:
        return "an empty file"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "a safetensors file"
    if known := next((name for start, name in HEADS if head.startswith(start)), None):
        return known
    if head[:4] == b"PK\x03\x04":
        return _zip(path)
    if head[:1] == b"\x80" and head[8:9] not in (b"", b"{"):
        return "a pickle"
    if re.search(rb"[\x00-\x08\x0e-\x1f]", head) or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "a binary file"
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n").lower()
    if text.startswith(("<!doctype html", "<html")):
        return "an HTML page"
    return _json(path) if text.startswith(("{", "[")) else "a text file"


def instead(
    path,  # what was given
    want: str,  # 'weights.safetensors', say
) -> str:  # 'give run1/weights.safetensors'
    """What to give in place of `path`, where a file like `want` (a key of `MEANT`) is needed; the
    one that lies there, if one does
    """
    path = Path(path)
    near = (path if path.is_dir() else path.parent) / want
    return f"give {near if near.is_file() and near != path else MEANT[want]}"


# ---- whether it can be written


def unwritten(
    path,  # of the file
    e: OSError,  # that came up
) -> OSError:
    "One sentence for an OSError that came up while `path` was written"
    why = os.strerror(e.errno) if e.errno else " ".join(str(e).split())
    mend = (
        "make room, or choose another place"
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        else "choose another place"
    )
    kept = "; what was there is unchanged" if Path(path).is_file() else ""
    kind = type(e) if type(e).__module__ == "builtins" else OSError
    return kind(f"{path} could not be written ({why}); {mend}{kept}.")


def check_writable(
    path,  # of a file or folder, there or not
    folder=False,  # is it a folder?
    ending="",  # '.json', say; '': any
):
    """Refuse, before any work is done, a place that cannot be written.

    OSError in one sentence; ValueError where the name has not the `ending` ('.json') that its
    content asks for
    """
    path = Path(path)
    if (
        ending
        and path.is_file()
        and (kind := what_is(path)) not in (*WRITTEN[ending], "an empty file")
    ):
        raise ValueError(f"{path} is {kind}, which would be lost; give another name.")
    if ending and path.suffix.lower() not in ("", ending):
        raise ValueError(
            f"{path} would hold {ending[1:].upper()}; give a name that ends in {ending}."
        )
    try:
        if not folder and path.is_dir():
            raise IsADirectoryError(
                errno.EISDIR,
                f"it is a folder, give the name of a file, {path / ('out' + ending)} say",
            )
        if folder and path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file, give a folder")
        up = path if folder else path.parent
        up = next(d for d in (up, *up.parents) if d.exists())
        if not up.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{up} is a file and no folder")
        with tempfile.NamedTemporaryFile(prefix=".spat_nb", dir=up) as f:
            f.write(b" " * 4096)
    except OSError as e:
        raise type(e)(f"{path} cannot be written: {e.strerror or e}.") from None


# ---- on a command line


def shell(
    *args,  # anything, told by `str`
) -> str:
    "`args` as they are typed in a shell, quoted where one needs it"
    texts = [str(a) for a in args]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)
