"""Is every name taught before it is used?  python tools/order.py

The lessons are read in the order of nbs/_quarto.yml. A public name of the package (those of
`spat_nb/public.py`) may be used in a cell when it was defined before, in this lesson or an earlier
one; or when the prose has named it (in backticks) or has linked the lesson that defines it. What
is used before is listed, and the exit code is 1.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def reading_order() -> list[str]:
    "The notebooks in the order of the site"
    text = (ROOT / "nbs/_quarto.yml").read_text(encoding="utf-8")
    return list(dict.fromkeys(re.findall(r"([\w]+)\.ipynb", text)))


def source_of(cell: dict) -> str:
    return "".join(cell["source"])


def parsed(source: str) -> ast.Module:
    "The tree of a cell, without Jupyter's own commands"
    rows = [row for row in source.splitlines() if not row.lstrip().startswith(("%", "!"))]
    try:
        return ast.parse("\n".join(rows))
    except SyntaxError:
        return ast.Module([], [])


def defined_in(source: str) -> set[str]:
    "Functions, classes and values that a cell defines at its top"
    found = set()
    for node in parsed(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            parts = [n for t in node.targets for n in ast.walk(t)]
            found |= {
                n.id for n in parts if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return found


class WithoutTypes(ast.NodeTransformer):
    "Takes the types out of signatures: they are read, not called"

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()


def used_in(source: str) -> set[str]:
    "Names that a cell reads and does not make itself; an import alone is no use"
    nodes = list(ast.walk(WithoutTypes().visit(parsed(source))))
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    made |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    return read - made - {n.arg for n in nodes if isinstance(n, ast.arg)}


def is_solution(source: str) -> bool:
    return 'code-summary: "Solution' in source


def homes(names: set[str], cells: dict[str, list]) -> dict[str, str]:
    "Public name -> the lesson that defines it"
    found: dict[str, str] = {}
    for lesson, own in cells.items():
        for cell in own:
            source = source_of(cell)
            if cell["cell_type"] == "code" and re.search(r"^#\| export", source, re.M):
                for name in defined_in(source) & names:
                    found.setdefault(name, lesson)
    return found


def faults(names: set[str], cells: dict[str, list], known: set[str] | None = None) -> list[str]:
    "A sentence for each name that a lesson uses before it was taught; `known` ones are no news"
    home = homes(names, cells)
    known = set(known or ())
    found = []
    for lesson, own in cells.items():
        for i, cell in enumerate(own, 1):
            source = source_of(cell)
            if cell["cell_type"] == "markdown":
                known |= set(re.findall(r"`(\w+)", source)) & names
                linked = set(re.findall(r"\((\w+)\.ipynb[^)]*\)", source))
                known |= {name for name, place in home.items() if place in linked}
                continue
            known |= defined_in(source) & names
            if is_solution(source) or "code-summary" in source:
                continue  # set-up, tests and solutions are folded
            for name in sorted((used_in(source) & names) - known):
                where = f", which {home[name]} defines" if name in home else ""
                found.append(f"{lesson}, cell {i}: uses {name}{where}, and nothing named it before")
                known.add(name)  # once is enough
    return found


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from spat_nb import public

    order = [n for n in reading_order() if (ROOT / f"nbs/{n}.ipynb").is_file() and n != "index"]
    cells = {
        name: json.loads((ROOT / f"nbs/{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        for name in order
    }
    types = {name for name in public.NAMES if public.HOME[name] == "spat_nb.core.protocols"}
    found = faults(set(public.NAMES) - types, cells)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(order)} lessons, {len(found)} names used before they are taught")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
