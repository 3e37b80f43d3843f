"""Lighthouse looks at pages of the site that was built: python tools/lighthouse.py

It needs Node.js and Chromium: `npx` fetches Lighthouse, or LIGHTHOUSE names its program. Prints the
scores, medians of three runs, and fails where one is below 95. Pages may be named; the default is
five of all kinds.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests"))

from browser import FLAGS, Quiet, executable, served  # noqa: E402

PAGES = ("index.html", "play.html", "12_attack.html", "results.html", "api.html")
KINDS = ("performance", "accessibility", "best-practices", "seo")
ASKED = ("performance", "accessibility")  # of these at least `LEAST` is wanted
LEAST = 95
RUNS = 3  # a busy machine makes one run slow
TEXTS = (".html", ".css", ".js", ".json", ".svg", ".xml", ".txt", ".md")
VERSION = "12"  # the last one that runs on Node.js 20


class Packed(Quiet):
    "Texts are sent as gzip, as GitHub Pages sends them"

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file() or path.suffix not in TEXTS:
            return super().send_head()
        body = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        return io.BytesIO(body)


def scores(
    address,  # of a page
    preset,  # 'desktop', or '' for a phone on a slow line
):  # kind -> 0 to 100
    "What Lighthouse says of a page"
    program = os.environ.get("LIGHTHOUSE")
    command = [program] if program else ["npx", "--yes", f"lighthouse@{VERSION}"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "it.json"
        subprocess.run(
            [
                *command,
                address,
                "--quiet",
                "--output=json",
                f"--output-path={out}",
                f"--only-categories={','.join(KINDS)}",
                f"--chrome-flags=--headless=new {FLAGS}",
                *([f"--preset={preset}"] if preset else []),
            ],
            check=True,
            env={**os.environ, "CHROME_PATH": str(executable())},
        )
        found = json.loads(out.read_text(encoding="utf-8"))["categories"]
    return {k: round(100 * found[k]["score"]) for k in KINDS}


def medians(address, preset):
    "kind -> the middle one of the scores of `RUNS` runs"
    runs = [scores(address, preset) for _ in range(RUNS)]
    return {k: statistics.median(r[k] for r in runs) for k in KINDS}


def main():
    site = TOP / "_docs"
    pages = sys.argv[1:] or PAGES
    if missing := [p for p in pages if not (site / p).is_file()]:
        sys.exit(f"no {', '.join(missing)} in {site}: run make docs, or name other pages.")
    bad = []
    with served(site, Packed) as base:
        for page in pages:
            for preset in ("desktop", ""):
                found = medians(base + page, preset)
                line = "  ".join(f"{k} {v}" for k, v in found.items())
                print(f"{page:18} {preset or 'phone':8} {line}", flush=True)
                bad += [f"{page}: {k}" for k in ASKED if found[k] < LEAST]
    if bad:
        sys.exit(f"below {LEAST}: {', '.join(bad)}")


if __name__ == "__main__":
    main()
