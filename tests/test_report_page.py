"""A report that is handed on: three files, the same but for one line on a second run, without
anything from outside; and what a phone shows of it
"""

import hashlib
import io
import json
import re
import shlex
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from browser import WHY, chromium, executable
from PIL import Image

from spat_nb.app import zoo
from spat_nb.app.cli import main
from spat_nb.app.report_markdown import escaped
from spat_nb.app.report_page import NAMES, write_report
from spat_nb.attacks.balls import L2, Linf
from spat_nb.classwise.diagnosis import diagnose
from spat_nb.classwise.diagnosis_page import with_intervals
from spat_nb.core.bars import bars_of, interval
from spat_nb.core.thumbs import change_thumb, thumb
from spat_nb.data.sources import get_data
from spat_nb.measure.cases import worst_cases
from spat_nb.measure.judge import judge
from spat_nb.measure.report import Report
from spat_nb.measure.report_file import KEYS

NET = "digits/pgd_at/w16"
BALL = Linf(0.15)
# each line of a file that may differ between two runs
WHEN = {"report.html": "When and how long: ", "report.json": '"when": ', "report.md": "When and"}


def run(line, *more):
    return main([*shlex.split(line), *map(str, more)])


@pytest.fixture(scope="module")
def net():
    return zoo.load(NET, device="cpu")


@pytest.fixture(scope="module")
def digits():
    return get_data("digits", device="cpu").test.subset(60)


@pytest.fixture(scope="module")
def report(net, digits):
    "Two attacks with gradients, one without, and a few gates"
    attacks = "fgsm, pgd(steps=20), square(queries=20)"
    trust = {"n": 20, "cost": 0.1}
    return judge(net, digits, BALL, attacks, trust=trust, progress=False, source="digits, test")


@pytest.fixture(scope="module")
def cases(net, digits, report):
    return worst_cases(net, digits, report)


@pytest.fixture(scope="module")
def written(report, cases, tmp_path_factory):
    "name -> text of the three files"
    folder = tmp_path_factory.mktemp("report")
    paths = write_report(report, folder, cases, date="2026-01-02T03:04:05Z")
    assert [p.name for p in paths] == [*NAMES]
    return {p.name: p.read_text(encoding="utf-8") for p in paths}


# ---- a second run


def test_a_second_run_differs_in_one_line(tmp_path, capsys):
    texts = []
    for _ in range(2):
        assert run(f"evaluate {NET} --n-test 40 --report", tmp_path / "out") == 0
        said = capsys.readouterr().out
        assert all(f"written: {tmp_path / 'out' / name}" in said for name in NAMES)
        texts.append({n: (tmp_path / "out" / n).read_text(encoding="utf-8") for n in NAMES})
    for name in NAMES:
        one, two = (t[name].splitlines() for t in texts)
        differ = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        told = [i for i, line in enumerate(one) if WHEN[name] in line]
        assert len(told) == 1 and {*differ} <= {*told}, (name, [one[i] for i in differ])


def test_the_date_is_what_differs(report, cases, tmp_path):
    "The same judgement, written on another day"
    for day in ("2026-01-02", "2027-03-04"):
        write_report(report, tmp_path / day, cases, date=day)
    for name in NAMES:
        one, two = ((tmp_path / day / name).read_text() for day in ("2026-01-02", "2027-03-04"))
        assert one != two and one.replace("2026-01-02", "2027-03-04") == two


# ---- what it says


class Links(HTMLParser):
    "What a page asks for, and its tags"

    def __init__(self, page):
        super().__init__()
        self.asked, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.asked += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]


def test_the_page_needs_nothing_from_outside(written):
    page = Links(written["report.html"])
    assert page.asked and all(a.startswith("data:image/png;base64,") for a in page.asked)
    assert not {"script", "link", "iframe", "object"} & {*page.tags}
    assert not re.search(r"url\(|@import|https?://", written["report.html"])
    assert "prefers-color-scheme: dark" in written["report.html"]


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_each_subject_stands_with_what_was_measured(name, written, report):
    text = written[name].replace("\\", "")
    for asked in (
        *("Class of attack", "Adversary's goal", "Adversary's knowledge"),
        *("Adversary's capability", "Statistical methods", "Formal methods", "Empirical methods"),
        *("Resilience to errors", "Resilience to attempts", "Data poisoning", "Feedback loops"),
    ):
        assert asked in text.replace("&#39;", "'"), asked
    record = report.record
    assert interval(record.accuracy("worst"), *record.interval("worst")) in text
    assert text.count("not shown") >= 8
    assert "no certificate" in text
    assert not re.search(r"\b(compliant|conforms|certified by)\b", text)
    # who followed gradients, and who did not
    assert "White box: fgsm, pgd20 " in text and "query access: square " in text
    assert "move every pixel value by at most 0.15" in text


def test_every_check_of_the_card_is_there(written, report):
    for check in report.card.checks:
        assert check.name in written["report.html"] and check.name in written["report.md"]


def test_without_card_and_attacks_it_says_not_shown(net, digits, tmp_path):
    bare = judge(net, digits, L2(0.5), {}, progress=False)
    write_report(bare, tmp_path, worst_cases(net, digits, bare))
    text = (tmp_path / "report.md").read_text().replace("\\", "")
    assert "**Trust card**: *not shown*" in text and "**Pictures**: *not shown*" in text
    assert "**Adversary's knowledge**: *not shown*. No attack was run." in text
    assert "**Level of robustness, and its metric**: *not shown*" in text


def test_the_json_is_the_report_and_its_keys_are_documented(written, report, tmp_path):
    values = json.loads(written["report.json"])
    assert [*values] == [*KEYS]
    (tmp_path / "r.json").write_text(written["report.json"])
    again = Report.load(tmp_path / "r.json")
    assert repr(again) == repr(report) and again.seconds == report.seconds
    assert all(torch.equal(again.record.preds[k], v) for k, v in report.record.preds.items())
    rows = values["summary"]["rows"]
    assert [*rows] == report.record.names
    assert rows["worst"]["accuracy"] == report.record.accuracy("worst")
    assert values["when"]["date"] == "2026-01-02T03:04:05Z"


def test_command_and_hashes_are_those_of_the_run(tmp_path):
    words = ["evaluate", NET, "--n-test", "40", "--report", str(tmp_path / "a b")]
    assert main(words) == 0
    made = json.loads((tmp_path / "a b/report.json").read_text())["made"]
    assert shlex.split(made["command"]) == ["spat_nb", *words]
    assert made["hashes"]["file"] == hashlib.sha256(zoo.path(NET).read_bytes()).hexdigest()
    assert made["asked"] == {"data": "digits", "n_test": 40}
    page = (tmp_path / "a b/report.html").read_text()
    assert made["hashes"]["file"] in page and made["hashes"]["weights"] in page
    saved = tmp_path / "other"
    assert run(f"evaluate digits/standard/w16 --n-test 40 --report {saved}") == 0
    other = json.loads((saved / "report.json").read_text())["made"]["hashes"]
    assert other["weights"] != made["hashes"]["weights"] and other["file"] != made["hashes"]["file"]


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run(f"evaluate {NET} --report", tmp_path / "file") == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and not said.out
    assert (tmp_path / "file").read_text() == "mine"


# ---- the worst cases


def test_worst_cases_are_right_clean_and_fall_inside_the_ball(net, digits, report, cases):
    x, y = digits.tensors()
    assert cases.shown and len(cases.shown) <= 6
    radii = [c.radius for c in cases.shown]
    assert radii == sorted(radii) and radii[-1] <= BALL.eps
    for c in cases.shown:
        assert torch.equal(c.x, x[c.row]) and c.label == str(int(y[c.row])) != c.answer
        ball = Linf(c.radius)
        assert ball.inside(c.x_adv[None], c.x[None]).all()
        with torch.no_grad():
            assert int(net(c.x[None]).argmax()) == int(y[c.row])
            assert str(int(net(c.x_adv[None]).argmax())) == c.answer
    assert "pgd(steps=20) was run again, with seed 0" in cases.told


def test_worst_cases_come_again_and_leave_no_trace(net, digits, report, cases):
    state = torch.get_rng_state()
    again = worst_cases(net, digits, report)
    assert torch.equal(torch.get_rng_state(), state)
    assert [c.row for c in again.shown] == [c.row for c in cases.shown]
    assert all(torch.equal(a.x_adv, b.x_adv) for a, b in zip(again.shown, cases.shown))


def test_worst_cases_say_why_there_are_none(net, digits, report):
    x, y = digits.tensors()
    backwards = worst_cases(net, (x.flip(0), y.flip(0)), report)
    assert not backwards.shown and "another order" in backwards.told
    once = worst_cases(net, iter([]), report)
    assert not once.shown and "another order" in once.told
    mine = judge(net, (x, y), BALL, {"mine": lambda m, x, y: x}, progress=False)
    assert "No attack of this report can be run again" in worst_cases(net, (x, y), mine).told
    still = judge(net, (x, y), Linf(1e-6), "fgsm", progress=False)
    assert "No image that was answered right fell" in worst_cases(net, (x, y), still).told


# ---- the parts of a page


def pixels(png):
    image = Image.open(io.BytesIO(b64decode(png))).convert("RGB")
    return torch.from_numpy(np.array(image)).long().flatten(0, 1)


def test_a_thumb_is_the_image_pixel_for_pixel():
    x = torch.linspace(0, 1, 12).view(1, 3, 4)
    assert torch.equal(pixels(thumb(x))[:, 0], (255 * x).round().long().flatten())
    x = torch.rand(3, 5, 5)
    assert torch.equal(pixels(thumb(x)), (255 * x).round().long().flatten(1).T)
    large = Image.open(io.BytesIO(b64decode(thumb(torch.rand(3, 300, 600)))))
    assert large.size == (160, 80)


def test_a_change_is_white_where_there_is_none():
    d = torch.tensor([[[0.0, 0.1, -0.1, 0.05]]])
    still, up, down, half = pixels(change_thumb(d, 0.1)).tolist()
    assert still == [255, 255, 255]
    assert up[0] > up[2] and down[2] > down[0]  # red, blue
    assert up[1] < half[1] < 255
    assert pixels(change_thumb(torch.zeros(3, 2, 2), 0.0)).min() == 255


def test_bars_are_the_shares():
    table = pd.DataFrame(
        {"n": [4, 0, 4], "accuracy": [0.75, float("nan"), 0.25], "lo": 0.1, "hi": 0.9},
        index=["a", "none", "b"],
    )
    bars = bars_of(table)
    assert [(b.name, b.width, b.least) for b in bars] == [("b", "25.0", True), ("a", "75.0", False)]
    assert bars[0].told == "25.0% [10.0, 90.0]"
    assert (bars[0].left, bars[0].reach) == ("10.0", "80.0")


def test_intervals_stand_behind_their_values():
    frame = pd.DataFrame({"n": [2], "clean": [0.5], "clean lo": [0.1], "clean hi": [0.9]})
    assert with_intervals(frame).to_dict("list") == {"n": [2], "clean": ["0.500 [0.100, 0.900]"]}
    frame = pd.DataFrame({"value": [0.5], "lo": [0.1], "hi": [0.9]})
    luck = frame.assign(equal_lo=0.2, equal_hi=0.3)
    assert with_intervals(luck).to_dict("list") == {
        "value": ["0.500 [0.100, 0.900]"],
        "luck alone": ["0.200 to 0.300"],
    }


def test_markdown_shows_what_is_meant():
    assert escaped("a|b <i>\n*c*") == r"a\|b \<i\> \*c\*"


# ---- diagnosis.html, by the same parts


@pytest.fixture(scope="module")
def diagnosis_page(net, digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("diagnosis") / "d.html"
    diagnose(net, digits, BALL, times=20, progress=False).html(path)
    return path


def test_a_diagnosis_names_network_data_ball_and_specs(diagnosis_page):
    page = diagnosis_page.read_text(encoding="utf-8")
    head = page[page.index("<h1>") : page.index('class="box"')]
    for what in ("network", "data", "ball", "attack pgd20"):
        assert f"<dt>{what}</dt>" in head, what
    assert "Linf(0.15)" in head and "60 images of 1x8x8" in head
    assert not re.search(r"function|class &#39;| at 0x", head)


def test_typed_attacks_stand_as_they_were_typed(tmp_path, capsys):
    out = tmp_path / "d.html"
    typed = "pgd(steps=3, loss=margin), square(queries=5)"
    assert run(f"diagnose {NET} --n-test 20 --attacks", typed, "--out", out) == 0
    page = out.read_text(encoding="utf-8")
    assert "<dd>pgd(steps=3, loss=margin)</dd>" in page and "<dd>square(queries=5)</dd>" in page


WIDER = """[...document.querySelectorAll('body, body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"""


@pytest.mark.skipif(executable() is None, reason=WHY)
@pytest.mark.parametrize("which", ["report", "diagnosis"])
def test_a_phone_shows_it_without_scrolling_sideways(
    which, report, cases, diagnosis_page, tmp_path
):
    page = diagnosis_page
    if which == "report":
        page = write_report(report, tmp_path, cases)[0]
    with chromium() as browser:
        colours = []
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
            tab.goto(page.as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390
            assert tab.evaluate(WIDER) == []
            colours.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
            # a table's cells stand below each other, each with its name
            assert tab.evaluate("getComputedStyle(document.querySelector('thead')).display") == (
                "none"
            )
        assert colours[0] == "rgb(255, 255, 255)" != colours[1]
