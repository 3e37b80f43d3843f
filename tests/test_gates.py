"""The gates of a trust card one by one: each fires on its planted fault and is silent on honest
networks; then the card itself
"""

import copy
import functools
import math
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from asserting import assert_close, assert_eq, assert_fails

from spat_nb import (
    L2,
    Learner,
    Linf,
    SmallCNN,
    ce,
    eval_mode,
    evaluate,
    fgsm,
    get_data,
    margin,
    pgd,
    square,
    standard,
    trust,
    wilson,
    zoo,
)
from spat_nb.core.rng import generator
from spat_nb.measure.checks import check, gap
from spat_nb.measure.faults import Awake, Decoy, Dice, Searcher, Softmax, Times
from spat_nb.measure.faulty_attacks import around_start, as_the_net_sees, rescaled, rude
from spat_nb.measure.faulty_gradients import (
    Gate,
    Grid,
    Lottery,
    Pitted,
    Reversed,
    Rounded,
    Straight,
    detached,
)
from spat_nb.measure.gate_effort import (
    effort_pays,
    falls_to_chance,
    loss_converges,
    starts_agree,
)
from spat_nb.measure.gate_gradients import (
    gradient_error,
    gradients_are_true,
    knowledge_over_confidence,
    losses_agree,
)
from spat_nb.measure.gate_rules import rules_kept
from spat_nb.measure.gate_runs import checkpoints_shown, seeds_shown
from spat_nb.measure.gate_strength import distil, stronger_attacks, without_gradients
from spat_nb.measure.rules import RULES
from spat_nb.measure.trial import Trial

ball = Linf(0.15)


@functools.cache
def world():
    data = get_data("digits", device="cpu", batch_size=64)
    honest = {k: zoo.load(f"digits/{k}/w16", "cpu") for k in ("standard", "pgd_at", "trades")}
    test = data.test.subset(96)
    x, y = test.tensors()
    return SimpleNamespace(
        data=data,
        honest=honest,
        net=honest["standard"],
        colleague=Times(honest["standard"], 256.0),
        pitted=Pitted(honest["standard"]),
        rounded=Rounded(honest["standard"]),
        test=test,
        x=x,
        y=y,
        some=data.test.subset(64).tensors(),
    )


def flags(gate, model, attack=None, ball=ball, cost=0.2, **given):
    "Names of the checks of one gate that flag"
    with eval_mode(model):
        return [
            c.name
            for c in gate(Trial(model, *world().some, ball, attack, cost, **given))
            if c.verdict == "flag"
        ]


def fresh():
    return copy.deepcopy(world().net)


def test_the_colleague_changes_no_answer_and_fools_pgd():
    w = world()
    net = w.net
    colleague = w.colleague
    test = w.test
    x = w.x
    assert torch.equal(colleague(x), 256 * net(x))
    assert torch.equal(colleague(x).argmax(1), net(x).argmax(1))
    r = evaluate(colleague, test, progress=False, pgd20=pgd(ball, 20))
    assert r.accuracy("pgd20") > 0.8


def test_other_kinds_of_attack_notice_and_more_effort_does_not():
    w = world()
    colleague = w.colleague
    test = w.test
    x_adv = dict(
        steps=pgd(ball, 60),
        restarts=pgd(ball, 20, restarts=3),
        **{"other loss": pgd(ball, 20, loss=margin)},
    )
    x_adv["no gradients"] = square(ball, queries=300)
    r = evaluate(colleague, test, progress=False, **x_adv)
    assert_eq([k for k in r.attacks if r.accuracy(k) < 0.7], ["other loss", "no gradients"])


def test_the_gap_is_the_formula_and_symmetric():
    world()
    d, lo, hi = gap(9, 4, 200)
    assert lo < 0 < d < hi
    # the mirror
    assert_close(gap(4, 9, 200), [-d, -hi, -lo], eps=1e-12)
    # the formula with half an image more in each cell
    z, b, c, n = 2.5758293, 9.5, 4.5, 202
    assert_close(
        gap(9, 4, 200)[1], (b - c) / n - z * math.sqrt(b + c - (b - c) ** 2 / n) / n, eps=1e-8
    )
    # no difference seen, some possible
    assert 0 < gap(0, 0, 200)[2] < 0.02 and gap(0, 0, 200)[1] < 0
    # a gross gap shows in any sample
    assert gap(90, 0, 100)[1] > 0.75
    assert_fails(lambda: gap(3, 2, 4), contains="3 and 2 of 4")


def alarms(p_lost, p_won, n, times=10_000):
    "How often luck alone lifts the lower end above the true gap"
    p = torch.tensor([p_lost, p_won, 1 - p_lost - p_won])
    k = torch.distributions.Multinomial(n, p).sample((times,)).long()
    pairs, count = k[:, :2].unique(dim=0, return_counts=True)
    return (
        sum(
            m
            for (b, c), m in zip(pairs.tolist(), count.tolist())
            if gap(b, c, n)[1] > p_lost - p_won
        )
        / times
    )


def test_luck_raises_an_alarm_once_in_two_hundred():
    world()
    torch.manual_seed(0)
    rates = {
        (b, c, n): alarms(b, c, n)
        for n in (100, 256)
        for b, c in ((0.03, 0.0), (0.05, 0.02), (0.03, 0.03))
    }
    assert max(rates.values()) < 0.007


def test_how_fine_a_gate_is():
    world()
    sees = {
        n: next(k for k in range(n) if gap(k, 0, n)[1] > 0.05) / n for n in (32, 128, 256, 1000)
    }
    assert sees[32] < 0.3 and sees[256] < 0.11 and sees[1000] < 0.075


def test_verdicts_and_rules():
    world()
    assert_eq(
        [
            check("G9 stronger", f, lo).verdict
            for f, lo in ((None, None), (2.0, -1.0), (7.0, 2.0), (12.0, 6.0), (math.nan, math.nan))
        ],
        ["not asked", "pass", "unclear", "flag", "flag"],
    )
    assert_eq(check("G7 zero", 0).verdict, "pass")
    assert_eq(check("G7 zero", 0.4).verdict, "flag")
    assert_eq(check("G9 stronger", 4.0, 3.5, limit=3).verdict, "flag")
    assert_eq(check("G9 stronger").gate, "G9")
    assert all(
        r.asks and r.means.endswith(".") and r.then.endswith(".") and r.limit >= 0
        for r in RULES.values()
    )
    # none is missing
    assert_eq(list(dict.fromkeys(k.split()[0] for k in RULES)), [f"G{i}" for i in range(1, 12)])


def test_the_book_keeping_of_a_trial():
    w = world()
    net = w.net
    x = w.x
    y = w.y
    t = Trial(net, x, y, ball)
    assert_eq((t.n, len(t.x)), (96, (net(x).argmax(1) == y).sum().item()))
    assert t.run("idle", lambda m, x, y: x).all() and t.gap("clean", "idle")[0] == 0
    # put back: every pixel .15 brighter
    far = t.run("far", lambda m, x, y: x + 5.0)
    assert torch.equal(far, net((t.x + 0.15).clamp(0, 1)).argmax(1) == t.y)
    ten = torch.arange(len(t.x)) < 10
    # those that were not attacked had fallen before
    rest = t.run("rest", lambda m, x, y: x, on=ten)
    assert_eq(rest.sum().item(), 10)
    assert_close(t.gap("clean", "rest")[0], 100 * (len(t.x) - 10) / 96)
    cut = Trial(lambda x: net(x.detach()), x, y, ball)
    assert cut.run("blind", pgd(ball)).all()
    assert_eq(cut.notes, {"blind": "no gradient flows"})
    # the same numbers again
    assert torch.equal(Trial(net, x, y, ball).run("a", pgd(ball)), t.run("a", pgd(ball)))
    assert_fails(lambda: Trial(net, x, y + 5, ball), contains="y holds label")
    assert_fails(lambda: Trial(lambda x: net(x) * math.nan, x, y, ball), contains="NaN")


def test_rules_of_the_model():
    w = world()
    honest = w.honest
    net = w.net
    x = w.x
    assert_close(Softmax(net)(x).sum(1), torch.ones(96), eps=1e-5)
    assert not torch.equal(Dice(net)(x), Dice(net)(x))
    for model in honest.values():
        assert_eq(flags(rules_kept, model), [])
    assert_eq(flags(rules_kept, Softmax(net)), ["G1 logits"])
    assert_eq(flags(rules_kept, Dice(net)), ["G1 repeats", "G1 alone"])
    assert_eq(flags(rules_kept, Awake(fresh())), ["G1 alone", "G1 mode"])
    assert_eq(flags(rules_kept, Searcher(net)), ["G1 search"])
    assert "G1 float32" in flags(rules_kept, fresh().half())
    # any callable will do
    assert_eq(flags(rules_kept, lambda x: net(x)), [])


def test_rules_of_the_attack():
    w = world()
    net = w.net
    faulty = {
        partial(around_start, ball=ball): ["G1 ball"],
        partial(rescaled, ball=ball): ["G1 ball"],
        partial(rescaled, ball=ball, factor=0.376): ["G1 reach"],
        partial(as_the_net_sees, ball=ball): ["G1 ball", "G1 box"],
    }
    for attack, want in faulty.items():
        assert_eq(flags(rules_kept, net, attack), want)
    mine = fresh()
    assert_eq(flags(rules_kept, mine, partial(rude, ball=ball)), ["G1 manners"])
    # honest ones
    for attack in (
        pgd(ball, 10),
        fgsm(ball),
        pgd(ball, 10, best=True, restarts=2),
        square(ball, queries=50),
        lambda m, x, y: x,
    ):
        assert_eq(flags(rules_kept, net, attack), [])
    assert_fails(
        lambda: flags(rules_kept, net, lambda m, x, y: x[:1]), contains="returned shape (1,"
    )


def test_effort():
    w = world()
    honest = w.honest
    net = w.net
    pitted = w.pitted
    x = w.x
    grid, lottery = Grid(net), Lottery(net)
    # not one answer differs
    for model in (Reversed(net), grid, lottery):
        assert torch.equal(model(x), net(x))
    for model in honest.values():
        assert_eq(
            [f for g in (effort_pays, loss_converges, starts_agree) for f in flags(g, model)], []
        )
    assert_eq(flags(loss_converges, Reversed(net)), ["G3 loss"])
    assert_eq(flags(effort_pays, grid), ["G2 order"])
    assert_eq(flags(starts_agree, lottery), ["G4 starts"])
    # four steps of .01 cannot cross .15
    weak = pgd(ball, 4, 0.01)
    assert flags(effort_pays, net, weak) == ["G2 order"] and "G3 doubling" in flags(
        loss_converges, net, weak
    )
    # see below
    assert_eq(
        [f for g in (effort_pays, loss_converges, starts_agree) for f in flags(g, pitted)], []
    )


def test_accuracy_falls_to_chance():
    w = world()
    honest = w.honest
    net = w.net
    colleague = w.colleague
    rounded = w.rounded
    x = w.x
    y = w.y
    some = w.some
    assert_eq(
        rounded.shades(torch.tensor([0.0, 0.2, 0.3, 0.7, 0.8, 1.0])),
        torch.tensor([0.0, 0.0, 0.5, 0.5, 1.0, 1.0]),
    )
    for model in honest.values():
        assert_eq(flags(falls_to_chance, model), [])
    for model in (colleague, rounded, Reversed(net)):
        assert "G5 grey" in flags(falls_to_chance, model)
    t = Trial(net, x, y, L2(1.0), cost=0.3)
    list(falls_to_chance(t))
    # in any norm
    assert_close(t.radii[-1], (t.x - 0.5).flatten(1).norm(dim=1).max())
    assert_eq(t.stands[f"eps {t.radii[-1]:.4g}"].sum(), 0)
    # as if nothing were found at twice the eps
    t = Trial(net, *some, ball, cost=0.2)
    t.stands["eps 0.3"] = t.stands["clean"]
    assert_eq([c.name for c in falls_to_chance(t) if c.verdict == "flag"], ["G5 falls"])


def test_gradients_are_there_and_true():
    w = world()
    data = w.data
    honest = w.honest
    net = w.net
    colleague = w.colleague
    pitted = w.pitted
    rounded = w.rounded
    x = w.x
    torch.manual_seed(0)
    gated = (
        Learner(
            SmallCNN(classes=10, channels=1, act=Gate),
            data.train,
            standard,
            None,
            3,
            lr=0.1,
            precision="float32",
        )
        .fit()
        .model.eval()
    )
    half_blind = detached(gated)
    assert torch.equal(gated(x), half_blind(x)) and not any(
        m.cut for m in gated.modules() if isinstance(m, Gate)
    )
    # the same answers as with the shades, and no others
    assert_close(Straight(net)(x), rounded(x), eps=1e-4)
    for model in (*honest.values(), gated):
        assert_eq(flags(gradients_are_true, model), [])
    assert_eq(flags(gradients_are_true, colleague), ["G7 zero"])
    assert_eq(flags(gradients_are_true, rounded), ["G7 zero"])
    assert_eq(flags(gradients_are_true, lambda x: net(x.detach())), ["G7 zero"])
    for model in (half_blind, Straight(net), Reversed(net)):
        assert_eq(flags(gradients_are_true, model), ["G7 true"])
    # a training loss without a slope
    assert_eq(flags(gradients_are_true, net, loss=lambda z, y: z[:, 0] * 0), ["G7 zero"])
    # the glass, again
    assert_eq(flags(gradients_are_true, pitted), [])


def test_forged_gradients_are_measured():
    w = world()
    x = w.x
    W = torch.randn(64, 3, generator=generator(0))

    def linear(x):
        return x.flatten(1) @ W

    class Forged(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return 1.5 * g

    def error(model):
        return gradient_error(Trial(model, x, linear(x).argmax(1), ball)).median().item()

    assert_close(error(linear), 0.0, eps=0.005)
    assert_close(error(lambda x: linear(Forged.apply(x))), 1 / 3, eps=0.005)


def test_the_scale_of_logits():
    w = world()
    honest = w.honest
    net = w.net
    truth = torch.zeros(400, dtype=torch.long)
    # 300 answers are right
    told = torch.nn.functional.one_hot((torch.arange(400) >= 300).long(), 4).double()

    # logits with confidence p
    def says(p):
        return told * math.log(3 * p / (1 - p))

    for p in (0.26, 0.3, 0.75, 0.99):
        assert_close(knowledge_over_confidence(says(p), truth)[0], 0.5 / (p - 0.25), eps=1e-6)
    v, lo, hi = knowledge_over_confidence(says(0.75), truth)
    assert_close(v, 1.0, eps=1e-6)
    assert lo < 1 < hi
    # neither a shift nor the names of the classes matter
    assert_close(
        knowledge_over_confidence(7 + says(0.3)[:, [2, 0, 1, 3]], truth + 1),
        knowledge_over_confidence(says(0.3), truth),
        eps=1e-9,
    )
    grow = [knowledge_over_confidence(says(0.9) * s, truth)[0] for s in (1, 0.3, 0.1, 0.01, 1e-6)]
    assert_eq(grow, sorted(grow))
    assert grow[-1] > 1e5
    # it guesses
    dull = torch.randn(200, 10, generator=generator(0)), torch.arange(200) % 10
    assert all(knowledge_over_confidence(s * dull[0], dull[1])[1] < 5 for s in (1, 0.05, 1e-3))
    for model in honest.values():
        assert_eq(flags(losses_agree, model), [])
    for s in (50.0, 256.0):
        assert_eq(flags(losses_agree, Times(net, s)), ["G8 losses"])
    for model in honest.values():
        assert "G8 scale" in flags(losses_agree, Times(model, 0.05))


def test_a_network_in_fog_is_not_blamed():
    w = world()
    data = w.data
    honest = w.honest
    x = w.x
    y = w.y

    def noise(x, g):
        return (x + 1.5 * torch.randn(x.shape, generator=g)).clamp(0, 1)

    torch.manual_seed(0)
    fog = (
        Learner(
            SmallCNN(classes=10, channels=1),
            data.train.with_(augment=noise),
            standard,
            None,
            4,
            lr=0.1,
            precision="float32",
        )
        .fit()
        .model.eval()
    )

    def sharers(z, y):
        "How many of the rivals share the push of cross-entropy, median over the images, in %"
        w = z.scatter(1, y[:, None], -math.inf).softmax(1)
        return (
            100 * (-(w * w.clamp_min(1e-30).log()).sum(1)).exp().median().item() / (z.shape[1] - 1)
        )

    views = {k: (m, x, y) for k, m in honest.items()} | {"in fog": (fog, noise(x, generator(0)), y)}
    with torch.no_grad():
        answers = {k: (m(x), y) for k, (m, x, y) in views.items()}
    fair = {k: knowledge_over_confidence(*v)[0] for k, v in answers.items()}
    assert (
        max(fair.values())
        < 5
        < 15
        < min(knowledge_over_confidence(0.05 * answers[k][0], y)[0] for k in honest)
    )
    # by the spread alone it would be blamed first
    assert sharers(*answers["in fog"]) > max(sharers(*answers[k]) for k in honest)
    far_off = Trial(fog, views["in fog"][1], y, ball, cost=0.2)
    assert_eq([c.verdict for c in losses_agree(far_off)][1], "pass")


def test_stronger_attacks_and_attacks_without_gradients():
    w = world()
    honest = w.honest
    net = w.net
    pitted = w.pitted
    rounded = w.rounded
    x = w.x
    decoy = Decoy(net)
    assert (
        torch.equal(decoy(x).argmax(1), net(x).argmax(1))
        and (decoy(x)[:, 10] < decoy(x).amax(1)).all()
    )
    assert_eq(flags(stronger_attacks, decoy), ["G9 stronger"])
    # the glass breaks: APGD's first steps are 2 eps long
    assert_eq(flags(stronger_attacks, pitted), ["G9 stronger"])
    # your attack, two small steps
    assert_eq(flags(stronger_attacks, net, pgd(ball, 2, 0.02)), ["G9 stronger"])

    def after(*gates):
        "One gate after the attacks of others"

        def run(t):
            for g in gates:
                out = list(g(t))
            return out

        return run

    black = after(stronger_attacks, without_gradients)
    assert_eq(flags(black, honest["pgd_at"]), [])
    assert_eq(flags(stronger_attacks, honest["pgd_at"]), [])
    # whether a twin taught in seconds is near enough is luck,
    assert "G6 square" in flags(black, rounded, cost=0.3)
    # the undefended network is
    assert_eq(flags(black, rounded, cost=0.3, surrogate=net), ["G6 square", "G6 transfer"])
    assert_eq(flags(black, lambda x: net(x.detach()), surrogate=net), ["G6 square", "G6 transfer"])
    twin = distil(net, x, ball)
    assert (twin(x).argmax(1) == net(x).argmax(1)).double().mean() > 0.9 and not twin.training


def test_checkpoints_and_seeds():
    w = world()
    net = w.net
    test = w.test
    x = w.x
    y = w.y

    def run(gate, **given):
        return [(c.name, c.verdict) for c in gate(Trial(net, x, y, ball, **given))]

    assert_eq(run(checkpoints_shown), [("G10 both", "not asked"), ("G10 chosen", "not asked")])
    assert_eq(run(seeds_shown), [("G11 seeds", "not asked")])
    record = evaluate(net, test, progress=False, pgd=pgd(ball, 5))
    rows = [dict(step=1, robust=0.3), dict(step=2), dict(step=3, robust=0.2)]
    assert_eq(
        run(checkpoints_shown, checkpoints=dict(best=record, last=0.2), history=rows),
        [("G10 both", "pass"), ("G10 chosen", "pass")],
    )
    assert_eq(
        run(checkpoints_shown, checkpoints=dict(best=0.3), history=[dict(step=1, loss=2.0)]),
        [("G10 both", "flag"), ("G10 chosen", "flag")],
    )
    assert_eq(run(seeds_shown, seeds=[0.3, 0.31, record]), [("G11 seeds", "pass")])
    assert_eq(run(seeds_shown, seeds=[0.3, 0.31]), [("G11 seeds", "flag")])


def test_the_cards_of_colleague_and_honest_network():
    w = world()
    honest = w.honest
    colleague = w.colleague
    test = w.test
    card = trust(colleague, test, ball, cost=0.3, progress=False)
    assert {"G5", "G7", "G8"} <= set(card.flags) and "G1" not in card.flags
    assert card.accuracy["PGD-30"] > 0.7 > 0.2 > card.accuracy["everything"]
    good = trust(honest["pgd_at"], test, ball, cost=0.3, progress=False)
    assert_eq(good.flags, [])
    assert_eq(
        [c.name for c in good.checks if c.verdict == "not asked"],
        ["G10 both", "G10 chosen", "G11 seeds"],
    )


def test_a_card_says_what_it_says_also_from_its_file():
    w = world()
    data = w.data
    net = w.net
    colleague = w.colleague
    test = w.test
    x = w.x
    y = w.y
    card = trust(colleague, test, ball, cost=0.3, progress=False)
    assert_eq([c.name for c in card.checks], list(RULES))
    assert_eq(card["G7 zero"].verdict, "flag")
    assert (
        card.headline in repr(card)
        and "Use margin" in repr(card)
        and "<table" in card._repr_html_()
        and "✕" in card._repr_html_()
    )
    assert_eq(
        list(card.table().columns), ["asks", "figure", "lo", "hi", "limit", "verdict", "note"]
    )
    assert_eq(len(card.advice()), sum(c.verdict == "flag" for c in card.checks))
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "card.json"
        card.save(path)
        back = type(card).load(path)
        assert_eq(back, card)
        assert_eq(repr(back), repr(card))
        whole = path.read_text()
        for text in (whole[:-20], '{"n": 1}', "[]", whole.replace('"verdict"', '"verdit"', 1)):
            path.write_text(text)
            assert_fails(lambda: type(card).load(path), contains="holds no whole card")
        assert_fails(lambda: type(card).load(Path(d) / "none.json"), contains="no card")
    few = (x[:40], y[:40])
    a, b = (trust(net, few, ball, cost=0.1, progress=False) for _ in range(2))
    assert_eq(a.checks, b.checks)
    assert_eq(a.n, 40)
    assert trust(net, few, ball, n=8, cost=0.1, progress=False).n == 8
    assert_fails(lambda: trust(net, data, ball), contains="data.test say")
    assert_fails(lambda: trust(net, few, 8 / 255), contains="Linf(8/255)")
    assert_fails(lambda: trust(net, (x * 255, y), ball), contains="divide by 255")
    assert_fails(
        lambda: trust(net, few, ball, limits={"G9": 1}), contains="no check is called 'G9'"
    )
    assert_fails(lambda: trust(net, x, ball), contains="give Batches")
    # it answers nothing right
    lost = trust(lambda x: -net(x), few, ball, cost=0.1, progress=False)
    assert_eq(
        (lost.flags, lost["G9 stronger"].verdict, lost["G1 logits"].verdict),
        ([], "not asked", "pass"),
    )


def test_a_softmax_of_a_softmax():
    world()
    one = torch.zeros(1, 10)
    one[0, 0] = 1.0
    value = ce(one, torch.tensor([0])).item()
    # -log(e/(e+9)), and no certainty can make it smaller
    assert_close(value, math.log(1 + 9 / math.e), eps=1e-6)


def test_sixteen_percent_at_full_grey():
    world()
    ends = {
        n: [100 * (v - 0.1) for v in (0.16, *wilson(round(0.16 * n), n, 0.99))] for n in (50, 1000)
    }
    verdicts = tuple(check("G5 grey", *v).verdict for v in ends.values())
    assert_eq(verdicts, ("unclear", "flag"))
