"""The grammar of specs: text to a tree of names, calls and literals, by Python's own parser

Nothing is looked up, imported or run here. Written by hand: no notebook makes it.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from dataclasses import dataclass
from typing import NoReturn

LONGEST, DEEPEST = 10_000, 30  # characters of a spec; calls, lists and sums inside each other
LARGEST = 2**64  # of whole numbers: a seed
ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
MARK = "\0"  # begins a quoted name, so that `ast` can read it

# A name from outside the package: package.module:name, or path/file.py:name
NAME = r"[^\W\d]\w*"
PATH = r"(?:[A-Za-z]:[\\/])?[\w.~/\\-]*\.py"
OUTSIDE = rf"(?!(?:True|False|None):)(?:{PATH}|{NAME}(?:\.{NAME})*):{NAME}"
STRING = (
    r"(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')"
)
TOKENS = re.compile(rf"(?P<string>{STRING})|(?<![\w.~/\\-])(?P<outside>{OUTSIDE})", re.DOTALL)
QUOTED = re.compile(rf".+\.py:{NAME}")  # in quotes a path may also hold blanks


@dataclass(frozen=True)
class Named:
    "A name in a spec"

    name: str  # 'pgd', or package.module:name
    outside: bool = False  # is it package.module:name or file.py:name?


@dataclass(frozen=True, eq=False)
class Call:
    "A call in a spec; arguments are literals, `Named`, `Call`, and tuples, lists, dicts of them"

    what: Named  # the name that is called
    args: tuple  # by position
    keywords: dict  # name -> argument


def short(
    text: str,  # of any length
) -> str:
    "`text` for a sentence: on one line, at most 80 characters"
    line = " ".join(text.replace(MARK, "").split())
    return line if len(line) <= 80 else f"{line[:77]}..."


def is_outside(
    text: str,  # a text in quotes
) -> bool:
    "Does a quoted text name something by its file?"
    return bool(QUOTED.fullmatch(text))


def number(
    v: float,  # an int or a float, not NaN
) -> str:
    "A number as it is read: 8/255 where that is exact and shorter. ValueError for NaN or too long"
    if isinstance(v, int) and abs(v) > LARGEST:
        raise ValueError("a whole number longer than 64 bits has no spec; give a smaller one.")
    if isinstance(v, int):
        return repr(v)
    if math.isnan(v):
        raise ValueError("NaN has no spec; give a number.")
    if math.isinf(v):
        return "1e999" if v > 0 else "-1e999"
    k = round(v * 255) if abs(v) < 1 else 0
    parts = f"{k}/255"
    return parts if k and k / 255 == v and len(parts) < len(repr(v)) else repr(v)


def parse(
    text: str,  # a spec
):  # a literal, `Named` or `Call`; tuples, lists and dicts of them
    "The tree of a spec. TypeError where it is no text, ValueError in one sentence otherwise"
    if not isinstance(text, str):
        raise TypeError(f"a spec is a text such as 'pgd(steps=20)', not a {type(text).__name__}.")
    if len(text) > LONGEST:
        raise ValueError(f"a spec of {len(text)} characters is too long; {LONGEST} is the limit.")
    if MARK in text:
        raise ValueError("a spec cannot hold the character with number 0; take it out.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's remarks about its own texts: r'\d', 1or 2
            tree = ast.parse(TOKENS.sub(_quoted, text.strip()), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as e:
        why = getattr(e, "msg", None) or "too many brackets or signs"
        raise ValueError(
            f"{short(text)!r} is no spec ({why}); write a call such as pgd(steps=20)."
        ) from None
    return _Reader(text).read(tree.body, 0)


def _quoted(match):
    return match[0] if match["string"] else repr(MARK + match["outside"])


class _Reader:
    "Turns the nodes of `ast` into a tree, and refuses what is none of its own"

    def __init__(self, text):
        self.text = text

    def refuse(self, why) -> NoReturn:
        raise ValueError(f"{short(self.text)!r} is no spec: {why}.")

    def read(self, node, depth):
        if depth > DEEPEST:
            self.refuse(f"more than {DEEPEST} things lie inside each other; say it more simply")
        reader = getattr(self, f"_{type(node).__name__}", None)
        if reader is None:
            kind = type(node).__name__
            self.refuse(f"it holds names, calls and literals, and no Python of the kind {kind}")
        return reader(node, depth + 1)

    def _small(self, v):
        if isinstance(v, int) and abs(v) > LARGEST:
            self.refuse("a whole number in it is longer than 64 bits")
        return v

    def _Name(self, node, depth):
        return Named(node.id)

    def _Constant(self, node, depth):
        v = node.value
        if isinstance(v, str) and (v.startswith(MARK) or is_outside(v)):
            return Named(v.removeprefix(MARK), outside=True)
        if isinstance(v, str) and MARK in v:
            self.refuse("a text in it holds the character with number 0")
        if v is None or isinstance(v, (bool, int, float, str)):
            return self._small(v)
        self.refuse(f"{short(repr(v))} is neither number, text, True, False nor None")

    def _Call(self, node, depth):
        what = self.read(node.func, depth)
        if not isinstance(what, Named):
            self.refuse("only what has a name can be called")
        args = tuple(self.read(a, depth) for a in node.args)
        keywords = {}
        for k in node.keywords:
            if k.arg is None:
                self.refuse("** has no place in it; write the arguments out")
            if k.arg in keywords:
                self.refuse(f"{k.arg} is given twice")
            keywords[k.arg] = self.read(k.value, depth)
        return Call(what, args, keywords)

    def _number(self, node, depth):
        v = self.read(node, depth)
        if isinstance(v, bool) or not isinstance(v, (int, float)):
            self.refuse("signs and + - * / are for numbers")
        return v

    def _UnaryOp(self, node, depth):
        v = self._number(node.operand, depth)
        if isinstance(node.op, ast.USub):
            return -v
        return v if isinstance(node.op, ast.UAdd) else self.refuse("not and ~ have no place in it")

    def _BinOp(self, node, depth):
        a, b = self._number(node.left, depth), self._number(node.right, depth)
        how = ARITHMETIC.get(type(node.op))
        if how is None:
            self.refuse("of the arithmetic it knows only + - * /")
        try:
            v = how(a, b)
        except (ZeroDivisionError, OverflowError) as e:
            self.refuse(f"{e} in its arithmetic")
        if v != v:
            self.refuse("its arithmetic ends in no number")
        return self._small(v)

    def _Tuple(self, node, depth):
        return tuple(self.read(v, depth) for v in node.elts)

    def _List(self, node, depth):
        return [self.read(v, depth) for v in node.elts]

    def _Dict(self, node, depth):
        if None in node.keys:
            self.refuse("** has no place in it; write the entries out")
        keys = [self.read(k, depth) for k in node.keys]
        if not all(is_key(k) for k in keys):
            self.refuse("the keys of a dict are numbers, texts, True, False or None")
        return dict(zip(keys, (self.read(v, depth) for v in node.values), strict=True))


def is_key(
    v,  # a value
) -> bool:
    "May it be the key of a dict in a spec?"
    return v is None or isinstance(v, (bool, int, float, str))


def render(
    node,  # what `parse` gives
) -> str:
    "The text of a tree, in one way only. ValueError where it holds a number or text without one"
    if isinstance(node, Named):
        plain = not node.outside or re.fullmatch(OUTSIDE, node.name)
        return node.name if plain else repr(node.name)
    if isinstance(node, Call):
        given = [render(v) for v in node.args]
        given += [f"{k}={render(v)}" for k, v in node.keywords.items()]
        return f"{render(node.what)}({', '.join(given)})"
    if isinstance(node, tuple):
        return f"({', '.join(map(render, node))}{',' if len(node) == 1 else ''})"
    if isinstance(node, list):
        return f"[{', '.join(map(render, node))}]"
    if isinstance(node, dict):
        return f"{{{', '.join(f'{render(k)}: {render(v)}' for k, v in node.items())}}}"
    if isinstance(node, str) and MARK in node:
        raise ValueError(f"{short(node)!r} holds the character with number 0; take it out.")
    if isinstance(node, str) and is_outside(node):
        raise ValueError(f"the text {short(node)!r} would be read as a name of a file; change it.")
    if node is None or isinstance(node, (bool, str)):
        return repr(node)
    return number(node)
