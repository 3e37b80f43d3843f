"""How two answers differ, and what is said about it"""

from __future__ import annotations

import torch
from torch import Tensor

from .kept import keep_attempt, reader_at_work

__all__ = ["Verdict", "difference", "in_words", "show_verdict"]

_failed: dict = {}  # exercise -> its failed attempts in this session


class Verdict(str):
    "'not attempted', 'error', 'wrong' or 'right'"

    def _ipython_display_(self):
        "Nothing: the line was printed already"


def _is_number(v) -> bool:
    return isinstance(v, (Tensor, int, float)) or hasattr(v, "__array__")


def difference(
    got,  # the reader's value
    want,  # the right one: number, text, tensor, or a tuple or list of them
    tol: float,  # how far a number may be off
    rel: float = 0.0,  # and how far as a share of the right one
) -> str:  # in words; '' where |got-want| <= tol + rel*|want| in every entry
    "How two answers differ"
    if isinstance(want, str):
        same = isinstance(got, str) and got.strip().casefold() == want.strip().casefold()
        return "" if same else "another answer"
    if isinstance(want, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(want):
            return f"should be {len(want)} values"
        parts = (difference(g, w, tol, rel) for g, w in zip(got, want, strict=True))
        return next(filter(None, parts), "")
    if isinstance(want, dict):
        if not isinstance(got, dict) or list(got) != list(want):
            return f"should be a dict with the keys {in_words(list(want))}"
        return difference(list(got.values()), list(want.values()), tol, rel)
    if not _is_number(want):
        return "" if type(got) is type(want) and got == want else "another answer"
    if not _is_number(got):
        wanted = "tensor" if isinstance(want, Tensor) else "number"
        return f"should be a {wanted}, not a {type(got).__name__}"
    return _number_difference(got, want, tol, rel)


def _number_difference(got, want, tol: float, rel: float) -> str:
    "`difference` of numbers and tensors"
    try:
        g, w = (torch.as_tensor(v).detach().cpu() for v in (got, want))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return "another answer"
    if g.shape != w.shape:
        return f"shape should be {tuple(w.shape)}, not {tuple(g.shape)}"
    if (g.dtype == torch.bool) != (w.dtype == torch.bool):
        return f"dtype should be {w.dtype}, not {g.dtype}"
    off = ~torch.isclose(g.double(), w.double(), rtol=rel, atol=tol, equal_nan=True)
    if not off.any():
        return ""
    if off.numel() == 1 and w.dtype != torch.bool:
        return f"off by {(g.double() - w.double()).abs().item():.3g}"
    return f"{off.sum()} of {off.numel()} entries differ"


def in_words(
    v,  # any value
) -> str:
    "`v` on one short line: numbers with 4 digits, large tensors by their shape"
    if isinstance(v, Tensor) and v.numel() > 12:
        return f"tensor {tuple(v.shape)} {in_words(v.flatten()[:4])[:-1]}, ...]"
    if hasattr(v, "tolist"):
        return in_words(v.tolist())
    if isinstance(v, (list, tuple)):
        opening, closing = "[]" if isinstance(v, list) else "()"
        return f"{opening}{', '.join(map(in_words, v))}{closing}"
    if isinstance(v, float):
        return f"{v:.4g}"
    if isinstance(v, dict):
        return "{" + ", ".join(f"{k!r}: {in_words(u)}" for k, u in v.items()) + "}"
    if callable(v):
        return getattr(v, "__name__", type(v).__name__)
    text = " ".join(repr(v).split())
    if text.startswith("<"):
        return type(v).__name__
    return text if len(text) < 80 else text[:76] + " ..."


def show_verdict(
    verdict: str,  # 'right', 'wrong', 'error' or 'not attempted'
    text: str,  # what is told behind it
    name: str | None = None,  # of an exercise
    hints: tuple = (),  # texts, from a nudge to the idea
    once: bool = False,  # a first verdict stays
    keep: bool = True,  # note it as the reader's attempt
) -> Verdict:
    """Print a verdict; note an attempt at exercise `name`; after each failure show one more of the
    `hints`
    """
    print(f"{verdict}: {text}")
    if name and keep and verdict != "not attempted" and reader_at_work():
        keep_attempt(name, verdict == "right", once)
    if verdict in ("wrong", "error") and hints and keep:
        key = name or tuple(hints)
        _failed[key] = n = _failed.get(key, 0) + 1
        for i, hint in enumerate(hints[:n], 1):
            print(f"hint {i} of {len(hints)}: {hint}")
    return Verdict(verdict)
