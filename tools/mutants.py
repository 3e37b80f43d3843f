"""Do the judges of the exercises refuse what is wrong?  python tools/mutants.py [ROOM ...]

Of each exercise's right answer wrong variants are made: another operator, a sign, a constant off by
one, another axis, another parameter, a step or an option left out. A judge should refuse at least
95% of them. What survives is printed, for somebody to look at: some variants are right after all.
(An exercise that is judged by what an answer achieves has no variants: one that achieves it is
right.) All right answers that an exercise names must be accepted, all wrong ones refused. Exit code
1 where that does not hold.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 20  # for one variant; one that runs longer is refused
LEAST = 0.95  # share of the variants that are refused

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.Gt,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
NAMES = {
    "min": "max",
    "amin": "amax",
    "argmin": "argmax",
    "minimum": "maximum",
    "clamp_min": "clamp_max",
    "sum": "mean",
    "all": "any",
    "sign": "abs",
    "log": "exp",
    "sqrt": "square",
    "sin": "cos",
    "eq": "ne",
    "gt": "lt",
    "ge": "lt",
    "le": "gt",
    "softmax": "log_softmax",
    "zeros_like": "ones_like",
}
NAMES |= {other: name for name, other in NAMES.items() if other not in ("lt", "gt")}
# functions of two arguments whose order does not matter
SYMMETRIC = {"allclose", "equal", "isclose", "max", "maximum", "min", "minimum"}
# methods that only move data: a chain without them fails or is the same
KEPT = {"clone", "detach", "contiguous", "float", "double", "item", "tolist", "to", "backward"}


def changed(node: ast.AST) -> Iterator[ast.AST]:
    "Wrong variants of one node of a syntax tree"
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        yield node.left
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        new = COMPARISONS[type(node.ops[0])]()
        yield ast.Compare(node.left, [new, *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from changed_constant(node)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.Call):
        yield from changed_call(node)


def changed_constant(node: ast.Constant) -> Iterator[ast.AST]:
    "Another number, or the other truth"
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
        if node.value and node.value != 1:  # axis -1 is often axis 1
            yield ast.Constant(-node.value)


def changed_call(node: ast.Call) -> Iterator[ast.AST]:
    "A step of a chain or an option left out, two arguments exchanged"
    for k in node.keywords:
        if k.arg:
            yield ast.Call(
                node.func, node.args, [other for other in node.keywords if other is not k]
            )
    if isinstance(node.func, ast.Attribute) and node.func.attr not in KEPT:
        if not isinstance(node.func.value, ast.Name) or node.func.value.id not in ("torch", "F"):
            yield node.func.value
    ordered = ast.unparse(node.func).rpartition(".")[2] not in SYMMETRIC
    if ordered and len(node.args) == 2 and not any(isinstance(a, ast.Starred) for a in node.args):
        if ast.dump(node.args[0]) != ast.dump(node.args[1]):
            yield ast.Call(node.func, node.args[::-1], node.keywords)


class Replace(ast.NodeTransformer):
    "Puts another node into the place of one"

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old = old
        self.new = new

    def visit(self, node):
        return copy.deepcopy(self.new) if node is self.old else self.generic_visit(node)


def variants(function: ast.FunctionDef) -> Iterator[ast.FunctionDef]:
    "All wrong variants of a function, each with one change"
    for i, node in enumerate(ast.walk(function)):
        for j in range(sum(1 for _ in changed(node))):
            new = copy.deepcopy(function)
            old = list(ast.walk(new))[i]
            if is_annotation(new, old):
                continue
            yield Replace(old, list(changed(old))[j]).visit(new)
    yield from without_a_step(function)
    yield from of_another(function)


def without_a_step(function: ast.FunctionDef) -> Iterator[ast.FunctionDef]:
    "All variants of a function in which a statement is left out that changes what is there already"
    for i, node in enumerate(ast.walk(function)):
        for field in ("body", "orelse"):
            steps = getattr(node, field, None)
            for j, step in enumerate(steps if isinstance(steps, list) else []):
                if is_change(step):
                    new = copy.deepcopy(function)
                    getattr(list(ast.walk(new))[i], field)[j] = ast.Pass()
                    yield new


def is_change(step: ast.stmt) -> bool:
    "Does a statement use what it sets (x = x + d), or call something for its effect?"
    if isinstance(step, ast.Assign):
        target = ast.unparse(step.targets[0])
        return any(ast.unparse(n) == target for n in ast.walk(step.value))
    called = isinstance(step, ast.Expr) and isinstance(step.value, ast.Call)
    return isinstance(step, ast.AugAssign) or called


def of_another(function: ast.FunctionDef) -> Iterator[ast.FunctionDef]:
    "All variants of a function that read another of its parameters in one place"
    names = [a.arg for a in function.args.args]
    for i, node in enumerate(ast.walk(function)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            other = names[(names.index(node.id) + 1) % len(names)]
            new = copy.deepcopy(function)
            read = list(ast.walk(new))[i]
            if other != node.id and not is_annotation(new, read):
                read.id = other
                yield new


def is_annotation(function: ast.FunctionDef, node: ast.AST) -> bool:
    "Does a node stand in a signature's types?"
    types = [a.annotation for a in ast.walk(function) if isinstance(a, ast.arg) and a.annotation]
    types += [function.returns] if function.returns else []
    return any(node is part for t in types for part in ast.walk(t))


def answers(tree: ast.Module) -> dict[str, str]:
    "Exercise -> name of its reference, as EXERCISES has it"
    table = next(
        n.value
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "EXERCISES"
    )
    found = {}
    for key, call in zip(table.keys, table.values, strict=True):
        given = {k.arg: k.value for k in call.keywords}
        answer = given.get("reference")
        if isinstance(answer, ast.Name):
            found[key.value] = answer.id
    return found


class Late(BaseException):
    "A variant ran too long; no Exception, or the judge would take it for an answer's own"


def late(*_):
    raise Late


def verdict(exercise, fn) -> str:
    "The word of the judge; what runs too long is refused"
    from spat_nb.learn.exercise import judged_by

    signal.alarm(SECONDS)
    try:
        return judged_by(exercise, fn)[0]
    except Late:
        return "late"
    finally:
        signal.alarm(0)


def room(path: Path, most: int, rng: random.Random) -> tuple[int, int, list[str]]:
    "Variants tried, variants refused, and sentences on what is wrong with a room's exercises"
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    namespace: dict = {"__name__": path.stem}
    exec(compile(tree, str(path), "exec"), namespace)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    answer_names = answers(tree)
    tried = refused = 0
    faults = []
    for name, exercise in namespace["EXERCISES"].items():
        for fn in (exercise.answer, *exercise.right):
            if (said := verdict(exercise, fn)) != "right":
                faults.append(f"FAULT {name}: a right answer is {said}")
        for fn in exercise.wrong:
            if (said := verdict(exercise, fn)) == "right":
                faults.append(f"FAULT {name}: a wrong answer is {said}")
        function = functions.get(answer_names.get(name, ""))
        made = list(variants(function)) if function else []
        for tree_of_variant in rng.sample(made, min(most, len(made))):
            module = ast.fix_missing_locations(ast.Module([tree_of_variant], []))
            scope = dict(namespace)
            exec(compile(module, f"<variant of {name}>", "exec"), scope)
            said = verdict(exercise, scope[tree_of_variant.name])
            tried += 1
            refused += said != "right"
            if said == "right":
                faults.append(f"{name} accepts: {difference(function, tree_of_variant)}")
    return tried, refused, faults


def difference(function: ast.FunctionDef, variant: ast.FunctionDef) -> str:
    "The lines of a variant that the function does not have"
    before = ast.unparse(function).splitlines()
    return "; ".join(row.strip() for row in ast.unparse(variant).splitlines() if row not in before)


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("rooms", nargs="*", help="files of exercises/, as in balls; default: all")
    args.add_argument(
        "--most", type=int, default=1000, help="variants of one exercise; default: all"
    )
    args.add_argument("--seed", type=int, default=0, help="chooses the variants")
    given = args.parse_args()
    sys.path.insert(0, str(ROOT))
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401  an import that an alarm interrupts stays broken
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, late)
    names = given.rooms or sorted(p.stem for p in (ROOT / "exercises").glob("[a-z]*.py"))
    total = caught = broken = 0
    for name in names:
        tried, refused, faults = room(
            ROOT / "exercises" / f"{name}.py", given.most, random.Random(f"{given.seed} {name}")
        )
        total += tried
        caught += refused
        broken += sum(f.startswith("FAULT") for f in faults)
        print(f"{name:16} {refused} of {tried} variants refused", flush=True)
        for fault in faults:
            print(f"    {fault}", flush=True)
    print(f"{caught} of {total} variants refused ({caught / max(1, total):.1%})")
    sys.exit(bool(broken) or caught < LEAST * total)


if __name__ == "__main__":
    main()
