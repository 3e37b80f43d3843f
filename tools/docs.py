"""Build the docs site into _docs/:  python tools/docs.py [--out DIR] [--sphinx] [--dev RELEASE]

nbdev prepares the notebooks: what is hidden goes, an API card follows each export. Where Quarto is
installed it renders them (`nbdev-docs`); elsewhere, or with --sphinx, Sphinx with MyST-NB does,
into pages that need no network. Outputs are those that the notebooks hold, nothing is executed.
Order and look of both come from _quarto.yml. The page `api` is made here, and so are the copies in
colab/ that a browser can run: Colab opens notebooks from GitHub only, so the workflow docs.yml puts
them on the branch `colab`.

The published site is the release, and below dev/ stands what comes next. --dev marks the pages as
that, with a link from each to the same page of the release, whose built site is the folder RELEASE.
"""

import argparse
import functools
import html
import importlib
import inspect
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"


# ---- what _quarto.yml says
def website():
    return yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]


def floors(contents):
    """[(caption, [notebook or page.md, ...]), ...] in reading order; the caption of what stands
    outside a section is ''
    """
    for c in contents:
        if isinstance(c, dict) and "section" in c:
            yield c["section"], [f.removesuffix(".ipynb") for f in c["contents"]]
        else:
            yield "", [(c if isinstance(c, str) else c["href"]).removesuffix(".ipynb")]


def order(site):
    "Notebooks in reading order"
    return [
        n
        for _, names in floors(site["sidebar"]["contents"])
        for n in names
        if not n.endswith(".md")
    ]


def toctrees(contents):
    "The sidebar, as hidden tables of contents at the end of the first page"
    for caption, names in floors(contents):
        names = [n for n in names if n != "index"]
        if names:
            yield "\n".join(
                [
                    "```{toctree}",
                    ":hidden:",
                    f":caption: {caption}" if caption else "",
                    "",
                    *names,
                    "```",
                ]
            )


# ---- API cards from docments
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
import site_found  # noqa: E402
import site_frames  # noqa: E402
import site_light  # noqa: E402
import site_pages  # noqa: E402

from spat_nb._docstring_text import join_sections, split_sections  # noqa: E402


def plain(o, default=False):
    "How a type, or a default value, reads in a signature"
    if o is inspect.Parameter.empty or o is type(None):
        return ""
    if isinstance(o, str) and not default:
        return o
    return getattr(o, "__name__", None) or ("..." if " at 0x" in repr(o) else repr(o))


def prose(s):
    "A docstring or comment as Markdown: outside of backticks and **bold** nothing but text"
    return "".join(
        p if i % 2 else re.sub(r"([<*$])", r"\\\1", p)
        for i, p in enumerate(re.split(r"(`[^`]*`|\*\*[\w.,:;' \n-]+\*\*)", s))
    )


def rows(obj):
    """(name, type, default, comment) of each parameter and of the result; a dataclass inherits
    comments from its bases
    """
    from fastcore.docments import docments

    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    older = [
        docments(b, full=True)
        for b in getattr(obj, "__mro__", ())[1:-1]
        if hasattr(b, "__dataclass_fields__")
    ]
    for name, d in docments(obj, full=True, args_kwargs=True).items():
        text = d.get("docment") or next(
            (o[name].docment for o in older if name in o and o[name].docment), ""
        )
        anno = plain(getattr(d["anno"], "__forward_arg__", d["anno"]))
        if name == "self" or name == "return" and not text and anno in ("", "None"):
            continue
        yield (
            stars.get(d.get("kind"), "") + name,
            anno,
            plain(d.get("default", inspect.Parameter.empty), True),
            " ".join(text.split()),
        )


def said_in(doc):
    "A docstring without the sections that the tables show; errors as sentences, an example as code"
    example = split_sections(doc)[1].get("Examples")
    code = f"\n\n```python\n{example}\n```" if example else ""
    return prose(join_sections(doc, examples=False)) + code


def methods(cls):
    "(call, docstring) of the public methods that `cls` itself defines and explains"
    for k, f in vars(cls).items():
        f = getattr(f, "__func__", f)
        if k in getattr(cls, "__dataclass_fields__", {}):
            continue  # a field whose default is a function
        if inspect.isfunction(f) and f.__doc__ and (k[0] != "_" or k == "__call__"):
            args = ", ".join(n for n, *_ in rows(f) if n != "return")
            yield (
                f"({args})" if k == "__call__" else f".{k}({args})",
                " ".join(join_sections(f.__doc__, examples=False).split()),
            )


def table(head, body):
    def line(cells):
        return "| " + " | ".join(c.replace("|", r"\|") for c in cells) + " |"

    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, body)]) if body else ""


def card(obj):
    """(kind, call, docstring, (table of arguments, table of methods)) of a function or class, as
    Markdown
    """

    def code(s):
        return f"<code>{html.escape(s)}</code>" if s else ""

    kind = "class" if inspect.isclass(obj) else "function"
    args = [r for r in rows(obj) if kind == "function" or r[0] != "return"]
    call = ", ".join(n + (f"={d}" if d else "") for n, _, d, _ in args if n != "return")
    said = any(t or text for _, t, _, text in args)
    body = [
        ("*returns*" if n == "return" else code(n), code(t), code(d), prose(text))
        for n, t, d, text in args
        if said
    ]
    more = [(code(m), prose(text)) for m, text in methods(obj)] if kind == "class" else []
    tables = table(("name", "type", "default", "meaning"), body), table(("method", "meaning"), more)
    return kind, f"({call})", said_in(obj.__doc__ or ""), tables


def source_url(obj):
    "Where the source of a function or class is read, with its first line; '' where that is unknown"
    site, obj = website(), inspect.unwrap(obj)
    try:
        file, (_, line) = inspect.getsourcefile(obj), inspect.getsourcelines(obj)
        path = Path(file).resolve().relative_to(ROOT).as_posix()
    except (TypeError, OSError, ValueError):
        return ""
    return f"{site['repo-url']}/blob/{site['repo-branch']}/{path}#L{line}"


@functools.cache
def lessons_with():
    "name -> the notebooks that import it from the package, in reading order"
    found = {}
    for n in order(website()):
        code = [c["source"] for c in site_pages.cells(n) if c["cell_type"] == "code"]
        for part in re.findall(
            r"^from spat_nb[\w.]* import (\([^)]*\)|.*)$", "\n".join(code), re.M
        ):
            for name in dict.fromkeys(re.findall(r"\w+", part)):
                if n not in found.setdefault(name, []):
                    found[name].append(n)
    return found


def whereabouts(obj, name, most=6):
    "A line of links: the source of a name, and the lessons that use it"
    url, used = source_url(obj), lessons_with().get(name, [])
    links = [f"[{site_pages.title(n)}]({n}.ipynb)" for n in used[:most]]
    more = f" and {len(used) - most} more" if len(used) > most else ""
    return " · ".join(
        [
            *([f"[source]({url})"] if url else []),
            *([f"used in {', '.join(links)}{more}"] if links else []),
        ]
    )


def quarto_card(obj, name, module):
    kind, call, doc, tables = card(obj)
    return "\n\n".join(
        [
            f"### {name} {{#{name.lower()}}}",
            f"```python\n{kind.replace('function', 'def')} {name}{call}\n```",
            doc,
            *tables,
            whereabouts(obj, name),
        ]
    )


def sphinx_card(obj, name, module):
    "A directive of Sphinx's Python domain: the search, the index and links know it"
    where = whereabouts(obj, name)
    kind, call, doc, tables = card(obj)
    tables = [
        f"::::{{table}}\n:class: api{c}\n\n{t}\n::::" for c, t in zip(("", " methods"), tables) if t
    ]
    return "\n".join(
        [
            f":::::{{py:{kind}}} {name}{call}",
            f":module: spat_nb.{module}",
            "",
            doc,
            "",
            *tables,
            "",
            f"::::{{container}} whereabouts\n{where}\n::::" if where else "",
            ":::::",
        ]
    )


CARD = re.compile(r"^:::::\{py:\w+\} (\w+)\(.*\n:module: (\S+)", re.M)


# ---- the page `api`: public names by floor, then every module, one line each
def first(obj):
    return prose(
        re.split(r"\n\s*\n|(?<=\.) (?=[A-Z])", inspect.cleandoc(obj.__doc__ or ""))[0]
        .replace("\n", " ")
        .rstrip(".:")
    )


def rooms(site):
    """(module, notebook) of each notebook that exports, in reading order; its own module first,
    then those of `#| export NAME`
    """
    for n in order(site):
        code = "\n".join(
            "".join(c["source"])
            for c in json.loads((NBS / f"{n}.ipynb").read_text(encoding="utf-8"))["cells"]
            if c["cell_type"] == "code"
        )
        if re.search(r"^#\|[ ]*exports?\b", code, re.M):
            yield from (
                (m, n)
                for m in dict.fromkeys(
                    re.findall(r"^#\|[ ]*(?:default_exp|exports?)[ ]+([\w.]+)", code, re.M)
                )
            )


def has_card(obj):
    obj = inspect.unwrap(obj)
    return inspect.isclass(obj) or inspect.isfunction(obj)


def public_names():
    """floor -> [(how it is called, module, name in it, object), ...] of what `spat_nb` gives; of a
    module, what is in it
    """
    from spat_nb import public

    found = {}
    for floor, homes in public.FLOORS.items():
        for row in homes.values():
            for name in (n.rstrip("()!.") for n in row.split()):
                obj = public.resolve(name)
                room = public.HOME[name].removeprefix("spat_nb.")
                if not hasattr(obj, "__all__"):
                    found.setdefault(floor, []).append((name, room, name, obj))
                    continue
                room = obj.__name__.removeprefix("spat_nb.")
                inside = [(f"{name}.{n}", room, n, getattr(obj, n)) for n in obj.__all__]
                found.setdefault(floor, []).extend(inside)
    return found


def by_hand(site):
    """module -> [(name, object), ...] of public names with a card that no notebook shows"""
    shown = {m for m, _ in rooms(site)}
    found = {}
    for names in public_names().values():
        for _, room, name, obj in names:
            if room not in shown and has_card(obj):
                found.setdefault(room, []).append((name, obj))
    return found


def sphinx_link(name, room, nb):
    return f"#spat_nb.{room}.{name}"


def quarto_link(name, room, nb):
    return f"{nb or ''}{'.ipynb' * bool(nb)}#{name.lower()}"


def api(site, link=sphinx_link, make_card=sphinx_card):
    """The API as Markdown: public names by floor, then every room; `link` says where a card is, and
    `make_card` makes those of rooms without a notebook
    """
    shown = dict(rooms(site))
    yield (
        "# API\n\nThe names that `spat_nb` gives, by floor: `from spat_nb import pgd`. Below stand"
        " all rooms, with what else is in them: it may move without notice. A name leads to its"
        " card, below the code that it describes."
    )
    for floor, names in public_names().items():
        body = []
        for called, room, name, obj in names:
            told = first(obj) if has_card(obj) or inspect.ismodule(obj) else ""
            to = f"({link(name, room, shown.get(room))})" if has_card(obj) else ""
            body.append((f"[`{called}`]{to}" if to else f"`{called}`", told))
        yield f"## {floor}\n\n" + table(("name", "meaning"), body)
    for room, nb in shown.items():
        m = importlib.import_module(f"spat_nb.{room}")
        there = [(n, getattr(m, n)) for n in m.__all__ if n[0] != "_" and has_card(getattr(m, n))]
        yield f"## spat_nb.{room}\n\n{first(m)}. Notebook: [{nb}]({nb}.ipynb)\n\n" + table(
            ("name", "meaning"), [(f"[`{n}`]({link(n, room, nb)})", first(o)) for n, o in there]
        )
    for room, there in by_hand(site).items():
        yield f"## spat_nb.{room}\n\n{first(importlib.import_module(f'spat_nb.{room}'))}."
        yield from (make_card(obj, name, room) for name, obj in there)


def made_pages(site, to, link=sphinx_link, make_card=sphinx_card):
    """The pages that follow from code, results and notebooks, written into the folder `to`; the
    files of those that _quarto.yml lists
    """
    makers = {
        "api": lambda: "\n\n".join(api(site, link, make_card)),
        **site_pages.makers(order(site)),
    }
    listed = {n for _, names in floors(site["sidebar"]["contents"]) for n in names}
    files = []
    for name, make in makers.items():
        if f"{name}.md" in listed:
            files.append(to / f"{name}.md")
            text = make()
            files[-1].write_text(text if name == "papers" else cited(text), encoding="utf-8")
    return files


def cited(text):
    "Markdown with a link from each citation to the bibliography, where the site has one"
    return site_pages.cited(text) if "papers.md" in str(website()["sidebar"]) else text


def cite_cells(nb):
    "Each citation in a notebook's prose becomes a link"
    for c in nb.cells:
        if c.cell_type == "markdown":
            c.source = cited(c.source)


# ---- Colab: notebooks stay as they are, their copies get a cell before and a cell behind
INSTALL = """# Colab: install the package, and lay out the results and settings that notebooks read (about two minutes)
import time
%pip install -q "spat_nb[lab] @ git+{repo}"
from spat_nb.app import lab
lab.copy('.'); clock = time.time()"""  # noqa: E501
TOOK = "print(f'This notebook took {{time.time()-clock:.0f}} s here{known}.')"


def seconds():
    return (
        json.loads(f.read_text(encoding="utf-8"))
        if (f := ROOT / "docs/seconds.json").exists()
        else {}
    )


def colab_url(site, name):
    return f"{site['repo-url'].replace('https://github.com', 'https://colab.research.google.com/github')}/blob/colab/{name}.ipynb"  # noqa: E501


def binder_url(site, name):
    where = site["repo-url"].removeprefix("https://github.com/")
    return f"https://mybinder.org/v2/gh/{where}/{site['repo-branch']}?labpath=nbs/{name}.ipynb"


def for_colab(site, name):
    "The notebook as Colab gets it; links to other notebooks lead to the site"
    nb, known = json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8")), seconds().get(name)

    def cell(id, source):
        return dict(
            cell_type="code", id=id, metadata={}, execution_count=None, outputs=[], source=source
        )

    for c in nb["cells"]:
        if c["cell_type"] == "markdown":
            c["source"] = re.sub(
                r"\]\((\w+)\.ipynb", rf"]({site['site-url']}\1.html", "".join(c["source"])
            )
    took = TOOK.format(
        known=f", {known} s on one core of the machine that made these pages" if known else ""
    )
    nb["cells"] = [
        cell("colab-install", INSTALL.format(repo=site["repo-url"])),
        *nb["cells"],
        cell("colab-time", took),
    ]
    return json.dumps(nb, indent=1)


def colab(site, out):
    (out / "colab").mkdir(exist_ok=True)
    for n in order(site):
        (out / f"colab/{n}.ipynb").write_text(for_colab(site, n), encoding="utf-8")


def badge(name):
    "The line below a notebook's title"
    took = f" · {s} s on one core" if (s := seconds().get(name)) else ""
    return (
        f"*Run this:* [Open in Colab]({colab_url(website(), name)}) ·"
        f" [Binder]({binder_url(website(), name)}) · `spat_nb lab`{took}"
    )


# ---- nbdev's processing
def filters(card, drop=()):
    """nbdev's filters, with two differences. Exported source stays in sight: the code is what is
    taught. And the cards come from the package: nbdev's own way executes every cell that has an
    import, without the cells before it."""
    from fastcore.nbio import mk_cell
    from nbdev import processors as p

    class Cards(p.Processor):
        def begin(self):
            rooms = dict.fromkeys(
                v
                for k in ("default_exp", "exports")
                for c in self.nb.cells
                if (v := c.directives_.get(k))
            )
            runs = [
                list(r)
                for _, r in itertools.groupby(self.nb.cells, lambda c: getattr(c, "has_sd", False))
            ]
            # nbdev's stand last first
            self.nb.cells = [
                c for r in runs for c in (reversed(r) if getattr(r[0], "has_sd", False) else r)
            ]
            self.rooms = {r: vars(importlib.import_module(f"spat_nb.{r}")) for r in rooms}

        def cell(self, cell):
            m = cell.cell_type == "code" and re.search(r"^show_doc\(([\w.]+)", cell.source, re.M)
            if not m:
                return
            for k in ("outputs", "execution_count"):
                cell.pop(k, None)
            name = m[1].partition(".")[0]
            # the other room of a notebook may import it
            homes = [r for r, env in self.rooms.items() if name in env]
            room = next(
                (
                    r
                    for r in homes
                    if getattr(self.rooms[r][name], "__module__", "") == f"spat_nb.{r}"
                ),
                homes[0],
            )
            cell.update(
                cell_type="markdown", source=card(eval(m[1], dict(self.rooms[room])), m[1], room)
            )

    class Site(p.FilterDefaults):
        def base_procs(self):
            return [
                Cards if o is p.exec_show_docs else o
                for o in super().base_procs()
                if o.__name__ not in ("clean_show_doc", "mv_exports", *drop)
            ]

        def __call__(self, nb):
            for c in nb.cells:
                if c.cell_type == "code":
                    c.source = re.sub(r"^#\|\s*export\b", "#| exports", c.source, flags=re.M)
            super().__call__(nb)
            site_frames.add(nb, Path(nb.path_).stem)
            cite_cells(nb)
            top = next((i + 1 for i, c in enumerate(nb.cells) if c.cell_type == "raw"), 0)
            nb.cells.insert(top, mk_cell(badge(Path(nb.path_).stem), "markdown"))
            return nb

    return Site


# ---- Quarto
def build_quarto():
    """`nbdev-docs` with our filters, in this process (n_workers=0), because other processes would
    not see them
    """
    import nbdev.quarto
    import nbdev.serve

    nbdev.serve.FilterDefaults = filters(quarto_card)
    shutil.rmtree(ROOT / "_proc", ignore_errors=True)
    made = made_pages(website(), NBS, quarto_link, quarto_card)
    try:
        nbdev.quarto.nbdev_docs.__wrapped__(n_workers=0)
    finally:
        # nbdev writes the first; _quarto.yml says all that it says
        for f in [NBS / "nbdev.yml", *made]:
            f.unlink(missing_ok=True)
    colab(website(), ROOT / "_docs")


# ---- from nbdev's cells to valid ones that MyST-NB reads
def clean(nb, names):
    """A valid notebook, with links on the names in backticks that have a card, and links to the
    published site's own pages made local
    """
    from nbdev.doclinks import NbdevLookup
    from nbformat.v4 import new_markdown_cell, new_notebook

    class Links(NbdevLookup):
        def doc(self, sym):
            return names.get(sym.split(".")[0])

        def link_line(self, line):
            "Names that stand in a link already keep it"
            parts = re.split(r"(\[[^\[\]]*\]\([^()]*\))", line)
            return "".join(
                p if i % 2 else super(Links, self).link_line(p) for i, p in enumerate(parts)
            )

    res = new_notebook(
        metadata={"kernelspec": dict(name="python3", display_name="python3", language="python")}
    )
    address = re.escape(website()["site-url"])

    def to_pages(text):
        "Links to the published site become links within this one"
        return re.sub(rf"\({address}(\w+)\.html", r"(\1.md", text)

    for i, c in enumerate(nb.cells):
        if c.cell_type == "code":
            res.cells.append(code_cell(c))
        else:
            text = heading(c.source) if c.cell_type == "raw" else to_pages(c.source)
            res.cells.append(new_markdown_cell(Links().linkify(text)))
        res.cells[-1].id = f"c{i}"
    return res


def heading(src):
    "nbdev's front matter as a heading with a subtitle"
    fm = yaml.safe_load(src.strip().removeprefix("---").removesuffix("---"))
    return f"# {fm.get('title', '')}\n\n" + (
        f":::{{container}} subtitle\n{fm['description']}\n:::" if fm.get("description") else ""
    )


def code_cell(c):
    "`#|` directives to the tags and captions of MyST-NB"
    from nbformat.v4 import new_code_cell

    d = {
        k: yaml.safe_load(v)
        for k, v in re.findall(r"^#\|\s*([\w-]+):[ \t]*(.*?)\s*$", c.source, re.M)
    }
    # they need a kernel
    outs = [
        clean_output(o)
        for o in c.get("outputs", [])
        if not any("jupyter.widget" in k for k in o.get("data", ()))
    ]
    # `Text(0, 1)`
    if "fig-cap" in d:
        outs = [o for o in outs if o.output_type != "execute_result" or "image/png" in o.data]
    fold, word = d.get("code-fold") is True, d.get("code-summary", "Code")

    def off(k):
        return d.get(k) is False

    tags = {
        "hide-input": fold,
        "remove-input": off("echo"),
        "remove-output": off("output"),
        "remove-cell": off("include"),
    }
    myst = dict(code_prompt_show=word, code_prompt_hide=word) if fold else {}
    if "fig-cap" in d:
        myst["figure"] = {"caption": d["fig-cap"]}
    if "fig-alt" in d:
        myst["image"] = {"alt": d["fig-alt"]}
    return new_code_cell(
        re.sub(r"^#\|.*\n?", "", c.source, flags=re.M).strip("\n"),
        outputs=outs,
        metadata={
            "tags": [t for t, on in tags.items() if on],
            **({"mystnb": myst} if myst else {}),
        },
    )


def clean_output(o):
    """An output with nbformat's own keys and no others, and with the execution count that it asks
    for
    """
    import nbformat

    def text(v):
        return "".join(v) if isinstance(v, list) else v

    keys = "output_type name text data metadata execution_count ename evalue traceback".split()
    o = {k: text(v) if k == "text" else v for k, v in o.items() if k in keys}

    # Sphinx takes an output's links as they are
    def page(k, v):
        return re.sub(r"\]\((\w+)\.ipynb", r"](\1.html", v) if k == "text/markdown" else v

    if "data" in o:
        o |= dict(
            data={k: page(k, text(v)) for k, v in o["data"].items()}, metadata=o.get("metadata", {})
        )
    if o["output_type"] == "execute_result":
        o.setdefault("execution_count", None)
    return nbformat.from_dict(o)


# ---- Sphinx
def conf(site, static):
    theme = dict(
        repository_url=site["repo-url"],
        repository_branch=site["repo-branch"],
        path_to_docs=site["repo-subdir"],
        use_repository_button=True,
        use_source_button=True,
        use_download_button=False,
        use_fullscreen_button=False,
        show_navbar_depth=1,
        show_toc_level=2,
        home_page_in_toc=False,
        navigation_with_keys=False,
        pygments_light_style="github-light",
        pygments_dark_style="github-dark",
    )
    return dict(
        project=site["title"],
        author="The spat_nb authors",
        extensions=["myst_nb", "site_math"],  # the second lies beside this file
        root_doc="index",
        html_theme="sphinx_book_theme",
        html_theme_options=theme,
        html_title=site["title"],
        html_copy_source=False,
        html_show_sourcelink=False,
        html_static_path=[str(static)],
        html_search_scorer=str(ROOT / "docs/scorer.js"),
        html_css_files=["site.css"],
        html_js_files=[("site.js", {"defer": "defer"})],
        html_favicon=str(ROOT / "docs/favicon.svg"),
        html_context=dict(default_mode="auto"),
        html_math_renderer="mathml",
        nb_execution_mode="off",
        nb_merge_streams=True,
        nb_ipywidgets_js={},
        add_module_names=False,
        toc_object_entries=True,
        smartquotes=False,
        myst_enable_extensions=["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"],
        myst_heading_anchors=4,
        suppress_warnings=["myst.header", "mystnb.unknown_mime_type"],
    )


def build_sphinx(out):
    from fastcore.nbio import read_nb

    site = website()
    names = order(site)
    missing = [n for n in names if not (NBS / f"{n}.ipynb").exists()]
    if missing:
        sys.exit(f"_quarto.yml lists notebooks that do not exist in nbs/: {', '.join(missing)}")
    if (
        out != ROOT / "_docs"
        and out.exists()
        and any(out.iterdir())
        and not (out / "searchindex.js").exists()
    ):
        sys.exit(f"{out} holds other files")
    prepare = filters(sphinx_card, drop=("insert_warning", "add_links", "add_fold"))()
    nbs = {n: prepare(read_nb(NBS / f"{n}.ipynb")) for n in names}
    own = {
        n: {name: f"#{room}.{name}" for c in nb.cells for name, room in CARD.findall(c.source)}
        for n, nb in nbs.items()
    }
    known = {k: v for d in reversed(own.values()) for k, v in d.items()}
    import nbformat
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    with tempfile.TemporaryDirectory() as tmp:
        src, static = Path(tmp) / "src", Path(tmp) / "static"
        shutil.copytree(NBS, src, ignore=shutil.ignore_patterns("*.ipynb", ".*", "_*", "*.yml"))
        static.mkdir()
        for f in ("site.css", "site.js"):
            shutil.copy(ROOT / "docs" / f, static)
        made_pages(site, src)
        for n, nb in nbs.items():
            nb = clean(nb, {**known, **own[n]})
            if n == "index":
                nb.cells.append(
                    nbformat.v4.new_markdown_cell(
                        "\n\n".join(toctrees(site["sidebar"]["contents"]))
                    )
                )
            nbformat.validate(nb)
            nbformat.write(nb, src / f"{n}.ipynb")
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                src,
                None,
                Path(tmp) / "html",
                Path(tmp) / "doctrees",
                "html",
                conf(site, static),
                status=None,
                warningiserror=True,
            )
            app.build()
        if app.statuscode:
            sys.exit("the site has warnings (above); nothing was written")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(tmp) / "html", out, ignore=shutil.ignore_patterns(".buildinfo"))
    colab(site, out)


def playground(out):
    "What the page `play` needs"
    if "play.md" in str(website()["sidebar"]):
        import webplay  # beside this file

        webplay.write(out)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    a.add_argument("--out", type=Path, default=ROOT / "_docs", help="folder to write, by Sphinx")
    a.add_argument(
        "--sphinx", action="store_true", help="use Sphinx even where Quarto is installed"
    )
    a.add_argument(
        "--dev", type=Path, metavar="RELEASE", help="a development version beside this built site"
    )
    a = a.parse_args()
    if a.dev and not (a.dev / "index.html").is_file():
        sys.exit(f"--dev: {a.dev} holds no built site, since it has no index.html")
    release = a.dev and a.dev.resolve()
    t = time.time()
    out = a.out.resolve()
    quarto = shutil.which("quarto") and not a.sphinx and out == ROOT / "_docs"
    # nbdev: rewrite no index
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    os.environ["IN_TEST"] = "1"
    print(f"building the site with {'Quarto' if quarto else 'Sphinx'}", flush=True)
    build_quarto() if quarto else build_sphinx(out)
    playground(out)
    site_frames.write(out, order(website()))
    site_found.finish(out, website(), order(website()), release)
    if not quarto:
        site_light.lighten(out)  # last, since it drops the styles of what no page holds
    print(f"{out}/index.html, {time.time() - t:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
