"""Exercises of the lesson on saving"""

import ast
import contextlib
import os
import pickle
import tempfile

from spat_nb.learn.exercise import Exercise
from spat_nb.public import KIND

# ---- 2. be the one who reads the file


def allowed(text):
    try:
        nodes = [*ast.walk(ast.parse(text, mode="eval"))]
    except SyntaxError:
        return False
    kinds = (ast.Expression, ast.Call, ast.keyword, ast.Constant, ast.Name, ast.Load)
    names = [v.id for v in nodes if isinstance(v, ast.Name)]
    return all(isinstance(v, kinds) for v in nodes) and all(v in KIND for v in names)


def by_the_first_name(text):
    return text.split("(")[0] in KIND


def every_name_is_known(text):
    try:
        nodes = [*ast.walk(ast.parse(text, mode="eval"))]
    except SyntaxError:
        return False
    return all(v.id in KIND for v in nodes if isinstance(v, ast.Name))


def texts():
    return [
        "ReLU",
        "Hypersphere(scale=15.0)",
        "SmallCNN(act=Sparta(k=1))",
        "os:system",
        "os.system",
        "mine.py:net",
        "SmallCNN(head=os:system)",
        "SmallCNN(head=eval)",
        "SmallCNN(head=eval('1'))",
        "().__class__",
        "[ReLU for _ in 'ab']",
        "[ReLU]",
        "-1",
        "ReLU(",
        "Relu",
        "LeakyReLU(negative_slope=0.2)",
    ]


# ---- 3. a file that knows where you are


def tells_the_folder(make):
    data = pickle.dumps(make())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        here = os.getcwd()
        got = pickle.loads(data)
    if got != here:
        return f"read in {here!r} it gives {str(got)[:60]!r}."
    return ""


class Spy:
    def __reduce__(self):
        return os.getcwd, ()


class Caller:
    def __reduce__(self):
        return eval, ("__import__('os').getcwd()",)


def the_writers_folder():
    return os.getcwd()


def the_function():
    return os.getcwd


EXERCISES = {
    "saving 2": Exercise(
        reference=allowed,
        cases=lambda: [(text,) for text in texts()],
        wrong=[by_the_first_name, every_name_is_known],
        hints=(
            "ast.walk gives every node of a tree; say which kinds of node may occur.",
            "A name deep inside a call counts as much as the first one; text that is no Python is"
            " no spec.",
        ),
    ),
    "saving 3": Exercise(
        check=tells_the_folder,
        solution=lambda: Spy(),
        right=[lambda: Caller()],
        wrong=[the_writers_folder, the_function],
        hints=(
            "`__reduce__` returns a function and a tuple of its arguments; reading calls it.",
            "The function is os.getcwd, and it takes no arguments.",
        ),
    ),
}
