"""The lowest number leads the card; a flag leads to an attack that breaks what hid"""

import copy
import json
from functools import cache

import pytest
import torch
from torch import nn

from spat_nb import (
    Card,
    Linf,
    Report,
    evaluate,
    fgsm,
    follow_up,
    forgetful,
    get_data,
    judge,
    pgd,
    trust,
    uncut,
    zoo,
)
from spat_nb.core.bars import interval
from spat_nb.measure import adaptive
from spat_nb.measure.calls import CALLS, SIMPLEST
from spat_nb.measure.faults import Dice, Searcher, Times
from spat_nb.measure.faulty_gradients import Grid, Reversed, Rounded, Straight
from spat_nb.measure.faulty_memory import Cache, Stored
from spat_nb.measure.followup import Fall, FollowUp
from spat_nb.measure.ground import stood_before
from spat_nb.measure.intervals import wilson
from spat_nb.measure.journal import marks_of
from spat_nb.measure.rules import RULES
from spat_nb.measure.standins import inner_networks

BALL = Linf(0.15)


@cache
def some(n=48):
    return get_data("digits", device="cpu").test.subset(n)


@cache
def net():
    return zoo.load("digits/standard/w16", "cpu").eval()


@cache
def card(fault=None, n=48):
    model = net() if fault is None else fault(copy.deepcopy(net()))
    return trust(model, some(n), BALL, cost=0.1, progress=False)


# ---- the lowest number


def test_the_card_leads_with_the_lowest_number_and_its_interval():
    c = card()
    share = c.accuracy["everything"]
    assert c.lowest == (share, *wilson(round(share * c.n), c.n))
    assert c.headline.startswith(f"no flag: {interval(*c.lowest)} under everything tried")
    inside = [v for k, v in c.accuracy.items() if k != "everything"]
    assert share <= min(inside)
    # images, not shares: the union is what nothing broke
    assert round(share * c.n) == int(c.ground.lowest.sum())


def test_a_judged_number_above_the_lowest_is_flagged():
    weak = evaluate(net(), some(), progress=False, fgsm=fgsm(Linf(0.02)))
    c = trust(net(), some(), BALL, cost=0.1, judged=weak, progress=False)
    assert c.claim == "judged" and c.accuracy["judged"] == weak.accuracy("fgsm")
    assert c["G9 claim"].verdict == "flag" and "as judged" in c.headline
    lost = round((c.accuracy["judged"] - c.accuracy["everything"]) * c.n)
    assert c["G9 claim"].figure == pytest.approx(100 * lost / c.n)
    strong = evaluate(net(), some(), progress=False, pgd=pgd(BALL, 40, restarts=3))
    assert trust(net(), some(), BALL, cost=0.1, judged=strong, progress=False).flags == []


class Trapdoor(nn.Module):
    "Wrong where the first pixel has one value, which no search would try"

    def forward(self, x):
        z = net()(x)
        return torch.where((x[:, 0, :1, 0] - 0.0077).abs() < 1e-6, -z, z)


def knows_it(model, x, y):
    x = x.clone()
    x[:, 0, 0, 0] = torch.where(x[:, 0, 0, 0] < 0.01, 0.0077, x[:, 0, 0, 0])
    return x


def test_what_the_report_broke_counts_too():
    "An image is robust only where neither an attack of the card nor one of the report broke it"
    attacks = {"knows": knows_it}
    report = judge(Trapdoor(), some(24), Linf(0.01), attacks, {"cost": 0.1}, progress=False)
    c = report.card
    assert c.accuracy["judged"] < 0.2 < 0.8 < c.accuracy["+ APGD-T"]
    assert c.accuracy["everything"] <= c.accuracy["judged"] and c.claim == "judged"
    assert report.verdict.split(": ")[1].startswith(interval(*c.lowest))


def test_images_are_found_by_their_pixels_in_any_order():
    x, y = some(24).tensors()
    r = evaluate(net(), (x, y), progress=False, pgd=pgd(BALL, 5))
    turn = torch.randperm(24)
    assert torch.equal(stood_before(r, x[turn]), r.correct("pgd")[turn])
    assert stood_before(r, x + 1e-3) is None
    assert stood_before(evaluate(net(), (x, y), progress=False), x) is None
    assert len(set(marks_of(x))) == 24


def test_an_old_card_is_read_and_keeps_its_numbers(tmp_path):
    c = card()
    c.save(tmp_path / "card.json")
    old = json.loads((tmp_path / "card.json").read_text())
    assert "ground" not in old
    old["checks"] = [k for k in old["checks"] if k["name"] != "G9 claim"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    back = Card.load(tmp_path / "old.json")
    assert back.accuracy == c.accuracy and back.flags == c.flags and back.headline == c.headline
    with pytest.raises(ValueError, match="read from a file"):
        follow_up(back)


# ---- stand-ins


@pytest.mark.parametrize("fault", [Rounded, Straight, Grid, Searcher, Reversed, Times])
def test_uncut_changes_no_answer_and_brings_a_gradient_back(fault):
    model = fault(copy.deepcopy(net())).eval()
    x, y = some(16).tensors()
    for on in (True, False):
        with torch.set_grad_enabled(on):
            assert torch.allclose(uncut(model)(x), model(x), atol=1e-4)
    plain = pgd(BALL, 20, best=True)(uncut(model), x, y)
    with torch.no_grad():
        z = model(plain)
    assert fault is Times or (z.argmax(1) == y).sum() < (model(x).argmax(1) == y).sum()


def test_uncut_is_the_identity_where_the_paper_says_so():
    x = torch.tensor([[0.2, 0.7]], requires_grad=True)

    class Steps(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                cut = 3 * x
            return (2 * x).round() + (4 * x).floor() + cut + 5 * x.detach() + x.data

    out = uncut(Steps())(x)
    assert torch.equal(out, Steps()(x))
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == [[15.0, 15.0]]
    assert torch.is_grad_enabled()


def test_a_search_is_unrolled():
    "f(x - f'(x)) with f = x^2/2 * 3: the true derivative has the second order in it"
    x = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)

    class Inside(nn.Module):
        def forward(self, x):
            with torch.enable_grad():
                v = x.detach().requires_grad_()
                g = torch.autograd.grad((1.5 * v**2).sum(), v)[0]
            return (x - 0.1 * g) ** 2

    g = torch.autograd.grad(uncut(Inside())(x).sum(), x)[0]
    assert g.item() == pytest.approx(2 * 0.7 * 0.5 * 0.7)


def test_a_network_within_is_found():
    x, _ = some(24).tensors()
    assert inner_networks(Rounded(copy.deepcopy(net())), x) == ["model"]
    assert inner_networks(lambda v: net()(v), x) == []


def test_memory_is_found_and_emptied_and_other_models_have_none():
    x, y = some(24).tensors()
    assert forgetful(net(), x) is None and forgetful(lambda v: net()(v), x) is None
    for model in (Cache(copy.deepcopy(net())), Stored(copy.deepcopy(net()), x, y)):
        model.eval()
        model(x)
        moved = x.flip(0).lerp(x, 0.9)  # near what it knows
        fresh = forgetful(model, x)
        assert torch.allclose(fresh(moved), net()(moved), atol=1e-5)
        assert not torch.allclose(model(moved), net()(moved), atol=1e-5)
    assert len(model.seen) == 24 and (model.seen < 2).all()  # the model itself forgot nothing


# ---- flags lead to attacks


def test_every_flag_that_an_attack_can_answer_has_one():
    silent = {"G10 both", "G10 chosen", "G11 seeds"}
    assert set(CALLS) | silent == set(RULES)
    assert {k for ks in CALLS.values() for k in ks} <= {*adaptive.__all__}


@pytest.mark.parametrize("fault", [Times, Reversed, Cache], ids=lambda f: f.__name__)
def test_a_masked_network_falls_to_its_honest_twin(fault):
    c = card(fault)
    found = follow_up(c, progress=False)
    twin = card().accuracy["everything"]
    assert c.accuracy[c.claim] > 0.5
    assert found.after <= twin + 0.02 and found.claimed == c.accuracy[c.claim]
    assert found.best.stand <= 0.2 and found.best.lo > 30
    assert found.after <= found.before and all(f.hi >= f.points for f in found.falls)
    assert found.best.cell in repr(found)


def test_a_stored_test_set_is_taken_away():
    x, y = some(48).tensors()
    c = trust(Stored(copy.deepcopy(net()), x, y), (x, y), BALL, cost=0.1, progress=False)
    assert c.accuracy["everything"] == 1.0
    assert follow_up(c, ["no_memory"], progress=False).after < 0.2


def test_an_honest_network_is_not_lowered_beyond_chance():
    found = follow_up(card(), ["other_losses", "more_starts", "through_the_cut"], progress=False)
    assert found.lowered[1] <= 0
    asked = follow_up(card(), progress=False)
    assert asked.falls == () and "no flag calls" in asked.headline
    assert asked.after == card().accuracy["everything"]


def test_of_equals_the_simplest_is_printed():
    def fall(attack, stand):
        return Fall(attack, (), "", stand, 0.0, 0.0, 0.0, 0, "")

    hard, easy = fall("taught_gradient", 0.5), fall("other_losses", 0.5)
    assert FollowUp((hard, easy), "", 1.0, 1.0, 0.5, 10, (0.0,) * 3).best is easy
    less = fall("no_memory", 0.4)
    assert FollowUp((easy, less), "", 1.0, 1.0, 0.4, 10, (0.0,) * 3).best is less
    assert {*SIMPLEST} == {*adaptive.__all__} - {"as_cell", "thorough"}


def test_what_cannot_run_says_so():
    found = follow_up(card(), ["inner_gradient"], progress=False)
    assert "could not be run" in found.lines()[0] and found.best is None
    assert found.after == found.before
    with pytest.raises(ValueError, match="no attack is called 'magic'"):
        follow_up(card(), ["magic"])


NUMBERS = {
    "other_losses": {"steps": 4},
    "more_starts": {"steps": 4, "starts": 2},
    "average_answers": {"steps": 3, "eot": 2},
    "through_the_cut": {"steps": 4},
    "inner_gradient": {"steps": 4, "inner": "model"},
    "taught_gradient": {"steps": 4},
    "mean_gradient": {"steps": 3, "draws": 2},
    "without_gradients": {"queries": 100},
    "no_memory": {"steps": 4},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_printed_cell_runs_and_is_the_attack(name):
    recipe, model = getattr(adaptive, name), Rounded(copy.deepcopy(net())).eval()
    cell = adaptive.as_cell(recipe, BALL, **NUMBERS[name])
    assert len(cell.splitlines()) <= 20
    assert max(map(len, cell.splitlines())) <= 100
    world: dict = {}
    exec(cell, world)  # as a reader would
    x, y = some(8).tensors()
    ends = []
    for attack in (world["attack"], lambda *a: recipe(*a, ball=BALL, **NUMBERS[name])):
        torch.manual_seed(0)
        ends.append(attack(model, x.clone(), y.clone()))
    assert torch.equal(*ends) and bool(BALL.inside(ends[0], x).all())


def test_dice_are_averaged():
    found = follow_up(card(Dice), ["average_answers"], progress=False)
    assert found.falls[0].stand < card(Dice).accuracy["clean"] / 2


# ---- in a report


def test_a_report_keeps_its_follow_up(tmp_path):
    report = judge(
        Times(copy.deepcopy(net())),
        some(24),
        BALL,
        "pgd(steps=5)",
        trust={"cost": 0.1},
        follow=True,
        progress=False,
    )
    assert isinstance(report.follow, FollowUp) and report.follow.falls
    assert report.follow.headline in str(report) and report.follow.best.cell in str(report)
    report.save(tmp_path / "report.json")
    back = Report.load(tmp_path / "report.json")
    assert back.follow.headline == report.follow.headline
    assert back.follow.cells() == report.follow.cells()
    values = json.loads((tmp_path / "report.json").read_text())
    del values["follow_up"]
    (tmp_path / "old.json").write_text(json.dumps(values))
    assert Report.load(tmp_path / "old.json").follow is None


def test_the_command_line_follows_up(tmp_path, monkeypatch, capsys):
    from spat_nb.app.cli import main
    from spat_nb.measure import judge as room

    monkeypatch.setattr(room, "trust_card", lambda *a, **kw: card(Times, 48))
    (tmp_path / "mine.py").write_text(
        "from spat_nb import zoo\n"
        "from spat_nb.measure.faults import Times\n"
        "def net():\n"
        "    return Times(zoo.load('digits/standard/w16', 'cpu'))\n"
    )
    words = f"{tmp_path}/mine.py:net --data digits --ball Linf(.15) --n-test 12 --attacks fgsm"
    line = ["evaluate", *words.split(), "--device", "cpu", "--follow"]
    assert main([*line, "--report", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "attack = partial(" in said and "points below the claim" in said
    page = (tmp_path / "out/report.html").read_text()
    assert "What the flags led to" in page and "lowest number found" in page
