"""Two processes on the CPU (gloo): the gradients of one process, one sum a step, the same weights
everywhere, a kill, and the command line
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate", reason="accelerate is not installed")
from multiprocessing import forkserver  # noqa: E402

import devices_worker  # noqa: E402

from spat_nb.attacks.ascent import uniform
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.core.files import load_tree
from spat_nb.data.batches import Batches
from spat_nb.data.sources import get_data
from spat_nb.measure.report import Report
from spat_nb.training.devices import many
from spat_nb.training.shares import Share, Whole, spread
from spat_nb.training.tricks import in_train


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


@pytest.fixture(scope="module")
def start():
    """start(n, what, folder): `n` processes, without a launcher that would end the others when one
    dies
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["devices_worker"])
    # Python 3.11's server does not get our sys.path
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()

    def start(n, *args):
        env = dict(
            OMP_NUM_THREADS="1",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port(),
            GLOO_SOCKET_IFNAME="lo",
            WORLD_SIZE=str(n),
        )
        ps = [
            server.Process(
                target=devices_worker.work,
                args=(env | dict(RANK=str(r), LOCAL_RANK=str(r)) if n > 1 else env, *args),
            )
            for r in range(n)
        ]
        for p in ps:
            p.start()
        return ps

    return start


def end(ps, out, ok=True):
    "Wait; what they said"
    for p in ps:
        p.join(300)
    for p in ps:
        p.kill()
    texts = [f.read_text() for f in sorted(out.glob("*.txt"))]
    assert not ok or all(p.exitcode == 0 for p in ps), "\n".join(texts)
    return texts


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return len(a) == len(b) and all(map(same, a, b)) if isinstance(a, list) else a == b


@pytest.fixture(scope="module")
def three(tmp_path_factory, start):
    "What one process found, and each of two"
    out = tmp_path_factory.mktemp("gradients")
    both, lone = start(2, "gradients", out), start(1, "gradients", out)
    end(both + lone, out)
    return [load_tree(out / f"{r}.safetensors") for r in ("lone", 0, 1)]


def test_gradients_are_those_of_one_process(three):
    """Every step, of PGD-AT over two epochs, so that augmentation, starts and the state of the
    optimiser agree too; in float64, 1e-6 is far
    """
    lone, first, _ = three
    for k in lone:
        if k.endswith("own"):
            continue
        assert len(lone[k]["g"]) == {"free bare": 6, "pgd_at bare": 6, "pgd_at rare": 35}.get(k, 3)
        for a, b, la, lb in zip(lone[k]["g"], first[k]["g"], lone[k]["loss"], first[k]["loss"]):
            assert a.abs().max() > 1e-3 and (a - b).abs().max() < 1e-6 * a.abs().max(), k
            assert (la - lb).abs() < 1e-6, k
        for n, a in lone[k]["weights"].items():
            assert (a.double() - first[k]["weights"][n].double()).abs().max() < 1e-6, (k, n)


def test_a_share_of_its_own_normalises_otherwise(three):
    "The honest exception: batch norm over each share is another network in training"
    lone, first, _ = three
    a, b = (v["pgd_at own"]["g"][0] for v in (lone, first))
    assert (a - b).abs().max() > 1e-2 * a.abs().max()


def test_all_processes_end_with_the_same_weights(three):
    _, first, second = three
    for k in first:
        assert same(
            *({n: v for n, v in d[k].items() if n != "skipped"} for d in (first, second))
        ), k


def test_a_layer_that_one_share_does_not_use(three):
    """Its share takes the others' gradient; a layer that nobody uses has none, so that weight decay
    leaves it alone, as with one process
    """
    lone, first, second = (v["pgd_at rare"] for v in three)
    assert (
        first["skipped"] != second["skipped"]
        and lone["skipped"][0] < min(first["skipped"][0], second["skipped"][0])
        and lone["idle"] == first["idle"] == second["idle"] == [True]
    )
    assert (
        same(first["weights"], second["weights"])
        and (lone["weights"]["bright.weight"] - first["weights"]["bright.weight"]).abs().max()
        < 1e-6
    )


def test_what_is_remembered_of_classes_is_of_the_whole_batch(tmp_path, start):
    """The recipes for the weakest class end as with one process, with the same memory everywhere;
    FRL nearly so, since its weighted mean is over each share
    """
    end(start(2, "recipes", tmp_path) + start(1, "recipes", tmp_path), tmp_path)
    lone, first, second = (load_tree(tmp_path / f"{r}.safetensors") for r in ("lone", 0, 1))
    assert len(lone) == 7
    for k in lone:
        assert same(first[k], second[k]), k
        for part in ("memory", "weights"):
            for n, a in lone[k][part].items():
                assert (a.double() - first[k][part][n].double()).abs().max() < (
                    1e-3 if k == "FRL" else 1e-5
                ) * a.abs().max().clamp_min(1), (k, n)


def test_one_sum_a_step_whatever_the_attack_does(tmp_path, start):
    end(start(2, "collectives", tmp_path), tmp_path)
    # in two steps
    for r in (0, 1):
        assert load_tree(tmp_path / f"{r}.safetensors") == {
            k: ["allreduce_", "allreduce_"] for k in ("1", "9")
        }


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_and_gone_on(tmp_path, start):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir()
    torn.mkdir()
    ps = start(2, "run", torn, torn / "run.safetensors")
    limit = time.monotonic() + 300
    while (
        not ((torn / "1.step").exists() and (torn / "1.step").read_text() >= "4")
        and time.monotonic() < limit
    ):
        time.sleep(0.002)
    for p in ps[::-1]:
        p.kill()
    end(ps, torn, ok=False)
    assert all(p.exitcode == -signal.SIGKILL for p in ps) and not (torn / "0.safetensors").exists()
    said = end(start(2, "run", torn, torn / "run.safetensors"), torn)
    end(start(2, "run", whole, whole / "run.safetensors"), whole)
    # one of them speaks
    assert "going on at epoch" in said[0] and "epoch" not in said[1]
    a = [load_tree(d / f"{r}.safetensors") for d in (whole, torn) for r in (0, 1)]
    assert len(a[0]["history"]) == 6 and all(same(a[0], b) for b in a[1:])


def test_who_waits_for_the_dead_is_told(tmp_path, start):
    begin = time.monotonic()
    ps = start(2, "dies", tmp_path)
    texts = end(ps, tmp_path, ok=False)
    assert ps[1].exitcode == 7 and ps[0].exitcode == 1 and time.monotonic() - begin < 200
    assert "ConnectionError: another process of this run is gone" in texts[0]


def test_checkpoints_that_only_one_sees_are_refused(tmp_path, start):
    end(start(1, "split", tmp_path), tmp_path)
    # what one process wrote, two could go on with
    os.rename(tmp_path / "ownlone.safetensors", tmp_path / "own0.safetensors")
    texts = end(start(2, "split", tmp_path), tmp_path, ok=False)[:2]
    assert all(
        "stand at the steps [3, 0]; let all machines see the same folder" in t for t in texts
    ), texts


def test_command_line(tmp_path):
    "torchrun: one folder, one voice, the numbers of one process where batch norm is shared"
    args = [
        "train",
        "--epochs",
        "1",
        "--steps",
        "2",
        "--images",
        "200",
        "--n-test",
        "40",
        "--device",
        "cpu",
        "--shared-norm",
        "--out",
    ]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "spat_nb",
    ]
    r = subprocess.run(
        [*torchrun, *args, str(tmp_path / "two")], capture_output=True, text=True, timeout=120
    )
    assert r.returncode == 0, r.stderr
    assert (
        r.stdout.count("network  ") == r.stdout.count("written:") == 1 and "2 processes" in r.stdout
    )
    assert {p.name for p in tmp_path.iterdir()} == {"two"}
    assert {p.name for p in (tmp_path / "two").iterdir()} == {
        "weights.safetensors",
        "recipe.json",
        "result.json",
        "report.json",
        "curves.png",
    }
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    report = Report.load(tmp_path / "two" / "report.json")
    assert two["processes"] == 2 and len(report.record.y) == 40
    from spat_nb.app.cli import main

    assert main([*args, str(tmp_path / "one")]) == 0
    one = json.loads((tmp_path / "one" / "result.json").read_text())
    assert (
        one["recipe"] == two["recipe"]
        and abs(one["history"][0]["loss"] - two["history"][0]["loss"]) < 1e-4
    )
    a, b = (load_tree(tmp_path / d / "weights.safetensors")["weights"] for d in ("one", "two"))
    assert all((a[k].float() - b[k].float()).abs().max() < 1e-3 for k in a)


def test_shares_are_the_batches(tmp_path):
    data = get_data("digits", device="cpu", batch_size=50).train.subset(137)
    for of in (1, 2, 3, 37):
        for e, start_ in ((0, 0), (1, 2)):
            parts = zip(*(Share(data, r, of).epoch(e, start_) for r in range(of)))
            for (x, y), mine in zip(data.epoch(e, start_), parts, strict=True):
                for r, (a, b) in enumerate(mine):
                    assert torch.equal(a, x[r::of]) and torch.equal(b, y[r::of])
    with pytest.raises(
        ValueError, match="137 images in batches of 50 holds 37 images, for 38 processes"
    ):
        Share(data, 0, 38)


def test_files_are_read_once(tmp_path):
    "Of a folder of images each process opens its own share"
    from PIL import Image

    for c in "ab":
        (tmp_path / c).mkdir()
        for i in range(8):
            Image.new("RGB", (20, 20), (i * 20, 0, 0)).save(tmp_path / c / f"{i}.png")
    train = get_data("imagefolder", "cpu", 4, root=str(tmp_path), size=16, valid=2).train
    opened, real = [], Image.open
    try:
        Image.open = lambda f: opened.append(f) or real(f)
        mine = [x for x, _ in Share(train, 1, 2).epoch(3)]
        n = len(opened)
    finally:
        Image.open = real
    assert n == sum(len(x) for x in mine) and n < train.n
    assert all(torch.equal(a, b[1::2]) for a, (b, _) in zip(mine, train.epoch(3), strict=True))


def test_starts_are_drawn_for_the_whole_batch():
    x, ball = torch.rand(7, 1, 4, 4), Linf(0.1)
    data = Batches((x * 255).byte(), torch.zeros(7, dtype=torch.int64), ("a", "b"), 7)
    whole = uniform(x, ball, torch.Generator().manual_seed(1))
    for r in range(3):
        s = Share(data, r, 3)
        s.whole = 7
        attack = spread(in_train(pgd(ball, 1)), s)
        assert isinstance(attack.attack.start, Whole) and repr(attack) == repr(
            in_train(pgd(ball, 1))
        )
        g = torch.Generator().manual_seed(1)
        assert torch.equal(attack.attack.start(x[r::3], ball, g), whole[r::3])
        assert torch.equal(
            g.get_state(), torch.Generator().manual_seed(1).set_state(g.get_state()).get_state()
        )

    def f(model, x, y):
        return x

    assert spread(f, s) is f


def test_alone_and_without_accelerate(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert many() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert many() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match="one of 2 processes, which need accelerate"):
        many("cpu")
    assert "accelerate" not in Path(sys.modules["spat_nb.training.learner"].__file__).read_text()
