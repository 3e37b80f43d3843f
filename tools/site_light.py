"""What readers have to load, made small: pictures as WebP, icons as a font of the few that are
drawn, one style sheet without rules for what no page holds, no script that no page needs, and none
that a page waits for
"""

import io
import logging
import re
import shutil
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

SCRIPT = re.compile(r"<script[^>]*fontawesome\.js[^>]*></script>\s*")
# what a search reads: one page has it, to which the form of all others leads
SEARCH = re.compile(r"<script[^>]*(?:searchindex|searchtools|language_data)\.js[^>]*></script>\s*")
# what a page would wait for, before it is shown
WAITED = re.compile(r'<script (src="_static/[^"]*"></script>)')
INLINE = re.compile(r"<script>(DOCUMENTATION_OPTIONS\.)")
# the theme sets "auto" first and the colours later, by a script: all of a page is then drawn twice
LATER = 'dataset.theme = localStorage.getItem("theme") || "auto";'
AT_ONCE = (
    'dataset.theme = { light: "light", dark: "dark" }[localStorage.getItem("mode")]'
    ' || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");'
)
SHEET = re.compile(r'<link\b[^>]*?href="(_static/[^"?]*\.css)[^"]*"[^>]*>\s*')
ALL = "_static/styles/all.css"  # beside the theme's own, whose paths to fonts stay true
CODEPOINT = re.compile(r"\\(f[0-9a-f]{3}|e[0-9a-f]{3})\b")


# ---- style sheets
def blocks(css):
    "(head, body) of each rule of a style sheet; the body of a statement without one is None"
    at = 0
    while at < len(css):
        brace, end = css.find("{", at), css.find(";", at)
        if brace < 0 or -1 < end < brace:
            if end < 0:
                break
            yield css[at:end].strip(), None
            at = end + 1
            continue
        depth, stop = 1, brace + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(css[stop], 0)
            stop += 1
        yield css[at:brace].strip(), css[brace + 1 : stop - 1]
        at = stop


def parts(selector):
    "The selectors of a list; commas in parentheses part none"
    return re.split(r",(?![^(]*\))", selector)


def is_used(selector, words):
    "Whether every class and id that it asks for stands among `words`; `:not()` asks for nothing"
    asked = re.sub(r":(not|is|where)\((?:[^()]|\([^()]*\))*\)", "", selector)
    return all(w in words for w in re.findall(r"[.#]((?:[\w-]|\\.)+)", asked))


def purge(
    css,  # a style sheet
    words,  # every class, id and word that pages and scripts hold
):
    "The style sheet without rules for what nothing holds"
    kept = []
    for head, body in blocks(re.sub(r"/\*.*?\*/", "", css, flags=re.S)):
        if body is None:
            kept.append(f"{head};")
        elif re.match(r"@(media|supports|layer|container)", head):
            inner = purge(body, words)
            kept += [f"{head}{{{inner}}}"] if inner else []
        elif head.startswith("@"):
            kept.append(f"{head}{{{body}}}")
        else:
            left = [s for s in parts(head) if is_used(s, words)]
            kept += [f"{','.join(left)}{{{body}}}"] if left else []
    return "".join(kept)


def joined(
    text,  # a page
    folder,  # of the site
):
    "The style sheets of a page as one, in their order; what they import stands in its place"

    def read(path):
        css = path.read_text(encoding="utf-8").replace('@charset "UTF-8";', "")
        return re.sub(r'@import "([^"]+)";', lambda m: read(path.parent / m[1]), css)

    return "\n".join(read(folder / name) for name in SHEET.findall(text))


def with_sheet(
    text,  # a page
    css,  # the one style sheet
):
    "A page that asks for one style sheet; a browser that keeps another one fetches it anew"
    first = SHEET.search(text)
    if first is None:
        return text
    link = f'<link rel="stylesheet" href="{ALL}?v={sha256(css.encode()).hexdigest()[:8]}">\n'
    return text[: first.start()] + link + SHEET.sub("", text[first.end() :])


def unhurried(text):
    """A page that is shown in its colours before its scripts run; they run in the same order as
    before
    """
    text = WAITED.sub(r"<script defer \1", text.replace(LATER, AT_ONCE))
    return INLINE.sub(r'<script type="module">\1', text)  # modules wait, too


def words_of(texts):
    "Every word that a class may be, of pages and scripts"
    return {w for t in texts for w in re.findall(r"[\w-]+", t)}


# ---- icons
def subset(path, codepoints):
    "A font, written again with these characters alone"
    from fontTools.subset import Options, Subsetter, load_font, save_font

    logging.getLogger("fontTools").setLevel(logging.WARNING)
    options = Options(flavor="woff2", layout_features=[], notdef_outline=True)
    font = load_font(path, options)
    chooser = Subsetter(options)
    chooser.populate(unicodes=codepoints)
    chooser.subset(font)
    save_font(font, path, options)


# ---- pictures
def webp(path):
    "A PNG file as WebP beside it, without loss; the path of the smaller one. The other one goes"
    from PIL import Image

    with Image.open(path) as image:
        size = image.size
        image.save(data := io.BytesIO(), "webp", lossless=True, quality=80, method=4)
    if len(data.getvalue()) >= path.stat().st_size:
        return path, size
    to = path.with_suffix(".webp")
    to.write_bytes(data.getvalue())
    path.unlink()
    return to, size


def pictures(out):
    "name of a picture -> (its name now, (width, height))"
    found = {}
    for path in sorted((out / "_images").glob("*.png")):
        to, size = webp(path)
        found[path.name] = to.name, size
    return found


def with_pictures(text, known):
    "A page with its new pictures; all but the first are loaded when they come into sight"
    seen = 0

    def one(m):
        nonlocal seen
        tag = m[0]
        name = unquote(Path(urlsplit(re.search(r'src="([^"]*)"', tag)[1]).path).name)
        if name in known:
            to, (width, height) = known[name]
            tag = tag.replace(name, to)
            if " width=" not in tag:
                tag = tag.replace("<img", f'<img width="{width}" height="{height}"', 1)
        seen += 1
        lazy = ' loading="lazy"' if seen > 1 and " loading=" not in tag else ""
        return tag.replace("<img", f'<img{lazy} decoding="async"', 1)

    return re.sub(r"<img\b[^>]*>", one, text)


# ---- all of it
def lighten(out):
    "A site that Sphinx has built"
    static = out / "_static"
    known = pictures(out)
    pages = {p: p.read_text(encoding="utf-8") for p in out.glob("*.html")}
    for path, text in pages.items():
        text = SCRIPT.sub("", with_pictures(text, known))
        if path.name != "search.html":  # that one's own script needs what it waits for
            text = unhurried(SEARCH.sub("", text))
        pages[path] = text
    for path in [*static.rglob("*.map"), *static.rglob("fontawesome.js*"), *static.glob("*.png")]:
        path.unlink(missing_ok=True)
    shutil.rmtree(static / "locales", ignore_errors=True)  # what the theme says in other languages
    scripts = [p.read_text(encoding="utf-8") for p in out.rglob("*.js")]
    words = words_of([*pages.values(), *scripts])
    css = purge(joined(pages[out / "index.html"], out), words)
    for path in static.rglob("*.css"):
        path.unlink()
    (out / ALL).write_text(css, encoding="utf-8")
    for path, text in pages.items():
        path.write_text(with_sheet(text, css), encoding="utf-8")
    codes = {int(c, 16) for c in CODEPOINT.findall(css)}
    for path in static.rglob("fa-*.woff2"):
        subset(path, codes)
