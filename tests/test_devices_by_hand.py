"""The tests of devices_by_hand.py in a process of their own: they fork, and what has been forked
cannot go backward where autograd has started threads before, as torch.compile makes it do
"""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_devices_by_hand():
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    r = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", HERE / "devices_by_hand.py"],
        cwd=HERE.parent,
        env={**env, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not r.returncode, r.stdout[-5000:]
    assert len(re.findall(r"^\.+", r.stdout, re.M)[0]) >= 10
