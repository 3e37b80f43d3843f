"""What makes the site findable, and readable by more than eyes: titles, descriptions, a map of the
pages, a Markdown copy of each, a feed of changes, a page for addresses that lead nowhere. And which
version of the site a page belongs to: the release, or the development version below dev/
"""

import html
import io
import re
import subprocess
import time
from base64 import b64decode

import site_pages

MARKDOWN = re.compile(r"\[([^\]]*)\]\([^)]*\)|[`*]|\b_|_\b|<[^>]+>|\$")


# ---- what a page says
def plain(text):
    "Markdown as text"
    return " ".join(MARKDOWN.sub(lambda m: m[1] or "", text).split())


def from_notebook(name):
    "A notebook as Markdown: prose, code that is shown, printed text"
    found = []
    for c in site_pages.cells(name):
        if c["cell_type"] == "markdown":
            found.append(c["source"])
            continue
        code = re.sub(r"^#\|.*\n?", "", c["source"], flags=re.M).strip()
        if code and not re.search(r"^#\|\s*hide\b", c["source"], re.M):
            found.append(f"```python\n{code}\n```")
        caption = site_pages.said(c["source"], "fig-cap")
        if caption:
            found.append(f"*Picture: {caption}*")
    return "\n\n".join(found) + "\n"


def sources(out, names):
    "page -> its Markdown, of every page that has one"
    found = {n: from_notebook(n) for n in names}
    pages = {p.stem for p in out.glob("*.html")}
    for path in sorted(site_pages.NBS.glob("*.md")):
        if path.stem in pages:
            found[path.stem] = re.sub(
                r"\A---.*?^---\n", "", path.read_text(encoding="utf-8"), flags=re.S | re.M
            )
    for name, make in site_pages.makers(names).items():
        if name in pages and name != "gallery":  # that one is pictures
            found[name] = make()
    return found


def head_of(text):
    "(title, description) of a page in Markdown: its heading, and its subtitle or first sentence"
    title = re.search(r"^#\s+(.*)$", text, re.M)
    rest = text[title.end() :] if title else text
    first = next(
        (p for p in re.split(r"\n\s*\n", rest) if p.strip() and p.strip()[0] not in "|`#<-"), ""
    )
    about = plain(re.sub(r"^>\s*", "", first.strip(), flags=re.M))
    if len(about) > 200:
        about = about[:200].rsplit(" ", 1)[0] + " ..."
    return plain(title[1]) if title else "", about


# ---- two versions
def address(home, name):
    "Where a page is published"
    return home if name == "index" else f"{home}{name}.html"


def in_release(site, name, release):
    "(address, whether it is new) of a page's like in the release; of a new one the first page's"
    is_new = not (release / f"{name}.html").is_file()
    return address(site["site-url"], "index" if is_new else name), is_new


def of_last_commit(
    form,  # of git log: what is asked
    *paths,  # of the last commit that changed them; default: of the last one
):
    "What git says of a commit; '' without git, without a repository, or where nothing is committed"
    try:
        asked = ["git", "log", "-1", f"--format={form}", "--", *map(str, paths)]
        return subprocess.run(
            asked, cwd=site_pages.ROOT, capture_output=True, text=True
        ).stdout.strip()
    except OSError:
        return ""


def last_commit():
    "Day and number of the last commit, or the day of today where there is no repository"
    return of_last_commit("%cs, commit %h") or time.strftime("%Y-%m-%d")


# where the text of a page begins, and where its main part ends: Sphinx's pages, and Quarto's
TOP = re.compile(
    r'<article class="bd-article"[^>]*>|<div class="bd-search-container">'
    r'|<main class="content"[^>]*>'
)
END = "</main>"


def with_version(text, site, name, release=None):
    """A page that leads to the other version: one of the release does so at its end, one of the
    development version in its first line
    """
    if release is None:
        line = site_pages.fill("version.html.jinja", site=site, release=None)
        before, end, after = text.rpartition(END)
        return before + (line if end else "") + end + after
    there, is_new = in_release(site, name, release)
    line = site_pages.fill("version.html.jinja", release=there, is_new=is_new, commit=last_commit())
    return TOP.sub(lambda m: m[0] + line, text, count=1)


# ---- heads of pages
def meta(site, name, title, about, release=None):
    "Lines of a head; a search engine shall find the release alone"
    home = site["site-url"]
    here = address(home, name)
    if release and in_release(site, name, release)[1]:
        here = address(f"{home}dev/", name)
    return site_pages.fill(
        "head.html.jinja",
        site=site,
        here=here,
        home=home,
        name=name,
        title=title,
        about=about,
        dev=release is not None,
    )


def numbered(text, names, name):
    "The sidebar's lessons with their numbers in reading order"
    number = {n: i for i, n in enumerate((n for n in names if n[0].isdigit()), 1)}

    def one(m):
        to = m[2].removesuffix(".html")
        i = number.get(name if to == "#" else to)
        return f'{m[1]}<span class="lesson-number">{i}</span> ' if i else m[0]

    return re.sub(r'(<li class="toctree-l1[^>]*><a class="[^"]*" href="([^"]*)">)', one, text)


def accessible(text):
    "Names of buttons that say what is written on them; wide tables that keys can scroll"
    text = text.replace(
        '<div class="board"', '<div class="board" tabindex="0" role="region" aria-label="results"'
    )
    text = re.sub(
        r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1", text
    )
    return text.replace('<summary aria-label="Toggle hidden content">', "<summary>")


def with_head(text, site, name, title, about, release=None):
    "A page with its title and what search engines, readers of feeds and messengers look for"
    full = (
        f"{site['title']}: {site['description']}"
        if name == "index"
        else f"{title} · {site['title']}"
    )
    text = re.sub(
        r"<title>.*?</title>",
        lambda m: f"<title>{html.escape(full)}</title>",
        text,
        count=1,
        flags=re.S,
    )
    return text.replace("</head>", meta(site, name, full, about, release) + "</head>", 1)


# ---- files beside the pages
def day(path):
    "Day of the last commit that changed a file, or of the file where nothing is committed"
    stamp = time.gmtime(path.stat().st_mtime)
    return of_last_commit("%cI", path) or time.strftime("%Y-%m-%dT%H:%M:%SZ", stamp)


def social(out, site):
    "The picture that messengers show: the first page's, on white"
    from PIL import Image

    picture = site_pages.shown("index")
    if picture is None:
        return
    with Image.open(io.BytesIO(b64decode(picture[0]))) as image:
        image = image.convert("RGB")
        image.thumbnail((1140, 570))
        sheet = Image.new("RGB", (1200, 630), "white")
        sheet.paste(image, ((1200 - image.width) // 2, (630 - image.height) // 2))
        sheet.quantize(128).save(out / "social.png", optimize=True)


def feed(site):
    "Changes as an Atom feed, an entry for each version"
    return site_pages.fill(
        "feed.xml.jinja",
        site=site,
        when=day(site_pages.ROOT / "CHANGELOG.md"),
        versions=[(v, [plain(line) for line in lines]) for v, lines in site_pages.versions()],
    )


def finish(
    out,  # folder of a built site
    site,  # what _quarto.yml says of it
    names,  # its notebooks, in reading order
    release=None,  # folder of the release's site, where this one is the development version
):
    "A built site, made findable"
    texts = sources(out, names)
    heads = {n: head_of(t) for n, t in texts.items()}
    for path in sorted(out.glob("*.html")):
        name = path.stem
        title, about = heads.get(name, (name.capitalize(), site["description"]))
        text = accessible(numbered(path.read_text(encoding="utf-8"), names, name))
        text = with_version(text, site, name, release)
        path.write_text(with_head(text, site, name, title, about, release), encoding="utf-8")
    for name, text in texts.items():
        (out / f"{name}.md").write_text(text, encoding="utf-8")
    if release is None:
        for_robots(out, site)
    else:
        site = {**site, "site-url": f"{site['site-url']}dev/"}
    listed = [(n, *heads[n]) for n in ("index", *(n for n in heads if n != "index"))]
    (out / "llms.txt").write_text(
        site_pages.fill("llms.txt.jinja", site=site, pages=listed), encoding="utf-8"
    )
    if (site_pages.ROOT / "CHANGELOG.md").exists():
        (out / "feed.xml").write_text(feed(site), encoding="utf-8")
    social(out, site)


def for_robots(out, site):
    "What a server reads at the root of a site alone"
    pages = sorted(p.stem for p in out.glob("*.html") if p.stem not in ("search", "genindex"))
    (out / "sitemap.xml").write_text(
        site_pages.fill("sitemap.xml.jinja", site=site, pages=pages), encoding="utf-8"
    )
    (out / "robots.txt").write_text(
        f"User-agent: *\nSitemap: {site['site-url']}sitemap.xml\n", encoding="utf-8"
    )
    (out / "404.html").write_text(site_pages.fill("404.html", site=site), encoding="utf-8")
