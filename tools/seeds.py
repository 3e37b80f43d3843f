"""Run notebooks with every seed shifted, and on plainer processors: what fails there rested on
luck. `python tools/seeds.py [NAME ...] --seeds 1 2 3`

Each notebook runs in a process of its own, to its end even where a cell fails, without the cells
that tests skip. SEED_SHIFT holds the number that is added to every seed of torch, numpy and
`random`, in the notebook and in what it starts. It is read here alone: the package knows nothing of
it. Prints one line for each notebook and setting, then each cell that failed; exits 1 if one did.
`--keep FOLDER` writes the run notebooks.
"""

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NBS = Path(__file__).parents[1] / "nbs"
STRIDE = 10**6  # seed 1 of the first shift must not be seed 2 of the next
PROCESSORS = {
    "native": {},
    "plain": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}

# Which images are picked for training, validation and test is no luck: a shipped network belongs to
# its split (`spat_nb.data.batches.rng`)
PICKS = {
    int.from_bytes(hashlib.blake2b(f"{seed}/pick".encode(), digest_size=8).digest(), "big")
    for seed in range(100)
}


def shift_torch(shift):
    """Generator.manual_seed adds, initial_seed takes away: what was read can be set again.
    torch.manual_seed calls the first
    """
    import ctypes
    import gc

    import torch

    # a C type takes no attributes, its dict does
    methods = gc.get_referents(torch.Generator.__dict__)[0]
    set_seed, read_seed = methods["manual_seed"], methods["initial_seed"]

    def manual_seed(self, seed):
        if seed in PICKS:
            return set_seed(self, seed)
        possible = isinstance(seed, int) and -(2**63) <= seed < 2**64
        # torch refuses the rest in its own words
        return set_seed(self, (seed + shift) % 2**64 if possible else seed)

    def initial_seed(self):
        return (read_seed(self) - shift) % 2**64

    methods.update(manual_seed=manual_seed, initial_seed=initial_seed)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(torch.Generator))


def shift_numpy(shift):
    "np.random.seed, RandomState and default_rng"
    import numpy as np

    def moved(seed):
        return seed + shift if isinstance(seed, int) else seed

    seed, default_rng, state = np.random.seed, np.random.default_rng, np.random.RandomState
    np.random.seed = lambda s=None: seed(moved(s) % 2**32 if isinstance(s, int) else s)
    np.random.default_rng = lambda s=None: default_rng(moved(s))

    class RandomState(state):
        def __init__(self, s=None):
            super().__init__(moved(s))

    np.random.RandomState = RandomState


def shift_random(shift):
    "random.seed and random.Random"
    seed = random.Random.seed

    def moved(self, a=None, version=2):
        return seed(self, a + shift if isinstance(a, int) else a, version)

    random.Random.seed = moved
    random.seed = random._inst.seed


def shift_all(shift):
    "From here on every seed of this process is another one"
    if not shift:
        return
    shift_torch(shift)
    shift_numpy(shift)
    shift_random(shift)


def failed(cell):
    "(error, line of the cell) where the cell ended in an error, else None"
    errors = [o for o in cell.get("outputs", []) if o["output_type"] == "error"]
    if not errors:
        return None
    error = errors[0]
    trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))
    # the first frame that stands in the cell
    at = re.search(r'File "<ipython.*line (\d+)', trace)
    line = cell.source.splitlines()[int(at.group(1)) - 1].strip() if at else ""
    return f"{error['ename']}: {' '.join(error['evalue'].split())}", line


def run(name, keep):
    "In the notebook's own process: run it to its end, print what failed as JSON"
    from execnb.shell import CaptureShell
    from fastcore.nbio import write_nb
    from nbdev.config import get_config
    from nbdev.process import NBProcessor
    from nbdev.test import nb_test_cells

    path, os.environ["IN_TEST"] = NBS / f"{name}.ipynb", "1"
    os.chdir(NBS)
    sys.path.insert(0, str(NBS.parent))
    wanted = {c.id for c in nb_test_cells(path, get_config(path.parent).tst_flags.split())}
    nb, start = NBProcessor(path, rm_directives=False, process=True).nb, time.monotonic()
    CaptureShell(path, profile=False).run_all(
        nb, preproc=lambda cell: cell.id not in wanted, cell_timeout=600
    )
    found = [
        (i, c.id, *failed(c))
        for i, c in enumerate(nb.cells)
        if c.cell_type == "code" and c.id in wanted and failed(c)
    ]
    if keep:
        write_nb(nb, Path(keep) / f"{name}.ipynb")
    print("\n" + json.dumps({"seconds": time.monotonic() - start, "failed": found}))


def start(name, label, extra, keep):
    "The notebook in a process with the variables of `extra`; (name, label, what it found)"
    with tempfile.TemporaryDirectory() as folder:
        text = (
            f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\n"
            "import os, seeds\nseeds.shift_all(int(os.environ.get('SEED_SHIFT', '0')))\n"
        )
        Path(folder, "sitecustomize.py").write_text(text, encoding="utf-8")
        folders = [folder, os.environ.get("PYTHONPATH")]
        env = (
            os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "TQDM_DISABLE": "1",
                "PYTHONPATH": os.pathsep.join(filter(None, folders)),
            }
            | extra
        )
        if keep:
            (keep := Path(keep).absolute() / label).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--one", name] + (
            ["--keep", str(keep)] if keep else []
        )
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = {
            "seconds": 0,
            "failed": [(0, "", f"the process ended with {done.returncode}", done.stderr[-500:])],
        }
    print(
        f"{name:18} {label:16} {found['seconds']:5.0f} s "
        f" {'ok' if not found['failed'] else 'FAILED'}",
        flush=True,
    )
    return name, label, found["failed"]


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    ap.add_argument("names", nargs="*", help="notebooks; all if none is named")
    ap.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="whole numbers; each runs once, with N million added to every seed",
    )
    ap.add_argument("--plain", action="store_true", help="on the plainest processor")
    ap.add_argument("--avx2", action="store_true", help="on a processor with AVX2 and no more")
    ap.add_argument("--threads", type=int, default=1, help="of torch")
    ap.add_argument("--workers", type=int, default=1, help="notebooks side by side")
    ap.add_argument("--keep", metavar="FOLDER", help="for the run notebooks")
    ap.add_argument("--one", help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.one:
        return run(args.one, args.keep)
    known = sorted(p.stem for p in NBS.glob("*.ipynb"))
    strange = [n for n in args.names if n not in known]
    if strange:
        ap.error(f"no notebook {strange[0]}; there are {', '.join(known)}.")
    chosen = [p for p in ("plain", "avx2") if getattr(args, p)] or ["native"]
    jobs = []
    for name in args.names or known:
        for processor in chosen:
            for seed in args.seeds or [0]:
                extra = PROCESSORS[processor] | {
                    "SEED_SHIFT": str(seed * STRIDE),
                    "OMP_NUM_THREADS": str(args.threads),
                }
                jobs.append((name, f"{processor}-t{args.threads}-s{seed}", extra, args.keep))
    with ThreadPoolExecutor(args.workers) as pool:
        answers = list(pool.map(lambda job: start(*job), jobs))
    bad = [a for a in answers if a[2]]
    for name, label, cells in bad:
        print(f"\n{name}, {label}")
        for index, cell, error, line in cells:
            # those follow from another
            if not error.startswith("NameError"):
                print(f"  cell {index} ({cell})  {error}\n      {line}")
    print(f"\n{len(answers) - len(bad)} of {len(answers)} runs passed")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
