"""Leaderboard, pairs and claims on results made by hand, so that all is known"""

import json
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal

from spat_nb.app.cli import main
from spat_nb.measure import intervals
from spat_nb.measure.means import mean_interval
from spat_nb.measure.versus import paired
from spat_nb.studies import results as results_room
from spat_nb.studies.advice import advice, firsts
from spat_nb.studies.against import against, plot_against, show_against
from spat_nb.studies.answers import bits
from spat_nb.studies.boards import front, plot, show
from spat_nb.studies.claims import all_claims, card, card_on, gain, judged
from spat_nb.studies.finding import find_study, studies
from spat_nb.studies.htmltable import Table
from spat_nb.studies.job import Job
from spat_nb.studies.leaderboard import gather, leaderboard
from spat_nb.studies.repeats import to_repeat
from spat_nb.studies.rows import runs_of, status
from spat_nb.studies.spat import follow_up
from spat_nb.studies.study import Arm, Study
from spat_nb.studies.verdicts import verdict_on


def toy(name, arm, seed, clean, aa, objective="f", flags=(), n=180, **size):
    """A result with given counts of right answers"""

    def k(c):
        return dict(n=n, correct=c, class_n=[n // 2] * 2, class_correct=[c // 2, c - c // 2])

    recipe = dict(data="digits", ball="Linf(0.15)", objective=objective, **size)
    return dict(
        schema=2,
        study=name,
        arm=arm,
        size="laptop",
        seed=seed,
        precision="float32",
        classes=["0", "1"],
        trust=dict(flags=list(flags), n=64, cost=0.2),
        extra={},
        parameters=7,
        device="cpu",
        history=[],
        config=dict(recipe=recipe, judge=dict(strong="autoattack", attacks=name)),
        seconds=dict(train=60.0 * (seed + 1), judge=5.0),
        attacks={
            "clean": k(clean),
            "pgd20": k(aa + 2),
            "cw20": k(aa + 1),
            "aa/apgd_ce": k(aa + 4),
            "aa": k(aa),
        },
    )


def house(results):
    """A results folder with just these"""
    folder = Path(tempfile.mkdtemp())
    for d in results:
        p = folder / d["study"] / d["size"] / f"{d['arm']}-s{d['seed']}.json"
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_text(json.dumps(d))
    return mock.patch.dict(os.environ, SPAT_NB_RESULTS=str(folder))


TOYS = [
    *(toy("one", "A", s, 170 + s, 140 + s) for s in (0, 1, 2)),
    *(toy("two", "A", s, 170 + s, 140 + s) for s in (0, 1)),
    *(toy("two", "B", s, 160, 143 + s, "g") for s in (0, 1)),
    toy("two", "C", 0, 150, 100, "h", ["G5 zero"]),
    toy("two", "A", 9, 99, 99, batch=7),
]


NAMES = ("one", "two")


def answered(d, n):
    return (d["attacks"]["aa"].update(right=bits(torch.arange(d["attacks"]["aa"]["n"]) < n)), d)[1]


def test_student_by_hand():
    right, n = ([141, 138, 143, 139, 144], 180)
    mean = sum(right) / 5 / n
    s = (sum((k / n - mean) ** 2 for k in right) / 4) ** 0.5
    half = 2.776 * s / 5**0.5
    close(mean_interval([k / n for k in right])[1], half, eps=1e-05)


def test_rows_are_gathered_once():
    far = toy("one", "far", 0, 99, 99)
    far["config"]["recipe"]["ball"] = "Linf(0.3)"
    alien = toy("one", "alien", 0, 99, 99)
    alien["config"]["train"] = "mine.py:target(data=mine.py:mnist)"
    with house([*TOYS, far, alien]):
        got = gather(names=NAMES)
    equal(
        {k[1]: sorted(v) for k, v in got.items()},
        {"A": [0, 1, 2], "A (two)": [9], "B": [0, 1], "C": [0]},
    )
    equal([d["studies"] for d in got["laptop", "A"].values()], [["one", "two"]] * 3)
    equal(
        [(d["study"], [*d["twins"]]) for d in got["laptop", "A"].values()],
        [("one", ["one", "two"])] * 2 + [("one", ["one"])],
    )
    with pytest.raises(Exception, match=re.escape("on 'mars'")):
        gather("mars")


def test_leaderboard_of_toys():
    with house(TOYS):
        t = leaderboard(names=NAMES).set_index("arm")
    equal(list(t.index), ["B", "A", "C", "A (two)"])
    m, half = mean_interval([140 / 180, 141 / 180, 142 / 180])
    close(t.loc["A", ["aa", "aa_lo", "aa_hi"]].tolist(), [m, m - half, m + half], eps=1e-09)
    close(
        t.loc["C", ["aa", "aa_lo", "aa_hi"]].tolist(),
        [100 / 180, *intervals.wilson(100, 180)],
        eps=1e-09,
    )
    equal(
        t.loc["A", ["seeds", "over", "aa_n", "studies", "flagged"]].tolist(),
        [3, "seeds", 180, "one, two", 0],
    )
    equal(t.over["B"], "images")
    close(t.loc["B", "aa_lo"], intervals.wilson(144, 180)[0], eps=1e-09)
    equal(
        (t.over["C"], t.flagged["C"], t["flags"]["C"], t.weakest_class["C"]),
        ("images", 1, "G5 zero", "0"),
    )
    close(t.minutes["A"], 2.0, eps=1e-09)
    close(t.weakest["A"], sum(k // 2 / 90 for k in (141, 142, 143)) / 3, eps=1e-09)
    with house(TOYS):
        with pytest.raises(Exception, match=re.escape("sort is 'luck'")):
            leaderboard(names=NAMES, sort="luck")
    with house([]):
        equal(len(leaderboard(names=NAMES)), 0)


def test_board_as_a_page():
    with house(TOYS):
        shown = show(leaderboard(names=NAMES))
    page = shown._repr_html_()
    equal(page.count("<tr>"), 1 + 4)
    equal(page.count("<th "), len(shown.shown.columns))
    assert "C ⚑" in page and 'data-v="0.5555555555555556"' in page and ("http" not in page)
    assert "78.3 ± " in str(shown) and "55.6 [48, 63]" in str(shown), shown
    equal(len(show(leaderboard(names=())).shown), 0)
    equal("&lt;b&gt;" in Table(pd.DataFrame({"x": ["<b>"]}))._repr_html_(), True)


def test_front_by_hand():
    equal(
        front([0.99, 0.97, 0.96, 0.9, 0.9], [0.1, 0.75, 0.74, 0.8, 0.7]),
        [True, True, False, True, False],
    )
    equal(front([1, 1], [2, 2]), [True, True])
    x_, y_ = ([0.1 * (k * 7 % 11) for k in range(11)], [0.1 * (k * 5 % 11) for k in range(11)])
    on = front(x_, y_)
    assert on[x_.index(max(x_))] and on[y_.index(max(y_))]
    with house(TOYS):
        ax = plot(leaderboard(names=NAMES))
        equal(ax.get_ylabel(), "accuracy under aa, % of n = 180")
        equal(len(ax.texts), 4)
        plt.close(ax.figure)
    fewer = [toy("one", "A", 0, 170, 140), toy("two", "B", 0, 95, 80, "g", n=100)]
    with house(fewer):
        mixed = plot(leaderboard(names=NAMES))
        equal(mixed.get_ylabel(), "accuracy under aa, % of n = 100 to 180")
        plt.close(mixed.figure)


def test_paired_differences_of_toys():
    more = [toy("two", "A", 2, 9, 100), toy("two", "B", 2, 9, 144, "g")]
    with house([*TOYS, *more]):
        t = against("A", names=NAMES)
    equal(list(t.arm), ["B"])
    close(t["diff"][0], (3 + 3 + 44) / 3 / 180, eps=1e-09)
    with house([*TOYS[3:7], *more]):
        close(
            against("A", names=["two"]).loc[0, ["diff", "lo", "hi"]].tolist(),
            results_room.Results(runs_of("two")).compare("B", "A")[:3],
            eps=1e-09,
        )
    many = [
        toy("one", a, s, 9, 140 + (3 * s + k) % 5, a)
        for k, a in enumerate("ABCDE")
        for s in range(3)
    ]
    with house(many):
        wide, thin = (against("A", names=NAMES), against("A", names=NAMES, level=1 - 0.05 * 4))
    close(
        thin.hi - thin.lo,
        [
            2 * mean_interval([((3 * s + k) % 5 - 3 * s % 5) / 180 for s in range(3)])[1]
            for k in ["ABCDE".index(a) for a in thin.arm]
        ],
        eps=1e-09,
    )
    assert (wide.hi - wide.lo > thin.hi - thin.lo).all()
    with house(TOYS):
        equal(len(against("nobody", names=NAMES)), 0)
    single = [
        answered(toy("one", "A", 0, 9, 140), 140),
        answered(toy("one", "E", 0, 9, 90, "j", n=100), 90),
        answered(toy("one", "B", 0, 9, 152, "g"), 152),
        answered(toy("one", "C", 0, 9, 141, "h"), 141),
        toy("one", "D", 0, 9, 151, "i"),
    ]
    with house(single):
        one = against("A", names=NAMES).set_index("arm")
    equal(one.verdict.to_dict(), {"B": "better", "C": "not told apart"})
    assert set(one.over) == {"images"}
    close(
        one.loc["B", ["diff", "lo", "hi"]].tolist(),
        paired(torch.arange(180) < 152, torch.arange(180) < 140, 0.975),
        eps=1e-12,
    )
    assert intervals.wilson(152, 180)[0] < intervals.wilson(140, 180)[1]
    equal(show_against(one.reset_index()).shown.over.tolist(), ["images of one seed"] * 2)
    assert show_against(wide).shown.over[0] == "3 seeds"
    ax = plot_against(one.reset_index(), "A")
    equal([v.get_text() for v in ax.get_yticklabels()], ["B", "C"])
    plt.close(ax.figure)


def test_claims_and_cards_of_toys():
    made = [toy("one", a, s, 170, k + s, a) for a, k in (("A", 140), ("B", 120)) for s in range(3)]
    A_B, B_A = (gain("p", "c", "one", "A", "B"), gain("p", "c", "one", "B", "A"))
    with house(made):
        r = judged(A_B)
        close((r["mean"], r["lo"]), (100 * 20 / 180, 100 * 20 / 180), eps=1e-09)
        equal(
            [
                judged(c)["verdict"]
                for c in (
                    A_B,
                    B_A,
                    gain("p", "c", "one", "A", "B", least=15.0),
                    gain("p", "c", "one", "A", "none"),
                )
            ],
            ["unrepeated", "refuted", "refuted", "open"],
        )
    noisy = [
        toy("one", a, s, 170, k, a)
        for a, ks in (("A", (140, 120, 130)), ("B", (130, 131, 125)))
        for s, k in enumerate(ks)
    ]
    both = replace(B_A, either=True)
    with house(made):
        equal(judged(both)["verdict"], "unrepeated")
    with house(noisy):
        equal(judged(both)["verdict"], "unproven")
        equal(judged(A_B)["verdict"], "unproven")
        close(judged(A_B)["mean"], 100 * 4 / 3 / 180, eps=1e-09)
    # five further seeds: they agree, they fall on the other side, one is missing, none is there
    first = [10, 11, 12, 11, 10]
    for further, mean, verdict in (
        ([9, 8, 9, 8, 9], 8.6, "supported"),
        ([-1, 0, 0, 0, 0], -0.2, "unproven"),
        ([9, 8, 9, 8], 8.5, "unrepeated"),
        ([-90], -90, "unrepeated"),  # not all of them: they decide nothing yet
        ([], None, "unrepeated"),
        ([-90, 80, -70, 60, 50], 6, "unproven"),
    ):
        gains = first + further
        ten = [
            toy("one", a, s, 170, 120 + k * (a == "A"), a)
            for a in "AB"
            for s, k in enumerate(gains)
        ]
        with house(ten):
            r = judged(A_B)
            equal((r["verdict"], r["seeds"]), (verdict, len(gains)))
            close(r["mean"], 100 * sum(gains) / len(gains) / 180, eps=1e-9)
            if further:
                close(r["further"], 100 * mean / 180, eps=1e-9)
            else:
                assert r["further"] is None
            # what is refuted needs no further seeds
            if min(gains) > 0:
                equal(judged(B_A)["verdict"], "refuted")
    # seeds beyond those that are asked for change nothing
    gains = [*first, -1, 0, 0, 0, 0, *[12] * 8]
    many = [
        toy("one", a, s, 170, 120 + k * (a == "A"), a) for a in "AB" for s, k in enumerate(gains)
    ]
    with house(many):
        r = judged(A_B)
        equal((r["verdict"], r["seeds"]), ("unproven", 10))
        close(r["further"], 100 * -0.2 / 180, eps=1e-9)
    toys = [
        dict(
            classes="abc",
            attacks=dict(aa=dict(class_correct=c, class_n=(10, 10, 10))),
            extra=dict(flips={"0.1": {k: {"p_y rose": v} for k, v in zip("abc", (0.1, 0.2, 0.4))}}),
        )
        for c in ((5, 6, 8), (4, 4, 4), (8, 6, 2))
    ]
    close(follow_up(*toys[:2]), 1.0, eps=1e-12)
    close(follow_up(toys[2], toys[1]), -1.0, eps=1e-12)
    equal(follow_up(toys[1], toys[1]), 0.0)
    CLAIMS = all_claims()
    assert {c.study for c in CLAIMS} <= {*studies()} and all(
        {*c.arms} <= {*studies()[c.study].arms} for c in CLAIMS
    )
    cards = card()
    equal(len(cards), len(CLAIMS))
    equal({*card("SPAT").paper}, {"SPAT (our reading)"})
    with pytest.raises(Exception, match=re.escape("Sparta (our reconstruction)")):
        card("Nothing")
    with house(made):
        equal({*card("SPAT").verdict}, {"open"})
        assert card("SPAT").seen.str.startswith("not run").all()


def test_advice_without_results_says_so():
    with house([]):
        assert "Nothing can be said yet" in advice()[0]


def test_the_lottery_is_of_the_seeds_that_all_rows_have():
    """Rows that were tried again have ten: they are not a lottery of their own"""
    rows = {"A": 10, "B": 5, "C": 5}
    made = [toy("combine", a, s, 170, 140, a) for a, n in rows.items() for s in range(n)]
    with house(made):
        t = firsts()
    equal((len(t), set(t["rows"])), (5, {3}))


def of_today(arm, seed, right):
    "A result of the study `combine` as its row would give it today"
    config = Job(find_study("combine"), arm, "laptop", seed).config
    return {**toy("combine", arm, seed, 170, right, arm), "config": config}


def test_what_is_to_be_repeated(capsys):
    """The rows of the claims that the first seeds support, wherever the claim is written"""
    arms = {"PGD-AT": 120, "HE": 140, "SPAT": 100}
    five = [of_today(a, s, k + s) for a, k in arms.items() for s in range(5)]
    with house(five):
        equal(to_repeat("combine"), (["PGD-AT", "HE"], range(5, 10)))
        equal(to_repeat("spat")[0], [])
        equal(to_repeat("combine", "small")[0], [])
        more = gain("HE", "c", "combine", "HE", "PGD-AT")
        shown = card("Hypersphere").query("verdict == 'unrepeated'")
        assert "further" not in shown and judged(more)["verdict"] == "unrepeated"
        capsys.readouterr()
        assert main(["study", "claims", "combine"]) == 0
        shown = capsys.readouterr().out
        assert "HE adds to SPAT" in shown and re.search(r"unrepeated +\+11.11 \[\+11.11", shown)
        assert "further" not in shown and "over images too" not in shown
        assert main(["study", "claims", "spat"]) == 0  # the shipped results
        assert "it perturbs shared pixels" in capsys.readouterr().out
        refused = {
            ("combine", "--repeat", "--seeds", "5"): "leave out --arms and --seeds",
        }
        for given, says in refused.items():
            assert main(["study", "run", *given]) == 1
            assert says in capsys.readouterr().err
        idle = {
            ("spat", "--repeat"): "0 of the 40 runs of the first seeds are there",
            ("spat", "--repeat", "--scale", "small"): "scale small no further seeds are asked for",
        }
        for given, says in idle.items():
            assert main(["study", "run", *given]) == 0
            assert says in capsys.readouterr().out
    # further ones that speak against it do not end the repetition before its end
    against_it = [of_today(a, 5, 150 - k) for a, k in arms.items()]
    with house(five + against_it):
        equal(to_repeat("combine")[0], ["PGD-AT", "HE"])
    ten = [of_today(a, s, k) for a, k in arms.items() for s in range(10)]
    counted = ["done", "further", "outdated"]
    with house(ten):
        equal(to_repeat("combine")[0], [])
        equal(tuple(status("combine").loc[("combine", "laptop")][counted]), (15, 15, 0))
        shown = card("Hypersphere").query("seeds == 10")
        equal(set(shown.further), {"+11.11"})
    # a further run of a recipe that was changed since is none
    (old,) = (d for d in ten if (d["arm"], d["seed"]) == ("HE", 7))
    old["config"] = {**old["config"], "recipe": {**old["config"]["recipe"], "epochs": 1}}
    with house(ten):
        equal(to_repeat("combine")[0], ["HE"])
        equal(tuple(status("combine").loc[("combine", "laptop")][counted]), (15, 14, 1))
        # no verdict is made of both
        equal(judged(more)["verdict"], "unrepeated")
        equal(set(card("Hypersphere").query("seeds == 9").verdict), {"unrepeated"})
        equal(set(card_on("combine", runs_of("combine")).query("seeds == 9").further), {"+11.11"})
        capsys.readouterr()
        assert main(["study", "claims", "combine"]) == 0
        again = "spat_nb study run combine --scale laptop --arms HE --seeds 7 makes them anew"
        assert again in capsys.readouterr().out
    # of the first seeds nothing is left: nothing is repeated, and nothing is said
    for d in ten:
        if d["seed"] < 5:
            d["config"] = old["config"]
    with house(ten):
        equal(to_repeat("combine")[0], [])
        assert judged(more)["verdict"] != "supported" and judged(more)["seeds"] == 4
        assert main(["study", "run", "combine", "--repeat"]) == 0
        said = capsys.readouterr().out
        assert "0 of the 35 runs of the first seeds are there" in said


def test_a_study_decides_how_many_seeds_its_verdicts_take():
    """Three and two further ones, none again: as its own size says, not as all others'"""
    claim = gain("P", "c", "mine", "A", "B")
    for sizes, n, verdict in (
        ({"seeds": 3, "again": 2}, 4, "unrepeated"),
        ({"seeds": 3, "again": 2}, 5, "supported"),
        ({"seeds": 3, "again": 2}, 9, "supported"),
        ({"again": 0}, 5, "supported"),
        ({"seeds": 6}, 6, "unrepeated"),
    ):
        mine = Study("mine", "?", {"A": Arm(), "B": Arm()}, {"laptop": sizes}, (claim,))
        runs = [
            {
                **toy("mine", a, s, 170, k + s, a),
                "config": Job(mine, a, "laptop", s).config,
            }
            for a, k in (("A", 140), ("B", 120))
            for s in range(n)
        ]
        with house(runs):
            found = judged(claim, study=mine)
            equal(found["verdict"], verdict)
            equal(found["seeds"], 5 if n == 9 else n)
            first = sizes.get("seeds", 5)
            waits = {"unrepeated": ["A", "B"], "supported": []}[verdict]
            equal(to_repeat(mine), (waits, range(first, first + sizes.get("again", 5))))
    with pytest.raises(ValueError, match="about 'gone'; the rows of combine are"):
        judged(gain("P", "c", "combine", "gone", "HE"))


def test_an_interval_that_counts_the_drawing_of_images_too():
    """Beside the seeds' interval the one over images: that of the mean over the seeds of each
    image's difference, by hand
    """
    n, first = 180, [torch.arange(180) < k for k in (150, 152, 151)]
    second = [torch.arange(180) < k for k in (120, 121, 125)]
    runs = []
    for arm, answers in (("A", first), ("B", second)):
        for s, right in enumerate(answers):
            d = toy("one", arm, s, 170, int(right.sum()), arm)
            d["attacks"]["aa"]["right"] = bits(right)
            runs.append(d)
    claim = gain("p", "c", "one", "A", "B")
    found = verdict_on(claim, runs)
    gains = [(150 - 120) / 1.8, (152 - 121) / 1.8, (151 - 125) / 1.8]
    mean, half = mean_interval(gains)
    each = sum(a.double() - b.double() for a, b in zip(first, second)) / 3
    spread = 100 * ((each - each.mean()).square().sum() / (n - 1)).sqrt().item() / n**0.5
    close((found["mean"], found["lo"]), (mean, mean - half), eps=1e-9)
    close(found["hi_both"] - found["mean"], (half**2 + (1.96 * spread) ** 2) ** 0.5, eps=1e-9)
    assert found["n"] == n and found["lo_both"] < found["lo"]
    # one seed's answers are missing: nothing is said, and the number of images stays
    del runs[0]["attacks"]["aa"]["right"]
    found = verdict_on(claim, runs)
    assert found["lo_both"] is None and found["n"] == n
    # a number that is no accuracy has no images
    other = replace(claim, attack="")
    assert verdict_on(other, runs)["n"] is None and verdict_on(claim, [])["n"] is None
