"Judging: one battery, names as recorded, passes counted, one verdict; and reading what was done"

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from spat_nb.app import zoo
from spat_nb.attacks.attack import fgsm, pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import margin
from spat_nb.data.sources import get_data
from spat_nb.measure.battery import STANDARD, named_attacks, standard_battery
from spat_nb.measure.card import Card
from spat_nb.measure.checks import check
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.judge import judge
from spat_nb.measure.metering import Meter, metered, watching
from spat_nb.measure.record import Record
from spat_nb.measure.report import Report
from spat_nb.studies.answers import unpacked
from spat_nb.studies.claims import all_claims, judged
from spat_nb.studies.reading import read
from spat_nb.studies.results import Results
from spat_nb.studies.rows import results_of
from spat_nb.training.recipe import Recipe
from spat_nb.training.run import train

BALL = Linf(0.05)
RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return train(Recipe(epochs=1, n=300, model="SmallCNN(width=4)"), quiet=True).model


@pytest.fixture(scope="module")
def digits():
    return get_data("digits", device="cpu").test.subset(60)


def look(net, digits, attacks=STANDARD, ball=BALL, **kw):
    return judge(net, digits, ball, attacks, progress=False, **kw)


def without_seconds(record):
    return {k: v for k, v in record.info.items() if k != "seconds"}


class Counting(nn.Module):
    "A network that counts for itself"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.calls = 0
        self.images = 0

    def forward(self, x):
        self.calls += 1
        self.images += len(x)
        return self.layer(x.flatten(1))


# ---- the record


def test_the_record_is_that_of_evaluate(net, digits):
    attacks = {
        "fgsm": fgsm(BALL),
        "pgd20": pgd(BALL, 20, BALL.eps / 4),
        "cw20": pgd(BALL, 20, BALL.eps / 4, loss=margin),
        "aa": autoattack(BALL, steps=3, queries=10),
    }
    known = evaluate(net, digits, progress=False, **attacks)
    mine = look(
        net,
        digits,
        {
            "fgsm": "fgsm",
            "pgd20": "pgd(steps=20)",
            "cw20": "pgd(steps=20, loss=margin)",
            "aa": "autoattack(steps=3, queries=10)",
        },
    ).record
    assert without_seconds(mine) == without_seconds(known)
    assert all(torch.equal(mine.preds[k], v) for k, v in known.preds.items())
    assert [*mine.preds] == [*known.preds]


def test_names_are_those_of_recorded_results():
    assert [*standard_battery(BALL)] == ["fgsm", "pgd20"]
    assert standard_battery(Linf(8 / 255))["pgd20"].lr == 2 / 255
    assert standard_battery(BALL)["pgd20"] == pgd(BALL, 20, BALL.eps / 4)
    assert standard_battery(BALL)["fgsm"] == fgsm(BALL)
    text = (
        "pgd(steps=20, loss=margin), autoattack, mim(steps=5), apgd, pgd(steps=20, lr=0.01), fgsm"
    )
    named = named_attacks(f"{text}, pgd(steps=20), pgd(steps=20, restarts=2)", BALL)
    assert [*named] == ["cw20", "aa", "mim5", "apgd", "pgd20", "fgsm", "pgd20 2", "pgd20 3"]
    assert named["pgd20"].lr == 0.01  # who says lr gets it
    assert named["pgd20 3"].restarts == 2
    assert named["pgd20 3"].lr == BALL.eps / 4


def test_lists_dicts_makers_and_attacks_are_taken(net, digits):
    def mine(ball):
        return pgd(ball, 3)

    listed = named_attacks(["fgsm", mine, "pgd(steps=2), mim"], BALL)
    assert [*listed] == ["fgsm", "mine", "pgd2", "mim"]
    assert listed["mine"] == pgd(BALL, 3)
    given = named_attacks({"a": fgsm, "b": pgd(BALL, 2), "c": "apgd(steps=2)"}, BALL)
    assert given["a"] == fgsm(BALL)
    assert given["b"] == pgd(BALL, 2)
    assert given["c"].ball == BALL

    def bare(model, x, y):
        return x

    def otherwise(net, images, labels):
        return images

    held = named_attacks(bare, BALL)["bare"]
    assert held.func is bare and held.ball == BALL
    assert named_attacks({"a": otherwise}, BALL)["a"].func is otherwise
    assert named_attacks({"a": lambda *given: given[1]}, BALL)["a"](0, 1, 2) == 1
    assert named_attacks({"a": lambda b: fgsm(b)}, BALL)["a"] == fgsm(BALL)
    report = look(net, digits, {"it": bare})
    assert report.record.accuracy("it") == report.record.accuracy("clean")


def test_attacks_inside_others_get_the_ball(net, digits):
    inner = "attack=pgd(steps=2)"
    text = f"in_train({inner}), preserving({inner}, a=0.1), deepfool, fab(steps=3)"
    made = named_attacks(text, BALL)
    assert made["in_train"].attack == pgd(BALL, 2)
    assert made["deepfool"].ball == BALL
    assert made["fab3"].attack.norm is Linf
    report = look(net, digits, text)
    assert set(report.attacks) == {"in_train", "preserving", "deepfool", "fab3"}


@pytest.mark.parametrize("ball", [L1(3.0), L2(0.5), Linf(0.05), "L2(0.5)"])
def test_every_norm_is_judged(net, digits, ball):
    report = look(net, digits, ball=ball)
    record = report.record
    assert record.accuracy("pgd20") <= record.accuracy("clean")
    assert (
        report.ball == {"L1": "L1(3.0)", "L2": "L2(0.5)", "Li": "Linf(0.05)"}[str(report.ball)[:2]]
    )


@pytest.mark.parametrize(
    "text, ball, word",
    [
        ("autoattack", L1(3), "L1"),
        ("square", L1(3), "square cannot be run in L1"),
        ("fab", L1(3), "fab"),
        ("nope", BALL, "nope"),
        ("pgd(stepz=3)", BALL, "stepz"),
        ("pgd(steps=3", BALL, "pgd(steps=3"),
        ("os:system", BALL, "os:system"),
        ("8/255", BALL, "calls nothing"),
        ({"a": 3}, BALL, "a cannot"),
        ({"a": "fgsm, pgd"}, BALL, "calls nothing"),
        ({"a": pgd(L2(0.5))}, BALL, "made for L2"),
        ("fgsm", 0.05, "Linf"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(text, ball, word):
    with pytest.raises((ValueError, TypeError)) as e:
        named_attacks(text, ball)
    assert word in str(e.value)
    assert "\n" not in str(e.value)


def test_a_part_of_the_images(net, digits):
    assert len(look(net, digits, n=20).record.y) == 20
    assert len(look(net, digits.tensors(), n=20).record.y) == 20
    with pytest.raises(ValueError, match="n is 1000, but there are 60"):
        look(net, digits, n=1000)
    with pytest.raises(ValueError, match="n is 1000, but there are 60"):
        look(net, digits.tensors(), n=1000)
    balanced = look(net, digits.tensors(), n=20).record
    assert balanced.y.bincount().tolist() == [2] * 10
    with pytest.raises(TypeError, match="list"):
        look(net, [digits.tensors()], n=3)
    with pytest.raises(TypeError, match="in_memory"):
        look(net, [digits.tensors()], trust=True)
    with pytest.raises(ValueError, match="radius above 0"):
        look(net, digits, ball=Linf(0.0), trust=True)


# ---- passes


@pytest.mark.parametrize("steps", [1, 7])
def test_k_steps_are_k_forward_and_k_backward_passes(digits, steps):
    model = Counting()
    attack, meters = metered({"a": pgd(BALL, steps)})
    x, y = digits.tensors()
    attack["a"](model, x, y)
    assert model.calls == steps
    assert model.images == steps * len(x)
    assert meters["a"].each() == {"images": len(x), "forward": steps, "backward": steps}


def test_passes_of_a_judgement(net, digits):
    report = look(net, digits, "fgsm, pgd(steps=20), pgd(steps=4, restarts=3)")
    right = int(report.record.correct("clean").sum())
    assert report.passes["fgsm"] == {"images": right, "forward": 1, "backward": 1}
    assert report.passes["pgd20"] == {"images": right, "forward": 20, "backward": 20}
    assert report.passes["pgd4"] == {"images": right, "forward": 15, "backward": 12}
    table = report.table()
    assert table.loc["pgd20", "forward"] == 20
    assert table.loc["pgd20", "seconds"] > 0
    assert pd.isna(table.loc["clean", "forward"])


def test_members_of_a_cascade_are_counted_each(net, digits):
    report = look(net, digits, {"aa": "autoattack(steps=2, queries=10)"})
    parts = {k: v for k, v in report.passes.items() if k.startswith("aa/")}
    assert {*parts} == {"aa/apgd_ce", "aa/apgd_t", "aa/fab_t", "aa/square"}
    assert parts["aa/square"]["backward"] == 0
    total = sum(v["images"] * v["forward"] for v in parts.values())
    first = parts["aa/apgd_ce"]["images"]
    assert report.passes["aa"]["forward"] == pytest.approx(total / first, rel=1e-3)


def test_a_function_around_a_network_is_counted_and_nothing_is_left(net, digits):
    plain = look(lambda x: net(x), digits, "pgd(steps=3)")
    assert plain.passes["pgd3"]["forward"] == 3
    look(net, digits)
    assert not net._forward_hooks
    with pytest.raises(RuntimeError, match="lost"), watching(net, Meter()):
        assert net._forward_hooks
        raise RuntimeError("lost")
    assert not net._forward_hooks


def test_a_judgement_goes_on_from_its_file(net, digits, tmp_path):
    path = tmp_path / "state.json"
    first = look(net, digits, resume=path)
    again = look(net, digits, resume=path)
    assert torch.equal(first.record.preds["pgd20"], again.record.preds["pgd20"])
    assert again.passes == {}  # nothing was run


# ---- the report


def test_a_report_begins_with_what_was_judged(net, digits):
    report = look(net, digits, source="digits, test", name="mine")
    lines = str(report).splitlines()
    assert lines[0].startswith("network  mine: SmallCNN(")
    assert lines[0].endswith("parameters")
    assert lines[1] == "data     digits, test: 60 images of 1x8x8, 10 classes"
    assert lines[2] == "ball     Linf(0.05)"
    assert lines[3].startswith("device   cpu, ")
    assert "1 thread, float32" in lines[3]
    name, accuracy, row = report.weakest
    assert f"weakest class: {name}, {100 * accuracy:.1f}% under {row}" in lines
    assert accuracy == report.per_class[row].min()


def test_a_report_is_drawn(net, digits):
    import matplotlib

    matplotlib.use("Agg")
    report = look(net, digits)
    axes = report.plot("pgd20")
    assert axes.get_xlabel() == "accuracy under pgd20"
    assert len(axes.get_yticks()) == 10
    assert report.plot().get_xlabel() == "accuracy under worst"


def test_a_report_is_kept(net, digits, tmp_path):
    report = look(net, digits, trust={"n": 20, "cost": 0.05})
    report.save(tmp_path / "a.json")
    kept = Report.load(tmp_path / "a.json")
    assert str(kept) == str(report)
    assert kept._repr_html_() == report._repr_html_()
    assert torch.equal(kept.record.y, report.record.y)
    assert kept.passes == report.passes
    assert str(read(tmp_path / "a.json")) == str(report)


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda d: {**d, "schema": 99}, "schema 99"),
        (lambda d: {**d, "kind": "else"}, "no report"),
        (lambda d: {**d, "record": {}}, "no whole report"),
        (lambda d: {k: v for k, v in d.items() if k != "ball"}, "no whole report"),
        (lambda d: [1], "no report"),
    ],
)
def test_a_damaged_report_is_refused(net, digits, tmp_path, change, word):
    path = tmp_path / "a.json"
    look(net, digits).save(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=word):
        Report.load(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="no report"):
        Report.load(path)
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "none.json")


def report_with(notes=(), flags=(), card=True):
    "A report whose gates and notes say what a test wants"
    y = torch.tensor([0, 1])
    record = Record(y, {"clean": y, "aa": y}, ("a", "b"), {"notes": [*notes]})
    checks = tuple(check(k, 99.0) for k in flags) or (check("G1 float32", 0.0),)
    trusted = Card(checks, {"PGD": 1.0, "everything": 0.5}, [], 2, "PGD", {"ball": "Linf(0.1)"})
    return Report(record, "Linf(0.1)", "net", "data", "cpu", 1, {}, trusted if card else None)


MASKED = "masked: Square, without gradients, takes accuracy from 40.00% to 30.00%."


def test_masked_and_no_flag_never_stand_together():
    for card in (True, False):
        report = report_with([MASKED], card=card)
        assert report.flags == ["masked"]
        assert report.verdict.startswith("flagged by masked")
        for shown in (str(report), report._repr_html_()):
            assert MASKED.split(",")[0] in shown
            assert "no flag" not in shown
    both = report_with([MASKED], ["G2 order"])
    assert both.flags == ["G2", "masked"]


def test_the_verdict_comes_from_one_place():
    clear = report_with()
    assert clear.verdict == (
        "no flag: 50.0% [9.5, 90.5] of 2 images stand under the gates' attacks too, "
        "100.0% of 2 under the attacks that were named."
    )
    assert str(clear).count("no flag") == 1
    flagged = report_with(flags=["G2 order"])
    assert flagged.flags == ["G2"]
    assert "no flag" not in str(flagged)
    assert str(flagged).count("verdict:") == 1
    assert "not asked" in report_with(card=False).verdict
    few = report_with(["few classes: DLR needs 3 classes"])  # said, but no doubt
    assert few.flags == []
    assert "few classes" in str(few)


# ---- reading


def test_reading_loads_no_trainer():
    code = (
        "import sys; from spat_nb.studies.reading import read; "
        f"t = read({str(RESULTS / 'spat' / 'laptop')!r}); t.table(); t.frame(); "
        "bad = [m for m in sys.modules if m.startswith('spat_nb.') and m.split('.')[-1] in "
        "('learner', 'objectives', 'study', 'job', 'fit', 'run', 'runner')]; print(bad)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WAS = json.loads((Path(__file__).parent / "tables.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WAS)
def test_tables_are_those_of_the_study(name, monkeypatch):
    """As they were before there was one reading half: tests/tables.json is what the other one gave.
    Rows, seeds and studies that are newer stand beside them
    """
    monkeypatch.setenv("SPAT_NB_RESULTS", str(RESULTS))
    was = WAS[name]
    found = results_of(name)
    results = Results(tuple(d for d in found.runs if d["seed"] < 5), found.place, found.order)
    table = results.table().loc[was["table"]["index"]]
    assert json.loads(table.to_json(orient="split")) == was["table"]
    assert [*results.compare(*results.arms[:2])] == pytest.approx(was["compare"], rel=1e-12)
    rows = {(r.arm, r.seed, r.attack): r for r in results.frame().itertuples()}
    for arm, seed, attack, *told in was["frame"]:
        r = rows[arm, seed, attack]
        now = [r.n, r.accuracy, r.lo, r.hi, r.weakest_class, r.weakest, r.flags, r.seconds]
        assert now == told, (arm, attack)


def test_claims_are_judged_from_files(monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(RESULTS))
    found = {claim: judged(claim) for claim in all_claims()}
    seen = [claim for claim, told in found.items() if told["seeds"]][:6]
    assert len(seen) == 6
    for claim in seen:
        assert read(RESULTS / claim.study / "laptop").judged(claim) == found[claim]


def test_several_sizes_and_what_is_not_there(tmp_path):
    folder = RESULTS / "sparta" / "laptop"
    file = next(folder.glob("*.json"))
    one = json.loads(file.read_text())
    for size in ("laptop", "mini"):
        (tmp_path / size).mkdir()
        (tmp_path / size / file.name).write_text(json.dumps({**one, "size": size}))
    results = read(tmp_path)
    assert results.sizes == ["laptop", "mini"]
    assert [*results.table().index.get_level_values("size")] == ["laptop", "mini"]
    assert results.at("mini").sizes == ["mini"]
    with pytest.raises(ValueError, match="laptop, mini"):
        results.compare("a", "b")
    with pytest.raises(ValueError, match="'paper'"):
        results.at("paper")
    (tmp_path / "mini" / file.name).write_text("{")
    with pytest.raises(ValueError, match="no whole result"):
        read(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no results"):
        read(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(ValueError, match="text file"):
        read(tmp_path / "x.txt")
    with pytest.raises(ValueError, match="damaged"):
        unpacked("AAAA", 60)


def test_a_training_is_read_with_its_judgement(tmp_path, digits):
    run = train(Recipe(epochs=1, n=60, model="SmallCNN(width=2)"), tmp_path, quiet=True)
    training = read(tmp_path)
    assert training.recipe == run.recipe.as_dict()
    assert [*training.frame().robust] == [r["robust"] for r in run.history]
    report = run.judge("fgsm", progress=False)
    report.save(tmp_path / "report.json")
    assert [*read(tmp_path).table().index] == ["clean", "fgsm"]
    assert str(read(tmp_path / "report.json")) == str(report)
    report.record.save(tmp_path / "record.json")
    assert read(tmp_path / "record.json").accuracy("fgsm") == report.record.accuracy("fgsm")
    (tmp_path / "result.json").write_text('{"kind": "run"}')
    with pytest.raises(ValueError, match="no whole result"):
        read(tmp_path)


def test_a_function_that_says_no_ball_is_held_to_the_one_that_is_judged():
    "It steps three times as far as it may; nobody told `evaluate` where it must stay"

    def far(ball):
        def attack(model, x, y):
            return (x + 3 * ball.eps).clamp(0, 1)

        return attack

    data = get_data("digits", device="cpu").test.subset(20)
    with pytest.raises(ValueError, match="left its ball"):
        judge(zoo.load("digits/pgd_at/w16", "cpu"), data, Linf(0.1), {"far": far})
