"The notebooks in a reader's folder, what the wheel carries, and the doctor"

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from spat_nb.app import doctor, findings_torch, lab
from spat_nb.app.cli import main
from spat_nb.core.settings import settings

TOP = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("new_user", TOP / "tools/new_user.py")
new_user = importlib.util.module_from_spec(spec)
spec.loader.exec_module(new_user)
NAMES = {p.name for p in (TOP / "nbs").glob("*.ipynb")}


def tree(d):
    return {
        p.relative_to(d).as_posix(): p.read_bytes()
        for p in Path(d).rglob("*")
        if p.is_file() and p.name != lab.MANIFEST
    }


def edit(path):
    nb = json.loads(path.read_text())
    nb["cells"][0]["source"] = ["my own words"]
    path.write_text(json.dumps(nb))
    return path.read_bytes()


def test_three_times_into_one_folder(tmp_path, capsys):
    """Fresh, as it was, and changed by the reader: what he wrote is still there, and nothing lies
    about
    """
    d = tmp_path / "mine"
    assert main(["lab", str(d), "--copy-only"]) == 0
    first = tree(d)
    assert (
        NAMES <= {*first}
        and "playground.ipynb" in first
        and first["13_steps.ipynb"] == (TOP / "nbs/13_steps.ipynb").read_bytes()
    )
    assert main(["lab", str(d), "--copy-only"]) == 0
    assert tree(d) == first and "as they were" in capsys.readouterr().out
    mine = edit(d / "13_steps.ipynb")
    (d / "my own.txt").write_text("notes")
    (d / "12_attack.ipynb").unlink()
    assert main(["lab", str(d), "--copy-only"]) == 0
    # a deleted one is there again
    assert tree(d) == first | {"13_steps.ipynb": mine, "my own.txt": b"notes"}
    assert (
        "1 files new" in (out := capsys.readouterr().out)
        and "1 files changed by you and kept" in out
    )


def test_a_newer_version_goes_beside_what_the_reader_changed(tmp_path):
    old, new = (
        {"a.ipynb": b"a" + v, "b.ipynb": b"b" + v, "c.ipynb": b"c", "results/s/r.json": b"{}" + v}
        for v in (b"1", b"2")
    )
    lab.copy(tmp_path, old, "1")
    (tmp_path / "a.ipynb").write_bytes(b"mine")
    (tmp_path / "results/s/r.json").write_bytes(b"my own run")
    done = lab.copy(tmp_path, new, "2")
    assert {k: how for k, (how, _) in done.items()} == {
        "a.ipynb": "beside",
        "b.ipynb": "updated",
        "c.ipynb": "same",
        "results/s/r.json": "kept",
    }
    want = {
        "a.ipynb": b"mine",
        "a.new-2.ipynb": b"a2",
        "b.ipynb": b"b2",
        "c.ipynb": b"c",
        "results/s/r.json": b"my own run",
    }
    assert tree(tmp_path) == want and "a.new-2.ipynb" in lab.told(done, tmp_path)
    # once is enough
    assert lab.copy(tmp_path, new, "2")["a.ipynb"][0] == "kept" and tree(tmp_path) == want
    (tmp_path / "a.new-2.ipynb").write_bytes(b"mine too")
    assert (
        lab.copy(tmp_path, new | {"a.ipynb": b"a3"}, "2")["a.ipynb"][1].name == "a.new-2-2.ipynb"
        and (tmp_path / "a.new-2.ipynb").read_bytes() == b"mine too"
    )


@pytest.mark.parametrize("manifest", [None, "", "[]", '{"files": 3}'])
def test_without_a_manifest_everything_that_differs_is_the_readers(tmp_path, manifest):
    (tmp_path / "a.ipynb").write_bytes(b"mine")
    if manifest is not None:
        (tmp_path / lab.MANIFEST).write_text(manifest)
    assert lab.copy(tmp_path, {"a.ipynb": b"a", "b.ipynb": b"b"}, "1")["a.ipynb"][0] == "beside"
    assert tree(tmp_path) == {"a.ipynb": b"mine", "a.new-1.ipynb": b"a", "b.ipynb": b"b"}


def test_notebooks_there_find_the_recorded_runs(tmp_path, monkeypatch):
    "Even where a folder above has settings of its own"
    from spat_nb.studies import rows

    for k in ("SPAT_NB_RESULTS", "SPAT_NB_DATA"):
        monkeypatch.delenv(k, raising=False)
    (tmp_path / "settings.ini").write_text("[spat_nb]\nresults = elsewhere\n")
    want = rows.runs_of("spat")
    lab.copy(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    assert (
        settings().results == tmp_path / "mine" / "results"
        and rows.runs_of("spat") == want
        and len(want) >= 40
    )
    assert {k for k in tree(tmp_path / "mine") if k.endswith(".safetensors")} == set()


@pytest.mark.parametrize(
    "where,says", [("nbs", "belongs to spat_nb itself"), ("pyproject.toml", "is a file")]
)
def test_folders_that_will_not_do(where, says, capsys):
    assert main(["lab", str(TOP / where), "--copy-only"]) == 1
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_the_wheel_carries_notebooks_results_weights_and_every_module(tmp_path):
    "Built from a copy without network; setuptools alone does it"
    wheel = new_user.wheel(tmp_path / "out")
    have = {*zipfile.ZipFile(wheel).namelist()}
    assert {f"spat_nb/notebooks/{n}" for n in NAMES} <= have
    assert {p.relative_to(TOP).as_posix() for p in (TOP / "spat_nb").rglob("*.py")} <= have, (
        "a package is missing in pyproject.toml, [tool.setuptools] packages"
    )
    assert {
        f"spat_nb/notebooks/{p.relative_to(TOP).as_posix()}"
        for p in (TOP / "results").glob("[a-z]*/laptop/*.json")
    } <= have
    assert {p.relative_to(TOP).as_posix() for p in (TOP / "spat_nb/weights").rglob("*.*")} <= have
    assert not [n for n in have if ".work" in n or "/results/" in n and not n.endswith(".json")]
    assert wheel.stat().st_size < 10e6
    # used from there, away from the checkout
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import spat_nb.app.lab as L, spat_nb.app.cli as c; print(L.notebooks(), L.results());"
        " c.main(['lab', 'mine', '--copy-only'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "out",
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    ).stdout
    assert (
        str(tmp_path / "site" / "spat_nb" / "notebooks") in said
        and f"{len(NAMES) + 1} notebooks" in said
    )
    assert [*(tmp_path / "out" / "mine" / "results").glob("spat/laptop/*.json")]


def test_what_is_started(monkeypatch):
    import importlib.util

    c = lab.command("x", browser=False, port=8901, more=["--ServerApp.token=t"])
    assert (
        c[1:3] == ["-m", "jupyterlab"]
        and {"--no-browser", "--port=8901", "--ServerApp.token=t"} <= {*c}
        and c[-1] == "--LabApp.default_url=/lab/tree/index.ipynb"
    )
    if importlib.util.find_spec("voila"):
        c = lab.command("x", playground=True, port=8902)
        assert c[1:3] == ["-m", "voila"] and "--port=8902" in c and c[-1] == "playground.ipynb"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r'jupyterlab is not installed; run: .* -m pip install "spat_nb\[lab\]"'
    ):
        lab.command("x")


def test_flags_of_jupyter_are_passed_on_and_others_refused(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(lab, "become", lambda args, folder: started.append((args, folder)))
    assert main(["lab", str(tmp_path), "--no-browser", "--port", "9", "--ServerApp.token=t"]) == 0
    assert {"--no-browser", "--port=9", "--ServerApp.token=t"} <= {*started[0][0]}
    for args in (["lab", str(tmp_path), "--nonsense"], ["tour", "--ServerApp.token=t"]):
        with pytest.raises(SystemExit):
            main(args)
    assert len(started) == 1


def test_doctor_says_what_is_there(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in (
        "Python",
        "torch",
        "torchvision",
        "GPU",
        "precision",
        "threads",
        "data folder",
        "digits",
        "cifar10",
        "jupyterlab",
        "ipywidgets",
        "fastcore",
        "notebooks",
    ):
        assert re.search(rf"^(ok|note|missing) +{name} ", out, re.M), name
    assert "Everything essential is here." in out


def test_doctor_names_the_mend(monkeypatch, tmp_path, capsys):
    """Optional things missing: status 0 with their command; essential ones, or a setting that
    cannot be read: status 1
    """
    import importlib.metadata as md

    version = md.version

    def gone(*names):
        return monkeypatch.setattr(
            md,
            "version",
            lambda n: (
                (_ for _ in ()).throw(md.PackageNotFoundError(n)) if n in names else version(n)
            ),
        )

    monkeypatch.setenv("SPAT_NB_DATA", str(tmp_path))
    gone("jupyterlab")
    assert main(["doctor"]) == 0
    assert (
        re.search(
            r'missing +jupyterlab +not installed\n +-> .*pip install "spat_nb\[lab\]"',
            out := capsys.readouterr().out,
        )
        and "-> spat_nb data cifar10" in out
    )
    # an empty folder is no data set
    (tmp_path / "cifar-10-batches-py").mkdir()
    gone("pandas")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert (
        re.search(r'BROKEN +pandas +not installed\n +-> .*pip install "pandas"', out)
        and re.search(r"missing +cifar10 +cifar10 in .* is incomplete or damaged", out)
        and "1 essential thing is broken" in out
    )
    gone()
    monkeypatch.setenv("SPAT_NB_PRECISION", "float9")
    assert main(["doctor"]) == 1
    assert re.search(r"BROKEN +settings +precision is 'float9'", capsys.readouterr().out)
    assert (
        doctor.doctor(print, {"x": lambda: 1 / 0}) == 1
        and "could not be looked at (ZeroDivisionError" in capsys.readouterr().out
    )


def test_doctor_looks_for_a_compiler_where_there_is_a_gpu(monkeypatch, tmp_path):
    def torch(gpu):
        return SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: gpu))

    good = tmp_path / "cc"
    good.write_text("#!/bin/sh\nexit 0\n")
    good.chmod(0o755)
    monkeypatch.setenv("CC", str(good))
    (found,) = findings_torch._compiler(torch(True))
    # a program of that name that compiles nothing
    monkeypatch.setenv("CC", sys.executable)
    (other,) = findings_torch._compiler(torch(True))
    assert other.verdict == "note" and "compiles nothing" in other.seen
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", "")
    (missing,) = findings_torch._compiler(torch(True))
    assert (
        (found.verdict, missing.verdict) == ("ok", "note")
        and "gcc" in str(missing)
        and not [*findings_torch._compiler(torch(False))]
    )


def test_doctor_tries_torchvision(monkeypatch):
    "It says so where plain `import torchvision` fails and only our own way in works"
    import torch

    from spat_nb.data import vision

    monkeypatch.setattr(vision, "mended", lambda: False)
    assert findings_torch._torchvision(torch).verdict in ("ok", "note")
    monkeypatch.setattr(vision, "mended", lambda: True)
    f = findings_torch._torchvision(torch)
    assert (
        f.verdict == "note"
        and "alone fails here" in f.seen
        and "data sets, transforms and models work" in f.seen
        and "pip install" in f.mend
    )

    def fails(part=""):
        raise ImportError("no CUDA\nat all")

    monkeypatch.setattr(vision, "torchvision", fails)
    f = findings_torch._torchvision(torch)
    assert f.verdict == "BROKEN" and "does not load (ImportError: no CUDA)" in f.seen
    ops = SimpleNamespace(nms=lambda *_: 1 / 0)
    monkeypatch.setattr(
        vision,
        "torchvision",
        lambda part="": ops if part == "ops" else SimpleNamespace(encode_png=lambda x: x),
    )
    monkeypatch.setattr(vision, "mended", lambda: False)
    f = findings_torch._torchvision(torch)
    assert f.verdict == "note" and "ops.nms do not" in f.seen


def test_doctor_imports_what_is_listed(monkeypatch, tmp_path):
    "A package whose files are broken is listed as installed all the same"
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text('raise OSError("libfoo.so is missing")')
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from spat_nb.app import findings;"
        " print(*[f'{f.verdict} {f.name} {f.seen} {f.mend}' for f in findings.look_at_packages()], sep='\\n')"  # noqa: E501
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(
        r"^BROKEN scikit-learn .* is installed, but does not load \(OSError: libfoo.so is"
        r" missing\).*--force-reinstall",
        out,
        re.M,
    ) and re.search("^ok numpy", out, re.M), out


def test_doctor_tries_gpu_and_folders(monkeypatch, tmp_path):
    def fails(*_, **__):
        raise RuntimeError("no kernel image is available")

    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 1, get_device_name=lambda i: "H200"
    )
    (f,) = findings_torch._gpu(
        SimpleNamespace(cuda=cuda, ones=fails, __version__="2", backends=None)
    )
    assert f.verdict == "missing" and "cannot multiply (RuntimeError: no kernel image" in f.seen
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPAT_NB_DATA", str(tmp_path / "file"))
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path / "my results"))
    found = {f.name: f for f in doctor._folders()}
    assert (
        found["data folder"].verdict == "missing"
        and "give a folder" in found["data folder"].seen
        and found["results folder"].verdict == "ok"
    )
    assert found["digits"].verdict == "ok" and found["cifar10"].verdict == "note"


def test_doctor_opens_arrays(monkeypatch, tmp_path):
    import numpy as np

    x, y = np.zeros((9, 8, 8), np.uint8), np.arange(9) % 3
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "torn.npz").write_bytes(b"PK")
    found = {f.name: f for f in doctor._sets(tmp_path)}
    assert (
        found["mine"].verdict == "ok"
        and found["torn"].verdict == "missing"
        and "torn.npz" in found["torn"].seen
    )


def test_paths_with_spaces_are_quoted():
    import shlex

    if os.name == "nt":
        assert lab.clean_environment("DATA", r"C:\my data") == r"set SPAT_NB_DATA=C:\my data"
    else:
        assert (
            shlex.split(lab.clean_environment("DATA", "/my data"))
            == ["export", "SPAT_NB_DATA=/my data"]
            and shlex.split(lab.PIP)[0] == sys.executable
        )


def test_the_extra_is_enough():
    "What notebooks and playground import beyond the package stands in the extra `lab`"
    extra = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "lab"
    ]
    assert {"jupyterlab", "ipywidgets", "fastcore", "voila"} <= {
        re.match(r"\w+", r)[0] for r in extra
    }
    pinned = {
        line.split("==")[0].lower()
        for line in (TOP / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert {"voila", "websockets"} <= pinned


def test_what_make_new_user_relies_on():
    """The notebooks that it runs are there, and the exercises that it answers say what it replaces,
    once; the whole is too long for a test
    """
    assert {f"{n}.ipynb" for n in (*new_user.FIRST, new_user.ANSWERED)} <= NAMES
    source = "\n".join(
        "".join(c["source"])
        for c in json.loads((TOP / f"nbs/{new_user.ANSWERED}.ipynb").read_text())["cells"]
    )
    for name, (old, *_) in new_user.ANSWERS.items():
        assert f'"{name}"' in source and (not old or source.count(old) == 1), name
