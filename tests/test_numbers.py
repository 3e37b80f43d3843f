"""No number in notebooks, README and docs without a source: the checker finds planted ones, lets
explained ones pass, and finds none in the house
"""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("check_numbers", ROOT / "tools/check_numbers.py")
numbers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(numbers)


def test_every_number_has_a_source():
    bad, idle = numbers.excused(list(numbers.offenders()), numbers.allowed())
    assert not bad, "\n".join(
        f"{f.file}, cell {f.cell}: {f.number} in {f.sentence[:160]!r}" for f in bad
    )
    assert not idle, (
        "tools/check_numbers.toml excuses what is not there:"
        f" {[(e['file'], e['number'], e['text']) for e in idle]}"
    )
    assert len(numbers.allowed()) <= 12  # exceptions, not a second way


def found(text, pool=()):
    return [f.number for f in numbers.offenders_in("x", 0, text, numbers.literals(" ".join(pool)))]


@pytest.mark.parametrize(
    "text,n",
    [
        ("SPAT reaches 78.3% under AutoAttack.", ["78.3"]),
        ("It gains 2.6 points.", ["2.6"]),
        ("The mean is 77.9 ± 1.4 here.", ["77.9", "1.4"]),
        ("Robust accuracy is 0.78 and clean .983.", ["0.78", ".983"]),
        ("It costs 12 percent more.", ["12"]),
        (r"A share of $97.2\%$ stands.", ["97.2"]),
        ("| PGD-AT | 98.1% | 77% |", ["98.1", "77"]),
        ("- a list: 41% of them\n- and 42% of those", ["41", "42"]),
        ("Clean accuracy falls by −3.5 points.", ["−3.5"]),
        ("In the end **81%** are *answered right*.", ["81"]),
    ],
)
def test_planted_numbers_are_found(text, n):
    assert found(text) == n


@pytest.mark.parametrize(
    "text",
    [
        "Intervals hold with 95%.",
        "Student's 95% interval of accuracy.",
        "Madry et al. (2018) have 45.8% under PGD.",
        "The paper says 53.4% robust accuracy.",
        "Rice et al. report 85.34% clean.",
        "PGD with eps 0.15 and rate .01 on clean images.",
        "Code is `acc == 0.78` here.",
        r"With $\epsilon=0.15$ robust.",
        "Chance is 10%.",
        'Somebody says: "our accuracy is 52%".',
        "Say that 62% are clean.",
        "```\naccuracy 99.9%\n```",
        "Version 0.1.0 is clean.",
        "All 360 images, 5 seeds, 20 steps.",
        "[clean](x.html?a=41%) errors.",
    ],
)
def test_settings_and_citations_pass(text):
    assert found(text) == []


def test_what_a_cell_printed_is_a_source():
    assert found("It is 78.3% clean.", ["pgd20 0.7833"]) == [] and found(
        "It is 78.4% clean.", ["pgd20 0.7833"]
    ) == ["78.4"]
    assert (
        found("It is 78% clean.", ["0.7833"]) == []
        and found("It is 78% clean.", ["78 images"]) == ["78"]
        and found("It is 78% clean.", ["78%"]) == []
    )
    assert (
        found("A gain of 2.6 points.", ["+2.61 [1.0, 4.2]"]) == []
        and found("A gain of 2.6 points.", ["+0.0261"]) == []
        and found("A gain of 2.6 points.", ["2.7"]) == ["2.6"]
    )
    assert found("Accuracy .98.", ["98.3%"]) == [] and found("77.9 ± 1.4", ["77.9 ± 1.4"]) == []


def book(tmp_path, *cells):
    "A notebook of Markdown texts and (source, output) pairs"

    def make(c):
        return (
            dict(cell_type="markdown", source=c)
            if isinstance(c, str)
            else dict(
                cell_type="code", source=c[0], outputs=[dict(output_type="stream", text=c[1])]
            )
        )

    p = tmp_path / "nb.ipynb"
    p.write_text(json.dumps(dict(cells=[make(c) for c in cells])))
    return p


def test_the_source_must_be_near(tmp_path):
    far = [("x", "")] * 9

    def go(*cells):
        return [f.number for f in numbers.notebook(book(tmp_path, *cells))]

    assert (
        go(("x", "78.3%"), "It is 78.3% clean.") == []
        and go("It is 78.3% clean.", ("x", "78.3%")) == []
        and go(("assert acc > .783", ""), "It is 78.3% clean.") == []
    )
    assert go(("x", "78.3%"), *far, "It is 78.3% clean.") == ["78.3"]
    caption = '#| fig-cap: "Robust accuracy 61.7% of all."\n'
    assert (
        go((caption, "")) == ["61.7"]
        and go((caption + "plot(.617)", "")) == []
        and go((caption, "0.617")) == []
    )


def test_a_results_file_is_a_source(tmp_path):
    f = tmp_path / "results" / "one" / "laptop" / "A-s0.json"
    f.parent.mkdir(parents=True)
    f.write_text(json.dumps(dict(attacks=dict(aa=dict(n=180, correct=141)))))

    def go(text):
        return [o.number for o in numbers.offenders_in("README.md", None, text, [], tmp_path)]

    assert (
        go("It has 78.3% (results/one/laptop/A-s0.json).") == []
        and go("It has 78.3% (results/one).") == []
        and go("It has 78.4% (results/one).") == ["78.4"]
    )
    assert go("It has 78.3%.\n\nSee results/one.") == ["78.3"] and go(
        "It has 78.3% (results/two)."
    ) == ["78.3"]


def test_exceptions_name_a_reason_and_fit():
    o = numbers.Found("a.ipynb", 3, "percent", "41", "About 41% of them.")
    e = dict(file="a.ipynb", number="41", text="41% of", reason="counted by hand on paper")
    assert (
        numbers.excused([o], [e]) == ([], [])
        and numbers.excused([], [e]) == ([], [e])
        and numbers.excused([o], [dict(e, number="42")])[0] == [o]
    )
    for bad in (dict(e, reason=""), dict(e, text=""), {k: v for k, v in e.items() if k != "file"}):
        with pytest.raises(ValueError, match="needs file, number, text and a reason"):
            numbers.excused([o], [bad])


def test_command(tmp_path, capsys):
    p = tmp_path / "x.md"
    p.write_text("Robust accuracy is 66.6%.")
    assert numbers.main([str(p)]) and "66.6" in capsys.readouterr().out
    p.write_text("Nothing.")
    assert not numbers.main([str(p)])
