"""Evaluation: its random streams, its honesty, the line of stages, the journal, and whatever
comes as a model or as data
"""

import copy
import functools
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from asserting import assert_close, assert_eq, assert_fails
from torch import nn

from spat_nb import L2, Batches, Cascade, Linf, at_x, evaluate, fgsm, get_data, paired, pgd, zoo
from spat_nb.core.evalmode import device_of
from spat_nb.core.identity import made_of
from spat_nb.measure.feed import batches_of, checked_attacks, image_count
from spat_nb.measure.journal import Journal
from spat_nb.measure.record import Record
from spat_nb.measure.stages import Stage, attacked, outlook, stages_of, stream_for

cpu = torch.device("cpu")
ball = Linf(0.1)


def draw(*key):
    with stream_for(cpu, *key):
        return torch.rand(3)


def test_a_stream_depends_on_its_key_alone():
    state = torch.get_rng_state()
    assert torch.equal(draw(0, 1, "pgd"), draw(0, 1, "pgd"))
    assert not any(
        torch.equal(draw(0, 1, "pgd"), draw(*key))
        for key in ((1, 1, "pgd"), (0, 2, "pgd"), (0, 1, "fgsm"))
    )
    assert torch.equal(state, torch.get_rng_state())
    # no seed: torch's own stream
    draw(None)
    assert not torch.equal(state, torch.get_rng_state())


class Cheat:
    "An attack that claims a ball and does what it likes"

    ball = Linf(0.1)

    def __init__(self, f):
        self.f = f

    def __call__(self, model, x, y):
        return self.f(x)


# class 0: the image is bright
def bright(x):
    return 9 * torch.stack([x.flatten(1).mean(1) - 0.5, torch.zeros(len(x)).to(x)], 1)


X, Y = torch.full((3, 1, 2, 2), 0.55), torch.zeros(3, dtype=torch.long)


def ask(f):
    return attacked("sly", Cheat(f), Cheat.ball, bright, bright, X, Y)


def test_no_attack_can_cheat():
    # no cheat: three fooled
    assert_eq(ask(lambda x: x - 0.1).tolist(), [1] * 3)
    assert_eq(ask(lambda x: x + 0.1).tolist(), [0] * 3)
    for f, words in (
        (lambda x: x - 0.2, "left its ball: displacement 0.2"),
        (lambda x: x.sub_(0.2), "left its ball"),
        (lambda x: x[:1], "returned shape"),
        (lambda x: x - 0.7, "returned no images"),
        (lambda x: x * math.nan, "returned no images"),
        (lambda x: None, "returned no images"),
    ):
        assert_fails(lambda: ask(f), contains=words)
    # and the data is unharmed
    assert (X == 0.55).all()


def test_a_hasty_copy_of_the_network_costs_no_success():
    x, y = X, Y

    # a bad copy of the network: it thinks that all is lost
    def hasty(x):
        return bright(x + 0.04) * torch.tensor([-1.0, 1.0])

    seen = []

    # stops at once where the network it sees is fooled
    def lazy(model, x, y):
        seen.append(model)
        return torch.where(model(x).argmax(1).eq(0)[:, None, None, None], x - 0.1, x)

    # found in the second try
    assert_eq(attacked("lazy", lazy, Linf(0.1), bright, hasty, x, y).tolist(), [1] * 3)
    assert seen == [hasty, bright]


def test_batches_and_attacks_that_are_given():
    zeros = torch.zeros(600, dtype=torch.long)
    assert_eq([len(x) for x, _ in batches_of((torch.rand(600, 1, 2, 2), zeros))], [256, 256, 88])
    assert_eq(batches_of((torch.rand(0, 1, 2, 2), zeros[:0])), [])
    # weights, buffers, neither, no module
    assert_eq(
        [
            device_of(m)
            for m in (nn.Linear(1, 1), nn.BatchNorm1d(2, affine=False), nn.ReLU(), bright)
        ],
        [cpu, cpu, None, None],
    )
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.rand(7, 1, 2, 2), zeros[:7]), 2
    )
    assert_eq(
        [
            image_count(d)
            for d in (
                batches_of((torch.rand(600, 1, 2, 2), zeros)),
                get_data("digits", device="cpu").test,
                loader,
                iter([]),
            )
        ],
        [600, 360, 7, None],
    )
    assert_fails(lambda: checked_attacks(dict(pgd=0.1)), contains="pgd is 0.1, which is no attack")
    assert_fails(lambda: checked_attacks({"a/b": fgsm(Linf(0.1))}), contains="choose another name")


def test_the_outlook_by_hand():
    st = stages_of(
        dict(aa=Cascade(dict(a=fgsm(Linf(0.1)), b=pgd(Linf(0.2))), Linf(0.3)), solo=fgsm(Linf(0.1)))
    )
    assert_eq(
        [(s.name, s.before, s.ball and s.ball.eps) for s in st.values()],
        [
            ("clean", None, None),
            ("aa/a", "clean", 0.3),
            ("aa/b", "aa/a", 0.3),
            ("solo", "clean", 0.1),
        ],
    )
    st = stages_of(dict(solo=fgsm(Linf(0.1))))
    st["clean"].n, st["clean"].stood, st["clean"].seconds = 40, 30, 0.4
    st["solo"].held, st["solo"].n, st["solo"].stood, st["solo"].seconds = (
        [(torch.arange(10),)],
        20,
        15,
        2.0,
    )
    acc, share, left, known = outlook(st, 100)
    assert_eq((acc, known), (dict(clean=0.75, solo=0.625), ""))
    assert_close(share, 1 - (60 + 70) / 200)
    assert_close(left, 0.6 + 5.5)
    st["solo"].n = 0
    # a third of a pass took a hundredth of a second; 55 images are to come, and FGSM takes one pass
    assert_close(outlook(st, 100)[2], 0.6 + 55 * 0.03)
    assert_eq(outlook(st, 100)[3], "about ")
    st["solo"].attack = lambda model, x, y: x
    assert_eq(outlook(st, 100)[3], "more than ")
    line = Stage(
        "a",
        held=[
            (torch.arange(3), torch.rand(3, 1, 2, 2)),
            (torch.arange(3, 8), torch.rand(5, 1, 2, 2)),
        ],
    )
    assert_eq(
        (line.waiting, [line.take(4)[0].tolist() for _ in range(2)], line.waiting, line.held),
        (8, [[0, 1, 2, 3], [4, 5, 6, 7]], 0, []),
    )


def test_a_journal_gives_back_what_it_was_given_and_names_each_mix_up():
    def key(**kw):
        return {
            **dict(
                model=made_of(net),
                attacks=dict(a=made_of(pgd(Linf(0.1)))),
                seed=0,
                precision="float32",
                classes=None,
                batch=None,
            ),
            **kw,
        }

    net = nn.Linear(2, 2)
    moved = copy.deepcopy(net)
    with torch.no_grad():
        moved.weight[0, 0] += 1e-6
    with tempfile.TemporaryDirectory() as d:
        path, t = Path(d) / "state.json", torch.arange(3.0)
        tell = Journal(path, key())
        # the second time nothing is computed
        assert_eq(
            [tell("a 0", (t, t), lambda: [1, 2.5]), tell("a 0", (t, t), lambda: 1 / 0)],
            [[1, 2.5]] * 2,
        )
        # nor in another process
        assert_eq(Journal(path, key())("a 0", (t, t), lambda: 1 / 0), [1, 2.5])
        for now, says in (
            (dict(seed=1), "with another seed (0, now 1)"),
            (dict(model=made_of(moved)), "with another model: weight has changed"),
            (
                dict(attacks=dict(a=made_of(pgd(Linf(0.2))))),
                "with another a: lr was 0.025, now 0.05, ball.eps was 0.1, now 0.2",
            ),
            (dict(attacks={}), "with other attacks (a, now none)"),
        ):
            assert_fails(lambda: Journal(path, key(**now)), contains=says)
        assert_fails(
            lambda: Journal(path, key())("a 0", (t + 1, t), lambda: 0),
            contains="other images (they differ at a 0)",
        )
        assert_fails(
            lambda: Journal(path, key())("a 0", (t, t + 1), lambda: 0),
            contains="other labels (they differ at a 0)",
        )
        whole = path.read_text()
        path.write_text(whole.replace('"form": 2, ', ""))
        assert_fails(lambda: Journal(path, key()), contains="by an earlier version")
        for text in (whole[:-9], "[]", '{"key": {}}', "x"):
            path.write_text(text)
            assert_fails(lambda: Journal(path, key()), contains="damaged or no state")
    assert_eq(Journal(None, {})("a 0", (t, t), lambda: 7), 7)


def test_a_linear_model_agrees_with_its_closed_form():
    torch.manual_seed(0)
    # unequal weights: the two norms differ
    w = torch.randn(12).double() * torch.arange(1, 13) / 12
    # far from the edges of the box
    x = 0.3 + 0.4 * torch.rand(200, 3, 2, 2).double()
    b = -x.flatten(1) @ w

    def line(x):
        return torch.stack(
            [torch.zeros(len(x)).to(x), x.flatten(1) @ w.to(x) + b.median().to(x) - 0.4], 1
        )

    y = torch.zeros(200, dtype=torch.long)
    r = evaluate(
        line,
        (x, y),
        progress=False,
        inf=fgsm(Linf(0.03)),
        inf_pgd=pgd(Linf(0.03), 10),
        two=fgsm(L2(0.1)),
    )
    gap = line(x)[:, 1] - line(x)[:, 0]
    assert torch.equal(r.correct("clean"), gap <= 0)
    assert torch.equal(r.correct("inf"), gap + 0.03 * w.abs().sum() <= 0) and torch.equal(
        r.correct("inf_pgd"), r.correct("inf")
    )
    assert torch.equal(r.correct("two"), gap + 0.1 * w.norm() <= 0)
    # the test says something
    assert r.accuracy("clean") > r.accuracy("two") > 0 and 0 < r.accuracy("inf") < r.accuracy(
        "clean"
    )


def evaluated(data, model, **kw):
    return evaluate(model, data, progress=False, **kw)


def same(a, b, *names):
    return all(torch.equal(a.preds[k], b.preds[k]) for k in names) and torch.equal(a.y, b.y)


def world():
    "A small network in training mode, with a frozen layer, and 50 images"
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 36, 10),
    )
    x = (torch.rand(50, 1, 8, 8) * 255).byte()
    # four of five are what the network says
    y = torch.where(torch.arange(50) % 5 > 0, net.eval()(x / 255).argmax(1), 0)
    toy = Batches(x, y, tuple("abcdefghij"), batch_size=16)
    x, y = toy.tensors()
    # a frozen layer in a training model
    net.train()
    net[1].eval()

    def look(data=toy, model=net, **kw):
        return evaluated(data, model, **kw)

    return net, toy, x, y, look


def test_the_model_is_left_as_it_was():
    net, toy, x, y, look = world()
    modes, state, bn = (
        [m.training for m in net.modules()],
        torch.get_rng_state(),
        net[1].running_mean.clone(),
    )
    one = look(fgsm=fgsm(ball), pgd=pgd(ball))
    assert_eq([m.training for m in net.modules()], modes)
    assert (
        torch.equal(state, torch.get_rng_state())
        and torch.equal(bn, net[1].running_mean)
        and all(p.grad is None for p in net.parameters())
    )
    wrong = ~one.correct("clean")
    assert wrong.any() and all(
        torch.equal(one.preds[k][wrong], one.preds["clean"][wrong]) for k in one.attacks
    )
    assert torch.equal(
        one.correct("worst"), one.correct("clean") & one.correct("fgsm") & one.correct("pgd")
    )
    # the tests below have something to see
    assert 0 < one.accuracy("worst") < one.accuracy("clean")


def test_how_the_images_come_and_who_runs_beside_makes_no_difference():
    net, toy, x, y, look = world()
    one = look(fgsm=fgsm(ball), pgd=pgd(ball))
    state = torch.get_rng_state()
    for data in (
        toy.with_(batch_size=7),
        toy.with_(batch_size=50),
        (x, y),
        [x, y],
        list(zip(x.split(9), y.split(9))),
        toy.with_(shuffle=True, augment=lambda x, g: 1 - x),
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 13),
    ):
        # however the images come
        assert same(one, look(data, fgsm=fgsm(ball)), "clean", "fgsm")
    # alone or in company
    assert same(one, look(pgd=pgd(ball)), "pgd") and same(
        one, look(fgsm=fgsm(ball), pgd=pgd(ball)), "pgd"
    )

    def starts(seed):
        return look(pgd=pgd(Linf(0.1), steps=0), seed=seed).preds["pgd"]

    assert torch.equal(starts(1), starts(1)) and not all(
        torch.equal(starts(0), starts(s)) for s in range(1, 9)
    )
    # seed None draws from torch's stream
    look(pgd=pgd(ball), seed=None)
    assert not torch.equal(state, torch.get_rng_state())
    assert_eq(
        (one.classes, look((x, y)).classes, one.info["seed"]), (toy.classes, tuple("0123456789"), 0)
    )
    assert (
        "steps=1" in one.info["attacks"]["fgsm"]
        and "loss=<function ce>" in one.info["attacks"]["pgd"]
        and "0x" not in str(one.info["attacks"])
    )


class Keep:
    "An attack that keeps what it returned"

    def __init__(self, attack):
        self.attack, self.ball, self.out, self.models = attack, attack.ball, {}, []

    def __call__(self, model, x, y):
        x_adv = self.attack(model, x, y)
        self.models.append(model)
        # of a second try the later one
        self.out |= {a.numpy().tobytes(): b for a, b in zip(x, x_adv)}
        return x_adv


def test_the_verdict_is_the_models_own_in_every_precision():
    net, toy, x, y, look = world()
    one = look(fgsm=fgsm(ball), pgd=pgd(ball))
    for precision in ("float32", "channels_last", "bfloat16"):
        keep = Keep(fgsm(ball))
        r = look(model=copy.deepcopy(net), precision=precision, kept=keep)
        verdict = net.eval()(
            torch.stack([keep.out[a.numpy().tobytes()] for a in x[r.correct("clean")]])
        ).argmax(1)
        net.train()
        net[1].eval()
        assert torch.equal(r.preds["kept"][r.correct("clean")], verdict)
        assert_eq(r.info["precision"], precision)
        assert_eq(type(keep.models[0]).__name__, "Sequential" if precision == "float32" else "Fast")
    # weights in bfloat16
    half = look(model=copy.deepcopy(net).bfloat16(), pgd=pgd(ball))
    assert half.accuracy("pgd") <= half.accuracy("clean")
    # a function
    assert same(
        one,
        look(model=copy.deepcopy(net).eval().forward, precision="bfloat16", fgsm=fgsm(ball)),
        "clean",
        "fgsm",
    )


def test_devices_of_data_and_model():
    net, toy, x, y, look = world()
    one = look(fgsm=fgsm(ball), pgd=pgd(ball))
    # data there, model here, and the reverse
    for device in ["cuda"] if torch.cuda.is_available() else []:
        there = Batches(toy.x.to(device), toy.y.to(device), toy.classes, 16)
        cuda = torch.cuda.get_rng_state()
        runs = [
            look(there, copy.deepcopy(net), pgd=pgd(ball)),
            look(toy, copy.deepcopy(net).to(device), pgd=pgd(ball)),
            look(there, copy.deepcopy(net).to(device), pgd=pgd(ball)),
        ]
        assert (
            same(runs[0], one, "clean", "pgd")
            and same(runs[1], runs[2], "clean")
            and torch.equal(cuda, torch.cuda.get_rng_state())
        )
        assert all(r.y.device.type == "cpu" for r in runs)


def test_a_word_for_what_does_not_fit():
    net, toy, x, y, look = world()
    assert_fails(lambda: look(model=nn.Sequential(net, nn.Softmax(1))), contains="probabilities")
    assert_fails(
        lambda: look(model=nn.Sequential(net, nn.Linear(10, 7))),
        contains="7 classes but the data has 10",
    )
    assert_fails(lambda: look((x, y + 5)), contains="y holds label")
    assert_fails(
        lambda: look((x, nn.functional.one_hot(y, 10).float())), contains="use y.argmax(1)"
    )
    assert_fails(lambda: look((x, y[1:])), contains="50 images but 49 labels")
    assert_fails(lambda: look((x * 255, y)), contains="divide by 255")
    assert_fails(lambda: look([(x * 2 - 1, y)]), contains="pixels must lie in [0,1]")
    for empty in ((x[:0], y[:0]), [], toy.subset(0)):
        assert_fails(lambda: look(empty), contains="no images")
    assert_fails(lambda: look(get_data("digits", device="cpu")), contains="data.test")
    assert_fails(lambda: look(batch_size=32), contains="batch_size is 32, which is no attack")
    assert_fails(lambda: look(worst=pgd(ball)), contains="choose another name")
    assert_fails(lambda: look(precision="half"), contains="precision")
    assert_fails(lambda: look(sly=Cheat(lambda x: x * 0.5)), contains="left its ball")
    assert_fails(lambda: look(pgd=pgd(ball)).accuracy("pgd20"), contains="it has clean, pgd")


class Sizes:
    "An attack that notes the sizes of its batches"

    def __init__(self, attack):
        self.attack, self.ball, self.sizes = attack, attack.ball, []

    def __call__(self, model, x, y):
        self.sizes.append(len(x))
        return self.attack(model, x, y)


def test_each_member_of_a_row_sees_the_survivors_in_full_batches():
    net, toy, x, y, look = world()
    rowed = {
        k: Sizes(a)
        for k, a in dict(
            one=fgsm(Linf(0.02)), two=fgsm(Linf(0.04)), pgd=pgd(ball, 10, start=at_x)
        ).items()
    }
    r = look(aa=Cascade(rowed, ball), pgd=pgd(ball, 10, start=at_x))
    assert_eq(
        (r.names, r.attacks),
        (["clean", "aa/one", "aa/two", "aa/pgd", "aa", "pgd", "worst"], ["aa", "pgd"]),
    )
    before, previous = r.correct("clean"), r.preds["clean"]
    for k, a in rowed.items():
        now, n = r.correct(f"aa/{k}"), int(before.sum())
        # nobody comes back, and each takes some
        assert (now <= before).all() and now.sum() < n
        assert torch.equal(r.preds[f"aa/{k}"][~before], previous[~before])
        # full batches, and what is left
        assert_eq(a.sizes, [16] * (n // 16) + [n % 16] * (n % 16 > 0))
        before, previous = now, r.preds[f"aa/{k}"]
    assert torch.equal(r.preds["aa"], previous)
    alone = look(**{k: a.attack for k, a in rowed.items()})
    # the union of what its members can do alone
    assert torch.equal(alone.correct("worst"), r.correct("aa"))
    assert torch.equal(r.correct("aa"), r.correct("worst"))
    # the row's own ball
    assert_fails(
        lambda: look(aa=Cascade(dict(wide=pgd(Linf(0.3))), ball)),
        contains="attack 'aa/wide' left its ball",
    )


class Stops:
    "An attack that is interrupted at every `every`-th call"

    def __init__(self, attack, every):
        self.attack, self.every, self.calls = attack, every, 0

    # it counts its calls, and is the same attack all the same
    def __identity__(self):
        return self.attack

    def __call__(self, model, x, y):
        self.calls += 1
        if self.calls % self.every == 0:
            raise KeyboardInterrupt
        return self.attack(model, x, y)


def test_a_run_that_is_stopped_again_and_again_gives_the_same_record():
    net, toy, x, y, look = world()
    with tempfile.TemporaryDirectory() as d:
        path, starts, stops = Path(d) / "run.json", 0, Stops(pgd(ball), 3)

        def go(a=stops, data=toy.with_(batch_size=5), model=net, **kw):
            return look(
                data, model, row=Cascade(dict(small=fgsm(Linf(0.02)), big=a)), resume=path, **kw
            )

        while True:
            starts += 1
            try:
                r = go()
                break
            except KeyboardInterrupt:
                pass
        whole = look(
            toy.with_(batch_size=5), row=Cascade(dict(small=fgsm(Linf(0.02)), big=pgd(ball)))
        )
        # the very same answers
        assert starts >= 3 and same(r, whole, *whole.preds)
        # nothing left to do
        calls = stops.calls
        assert same(go(), whole, *whole.preds)
        assert_eq(stops.calls, calls)
        assert_eq(
            (r.classes, go().info["seconds"], list(r.preds)),
            (whole.classes, r.info["seconds"], list(whole.preds)),
        )
        for f, words in (
            (lambda: go(a=pgd(ball, 11)), "another row: members.big.steps was 10, now 11"),
            (lambda: go(seed=1), "another seed"),
            (lambda: go(precision="bfloat16"), "another precision"),
            (lambda: go(model=nn.Sequential(net)), "another model"),
            (lambda: go(data=toy.with_(batch_size=6)), "other images"),
            (lambda: go(data=(1 - x, y)), "other images"),
        ):
            assert_fails(f, contains=words)


@functools.cache
def real():
    data, ball = get_data("digits", device="cpu", batch_size=64), Linf(0.15)
    nets = {
        name: zoo.load(f"digits/{k}/w16", "cpu")
        for name, k in {"standard": "standard", "PGD-AT": "pgd_at"}.items()
    }
    records = [
        evaluate(net, data.test, progress=False, fgsm=fgsm(ball), pgd20=pgd(ball, 20))
        for net in nets.values()
    ]
    return SimpleNamespace(data=data, ball=ball, nets=nets, std=records[0], rob=records[1])


def test_the_shipped_networks_differ_under_attack():
    w = real()
    std = w.std
    rob = w.rob
    records = dict(standard=std, rob=rob)
    # both can read
    assert std.accuracy("clean") > 0.95 and rob.accuracy("clean") > 0.95
    # equally well, as far as we can see
    assert (
        rob.interval("clean")[1] > std.interval("clean")[0]
        and std.interval("clean")[1] > rob.interval("clean")[0]
    )
    # and only one resists: the intervals are apart
    assert rob.interval("worst")[0] > std.interval("worst")[1]
    for r in records.values():
        assert r.accuracy("pgd20") <= r.accuracy("fgsm") + 0.005 <= r.accuracy("clean") + 0.005


def test_versus_is_paired_and_refuses_other_images_and_attacks():
    w = real()
    std = w.std
    rob = w.rob
    data = w.data
    nets = w.nets
    ball = w.ball
    v = rob.versus(std)
    assert v.lo["clean"] < 0 < v.hi["clean"] and v.lo["pgd20"] > 0.2
    assert_close(
        v.loc["pgd20", ["diff", "lo", "hi"]].tolist(),
        paired(rob.correct("pgd20"), std.correct("pgd20")),
        eps=1e-12,
    )
    assert_fails(
        lambda: rob.versus(Record(std.y.flip(0), std.preds, std.classes)),
        contains="labels of the records differ",
    )
    assert_fails(
        lambda: rob.versus(
            evaluate(nets["standard"], data.test, progress=False, pgd20=pgd(ball, 10))
        ),
        contains="evaluate both with the same attack",
    )


def test_versus_by_class_is_paired_at_a_higher_level():
    w = real()
    data = w.data
    ball = w.ball
    trades, pgd_at = (
        evaluate(zoo.load(f"digits/{k}/w16", "cpu"), data.test, progress=False, pgd20=pgd(ball, 20))
        for k in ("trades", "pgd_at")
    )
    by_class = trades.versus(pgd_at, "pgd20")
    # equal classes: the mean of the differences
    assert (
        by_class.n.tolist() == [36] * 10
        and abs(by_class["diff"].mean() - trades.versus(pgd_at)["diff"]["pgd20"]) < 1e-9
    )
    mine = data.test.y == 3
    assert_close(
        by_class.loc["3", ["diff", "lo", "hi"]].tolist(),
        paired(trades.correct("pgd20")[mine], pgd_at.correct("pgd20")[mine], 0.995),
        eps=1e-12,
    )


def test_the_weakest_digit_is_weaker_than_luck():
    w = real()
    rob = w.rob

    def luck(r, name, times=2000, seed=0):
        "The lowest class accuracy after each of `times` shuffles of the verdicts"
        shuffled = r.correct(name)[
            torch.rand(times, len(r.y), generator=torch.Generator().manual_seed(seed)).argsort(1)
        ]
        member = torch.nn.functional.one_hot(r.y, len(r.classes)).double()
        return (shuffled.double() @ member / member.sum(0)).min(1).values

    lows, low = luck(rob, "pgd20"), rob.weakest("pgd20")[1]
    share = (lows <= low).double().mean().item()
    # luck alone makes a weak class
    assert lows.mean() < rob.accuracy("pgd20") - 0.05
    # but not one as weak as this
    assert share < 0.01
    t = rob.per_class("pgd20")
    assert t.hi[t.accuracy.idxmin()] < t.lo[t.accuracy.idxmax()]


def test_errors_gather_in_fewer_cells_than_luck_would_fill():
    w = real()
    rob = w.rob
    m = rob.confusion("pgd20").fill_diagonal_(0)
    # digits with at least 5 errors
    few = m.sum(1) >= 5

    # mean over these digits
    def top2(m):
        return (m.topk(2, -1).values.sum(-1) / m.sum(-1)).mean(-1)

    def dice(n):
        return torch.rand(500, n, generator=torch.Generator().manual_seed(n)).mul(9).long()

    luck2 = torch.stack([nn.functional.one_hot(dice(int(n)), 9).sum(1) for n in m[few].sum(1)], 1)
    assert top2(m[few]) > top2(luck2).quantile(0.95)


def test_train_mode_depends_on_the_batch_and_evaluate_does_not():
    w = real()
    data = w.data
    nets = w.nets

    def by_hand(net, size, train):
        "The loop one writes in a hurry"
        net = copy.deepcopy(net).train(train)
        x, y = data.test.tensors()
        return sum(
            (net(xb).argmax(1) == yb).sum().item() for xb, yb in zip(x.split(size), y.split(size))
        ) / len(y)

    loud = {size: by_hand(nets["standard"], size, True) for size in (2, 4, 360)}
    calm = {size: by_hand(nets["standard"], size, False) for size in (2, 4, 360)}
    nets["standard"].train()
    assert (
        len(set(calm.values())) == 1
        and evaluate(nets["standard"], data.test, progress=False).accuracy() == calm[2]
    )
    assert calm[2] - loud[2] > 0.02
