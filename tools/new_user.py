"""Do what a new user does, from the wheel alone and in clean folders, and say how long each step
took: `make new-user`

Install (with uv as the README says, or `--pip`), the tour with its pictures, the doctor, the
reader's folder, JupyterLab upon it, the first notebooks, and a reader's answers to the exercises of
one. Fails where a step fails, or where the first picture of an attack comes more than `--limit`
seconds after the start of the install. Versions are those of constraints.txt, or with `--newest`
the newest on offer. A clean home folder: no pip cache, no settings. Beside the seconds that passed
stands the processor time: other work on the machine does not change it.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
FIRST, ANSWERED, LIMIT = ("index", "00_core", "00_files", "01_plot", "02_data"), "12_attack", 180
# A reader's answers: exercise -> (what the cell says, what is written instead, the verdict, what is
# kept)
ANSWERS = {
    "attack 1": ('guess=..., name="attack 1"', 'guess=.35, name="attack 1"', "right", "right"),
    "attack 2": (
        "def my_fgsm(x, g, eps): ...",
        "def my_fgsm(x, g, eps): return (x + eps*g.sign()).clamp(0, 1)",
        "right",
        "right",
    ),
    "attack 3": (
        "def corner(x, ball, generator=None): ...",
        "def corner(x, ball, generator=None): return x",
        "wrong",
        "attempted",
    ),
    "attack 4": ("", "", "not attempted", None),
}
AS_PIP = {
    "UV_FIND_LINKS": "PIP_FIND_LINKS",
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INDEX": "PIP_EXTRA_INDEX_URL",
    "SSL_CERT_FILE": "PIP_CERT",
}


class Fault(Exception):
    "A step that went wrong"


def sure(true, what):
    if not true:
        raise Fault(what)


def wheel(out):
    "Build the wheel from a copy of what it is made of, without network; its path"
    with tempfile.TemporaryDirectory() as d:
        skip = "__pycache__", ".ipynb_checkpoints", "_proc"
        for name in ("nbs", "spat_nb", "results"):
            shutil.copytree(
                TOP / name,
                f"{d}/{name}",
                ignore=shutil.ignore_patterns(*skip, *["weights"] * (name == "results")),
            )
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(TOP / name, d)
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"import setuptools.build_meta as b; b.build_wheel({str(out)!r})",
            ],
            cwd=d,
            check=True,
            capture_output=True,
        )
    return next(Path(out).glob("*.whl"))


def clean(home):
    "The environment of somebody who has set nothing; where packages come from stays"
    env = {
        k: v
        for k, v in os.environ.items()
        if not re.match(
            r"SPAT_NB_|JUPYTER|IPYTHON|XDG_|OMP_|TQDM_|MPL|IN_TEST|PYTHON|VIRTUAL_ENV|CONDA", k
        )
    }
    return env | {"HOME": str(home)} | {uv: env[pip] for uv, pip in AS_PIP.items() if pip in env}


class User:
    def __init__(self, folder):
        self.folder, self.bin, self.steps = (
            folder,
            folder / ".venv" / ("Scripts" if os.name == "nt" else "bin"),
            {},
        )
        (folder / "home").mkdir()
        self.env = clean(folder / "home")

    @contextmanager
    def step(self, name):
        "Wall clock and processor seconds of a step"

        def cpu():
            u = resource.getrusage(resource.RUSAGE_CHILDREN)
            return u.ru_utime + u.ru_stime

        t, c = time.monotonic(), cpu()
        print(f"{name:44}", end=" ", flush=True)
        try:
            yield
        finally:
            self.steps[name] = (s := time.monotonic() - t)
            print(f"{s:7.1f} s {cpu() - c:7.1f} s of the processor", flush=True)

    def run(self, *args, cwd=None):
        "A command of the new environment; what it printed"
        r = subprocess.run(
            [str(self.bin / args[0]), *map(str, args[1:])],
            cwd=cwd or self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        sure(
            r.returncode == 0,
            f"`{' '.join(map(str, args))}` ended with {r.returncode}:\n{r.stdout[-3000:]}",
        )
        return r.stdout


def install(user, wheel, pip, newest):
    with user.step("an environment"):
        subprocess.run(
            [sys.executable, "-m", "venv", user.folder / ".venv"], env=user.env, check=True
        )
    what = [f"{wheel}[lab]", *([] if newest else ["-c", TOP / "constraints.txt"])]
    with user.step(f"{'pip' if pip else 'uv pip'} install WHEEL[lab]"):
        if pip:
            user.run("python", "-m", "pip", "install", "-q", *what)
        else:
            user.run("python", "-m", "pip", "install", "-q", "uv")
            user.run("uv", "pip", "install", "-q", "--python", user.bin / "python", *what)


def tour(user):
    with user.step("spat_nb tour: the first picture"):
        said = user.run("spat_nb", "tour")
    page = (user.folder / "tour.html").read_text(encoding="utf-8")
    sure(
        page.count("data:image/png;base64") == 3 and "Under PGD-20" in said, f"no pictures: {said}"
    )


def doctor(user):
    with user.step("spat_nb doctor"):
        said = user.run("spat_nb", "doctor")
    sure("Everything essential is here." in said and "missing " not in said, said)
    n = int(re.search(r"(\d+) recorded runs", said)[1])
    sure(n >= 40, f"{n} recorded runs in the wheel")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as r:
            return r.read().decode()
    except (urllib.error.URLError, OSError):
        return ""


def lab(user):
    "JupyterLab upon the reader's folder answers with its page, and has a kernel"
    at, log = f"http://localhost:{(port := free_port())}", user.folder / "lab.log"
    with user.step("spat_nb lab: JupyterLab answers"), open(log, "w", encoding="utf-8") as f:
        args = [
            user.bin / "spat_nb",
            "lab",
            "mine",
            "--no-browser",
            "--port",
            str(port),
            "--ServerApp.token=t",
        ]
        p = subprocess.Popen(
            args, cwd=user.folder, env=user.env, stdout=f, stderr=subprocess.STDOUT
        )
        try:
            end = time.monotonic() + 120
            while "jupyter-config-data" not in get(f"{at}/lab/tree/index.ipynb?token=t"):
                sure(
                    p.poll() is None and time.monotonic() < end,
                    f"JupyterLab does not answer:\n{log.read_text(encoding='utf-8')[-2000:]}",
                )
                time.sleep(0.3)
            sure(
                "python3" in json.loads(get(f"{at}/api/kernelspecs?token=t"))["kernelspecs"],
                "no kernel",
            )
            sure(
                "13_steps.ipynb" in get(f"{at}/api/contents?token=t"), "the notebooks are not there"
            )
        finally:
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


def execute(user, name):
    "Run a notebook of the reader's folder from top to bottom; its code cells"
    with user.step(f"{name} from top to bottom"):
        user.run(
            "jupyter",
            "nbconvert",
            "--log-level",
            "ERROR",
            "--to",
            "notebook",
            "--execute",
            "--inplace",
            f"{name}.ipynb",
            cwd=user.folder / "mine",
        )
    cells = [
        c
        for c in json.loads((user.folder / "mine" / f"{name}.ipynb").read_text(encoding="utf-8"))[
            "cells"
        ]
        if c["cell_type"] == "code" and "".join(c["source"]).strip()
    ]
    sure(all(c["execution_count"] for c in cells), f"{name}: a cell did not run")
    return cells


def printed(cells):
    return "\n".join(
        "".join(o.get("text", ""))
        for c in cells
        for o in c["outputs"]
        if o["output_type"] == "stream"
    )


def answer(user):
    """A reader writes answers into a notebook, right and wrong ones: each gets its verdict, the
    wrong one a hint, and all are kept
    """
    path = user.folder / "mine" / f"{ANSWERED}.ipynb"
    text = path.read_text(encoding="utf-8")
    for old, new, *_ in ANSWERS.values():
        sure(old in text, f"{ANSWERED} does not say {old!r} any more")
        text = text.replace(old, new, 1) if old else text
    path.write_text(text, encoding="utf-8")
    cells = execute(user, ANSWERED)
    sources = ["".join(c["source"]) for c in cells]
    for name, (_, _, verdict, _) in ANSWERS.items():
        i = next(k for k, s in enumerate(sources) if f'"{name}"' in s)
        said = printed(cells[i : i + 1] if "attempt(" in sources[i] else cells[i : i + 2])
        sure(
            re.search(rf"^{verdict}: ", said, re.M)
            and ("hint 1 of" in said) == (verdict == "wrong"),
            f"{name} should be {verdict}: {said}",
        )
    kept = json.loads((user.folder / "mine/.spat_nb_progress.json").read_text(encoding="utf-8"))
    sure(kept == {k: v[3] for k, v in ANSWERS.items() if v[3]}, f"kept: {kept}")


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--pip", action="store_true", help="install with pip instead of uv")
    p.add_argument(
        "--newest",
        action="store_true",
        help=(
            "the newest versions on offer instead of those of constraints.txt (on Linux: CUDA, some"
            " gigabytes)"
        ),
    )
    p.add_argument(
        "--limit", type=float, default=LIMIT, help="seconds from the install to the first picture"
    )
    a = p.parse_args(argv)
    print(
        f"{os.cpu_count()}"
        f" cores{f', {len(os.sched_getaffinity(0))} of them for this' if hasattr(os, 'sched_getaffinity') else ''};"  # noqa: E501
        f" load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(prefix="spat_nb-new-user-") as d:
        user = User(Path(d))
        try:
            with user.step("the wheel (not the user's)"):
                built = wheel(user.folder)
            install(user, built, a.pip, a.newest)
            tour(user)
            seconds = sum([*user.steps.values()][1:])
            print(f"{'-> from nothing to the first picture':44} {seconds:7.1f} s", flush=True)
            doctor(user)
            with user.step("spat_nb lab mine --copy-only"):
                sure(
                    "notebooks in" in user.run("spat_nb", "lab", "mine", "--copy-only"),
                    "nothing copied",
                )
            lab(user)
            for name in FIRST:
                said = printed(execute(user, name))
                sure(
                    "not attempted: " in said, f"{name}: no exercise says that it is not attempted"
                )
            answer(user)
            sure(
                seconds <= a.limit,
                f"{seconds:.0f} s to the first picture; {a.limit:g} are allowed (load"
                f" {os.getloadavg()[0]:.1f})",
            )
        except Fault as e:
            print(f"\nFAILED: {e}")
            return 1
    print("a new user gets there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
