"""What the source of a definition says about its parameters: names, types, defaults, comments"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "Definition",
    "Function",
    "Part",
    "Source",
    "arguments",
    "fields",
    "has_fields",
    "name_of",
    "result",
]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Part:
    """One parameter, field or result of a definition, as its source says it"""

    name: str = ""  # with its stars; empty for a result
    type: str = ""  # the annotation
    default: str = ""  # the text of the default value
    text: str = ""  # the comment
    last: bool = False  # a field that is given by name only: it follows the others


class Source:
    """Source text with its comments by line, and pieces of it by syntax node"""

    def __init__(self, text: str):
        self.text = text
        self.rows = text.splitlines(keepends=True)
        self.tree = ast.parse(text)
        self.comments = {}  # line -> text of the comment on it
        self.alone = set()  # lines that hold a comment and nothing else
        for t in tokenize.generate_tokens(io.StringIO(text).readline):
            if t.type == tokenize.COMMENT:
                self.comments[t.start[0]] = t.string.lstrip("#").strip()
                if not t.line[: t.start[1]].strip():
                    self.alone.add(t.start[0])

    def default(self, node: ast.expr | None) -> str:
        """The text of a default value; a private name tells a reader nothing"""
        private = isinstance(node, ast.Name) and node.id.startswith("_")
        return "" if private else self.piece(node)

    def piece(self, node: ast.expr | None) -> str:
        """The text of an expression on one line"""
        if node is None:
            return ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            quoted = repr(node.value)  # in double quotes, as the formatter has them
            return quoted if set("\"'\\") & set(node.value) else f'"{quoted[1:-1]}"'
        if node.end_lineno != node.lineno:
            return ast.unparse(node)
        row = self.rows[node.lineno - 1].encode()  # syntax nodes count bytes
        return row[node.col_offset : node.end_col_offset].decode()

    def annotation(self, node: ast.expr | None) -> str:
        """A type as text; quotes around the whole of it do not count"""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return self.piece(node)

    def comment(self, first: int, last: int, taken: set[int], top: int) -> str:
        """The comment behind what stands on the lines `first` to `last`, else the lines above it

        Those above end at the line `top`, where the definition begins: what stands above that is
        no word on a parameter.
        """
        for line in range(last, first - 1, -1):
            if line in self.comments and line not in self.alone:
                return _without_mypy(self.comments[line])
        above = []
        line = first - 1
        while line > top and line in self.alone and line not in taken:
            above.append(self.comments[line])
            line -= 1
        return " ".join(reversed(above))


def _without_mypy(comment: str) -> str:
    """What a comment says after `type: ignore[...]`, which is said to mypy"""
    said = re.match(r"type: ignore(\[[\w-]+\])?\s*#?\s*", comment)
    return comment[said.end() :] if said else comment


def _head_end(src: Source, node: Definition) -> int:
    """The line of the colon that ends the head of a definition"""
    text = "".join(src.rows[node.lineno - 1 :])
    depth = 0
    for t in tokenize.generate_tokens(io.StringIO(text).readline):
        if t.type == tokenize.OP and t.string in "([{":
            depth += 1
        elif t.type == tokenize.OP and t.string in ")]}":
            depth -= 1
        elif t.type == tokenize.OP and t.string == ":" and depth == 0:
            return node.lineno + t.start[0] - 1
    raise AssertionError("a definition without a colon does not parse")


def arguments(src: Source, node: Function, drop_first: bool) -> list[Part]:
    """The parameters of a function"""
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    found = [("", arg, value) for arg, value in zip(plain, defaults, strict=True)]
    if drop_first and plain:
        found = found[1:]
    if a.vararg:
        found.append(("*", a.vararg, None))
    found += [("", arg, value) for arg, value in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    if a.kwarg:
        found.append(("**", a.kwarg, None))
    everyone = [*plain, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
    ends = {}  # line -> the last that begins there: a comment behind several belongs to it
    for arg in sorted(everyone, key=lambda arg: (arg.lineno, arg.col_offset)):
        ends[arg.lineno] = arg.arg
    if node.returns is not None:
        ends[node.returns.lineno] = "return"
    parts = []
    for stars, arg, value in found:
        last = max(arg.end_lineno or arg.lineno, value.end_lineno or 0 if value else 0)
        mine = ends[arg.lineno] == arg.arg
        text = src.comment(arg.lineno, last, set(ends), node.lineno) if mine else ""
        default = src.default(value)
        parts.append(Part(stars + arg.arg, src.annotation(arg.annotation), default, text))
    return parts


def result(src: Source, node: Function) -> Part | None:
    """What a function gives back; None where its head says nothing"""
    kind = src.annotation(node.returns)
    a = node.args
    arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
    values = [*a.defaults, *filter(None, a.kw_defaults)]
    lines = {n.end_lineno or n.lineno for n in arguments}
    lines |= {n.end_lineno or n.lineno for n in values}
    first = node.returns.lineno if node.returns is not None else _head_end(src, node)
    last = max(first, _head_end(src, node))
    behind_parameter = node.returns is None and first in lines
    text = "" if behind_parameter else src.comment(first, last, lines, node.lineno)
    if node.returns is None and first == node.lineno:
        text = ""
    if not text and kind in ("", "None"):
        return None
    return Part("", "" if kind == "None" else kind, "", text)


def name_of(node: ast.expr) -> str:
    """`x` of the decorator or base `a.b.x(...)`"""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def has_fields(node: ast.ClassDef) -> bool:
    """Are the parameters of the class its annotated names?"""
    bases = {name_of(b) for b in node.bases}
    return "dataclass" in map(name_of, node.decorator_list) or bool(bases & {"NamedTuple"})


def _keywords(node: ast.expr | None) -> dict[str, ast.expr]:
    """The keywords of a call of `field`"""
    if isinstance(node, ast.Call) and name_of(node) == "field":
        return {k.arg: k.value for k in node.keywords if k.arg}
    return {}


def _no(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def fields(src: Source, node: ast.ClassDef) -> Iterator[tuple[Part, bool]]:
    """The fields that a class states itself, each with: is it a parameter?"""
    annotated = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    stated = [(n, n.target.id) for n in annotated if isinstance(n.target, ast.Name)]
    taken = {n.lineno for n, _ in stated}
    for n, name in stated:
        kind = src.annotation(n.annotation)
        if kind.startswith(("ClassVar", "typing.ClassVar")):
            continue
        options = _keywords(n.value)
        default = src.default(n.value)
        if isinstance(n.value, ast.Call) and name_of(n.value) == "field":
            default = src.default(options.get("default"))
            if factory := src.piece(options.get("default_factory")):
                default = f"{factory}()"
        text = src.comment(n.lineno, n.end_lineno or n.lineno, taken, node.lineno)
        last = "kw_only" in options and not _no(options["kw_only"])
        yield Part(name, kind, default, text, last), not _no(options.get("init"))
