"Leaderboard: every run once, intervals, sorting in a browser, claims; on results made by hand"

import json
import shutil
import warnings

import pytest

from spat_nb.measure import intervals
from spat_nb.measure.means import mean_interval
from spat_nb.studies import against, boards, claims, leaderboard


def result(
    name,
    arm,
    seed,
    clean,
    aa,
    objective="f",
    flags=(),
    n=180,
    precision="float32",
    classes=3,
    judged=180,
    strong="autoattack",
    **recipe,
):
    def k(c):
        return dict(
            n=n,
            correct=c,
            class_n=[n // classes] * classes,
            class_correct=[c // classes] * (classes - 1) + [c - c // classes * (classes - 1)],
        )

    return dict(
        schema=2,
        study=name,
        arm=arm,
        size="laptop",
        seed=seed,
        precision=precision,
        classes=[str(i) for i in range(classes)],
        trust=dict(flags=list(flags), n=64, cost=0.2),
        extra={},
        parameters=7,
        device="cpu",
        history=[],
        code=dict(commit="abc"),
        seconds=dict(train=60.0, judge=5.0),
        attacks={
            a: k(c)
            for a, c in (
                ("clean", clean),
                ("pgd20", aa + 2),
                ("cw20", aa + 1),
                ("aa/apgd_ce", aa + 3),
                ("aa", aa),
            )
        },
        config=dict(
            recipe=dict(data="digits", ball="Linf(0.15)", objective=objective, **recipe),
            judge=dict(attacks=name, strong=strong, judged=judged),
        ),
    )


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))

    def put(*results):
        for d in results:
            p = tmp_path / d["study"] / "laptop" / f"{d['arm']}-s{d['seed']}.json"
            p.parent.mkdir(parents=True, exist_ok=True)
            p.write_text(json.dumps(d))

    return put


def test_every_seed_counts_once_and_comes_from_the_fuller_study(write):
    write(
        result("one", "A", 0, 170, 100),
        *(result("two", "A", s, 170, 140 + s, precision="channels_last") for s in (0, 1)),
    )
    g = leaderboard.gather("digits", names=("one", "two"))
    assert [(d["study"], d["attacks"]["aa"]["correct"]) for d in g["laptop", "A"].values()] == [
        ("two", 140),
        ("two", 141),
    ]
    assert {*g["laptop", "A"][0]["twins"]} == {"one", "two"} and {
        *g["laptop", "A"][1]["twins"]
    } == {"two"}


def test_what_differs_in_training_or_attacks_is_another_row(write):
    write(
        result("one", "A", 0, 170, 100),
        result("two", "A", 0, 170, 100, lr=0.2),
        result("three", "A", 0, 170, 100, strong="weak"),
    )
    assert len(leaderboard.leaderboard(names=("one", "two", "three"))) == 3


def test_a_run_counts_where_it_was_judged_on_most_images(write):
    write(
        *(result("one", "A", s, 51, 30, n=60, judged=60) for s in range(3)),
        result("two", "A", 0, 170, 100),
    )
    t = leaderboard.leaderboard(names=("one", "two"))
    assert (
        len(t) == 1
        and t.aa[0] == pytest.approx((100 / 180 + 0.5 + 0.5) / 3)
        and t.aa_n[0] == 60
        and t.studies[0] == "two, one"
    )


def test_names_are_a_majority(write):
    write(
        *(
            result(n, a, 0, 170, 100)
            for n, a in (("one", "ReLU"), ("two", "PGD-AT"), ("three", "PGD-AT"))
        )
    )
    t = leaderboard.leaderboard(names=("one", "two", "three"))
    assert list(t.arm) == ["PGD-AT"] and t.studies[0].count(",") == 2


def test_a_name_stays_with_the_recipe_that_was_run_most(write):
    write(
        result("a", "A", 0, 170, 100, strong="weak"),
        *(result("b", "A", s, 170, 140 + s) for s in range(3)),
    )
    g = leaderboard.gather("digits", names=("a", "b"))
    assert [(name, len(seeds)) for (_, name), seeds in g.items()] == [("A (a)", 1), ("A", 3)]


def test_all_intervals_hold_what_they_say(write):
    "One seed: Wilson. Several: Student, as in study.compare, and symmetric"
    write(
        *(result("one", "A", s, 170, k) for s, k in enumerate((100, 120, 111))),
        result("one", "B", 0, 160, 90, "g"),
    )
    t = leaderboard.leaderboard(names=["one"]).set_index("arm")
    assert (t.loc["B", "aa_lo"], t.loc["B", "aa_hi"]) == intervals.wilson(90, 180) and t.over[
        "B"
    ] == "images"
    m, half = mean_interval([100 / 180, 120 / 180, 111 / 180])
    assert (
        t.loc["A", "aa"] == pytest.approx(m)
        and t.loc["A", "aa_hi"] - m == pytest.approx(half)
        and m - t.loc["A", "aa_lo"] == pytest.approx(half)
    )
    assert t.weakest["A"] == pytest.approx(sum((k + 1) // 3 / 60 for k in (100, 120, 111)) / 3)


def test_bonferroni_is_wider_and_the_base_is_the_study_s_own(write):
    write(
        *(result("one", "PGD-AT", s, 170, 100 + s % 2) for s in range(4)),
        *(result("two", "PGD-AT", s, 170, 130) for s in range(3)),
        *(result("two", "X", s, 170, 131 + s % 2, "x") for s in range(3)),
    )
    t = against.against("PGD-AT", names=("one", "two"))
    # against 130, not against 100
    assert len(t) == 1 and t["diff"][0] == pytest.approx((1 + 2 + 1) / 3 / 180)
    write(*(result("two", "Y", s, 170, 80, "y") for s in range(3)))
    u = against.against("PGD-AT", names=("one", "two")).set_index("arm")
    assert u.hi["X"] - u.lo["X"] > t.hi[0] - t.lo[0] and u.verdict["Y"] == "worse"


def test_claims_of_few_seeds_stay_open(write):
    write(
        *(result("one", a, s, 170, k, a) for s in range(3) for a, k in (("A", 150), ("B", 100))),
        *(result("one", "D", s, 170, 90, "d") for s in range(2)),
    )
    claim = claims.gain("p", "c", "one", "A", "B", least=20.0)
    assert (
        claims.judged(claim)["verdict"] == "unrepeated"
        and claims.judged(claims.gain("p", "c", "one", "A", "B", least=30.0))["verdict"]
        == "refuted"
    )
    assert (
        claims.judged(claims.gain("p", "c", "one", "A", "gone"))["verdict"] == "open"
        and claims.judged(claims.gain("p", "c", "nothing", "A", "B"))["seeds"] == 0
    )
    # two seeds that agree have an interval of no width
    assert claims.judged(claims.gain("p", "c", "one", "A", "D"))["verdict"] == "open"


def test_table_sorts_in_a_browser(write, tmp_path):
    """Numbers as numbers, texts as texts, by mouse and by keyboard; static where scripts are off;
    on a phone the page does not scroll sideways, the table does
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return warnings.warn("no Playwright here: the table was not clicked", stacklevel=2)
    exe = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not exe:
        return warnings.warn("no Chromium here: the table was not clicked", stacklevel=2)
    write(
        *(
            result("one", a, s, c, k + s, a, f)
            for a, c, k, f in (("A", 90, 100, ()), ("B", 170, 9, ("G5 zero",)), ("C", 100, 99, ()))
            for s in range(2)
        )
    )
    page = tmp_path / "p.html"
    page.write_text(
        "<!doctype html><meta"
        f' charset="utf-8"><body>{boards.show(leaderboard.leaderboard(names=["one"]))._repr_html_()}'  # noqa: E501
    )
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=exe, args=["--no-sandbox", "--disable-gpu"])
        for on in (True, False):
            tab = browser.new_context(
                viewport={"width": 390, "height": 844}, color_scheme="dark", java_script_enabled=on
            ).new_page()
            tab.goto(page.as_uri())

            def first():
                return [v.split()[0] for v in tab.locator("tbody td:first-child").all_inner_texts()]

            def head(text):
                return tab.locator("th", has_text=text).first

            assert first() == ["A", "C", "B"] and "⚑" in tab.locator("tbody tr").nth(2).inner_text()
            if not on:
                head("clean").click()
                assert first() == ["A", "C", "B"]
                continue
            head("clean").click()
            assert (
                first() == ["B", "C", "A"]
                and head("clean").get_attribute("aria-sort") == "descending"
            )
            head("clean").click()
            assert first() == ["A", "C", "B"]
            head("method").focus()
            tab.keyboard.press("Enter")
            assert first() == ["C", "B", "A"] and head("clean").get_attribute("aria-sort") is None
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390 and tab.evaluate(
                "(e => e.scrollWidth > e.clientWidth)(document.querySelector('.board'))"
            )
        browser.close()
