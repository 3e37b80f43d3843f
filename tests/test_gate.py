"""The gate: how often it catches a fall and how often it is wrong, by exact sums and by draws; what
it refuses to compare; what it leaves for a build server
"""

import json
import math
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import norm, t

from spat_nb.app.cli import build_parser, main
from spat_nb.app.gate_files import lines, summary_of, write_junit
from spat_nb.measure.against import against_baseline
from spat_nb.measure.card import Card
from spat_nb.measure.checks import Check
from spat_nb.measure.record import Record
from spat_nb.measure.regression import chance_to_catch, compared, images_needed, lower_limit
from spat_nb.measure.report import Report
from spat_nb.measure.report_file import KEYS
from spat_nb.measure.versus import paired

TOP = Path(__file__).parents[1]
NET = "digits/pgd_at/w16"
STATED = 1500  # images with which a fall of 5 points is caught, where 2% change by luck
DRAWS = 20_000
LUCK = 0.02


def run(line, *more):
    return main([*shlex.split(line), *map(str, more)])


# ---- the test


def test_the_limit_by_hand():
    wide = t.ppf(0.95, 99) * math.sqrt(10 + 2 + 1 - 8 * 8 / 102)
    assert lower_limit(10, 2, 100) == pytest.approx((8 - wide) / 102)
    assert lower_limit(0, 0, 50) < 0 < lower_limit(50, 0, 50) < 1


def test_many_images_give_the_interval_of_paired():
    before = torch.arange(20_000) % 5 != 0
    after = torch.arange(20_000) % 4 != 0
    _, low, _ = paired(before, after, 0.9)  # both ends at 90% are one end at 95%
    found = compared(before, after)
    assert found.low == pytest.approx(low, abs=1e-6)
    assert found.drop == pytest.approx(0.05) and found.before == 0.8 and found.after == 0.75


def test_the_level_holds_for_every_count():
    "Where the true fall is the allowed one, a sum over all counts"
    for n in (20, 100, 200, 1000, 5000):
        for allowed in (0.0, 0.01, 0.02, 0.05):
            for luck in (0.0, 0.005, 0.02, 0.1, 0.3):
                wrong = chance_to_catch(n, allowed, allowed, luck)
                assert wrong <= (0.0505 if n >= 100 else 0.052), (n, allowed, luck, wrong)


def drawn(fall, n=STATED, luck=LUCK):
    "Share of draws in which the gate fails, by multinomial draws of all images"
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, [fall + luck, luck, 1 - fall - 2 * luck], size=DRAWS)
    return float((lower_limit(counts[:, 0], counts[:, 1], n) > 0.02).mean())


def test_five_points_are_caught_and_chance_is_not():
    "At the stated number of images; the margin of a share of 5% in 20,000 draws is 0.6%"
    assert drawn(0.05) >= 0.95
    assert drawn(0.0) <= 0.001
    assert drawn(0.02) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / DRAWS)
    # the stated number is no knife's edge
    assert chance_to_catch(STATED, 0.05, 0.02, LUCK) > 0.98


@pytest.mark.parametrize("n,fall,luck", [(200, 0.05, 0.02), (700, 0.04, 0.05), (60, 0.1, 0.0)])
def test_the_sum_is_what_draws_show(n, fall, luck):
    exact, shown = chance_to_catch(n, fall, 0.02, luck), drawn(fall, n, luck)
    assert abs(exact - shown) < 5 * math.sqrt(exact * (1 - exact) / DRAWS)


def test_images_needed():
    for luck in (0.0, 0.02, 0.1):
        n = images_needed(0.05, 0.02, luck)
        assert chance_to_catch(n, 0.05, 0.02, luck) >= 0.95
        assert chance_to_catch(int(0.8 * n), 0.05, 0.02, luck) < 0.95
    # many images: by the normal distribution, to two digits
    spread = math.sqrt(0.021 + 0.2)
    rough = (2 * norm.ppf(0.95) * spread / 0.001) ** 2
    assert images_needed(0.021, 0.02, 0.1) == pytest.approx(rough, rel=0.05)
    with pytest.raises(ValueError, match="is allowed"):
        images_needed(0.02, 0.02)


@pytest.mark.parametrize(
    "call,said",
    [
        (lambda: lower_limit(0, 0, 1), "n is 1"),
        (lambda: lower_limit(0, 0, 9, level=1), "level is 1"),
        (lambda: compared([True], [True, False]), "shapes"),
        (lambda: chance_to_catch(50, 0.9, 0.02, 0.2), "more than all images"),
    ],
)
def test_what_it_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# ---- two reports


def told(right, ball="Linf(0.1)", images="a" * 40, card=None, notes=(), **more):
    "A report of a network that stands on these images; classes in turn"
    n = len(right)
    y = torch.arange(n) % 2
    right = torch.as_tensor(right)
    info = {"notes": list(notes), "seconds": {}, "attacks": {"pgd20": "pgd"}}
    info["identity"] = {"model": "m", "images": images, "attacks": {"pgd20": {"it": "pgd"}}}
    record = Record(y, {"clean": y, "pgd20": torch.where(right, y, 1 - y)}, ("a", "b"), info)
    fields = {"network": "net", "data": "data", "device": "cpu", "threads": 1}
    fields["attacks"] = {"pgd20": "pgd(steps=20)"}
    return Report(record, ball, card=card, **{**fields, **more})


def share(n, lost):
    "Images that stand: all but the first `lost`"
    return torch.arange(n) >= lost


def card(verdict):
    found = Check("G9 stronger", 0.0, 0.0, 0.0, 3, verdict, "asks", "means", "then", "")
    return Card((found,), {"PGD-20": 0.5, "everything": 0.5}, [], 10, "PGD-20", {"ball": "b"})


def test_a_fall_is_told_from_chance():
    base = told(share(2000, 200))
    assert against_baseline(base, base).passed
    assert against_baseline(told(share(2000, 220)), base).passed  # one point
    fallen = against_baseline(told(share(2000, 300)), base)  # five
    assert not fallen.passed and fallen.has_fallen and fallen.fallen_rows == ["pgd20"]
    assert against_baseline(told(share(2000, 300)), base, 0.05).passed
    risen = against_baseline(told(share(2000, 100)), base)
    assert risen.passed and risen.fall.drop == -0.05
    # the decision is that of the least plausible fall
    assert fallen.fall.low > 0.02 > against_baseline(told(share(2000, 250)), base).fall.low


def test_few_images_are_said_to_be_few():
    base = told(share(200, 20))
    said = against_baseline(base, base).too_few()
    caught, need = re.search(r"caught in (\d+)% of cases; take ([\d,]+)", said).groups()
    assert "n = 200 images a fall of 5 points" in said and 30 < int(caught) < 60
    need = int(need.replace(",", ""))
    assert chance_to_catch(need, 0.05, 0.02, 1 / 202) >= 0.95
    assert f"Note: {said}." in lines(against_baseline(base, base))
    many = told(share(20_000, 100))
    assert against_baseline(many, many).too_few() == ""
    # nobody asks for a fall of five points where two are left
    none = told(share(200, 197))
    assert against_baseline(none, none).too_few() == ""


def test_any_allowed_fall_can_be_judged():
    "Also where falls and luck together are nearly all images"
    turned = (torch.arange(200) % 3) > 0
    for drop in (0.0, 0.3, 0.5, 0.9, 0.96, 0.99):
        for base, now in ((share(200, 0), turned), (turned, share(200, 0)), (turned, ~turned)):
            assert lines(against_baseline(told(now), told(base), drop))


def test_a_class_that_falls_alone_is_named():
    y = torch.arange(4000) % 2
    before = torch.ones(4000, dtype=torch.bool)
    after = before.clone()
    after[(y == 1).nonzero()[:60, 0]] = False  # 3% of the class, 1.5% of all
    found = against_baseline(told(after), told(before), 0.015)
    assert found.passed and found.fallen_classes == ["b"]
    assert any("class b has fallen" in text for text in found.remarks())


@pytest.mark.parametrize(
    "more,said",
    [
        ({"images": "b" * 40}, "^data: .*not the images"),
        ({"ball": "L2(0.5)"}, r"^ball: it is L2\(0.5\), the baseline was judged in Linf\(0.1\)"),
        ({"attacks": {"fgsm": "fgsm"}}, r"^attacks: they are fgsm, .* by pgd\(steps=20\)"),
    ],
)
def test_others_are_not_compared(more, said):
    base = told(share(100, 10))
    with pytest.raises(ValueError, match=said):
        against_baseline(told(share(100, 10), **more), base)
    with pytest.raises(ValueError, match="^data: "):
        against_baseline(told(share(90, 10)), base)
    with pytest.raises(ValueError, match="drop is 2"):
        against_baseline(base, base, 2)


def test_an_attack_whose_code_has_changed_is_another():
    base, now = told(share(100, 10)), told(share(100, 10))
    now.record.info["identity"]["attacks"]["pgd20"]["it"] = "another"
    with pytest.raises(ValueError, match="pgd20 was another attack"):
        against_baseline(now, base)


def test_new_flags_fail_and_old_ones_do_not():
    right = share(2000, 200)
    clean, flagged = told(right, card=card("pass")), told(right, card=card("flag"))
    assert flagged.flags == ["G9"]
    assert (
        against_baseline(flagged, clean).new_flags == ["G9"]
        and not against_baseline(flagged, clean).passed
    )
    assert against_baseline(flagged, flagged).passed and against_baseline(clean, flagged).passed
    # a baseline that was not asked knows nothing of gates
    found = against_baseline(flagged, told(right))
    assert found.passed and any("flagged by G9" in text for text in found.remarks())
    found = against_baseline(told(right), clean)
    assert found.passed and any("--trust asks them" in text for text in found.remarks())
    masked = told(right, notes=["masked: Square found more."])
    assert against_baseline(masked, told(right)).new_flags == ["masked"]


def cases_of(path):
    suite = ElementTree.parse(path).getroot()
    cases = {c.get("name"): c for c in suite.findall("testcase")}
    failed = {k for k, c in cases.items() if c.find("failure") is not None}
    assert int(suite.get("tests")) == len(cases) and int(suite.get("failures")) == len(failed)
    return cases, failed


@pytest.mark.parametrize("lost,verdict", [(200, "pass"), (400, "pass"), (200, "flag")])
def test_a_test_case_fails_where_the_gate_does(lost, verdict, tmp_path):
    base = told(share(2000, 200), card=card("pass"))
    found = against_baseline(told(share(2000, lost), card=card(verdict)), base)
    write_junit(found, tmp_path / "gate.xml")
    cases, failed = cases_of(tmp_path / "gate.xml")
    names = {"robust accuracy (pgd20)", "accuracy (clean)", "weakest class", "trust flags"}
    assert {*cases} == names and bool(failed) != found.passed
    assert ("trust flags" in failed) == (verdict == "flag")
    assert ("robust accuracy (pgd20)" in failed) == (lost == 400)
    assert "passed" in summary_of(found) or not found.passed


# ---- from the command line


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    "A report on forty digits"
    folder = tmp_path_factory.mktemp("gate") / "base"
    assert run("evaluate --n-test 40 --report", folder, NET) == 0
    return folder / "report.json"


def test_the_same_network_passes(baseline, tmp_path, capsys, monkeypatch):
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    xml = tmp_path / "gate.xml"
    assert run("gate", NET, "--against", baseline, "--junit", xml) == 0
    said = capsys.readouterr().out
    assert "data     digits, test: 40 images" in said and "ball     Linf(0.15)" in said
    assert "gate: passed" in said and "n = 40 images" in said
    assert not cases_of(xml)[1]
    assert re.match(r"before\n### Robustness gate: passed\n", page.read_text())
    assert "| worst | 40 |" in page.read_text()


def test_the_folder_of_a_report_is_its_report(baseline):
    assert Report.load(baseline.parent).made == Report.load(baseline).made


def test_the_baseline_is_not_written_over(baseline, capsys):
    before = baseline.read_bytes()
    for flag, path in (("--out", baseline), ("--report", baseline.parent)):
        for against in (baseline, baseline.parent):
            assert run("gate", NET, "--against", against, flag, path) == 2
            assert f"{flag}: it would write over the baseline" in capsys.readouterr().err
    assert baseline.read_bytes() == before


def test_a_baseline_in_random_order_is_refused(tmp_path, capsys):
    base = tmp_path / "stopped.json"
    assert run("evaluate --n-test 30 --attacks fgsm --within .5 --out", base, NET) == 0
    assert run("gate", NET, "--against", base) == 2
    assert "--against: the baseline was judged in random order" in capsys.readouterr().err


def test_a_standard_network_has_fallen(baseline, tmp_path, capsys):
    xml = tmp_path / "gate.xml"
    assert run("gate digits/standard/w16 --against", baseline, "--junit", xml) == 1
    assert "gate: fallen" in capsys.readouterr().out
    assert {"robust accuracy (worst)", "accuracy (pgd20)"} <= cases_of(xml)[1]
    # nobody is alarmed where everything is allowed
    assert run("gate digits/standard/w16 --drop 99 --against", baseline) == 0


@pytest.mark.parametrize(
    "typed,said",
    [
        ("--n-test 30", "--data: these are not the images"),
        ("--eps .1", "--ball: it is Linf(0.1)"),
        ("--ball L2(.5)", "--ball: it is L2(0.5)"),
        ("--attacks fgsm", "--attacks: they are fgsm"),
        ("--device nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_judged_is_neither(typed, said, baseline, tmp_path, capsys, monkeypatch):
    page, xml = tmp_path / "summary.md", tmp_path / "gate.xml"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert run(f"gate {NET} {typed} --against", baseline, "--junit", xml) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert "not judged" in page.read_text()
    suite = ElementTree.parse(xml).getroot()
    assert suite.get("errors") == "1" and suite.find("testcase/error") is not None


@pytest.mark.parametrize("typed", ["", "--against none.json", "--drop 100 --against a.json"])
def test_a_mistyped_gate_is_not_judged(typed, capsys):
    try:
        status = run(f"gate {NET} {typed}")
    except SystemExit as e:
        status = e.code
    assert status == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("what", ["ball", "attacks", "data"])
def test_what_a_baseline_says_imports_nothing(what, baseline, tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text("open('ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    values = json.loads(baseline.read_text())
    if what == "data":
        values["made"]["asked"]["data"] = "mine.py:data"
    if what == "ball":
        values["ball"] = "mine.py:ball"
    if what == "attacks":
        values["attacks"]["pgd20"] = "mine.py:attack"
    (tmp_path / "bad.json").write_text(json.dumps(values))
    assert run("gate", NET, "--against", tmp_path / "bad.json") == 2
    assert "mine.py" in capsys.readouterr().err and not (tmp_path / "ran").exists()


# ---- the workflow in the docs


def test_the_workflow_says_what_the_command_understands():
    text = (TOP / "docs/gate_workflow.yml").read_text()
    steps = yaml.safe_load(text)["jobs"]["gate"]["steps"]
    typed = [s["run"] for s in steps if s.get("run", "").startswith("spat_nb ")]
    made = re.findall(r"^#\s+(spat_nb evaluate .*)$", text, re.M)
    assert len(typed) == len(made) == 1
    for line in [*typed, *made]:
        words = shlex.split(line)[1:]
        assert build_parser([words[0]]).parse_args(words).command == words[0]
    folder = build_parser(["gate"]).parse_args(shlex.split(typed[0])[1:])
    assert folder.against == "robustness/report.json"  # what the first line writes
    n, luck = 1200, 0.025  # what its comment states
    assert "1,200 images a fall of 5 points is caught in 95 of 100" in " ".join(
        text.replace("\n# ", " ").split()
    )
    assert chance_to_catch(n, 0.05, 0.02, luck) >= 0.95


def test_the_page_says_what_is_so():
    "Keys, numbers and workflow of the page stand as they are in the code"
    page = (TOP / "nbs/report_gate.md").read_text(encoding="utf-8")
    for key, holds in KEYS.items():
        assert f"| `{key}` | {holds} |" in page
    rows = re.findall(r"^\| ([\d.]+)% \| ([\d,]+) \| (\d+)% \|$", page, re.M)
    assert len(rows) == 5
    for luck, need, caught in rows:
        luck = float(luck) / 100
        assert f"{images_needed(0.05, 0.02, luck):,}" == need
        assert abs(100 * chance_to_catch(200, 0.05, 0.02, luck) - int(caught)) < 0.6
    assert (TOP / "docs/gate_workflow.yml").read_text().rstrip() in page


def test_a_hundred_draws_of_whole_judgements():
    "A planted fall of five points at the stated number of images, and none, through the gate"
    rng = np.random.default_rng(0)
    caught, alarms = 0, 0
    for _ in range(100):
        kinds = rng.random(STATED)
        before = kinds < 0.6
        lost, won = (kinds < LUCK + 0.05), (kinds > 1 - LUCK)
        base = told(before)
        caught += not against_baseline(told((before & ~lost) | won), base).passed
        alarms += not against_baseline(told((before & (kinds >= LUCK)) | won), base).passed
    assert caught >= 95 and alarms <= 5


def test_a_crash_is_no_fall(baseline, capsys, monkeypatch):
    def crash(*args, **kw):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("spat_nb.measure.judge.judge", crash)
    assert run("gate", NET, "--against", baseline) == 2
    assert "spat_nb gate: RuntimeError: out of memory" in capsys.readouterr().err


def test_a_folder_that_is_not_here_is_named(baseline, tmp_path, capsys):
    "A baseline keeps the data as it was typed: from another folder it has to be typed again"
    values = json.loads(baseline.read_text(encoding="utf-8"))
    values["made"]["asked"]["data"] = "photos"
    moved = tmp_path / "moved.json"
    moved.write_text(json.dumps(values), encoding="utf-8")
    assert run(f"gate {NET} --against", moved) == 2
    assert "judged on photos, which is not here" in capsys.readouterr().err
