"""Files: a full disk, a folder where a file must be, a file of another kind.

The old file stays whole, nothing is left behind, and one sentence says what is wrong
"""

import errno
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from spat_nb.core.files import load_tree, save_tree, write_aside
from spat_nb.core.paths import check_writable, shell, what_is
from spat_nb.measure.journal import Journal
from spat_nb.measure.record import Record
from spat_nb.models.networks import SmallCNN
from spat_nb.models.saving import load, save

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def record(n=4):
    return Record(torch.zeros(n).long(), {"clean": torch.zeros(n).long()}, ("a", "b"))


def card():
    from spat_nb.measure.card import Card

    return Card((), {"clean": 1.0}, [], 1, "PGD", {})


KEY = dict(model={}, attacks={}, seed=0, precision="float32", classes=None, batch=None)


def journal(path):
    return lambda: Journal(path, KEY)("clean 0", (), lambda: [1])


def page(path):
    from spat_nb.classwise.diagnosis import Diagnosis

    y = torch.arange(20) % 2
    return lambda: Diagnosis(Record(y, {"clean": y, "pgd": 1 - y}, ("a", "b")), times=5).html(path)


def job(path):
    from spat_nb.studies import work

    class Job:
        pass

    Job.path = path
    return lambda: work.write_result(Job, {})


def laid(path):
    from spat_nb.app.lab import _put

    return lambda: _put(path, b"x" * 9999)


# every writer of the package: a function of the path, which gives a function that writes
WRITERS = dict(
    tree=lambda p: lambda: save_tree(p, {"a": torch.zeros(99999)}),
    network=lambda p: lambda: save(SmallCNN(width=32), p),
    record=lambda p: lambda: record(99999).save(p),
    card=lambda p: lambda: card().save(p),
    journal=journal,
    page=page,
    study=job,
    notebook=laid,
)


def says(do, *words, kind=OSError):
    with pytest.raises(kind) as e:
        do()
    text = str(e.value)
    assert (
        all(w in text for w in words)
        and "\n" not in text
        and text.count("could not be written") <= 1
        and "Errno" not in text
    ), text
    return e.value


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(writer, tmp_path, monkeypatch):
    "The disk is full while the file is written, or at fsync"
    path = tmp_path / "deep" / "old.safetensors"
    path.parent.mkdir()
    path.write_text("old")
    write = WRITERS[writer](path) if writer != "journal" else None
    if writer == "journal":
        path.unlink()
        Journal(path, KEY)("before", (), lambda: [0])
        write = journal(path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    says(
        write,
        str(path),
        "could not be written (No space left on device); make room",
        "what was there is unchanged",
    )
    monkeypatch.undo()
    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "write_bytes", full)

    def rust(*_, **__):
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr("safetensors.torch.save_file", rust)
    says(write, str(path), "could not be written (No space left on device); make room")
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


LIMITED = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_files as T
path = Path(sys.argv[1])
write = T.WRITERS[sys.argv[2]](path)
write()
before = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try: write()
except OSError as e: print(type(e).__name__, e)
assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
"""


@pytest.mark.skipif(os.name == "nt", reason="no such limits on Windows")
@pytest.mark.parametrize("writer", ["tree", "network", "record", "page", "notebook"])
def test_a_disk_that_takes_no_more(writer, tmp_path):
    "The system itself refuses, half way through the file"
    p = subprocess.run(
        [
            sys.executable,
            "-c",
            LIMITED.format(tests=str(Path(__file__).parent)),
            str(tmp_path / "f.safetensors"),
            writer,
        ],
        capture_output=True,
        text=True,
    )
    assert p.returncode == 0, p.stderr
    assert (
        p.stdout
        == f"OSError {tmp_path}/f.safetensors could not be written (File too large); make room, or"
        " choose another place; what was there is unchanged.\n"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount")
def test_a_tiny_disk(tmp_path):
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tiny)], capture_output=True
    ).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        save_tree(tiny / "t.safetensors", {"a": torch.zeros(99)})
        for name in ("tree", "network", "record"):
            says(WRITERS[name](tiny / "t.safetensors"), "No space left on device", "unchanged")
        assert load_tree(tiny / "t.safetensors")["a"].shape == (99,) and [
            p.name for p in tiny.iterdir()
        ] == ["t.safetensors"]
        (tiny / "fill").write_bytes(b"x" * 50000)
        with pytest.raises(OSError):
            (tiny / "more").write_bytes(b"x" * 20000)
        with pytest.raises(OSError, match="cannot be written: No space left"):
            check_writable(tiny / "new.json")
    finally:
        subprocess.run(["umount", str(tiny)], check=True)


@pytest.mark.parametrize("writer", WRITERS)
def test_places_that_cannot_be_written(writer, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    if writer != "journal":
        says(WRITERS[writer](tmp_path / "folder"), str(tmp_path / "folder"), "could not be written")
    says(
        WRITERS[writer](tmp_path / "file" / "a.json"),
        str(tmp_path / "file" / "a.json"),
        "could not be written (",
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"] and not [
        *(tmp_path / "folder").iterdir()
    ]


def test_other_errors_come_through(tmp_path):
    "What went wrong in the block with another file is not blamed on this one"

    def do():
        with write_aside(tmp_path / "a"):
            (tmp_path / "none").read_text()

    with pytest.raises(FileNotFoundError) as e:
        do()
    assert e.value.filename == str(tmp_path / "none")
    for error in (OSError("a sentence."), ValueError("v"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as e:
            with write_aside(tmp_path / "a") as part:
                part.write_text("x")
                raise error
        assert e.value is error
    assert not [*tmp_path.iterdir()]


def test_long_names(tmp_path):
    for name in ("x" * 240, "日本" * 40):
        with write_aside(tmp_path / name) as part:
            part.write_text("x")
        assert (tmp_path / name).read_text() == "x"


def test_tensors_do_not_hang_on_their_file(tmp_path):
    """A loaded tree survives that its file is cut or replaced (on Windows a mapped file cannot be
    replaced at all)
    """
    code = (
        "import sys, torch; from spat_nb.core.files import *; p = sys.argv[1]; save_tree(p, {'a':"
        " torch.ones(1000000)}); t = load_tree(p)['a'];open(p, 'wb').close(); print(t.sum().item())"
    )
    p = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "t.safetensors")],
        capture_output=True,
        text=True,
    )
    assert p.stdout == "1000000.0\n", (p.returncode, p.stderr)


# ---- a place is looked at before the work


def test_check_writable(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for good in ("new.json", "a/b/new.json", "file", "folder/new.json"):
        check_writable(tmp_path / good)
    for good in ("new", "a/b", "folder"):
        check_writable(tmp_path / good, folder=True)
    check_writable(Path("new.json"))
    check_writable("new")
    says(lambda: check_writable(tmp_path / "folder"), "it is a folder, give the name of a file")
    says(lambda: check_writable(tmp_path / "file", folder=True), "it is a file, give a folder")
    for kw in ({}, {"folder": True}):
        says(
            lambda: check_writable(tmp_path / "file" / "a" / "b.json", **kw),
            "is a file and no folder",
        )
    says(lambda: check_writable(tmp_path / ("x" * 300)), "cannot be written")
    says(
        lambda: check_writable(tmp_path / "a.txt", ending=".json"),
        "would hold JSON; give a name that ends in .json",
        kind=ValueError,
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"] and not [
        *(tmp_path / "folder").iterdir()
    ]


def test_nothing_of_another_kind_is_overwritten(tmp_path):
    kinds(tmp_path)
    for name, ending in (
        ("result.json", ".json"),
        ("card.json", ".json"),
        ("journal.json", ".json"),
        ("weights.safetensors", ".json"),
        ("photo.jpg", ".png"),
        ("notes.txt", ".html"),
    ):
        says(
            lambda: check_writable(tmp_path / name, ending=ending),
            name,
            "would be lost; give another name",
            kind=ValueError,
        )
    for name, ending in (
        ("record.json", ".json"),
        ("curves.png", ".png"),
        ("page.html", ".html"),
        ("nothing", ".json"),
    ):
        check_writable(tmp_path / name, ending=ending)


def test_check_writable_on_a_read_only_disk(tmp_path, monkeypatch):
    "Root may write everywhere, so the system is asked for a file and refuses"
    import tempfile

    def refuses(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuses)
    says(
        lambda: check_writable(tmp_path / "a.json"),
        f"{tmp_path}/a.json cannot be written: Read-only file system.",
    )


# ---- a file of another kind


def kinds(root):
    "One file of each kind: name -> what it is"
    from PIL import Image

    save(SmallCNN(width=4), root / "weights.safetensors")
    save_file({"a": torch.zeros(2)}, root / "other.safetensors")
    record().save(root / "record.json")
    card().save(root / "card.json")
    made = {
        "result.json": {"config": {}, "history": [], "table": []},
        "journal.json": {"key": {}, "done": {}},
        "study.json": {"schema": 1, "study": "s", "arm": "a"},
        "lesson.ipynb": {"cells": [], "nbformat": 4},
        "some.json": [1, 2],
    }
    for name, d in made.items():
        (root / name).write_text(json.dumps(d))
    Image.new("L", (3, 3)).save(root / "curves.png")
    Image.new("L", (3, 3)).save(root / "photo.jpg")
    np.savez(root / "mine.npz", x=np.zeros(3))
    torch.save({"a": 1}, root / "old.pt")
    torch.save({"a": torch.zeros(9)}, root / "older.pt", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(root / "a.zip", "w") as z:
        z.writestr("a", "b")
    (root / "page.html").write_text("<!DOCTYPE html><p>")
    (root / "notes.txt").write_text("notes on this run")
    (root / "nothing").write_bytes(b"")
    (root / "noise.bin").write_bytes(b"\x01\x02\x00" * 99)
    (root / "sub").mkdir()
    return {
        "weights.safetensors": "a safetensors file",
        "other.safetensors": "a safetensors file",
        "record.json": "a record of answers",
        "card.json": "a trust card",
        "result.json": "the results of a training",
        "journal.json": "the state of an evaluation",
        "study.json": "the result of a study",
        "lesson.ipynb": "a notebook",
        "some.json": "a JSON file",
        "curves.png": "a PNG picture",
        "photo.jpg": "a JPEG picture",
        "mine.npz": "an .npz file of arrays",
        "old.pt": "a pickle",
        "older.pt": "a pickle",
        "a.zip": "a zip archive",
        "page.html": "an HTML page",
        "notes.txt": "a text file",
        "nothing": "an empty file",
        "noise.bin": "a binary file",
        "sub": "a folder",
    }


def test_what_is(tmp_path):
    for name, kind in kinds(tmp_path).items():
        assert what_is(tmp_path / name) == kind, name


@pytest.mark.parametrize("door", ["weights", "record", "card", "checkpoint", "journal"])
def test_nobody_is_told_to_throw_away_another_file(door, tmp_path):
    from spat_nb.measure.card import Card

    do = dict(
        weights=load,
        record=Record.load,
        card=Card.load,
        checkpoint=load_tree,
        journal=lambda p: Journal(p, {}),
    )[door]
    own = dict(
        weights="weights.safetensors",
        record="record.json",
        card="card.json",
        checkpoint="weights.safetensors",
        journal="journal.json",
    )[door]
    for name, kind in kinds(tmp_path).items():
        if name == own or (door, name) == ("journal", "sub"):
            continue
        with pytest.raises((ValueError, FileNotFoundError)) as e:
            do(tmp_path / name)
        text = str(e.value)
        assert (
            name in text
            and "delete" not in text
            and "damaged or cut" not in text
            and "\n" not in text
        ), text
        if kind not in ("an empty file", "a text file", "a safetensors file", "a JSON file"):
            assert kind in text, text


def test_the_right_file_beside_it_is_named(tmp_path):
    kinds(tmp_path)
    for name in ("record.json", "result.json", "curves.png"):
        with pytest.raises(ValueError, match=f"give {tmp_path / 'weights.safetensors'}"):
            load(tmp_path / name)
    with pytest.raises(
        FileNotFoundError, match=f"is a folder.*give {tmp_path / 'weights.safetensors'}"
    ):
        load(tmp_path)
    with pytest.raises(ValueError, match=f"give {tmp_path / 'record.json'}"):
        Record.load(tmp_path / "weights.safetensors")
    with pytest.raises(FileNotFoundError, match=f"is a folder.*give {tmp_path / 'record.json'}"):
        Record.load(tmp_path)
    with pytest.raises(ValueError, match="give the .safetensors file that"):
        load(_alone(tmp_path))


def _alone(root):
    (root / "lone").mkdir()
    record().save(root / "lone" / "r.json")
    return root / "lone" / "r.json"


def test_shell_quotes():
    if os.name == "nt":
        assert shell("spat_nb", "lab", "my books") == 'spat_nb lab "my books"'
    else:
        assert (
            shell("spat_nb", "lab", "my 'new' books") == """spat_nb lab 'my '"'"'new'"'"' books'"""
            and shell("lab", "a-b/c.d") == "lab a-b/c.d"
        )
