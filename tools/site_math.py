"""Formulas of the site as MathML, written when the site is built: browsers draw it by themselves,
so that no page loads a script of 1.3 MB. Quarto does the same (`html-math-method: mathml`).
"""

import re

from docutils import nodes

# what latex2mathml writes otherwise than TeX does
REWRITE = (
    (re.compile(r"\\arg(?![a-z])"), r"\\mathrm{arg}\\,"),
    (re.compile(r"\\operatorname\*?"), r"\\mathrm"),
    (re.compile(r"\\[bB]ig+[lrm]?\s*(\\[{}|])"), r"\1"),
)
LETTER = re.compile(r'<mi mathvariant="normal">(.)</mi>')
UPRIGHT = re.compile(rf"(?:{LETTER.pattern}){{2,}}")


def mathml(
    tex,  # as TeX reads it between its dollars
    display="inline",  # or "block"
):
    "MathML of a formula; ValueError where a command is not known"
    from latex2mathml.converter import convert

    said = tex
    for pattern, to in REWRITE:
        said = pattern.sub(to, said)
    found = convert(said, display=display)
    # a word is one name, not so many letters
    found = UPRIGHT.sub(lambda m: "<mi>" + LETTER.sub(r"\1", m[0]) + "</mi>", found)
    found = found.replace("<mi>&#x02032;</mi>", '<mi class="prime">&#x02032;</mi>')
    unknown = re.findall(r">[^<]*?(\\[a-zA-Z]+)", found)
    if unknown:
        raise ValueError(f"MathML has no {', '.join(unknown)}, in the formula {tex!r}")
    return found


def visit_inline(translator, node):
    translator.body.append(f'<span class="math">{mathml(node.astext())}</span>')
    raise nodes.SkipNode


def visit_block(translator, node):
    # a wide formula scrolls in itself, also by the keyboard
    translator.body.append(
        '<div class="math" tabindex="0" role="group" aria-label="formula">'
        f"{mathml(node.astext(), 'block')}</div>\n"
    )
    raise nodes.SkipNode


def setup(app):
    "A renderer for Sphinx"
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True}
