"""AutoAttack: survivors only, the union of all members, batches, resume after a real kill, and
torchattacks' robust accuracy
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.attacks.ascent import at_x
from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.cascade import Cascade
from spat_nb.attacks.doubts import doubts, masked
from spat_nb.attacks.losses import ce, dlr_or_margin, margin
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.record import Record
from spat_nb.measure.sweep import sweep
from spat_nb.models.networks import SmallCNN


class Table:
    """An 'attack' that fools the images it is told to: the first pixel is the image's number, the
    second tells `answer` that it has fallen
    """

    def __init__(self, fools):
        self.fools, self.seen = fools, []

    def __repr__(self):
        return f"Table({self.fools.tolist()})"

    def __call__(self, model, x, y):
        rows = (x[:, 0, 0, 0] * 100).round().long()
        self.seen.append(rows.tolist())
        x = x.clone()
        x[:, 0, 0, 1] = self.fools[rows].to(x)
        return x


# class 0 until it has fallen, then 1
def answer(x):
    return 5 * nn.functional.one_hot((x[:, 0, 0, 1] > 0.5).long(), 4).to(x)


def images(n):
    x = torch.zeros(n, 1, 1, 2)
    x[:, 0, 0, 0] = torch.arange(n) / 100
    return x, torch.zeros(n, dtype=torch.long)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 40),
    size=st.integers(1, 12),
    members=st.integers(1, 4),
    seed=st.integers(0, 999),
    p=st.floats(0, 1),
)
def test_each_member_sees_the_survivors_and_nobody_else(n, size, members, seed, p):
    g = torch.Generator().manual_seed(seed)
    fools, wrong = torch.rand(members, n, generator=g) < p, torch.rand(n, generator=g) < 0.2
    (x, y), tables = images(n), {f"m{i}": Table(f) for i, f in enumerate(fools)}
    y[wrong] = 2
    r = evaluate(
        answer,
        list(zip(x.split(size), y.split(size))),
        progress=False,
        aa=Cascade(tables),
        **{f"solo{i}": Table(f) for i, f in enumerate(fools)},
    )
    stands = ~wrong
    for i, (k, t) in enumerate(tables.items()):
        # survivors, in order, each once
        assert sum(t.seen, []) == stands.nonzero()[:, 0].tolist()
        # in full batches
        assert all(len(s) == min(size, n) for s in t.seen[:-1]) and all(
            0 < len(s) <= size for s in t.seen
        )
        stands = stands & ~fools[i]
        assert torch.equal(r.correct(f"aa/{k}"), stands)
    assert torch.equal(r.correct("aa"), ~wrong & ~fools.any(0)) and torch.equal(
        r.correct("aa"), r.correct("worst")
    )
    assert torch.equal(
        torch.stack([r.correct(f"solo{i}") for i in range(members)]).all(0), r.correct("aa")
    )
    # the order changes the bill, not the verdict
    for order in (sorted(tables, reverse=True), sorted(tables)[1:] + sorted(tables)[:1]):
        assert torch.equal(
            evaluate(
                answer, (x, y), progress=False, aa=Cascade({k: tables[k] for k in order})
            ).correct("aa"),
            r.correct("aa"),
        )
    # as a plain attack
    out = Cascade(tables)(answer, x, y)
    assert torch.equal(answer(out).argmax(1) == y, r.correct("aa"))


@pytest.fixture(scope="module")
def digits():
    "A small network trained a little against PGD, and test images"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data, net, ball = get_data("digits", device="cpu", batch_size=64), SmallCNN(width=8), Linf(0.1)
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for e in range(5):
        net.train()
        for x, y in data.train.epoch(e):
            opt.zero_grad()
            ce(net(pgd(ball, 3)(net, x, y)), y).mean().backward()
            opt.step()
    return net.eval(), data.test.subset(100).with_(batch_size=32), ball


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.6)], ids=str)
def test_versions_keep_to_their_ball_and_repeat(digits, version, ball):
    net, data, _ = digits
    aa = autoattack(ball, version, steps=8, targets=2, queries=40, restarts=2, eot=2)
    one, two, three = (
        evaluate(net, data.subset(40), progress=False, aa=aa, seed=s) for s in (0, 0, 1)
    )
    assert all(torch.equal(one.preds[k], two.preds[k]) for k in one.preds) and list(
        three.preds
    ) == list(one.preds)
    assert 0 <= one.accuracy("aa") < one.accuracy() and one.attacks == ["aa"] and one.notes == []
    x, y = data.subset(40).tensors()
    assert ball.inside(aa(net, x, y), x).all()


def test_published_budgets():
    m = autoattack(Linf(8 / 255)).members
    assert list(m) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert (
        m["apgd_ce"].steps,
        m["apgd_ce"].restarts,
        m["apgd_t"].attack.steps,
        m["apgd_t"].targets,
        m["fab_t"].attack.steps,
        m["fab_t"].attack.targets,
        m["square"].queries,
    ) == (100, 1, 100, 9, 100, 9, 5000)
    assert list(autoattack(L2(0.5), "plus").members) == [
        "apgd_ce",
        "apgd_dlr",
        "fab",
        "square",
        "apgd_t",
        "fab_t",
    ]
    assert [(a.steps, a.eot) for a in autoattack(L2(0.5), "rand").members.values()] == [
        (100, 20)
    ] * 2
    for bad in (L1(1.0), 8 / 255):
        pytest.raises(TypeError, autoattack, bad)
    pytest.raises(ValueError, autoattack, Linf(0.1), "Standard")


def test_notes_stay_in_the_record(digits, tmp_path):
    net, data, ball = digits

    class Rough(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((x * 4).round() / 4)

    with pytest.warns(UserWarning, match="have gradient 0"):
        r = evaluate(
            Rough(),
            data,
            progress=False,
            aa=autoattack(ball, steps=4, targets=2, queries=150),
            resume=tmp_path / "s.json",
        )
    assert [t.split(":")[0] for t in r.notes] == ["no gradient", "masked"] and all(
        t in repr(r) for t in r.notes
    )
    r.save(tmp_path / "r.json")
    assert Record.load(tmp_path / "r.json").notes == r.notes
    assert (
        evaluate(
            Rough(),
            data,
            progress=False,
            aa=autoattack(ball, steps=4, targets=2, queries=150),
            resume=tmp_path / "s.json",
        ).notes
        == r.notes
    )
    assert doubts(net, *data.tensors()) == [] and masked(dict(apgd_ce=0.5, square=0.4985)) == []


def test_torchattacks_finds_the_same_accuracy(digits):
    """The same members with the same (small) budget, one after the other: accuracy after each
    within 2 images of 100 (other random starts), at the end within .5 points
    """
    ta = pytest.importorskip("torchattacks")
    net, data, ball = digits
    x, y = data.tensors()
    steps, queries, targets = 15, 200, 9
    kw = dict(eps=ball.eps, norm="Linf", seed=0)
    theirs = [
        ta.APGD(net, steps=steps, loss="ce", **kw),
        ta.APGDT(net, steps=steps, n_classes=10, **kw),
        ta.FAB(net, steps=steps, multi_targeted=True, n_classes=10, **kw),
        ta.Square(net, n_queries=queries, **kw),
    ]
    ok, after = net(x).argmax(1) == y, []
    for a in theirs:
        i = ok.nonzero()[:, 0]
        ok = ok.index_put((i,), net(a(x[i], y[i])).argmax(1) == y[i])
        after.append(ok.double().mean().item())
    r = evaluate(
        net,
        (x, y),
        precision="float32",
        progress=False,
        aa=autoattack(ball, steps=steps, targets=targets, queries=queries),
    )
    ours = [r.accuracy(f"aa/{k}") for k in ("apgd_ce", "apgd_t", "fab_t", "square")]
    print(
        "ours",
        ours,
        "torchattacks",
        after,
        "images with another verdict:",
        int((r.correct("aa") != ok).sum()),
    )
    assert (
        all(abs(a - b) <= 0.0201 for a, b in zip(ours, after))
        and abs(ours[-1] - after[-1]) <= 0.005
    )


JOB = """
import sys, torch
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import Linf
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.saving import load
def job(weights, state=None):
    torch.set_num_threads(1)
    data = get_data('digits', device='cpu').test.subset(100).with_(batch_size=16)
    aa = autoattack(Linf(.1), steps=10, targets=3, queries=150)
    return evaluate(load(weights), data, precision='float32', progress=False, aa=aa, pgd=pgd(Linf(.1), 20), resume=state)
"""  # noqa: E501


def steps_done(state):
    try:
        return len(json.loads(state.read_text())["done"])
    except FileNotFoundError:
        return 0


def test_killed_and_started_again_it_ends_the_same(digits, tmp_path):
    """SIGKILL twice, the second time after more work; the file is whole at every moment and the
    answers are the very same
    """
    from spat_nb.models.saving import save

    weights, state, seen, here = tmp_path / "w.safetensors", tmp_path / "state.json", [], {}
    save(digits[0], weights)
    exec(JOB, here)
    for goal in (4, 13):
        p = subprocess.Popen(
            [sys.executable, "-c", JOB + "job(*sys.argv[1:])", str(weights), str(state)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        end = time.monotonic() + 60
        while steps_done(state) < goal and p.poll() is None and time.monotonic() < end:
            time.sleep(0.003)
        assert p.poll() is None, p.stderr.read()
        os.kill(p.pid, signal.SIGKILL)
        p.wait()
        seen.append(steps_done(state))
    killed, whole = here["job"](weights, state), here["job"](weights)
    # each run went on where the last one was killed
    assert 4 <= seen[0] < seen[1] < steps_done(state)
    assert list(killed.preds) == list(whole.preds) and all(
        torch.equal(killed.preds[k], whole.preds[k]) for k in whole.preds
    )
    assert killed.accuracy("aa") < killed.accuracy() and killed.notes == whole.notes


def test_a_state_of_something_else_is_refused(digits, tmp_path):
    net, data, ball = digits
    path = tmp_path / "state.json"

    def go(model=net, d=data, a=pgd(ball, 2), **kw):
        return evaluate(model, d, progress=False, resume=path, pgd=a, **kw)

    first = go(precision="float32")
    other = SmallCNN(width=8)
    flip = data.with_(x=255 - data.x)
    for f, says in (
        (lambda: go(model=other), "another model"),
        (lambda: go(a=pgd(ball, 3)), "another pgd: steps was 2, now 3"),
        (lambda: go(a=pgd(Linf(0.2), 2)), "another pgd: .*ball.eps was"),
        (lambda: go(d=flip), "other images"),
        (lambda: go(d=data.with_(batch_size=33)), "other images in a batch"),
        (lambda: go(seed=3), "another seed"),
        (lambda: go(precision="channels_last"), "another precision"),
        (
            lambda: evaluate(net, data, resume=path, pgd=pgd(ball, 2), more=fgsm(ball)),
            "other attacks .pgd, now pgd, more",
        ),
    ):
        with pytest.raises(ValueError, match=says) as e:
            f()
        assert "delete it" in str(e.value)
    before = path.read_bytes()
    assert (
        torch.equal(go(precision="float32").preds["pgd"], first.preds["pgd"])
        and path.read_bytes() == before
    )
    path.write_bytes(before[:-30])
    with pytest.raises(ValueError, match="damaged"):
        go(precision="float32")


def test_ours_in_theirs_and_theirs_in_ours(digits):
    """torchattacks' attack inside a cascade and inside `evaluate`, and a cascade inside a plain
    loop over any callable
    """
    ta = pytest.importorskip("torchattacks")
    net, data, ball = digits

    def theirs(model, x, y):
        return ta.PGD(model, eps=ball.eps, alpha=ball.eps / 4, steps=5, random_start=False)(x, y)

    ours = Attack(ball, 5, ball.eps / 4, start=at_x)
    r = evaluate(
        net,
        data,
        precision="float32",
        progress=False,
        theirs=theirs,
        ours=ours,
        row=Cascade(dict(theirs=theirs, margin=pgd(ball, 5, loss=margin)), ball),
    )
    assert (
        torch.equal(r.preds["theirs"], r.preds["ours"])
        and (r.correct("row") <= r.correct("theirs")).all()
    )
    x, y = data.tensors()
    assert (
        net(Cascade(dict(ours=ours))(lambda x: net(x), x, y)).argmax(1) == y
    ).double().mean() == r.accuracy("ours")


def test_sweep_names_its_radii(digits):
    net, data, _ = digits
    r = sweep(net, data, lambda e: fgsm(Linf(e)), (0.0, 0.05, 0.3), progress=False)
    assert r.attacks == ["eps 0", "eps 0.05", "eps 0.3"] and r.accuracy(
        "eps 0"
    ) == r.accuracy() > r.accuracy("eps 0.05") > r.accuracy("eps 0.3")
    assert list(r.info["eps"].values()) == [0.0, 0.05, 0.3]


# ---- guards of the lesson


class Wrap(nn.Module):
    "A network with something done before and after it"

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


@pytest.fixture(scope="module")
def drawn():
    "A network of random weights, and 200 images of which an eighth is wrong"
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
    x = torch.rand(200, 1, 8, 8)
    return net, x, torch.where(torch.arange(200) % 8 > 0, net(x).argmax(1), 0)


def test_a_row_sees_the_survivors_and_leaves_the_rest_alone(drawn):
    net, x, y = drawn
    ball = Linf(0.03)
    three = dict(fgsm=fgsm(ball), margin=fgsm(ball, loss=margin), pgd=pgd(ball, 10, start=at_x))
    seen = dict.fromkeys(three, 0)

    def spy(name):
        def attack(model, x, y):
            seen[name] += len(x)
            return three[name](model, x, y)

        return attack

    right = net(x).argmax(1) == y
    alone = {k: net(a(net, x, y)).argmax(1) == y for k, a in three.items()}
    row = Cascade({k: spy(k) for k in three}, ball)
    x_adv = row(net, x, y)
    left = net(x_adv).argmax(1) == y
    assert torch.equal(left, right & torch.stack(list(alone.values())).all(0))
    assert list(seen.values()) == [
        int(right.sum()),
        int((right & alone["fgsm"]).sum()),
        int((right & alone["fgsm"] & alone["margin"]).sum()),
    ]
    # not fooled, or wrong already: the clean image
    assert torch.equal(x_adv[left], x[left]) and torch.equal(x_adv[~right], x[~right])
    assert ball.inside(x_adv, x).all() and 0 < left.sum() < right.sum()
    # nothing is left, nobody is called
    assert torch.equal(row(net, x[~right], y[~right]), x[~right])
    net.train()
    row(net, x[:2], y[:2])
    assert net.training
    net.eval()
    assert row(net, x.half(), y).dtype == torch.float32


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda net, x, y: Cascade([fgsm(Linf(0.1))]), "give a dict"),
        (lambda net, x, y: Cascade({}), "at least one"),
        (lambda net, x, y: Cascade(dict(a=0.1)), "member 'a' is 0.1"),
        (lambda net, x, y: Cascade(dict(a=fgsm(Linf(0.1))))(net, x * 255, y), "divide by 255"),
        (lambda net, x, y: Cascade(dict(a=fgsm(Linf(0.1))))(net, x, y[1:]), "200 images but 199"),
        (lambda net, x, y: autoattack(8 / 255), r"Linf\(eps\) and L2\(eps\)"),
        (lambda net, x, y: autoattack(Linf(0.1), "full"), "version is 'full'"),
    ],
)
def test_rows_that_are_refused(drawn, call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(*drawn)


def test_every_planted_fault_raises_its_own_doubt(drawn):
    net, x, y = drawn

    def inward(x):
        "A defence that follows a gradient in its own forward pass"
        with torch.enable_grad():
            u = x.detach().requires_grad_()
            return x - 0.01 * torch.autograd.grad(net(u).logsumexp(1).sum(), u)[0]

    faults = {
        "random": Wrap(net, before=lambda x: x + 0.05 * torch.randn_like(x)),
        "dynamic": Wrap(net, before=inward),
        "few classes": Wrap(net, after=lambda z: z[:, :3]),
        "no gradient": Wrap(net, before=lambda x: (x * 8).round() / 8),
    }
    assert doubts(net, x, y) == []
    for name, model in faults.items():
        notes = doubts(model, x, y.clamp(max=2) if name == "few classes" else y)
        assert [n.split(":")[0] for n in notes] == [name]
    # 'rand' is made for these
    assert doubts(faults["random"], x, y, random=True) == []
    # cut off altogether
    cut = doubts(Wrap(net, before=lambda x: x.detach()), x, y)
    assert cut[0].startswith("no gradient: 200 of 200 ")
    # rounding is no randomness
    assert doubts(Wrap(net, after=lambda z: z + 1e-7 * torch.randn_like(z)), x, y) == []
    with pytest.raises(ValueError, match="probabilities"):
        doubts(Wrap(net, after=lambda z: z.softmax(1)), x, y)


def test_what_counts_as_masked():
    assert masked(dict(apgd_ce=0.58, apgd_t=0.54, fab_t=0.54, square=0.5385)) == []
    said = masked(dict(apgd_ce=0.58, apgd_t=0.54, fab_t=0.54, square=0.53))
    assert said[0].startswith(
        "masked: Square, without gradients, takes accuracy from 54.00% to 53.00%"
    )
    # no Square, or nothing before it
    assert masked(dict(a=0.5, b=0.4)) + masked(dict(square=0.1, a=0.0)) == []


def test_members_are_what_their_names_say(drawn):
    net, x, y = drawn
    plus, rand = (autoattack(Linf(8 / 255), v) for v in ("plus", "rand"))
    assert list(plus.members) == ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"]
    assert [len(plus.members[k].members) for k in ("apgd_ce", "apgd_dlr")] == [5, 5]
    assert (plus.members["fab"].attack.targets, plus.members["fab"].attack.restarts) == (None, 5)
    assert [(a.eot, a.loss) for a in rand.members.values()] == [(20, ce), (20, dlr_or_margin)]
    f = autoattack(Linf(8 / 255)).members["fab_t"].attack
    assert (f.norm, f.steps, f.targets, f.restarts) == (Linf, 100, 9, 1)
    assert (f.alpha_max, f.eta, f.beta) == (0.1, 1.05, 0.9)
    assert isinstance(autoattack(L2(0.5)).members["square"].ball, L2)
    small = dict(steps=10, targets=3, queries=60, restarts=2, eot=2)
    right = (net(x).argmax(1) == y).sum()
    for version in ("standard", "plus", "rand"):
        for ball in (Linf(0.03), L2(0.3)):
            torch.manual_seed(1)
            attack = autoattack(ball, version, **small)
            out = attack(net, x, y)
            assert ball.inside(out, x).all() and (net(out).argmax(1) == y).sum() < right
            # the same seed, the same images
            torch.manual_seed(1)
            assert torch.equal(out, attack(net, x, y))


def test_dlr_is_not_stopped_by_a_scale_and_cross_entropy_is(digits):
    from spat_nb import zoo

    net = zoo.load("digits/standard/w16", "cpu").eval()
    test = get_data("digits", device="cpu").test.subset(120)
    ball = Linf(0.15)
    loud = Wrap(net, after=lambda z: 256 * z).eval()
    short = autoattack(ball, steps=20, queries=100)
    as_it_is, scaled = (evaluate(m, test, aa=short, progress=False) for m in (net, loud))
    assert scaled.accuracy("aa/apgd_ce") > as_it_is.accuracy("aa/apgd_ce") + 0.1
    assert scaled.accuracy("aa") <= as_it_is.accuracy("aa") + 0.02
