"""The teacher's copy: notebooks without solutions, and an answer key"""

from __future__ import annotations

import json
import re

from .handins import is_solution, source_of

__all__ = ["without_solutions"]


def _markdown(text: str, k: int) -> dict:
    return {"cell_type": "markdown", "id": f"text{k}", "metadata": {}, "source": text}


def _code(text: str, k: int) -> dict:
    cell = {"cell_type": "code", "id": f"code{k}", "metadata": {}, "source": text}
    return {**cell, "outputs": [], "execution_count": None}


def _question(text: str) -> str:
    "Of the prose above an exercise what begins with its own heading"
    headings = [m.start() for m in re.finditer(r"^### ", text, re.M)]
    return text[headings[-1] :].strip() if headings else ""


def _answers(cells: list) -> list[tuple[str, str]]:
    "(question, code of the solution) of a notebook"
    found = []
    question = ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            question = _question(source_of(cell)) or question
        elif is_solution(cell):
            rows = source_of(cell).splitlines()
            found.append((question, "\n".join(r for r in rows if not r.startswith("#|")).strip()))
    return found


def without_solutions(
    files: dict,  # relative path -> bytes, as `lab.files` gives them
) -> tuple[dict, bytes]:  # the same without solutions, and the answer key, a notebook
    "What a class gets, and what stays with the teacher"
    left = dict(files)
    key: list[dict] = [
        _markdown("# Answer key\n\nThe solutions of all exercises, for the teacher alone.", 0)
    ]
    for name, data in files.items():
        if not name.endswith(".ipynb"):
            continue
        notebook = json.loads(data)
        answers = _answers(notebook["cells"])
        if not answers:
            continue
        key.append(_markdown(f"## {name.removesuffix('.ipynb')}", len(key)))
        for question, solution in answers:
            key.append(_markdown(question, len(key)))
            key.append(_code(solution, len(key)))
        notebook["cells"] = [c for c in notebook["cells"] if not is_solution(c)]
        left[name] = json.dumps(notebook, ensure_ascii=False, indent=1).encode()
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    page = {"cells": key, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return left, json.dumps(page, ensure_ascii=False, indent=1).encode()
