"""An interval that may be looked at after every value, and judgements that stop by it"""

import itertools

import numpy as np
import pytest
import torch

from spat_nb.app import zoo
from spat_nb.attacks.balls import Linf
from spat_nb.data.sources import get_data
from spat_nb.measure.anytime import Anytime
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.judge import judge
from spat_nb.measure.report import Report
from spat_nb.measure.stopping import joined

STREAMS = 2000


def many(truth, values, total, **kw):
    "The game of many streams at once, against the true claim alone; True: it was refuted once"
    game = Anytime(total, **kw)
    game._claims = np.full(STREAMS, truth)
    game.logs = np.zeros((*game.logs.shape[:2], STREAMS))
    game._possible = np.ones(STREAMS, dtype=bool)
    game.sum, game._spread = np.zeros(STREAMS), np.zeros(STREAMS)
    refuted = np.zeros(STREAMS, dtype=bool)
    for column in values.T:
        game._bet(column)
        refuted |= (game.capital() >= np.log(20)) | ~game._possible
    return refuted.mean()


TRUTHS = (0.0, 0.02, 0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 0.96, 1.0)
# three standard deviations above 5%: a method that keeps its promise fails once in a thousand
MOST = 0.05 + 3 * (0.05 * 0.95 / STREAMS) ** 0.5


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("total", [500, None])
def test_it_covers_whenever_one_looks(truth, total):
    "A look after each of 500 values, in 2,000 streams"
    g = np.random.default_rng(int(100 * truth))
    if total is None:
        values = (g.random((STREAMS, 500)) < truth).astype(float)
    else:
        one = (np.arange(500) < round(500 * truth)).astype(float)
        values = g.permuted(np.tile(one, (STREAMS, 1)), axis=1)
    assert many(truth, values, total, width=0.05) <= MOST


@pytest.mark.parametrize("truth", (-0.6, -0.1, 0.0, 0.3))
def test_differences_are_covered_too(truth):
    g = np.random.default_rng(7)
    up = (1 + truth) / 2 * 0.8
    chances = [0.8 - up, 0.2, up]  # of -1, 0, 1
    values = g.choice([-1.0, 0.0, 1.0], (STREAMS, 400), p=chances)
    mean = chances[2] - chances[0]
    assert many(mean, values, None, width=0.1, low=-1, high=1) <= MOST


def test_the_game_is_fair_for_every_claim():
    "All ways to draw four of three right and two wrong images: on average the capital stays at 1"
    rows = {*itertools.permutations((1, 1, 1, 0)), *itertools.permutations((1, 1, 0, 0))}
    assert len(rows) == 10  # each is as likely as any other
    ends = np.exp([Anytime(total=5).add(x).logs[..., 2400] for x in rows])  # the claim is 0.6
    assert np.allclose(ends.mean(0), 1, atol=1e-12)


def test_a_sorted_stream_is_no_random_one():
    "It refutes the truth, as it must: nobody may choose the order by the answers"
    values = np.r_[np.ones(300), np.zeros(300)]
    low, _ = Anytime(total=600, width=0.05).add(values[:300]).interval()
    assert low > 0.5


def test_it_narrows_and_ends_in_a_point():
    g = np.random.default_rng(1)
    values = g.permutation((np.arange(1000) < 270).astype(float))
    game, widths = Anytime(total=1000), []
    for part in np.split(values, 10):
        low, high = game.add(part).interval()
        assert low <= game.mean <= high
        widths.append(high - low)
    assert widths[-1] == 0 and game.mean == 0.27 and widths[8] < widths[4] < widths[0]


def test_values_one_by_one_or_together():
    values = [1, 0, 0, 1, 1]
    one = Anytime(total=9)
    for v in values:
        one.add([v])
    assert np.array_equal(one.logs, Anytime(total=9).add(values).logs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Anytime(level=1), "level is 1"),
        (lambda: Anytime(width=0), "width is 0"),
        (lambda: Anytime(total=0), "total is 0"),
        (lambda: Anytime().add([2]), "a value is 2"),
        (lambda: Anytime(total=1).add([1, 1]), "1 values in all"),
    ],
)
def test_bad_input_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---- a judgement that stops

BALL = Linf(0.15)


@pytest.fixture(scope="module")
def given():
    return zoo.load("digits/pgd_at/w16", "cpu"), get_data(
        "digits", device="cpu", batch_size=40
    ).test


def run(given, data=None, **kw):
    net, test = given
    attacks = kw.pop("attacks", "fgsm")
    return judge(net, test if data is None else data, BALL, attacks, progress=False, **kw)


def test_it_stops_when_it_is_close_enough(given):
    report = run(given, within=0.1)
    stopped = report.stopped
    assert stopped.why == "close enough" and stopped.images == len(report.record.y) < 360
    assert stopped.high - stopped.accuracy <= 0.1 and stopped.accuracy - stopped.low <= 0.1
    assert stopped.accuracy == report.record.accuracy("fgsm")
    assert str(stopped) in repr(report)
    whole = run(given).record.accuracy("fgsm")
    assert stopped.low <= whole <= stopped.high  # these images, this seed: a fixed set of answers


def test_an_order_by_seed(given):
    a, b, c = (run(given, within=0.1, seed=s).record for s in (0, 0, 1))
    assert torch.equal(a.y, b.y) and torch.equal(a.preds["fgsm"], b.preds["fgsm"])
    assert not torch.equal(a.y[:40], c.y[:40])


def test_all_images_give_the_answers_of_one_run(given):
    "fgsm draws nothing, so the order changes no answer"
    report = run(given, within=0.0001)
    whole = run(given).record
    assert report.stopped.why == "all images" and report.stopped.low == report.stopped.high
    for name in ("clean", "fgsm"):
        assert report.record.correct(name).sum() == whole.correct(name).sum()
    order = report.record.marks.argsort()
    assert torch.equal(report.record.marks[order], whole.marks.sort().values)
    told = report.record.correct("fgsm")[order]
    assert torch.equal(told, whole.correct("fgsm")[whole.marks.argsort()])


def test_a_budget_stops_after_a_batch(given):
    report = run(given, budget=1e-9)
    assert report.stopped.why == "time is up" and report.stopped.images == 40
    assert report.stopped.total == 360 and "40 of 360" in str(report.stopped)


def test_it_is_saved_and_read(given, tmp_path):
    report = run(given, budget=1e-9)
    report.save(tmp_path / "a.json")
    again = Report.load(tmp_path / "a.json")
    assert again.stopped == report.stopped and again.stopped is not None
    run(given).save(tmp_path / "b.json")
    assert Report.load(tmp_path / "b.json").stopped is None


def test_a_killed_one_goes_on(given, tmp_path):
    kept = tmp_path / "kept.safetensors"
    first = run(given, within=0.1, resume=kept)
    parts = sorted(p.name for p in tmp_path.iterdir())
    assert parts[0] == "kept.0.safetensors" and len(parts) >= 2
    again = run(given, within=0.1, resume=kept)
    assert torch.equal(first.record.preds["fgsm"], again.record.preds["fgsm"])
    assert again.passes == {}  # nothing was attacked again


def test_a_part_that_was_done_is_not_done_again(given, tmp_path):
    "Stopped after a batch, then asked for more: the first batch comes from its file"
    kept = tmp_path / "kept.safetensors"
    assert run(given, budget=1e-9, resume=kept).stopped.images == 40
    assert [p.name for p in tmp_path.iterdir()] == ["kept.0.safetensors"]
    on, fresh = run(given, within=0.1, resume=kept), run(given, within=0.1)
    assert torch.equal(on.record.preds["fgsm"], fresh.record.preds["fgsm"])
    assert on.stopped == fresh.stopped
    done, anew = on.passes["fgsm"]["images"], fresh.passes["fgsm"]["images"]
    first = int(run(given, budget=1e-9).record.correct().sum())  # wrong images are not attacked
    assert done == anew - first


def test_tensors_and_what_has_no_random_order(given):
    net, test = given
    x, y = test.tensors()
    assert run(given, (x, y), budget=1e-9).stopped.images == 128
    with pytest.raises(TypeError, match="no random part"):
        run(given, [(x, y)], within=0.1)


def test_records_are_joined_in_order(given):
    net, test = given
    x, y = test.tensors()
    parts = [evaluate(net, (x[i : i + 90], y[i : i + 90]), progress=False) for i in (0, 90)]
    one, whole = joined(parts), evaluate(net, (x[:180], y[:180]), progress=False)
    assert torch.equal(one.y, whole.y) and torch.equal(one.preds["clean"], whole.preds["clean"])
    assert one.info["identity"]["images"] == whole.info["identity"]["images"]


def test_the_worst_cases_are_those_that_were_judged(given):
    "The rows of a report that stopped count the images in their random order"
    from spat_nb.measure.cases import worst_cases

    net, test = given
    report = run(given, budget=1e-9, attacks="pgd(steps=3)")
    found = worst_cases(net, test, report)
    assert found.shown and "another order" not in found.told
    assert all(case.row < report.stopped.images for case in found.shown)
