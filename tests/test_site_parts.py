"""The rooms that make the site light and findable, in small"""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("latex2mathml", reason="the extra `docs` is not installed")

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path.insert(0, str(TOOLS))


def room(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


found, light, math, pages = map(room, ("site_found", "site_light", "site_math", "site_pages"))


def text(xml):
    return re.sub(r"<[^>]+>", "", xml)


@pytest.mark.parametrize(
    "tex,holds",
    [
        (r"\frac{a}{b}", "<mfrac>"),
        (r"\arg\max_x f", "<mi>arg</mi>"),
        (r"\operatorname{sign}(g)", "<mi>sign</mi>"),
        (r"\mathrm{softmax}(z)", "<mi>softmax</mi>"),
        (r"\big\{a\big|b\big\}", "&#x0007B;"),
        ("x'", "prime"),
    ],
)
def test_formulas(tex, holds):
    made = math.mathml(tex)
    assert holds in made and "\\" not in text(made)


def test_an_unknown_command_stops_the_build():
    with pytest.raises(ValueError, match=r"\\nosuch.*formula"):
        math.mathml(r"a + \nosuch b")


def test_purged_styles_keep_what_is_used():
    css = (
        "/* c */@import 'x.css';a{b:c}.used{d:e}.gone,.used:hover{f:g}.gone .used{h:i}"
        "a:not(.gone){j:k}@media (x){.gone{l:m}.used{n:o}}@media (y){.gone{p:q}}"
        "@font-face{font-family:F;src:url(f.woff2)}.a\\:b{r:s}"
    )
    assert light.purge(css, {"used"}) == (
        "@import 'x.css';a{b:c}.used{d:e}.used:hover{f:g}a:not(.gone){j:k}"
        "@media (x){.used{n:o}}@font-face{font-family:F;src:url(f.woff2)}"
    )


def test_a_page_waits_for_one_style_sheet_and_no_script(tmp_path):
    (tmp_path / "_static/styles").mkdir(parents=True)
    for name, css in {
        "base.css": '@charset "UTF-8";a{b:c}',
        "styles/theme.css": '@import "../base.css";d{e:url(../f.woff2)}',
        "own.css": "a{b:g}",
    }.items():
        (tmp_path / "_static" / name).write_text(css)
    page = (
        '<link href="_static/styles/theme.css?d=1" rel="stylesheet" />\n<link rel="icon"'
        ' href="_static/i.svg"/>\n<link rel="stylesheet" href="_static/own.css?v=2" />\n'
        '<script src="_static/a.js?v=3"></script><script>DOCUMENTATION_OPTIONS.x = 1;</script>'
        "<script>now()</script>"
    )
    css = light.joined(page, tmp_path)
    assert css == "a{b:c}d{e:url(../f.woff2)}\na{b:g}"  # in the order of the page
    made = light.unhurried(light.with_sheet(page, css))
    sheet = re.findall(r'<link rel="stylesheet" href="_static/styles/all.css\?v=(\w{8})">', made)
    assert len(sheet) == 1 and made.count(".css") == 1 and "i.svg" in made
    assert sheet[0] not in light.with_sheet(page, css + " ")  # other styles, another address
    assert '<script defer src="_static/a.js?v=3">' in made and "<script>now()" in made
    assert '<script type="module">DOCUMENTATION_OPTIONS' in made


def test_pictures_are_the_same_in_fewer_bytes(tmp_path):
    import numpy as np
    from PIL import Image

    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:40] = (200, 30, 7)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=0)
    to, size = light.webp(tmp_path / "a.png")
    assert to.name == "a.webp" and size == (80, 60) and not (tmp_path / "a.png").exists()
    assert (np.asarray(Image.open(to).convert("RGB")) == pixels).all()
    page = '<img alt="1" src="_images/a.png"><img alt="2" src="_images/a.png">'
    first, second = light.with_pictures(page, {"a.png": (to.name, size)}).split("><")
    assert "a.webp" in first and 'width="80"' in first and "lazy" not in first
    assert "a.webp" in second and 'loading="lazy"' in second


def test_titles_keep_the_underscores_of_names():
    assert found.plain("**spat_nb**: _one_ `at_x`, [see](there_.md)") == "spat_nb: one at_x, see"


def test_citations_become_links():
    to = "](papers.md#madry-et-al-2018)"
    assert pages.cited("as Madry et al. (2018) say") == f"as [Madry et al. (2018){to} say"
    assert pages.cited("(Madry et al. 2018)") == f"([Madry et al. 2018{to})"
    assert "croce-and-hein-2020" in pages.cited("Croce and Hein (2020)")
    for kept in (
        "`Madry et al. 2018`",
        "[Madry et al. 2018](x.md)",
        "```\nMadry et al. 2018\n```",
        "# Madry et al. 2018",
        "Madry et al. 2019",
    ):
        assert pages.cited(kept) == kept
    ids = [p["id"] for p in pages.papers()]
    assert len(ids) == len(set(ids)) > 40


def test_the_head_of_a_page():
    assert found.head_of("# A *title*\n\n> what `it` says\n\nmore") == ("A title", "what it says")
    title, about = found.head_of("# T\n\n| a | b |\n\nFirst [words](x.md). " + "long " * 99)
    assert title == "T" and about.startswith("First words.") and len(about) < 210
    site = {"site-url": "https://x.org/", "title": "s", "description": "d"}
    page = found.with_head("<head><title>old</title></head>", site, "p", 'A "b" & c', "<i>")
    assert "<title>A &#34;b" in page or "<title>A &quot;b" in page
    assert "&lt;i&gt;" in page and 'href="https://x.org/p.html"' in page


def test_lessons_are_numbered_in_reading_order():
    side = (
        '<li class="toctree-l1"><a class="reference internal" href="10_b.html">B</a></li>'
        '<li class="toctree-l1 current"><a class="current" href="#">A</a></li>'
        '<li class="toctree-l1"><a class="reference internal" href="guide.html">G</a></li>'
    )
    made = found.numbered(side, ["index", "00_a", "10_b", "guide"], "00_a")
    assert text(made) == "2 B1 AG"
