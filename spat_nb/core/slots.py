"""Specs as a slot keeps them: in one way of writing, several in a row, with other arguments"""

from __future__ import annotations

from . import spec
from .grammar import Call, Named, parse, render

__all__ = ["normal", "split_specs", "with_slots", "name_of", "argument"]


def normal(
    value,  # a spec, as a text or an object
    outside: bool = False,  # may it name what is not ours? Only where a person typed it
) -> str:  # 'pgd(steps=5, lr=0.1)'
    """The one text of equal specs, for a slot that calls what it names

    ValueError in one sentence for what is no spec
    """
    made = spec.make(value, outside, now=False) if isinstance(value, str) else value
    return spec.text(made, now=False)


def split_specs(
    text: str,  # 'fgsm, pgd(steps=20)'
) -> list:  # of texts
    "The specs of a text that stand between commas. ValueError where it is none"
    if not text.strip():
        return []
    try:
        return [render(node) for node in parse(f"[{text}]")]
    except ValueError:
        parse(text)  # says it without the brackets that we have put around it
        raise


def _call(text):
    "The call of a spec, also where it is a name alone. ValueError where it is a literal"
    node = parse(text)
    if isinstance(node, Named):
        return Call(node, (), {})
    if isinstance(node, Call):
        return node
    raise ValueError(f"{text!r} calls nothing; write a name, or a call such as pgd(steps=20).")


def name_of(
    text: str,  # 'mine.py:squeezed(beta=2)'
) -> str:  # 'squeezed'
    "What a spec names, without where it lies"
    return _call(text).what.name.rpartition(":")[2]


def argument(
    text: str,  # 'pgd(steps=20)'
    key: str,  # 'steps'
):  # its value as it stands there; None where it is not given by name
    "An argument of a spec"
    return _call(text).keywords.get(key)


def with_slots(
    text: str,  # 'SmallCNN(width=16)'
    outside: bool = False,  # as in `normal`
    **slots,  # keyword -> spec, as a text or an object; None takes the keyword away
) -> str:
    "The same call with other keyword arguments, checked. ValueError where one does not fit"
    call = _call(text)
    written = {
        k: v if isinstance(v, str) else spec.text(v) for k, v in slots.items() if v is not None
    }
    keywords = {k: v for k, v in call.keywords.items() if k not in slots}
    keywords |= {k: parse(v) for k, v in written.items()}
    return normal(render(Call(call.what, call.args, keywords)), outside)
