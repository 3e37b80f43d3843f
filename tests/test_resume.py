"""A run that is really killed (SIGKILL, several times, at moments that nobody chose) ends as the
one that was left alone, bit for bit
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from spat_nb.core.files import load_tree

RUN = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.data.draws import crop_flip
from spat_nb.data.sources import get_data
from spat_nb.core.files import save_tree
from spat_nb.training.callbacks import Best, EarlyStop, Validate
from spat_nb.training.progress_bar import Progress
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.learner import Learner
from spat_nb.models.networks import SmallCNN
from spat_nb.training.objectives import pgd_at
out, every, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
data, ball, path = get_data('digits', device='cpu', batch_size=64, augment=crop_flip(1, False)), Linf(.15), out/'checkpoint.safetensors'
torch.manual_seed(seed if path.exists() else 0)          # other first weights: they must come from the file
best = Best()
calls = [Checkpoint(path, every), Validate(data.valid, pgd(ball, 3), .5), best, EarlyStop(50), Progress(.2)]
l = Learner(SmallCNN(width=8), data.train, pgd_at, pgd(ball, 4), epochs=6, lr=.1, callbacks=calls, precision='float32', seed=3).fit()
save_tree(out/'end.safetensors', dict(model=l.model.state_dict(), opt=l.opt.state_dict(), history=l.history, best=best.state(), torch=torch.get_rng_state()))
"""  # noqa: E501


def start(out, every, seed=0):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(out), str(every), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    )


def wait_for(path, newer, seconds=60):
    "Until `path` is newer than `newer`; the time it has then"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.stat().st_mtime_ns > newer:
            return path.stat().st_mtime_ns
        time.sleep(0.002)
    raise AssertionError(f"no new {path.name} within {seconds} s")


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir()
    torn.mkdir()
    p = start(whole, 1e9)
    out, _ = p.communicate(timeout=180)
    assert p.returncode == 0, out
    dice, newer, kills = random.Random(0), 0, 0
    # a file at each step, now and then, at each epoch's end
    for k, every in enumerate((0, 0.1, 1e9)):
        p = start(torn, every, seed=10 + k)
        newer = wait_for(torn / "checkpoint.safetensors", newer)
        time.sleep(dice.uniform(0, 0.3))  # while it computes, or while it writes
        p.send_signal(signal.SIGKILL)
        p.communicate()
        kills += p.returncode == -signal.SIGKILL
        newer = (torn / "checkpoint.safetensors").stat().st_mtime_ns
        load_tree(torn / "checkpoint.safetensors")  # whole, whatever the moment
    assert kills >= 2, "the run was over before it could be killed"
    p = start(torn, 0, seed=99)
    out, _ = p.communicate(timeout=180)
    assert p.returncode == 0, out
    assert "going on at epoch" in out
    a, b = (load_tree(d / "end.safetensors") for d in (whole, torn))
    for k in a:
        assert same(a[k], b[k]), k
    assert all(
        f.name in ("checkpoint.safetensors", "end.safetensors") or f.suffix == ".part"
        for f in torn.iterdir()
    )
