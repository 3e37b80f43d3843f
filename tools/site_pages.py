"""Pages of the site that nobody writes by hand: they follow from the commands, the results, the
notebooks, docs/papers.toml and CHANGELOG.md, through templates in docs/templates/
"""

import argparse
import base64
import functools
import html
import json
import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

import jinja2

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]


def fill(template, **values):
    "A template of docs/templates/, filled"
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "docs/templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: ".html" in name or ".xml" in name,
    )
    return env.get_template(template).render(**values)


# ---- notebooks
@functools.cache
def cells(name):
    "Cells of a notebook"
    nb = json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [{**c, "source": "".join(c["source"])} for c in nb["cells"]]


def title(name):
    "Title of a notebook: its first heading"
    return next(m[1] for c in cells(name) if (m := re.match(r"#\s+(.*)", c["source"])) is not None)


# ---- the command line
def flag(action):
    "(how it is typed, what it does) of an argument of a parser"
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    typed = ", ".join(action.option_strings)
    if not typed:
        return value, action.help or ""
    return typed + ("" if action.nargs == 0 else f" {value}"), action.help or ""


def cell(text):
    "Text as it stands in a cell of a table, with nothing that Markdown would read"
    return re.sub(r"([|*_<\[$`])", r"\\\1", " ".join(text.split()))


def commands():
    "The page `commands`, from the commands' own parsers"
    from spat_nb.app.cli import COMMANDS, build_parser, command

    parser = build_parser(COMMANDS)
    sub = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    found = []
    for name, line in COMMANDS.items():
        one = sub.choices[name]
        flags = [flag(a) for a in one._actions if a.help != argparse.SUPPRESS and a.dest != "help"]
        module = command(name)
        found.append(
            {
                "name": name,
                "line": line,
                "about": cell(module.__doc__),
                "example": module.EXAMPLE,
                "more": cell(getattr(module, "MORE", "") or ""),
                "flags": [
                    (f"<code>{html.escape(a)}</code>".replace("|", "&#124;"), cell(b))
                    for a, b in flags
                ],
            }
        )
    return fill("commands.md.jinja", commands=found)


# ---- the table of slots
def methods():
    "The page `methods`, from the package's own table"
    from spat_nb.training.methods import METHODS

    slots = ("target", "inner", "start", "step", "outer", "net")
    found = [
        {
            "name": name,
            "anchor": name.replace("_", "-"),
            "says": cell(m.says[0].upper() + m.says[1:]),
            "slots": [cell(getattr(m, slot)) for slot in slots],
            "fields": ", ".join(f"`{k} = {v}`" for k, v in m.fields.items()),
        }
        for name, m in METHODS.items()
    ]
    return fill("methods.md.jinja", methods=found)


# ---- results
def results():
    """The page `results`: leaderboards, claims and advice as the lesson 90_compare computes them,
    the records of bench/speedrun.py and the card of bench/six_sets.py
    """
    import six_sets
    import speedrun

    from spat_nb import leaderboard
    from spat_nb.classwise.sets import CLAIMS
    from spat_nb.studies.advice import advice, limits
    from spat_nb.studies.boards import show
    from spat_nb.studies.claims import card
    from spat_nb.studies.htmltable import Table

    cards, small = card(), card(size="small").query("seeds > 0")
    return fill(
        "results.md.jinja",
        advice=advice(),
        limits=limits(),
        digits=show(leaderboard("digits"))._repr_html_(),
        photographs=show(leaderboard("cifar10"))._repr_html_(),
        claims=Table(cards)._repr_html_(),
        small=Table(small)._repr_html_(),
        verdicts=cards.verdict.value_counts().to_dict(),
        n=len(cards),
        records=Table(speedrun.table().round(3).reset_index())._repr_html_(),
        asked=CLAIMS,
        sets=Table(six_sets.table().rename_axis("set").reset_index())._repr_html_(),
    )


# ---- the bibliography
@functools.cache
def papers():
    "Those of docs/papers.toml, each with its anchor"
    text = (ROOT / "docs/papers.toml").read_text(encoding="utf-8")
    return [
        {**p, "id": re.sub(r"\W+", "-", f"{p['by']} {p['year']}".lower().replace("&", "and"))}
        for p in tomllib.loads(text)["paper"]
    ]


def address(at):
    "Where a paper lies: a number of arXiv, `doi:...` or an address"
    if at.startswith("https://"):
        return at
    if at.startswith("doi:"):
        return f"https://doi.org/{quote(at.removeprefix('doi:'), safe='/:;()')}"
    return f"https://arxiv.org/abs/{at}"


def pattern(paper):
    """How a citation of a paper reads: Madry et al. 2018, Madry et al. (2018), or the number of
    arXiv of what lessons name by it alone
    """
    if "cited_as" in paper:
        return rf"(?:arXiv )?{re.escape(paper['cited_as'])}"
    by = re.escape(paper["by"]).replace(r"\ \&\ ", r" (?:&|and) ").replace(r"\ ", " ")
    return rf"{by},? (?:\({paper['year']}\)|{paper['year']}\b)"


@functools.cache
def patterns():
    "id of a paper -> what finds its citations"
    return {p["id"]: re.compile(rf"(?<!\w){pattern(p)}(?!\w)") for p in papers()}


# code, formulas and links are left alone
KEEP = re.compile(
    r"(^(?:`{3,}|~{3,}).*?^(?:`{3,}|~{3,})[ ]*$|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$"
    r"|\[[^\[\]]*\]\([^()]*\)|<[^>\n]+>"
    r"|^\#.*?$)",
    re.M | re.S,
)


def cited(text):
    "Markdown with a link on each citation of a paper in docs/papers.toml"
    pieces = KEEP.split(text)
    for i in range(0, len(pieces), 2):
        for key, find in patterns().items():
            pieces[i] = find.sub(lambda m, key=key: f"[{m[0]}](papers.md#{key})", pieces[i])
    return "".join(pieces)


def citing(names):
    "id of a paper -> the notebooks that cite it"
    found = {}
    for name in names:
        text = "\n".join(c["source"] for c in cells(name))
        for key, find in patterns().items():
            if find.search(text):
                found.setdefault(key, []).append((title(name), name))
    return found


def bibliography(names):
    "The page `papers`"
    found = citing(names)
    listed = [
        {**p, "links": [(a, address(a)) for a in p["at"]], "cited": found.get(p["id"], [])}
        for p in papers()
    ]
    return fill("papers.md.jinja", papers=listed)


# ---- the gallery
def said(source, key):
    m = re.search(rf'^#\|\s*{key}:\s*"(.*)"\s*$', source, re.M)
    return m[1].replace('\\"', '"') if m else ""


def shown(name):
    "(picture, what it shows, caption) of the first figure of a notebook, or None"
    for c in cells(name):
        for o in c.get("outputs", ()):
            png = o.get("data", {}).get("image/png")
            if png and said(c["source"], "fig-cap"):
                return "".join(png), said(c["source"], "fig-alt"), said(c["source"], "fig-cap")
    return None


def gallery(names):
    "The page `gallery`: the first figure of each lesson, small, with a link to it"
    found = []
    for name in names:
        if (picture := shown(name)) is not None:
            png, alt, caption = picture
            found.append(
                {
                    "name": name,
                    "title": title(name),
                    "src": small(png),
                    "alt": html.escape(alt or caption),
                    "caption": html.escape(
                        re.split(r"(?<=[.:]) ", caption.replace("`", ""))[0].rstrip(":")
                    ),
                }
            )
    return fill("gallery.md.jinja", pictures=found)


def small(png, width=360):
    "A figure as a WebP of this width, in an address that holds it"
    import io

    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        image = image.convert("RGB")
        image.thumbnail((width, width))
        image.save(data := io.BytesIO(), "webp", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


# ---- what changed
def versions():
    "[(version, [what changed, ...]), ...] of CHANGELOG.md"
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return [
        (head.strip(), re.findall(r"^- (.*)$", body, re.M))
        for head, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    ]


def changes():
    "The page `changes`"
    return fill("changes.md.jinja", versions=versions())


def makers(names):
    "name of a page -> the function that gives it as Markdown; `names`: notebooks in reading order"
    return {
        "commands": commands,
        "methods": methods,
        "results": results,
        "papers": lambda: bibliography(names),
        "gallery": lambda: gallery(names),
        "changes": changes,
    }
