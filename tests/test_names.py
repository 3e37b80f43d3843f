"""Names that people give to classes, attacks and rows: nothing in them ends a plot, a page or a
print
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import markupsafe
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from spat_nb.app.cli import main
from spat_nb.core import pictures, plot
from spat_nb.measure.record import Record
from spat_nb.measure.report import Report

NAMES = (
    r"$\frac$",
    "$a$b$",
    "_under",
    "^hat{",
    "back\\slash",
    "100%",
    "<b>&amp;\"'",
    "日本語",
    "😀",
    "x" * 300,
    "$",
    r"\$",
    "{x}",
    "new\nline",
    "ünïcode",
    "#",
)
C = len(NAMES)


def records():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(20 * C) % C
    return Record(
        y,
        {
            "clean": y,
            "a$b$c": torch.where(torch.rand(len(y), generator=g) < 0.5, y, (y + 1) % C),
            "$x^$": (y + 2) % C,
        },
        NAMES,
    )


@pytest.fixture(autouse=True)
def _quiet():
    import warnings

    with warnings.catch_warnings():
        # a font has not every sign
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        # nor a small figure every name
        warnings.filterwarnings("ignore", message=".*constrained_layout.*")
        yield
    plt.close("all")


def texts(ax):
    "What stands in a figure, as matplotlib prints it"
    from matplotlib.text import Text

    fig = getattr(ax, "flat", [ax])[0].figure
    fig.canvas.draw()
    return [t._preprocess_math(t.get_text()) for t in fig.findobj(Text)]


def test_plain():
    assert (
        plot.plain("cat") == "cat"
        and plot.plain(7) == "7"
        and len(plot.plain("x" * 99)) == 40
        and plot.plain("_a")[0] == " "
    )
    for n in ("$5", "$5 and $6", r"\$", "$$"):
        t = plt.figure().text(0, 0, plot.plain(n))
        # no formula, and the dollars are there
        assert t._preprocess_math(t.get_text()) == (n, False)


@pytest.mark.parametrize(
    "kind",
    [
        "class_bars",
        "confusion",
        "show_images",
        "show_attack",
        "curves",
        "heat",
        "graph",
        "plot_epochs",
        "view",
        "diagnosis",
        "picture",
        "plot_sweep",
    ],
)
def test_plots(kind, tmp_path):  # noqa: C901
    from spat_nb.app import training
    from spat_nb.classwise import confusion_plot, diagnosis, epochs, viewer
    from spat_nb.data.batches import Batches

    r = records()
    x = torch.rand(C, 1, 8, 8)
    n = torch.full((C,), 0.5)
    if kind == "class_bars":
        ax = plot.class_bars(NAMES, n)
    if kind == "confusion":
        ax = plot.confusion(r.confusion("$x^$"), NAMES)
    if kind == "show_images":
        ax = pictures.show_images(x, NAMES)
    if kind == "show_attack":
        ax = pictures.show_attack(x, x, torch.arange(C), torch.arange(C), NAMES)
    if kind == "curves":
        ax = plot.curves({k: [0, 1] for k in NAMES}, "x", "y")
    if kind == "heat":
        ax = confusion_plot.heat(r.confusion("$x^$"), NAMES)
    if kind == "graph":
        ax = confusion_plot.graph(r.confusion("$x^$"), NAMES)
    if kind == "plot_epochs":
        epochs.plot_epochs({1: r, 2: r}, "a$b$c", mark=C)
        ax = plt.gcf().axes[0]
    if kind == "view":
        ax = viewer.view(
            torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, C)),
            Batches((x * 255).byte(), torch.arange(C), NAMES),
            lambda m, x, y: x,
            0,
        )
    if kind == "diagnosis":
        diagnosis.Diagnosis(r, times=5).html(tmp_path / "d.html")
        page = (tmp_path / "d.html").read_text(encoding="utf-8")
        assert (
            str(markupsafe.escape(NAMES[6])) in page and "<b>&amp;" not in page and "日本語" in page
        )
        return
    if kind == "picture":
        r.preds["pgd20"] = r.preds["a$b$c"]
        history = [dict(epoch=e, clean=1.0, robust=0.5) for e in (1, 2)]
        report = Report(r, "Linf(0.1)", "a net", "images", "cpu", 1, {})
        training.picture(history, report, tmp_path / "c.png")
        assert (tmp_path / "c.png").stat().st_size > 1000
        return
    if kind == "plot_sweep":
        from spat_nb.measure.sweep import plot_sweep

        r = Record(r.y, {"clean": r.y, "eps .1": r.y}, NAMES, {"eps": {"eps .1": 0.1}})
        ax = plot_sweep({k: r for k in NAMES})
    seen = "".join(t[0] for t in texts(ax))
    assert all(not math for _, math in texts(ax))
    if kind not in ("view", "show_attack", "plot_epochs"):
        assert "$a$b$" in seen and r"$\frac$" in seen
    if kind == "curves":
        assert len(plt.gcf().axes[0].get_legend().get_texts()) == C


def test_study_rows(tmp_path, monkeypatch):
    from spat_nb.studies.results import Results

    runs = [
        dict(size="laptop", arm=a, seed=s, attack="clean", n=10, accuracy=0.5, lo=0.4, hi=0.6)
        for a in NAMES
        for s in (0, 1)
    ]
    import pandas as pd

    monkeypatch.setattr(Results, "frame", lambda self: pd.DataFrame(runs))
    results = Results(tuple(dict(size="laptop", arm=a) for a in NAMES))
    assert all(not math for _, math in texts(results.plot()))


def test_a_training_with_such_names(tmp_path, capsys):
    "Classes of a folder; the run ends, its files are there, and a second call finds them"
    for part in ("train", "test"):
        for k, name in enumerate(n for n in NAMES if "/" not in n and len(n) < 200):
            d = tmp_path / "data" / part / name
            d.mkdir(parents=True)
            for i in range(5):
                Image.fromarray(np.full((8, 8, 3), 16 * k + i, np.uint8)).save(d / f"{i}.png")
    args = [
        "train",
        "--data",
        "imagefolder",
        "--root",
        str(tmp_path / "data"),
        "--size",
        "8",
        "--epochs",
        "1",
        "--steps",
        "1",
        "--batch",
        "32",
        "--width",
        "4",
        "--model",
        "small",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(args) == 0, capsys.readouterr().err
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "weights.safetensors",
        "recipe.json",
        "result.json",
        "report.json",
        "curves.png",
    }
    assert main(args) == 0 and "finished before" in capsys.readouterr().out
    assert (
        main(
            [
                "diagnose",
                str(tmp_path / "run" / "weights.safetensors"),
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "d.html"),
            ]
        )
        == 0
    ), capsys.readouterr().err


# ---- a run whose picture cannot be drawn

RUN = [
    "train",
    "--data",
    "digits",
    "--epochs",
    "1",
    "--steps",
    "1",
    "--n",
    "100",
    "--n-test",
    "50",
    "--device",
    "cpu",
]


def test_a_picture_that_fails_loses_nothing(tmp_path, capsys, monkeypatch):
    from spat_nb.app import training

    def fails(*_):
        raise ValueError("no font")

    monkeypatch.setattr(training, "picture", fails)
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "curves.png could not be drawn (no font)" in said.out + said.err and {
        p.name for p in out.iterdir()
    } == {"weights.safetensors", "recipe.json", "result.json", "report.json"}
    assert main([*RUN, "--out", str(out)]) == 0 and "finished before" in capsys.readouterr().out


@pytest.mark.parametrize("gone", ["report.json", "weights.safetensors", "result.json"])
def test_a_run_with_missing_files_is_not_finished(gone, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out)]) == 0
    (out / gone).unlink()
    capsys.readouterr()
    assert main([*RUN, "--out", str(out)]) == 0
    assert "finished before" not in capsys.readouterr().out and (out / gone).is_file()


def test_the_report_is_written_last(tmp_path, monkeypatch):
    """report.json says that a run is judged, result.json that it is trained; whatever is killed
    before leaves a run that goes on
    """
    from spat_nb.app import training
    from spat_nb.training import rundir

    seen, before = [], []

    def look(history, report, path):
        seen.extend(p.name for p in Path(path).parent.iterdir())

    def save(model, path, **info):
        before.extend(p.name for p in Path(path).parent.iterdir())
        kept(model, path, **info)

    kept = rundir.save
    monkeypatch.setattr(training, "picture", look)
    monkeypatch.setattr(rundir, "save", save)
    assert main([*RUN, "--out", str(tmp_path / "run")]) == 0
    assert "result.json" in seen and "weights.safetensors" in seen and "report.json" not in seen
    assert "recipe.json" in before and "result.json" not in before


# ---- a console that cannot print them

CONSOLES = {"cp1252": "cp1252", "ascii": "ascii", "cp437": "cp437", "utf-8": "utf-8"}


@pytest.mark.parametrize("console", CONSOLES)
def test_consoles(console, tmp_path):
    for part in ("train", "test"):
        for k, name in enumerate(("猫", "Łódź", "naïve")):
            d = tmp_path / "data" / part / name
            d.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(np.full((8, 8, 3), 60 * k + i, np.uint8)).save(d / f"{i}.png")
    env = {
        **os.environ,
        "PYTHONIOENCODING": console,
        "PYTHONUTF8": "0",
        "OMP_NUM_THREADS": "1",
        "SPAT_NB_RESULTS": str(tmp_path / "結果"),
    }
    env.pop("IN_TEST", None)

    def run(*a):
        return subprocess.run(
            [sys.executable, "-m", "spat_nb", *a], capture_output=True, env=env, cwd=tmp_path
        )

    p = run(
        "train",
        "--data",
        "imagefolder",
        "--root",
        "data",
        "--size",
        "8",
        "--epochs",
        "1",
        "--steps",
        "1",
        "--width",
        "4",
        "--model",
        "small",
        "--device",
        "cpu",
        "--out",
        "走る",
    )
    assert p.returncode == 0 and b"Traceback" not in p.stderr, p.stderr.decode("utf-8", "replace")[
        -1500:
    ]
    assert ("猫" if console == "utf-8" else "\\u732b").encode() in p.stdout
    p = run("evaluate", "走る/weights.safetensors", "--device", "cpu", "--out", "記録.json")
    assert p.returncode == 0, p.stderr[-1500:]
    p = run("compare", "記録.json", "走る/report.json", "--classes", "pgd20")
    assert p.returncode == 0, p.stderr[-1500:]
    p = run("diagnose", "走る/weights.safetensors", "--device", "cpu", "--out", "頁.html")
    assert p.returncode == 0, p.stderr[-1500:]
    p = run("evaluate", "無い.safetensors")
    assert p.returncode == 1 and b"Traceback" not in p.stderr and p.stderr.count(b"\n") == 1
    assert "猫" in (tmp_path / "頁.html").read_text(encoding="utf-8") and json.loads(
        (tmp_path / "記録.json").read_text(encoding="utf-8")
    )["record"]["classes"] == sorted(("猫", "Łódź", "naïve"))
    for command in (
        ["study", "list"],
        ["zoo"],
        ["zoo", "card", "digits/pgd_at/w16"],
        ["study", "status"],
        ["study", "table", "spat"],
    ):
        p = run(*command)
        assert b"Traceback" not in p.stderr, (command, p.stderr[-800:])


def test_every_file_says_its_encoding():
    "write_text and read_text without encoding= take the system's own, cp1252 on Windows"
    bad = []
    for f in [
        *Path(main.__code__.co_filename).parents[1].rglob("*.py"),
        *(Path(__file__).parents[1] / "tools").glob("*.py"),
    ]:
        for call in ast.walk(ast.parse(f.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
            text = name in ("read_text", "write_text")
            text |= name == "open" and bool({*modes} & {"r", "w", "a", "rt", "wt", "at"})
            if text and "encoding" not in [k.arg for k in call.keywords]:
                bad.append(f"{f.name}:{call.lineno}: {ast.unparse(call)[:90]}")
    assert not bad, "\n".join(bad)
