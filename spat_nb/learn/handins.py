"""What readers hand in: notebooks, and the attempts at exercises in them"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Attempt", "attempts_in", "hand_ins", "is_solution", "plain_python", "source_of"]

# what a lesson may make; a hand-in names nothing else
LESSON_MODULE = re.compile(
    r"(core|data|models|attacks|measure|training|classwise|papers|learn)\.[a-z]\w*"
)


@dataclass(frozen=True)
class Attempt:
    "One exercise of a notebook that was handed in"

    name: str  # of the exercise, 'balls 2'
    is_guess: bool  # a prediction; else a function is judged
    source: str  # code of its cell
    definitions: tuple  # texts: imports, functions and classes of the cells before it
    modules: tuple  # of the package, which the notebook makes

    @property
    def guess(self) -> str:
        "The guess as it was typed; '' where there is none"
        for call in _calls(self.source, "predict"):
            for k in call.keywords:
                if k.arg == "guess" and not _is_dots(k.value):
                    return ast.unparse(k.value)
        return ""


def source_of(
    cell: dict,  # of a notebook
) -> str:
    "The text of a cell"
    return "".join(cell["source"])


def is_solution(
    cell: dict,  # of a notebook
) -> bool:
    "Does a cell show the solution of an exercise?"
    return 'code-summary: "Solution' in source_of(cell)


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def plain_python(
    source: str,  # of a cell
) -> str:
    "A cell without Jupyter's own commands"
    rows = source.splitlines()
    return "\n".join("" if re.match(r"\s*[%!]\s*[a-z]", row) else row for row in rows)


def _parsed(source: str) -> ast.Module:
    "The tree of a cell; an empty one where it is no Python"
    try:
        return ast.parse(plain_python(source))
    except SyntaxError:
        return ast.Module([], [])


def _calls(source: str, name: str) -> list[ast.Call]:
    "The calls of a function in a cell"
    found = [n for n in ast.walk(_parsed(source)) if isinstance(n, ast.Call)]
    return [n for n in found if isinstance(n.func, ast.Name) and n.func.id == name]


def _named(source: str) -> list[tuple[str, bool]]:
    "(name, is it a guess?) of the exercises in a cell"
    if not _parsed(source).body and source.strip():
        # no Python any more: the exercise is still there, and wrong
        return [(name, False) for name in re.findall(r"""attempt\([^"']*["'](\w+ \d+)""", source)]
    found = []
    for call in _calls(source, "attempt"):
        if len(call.args) == 2 and isinstance(call.args[1], ast.Constant):
            found.append((call.args[1].value, False))
    for call in _calls(source, "predict"):
        named = (k.value for k in call.keywords if k.arg == "name")
        found += [(v.value, True) for v in named if isinstance(v, ast.Constant)]
    return [(name, guess) for name, guess in found if isinstance(name, str)]


def _is_value(node: ast.stmt) -> bool:
    "Is a statement `name = 1e-6`, or another value that is written out?"
    if not isinstance(node, ast.Assign):
        return False
    with contextlib.suppress(ValueError):
        ast.literal_eval(node.value)
        return True
    return False


def _definitions(source: str) -> list[str]:
    """Imports, functions, classes and written-out values of a cell: what can be run without doing
    the lesson's work
    """
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    body = _parsed(source).body
    return [ast.unparse(n) for n in body if isinstance(n, kinds) or _is_value(n)]


def attempts_in(
    path: Path,  # a notebook
) -> list[Attempt]:
    "The exercises of a notebook. ValueError where it is none"
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [c for c in cells if c["cell_type"] == "code" and not is_solution(c)]
        sources = [source_of(c) for c in code]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path} is no notebook ({' '.join(str(e).split())}).") from None
    marks = re.findall(r"^#\| (?:default_exp|exports?) ([\w.]+)", "\n".join(sources), re.M)
    modules = tuple(m for m in dict.fromkeys(marks) if LESSON_MODULE.fullmatch(m))
    found: dict[str, Attempt] = {}
    before: list[str] = []
    for source in sources:
        for name, is_guess in _named(source):
            # of several attempts the last one counts
            found[name] = Attempt(name, is_guess, source, tuple(before), modules)
        before += _definitions(source)
    return list(found.values())


def hand_ins(
    folder: Path,  # with a folder for each reader, or with notebooks that are named by them
) -> list[tuple[str, Path]]:  # reader, notebook
    "The notebooks of a folder, by reader. FileNotFoundError where there are none"
    paths = [p for p in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    if not paths:
        raise FileNotFoundError(
            f"no notebooks in {folder}; give a folder with one folder for each reader, or with one"
            " notebook for each."
        )
    inside = [p.relative_to(folder).parts for p in paths]
    readers = [parts[0] if len(parts) > 1 else Path(parts[0]).stem for parts in inside]
    return list(zip(readers, paths, strict=True))
