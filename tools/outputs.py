"""Run the notebooks from top to bottom and store their outputs, then clean them: `python
tools/outputs.py [NAME ...]`

A notebook is replaced only when it ran to its end. Prints the seconds each took; more than 60 is a
fault. docs/seconds.json keeps the processor time of each on one core, for the site: other work on
the machine does not change it.
"""

import base64
import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NBS, LIMIT = Path(__file__).parents[1] / "nbs", 60
HEAVY = 30_000  # characters of a figure that is worth the work
WIDGET = "application/vnd.jupyter.widget-view+json"
SECONDS = NBS.parent / "docs/seconds.json"


def spent():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def note(name, seconds):
    "Keep the processor time of a notebook"
    known = json.loads(SECONDS.read_text(encoding="utf-8")) if SECONDS.exists() else {}
    SECONDS.write_text(
        json.dumps(dict(sorted({**known, name: max(1, round(seconds))}.items())), indent=1) + "\n",
        encoding="utf-8",
    )


def without_widgets(nb):
    "Takes out the outputs that only a kernel can draw: after a reload they are an error message"
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    nb.metadata.pop("widgets", None)


def light(png):
    "A figure (base64) in 256 colours, where that is smaller; nobody sees a difference"
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(data := io.BytesIO(), "png", optimize=True)
    again = base64.b64encode(data.getvalue()).decode()
    return again if len(again) < 0.8 * len(png) else png


def with_light_figures(nb):
    "Large figures are stored in 256 colours"
    for cell in nb.cells:
        for o in cell.get("outputs", []):
            png = o.get("data", {}).get("image/png", "")
            if len(png) > HEAVY:
                o["data"]["image/png"] = light(png)


def run(path):
    "Execute the notebook at `path` in place; returns the seconds it took"
    nb = nbformat.read(path, as_version=4)
    t, cpu = time.monotonic(), spent()
    NotebookClient(
        nb,
        timeout=600,
        store_widget_state=False,
        kernel_name="python3",
        resources={"metadata": {"path": str(NBS)}},
    ).execute()
    seconds = time.monotonic() - t
    without_widgets(nb)
    with_light_figures(nb)
    note(path.stem, spent() - cpu)
    part = path.with_name(f".{path.name}.part")
    nbformat.write(nb, part)
    os.replace(part, path)
    subprocess.run(
        [str(Path(sys.executable).with_name("nbdev-clean")), "--fname", str(path)], check=True
    )
    return seconds


def main(names):
    os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}  # no bars in stored outputs
    os.environ.pop("MPLBACKEND", None)
    bad = False
    for path in sorted(NBS.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        try:
            seconds = run(path)
        except CellExecutionError as e:
            print(f"{path.stem:16} FAILED: {e}")
            bad = True
            continue
        print(
            f"{path.stem:16} {seconds:5.1f}"
            f" s{'  over the limit of 60 s' if seconds > LIMIT else ''}",
            flush=True,
        )
        bad |= seconds > LIMIT
    sys.exit(bad)


if __name__ == "__main__":
    main(sys.argv[1:])
