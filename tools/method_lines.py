"""How many lines does a method take?  python tools/method_lines.py

The measure of the engine: a method of another paper costs at most MOST exported lines. Counted are
the lines of its functions and classes that hold code. Blank lines, docstrings and comments are
left out; of a list of parameters with comments, so are the lines of their own, as a signature
without comments would be one line. Whatever is longer is named, and the exit code is 1.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 40
# method -> module, and what of it the method consists of
PARTS = {
    "N-FGSM": ("training/staged.py", "noisy n_fgsm"),
    "FGSM-RS": ("training/fast.py", "fgsm_rs"),
    "Free": ("training/fast.py", "Free"),
    "ZeroGrad": ("training/onestep.py", "zeroed zerograd"),
    "GradAlign": ("training/onestep.py", "grad_align"),
    "NuAT": ("training/onestep.py", "coins NuAT"),
    "FAAL": ("classwise/faal.py", "worst_mixture faal"),
    "Muon": ("training/muon.py", "muon"),
    "ARKS": ("papers/arks.py", "kernel arks"),
    "New head": ("papers/transfer.py", "with_features new_head head_only"),
    "LwF": ("papers/transfer.py", "with_features lwf"),
    "Noise": ("papers/noise.py", "ColouredNoise held over_rolls"),
    "Latent": ("papers/latent.py", "principal Latent LatentAT"),
    "RPG": ("papers/rpg.py", "best_threshold membership gradient_norms privacy"),
    "APART": ("papers/apart.py", "inner_layers APART"),
    "JEAT": ("papers/jeat.py", "energy langevin dream nearest_class"),
    "MLCAT": ("papers/mlcat.py", "between scaled mlcat"),
}


def _left_out(node) -> set[int]:
    "Lines of docstrings, and of the parameters of a signature beyond its first line"
    found: set[int] = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant):
            if isinstance(n.value.value, str):
                found |= {*range(n.lineno, n.end_lineno + 1)}
        if isinstance(n, ast.FunctionDef):
            found |= {*range(n.lineno + 1, n.body[0].lineno)}
    return found


def lines_of(source: str, names: set[str]) -> int:
    "Lines of code of these functions and classes"
    rows, total, met = source.splitlines(), 0, set()
    for node in ast.parse(source).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name not in names:
            continue
        met.add(node.name)
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        numbers = {*range(first, node.end_lineno + 1)} - _left_out(node)
        texts = (rows[k - 1].strip() for k in numbers)
        total += sum(bool(t) and not t.startswith("#") for t in texts)
    if met != names:
        raise ValueError(f"there is no {min(names - met)!r}; mend PARTS.")
    return total


def main() -> int:
    long = 0
    for method, (module, names) in PARTS.items():
        source = (ROOT / "spat_nb" / module).read_text(encoding="utf-8")
        n = lines_of(source, {*names.split()})
        long += n > MOST
        print(f"{method:10} {n:3}  {module}: {names}{'   too long' if n > MOST else ''}")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
