"""What a reader sees: `make lab` opens JupyterLab, a notebook runs there from top to bottom, and a
slider of the playground changes a picture. The site's pages are looked at in test_docs.py, which
builds them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import WHY, chromium, executable, free_port

pytest.importorskip("jupyterlab", reason="the extra `lab` is not installed")
pytest.importorskip("voila", reason="the extra `lab` is not installed")
pytestmark = pytest.mark.skipif(executable() is None, reason=WHY)
TOP = Path(__file__).parents[1]
WAIT = 180  # seconds; a busy machine is slow


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(args, folder, port):
    """The address of the server that `args` starts, with settings of its own in `folder`, and a
    check that it lives. All that it started ends with it
    """
    own = folder / ".jupyter"
    env = {
        **os.environ,
        "SPAT_NB_PROGRESS": str(folder / "progress.json"),
        "TQDM_DISABLE": "1",
        "JUPYTER_CONFIG_DIR": str(own),
        "IPYTHONDIR": str(own),
        "JUPYTERLAB_SETTINGS_DIR": str(own),
        "JUPYTERLAB_WORKSPACES_DIR": str(own),
    }
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(args, env=env, stdout=log, stderr=log, start_new_session=True) as p,
    ):
        try:
            yield (
                f"http://localhost:{port}",
                lambda: p.poll() is None or pytest.fail((folder / "log").read_text()[-2000:]),
            )
        finally:
            os.killpg(p.pid, signal.SIGTERM)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)


def playground(folder, *flags):
    "`spat_nb lab --playground` in a folder of its own"
    return running(
        [
            sys.executable,
            "-m",
            "spat_nb",
            "lab",
            str(folder / "mine"),
            "--playground",
            "--no-browser",
            "--port",
            str(port := free_port()),
            *flags,
        ],
        folder,
        port,
    )


def make_lab(folder):
    """`make lab` beside a copy of the Makefile; its environment is the one of this test, and is not
    set up again (-o)
    """
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(TOP / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    return running(
        [
            "make",
            "-C",
            folder,
            "-o",
            ".venv/.ready",
            "lab",
            f"LAB_FLAGS=--no-browser --port={(port := free_port())} --ServerApp.token=t",
        ],
        folder,
        port,
    )


def until(true, alive, what):
    end = time.monotonic() + WAIT
    while not true():
        alive()
        time.sleep(0.5)
        assert time.monotonic() < end, what


def test_make_lab_runs_a_notebook_from_top_to_bottom(tmp_path):
    path = tmp_path / "spat_nb-notebooks/00_files.ipynb"

    def code():
        return [
            c
            for c in json.loads(path.read_text())["cells"]
            if c["cell_type"] == "code" and "".join(c["source"]).strip()
        ]

    with make_lab(tmp_path) as (url, alive), chromium() as browser:
        until(lambda: answers(f"{url}/api/status?token=t"), alive, "JupyterLab does not answer")
        assert not any(c["execution_count"] for c in code())
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(1000 * WAIT)
        tab.goto(f"{url}/lab/tree/{path.name}?token=t")
        tab.wait_for_function(
            "document.querySelector('#jp-main-statusbar')?.innerText.includes('| Idle')"
        )
        tab.locator(".jp-Notebook .jp-Cell").first.click()
        tab.get_by_role("menuitem", name="Run", exact=True).click()
        tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()

        def done():
            tab.keyboard.press("Control+s")
            tab.wait_for_timeout(1000)
            return code()[-1]["execution_count"]

        until(done, alive, f"still running after {WAIT} s")
        errors = [o for c in code() for o in c["outputs"] if o["output_type"] == "error"]
    assert not errors, errors[0]["evalue"]
    assert all(c["execution_count"] for c in code())


def test_a_slider_of_the_playground_changes_the_picture(tmp_path):
    with playground(tmp_path) as (url, alive), chromium() as browser:
        until(
            lambda: "running at" in (tmp_path / "log").read_text(), alive, "Voila does not answer"
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(1000 * WAIT)
        tab.goto(url)
        tab.wait_for_selector(".playground-attacked .on-light")
        tab.wait_for_selector(".playground-words")
        picture, said = (
            tab.locator(".playground-attacked .on-light").first,
            tab.locator(".playground-words").first,
        )
        assert said.inner_text().startswith("Fooled: ")
        before, words = picture.get_attribute("src"), said.inner_text()
        tab.locator(".playground-eps .noUi-handle").first.focus()
        tab.keyboard.press("ArrowRight")
        until(lambda: picture.get_attribute("src") != before, alive, "the picture stays as it was")
        assert picture.evaluate("e => e.naturalWidth") > 100
        assert words and not tab.locator(".playground-error").count()


LAYOUT = """() => {
  const box = e => e.getBoundingClientRect()
  const parts = ["todo", "notes", "pictures", "menu", "charts", "land"]
  const at = Object.fromEntries(parts.map(p =>
    [p, box(document.querySelector(`.playground-grid > .playground-${p}`)).toJSON()]))
  const seen = [...document.querySelectorAll(".playground *")].filter(e => box(e).width > 0)
  return {
    at,
    right: Math.max(...seen.map(e => box(e).right)),
    scroll: document.documentElement.scrollWidth,
    images: Math.min(...seen.filter(e => e.tagName == "IMG").map(e => box(e).width)),
    themes: [...new Set(seen.filter(e => e.tagName == "IMG").map(e => e.className))],
  }
}"""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_playground_fits_a_phone_and_a_wide_screen(tmp_path, theme):
    with playground(tmp_path, f"--theme={theme}") as (url, alive), chromium() as browser:
        until(
            lambda: "running at" in (tmp_path / "log").read_text(), alive, "Voila does not answer"
        )
        for width in (390, 800, 1280, 1900):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.set_default_timeout(1000 * WAIT)
            tab.goto(url)
            tab.wait_for_selector(f".playground-landscape .on-{theme}")
            tab.wait_for_function("document.querySelector('.playground-words')?.innerText")
            tab.wait_for_timeout(1000)
            seen = tab.evaluate(LAYOUT)
            at = seen["at"]
            # nothing beside the page, and the page fills the window
            assert max(seen["right"], seen["scroll"]) <= width, (width, seen)
            used = max(b["right"] for b in at.values()) - min(b["left"] for b in at.values())
            assert used > width - 60, (width, used)
            assert seen["themes"] == [f"playground-picture on-{theme}"]
            # words of 11 points in a picture of 200 points are 9 or more pixels high
            assert seen["images"] > 150, seen
            if width == 390:  # one below the other
                order = ("todo", "notes", "pictures", "menu", "charts", "land")
                for above, below in zip(order, order[1:]):
                    assert at[above]["bottom"] <= at[below]["top"] + 1, (above, below)
            if width > 1200:  # all at one look
                assert at["menu"]["right"] <= at["pictures"]["left"] < at["land"]["left"]
            tab.close()


@pytest.mark.slow
def test_a_reload_shows_a_still_picture(tmp_path):
    "In JupyterLab's dark theme: unrun, run, and saved without its kernel"
    themes = tmp_path / ".jupyter/@jupyterlab/apputils-extension"
    themes.mkdir(parents=True)
    (themes / "themes.jupyterlab-settings").write_text('{"theme": "JupyterLab Dark"}')
    with make_lab(tmp_path) as (url, alive), chromium() as browser:
        until(lambda: answers(f"{url}/api/status?token=t"), alive, "JupyterLab does not answer")
        path = tmp_path / "spat_nb-notebooks/91_playground.ipynb"
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        tab.set_default_timeout(1000 * WAIT)

        def look(what):
            "Scroll to the playground's output: is it seen, and is no error?"
            tab.goto("about:blank")
            tab.goto(f"{url}/lab/tree/{path.name}?token=t")
            tab.wait_for_selector(".jp-Notebook .jp-Cell")
            for _ in range(40):
                if tab.locator(what).count() and tab.locator(what).first.is_visible():
                    break
                tab.mouse.move(700, 500)
                tab.mouse.wheel(0, 500)
                tab.wait_for_timeout(500)
            assert tab.locator(what).first.is_visible(), what
            error = tab.get_by_text("Error displaying widget")
            assert not any(error.nth(k).is_visible() for k in range(error.count()))

        look(".playground-still img")
        tab.locator(".jp-Notebook .jp-Cell").first.click()
        tab.get_by_role("menuitem", name="Run", exact=True).click()
        tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()

        def saved():
            tab.keyboard.press("Control+s")
            tab.wait_for_timeout(1000)
            return "vnd.jupyter.widget-view" in path.read_text(encoding="utf-8")

        until(saved, alive, f"still running after {WAIT} s")
        look(".playground-landscape .on-dark")
        assert not tab.locator(".playground-still img").first.is_visible()
        with urllib.request.urlopen(f"{url}/api/sessions?token=t") as answer:
            sessions = json.load(answer)
        for s in sessions:
            address = f"{url}/api/sessions/{s['id']}?token=t"
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE"))
        look(".playground-still img")
