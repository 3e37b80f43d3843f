"""Pages that need no other file: templates of `spat_nb/templates` filled in, everything escaped;
`base.html` is what all pages look like, `parts.html` has a figure, a table and a list of facts
"""

from __future__ import annotations

import functools
from base64 import b64encode
from typing import NamedTuple

from .files import write_aside
from .plot import png


class Figure(NamedTuple):
    "A picture within a page"

    data: str  # of the PNG, base64
    caption: str  # below it
    alt: str  # what it shows, for who does not see it


class Table(NamedTuple):
    "A table within a page"

    head: list  # of texts
    rows: list  # of lists of texts
    texts: tuple = ()  # columns that hold sentences, which may wrap


@functools.cache
def templates():
    "The jinja2 environment; everything that is filled in is escaped"
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("spat_nb"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def figure(
    ax,  # matplotlib axes, or several of one figure
    caption: str,  # below the picture
    alt: str,  # what it shows, for who does not see it
    dpi: int = 110,  # pixels for an inch
) -> Figure:
    "The figure of `ax`, to be put into a page"
    return Figure(b64encode(png(ax, dpi)).decode(), caption, alt)


def table(
    frame,  # pandas.DataFrame; the index becomes the first columns
    number: str = "{:.3f}",  # how numbers that are not whole are written
    index: bool = True,  # is the index shown?
) -> Table:
    "A frame, to be put into a page"
    shown = frame.reset_index() if index else frame
    texts = [i for i, c in enumerate(shown.columns) if shown[c].astype(str).str.len().max() > 40]

    def cell(v):
        if v is None or v != v:
            return ""
        return number.format(v) if isinstance(v, float) else str(v)

    head = ["" if c == "index" else " ".join(c) if isinstance(c, tuple) else str(c) for c in shown]
    return Table(
        head, [[cell(v) for v in row] for row in shown.itertuples(index=False)], tuple(texts)
    )


def render(
    template: str,  # file in spat_nb/templates
    **values,  # what it asks for
) -> str:
    "The page as text. jinja2.UndefinedError where a value is missing"
    return templates().get_template(template).render(**values)


def write_page(
    path,  # file to write
    template: str,  # file in spat_nb/templates
    **values,  # what it asks for
):
    "Write a page, aside first: a page that is there is whole"
    page = render(template, **values)
    with write_aside(path) as part:
        part.write_text(page, encoding="utf-8")
