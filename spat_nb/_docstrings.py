"""Comments behind parameters as numpydoc sections: what the export writes into docstrings

A notebook says what a parameter is in a comment behind it. `help`, an editor's hover and Sphinx
read docstrings alone. `add_sections` copies the comments there, text to text, so that the layout of
a cell stays. `join_sections` gives a docstring back as prose, without what comments say already.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Collection, Iterator

from ._docstring_text import (
    MADE,
    TITLE,
    errors_apart,
    example_apart,
    join_sections,
    long_lines,
    split_sections,
    wrapped,
)
from ._signatures import (
    Definition,
    Function,
    Part,
    Source,
    arguments,
    fields,
    has_fields,
    name_of,
    result,
)

__all__ = [
    "add_sections",
    "definitions",
    "docstring_node",
    "join_sections",
    "literal",
    "long_lines",
    "renew_sections",
    "split_sections",
]

WIDTH = 100  # columns of a line of exported code


def _entry(part: Part, width: int) -> list[str]:
    """The lines of a parameter or a result in its section"""
    head = " : ".join(filter(None, [part.name, part.type]))
    text = part.text
    if part.default and "default" not in text:
        text = f"{text} (default: {part.default})" if text else f"default: {part.default}"
    if not head:
        return wrapped(text, 0, width)
    return [head, *wrapped(text, 4, width)]


# ---- definitions, and the docstring of each


def docstring_node(node: Definition) -> ast.Constant | None:
    """The string that documents a definition"""
    first = node.body[0].value if isinstance(node.body[0], ast.Expr) else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first
    return None


def definitions(
    body: list[ast.stmt],  # of a module or a class
    prefix: str = "",  # of the names
    methods: bool = False,  # does the body belong to a class?
) -> Iterator[tuple[str, Definition, bool]]:  # dotted name, node, is it a method?
    """The public functions and classes of a module, and the public methods of all its classes"""
    for node in body:
        if not isinstance(node, Definition):
            continue
        changes = any(name_of(d) in ("setter", "deleter") for d in node.decorator_list)
        if node.name[0] != "_" and not changes:
            yield prefix + node.name, node, methods
        if isinstance(node, ast.ClassDef):
            yield from definitions(node.body, f"{prefix}{node.name}.", True)


Finder = Callable[[str], "tuple[Source, ast.ClassDef] | None"]  # a class by the name of it


def _class_parts(src: Source, node: ast.ClassDef, find: Finder) -> tuple[list[Part], list[Part]]:
    """The parameters of a class, and its fields that are none, its bases included"""
    init = next((n for n in node.body if isinstance(n, Function) and n.name == "__init__"), None)
    if init:
        return arguments(src, init, True), []
    bases = [b for name in map(name_of, node.bases) if name != node.name and (b := find(name))]
    inherited = [_class_parts(base_src, base, find) for base_src, base in bases]
    if not has_fields(node):
        return next((parts for parts in inherited if any(parts)), ([], []))
    known: dict[str, tuple[Part, bool]] = {}
    for parameters, attributes in reversed(inherited):
        known |= {p.name: (p, True) for p in parameters} | {p.name: (p, False) for p in attributes}
    for part, is_parameter in fields(src, node):
        if part.name in known and not part.text:
            part.text = known[part.name][0].text
        known[part.name] = (part, is_parameter)
    ordered = sorted(known.values(), key=lambda pair: pair[0].last)
    return [p for p, yes in ordered if yes], [p for p, yes in ordered if not yes]


def _yields(node: Function) -> bool:
    """Is the result what the body yields? Functions inside do not count"""
    todo: list[ast.AST] = list(node.body)
    while todo:
        n = todo.pop()
        if isinstance(n, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(n, (*Function.__args__, ast.ClassDef, ast.Lambda)):
            todo += ast.iter_child_nodes(n)
    return False


def _parts(src: Source, node: Definition, is_method: bool, find: Finder) -> dict[str, list[Part]]:
    """What stands in the sections of a definition"""
    if isinstance(node, ast.ClassDef):
        parameters, attributes = _class_parts(src, node, find)
        return {"Parameters": parameters, "Attributes": attributes}
    marks = set(map(name_of, node.decorator_list))
    if any(mark.endswith("property") for mark in marks):
        return {}
    bound = is_method and "staticmethod" not in marks or any(m.startswith("patch") for m in marks)
    given = result(src, node)
    parameters = arguments(src, node, bound)
    results = [given] if given else []
    if is_method and not any(part.text for part in [*parameters, *results]):
        return {}  # what a method overrides may speak for it
    title = "Yields" if _yields(node) else "Returns"
    return {"Parameters": parameters, title: results}


def _sections(doc: str, parts: dict[str, list[Part]], width: int) -> str:
    """The docstring with its sections; the same where there is nothing to say"""
    head, example = example_apart(doc)
    paragraphs = [errors_apart(p) for p in re.split(r"\n\s*\n", head)]
    told = {title: ps for title, ps in parts.items() if any(p.text or p.type for p in ps)}
    bodies = {title: [r for p in ps for r in _entry(p, width)] for title, ps in told.items()}
    found = dict.fromkeys(e for _, errors in paragraphs for e in errors)
    bodies["Raises"] = [row for names, text in found for row in [names, *wrapped(text, 4, width)]]
    bodies["Examples"] = example.splitlines()
    if not any(bodies.values()):
        return doc
    blocks = [long_lines(rest, width) for rest, _ in paragraphs if rest]
    for title, rows in bodies.items():
        if rows:
            blocks.append("\n".join([title, "-" * len(title), *rows]))
    return "\n\n".join(blocks)


def literal(doc: str, indent: str) -> str:
    """Source text of a docstring; of several lines, the quotes that end it have one of their own"""
    raw = "\\" in doc and '"""' not in doc and doc.replace("\n", "").isprintable()
    if not raw:
        doc = doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        doc = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in doc)
    rows = [indent + row if row.strip() else "" for row in doc.split("\n")]
    end = [indent] if len(rows) > 1 or doc.endswith(('"', "\\")) else []
    text = "\n".join([*rows, *end]).lstrip()
    return f'{"r" * raw}"""{text}"""'


def _nowhere(name: str) -> None:
    return None


def _rewritten(rows: list[bytes], node: Definition, doc: str) -> None:
    """Let `node` have the docstring `doc` in place of its own; a string behind the colon gets lines
    of its own
    """
    text = docstring_node(node)
    assert text is not None
    end = text.end_lineno or text.lineno
    indent = _indent(node, text)
    before = rows[text.lineno - 1][: text.col_offset]
    after = rows[end - 1][text.end_col_offset :]
    if before.strip():  # behind the colon
        before = before.rstrip() + b"\n" + indent.encode()
        rest = after.lstrip(b" ;")
        after = b"\n" + indent.encode() + rest if after.lstrip().startswith(b";") else after
    rows[text.lineno - 1 : end] = [before + literal(doc, indent).encode() + after]


def _indent(node: Definition, text: ast.Constant) -> str:
    """The blanks before a docstring's lines"""
    return " " * (node.col_offset + 4 if text.lineno == node.lineno else text.col_offset)


def add_sections(
    source: str,  # of a module, or of a cell
    find: Finder = _nowhere,  # the class of a name that stands elsewhere
    names: Collection[str] | None = None,  # functions and classes to look at; None: all
) -> str:  # the same, apart from docstrings
    """Write sections into the docstrings of all public functions, classes and methods

    A docstring that has a section is left alone, and so is text that is no Python.
    """
    try:
        src = Source(source)
    except SyntaxError:
        return source
    here = {n.name: (src, n) for n in src.tree.body if isinstance(n, ast.ClassDef)}
    rows = [row.encode() for row in src.rows]  # syntax nodes count bytes
    for name, node, is_method in reversed(list(definitions(src.tree.body))):
        text = docstring_node(node)
        if text is None or TITLE.search(doc := inspect.cleandoc(str(text.value))):
            continue
        if names is not None and name.split(".")[0] not in names:
            continue
        parts = _parts(src, node, is_method, lambda name: here.get(name) or find(name))
        new = _sections(doc, parts, WIDTH - len(_indent(node, text)))
        if new != doc:
            _rewritten(rows, node, new)
    return b"".join(rows).decode()


def renew_sections(
    source: str,  # of a module that is written by hand
    names: Collection[str],  # its functions and classes that have sections
) -> str:  # the same, apart from docstrings
    """Write the sections of `names` anew, from the comments as they are now

    A docstring with a section that the comments do not make is left alone.
    """
    src = Source(source)
    rows = [row.encode() for row in src.rows]
    for name, node, _ in reversed(list(definitions(src.tree.body))):
        text = docstring_node(node)
        if text is None or name.split(".")[0] not in names:
            continue
        doc = inspect.cleandoc(str(text.value))
        sections = set(split_sections(doc)[1])
        if not sections or sections - {*MADE}:
            continue
        _rewritten(rows, node, long_lines(join_sections(doc), WIDTH - len(_indent(node, text))))
    return add_sections(b"".join(rows).decode(), names=names)
