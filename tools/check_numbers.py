"""Numbers in prose that nothing stands behind: `python tools/check_numbers.py [FILE ...]`

Looks through the Markdown cells and captions of all notebooks, README, CONTRIBUTING, CHANGELOG and
docs/ for numbers that look measured: percentages, points, ±, and shares beside words such as
accuracy or robust. Each must (a) be printed, up to rounding, by a code cell near by in the same
notebook, or stand in its source; (b) be in a results file that is named in the same paragraph; or
(c) say in its sentence where it comes from (a name with a year, "reported by", "the paper", ...) or
that it is a setting (a radius, a level of confidence, an assumption). What is left is an offender,
unless tools/check_numbers.toml names it with a reason. Exits with 1 where there are offenders, or
entries that excuse nothing.
"""

import json
import re
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALLOW = ROOT / "tools/check_numbers.toml"
# code cells in front of a Markdown cell and behind it that may bear it out; for a caption: its own
# and those in front
BEFORE, AFTER, CAPTION = 3, 2, 2

N = r"(?<![\w.,/^\-])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+\.\d+|\d+|\.\d+)(?!\.?\d)"
SUBJECT = r"accura|robust|PGD|AutoAttack|FGSM|APGD|\bclean\b|\berrors?\b|answered|right\b|correct|stand\b|fooled|flip|saturat"  # noqa: E501
PATTERNS = (
    ("percent", rf"{N}(?=\s?\\?%)"),
    ("percent", rf"{N}(?=\s(?:percent\b|per cent\b))"),
    ("points", rf"{N}(?=\s(?:percentage\s)?points?\b)"),
    ("plain", rf"{N}(?=\s?±)"),
    ("plain", r"(?<=±)\s?" + N.replace(r"(?<![\w.,/^\-])", "")),
)
SHARE = rf"{N}"
FROM = (
    r"et al\.",
    r"\b[A-Z][\w&\- ]+,? \(?(?:19|20)\d\d\b",
    r"\brecalled\b",
    r"\bmemory\b",
    r"\breport(?:ed|s)?\b",
    r"\bthe paper\b|\bpaper's\b|\bpapers?\b|\bpublished\b|\bpublic table\b|\babstract\b",
    r"\bofficial\b",
    r"\bleaderboard of RobustBench\b|\bRobustBench\b",
    r"arXiv|`[\w.-]+/[\w.-]+`",
)
SETTING = (
    r"\bsuppose\b|\bsay that\b|\bimagine\b|\bassum",
    r"\bif\b.*\bwould\b",
    (
        r"\bthreshold|\brefuses?\b|\binvented\b|\bmade"
        r" up\b|\btolerance\b|\blimit\b|\brule\b|\bjudge (?:wants|asks)\b|\bflag(?:s|ged)?"
        r" (?:a|when|where|if)\b"
    ),
)
LEVEL = re.compile(
    r"(interval|confiden|level|band|Student|Wilson|Bonferroni|percentile|quantile|median|hold)",
    re.I,
)
NAMED = re.compile(
    r"(?:\b(?:eps(?:ilon)?|radius|rate|beta|gamma|tau|temperature|momentum|level|factor|width|weight|decay|lr|scale|margin|pixel|deviation|probability|smoothing|seed|digits?|images?|chance)\b(?:\s(?:of|is|at|=|to|from|by))?|[=≈<>≤≥~])\s*\W?$",  # noqa: E501
    re.I,
)

# what an exercise asks for is no result: its text, up to the next heading
EXERCISE = re.compile(r"^\*Difficulty \d of 5.*?(?=^#{2,3} |\Z)", re.M | re.S)

Found = namedtuple("Found", "file cell kind number sentence")


def plain(text):
    "Prose without code, formulas (but for bare numbers), links' targets and HTML"
    text = re.sub(r"```.*?```", " ", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S)
    text = re.sub(
        r"\$([^$\n]+)\$",
        lambda m: m[1].replace("\\", "") if re.fullmatch(r"[-+\d.,\\%± ]+", m[1]) else " F ",
        text,
    )
    text = re.sub(
        r"`([^`\n]+)`", lambda m: m[0] if re.fullmatch(r"[\w.-]+/[\w./+=-]+", m[1]) else " C ", text
    )
    return re.sub(r"\]\([^)\s]*\)", "]", re.sub(r"<[^>\n]+>", " ", text)).replace("*", "")


def sentences(text):
    "Sentences of prose, and rows of tables, each with its paragraph"
    for block in re.split(r"\n\s*\n", text):
        if block.lstrip().startswith("|"):
            yield from ((row, block) for row in block.splitlines() if row.strip(" |:-"))
        else:
            flat = " ".join(block.split())
            yield from (
                (s, flat) for s in re.split(r'(?<!al\.)(?<=[.!?:;])\s+(?=[A-Z"“*(\[])', flat) if s
            )


def value(number):
    return float(number.strip().replace(",", "").replace("−", "-").lstrip("+"))


def places(number):
    return len(number.strip().partition(".")[2])


def measured(sentence):
    "(kind, number as written, where it begins) of what looks measured"
    taken = {}
    for kind, pattern in PATTERNS:
        for m in re.finditer(pattern, sentence):
            taken.setdefault(m.end(), (kind, m[0], m.start()))
    if re.search(SUBJECT, sentence):
        for m in re.finditer(SHARE, sentence):
            if (
                m.end() not in taken
                and "." in m[0]
                and abs(value(m[0])) < 1
                and not re.match(
                    r"\s?(?:[/x×*^]|to the|pixels?\b|s\b|seconds?\b|of (?:the|a) step)",
                    sentence[m.end() :],
                )
            ):
                taken[m.end()] = ("share", m[0], m.start())
    return sorted(taken.values(), key=lambda t: t[2])


def explained(sentence, paragraph, kind, number, start):
    """Does the sentence (of a table: its paragraph) say where the number comes from, or that it is
    a setting?
    """
    before, after, told = (
        sentence[:start],
        sentence[start + len(number) :],
        paragraph if paragraph.lstrip().startswith("|") else sentence,
    )
    if any(re.search(p, told) for p in FROM) or any(re.search(p, sentence, re.I) for p in SETTING):
        return True
    if (
        kind == "percent"
        and value(number) in (80, 90, 95, 99, 2.5, 5, 97.5)
        and LEVEL.search(sentence)
    ):
        return True
    # none, all, half
    if (
        kind == "percent"
        and value(number) in (0, 100, 50)
        or kind == "share"
        and value(number) in (0, 0.5)
    ):
        return True
    # what somebody might say, in quotation marks
    if any(m.start() < start < m.end() for m in re.finditer(r'["“][^"”]*["”]', sentence)):
        return True
    if "chance" in sentence.lower() and value(number) in (10, 1, 0.1, 0.01):
        return True
    return (
        kind in ("share", "plain")
        and bool(NAMED.search(before))
        or bool(re.match(r"\s?\\?%\s(?:confidence|level|interval)", after))
    )


def near(number, kind, pool):
    """Is it one of these numbers, rounded as it is written? A whole number that was printed without
    % is a count: no percentage and no points
    """
    v, slack = abs(value(number)), 0.5 * 10 ** -places(number) * (1 + 1e-9) + 1e-12
    scales = (1,) if kind == "plain" else (1, 100) if kind != "share" else (1, 0.01)
    return any(
        abs(u * s - v) <= slack
        for u, count in pool
        if not (count and kind in ("percent", "points"))
        for s in scales
    )


LITERAL = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)(\s?%)?")


def literals(text):
    return [
        (float(t.replace(",", "")), t.isdigit() and not percent)
        for t, percent in LITERAL.findall(text)
    ]


def shown(cell):
    "All numbers that a code cell printed"
    out = []
    for o in cell.get("outputs", ()):
        texts = (
            [o.get("text", "")]
            if "text" in o
            else [
                v
                for k, v in o.get("data", {}).items()
                if k in ("text/plain", "text/markdown", "text/html")
            ]
        )
        for t in texts:
            out += literals(
                re.sub(r"<style.*?</style>|<script.*?</script>", "", "".join(t), flags=re.S)
            )
    return out


def numbers_of(tree):
    "All numbers of a JSON file; where it has counts, their shares too"
    if isinstance(tree, dict):
        if isinstance(tree.get("n"), int) and isinstance(tree.get("correct"), int) and tree["n"]:
            yield tree["correct"] / tree["n"], False
        tree = list(tree.values())
    if isinstance(tree, list):
        for v in tree:
            yield from numbers_of(v)
    elif isinstance(tree, (int, float)) and not isinstance(tree, bool):
        yield abs(float(tree)), isinstance(tree, int)


def named(paragraph, root=ROOT):
    "Numbers of the results files that a paragraph names; a folder stands for all its files"
    out = []
    for p in re.findall(r"(?:results|spat_nb/weights)/[\w./+=-]*[\w/]", paragraph):
        at = root / p
        for f in (
            sorted(at.glob("**/*.json"))
            if at.is_dir()
            else [at]
            if at.suffix == ".json" and at.is_file()
            else []
        ):
            out += numbers_of(json.loads(f.read_text(encoding="utf-8")))
    return out


def offenders_in(file, cell, text, pool, root=ROOT):
    for s, paragraph in sentences(plain(text)):
        for kind, number, start in measured(s):
            if (
                explained(s, paragraph, kind, number, start)
                or near(number, kind, pool)
                or near(number, kind, named(paragraph, root))
            ):
                continue
            yield Found(file, cell, kind, number.strip(), s.strip())


def captions(source):
    return "\n\n".join(
        m for m in re.findall(r'^#\|\s*fig-(?:cap|alt):\s*"?(.*?)"?\s*$', source, re.M)
    )


def notebook(path, root=ROOT):
    """Offenders of a notebook: Markdown cells against the code cells near by, captions against
    their own cell and those in front
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [i for i, c in enumerate(cells) if c["cell_type"] == "code"]
    bear = {
        i: (
            shown(cells[i])
            + literals(re.sub(r"^#\|.*$", "", "".join(cells[i]["source"]), flags=re.M))
        )
        for i in code
    }
    for i, c in enumerate(cells):
        source = "".join(c["source"])
        text = EXERCISE.sub("", source) if c["cell_type"] == "markdown" else captions(source)
        if not text:
            continue
        own = c["cell_type"] == "code"
        close = [k for k in code if k <= i][-(CAPTION if own else BEFORE) :] + [
            k for k in code if k > i
        ][: 0 if own else AFTER]
        yield from offenders_in(path.name, i, text, [v for k in close for v in bear[k]], root)


def offenders(paths=None, root=ROOT):
    "Of the given files, or of all"
    paths = paths or [
        *sorted((root / "nbs").glob("*.ipynb")),
        *(
            root / n
            for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
            if (root / n).is_file()
        ),
        *sorted((root / "docs").rglob("*.md")),
    ]
    for p in map(Path, paths):
        yield from (
            notebook(p, root)
            if p.suffix == ".ipynb"
            else offenders_in(p.name, None, p.read_text(encoding="utf-8"), [], root)
        )


def excused(found, entries):
    "(what no entry excuses, entries that excuse nothing). ValueError for an entry without a reason"
    if bad := [
        e
        for e in entries
        if len(e.get("reason", "")) < 15 or not all(e.get(k) for k in ("file", "number", "text"))
    ]:
        raise ValueError(f"{ALLOW.name}: {bad[0]} needs file, number, text and a reason.")

    def fits(e, f):
        return e["file"] == f.file and e["number"] == f.number and e["text"] in f.sentence

    return [f for f in found if not any(fits(e, f) for e in entries)], [
        e for e in entries if not any(fits(e, f) for f in found)
    ]


def allowed(path=ALLOW):
    return (
        tomllib.loads(path.read_text(encoding="utf-8")).get("allow", []) if path.is_file() else []
    )


def main(paths):
    found, idle = excused(list(offenders(paths)), allowed())
    for f in found:
        print(
            f"{f.file}{'' if f.cell is None else f', cell {f.cell}'}: {f.number} ({f.kind}) in:"
            f" {f.sentence[:200]}"
        )
    if not paths:
        for e in idle:
            print(
                f"{ALLOW.name} excuses nothing with {e['file']}: {e['number']} in {e['text']!r};"
                " take the entry out"
            )
    print(f"{len(found)} numbers without a source")
    return bool(found or idle and not paths)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
