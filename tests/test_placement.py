"""Everything stays on the device of its data: a stand-in for the GPU that this project's CI has
not. Its tensors refuse to meet the CPU's. What only a GPU shows (speed, streams, autocast,
compilation) is not tested here
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_everything_stays_on_its_device(tmp_path):
    """All cases of placement_worker.py, in a process of their own: no other test ever meets the
    device
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SPAT_NB_RESULTS": str(tmp_path)}
    r = subprocess.run(
        [sys.executable, HERE / "placement_worker.py"],
        cwd=HERE,
        env=env,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    said = {
        name: wrong
        for line in r.stdout.splitlines()
        if line.startswith("[")
        for name, wrong, _ in [json.loads(line)]
    }
    assert not r.returncode, r.stderr[-2000:]
    assert len(said) > 100 and "the_device_refuses" in said
    assert not {k: v for k, v in said.items() if v}
