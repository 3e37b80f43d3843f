"""A row of attacks: who sees whom, what its warnings catch, and the published budgets"""

import functools
import warnings
from types import SimpleNamespace

import torch
from asserting import assert_eq, assert_fails
from torch import nn

from spat_nb import (
    L2,
    Cascade,
    Linf,
    at_x,
    autoattack,
    ce,
    dlr_or_margin,
    evaluate,
    fgsm,
    get_data,
    margin,
    pgd,
    zoo,
)
from spat_nb.attacks.cascade import is_right
from spat_nb.attacks.doubts import doubts, masked, spread

ball = Linf(0.03)
three = dict(fgsm=fgsm(ball), margin=fgsm(ball, loss=margin), pgd=pgd(ball, 10, start=at_x))
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
# an eighth is wrong, more or less
x = torch.rand(200, 1, 8, 8)
y = torch.where(torch.arange(200) % 8 > 0, net(x).argmax(1), 0)
right = net(x).argmax(1) == y


@functools.cache
def real():
    names = {"standard": "standard", "PGD-AT": "pgd_at"}
    nets = {name: zoo.load(f"digits/{k}/w16", "cpu") for name, k in names.items()}
    test = get_data("digits", device="cpu", batch_size=64).test.subset(120)
    wide = Linf(0.15)
    short = autoattack(wide, steps=20, queries=1000)
    records = {
        name: evaluate(net, test, progress=False, pgd20=pgd(wide, 20), aa=short)
        for name, net in nets.items()
    }
    return SimpleNamespace(nets=nets, test=test, short=short, records=records, ball=wide)


def test_by_hand():
    fools = torch.tensor(
        [
            [1, 1, 1, 1, 0, 0, 0, 0],  # cheap and broad
            [1, 0, 0, 1, 1, 0, 0, 0],
            [0, 1, 0, 0, 0, 1, 0, 0],
        ]
    ).bool()
    stands, sees = torch.ones(8).bool(), []
    for row in fools:
        sees.append(int(stands.sum()))
        stands = stands & ~row
    assert_eq((sees, int(stands.sum())), ([8, 4, 3], 2))
    # the same as attacking everything with everything
    assert torch.equal(stands, ~fools.any(0))


class Spy:
    "An attack that remembers how many images it saw"

    def __init__(self, attack):
        self.attack, self.seen = attack, 0

    def __call__(self, model, x, y):
        self.seen += len(x)
        return self.attack(model, x, y)


def test_a_row_is_the_union_of_its_members_and_nobody_sees_the_fallen():
    alone = {k: is_right(net, a(net, x, y), y) for k, a in three.items()}
    spies = {k: Spy(a) for k, a in three.items()}
    row = Cascade(spies, ball)
    x_adv = row(net, x, y)
    stands = is_right(net, x_adv, y)
    # the union of all successes
    assert torch.equal(stands, right & torch.stack(list(alone.values())).all(0))
    assert_eq(
        [s.seen for s in spies.values()],
        [
            int(right.sum()),
            int((right & alone["fgsm"]).sum()),
            int((right & alone["fgsm"] & alone["margin"]).sum()),
        ],
    )
    # not fooled, or wrong already: the clean image
    assert torch.equal(x_adv[stands], x[stands]) and torch.equal(x_adv[~right], x[~right])
    assert ball.inside(x_adv, x).all() and 0 < stands.sum() < right.sum()
    # any order
    for names in (("pgd", "margin", "fgsm"), ("margin", "fgsm", "pgd")):
        assert torch.equal(
            stands, is_right(net, Cascade({k: three[k] for k in names})(net, x, y), y)
        )
    # nothing stands, nobody is called
    assert torch.equal(row(net, x[~right], y[~right]), x[~right])
    net.train()
    row(net, x[:2], y[:2])
    assert net.training
    net.eval()
    assert_eq(row(net, x.half(), y).dtype, torch.float32)
    for f, words in (
        (lambda: Cascade([fgsm(ball)]), "give a dict"),
        (lambda: Cascade({}), "at least one"),
        (lambda: Cascade(dict(a=0.1)), "member 'a' is 0.1"),
        (lambda: row(net, x * 255, y), "divide by 255"),
        (lambda: row(net, x, y[1:]), "200 images but 199 labels"),
    ):
        assert_fails(f, contains=words)


class Wrap(nn.Module):
    "A network with something done before and after it"

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


def inward(x):
    "A defence that walks downhill in its own forward pass"
    with torch.enable_grad():
        x_ = x.detach().requires_grad_()
        return x - 0.01 * torch.autograd.grad(net(x_).logsumexp(1).sum(), x_)[0]


def test_each_fault_raises_its_own_warning():
    faults = {
        "random": Wrap(net, before=lambda x: x + 0.05 * torch.randn_like(x)),
        "dynamic": Wrap(net, before=inward),
        "few classes": Wrap(net, after=lambda z: z[:, :3]),
        "no gradient": Wrap(net, before=lambda x: (x * 8).round() / 8),
    }
    few = y.clamp(max=2)
    assert_eq(doubts(net, x, y), [])
    for name, model in faults.items():
        notes = doubts(model, x, few if name == "few classes" else y)
        print(*notes, sep="\n")
        assert_eq([n.split(":")[0] for n in notes], [name])
    # 'rand' is made for these
    assert_eq(doubts(faults["random"], x, y, random=True), [])
    # cut off altogether
    assert_eq(
        doubts(Wrap(net, before=lambda x: x.detach()), x, y)[0][:24], "no gradient: 200 of 200 "
    )
    # rounding is no randomness
    assert 0 < spread(Wrap(net, after=lambda z: z + 1e-7 * torch.randn_like(z)), x)[0] < 1e-4
    assert_fails(
        lambda: doubts(Wrap(net, after=lambda z: z.softmax(1)), x, y), contains="probabilities"
    )
    assert_eq(masked(dict(apgd_ce=0.58, apgd_t=0.54, fab_t=0.54, square=0.5385)), [])
    assert masked(dict(apgd_ce=0.58, apgd_t=0.54, fab_t=0.54, square=0.53))[0].startswith(
        "masked: Square, without gradients, takes accuracy from 54.00% to 53.00%"
    )
    # no Square, or nothing before it
    assert_eq(masked(dict(a=0.5, b=0.4)) + masked(dict(square=0.1, a=0.0)), [])


def test_the_published_budgets():
    aa, plus, rand = (autoattack(Linf(8 / 255), v) for v in ("standard", "plus", "rand"))
    assert_eq(
        [list(a.members) for a in (aa, plus, rand)],
        [
            ["apgd_ce", "apgd_t", "fab_t", "square"],
            ["apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"],
            ["apgd_ce", "apgd_dlr"],
        ],
    )
    first = aa.members["apgd_ce"]
    assert_eq(
        (first.steps, first.lr, first.loss, first.restarts, first.best, first.eot),
        (100, 16 / 255, ce, 1, True, 1),
    )
    assert_eq(
        (
            aa.members["apgd_t"].targets,
            aa.members["apgd_t"].attack.steps,
            aa.members["square"].queries,
        ),
        (9, 100, 5000),
    )
    assert_eq([len(plus.members[k].members) for k in ("apgd_ce", "apgd_dlr")], [5, 5])
    f = aa.members["fab_t"].attack
    assert_eq(
        (f.norm, f.steps, f.targets, f.restarts, f.alpha_max, f.eta, f.beta),
        (Linf, 100, 9, 1, 0.1, 1.05, 0.9),
    )
    assert_eq(
        (
            plus.members["fab"].attack.targets,
            plus.members["fab"].attack.restarts,
            aa.members["square"].search.p,
        ),
        (None, 5, 0.8),
    )
    assert_eq([(a.eot, a.loss) for a in rand.members.values()], [(20, ce), (20, dlr_or_margin)])
    assert isinstance(autoattack(L2(0.5)).members["square"].ball, L2)
    small = dict(steps=10, targets=3, queries=60, restarts=2, eot=2)
    for version in ("standard", "plus", "rand"):
        for b in (Linf(0.03), L2(0.3)):
            torch.manual_seed(1)
            attack = autoattack(b, version, **small)
            out = attack(net, x, y)
            assert b.inside(out, x).all() and is_right(net, out, y).sum() < right.sum()
            # the same seed, the same images
            torch.manual_seed(1)
            assert torch.equal(out, attack(net, x, y))
    assert_fails(lambda: autoattack(8 / 255), contains="Linf(eps) and L2(eps)")
    assert_fails(lambda: autoattack(Linf(0.1), "full"), contains="version is 'full'")


def test_a_real_row_only_takes_away():
    w = real()
    _nets, _test, records, short, _ball = w.nets, w.test, w.records, w.short, w.ball
    std, rob = records.values()
    for r in records.values():
        after = [r.accuracy(f"aa/{k}") for k in short.members]
        # each member only takes away
        assert after == sorted(after, reverse=True) and after[-1] == r.accuracy("aa")
        # one image of 120 is .0083
        assert r.accuracy("aa") <= r.accuracy("pgd20") + 0.0084 and r.accuracy(
            "worst"
        ) <= r.accuracy("aa")
    assert rob.accuracy("aa") > std.accuracy("aa") + 0.1


def test_loud_logits_stop_cross_entropy_and_not_dlr():
    w = real()
    nets, test, records, _short, ball = w.nets, w.test, w.records, w.short, w.ball
    std, rob = records.values()
    loud = Wrap(nets["standard"], after=lambda z: 256 * z)
    r = evaluate(
        loud, test, progress=False, pgd20=pgd(ball, 20), aa=autoattack(ball, steps=20, queries=100)
    )
    # cross-entropy sees a robust network
    assert r.accuracy("aa/apgd_ce") > std.accuracy("aa/apgd_ce") + 0.1
    # DLR does not: its unit grows with the logits
    assert r.accuracy("aa") <= std.accuracy("aa") + 0.0084


def test_rounding_is_told_twice_and_an_adaptive_attack_does_better():
    w = real()
    nets, test, records, _short, ball = w.nets, w.test, w.records, w.short, w.ball
    std, rob = records.values()
    stairs = Wrap(nets["standard"], before=lambda x: (x * 8).round() / 8)
    # FAB warns too; once is enough here
    warnings.filterwarnings("ignore", "nothing found")
    r = evaluate(
        stairs, test, progress=False, aa=autoattack(ball, steps=10, targets=3, queries=100)
    )
    assert_eq([n.split(":")[0] for n in r.notes], ["no gradient", "masked"])
    # three attacks with slopes: next to nothing
    assert r.accuracy("aa/fab_t") > r.accuracy() - 0.05
    # one without: a great deal, with 100 queries
    assert r.accuracy("aa") < r.accuracy("aa/fab_t") - 0.3
    # the same answers, another slope
    through = Wrap(nets["standard"], before=lambda x: x + ((x * 8).round() / 8 - x).detach())

    wide = ball

    class Through:
        "PGD on the network with a slope put in; judged, as always, on the network itself"

        ball = wide

        def __call__(self, model, x, y):
            return pgd(ball, 20, loss=margin)(through, x, y)

    bpda = evaluate(stairs, test, progress=False, adaptive=Through())
    print(
        f"AutoAttack {r.accuracy('aa'):.3f}, adaptive PGD-20 {bpda.accuracy('adaptive'):.3f} (n ="
        f" {len(r.y)}, eps .15, seed 0)"
    )
    assert bpda.accuracy("adaptive") < r.accuracy("aa") - 0.05
