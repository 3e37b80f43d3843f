"""The docs site: built once into a temporary folder, then every page is walked; in a browser too
where there is one.
"""

import argparse
import ast
import functools
import gzip
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import warnings
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from browser import WHY, chromium, executable, served

import spat_nb

bs4 = pytest.importorskip("bs4", reason="the extra `docs` is not installed")
pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
spec = importlib.util.spec_from_file_location("spat_docs", ROOT / "tools/docs.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)

# ---- the checker
EXTERNAL = re.compile(r"^(https?:)?//")
TEX = re.compile(r"\$\$|\\\(|\\\[|\\[a-zA-Z]{2,}")


@functools.lru_cache(maxsize=99)
def parse(text):
    return bs4.BeautifulSoup(text, "html.parser")


def read(path):
    return parse(path.read_text())


def drawn(string):
    return any(e.name in ("pre", "code", "script", "style", "title") for e in string.parents)


def page_faults(path, ids):  # noqa: C901
    "What is wrong with one page; `ids`: path -> ids of that page, None where there is no such file"
    soup = read(path)
    for e in soup.select("script[src], img[src], iframe[src], source[src], link[href]"):
        url = e.get("src") or e["href"]
        if url == "#":
            continue
        if EXTERNAL.match(url) and e.get("rel") == ["canonical"]:
            continue  # where the page is published
        if EXTERNAL.match(url):
            yield f"{path.name}: external {e.name} {url}"
        elif not url.startswith("data:") and ids(path.parent / unquote(urlsplit(url).path)) is None:
            yield f"{path.name}: missing file {url}"
    for e in soup.select("style"):
        if re.search(r'url\(\s*["\']?(https?:)?//|@import', e.text):
            yield f"{path.name}: external style {e.text[:60]!r}"
    for e in soup.select("a[href]"):
        u = urlsplit(e["href"])
        if u.scheme or u.netloc or e["href"] == "#":
            continue
        there = ids((path.parent / unquote(u.path)).resolve() if u.path else path)
        if there is None:
            yield f"{path.name}: broken link {e['href']}"
        elif u.fragment and unquote(u.fragment) not in there:
            yield f"{path.name}: broken anchor {e['href']}"
    for e in soup.select("img"):
        alt = e.get("alt", "").strip()
        if not alt or alt.endswith((".png", ".svg", ".jpg")):
            yield f"{path.name}: image without alt text {e['src'][:60]}"
    yield from (
        f"{path.name}: raw TeX in {t.strip()[:60]!r}"
        for t in soup.find_all(string=TEX)
        if not drawn(t)
    )


def site_faults(site):
    known = {}

    def ids(path):
        path = path.resolve()
        if path not in known:
            if not path.is_file():
                known[path] = None
            elif path.suffix != ".html":
                known[path] = set()
            else:
                known[path] = {e.get("id") for e in read(path).select("[id]")}
        return known[path]

    for page in sorted(site.rglob("*.html")):
        if "_static" not in page.relative_to(site).parts:
            yield from page_faults(page, ids)
    for css in site.rglob("*.css"):
        if re.search(r'(url\(|@import)\s*["\']?(https?:)?//', css.read_text()):
            yield f"{css.name}: external url in a style sheet"


def exported(nb):
    "module -> its public functions and classes, of a notebook"
    cells = [
        "".join(c["source"])
        for c in json.loads(nb.read_text())["cells"]
        if c["cell_type"] == "code"
    ]
    room, found = (
        next(
            (m[1] for c in cells for m in [re.search(r"^#\|\s*default_exp\s+(\S+)", c, re.M)] if m),
            None,
        ),
        {},
    )
    for c in cells:
        if not (m := re.search(r"^#\|[ ]*exports?(?:[ ]+([\w.]+))?[ ]*$", c, re.M)):
            continue
        found.setdefault(m[1] or room, []).extend(
            d
            for d in ast.parse(c).body
            if isinstance(d, (ast.FunctionDef, ast.ClassDef)) and d.name[0] != "_"
        )
    return found


def api_faults(page, room, defs):
    """Each exported name has its card; a function's arguments stand in its table or, without
    comments, in its signature
    """
    soup = read(page)
    for d in defs:
        head = soup.find(id=f"spat_nb.{room}.{d.name}")
        if head is None:
            yield f"{page.name}: no API card of {d.name}"
            continue
        card = head.find_parent("dl").get_text(" ")
        args = [a.arg for a in d.args.args] if isinstance(d, ast.FunctionDef) else []
        yield from (
            f"{page.name}: {d.name} without its argument {a}"
            for a in args
            if not re.search(rf"\b{a}\b", card)
        )
        if len(ast.get_docstring(d) or "") and not head.find_parent("dl").select("dd"):
            yield f"{page.name}: {d.name} without its docstring"


def order_faults(contents, notebooks):
    listed = [n for _, ns in docs.floors(contents) for n in ns if not n.endswith(".md")]
    yield from (f"{n} is twice in _quarto.yml" for n in {n for n in listed if listed.count(n) > 1})
    yield from (
        f"{n} is in _quarto.yml but not in nbs/"
        for n in dict.fromkeys(listed)
        if n not in notebooks
    )
    yield from (f"{n} is in nbs/ but not in _quarto.yml" for n in notebooks if n not in listed)


# ---- the site
def contents():
    return docs.website()["sidebar"]["contents"]


def notebooks():
    return sorted(p.stem for p in NBS.glob("*.ipynb") if p.stem[0] not in "._")


def test_every_notebook_is_in_the_sidebar():
    assert not list(order_faults(contents(), notebooks()))


def searches(tab, base, patience):
    "A search finds something, and names of the package first"
    from playwright.sync_api import Error as PlaywrightError

    for name in ("pgd", "trust", "Recipe"):  # words of lessons, too
        tab.goto(f"{base}search.html?q={name}")
        try:
            tab.wait_for_selector("#search-results li a", timeout=patience)
        except PlaywrightError:
            yield f"a search for {name!r} finds nothing"
            continue
        first = tab.locator("#search-results li a").first.inner_text()
        if first.split(".")[-1].strip("()") != name:
            yield f"a search for {name!r} finds {first!r} first"


def look(site, patience=20000):
    """All pages in Chromium, dark, on a phone's width and a desktop's: mathematics drawn, no error,
    nothing fetched, no sideways scrolling; then a search
    """
    if not executable():
        return warnings.warn(
            f"{WHY}: the pages were walked, but not looked at in a browser", stacklevel=2
        )
    faults = []
    with served(site) as base, chromium() as browser:
        tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        tab.on(
            "console", lambda m: m.type == "error" and faults.append(f"{tab.url}: console {m.text}")
        )
        tab.on("pageerror", lambda e: faults.append(f"{tab.url}: {e}"))
        tab.on(
            "request",
            lambda r: (
                r.url.startswith((base, "data:", "blob:"))
                or faults.append(f"{tab.url}: fetches {r.url}")
            ),
        )
        for page in sorted(p for p in site.glob("*.html") if p.stem != "404"):
            tab.goto(base + page.name)
            for e in tab.locator(".math:not(:has(math)), merror").all():
                faults.append(f"{page.name}: formula not drawn: {e.inner_text()[:60]}")
            flat = (
                "[...document.querySelectorAll('math')]"
                ".filter(e => !e.getClientRects().length && e.checkVisibility()).length"
            )
            if n := tab.evaluate(flat):
                faults.append(f"{page.name}: {n} formulas without extent")
            if tab.evaluate("document.documentElement.dataset.theme") != "dark":
                faults.append(f"{page.name}: not dark")
            for width in (1280, 390):
                tab.set_viewport_size({"width": width, "height": 844})
                if (w := tab.evaluate("document.documentElement.scrollWidth")) > width:
                    faults.append(f"{page.name}: {w} pixels wide on a screen of {width}")
        faults += searches(tab, base, patience)
    return faults


def play_bytes(site, said=""):
    "What the page `play` asks for, in bytes, when it is opened at `said`; with two networks"
    with served(site) as base, chromium() as browser:
        tab, sizes = browser.new_page(), []
        tab.on(
            "response",
            lambda r: r.url.startswith(base) and sizes.append(int(r.headers["content-length"])),
        )
        tab.goto(f"{base}play.html{said}")
        tab.wait_for_selector("#spat-play[data-shown]", timeout=60_000)
        return sum(sizes)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site, built once; where SITE_UNDER_TEST names a folder, the one that was built there"
    if "SITE_UNDER_TEST" in os.environ:
        return Path(os.environ["SITE_UNDER_TEST"])
    folder, before = tmp_path_factory.mktemp("built"), sorted(p.name for p in NBS.iterdir())
    r = subprocess.run(
        [sys.executable, ROOT / "tools/docs.py", "--sphinx", "--out", folder / "site"],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert r.returncode == 0, r.stdout + r.stderr
    assert sorted(p.name for p in NBS.iterdir()) == before, "the build left files in nbs/"
    return folder / "site"


def loaded(site, page):
    "Files that a page loads, itself too, all of its pictures as well; of fonts those of its styles"
    soup = read(site / page)
    found = {site / page}
    for e in soup.select("script[src], img[src], link[rel=stylesheet], link[rel=icon]"):
        url = e.get("src") or e["href"]
        if not url.startswith("data:"):
            found.add(site / unquote(urlsplit(url).path))
    for css in [f for f in found if f.suffix == ".css"]:
        for url in re.findall(r"url\(([^)]+)\)", css.read_text()):
            file = (css.parent / urlsplit(url.strip("\"'")).path).resolve()
            if file.is_file():
                found.add(file)
    return found


def test_pages_are_light(site):
    """Bytes as they lie on the disk, uncompressed; the playground's networks are counted in
    `test_site`
    """
    sizes = {
        p.stem: sum(f.stat().st_size for f in loaded(site, p.name))
        for p in site.glob("*.html")
        if p.stem not in ("play", "404")
    }
    middle = statistics.median(sizes.values())
    largest = sorted(sizes, key=sizes.get)[-3:]
    print(f"median page {middle / 1e3:.0f} kB, first page {sizes['index'] / 1e3:.0f} kB, largest:")
    print(*(f"  {n} {sizes[n] / 1e3:.0f} kB" for n in largest), sep="\n")
    assert middle < 600e3 and sizes["index"] < 1e6
    ours = (site / "_static/styles/all.css").read_text()
    assert all(c in ours for c in (".lesson-number", ".version"))  # pages have them, so they stay
    heavy = [f.name for f in site.rglob("*") if re.search(r"fontawesome\.js|mathjax", str(f))]
    assert not heavy
    for page in ("12_attack.html", "90_compare.html"):
        later = read(site / page).select("article img")[1:]
        assert all(e["loading"] == "lazy" and e["width"] for e in later if e["src"][:5] != "data:")


AXE = ROOT / "tests/vendor/axe-core-4.14.1.min.js.gz"
SEEN = (
    "index install play 12_attack methods commands results papers gallery guide_own_model".split()
)


@pytest.mark.slow
@pytest.mark.skipif(executable() is None, reason=WHY)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(site, scheme):
    "axe finds nothing serious or critical on ten pages (WCAG 2.2 AA)"
    axe, found = gzip.decompress(AXE.read_bytes()).decode(), {}
    tags = [f"wcag{v}{level}" for v in ("2", "21", "22") for level in ("a", "aa")]
    with served(site) as base, chromium() as browser:
        tab = browser.new_page(color_scheme=scheme, reduced_motion="reduce")
        for page in SEEN:
            tab.goto(f"{base}{page}.html")
            tab.evaluate(axe)
            said = tab.evaluate(
                "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", tags
            )["violations"]
            bad = [v for v in said if v["impact"] in ("serious", "critical")]
            found[page] = sum(len(v["nodes"]) for v in bad)
            for v in bad:
                print(page, v["id"], [n["target"] for n in v["nodes"][:3]])
    print(f"{scheme}: serious or critical nodes {found}")
    assert not any(found.values())


@pytest.mark.skipif(executable() is None, reason=WHY)
@pytest.mark.parametrize(
    "wants, chosen, seen", [("dark", "auto", "dark"), ("dark", "light", "light")]
)
def test_colours_are_there_from_the_beginning(site, wants, chosen, seen):
    "Without the theme's scripts a page has the colours that the reader or the system asks for"
    with served(site) as base, chromium() as browser:
        tab = browser.new_page(color_scheme=wants)
        tab.add_init_script(f"localStorage.setItem('mode', '{chosen}')")
        tab.route("**/*.js*", lambda route: route.abort())
        tab.goto(f"{base}papers.html")
        assert tab.evaluate("document.documentElement.dataset.theme") == seen


@pytest.mark.skipif(executable() is None, reason=WHY)
def test_keys_and_the_switch(site):
    """Tab leads from the skip link into the page, the switch folds the code and is kept, and where
    motion is unwanted nothing moves
    """
    with served(site) as base, chromium() as browser:
        tab = browser.new_page(reduced_motion="reduce")
        tab.goto(f"{base}12_attack.html")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent").startswith("Skip")
        tab.keyboard.press("Enter")
        assert tab.url.endswith("#main-content")
        tab.locator(".story-switch").focus()
        assert tab.locator("article div.cell_input").first.is_visible()
        tab.keyboard.press("Enter")
        assert not tab.locator("article div.cell_input").first.is_visible()
        tab.goto(f"{base}10_balls.html")
        assert not tab.locator("article div.cell_input").first.is_visible()
        assert tab.evaluate("getComputedStyle(document.body).transitionDuration") == "0s"
        tab.keyboard.press("Control+k")
        assert tab.locator("#pst-search-dialog").is_visible()


@pytest.mark.skipif(executable() is None, reason=WHY)
def test_a_slider_without_a_kernel(site):
    "Arrow keys choose among frames that were drawn before; one is seen, the others are not loaded"
    with served(site) as base, chromium() as browser:
        tab, fetched = browser.new_page(), []
        tab.on("request", lambda r: "frames/" in r.url and fetched.append(r.url))
        tab.goto(f"{base}91_playground.html")
        slider = tab.locator(".frames input")
        slider.scroll_into_view_if_needed()
        seen = tab.locator(".frames figure:visible figcaption")
        assert seen.all_inner_texts() == ["eps 0.15"]
        slider.focus()
        tab.keyboard.press("ArrowRight")
        assert seen.all_inner_texts() == ["eps 0.20"]
        picture = tab.locator(".frames figure:visible img")
        tab.wait_for_function("e => e.complete && e.naturalWidth > 0", arg=picture.element_handle())
        assert 1 <= len(set(fetched)) <= 2


def test_the_site_is_found(site):
    "Titles, descriptions, addresses, the map, Markdown, the feed, what a search sees first"
    home = docs.website()["site-url"]
    pages = {p.stem for p in site.glob("*.html")} - {"404"}
    titles = {}
    for name in sorted(pages):
        soup = read(site / f"{name}.html")
        titles[name] = soup.title.text
        where = home if name == "index" else f"{home}{name}.html"
        assert soup.find("link", rel="canonical")["href"] == where
        assert len(soup.find("meta", attrs={"name": "description"})["content"]) > 20, name
        assert soup.find("meta", property="og:image")["content"] == f"{home}social.png"
        md = soup.find("link", type="text/markdown")
        assert md is None or (site / md["href"]).stat().st_size > 200
    assert len({*titles.values()}) == len(titles) and "spat_nb — spat_nb" not in titles.values()
    tree = ElementTree.parse(site / "sitemap.xml")
    mapped = {e.text for e in tree.iter() if e.tag.endswith("loc")}
    listed = pages - {"search", "genindex", "index"}
    assert mapped == {home, *(f"{home}{n}.html" for n in listed)}
    said = (site / "llms.txt").read_text()
    for url in re.findall(rf"\({re.escape(home)}([^)]+)\)", said):
        assert (site / url).is_file(), url
    assert set(notebooks()) <= set(re.findall(r"/(\w+)\.md\)", said))
    feed = ElementTree.parse(site / "feed.xml").getroot()
    assert feed.tag.endswith("feed") and len(feed.findall("{*}entry")) >= 1
    assert "Nothing here" in (site / "404.html").read_text()
    for nb in notebooks():
        assert "Run this:" in read(site / f"{nb}.html").find("article").text, nb


def hrefs(soup):
    return [a["href"] for a in soup.select("p.version a")]


QUARTO = """<html><head><title>T</title></head><body>
<main class="content" id="quarto-document-content"><p>Text</p></main></body></html>"""


def test_two_versions(site, tmp_path):
    """A page of the release leads to dev/. One of the development version says what it is, leads to
    its like in the release, or to the first page where it is new, and asks robots to pass by
    """
    home = docs.website()["site-url"]
    release = site
    pages = {n: (site / f"{n}.html").read_text() for n in ("index", "12_attack", "search")}
    for text in pages.values():
        soup = parse(text)
        assert hrefs(soup) == [f"{home}dev/"] and soup.select("main > p.version")
        assert not soup.select("meta[name=robots]")
    found = docs.site_found
    for name, text in {**pages, "quarto": QUARTO, "new": pages["search"]}.items():
        bare = re.sub(r'<p class="version.*?</p>|<link rel="canonical"[^>]*>', "", text)
        if name == "quarto":
            assert hrefs(parse(found.with_version(bare, docs.website(), name))) == [f"{home}dev/"]
        made = found.with_version(bare, docs.website(), name, release)
        soup = parse(found.with_head(made, docs.website(), name, "T", "about", release))
        is_new = name in ("new", "quarto")
        there = home if is_new or name == "index" else f"{home}{name}.html"
        assert hrefs(soup) == [there], name
        first = soup.select_one("article, .bd-search-container, main.content").find(True)
        assert first["class"] == ["version"] and first.text.startswith("Development version (20")
        assert ("no such page" in first.text) == is_new
        assert soup.find("meta", attrs={"name": "robots"})["content"] == "noindex"
        where = f"{home}dev/{name}.html" if is_new else there
        assert [e["href"] for e in soup.select("link[rel=canonical]")] == [where]
    r = subprocess.run(
        [sys.executable, ROOT / "tools/docs.py", "--dev", tmp_path], capture_output=True, text=True
    )
    assert r.returncode == 1 and "index.html" in r.stderr


def test_made_pages_say_what_there_is(site):
    "Every command and flag, every claim, each citation with a link there and back"
    from spat_nb.app.cli import COMMANDS, build_parser
    from spat_nb.studies.claims import all_claims

    text = read(site / "commands.html").find("article").text
    for name, sub in build_parser(COMMANDS)._subparsers._group_actions[0].choices.items():
        assert f"spat_nb {name}" in text
        for a in sub._actions:
            assert (
                a.help == argparse.SUPPRESS or not a.option_strings or a.option_strings[-1] in text
            )
    board = read(site / "results.html")
    assert len(board.select("article table")) == 6 and not board.select("article div.cell_input")
    rows = {row.find("td").text for row in board.select("article tbody tr")}
    for folder in ("records", "sets"):
        assert {f.stem for f in (ROOT / "results" / folder).glob("*.json")} <= rows, folder
    claims = board.select("article table")[0].find("tbody").find_all("tr")
    assert len(claims) >= len(all_claims())
    papers = read(site / "papers.html")
    cites = 0
    for nb in notebooks():
        for a in read(site / f"{nb}.html").select('article a[href^="papers.html#"]'):
            cites += 1
            there = papers.find(id=a["href"].partition("#")[2])
            assert there.find("a", href=f"{nb}.html"), (nb, a["href"])
            assert there.find("a", href=re.compile("^https://")), a["href"]
    assert cites > 50
    said = {e["id"] for e in papers.select("section[id]") if "number not checked" in e.text}
    assert said - {"bibliography"} == {
        p["id"] for p in docs.site_pages.papers() if not p.get("checked", True)
    }
    lessons = {Path(a["href"]).stem for a in read(site / "gallery.html").select(".gallery a")}
    assert len(lessons) > 30 and lessons <= set(notebooks())


STARS = re.compile(r"\*\*\w|\]\(|^\|.*\|$|(?<!\w)\*\w[^*\n]*\w\*(?!\w)", re.M)


def raw_markdown(page):
    soup = read(page)
    for t in soup.find("article").find_all(string=STARS):
        if not any(e.name in ("pre", "code", "script", "style", "math", "dt") for e in t.parents):
            yield f"{page.name}: {t.strip()[:80]!r}"


def test_no_markdown_is_left(site, tmp_path):
    assert not [
        f
        for p in site.glob("*.html")
        if p.stem not in ("404", "search", "genindex")
        for f in raw_markdown(p)
    ]
    for bad in ("so **bold** and", "a [link](x.md)", "*slanted*"):
        (tmp_path / "p.html").write_text(f"<article><p>{bad}</p></article>")
        assert len(list(raw_markdown(tmp_path / "p.html"))) == 1


def test_site(site):
    faults = list(site_faults(site))
    for nb in notebooks():
        for room, defs in exported(NBS / f"{nb}.ipynb").items():
            faults += api_faults(site / f"{nb}.html", room, defs)
    soup = read(site / f"{notebooks()[-2]}.html")
    linked = [Path(a["href"]).stem for a in soup.select("nav.bd-links a") if a["href"] != "#"]
    order = [
        Path(n).stem
        for _, ns in docs.floors(contents())
        for n in ns
        if n not in ("index", notebooks()[-2])
    ]
    assert [n for n in linked if n in order] == order
    api = {a["href"] for a in read(site / "api.html").select("article a[href]")}
    for room, names in docs.by_hand(docs.website()).items():
        assert {f"#spat_nb.{room}.{name}" for name, _ in names} <= api, room
        assert all(read(site / "api.html").find(id=f"spat_nb.{room}.{name}") for name, _ in names)
    text = " ".join(read(site / "api.html").find("article").get_text(" ").split())
    assert not [n for n in spat_nb.__all__ if not re.search(rf"\b{n}\b", text)]
    assert text.index("from spat_nb import pgd") < text.index("spat_nb.core.settings")
    for nb in notebooks():
        assert {
            f"{nb}.html#spat_nb.{room}.{d.name}"
            for room, defs in exported(NBS / f"{nb}.ipynb").items()
            for d in defs
        } <= api, nb
        assert read(site / f"{nb}.html").find("a", href=docs.colab_url(docs.website(), nb)), nb
        colab, plain = (
            json.loads(p.read_text())["cells"]
            for p in (site / f"colab/{nb}.ipynb", NBS / f"{nb}.ipynb")
        )
        assert (
            "%pip install" in colab[0]["source"]
            and "took" in colab[-1]["source"]
            and [c["id"] for c in colab[1:-1]] == [c["id"] for c in plain]
        )
        assert not any(
            ".ipynb)" in c["source"] for c in colab[1:-1] if c["cell_type"] == "markdown"
        )
    drawn = [len(read(site / f"{nb}.html").select("article math")) for nb in notebooks()]
    assert sum(drawn) > 1000
    assert not faults + (look(site) or []), "\n".join(faults)
    if executable():
        sizes = {said: play_bytes(site, said) for said in ("", "#images=photographs")}
        print(f"bytes of the page play: {sizes}")
        assert max(sizes.values()) < 3e6, sizes


def test_the_defence_of_the_guide_is_as_short_as_it_says():
    """Its definitions, imports and comments included, and they stand alone: the slots take them as
    they are
    """
    import torch

    from spat_nb.attacks.attack import fgsm
    from spat_nb.attacks.balls import Linf
    from spat_nb.models.networks import SmallCNN

    cell = next(
        s
        for c in json.loads((NBS / "guide_own_defence.ipynb").read_text())["cells"]
        if "def squeezed" in (s := "".join(c["source"]))
    )
    assert len([line for line in cell.splitlines() if line.strip()]) <= 20
    exec(cell, own := {})
    net = SmallCNN(classes=10, channels=1, head=own["Cosine"])
    loss = own["squeezed"](net, torch.rand(8, 1, 8, 8), torch.arange(8), fgsm(Linf(0.1)))
    loss.backward()
    assert (
        loss > 0
        and net.head.scale.grad.abs() > 0
        and all(p.grad is not None for p in net.parameters())
    )


def test_the_citation_names_this_version():
    import spat_nb

    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (
        cff["version"] == spat_nb.__version__
        and f"{{{spat_nb.__version__}}}" in (NBS / "cite.md").read_text()
    )
    assert (
        cff["repository-code"] == docs.website()["repo-url"]
        and cff["url"] == docs.website()["site-url"]
        and {"cff-version", "message", "title", "authors"} <= {*cff}
    )


def test_the_colab_copy(tmp_path):
    docs.colab({**docs.website(), "sidebar": {"contents": ["12_attack.ipynb"]}}, tmp_path)
    nb, cells = (
        json.loads(p.read_text())["cells"]
        for p in (tmp_path / "colab/12_attack.ipynb", NBS / "12_attack.ipynb")
    )
    assert (
        len(nb) == len(cells) + 2
        and '%pip install -q "spat_nb[lab] @ git+https://github.com/spat-nb/spat_nb"'
        in nb[0]["source"]
    )
    # says the time
    env = dict(clock=0.0, time=__import__("time"))
    exec(nb[-1]["source"], env)
    links = [
        line
        for c in nb
        if c["cell_type"] == "markdown"
        for line in re.findall(r"\]\(([^)#]*)", c["source"])
    ]
    assert any(line.startswith("https://spat-nb.github.io/spat_nb/") for line in links) and not any(
        line.endswith(".ipynb") for line in links
    )
    assert (
        docs.colab_url(docs.website(), "x")
        == "https://colab.research.google.com/github/spat-nb/spat_nb/blob/colab/x.ipynb"
    )


# ---- a check that cannot fail is none: each fault, planted
GOOD = """<html><body><h1 id="top">A</h1><a href="#top">a</a><a href="https://x.org">b</a><img src="i.png" alt="a curve">
          <span class="math"><math><mi>x</mi></math></span></body></html>"""  # noqa: E501


@pytest.mark.parametrize(
    "bad,fault",
    [
        ('<a href="nowhere.html">x</a>', "broken link"),
        ('<a href="#nowhere">x</a>', "broken anchor"),
        ('<a href="p.html#no">x</a>', "broken anchor"),
        ('<img src="gone.png" alt="x">', "missing file"),
        ('<img src="i.png">', "without alt"),
        ('<img src="i.png" alt="_images/i.png">', "without alt"),
        ('<script src="https://cdn.jsdelivr.net/m.js"></script>', "external script"),
        ('<link rel="stylesheet" href="//fonts.x/c.css">', "external link"),
        ('<img src="https://x.org/i.png" alt="x">', "external img"),
        ("<style>@font-face {src: url(https://x.org/f.woff)}</style>", "external style"),
        ("<p>so $$x</p>", "raw TeX"),
        (r"<p>and \frac{1}{2}</p>", "raw TeX"),
        (r"<math><mtext>\foo</mtext></math>", "raw TeX"),
    ],
)
def test_checker_finds(tmp_path, bad, fault):
    (tmp_path / "i.png").write_bytes(b"x")
    page = tmp_path / "p.html"
    page.write_text(GOOD)
    assert not list(site_faults(tmp_path))
    page.write_text(GOOD.replace("</body>", bad + "</body>"))
    found = list(site_faults(tmp_path))
    assert len(found) == 1 and fault in found[0]


def test_checker_finds_missing_cards_and_notebooks(tmp_path):
    page = tmp_path / "p.html"
    f = ast.parse('def f(a, b): "doc"').body
    card = '<dl><dt id="spat_nb.m.f">f(a{})</dt><dd>doc</dd></dl>'
    page.write_text(card.format(", b"))
    assert not list(api_faults(page, "m", f))
    page.write_text(card.format(""))
    assert list(api_faults(page, "m", f)) == ["p.html: f without its argument b"]
    page.write_text("")
    assert list(api_faults(page, "m", f)) == ["p.html: no API card of f"]
    assert (
        len(
            list(
                order_faults(
                    ["a.ipynb", {"section": "s", "contents": ["b.ipynb", "b.ipynb"]}], ["a", "c"]
                )
            )
        )
        == 3
    )
    (tmp_path / "c.css").write_text('@import "https://x.org/c.css"')
    assert len(list(site_faults(tmp_path))) == 1


def test_browser_finds(tmp_path):
    bad = (
        '<div style="width:900px">wide</div><span class="math">x</span><script'
        ' src="gone.js"></script>'
    )
    for name, body in (("p", bad), ("search", "nothing")):
        (tmp_path / f"{name}.html").write_text(
            f'<html data-theme="dark"><body>{body}</body></html>'
        )
    faults = look(tmp_path, patience=500)
    if faults is None:
        pytest.skip(WHY)
    for text in ("pixels wide", "formula not drawn", "console", "finds nothing"):
        assert any(text in f for f in faults), (text, faults)


@pytest.fixture
def small(tmp_path):
    "A project of one notebook: build(text, *arguments of tools/docs.py)"
    for f in ("tools", "docs/templates"):
        shutil.copytree(ROOT / f, tmp_path / f, ignore=shutil.ignore_patterns("__pycache__"))
    for f in "site.css site.js scorer.js favicon.svg papers.toml".split():
        shutil.copy(ROOT / "docs" / f, tmp_path / "docs")
    for f in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / f, tmp_path)
    site = {**docs.website(), "sidebar": {"contents": ["index.ipynb"]}}
    (tmp_path / "_quarto.yml").write_text(yaml.dump({"website": site}))
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs/_quarto.yml").symlink_to("../_quarto.yml")

    def cell(i, kind, source, **kw):
        return {"cell_type": kind, "id": f"c{i}", "metadata": {}, "source": source, **kw}

    def build(text, *args, env=None):
        cells = [
            cell(0, "code", "#| default_exp attacks.balls", outputs=[], execution_count=1),
            cell(1, "markdown", "# T\n> sub"),
            cell(2, "markdown", text),
        ]
        for i, code in enumerate(
            (
                "#| export\nclass Ball: pass",
                "import math\nprint(never_defined)",
                "#| hide\nsecret = 1",
            ),
            3,
        ):
            cells.append(cell(i, "code", code, outputs=[], execution_count=i))
        (tmp_path / "nbs/index.ipynb").write_text(
            json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        )
        return subprocess.run(
            [sys.executable, tmp_path / "tools/docs.py", *args],
            capture_output=True,
            text=True,
            env=env,
        )

    build.path = tmp_path
    return build


def test_broken_link_in_a_notebook_stops_the_build(small):
    r = small("fine: `Ball`", "--sphinx")
    assert r.returncode == 0, r.stderr
    page = (small.path / "_docs/index.html").read_text()
    assert (
        all(
            t in page
            for t in (
                "sub",
                'id="spat_nb.attacks.balls.Ball"',
                'href="#spat_nb.attacks.balls.Ball"',
                "never_defined",
            )
        )
        and "secret" not in page
    )
    r = small("[gone](99_gone.ipynb)", "--sphinx")
    assert r.returncode and "99_gone.ipynb" in r.stderr


def test_the_way_to_quarto(small):
    """A stand-in for quarto: it is handed prepared notebooks, with nothing executed, and no file of
    nbdev stays in nbs/
    """
    fake = small.path / "bin/quarto"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\nmkdir -p "$1" && cp index.ipynb'
        ' "$1/index.html"\n'
    )
    fake.chmod(0o755)
    r = small("fine", env={**os.environ, "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}"})
    assert r.returncode == 0, r.stdout + r.stderr
    page = (small.path / "_docs/index.html").read_text()
    assert "### Ball {#ball}" in page and "class Ball: pass" in page and "secret" not in page
    assert {p.name for p in (small.path / "nbs").iterdir()} == {"index.ipynb", "_quarto.yml"}


def test_both_builders_give_the_same_pages(small):
    """Quarto makes a page of each file that it is handed; Sphinx's pages are the same, and two of
    its own
    """
    pages = ["papers.md", "changes.md", "own.md"]
    site = {
        **docs.website(),
        "sidebar": {"contents": ["index.ipynb", {"section": "At hand", "contents": pages}]},
    }
    (small.path / "_quarto.yml").write_text(yaml.dump({"website": site}))
    (small.path / "nbs/own.md").write_text("# Own\n\nA page.\n")
    fake = small.path / "bin/quarto"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\nmkdir -p "$1"\n'
        'for f in *.ipynb *.md; do cp "$f" "$1/${f%.*}.html"; done\n'
    )
    fake.chmod(0o755)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    found = {}
    for builder, args in {"quarto": (), "sphinx": ("--sphinx",)}.items():
        r = small("so Madry et al. (2018) say", *args, env={**os.environ, "PATH": path})
        assert r.returncode == 0, r.stdout + r.stderr
        found[builder] = {p.name for p in (small.path / "_docs").glob("*.html")}
        text = (small.path / "_docs/index.html").read_text()
        assert re.search(r"papers\.(md|html)#madry-et-al-2018", text)
    assert found["sphinx"] - found["quarto"] == {"search.html", "genindex.html"}
    assert found["quarto"] <= found["sphinx"]
    wanted = {"index.html", "404.html", *(f"{Path(p).stem}.html" for p in pages)}
    assert found["quarto"] == wanted
