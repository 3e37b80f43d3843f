"""Exercises of the lesson on identity"""

import ast

from spat_nb.learn.exercise import Exercise

# ---- 3. what a program says


def says(text):
    tree = ast.parse(text)
    first = tree.body[0] if tree.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        if isinstance(first.value.value, str):
            tree.body = tree.body[1:]
    return ast.unparse(tree)


def with_its_docstring(text):
    return ast.unparse(ast.parse(text))


def without_lines_of_comment(text):
    return "\n".join(row for row in text.splitlines() if not row.startswith("#"))


def programs():
    return [
        "x = 1",
        "x  =  1   # one",
        '"what it is for"\nx = (1)',
        "",
        "5\nx = 2",
        "'a'\n'b'\nx = 3",
        "f('a')\nx = 4",
    ]


EXERCISES = {
    "identity 3": Exercise(
        reference=says,
        cases=lambda: [(text,) for text in programs()],
        wrong=[with_its_docstring, without_lines_of_comment],
        hints=(
            "A tree has no comments and no layout; what is left of the docstring is its first"
            " statement.",
            "An ast.Expr whose value is an ast.Constant that holds a text: leave it out.",
        ),
    ),
}
