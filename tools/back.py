"""Carry edits of exported modules back into their notebooks:  python tools/back.py spat_nb/x.py

The export writes sections into docstrings, from the comments behind parameters. They are taken out
again first; then nbdev's own update runs, and the notebooks are exported once more. Edit code,
comments and the prose of a docstring in the module; sections that were edited there are refused.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def documented(source: str) -> dict:
    """Dotted name -> (definition, the string that documents it), of all that has one"""
    from spat_nb._docstrings import definitions, docstring_node

    found = {name: node for name, node, _ in definitions(ast.parse(source).body)}
    return {name: (node, doc) for name, node in found.items() if (doc := docstring_node(node))}


def replaced(source: str, places: list) -> str:
    """`source` with other text at [(string node, text, does it stand behind the colon?), ...]"""
    rows = [row.encode() for row in source.splitlines(keepends=True)]
    for node, text, behind in sorted(places, key=lambda place: -place[0].lineno):
        before = rows[node.lineno - 1][: node.col_offset]
        after = rows[node.end_lineno - 1][node.end_col_offset :]
        first = node.lineno - 1
        if behind and not before.strip():
            first -= 1
            before = rows[first].rstrip() + b" "
        rows[first : node.end_lineno] = [before + text.encode() + after]
    return b"".join(rows).decode()


def plain(code: str, notebook: str, exported: str, find) -> str:
    """The code of a module's cell without what the export wrote into it

    `notebook` and `exported` are the cell as its notebook has it, and what the export made of it.
    ValueError where sections were edited.
    """
    from spat_nb._docstring_text import join_sections, long_lines, split_sections
    from spat_nb._docstrings import WIDTH, add_sections, literal

    written = documented(exported)
    before = documented(notebook)
    places = []
    edited = {}
    for name, (_, string) in documented(code).items():
        doc = inspect.cleandoc(string.value)
        if not split_sections(doc)[1]:
            continue
        own = before.get(name)
        if own and split_sections(own[1].value)[1]:
            continue  # written by hand, in the notebook
        if own and inspect.cleandoc(written[name][1].value) == doc:
            text = ast.get_source_segment(notebook, own[1])
            places.append((string, text, own[0].lineno == own[1].lineno))
            continue
        edited[name] = doc
        indent = " " * string.col_offset
        text = long_lines(join_sections(doc), WIDTH - len(indent))
        places.append((string, literal(text, indent), False))
    res = replaced(code, places)
    again = documented(add_sections(res, find))
    for name, doc in edited.items():
        known = [split_sections(s[name][1].value)[1] for s in (again, written) if name in s]
        if split_sections(doc)[1] not in known:
            raise ValueError(
                f"the sections of `{name}` were edited; the export makes them: "
                "edit the comments behind the parameters, and the text above the sections."
            )
    return res


def without_sections(path: Path) -> str:
    """The text of a module without what the export wrote into its docstrings"""
    from nbdev.process import NBProcessor

    from spat_nb._export import Sections

    top, *cells = path.read_text(encoding="utf-8").split("\n# %% ")
    notebooks = {}
    for i, cell in enumerate(cells):
        head, _, code = cell.partition("\n")
        name, _, id = head.rpartition(" #")
        if name == "auto":
            continue
        if name not in notebooks:
            file = (path.parent / name).resolve()
            sources = {c.id: c.source for c in NBProcessor(file).nb.cells}
            made = NBProcessor(file, Sections)
            made.process()
            exported = {c.id: c.source for c in made.nb.cells}
            notebooks[name] = (sources, exported, made.procs[0].find)
        sources, exported, find = notebooks[name]
        if id not in sources:
            raise ValueError(f"{name} has no cell {id} (any more); run nbdev-export first.")
        cells[i] = f"{head}\n{plain(code, sources[id], exported[id], find)}"
    return "\n# %% ".join([top, *cells])


def absolute_name(name: str | None, folder: str, level: int) -> str | None:
    """The full name of the module that an import in `folder` names

    nbdev's own function forgets the level of `from .. import x`.
    """
    if not level:
        return name
    parts = folder.split(os.path.sep)
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name])])


def back(path: Path) -> None:
    """One module; where that fails, the module stays as it was"""
    from nbdev import sync
    from nbdev.doclinks import nbdev_export

    sync.absolute_import = absolute_name
    text = path.read_text(encoding="utf-8")
    stripped = without_sections(path)
    try:
        path.write_text(stripped, encoding="utf-8")
        sync.nbdev_update(str(path))
    except BaseException:
        path.write_text(text, encoding="utf-8")
        raise
    nbdev_export()


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("modules", nargs="+", type=Path, help="exported modules, edited")
    files = [path.resolve() for path in args.parse_args().modules]
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for path in files:
        if not path.is_file() or "AUTOGENERATED!" not in path.read_text(encoding="utf-8"):
            sys.exit(f"{path} is no exported module; give one, as in spat_nb/attacks/attack.py.")
        try:
            back(path)
        except ValueError as e:
            sys.exit(f"{path.name}: {e}")


if __name__ == "__main__":
    main()
