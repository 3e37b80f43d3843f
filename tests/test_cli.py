"""The console command, as a user calls it: a run that is killed and goes on, its files, its errors,
the tour
"""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from spat_nb.app.cli import main
from spat_nb.core.files import load_tree
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.record import Record
from spat_nb.measure.report import Report
from spat_nb.models.saving import load

RUN = [
    "train",
    "--data",
    "digits",
    "--epochs",
    "5",
    "--steps",
    "3",
    "--n",
    "600",
    "--every",
    "0",
    "--device",
    "cpu",
]


def command(*args, **kw):
    return subprocess.Popen(
        [sys.executable, "-m", "spat_nb", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kw,
    )


def result(folder):
    "The results without what may differ between two runs: times"
    r = json.loads((folder / "result.json").read_text())
    return {k: v for k, v in r.items() if k != "seconds"}


def record_of(folder):
    "The answers of a run's judgement"
    return Report.load(folder / "report.json").record


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A run that nobody disturbed"
    out = tmp_path_factory.mktemp("run") / "whole"
    p = command(*RUN, "--out", str(out))
    text = p.communicate()[0]
    assert p.returncode == 0, text
    return out, text


def test_train_writes_and_says_what_it_did(whole):
    out, text = whole
    assert {
        "weights.safetensors",
        "recipe.json",
        "result.json",
        "report.json",
        "curves.png",
    } == {p.name for p in out.iterdir()}
    r, rec = result(out), record_of(out)
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert (
        r["recipe"]["data"] == "digits"
        and r["torch"] == torch.__version__
        and len(r["history"]) == 5
    )
    shown = " +".join(f"{v:.4g}" for v in (rec.accuracy("pgd20"), *rec.interval("pgd20")))
    assert re.search(rf"pgd20 +360 +{shown} ", text), text
    assert [line.split()[0] for line in text.splitlines()[:4]] == [
        "network",
        "data",
        "ball",
        "device",
    ] and "1 thread" in text.splitlines()[3]
    assert rec.accuracy("clean") > 0.5 and rec.accuracy("pgd20") <= rec.accuracy("clean")
    # the file holds the network that was measured
    test = get_data("digits", device="cpu", n=600).test
    again = evaluate(load(out / "weights.safetensors"), test, precision="float32", progress=False)
    assert torch.equal(again.preds["clean"], rec.preds["clean"])


def test_killed_runs_end_with_the_same_numbers(whole, tmp_path):
    out, _ = whole
    mine = tmp_path / "killed"
    # seconds after the first checkpoint
    for wait in (0.05, 0.4, 0.9):
        p = command(*RUN, "--out", str(mine))
        deadline = time.monotonic() + 60
        while (
            not (mine / "checkpoint.safetensors").exists()
            and p.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        time.sleep(wait)
        if p.poll() is None:
            p.send_signal(signal.SIGKILL)
        p.communicate()
        # never half a file
        if (mine / "checkpoint.safetensors").exists():
            load_tree(mine / "checkpoint.safetensors")
    p = command(*RUN, "--out", str(mine))
    text = p.communicate()[0]
    assert p.returncode == 0, text
    assert result(mine) == result(out)
    a, b = (record_of(o).preds for o in (mine, out))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    a, b = (load_tree(o / "weights.safetensors")["weights"] for o in (mine, out))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_finished_run_is_not_trained_again(whole, capsys):
    out, _ = whole
    before = (out / "weights.safetensors").stat().st_mtime_ns
    assert main([*RUN, "--out", str(out)]) == 0
    assert (
        "finished before" in capsys.readouterr().out
        and (out / "weights.safetensors").stat().st_mtime_ns == before
    )


def test_evaluate_gives_the_numbers_of_the_run(whole, tmp_path, capsys):
    out, _ = whole
    assert (
        main(
            [
                "evaluate",
                str(out / "weights.safetensors"),
                "--out",
                str(tmp_path / "r.json"),
                "--device",
                "cpu",
                "--precision",
                "float32",
                "--n-test",
                "100",
            ]
        )
        == 0
    )
    assert "pgd20" in capsys.readouterr().out
    assert len(Report.load(tmp_path / "r.json").record.y) == 100


def test_evaluate_with_the_strongest_attack_and_the_card(whole, tmp_path, capsys, monkeypatch):
    args = [
        "evaluate",
        str(whole[0] / "weights.safetensors"),
        "--device",
        "cpu",
        "--precision",
        "float32",
        "--n-test",
        "10",
        "--aa",
        "--resume",
        str(tmp_path / "journal.json"),
    ]
    assert main([*args, "--trust"]) == 0
    first = capsys.readouterr().out
    assert "aa/square" in first and "verdict:" in first and "G9 stronger" in first
    # masked and unflagged cannot stand in one output: there is one verdict
    assert first.count("no flag") + first.count("flagged by") == 1

    def computes(*a, **kw):
        raise AssertionError("a finished run is read back, not computed again")

    monkeypatch.setattr(torch.autograd, "grad", computes)
    assert main(args) == 0
    again = capsys.readouterr().out
    assert _numbers(again) == _numbers(first) and len(_numbers(again)) == 9


def _numbers(said):
    "The lines of the table without the work that it took: a row's name, images and accuracies"
    lines = [line.split() for line in said.splitlines()]
    return [words[:5] for words in lines if len(words) > 4 and words[1:2] == ["10"]]


def test_diagnose_writes_a_page(whole, tmp_path, capsys):
    assert (
        main(
            [
                "diagnose",
                str(whole[0] / "weights.safetensors"),
                "--device",
                "cpu",
                "--precision",
                "float32",
                "--n-test",
                "30",
                "--out",
                str(tmp_path / "d.html"),
                "--taus",
                "30",
                "--record",
                str(tmp_path / "r.json"),
            ]
        )
        == 0
    )
    r = Record.load(tmp_path / "r.json")
    assert (
        len(r.y) == 30
        and {"pgd20", "t_pgd 100", "aa 100"} <= {*r.attacks}
        and len(r.info["taus"]) == 10
        and f"{r.info['tau']:g}" in r.info["taus"]
    )
    assert (
        "taken for" in capsys.readouterr().out
        and (tmp_path / "d.html").read_text().count("data:image/png;base64,") == 2
    )


@pytest.mark.parametrize(
    "args,says",
    [
        (["train", "--data", "digitz"], "digitz.*digits"),
        (["evaluate", "none.safetensors"], "none.safetensors"),
        (["train", "--device", "cuda:77"], "cuda:77"),
        (["train", "--precision", "float8"], "float8.*bfloat16"),
    ],
)
def test_errors_are_one_sentence(args, says, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    assert main(args) == 1
    err = capsys.readouterr().err
    assert re.search(says, err) and err.count("\n") == 1


def test_real_cifar10(tmp_path, capsys):
    "The paper tier's command, on a few hundred of the real images"
    try:
        get_data("cifar10", device="cpu", n=10)
    except FileNotFoundError as e:
        pytest.skip(f"no real cifar10: {e}")
    args = [
        "train",
        "--data",
        "cifar10",
        "--objective",
        "trades",
        "--model",
        "preact18",
        "--width",
        "8",
        "--epochs",
        "1",
        "--steps",
        "2",
        "--n",
        "512",
        "--valid",
        "100",
        "--n-test",
        "200",
    ]
    assert (
        main(
            [
                *args,
                "--precision",
                "channels_last",
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    assert "airplane" in capsys.readouterr().out
    r = result(tmp_path / "run")
    assert (
        r["recipe"]["precision"] == "channels_last"
        and len(record_of(tmp_path / "run").y) == 200
        and len(r["history"]) == 2
    )


def test_tour(tmp_path, capsys):
    assert main(["tour", "--out", str(tmp_path / "tour.html")]) == 0
    page, said = (tmp_path / "tour.html").read_text(), capsys.readouterr().out
    assert all(
        w in said for w in ("clean", "FGSM", "PGD-20", "weakest class", "standard", "PGD-AT")
    )
    assert page.count("data:image/png;base64,") == 3 and "http" not in re.sub(
        r'data:image/png;base64,[^"]*', "", page
    )
    std, rob = (_pgd(said, n) for n in ("standard", "PGD-AT"))
    # points of PGD-20 accuracy: what the tour is there to show
    assert rob > std + 20


def _pgd(said, name):
    row = next(line for line in said.splitlines() if line.startswith(name))
    return float(re.findall(r"([\d.]+)%  \[", row)[2])


def test_a_reader_who_goes_away_is_no_fault():
    "spat_nb study list | head -1"
    p = subprocess.Popen(
        [sys.executable, "-m", "spat_nb", "study", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    p.stdout.close()
    assert p.stderr.read() == "" and p.wait() == 141


def test_weights_of_a_study_say_what_they_are_measured_by(tmp_path, capsys):
    from spat_nb.models.networks import SmallCNN
    from spat_nb.models.saving import save

    save(
        SmallCNN(width=4),
        tmp_path / "w.safetensors",
        data="digits",
        eps=0.15,
        study="s",
        arm="a",
        seed=0,
    )
    assert (
        main(
            [
                "evaluate",
                str(tmp_path / "w.safetensors"),
                "--device",
                "cpu",
                "--precision",
                "float32",
                "--n-test",
                "20",
            ]
        )
        == 0
    )
    assert "20" in capsys.readouterr().out
    save(SmallCNN(width=4), tmp_path / "v.safetensors")
    assert (
        main(["evaluate", str(tmp_path / "v.safetensors"), "--device", "cpu"]) == 1
        and "give --data, and --ball or --eps" in capsys.readouterr().err
    )


def test_two_records_are_compared_image_by_image(tmp_path, capsys):
    y, right = (
        torch.arange(200) % 10,
        lambda n: torch.where(
            torch.arange(200) < n, torch.arange(200) % 10, (torch.arange(200) + 1) % 10
        ),
    )
    a, b = (
        Record(y, dict(clean=right(190), pgd20=right(n)), tuple("0123456789")) for n in (162, 150)
    )
    for r, k in ((a, "a"), (b, "b")):
        r.save(tmp_path / f"{k}.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"clean +200 +95\.0 +95\.0 +\+0\.0 \[-1\.0, \+1\.0\] +not told apart", out[1]
    ) and re.fullmatch(r"pgd20 +200 +81\.0 +75\.0 +\+6\.0 \[\+2\.\d, \+9\.\d\]", out[2])
    assert (
        main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--classes", "pgd20"])
        == 0
    )
    assert re.fullmatch(
        r"0 +20 +85\.0 +75\.0 +\+10\.0 \[.*not told apart", capsys.readouterr().out.splitlines()[1]
    )
    assert (
        main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--classes", "aa"])
        == 1
        and "'aa' gives no answers" in capsys.readouterr().err
    )
    Record(y.flip(0), b.preds, b.classes).save(tmp_path / "c.json")
    assert (
        main(["compare", str(tmp_path / "a.json"), str(tmp_path / "c.json")]) == 1
        and "on the same images" in capsys.readouterr().err
    )


# ---- flags

FLAGS = {
    "train": [
        ("--n 0", "--n/--images: 0 is too small"),
        ("--n -1", "-1 is too small"),
        ("--n 1.5", "'1.5' is no whole number"),
        ("--width -3", "--width: -3 is too small; give at least 1"),
        ("--width 0", "--width: 0"),
        ("--epochs 0", "--epochs: 0"),
        ("--epochs -1", "--epochs: -1"),
        ("--batch 0", "--batch: 0"),
        ("--batch -5", "--batch: -5"),
        ("--lr 0", "--lr: 0 is not above 0"),
        ("--lr -1", "--lr: -1"),
        ("--lr nan", "--lr: 'nan' is no number"),
        ("--lr inf", "--lr: 'inf'"),
        ("--lr 1e999", "--lr: "),
        ("--eps -1", "--eps: -1 is no radius"),
        ("--eps nan", "--eps: 'nan'"),
        ("--eps 8", "--eps: 8 is no radius of pixels in [0,1]; did you mean 8/255?"),
        ("--eps 1/0", "--eps: '1/0'"),
        ("--eps 1000", "--eps: 1000"),
        ("--steps 0", "--steps: 0"),
        ("--steps -1", "--steps: -1"),
        ("--seed x", "--seed: 'x' is no whole number"),
        ("--seed 1e3", "--seed: '1e3'"),
        ("--workers -1", "--workers: -1"),
        ("--valid -1", "--valid: -1"),
        ("--valid 0", "--valid: 0"),
        ("--n-test 0", "--n-test: 0"),
        ("--n-test -3", "--n-test: -3"),
        ("--every -1", "--every: -1 is below 0"),
        ("--every nan", "--every: 'nan'"),
        ("--beta nan", "--beta: 'nan'"),
        ("--beta -1", "--beta: -1"),
        ("--size 0", "--size: 0"),
        ("--size -8", "--size: -8"),
        ("--timeout 0", "--timeout: '0'"),
        ("--timeout nan", "--timeout: 'nan'"),
        ("--nonsense", "--nonsense"),
    ],
    "evaluate w": [
        ("--n-test 0", "--n-test: 0"),
        ("--eps 8", "did you mean 8/255?"),
        ("--eps -1", "--eps: -1"),
    ],
    "diagnose w": [
        ("--taus 0", "--taus: 0"),
        ("--taus -1", "--taus: -1"),
        ("--n-test 0", "--n-test: 0"),
        ("--eps nan", "--eps"),
    ],
    "study run spat": [
        ("--budget -5", "--budget: '-5'"),
        ("--budget 0", "--budget: '0'"),
        ("--budget nan", "--budget: 'nan'"),
        ("--budget inf", "--budget: 'inf'"),
        ("--budget 5x", "--budget"),
        ("--seeds -1", "--seeds: -1"),
        ("--seeds 0 x", "--seeds"),
        ("--workers 0", "--workers: 0"),
        ("--workers -1", "--workers: -1"),
        ("--size huge", "--size"),
    ],
    "lab": [
        ("--port 99999", "--port: 99999 is too large; give at most 65535"),
        ("--port 0", "--port: 0"),
        ("--port x", "--port"),
    ],
    "zoo ship": [("--seed y", "--seed")],
}


@pytest.mark.parametrize(
    "command,flag,says", [(c, f, s) for c, rows in FLAGS.items() for f, s in rows]
)
def test_flags_are_refused_in_one_sentence(command, flag, says, capsys):
    with pytest.raises(SystemExit) as e:
        main([*command.split(), *flag.split()])
    err = capsys.readouterr().err
    assert e.value.code == 2 and says in err and err.count("\n") == 1 and flag.split()[0] in err, (
        err
    )


@pytest.mark.parametrize("seed", ["-1", str(2**64 - 1), str(2**70), "-" + str(2**70)])
def test_any_seed_trains(seed, tmp_path, capsys):
    assert (
        main(
            [
                "train",
                "--data",
                "digits",
                "--epochs",
                "1",
                "--steps",
                "1",
                "--n",
                "50",
                "--n-test",
                "20",
                "--seed",
                seed,
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    ), capsys.readouterr().err
    assert (
        main(
            [
                "evaluate",
                str(tmp_path / "run" / "weights.safetensors"),
                "--n-test",
                "20",
                "--device",
                "cpu",
            ]
        )
        == 0
    )


@pytest.mark.parametrize(
    "args,says",
    [
        ("--valid 5000", "valid is 5000, but there are 1437 training images"),
        ("--n-test 361", "--n-test is 361, but there are 360 test images"),
    ],
)
def test_more_images_than_there_are(args, says, tmp_path, capsys):
    assert (
        main(
            [
                "train",
                "--data",
                "digits",
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "run"),
                *args.split(),
            ]
        )
        == 1
    )
    assert says in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_no_compiler_is_noticed_before_the_work(tmp_path, capsys, monkeypatch):
    from spat_nb.core import precision
    from spat_nb.data import sources

    monkeypatch.setattr(precision, "compiler", lambda device: None)
    monkeypatch.setattr(sources, "get_data", lambda *_, **__: 1 / 0)
    assert (
        main(
            [
                "train",
                "--data",
                "digits",
                "--compile",
                "--device",
                "cpu",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 1
    )
    err = capsys.readouterr().err
    assert "--compile needs a C++ compiler" in err and err.count("\n") == 1


# ---- places


@pytest.fixture
def idle(monkeypatch):
    "Every command fails loudly where it begins to work"
    from spat_nb.app import opening, tour, training
    from spat_nb.data import sources
    from spat_nb.studies import reading, runner

    def works(*_, **__):
        raise AssertionError("the work was begun")

    for home, name in (
        (sources, "get_data"),
        (opening, "open_weights"),
        (training, "open_data"),
        (runner, "run"),
        (reading, "read"),
        (tour, "tour"),
    ):
        monkeypatch.setattr(home, name, works)


PLACES = [
    ("train --device cpu --out", True, ""),
    ("evaluate digits/pgd_at/w16 --out", False, ".json"),
    ("evaluate digits/pgd_at/w16 --resume", False, ""),
    ("diagnose digits/pgd_at/w16 --out", False, ".html"),
    ("diagnose digits/pgd_at/w16 --record", False, ".json"),
    ("diagnose digits/pgd_at/w16 --resume", False, ""),
    ("study plot spat --out", False, ".png"),
    ("tour --out", False, ".html"),
    ("lab --copy-only", True, ""),
]


@pytest.mark.parametrize("command,folder,ending", PLACES)
def test_places_are_looked_at_before_the_work(
    command, folder, ending, idle, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir").mkdir()

    def refused(place, *words):
        assert main([*command.split(), str(place)]) == 1
        err = capsys.readouterr().err
        assert all(w in err for w in words) and err.count("\n") == 1, err

    refused(tmp_path / "file" / f"a{ending}", "file", "no folder")
    if folder:
        refused(tmp_path / "file", "it is a file, give a folder")
    else:
        refused(tmp_path / "dir", "it is a folder, give the name of a file")
    if ending:
        refused(tmp_path / "a.safetensors", f"give a name that ends in {ending}")
    with monkeypatch.context() as m:
        import errno
        import os
        import tempfile

        def refuses(*_, **__):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        m.setattr(tempfile, "NamedTemporaryFile", refuses)
        refused(tmp_path / f"new{ending}", "cannot be written: Read-only file system")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir", "file"]


def test_the_files_of_a_run_are_looked_at_too(idle, tmp_path, capsys):
    (tmp_path / "run" / "curves.png").mkdir(parents=True)
    assert (
        main(["train", "--device", "cpu", "--out", str(tmp_path / "run")]) == 1
        and "curves.png cannot be written: it is a folder" in capsys.readouterr().err
    )


@pytest.mark.parametrize("what", ["run", "verify"])
def test_results_that_cannot_be_written(what, idle, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path / "file"))
    assert (
        main(["study", what, "spat", "--device", "cpu"]) == 1
        and "it is a file, give a folder" in capsys.readouterr().err
    )
    monkeypatch.setenv("SPAT_NB_DATA", str(tmp_path / "file"))
    assert main(["data", "mnist"]) == 1 and "it is a file, give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_files_of_another_kind_are_named(command, whole, tmp_path, capsys):
    out, _ = whole
    (tmp_path / "a.ipynb").write_text('{"cells": [], "nbformat": 4}')
    (tmp_path / "empty").write_bytes(b"")
    for given, words in (
        (out / "report.json", ("a report", f"give {out}/weights.safetensors")),
        (out / "result.json", ("the results of a training", f"give {out}/weights.safetensors")),
        (tmp_path, ("is a folder", "give the .safetensors file")),
        (out / "curves.png", ("a PNG picture",)),
        (tmp_path / "a.ipynb", ("a notebook",)),
        (tmp_path / "empty", ("an empty file",)),
    ):
        assert main([command, str(given), "--device", "cpu"]) == 1
        err = capsys.readouterr().err
        assert (
            all(w in err for w in words)
            and "delete" not in err
            and "damaged" not in err
            and err.count("\n") == 1
        ), err


def test_compare_names_files_of_another_kind(whole, tmp_path, capsys):
    out, _ = whole
    for given in ("weights.safetensors", "result.json", "curves.png"):
        assert main(["compare", str(out / given), str(out / "report.json")]) == 1
        err = capsys.readouterr().err
        assert f"give {out}/report.json" in err and err.count("\n") == 1, err
    assert main(["compare", str(tmp_path), str(out)]) == 1 and "is a folder" in (
        capsys.readouterr().err
    )


def test_folders_stand_for_what_is_in_them(whole, tmp_path, capsys):
    "evaluate and compare take the folder of a run"
    out, _ = whole
    args = ["--device", "cpu", "--precision", "float32", "--out", str(tmp_path / "a.json")]
    assert main(["evaluate", str(out), *args]) == 0
    record_of(out).save(tmp_path / "b.json")
    capsys.readouterr()
    for pair in ((out, tmp_path / "a.json"), (tmp_path / "b.json", out)):
        assert main(["compare", *map(str, pair)]) == 0
        said = capsys.readouterr().out
        assert said.count("+0.0 [") == 3 and "pgd20" in said


# ---- arrays


def test_arrays_on_the_command_line(tmp_path, capsys, monkeypatch):
    import numpy as np

    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (rng.integers(0, 60, (60, 8, 8)) + 90 * y[:, None, None]).clip(0, 255).astype(np.uint8)
    np.savez(
        tmp_path / "my $1 data.npz",
        x_train=x[:40],
        y_train=y[:40],
        x_test=x[40:],
        y_test=y[40:],
        classes=np.array(["ant", "bee", "$x$"]),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path / "results"))
    args = ["--data", "my $1 data.npz", "--device", "cpu"]
    assert (
        main(
            [
                "train",
                *args,
                "--model",
                "small",
                "--width",
                "4",
                "--epochs",
                "2",
                "--steps",
                "1",
                "--batch",
                "8",
                "--n",
                "30",
                "--valid",
                "8",
                "--seed",
                "3",
                "--eps",
                ".05",
            ]
        )
        == 0
    ), capsys.readouterr().err
    (run,) = (tmp_path / "results").iterdir()
    assert (
        run.name.startswith("my_1_data-pgd_at-SmallCNN")
        and result(run)["recipe"]["n"] == 30
        and record_of(run).classes == ("ant", "bee", "$x$")
    )
    # the weights say where their data is
    monkeypatch.chdir(run)
    assert main(["evaluate", "weights.safetensors", "--device", "cpu", "--n-test", "9"]) == 0, (
        capsys.readouterr().err
    )
    assert main(["diagnose", "weights.safetensors", "--device", "cpu", "--out", "d.html"]) == 0, (
        capsys.readouterr().err
    )
    (tmp_path / "my $1 data.npz").unlink()
    assert (
        main(["evaluate", "weights.safetensors", "--device", "cpu"]) == 1
        and "my $1 data.npz; check the path" in capsys.readouterr().err
    )


def test_printed_commands_are_quoted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "my 'new' books", "--copy-only"]) == 0
    import shlex

    line = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(line.split(": ", 1)[1]) == ["spat_nb", "lab", "my 'new' books"]


@pytest.mark.parametrize(
    "typed, flag, reader",
    [
        ("run spat --out x.png", "--out", "plot"),
        ("table spat --seeds 0", "--seeds", "run and verify"),
        ("list --budget 9m", "--budget", "run"),
        ("verify spat --workers 2", "--workers", "run"),
    ],
)
def test_a_flag_that_a_study_does_not_read_is_refused(typed, flag, reader, capsys):
    assert main(["study", *typed.split()]) == 1
    said = capsys.readouterr().err
    assert f"{flag} is of study {reader}" in said
