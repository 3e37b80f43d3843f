"Specs: calls written down. What is written is read again, and nothing else is"

import functools
import os
import random
import sys
import types
from dataclasses import fields, is_dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb import public
from spat_nb.core import outside
from spat_nb.core.calls import parameters, required
from spat_nb.core.grammar import number, parse, render
from spat_nb.core.spec import difference, differences, make, outsiders, same, text

CALLABLE = [n for n in public.KIND if public.KIND[n] != "module"]
MADE = [n for n in public.NAMES if public.KIND[n] == "made"]
KEPT = [n for n in public.KIND if public.KIND[n] == ""]
WORKS = [n for n in public.NAMES if public.KIND[n] == "works"]
MODULES = [n for n in public.NAMES if public.KIND[n] == "module"]
# What a call needs at least, by the name of the argument
NEEDS = {
    "ball": "Linf(8/255)",
    "attack": "pgd(Linf(8/255))",
    "objective": "pgd_at",
    "loss": "ce",
    "search": "steepest",
    "members": "{'one': pgd(L2(0.5)), 'two': square(L2(0.5))}",
    "eps": "0.25",
    "a": "0.2",
    "tau": "2.0",
    "m": "0.1",
    "scale": "10.0",
    "c": "10",
    "one": "Linf(8/255)",
    "other": "L2(0.5)",
    "family": "Rotation(15)",
    "degrees": "15.0",
    "pixels": "1.0",
}
FITTING = {"pixel_search": "L0(5)"}  # the ball of those that do not know Linf


def alike(a, b):
    "Do two objects do the same, as far as can be looked at?"
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, partial):
        return (
            alike(a.func, b.func)
            and alike(a.args, b.args)
            and alike(*(dict(sorted(f.keywords.items())) for f in (a, b)))
        )
    if isinstance(a, types.FunctionType):
        cells = [[c.cell_contents for c in f.__closure__ or ()] for f in (a, b)]
        return a.__code__ is b.__code__ and alike(*cells)
    if isinstance(a, dict):
        return list(a) == list(b) and alike(list(a.values()), list(b.values()))
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(alike, a, b))
    if is_dataclass(a):
        return all(alike(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.init)
    if isinstance(a, (bool, int, float, str)):
        return a == b
    return alike(vars(a), vars(b))


def refused(t, match=None, **kw):
    "One sentence about a text that is no spec"
    with pytest.raises(ValueError, match=match) as e:
        make(t, **kw)
    assert type(e.value) is ValueError and "\n" not in str(e.value) and len(str(e.value)) < 600
    return str(e.value)


def returns(t, **kw):
    "The text and the object once more"
    x = make(t, **kw)
    written = text(x)
    again = make(written, **kw)
    assert alike(again, x), (t, written)
    assert text(again) == written
    assert same(x, written), difference(x, written)
    return x


# ---- every public name


@pytest.mark.parametrize("name", CALLABLE)
def test_a_name_is_its_own_spec(name):
    assert make(name) is public.resolve(name)
    assert text(make(name)) == name
    assert same(name, name)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_no_spec(name):
    refused(name, "is a module")
    with pytest.raises(ValueError, match="module has no spec"):
        text(public.resolve(name))


@pytest.mark.parametrize("name", MADE)
def test_a_call_is_made(name):
    f = public.resolve(name)
    needs = {**NEEDS, "ball": FITTING.get(name, NEEDS["ball"])}
    args = [f"{k}={needs[k]}" for k in required(parameters(f, name))]
    x = returns(f"{name}({', '.join(args)})")
    assert not isinstance(x, partial) and x is not f
    kept = make(f"{name}({', '.join(args)})", now=False)
    assert (kept is f) if not args else (isinstance(kept, partial) and kept.func is f)
    assert alike(make(text(kept, now=False), now=False), kept)


@pytest.mark.parametrize("name", MADE)
def test_a_call_that_lacks_something_waits(name):
    f = public.resolve(name)
    told = parameters(f, name)
    if not required(told):
        assert make(f"{name}()") is not f
        return
    assert make(f"{name}()") is f
    for k, p in told.items():
        if p.default is not p.empty and isinstance(p.default, (int, float)):
            x = returns(f"{name}({k}={p.default!r})")
            assert isinstance(x, partial) and x.func is f and x.keywords == {k: p.default}


@pytest.mark.parametrize("name", KEPT)
def test_what_others_call_is_kept(name):
    f = public.resolve(name)
    told = parameters(f, name)
    assert make(f"{name}()") is f
    for k, p in told.items():
        if p.default is not p.empty and isinstance(p.default, (int, float, str)):
            x = returns(f"{name}({k}={p.default!r})")
            assert isinstance(x, partial) and x.keywords.items() >= {k: p.default}.items()
    refused(f"{name}(1)", "by position")
    for k in required(told):
        refused(f"{name}({k}=1)", f"{name} gets {k} from whoever calls it")


@pytest.mark.parametrize("name", WORKS)
def test_what_works_is_named_and_not_called(name):
    refused(f"{name}(1)", f"^{name} works or measures")
    refused(f"{name}(path='x')", f"^{name} works or measures")
    assert make(f"{name}()") is public.resolve(name)


@pytest.mark.parametrize("name", [*MADE, *KEPT])
def test_an_unknown_argument(name):
    said = refused(f"{name}(qqqq=1)")
    assert said.startswith(f"{name} has no argument 'qqqq'. It "), said


def test_did_you_mean():
    assert "did you mean 'objective'? It knows a, objective." in refused("spat(objectiv=mart)")
    assert "positional arguments. It takes none." in refused("AlternatingFlips(3)")
    assert "did you mean 'steps'?" in refused("pgd(stepss=3)")
    assert "did you mean 'restarts'?" in refused("pgd(Linf(0.1), restart=3)")
    assert "did you mean 'pgd'?" in refused("ppgd")


# ---- what a call means


def test_the_examples_of_the_plan():
    x = returns("spat(a=0.1, objective=trades(beta=6))")
    assert x.func is public.resolve("spat") and x.keywords["objective"].keywords == {"beta": 6}
    net = returns("PreActResNet10(width=4, act=Sparta, head=Hypersphere(scale=15))")
    model = net(classes=7)
    assert model.head.scale == 15 and model(torch.rand(2, 3, 8, 8)).shape == (2, 7)
    assert returns("L2(0.5)") == public.resolve("L2")(0.5)
    attack = returns("pgd(steps=20, loss=margin)")(make("L2(0.5)"))
    assert attack.steps == 20 and attack.loss is public.resolve("margin")
    assert make("fgsm, pgd(steps=20)")[0] is public.resolve("fgsm")


@pytest.mark.parametrize(
    "written",
    [
        "Linf(8/255)",
        "L1(12, share=0.05)",
        "awp(pgd_at, gamma=0.005)",
        "pgd(steps=5, start=gaussian(sigma=0.01))",
        "pgd_at(loss=margin_ce(0.2, 15.0))",
        "pgd(loss=tempered(margin, 5.0))",
        "pgd_at(loss=smoothed(ce, 0.1))",
        "trades(beta=6.0, loss=margin_ce(0.1, 10))",
        "autoattack(L2(0.5), steps=10)",
        "square(Linf(0.1), queries=100)",
        "within(fab(norm=L2, steps=10), L2(0.5))",
        "Prototypes(points=simplex, rule='l2', scale=3.0)",
        "SmallCNN(act=Softplus(beta=10))",
        "deepfool()",
        "('a', 1.5, None, True, [-3], (1,), {'k': ce, 2: ()})",
        "EMA(decay=0.99)",
    ],
)
def test_canonical_texts_stay(written):
    assert text(returns(written)) == written


def test_spellings_of_one_spec():
    for a, b in [
        ("L2(eps = .5)", "L2(0.5)"),
        ("spat(objective=mart, a=1e-1)", "spat(a=0.1, objective=mart)"),
        ("Linf(0.03137254901960784)", "Linf(8/255)"),
        ("pgd(steps=2*5+1-1)", "pgd(steps=10)"),
        ("gaussian(.001)", "gaussian()"),
        ("awp(pgd_at, .01)", "awp(pgd_at)"),
        ("PreActResNet18()", "PreActResNet18"),
    ]:
        assert text(make(a)) == b


def test_what_was_made_in_python_has_the_same_text():
    P = public.resolve
    assert text(P("gaussian")(0.01)) == "gaussian(sigma=0.01)"
    assert text(P("tempered")(P("margin"), 5.0)) == "tempered(margin, 5.0)"
    assert text(partial(P("trades"), beta=6)) == "trades(beta=6)"
    assert text(partial(partial(P("spat"), a=0.2), objective=P("mart"))) == (
        "spat(a=0.2, objective=mart)"
    )
    assert text(P("pgd")(P("L2")(0.5), 4)) == "Attack(L2(0.5), steps=4, lr=0.3125)"
    assert text(nn.ReLU) == "ReLU"
    assert text(weighing(ce=P("ce"))) == f"{__name__}:weighing(ce)"
    assert text(np.float64(0.5)) == "0.5" and text(np.int64(3)) == "3"


def test_a_position_binds_no_model():
    assert "write a=..., say" in refused("spat(0.1)")
    refused("spat(1, 2, 3, 4)", "spat gets model, x, y, attack later")
    refused("margin_ce(0.1)", "margin_ce gets scale later")
    refused("L2(1, 2, 3, 4)", "too many positional arguments")
    refused("L2(1, eps=2)", "multiple values for argument 'eps'")


def test_what_a_maker_refuses_is_one_sentence():
    refused("Linf(8)", r"^Linf\(...\) cannot be made: eps is 8, but pixels run from 0 to 1")
    refused("Linf('a')")
    refused("pgd(L2, steps=3)", "threat model")
    refused("L2(0.5)(1)", "only what has a name can be called")


def weighing(ce, w=1.0):
    def loss(z, y):
        return w * ce(z, y)

    return loss


# ---- what has no spec


def local(unseen):
    def inner(z, y):
        return z

    return inner


@pytest.mark.parametrize(
    "x,match",
    [
        (lambda z, y: z, "a lambda .*test_spec.py, line .* has no name"),
        (local(3), "inner .* make it a def at the top of a module"),
        (torch.zeros(2), "a Tensor has no spec"),
        (nn.Linear(2, 2), "a Linear has no spec; give the class or function that makes it"),
        (torch.Generator(), "a Generator has no spec"),
        (float("nan"), "NaN"),
        (10**30, "64 bits"),
        ({(1, 2): 3}, "the key"),
        ("mine.py:f", "would be read as a name of a file"),
        ("a\0b", "number 0"),
        ({1, 2}, "a set has no spec"),
        (partial(public.resolve("trades"), torch.zeros(1)), "by position"),
        (partial(public.resolve("pgd"), ball=public.resolve("Linf")(0.1)), "call it"),
        (partial(public.resolve("pgd"), loss=lambda z, y: z), "a lambda"),
        (partial(public.resolve("save"), path="x"), "works or measures"),
        (public.resolve("pgd").__call__, "has no spec"),
        (parse, "spat_nb.core.grammar.parse has no public name"),
    ],
)
def test_no_spec(x, match):
    with pytest.raises(ValueError, match=match) as e:
        text(x)
    assert "\n" not in str(e.value)


def test_a_list_in_itself():
    a = []
    a.append(a)
    with pytest.raises(ValueError, match="inside each other"):
        text(a)


# ---- nothing but names, calls and literals


NOT_SPECS = """
os:system
os:system('ls')
pgd(loss=os:system)
'mine.py:f'
mine.py:f(beta=2)
pgd(loss='my folder/mine.py:f')
__import__("os")
__import__('os').system('ls')
pgd.__globals__
pgd.__globals__['os']
a if b else c
pgd if True else fgsm
f'{pgd}'
f"x"
[x for x in (1, 2)]
{x: x for x in (1, 2)}
(x for x in (1, 2))
{1, 2}
lambda: 1
lambda x: x
(a := 1)
pgd(*[1])
pgd(**{'steps': 1})
*pgd
{**{}}
{pgd: 1}
{(1, 2): 3}
[1, 2][0]
'a'[0]
2**9
7 // 2
7 % 2
1 @ 2
1 << 60
not True
~1
True + 1
'a' * 9
'a' + 'b'
-'a'
1 < 2
True and False
1j
b'a'
...
await pgd
yield 1
pgd(steps=1, steps=2)
pgd(1
pgd)
import os
x = 1
pgd; fgsm
1/0
1e300*1e300-1e300*1e300
'a' 'b'('c')
eval('1')
exec
getattr(pgd, 'func')
open('x')
spat_nb
public
nn.ReLU
Hardtanh
""".strip().split("\n")


@pytest.mark.parametrize(
    "t", [*NOT_SPECS, "", " ", "#", "\n", "\\", "\0", "'\\0os:system'", "\ud800"]
)
def test_no_spec_either(t):
    refused(t)


@pytest.mark.parametrize("t", ["os:system", "os:system('ls')", "pgd(loss=os:system)", "'a b.py:f'"])
def test_the_reason_is_said(t):
    assert "what is read from a file names only spat_nb's own" in refused(t)


@pytest.mark.parametrize("outside", [False, True])
def test_large_texts(outside):
    for t in ["(" * 100_000, "9" * 5000, "9" * 9000, "-" * 9000 + "1", "+1" * 4000, "[" * 9000]:
        refused(t, outside=outside)
    refused("(" * 190 + "1" + ",)" * 190, "inside each other", outside=outside)
    refused("1*" * 3000 + "1", "inside each other|too many", outside=outside)
    refused("9" * 4000, "64 bits", outside=outside)
    refused("999999999999*999999999999", "64 bits", outside=outside)
    refused(".".join("a" * 4000), outside=outside)


@pytest.mark.parametrize("t", [None, 3, b"pgd", ["pgd"], torch.zeros(1)])
def test_no_text(t):
    with pytest.raises(TypeError, match="a spec is a text"):
        make(t)


# ---- any spec at all

NUMBERS = st.one_of(
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False),
    st.sampled_from([k / 255 for k in range(-300, 300)]),
)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
PLAIN = st.one_of(NUMBERS, WORDS, st.booleans(), st.none())
KEYS = st.one_of(st.integers(-9, 9), WORDS)
TREES = st.recursive(
    PLAIN,
    lambda x: st.one_of(
        st.lists(x, max_size=3), st.tuples(x), st.tuples(x, x), st.dictionaries(KEYS, x, max_size=3)
    ),
    max_leaves=8,
)


@given(TREES)
@settings(max_examples=500, deadline=None)
def test_literals_come_back(v):
    written = text(v)
    assert alike(make(written), v) and text(make(written)) == written


@given(st.floats(allow_nan=False))
def test_numbers_are_exact(v):
    assert make(number(v)) == v and type(make(number(v))) is float


def test_numbers_read_well():
    assert [number(k / 255) for k in (1, 8, -16)] == ["1/255", "8/255", "-16/255"]
    assert [number(v) for v in (0.2, 0.5, 1.0, 0.0, 2, 1e-3)] == [
        "0.2",
        "0.5",
        "1.0",
        "0.0",
        "2",
        "0.001",
    ]


@functools.cache
def parameters_of(name):
    try:
        return parameters(public.resolve(name), name)
    except ValueError:
        return {}


@st.composite
def calls(draw, values):
    "The text of a call of any public name, sensible or not"
    name = draw(NAMED)
    told = [k for k, p in parameters_of(name).items() if p.kind.name.startswith(("POS", "KEY"))]
    keys = draw(st.permutations(told))[: draw(UP_TO_3)]
    args = [draw(values) for _ in range(draw(UP_TO_3) // 2)]
    given = [NEEDS.get(k) or draw(values) if draw(st.booleans()) else draw(values) for k in keys]
    return f"{name}({', '.join([*args, *map('{}={}'.format, keys, given)])})"


UP_TO_3 = st.integers(0, 3)
NAMED = st.sampled_from(CALLABLE)
GIVEN = ["0.1", "1", "8/255", "None", "True", "'standard'", "Linf(8/255)", "L2", *NEEDS.values()]
LEAVES = st.one_of(st.sampled_from(GIVEN), NAMED)
CALLS = calls(st.one_of(LEAVES, calls(st.one_of(LEAVES, calls(LEAVES)))))


@given(CALLS)
@settings(max_examples=400, deadline=None)
def test_any_call_comes_back_or_is_refused(t):
    try:
        x = make(t)
    except ValueError as e:
        assert type(e) is ValueError and "\n" not in str(e)
        assume(False)
    returns(t)
    assert outsiders(x) == []


SEEDS = [
    "spat(a=0.1, objective=trades(beta=6, loss=smoothed(ce, 0.1)))",
    "PreActResNet18(width=16, act=Sparta(k=3), head=Hypersphere(scale=15))",
    "pgd(Linf(8/255), steps=20, loss=margin, start=gaussian(.001))",
    "{'a': [1, -2.5e-3, (None, True)], 'b': autoattack(L2(0.5), version='rand')}",
    "mine.py:squeezed(beta=2, loss=os:system, act='my dir/canary.py:f')",
    "canary:f(Linf, pgd.__globals__, __import__('antigravity'), lambda x: this:s)",
]


@pytest.fixture
def no_imports(monkeypatch, tmp_path):
    "Where nothing may be looked for outside of spat_nb; a file that would tell lies near"
    for name in public.NAMES:
        public.resolve(name)

    def find(name):
        raise AssertionError(f"{name} was looked for")

    monkeypatch.setattr(outside, "find", find)
    monkeypatch.chdir(tmp_path)
    for name in ("canary", "mine"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = {*sys.modules}
    yield
    assert {*sys.modules} == before
    assert sorted(os.listdir(tmp_path)) == ["canary.py", "mine.py"]


def mutated(rng):
    t = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 6)):
        i, j = sorted(rng.randrange(len(t) + 1) for _ in range(2))
        other = rng.choice(SEEDS)
        k = rng.randrange(len(other))
        new = rng.choice(
            [
                "",
                rng.choice("()[]{},=:.*'\"\\/-+ \n#@!~`\0é0a_"),
                other[k : k + rng.randint(1, 20)],
                rng.choice(CALLABLE) + "(",
                rng.choice(["os:system", "__import__('os')", "canary.py:f", "None", "1e999"]),
            ]
        )
        t = t[:i] + new + t[rng.choice([i, min(j, i + 4)]) :]
    return t


def test_fuzzed_texts_end_in_a_value_or_a_sentence(no_imports):
    rng, values = random.Random(0), 0
    for _ in range(10_000):
        t = mutated(rng)
        try:
            x = make(t)
        except ValueError as e:
            assert type(e) is ValueError and "\n" not in str(e), t
            continue
        values += 1
        assert text(make(text(x))) == text(x), t
    assert 100 < values < 9900  # both ends were seen


def test_nothing_is_imported(no_imports):
    for t in [*NOT_SPECS, *SEEDS[-2:], "canary:f", "canary.py:f", "'canary.py:f'()"]:
        refused(t)


def test_comparing_imports_nothing(no_imports):
    assert (
        difference("canary.py:f(beta=2)", "canary.py:f(beta=3)")
        == "beta is 2 in one, 3 in the other"
    )
    assert (
        difference("pgd(loss=canary:f)", "pgd(loss=ce)")
        == "loss is canary:f in one, ce in the other"
    )


# ---- one's own

MINE = """
from functools import partial
from dataclasses import dataclass
from torch import nn
from spat_nb import ce, pgd_at

def squeezed(model, x, y, attack, beta=1.0):
    return beta*pgd_at(model, x, y, attack)

def weighted(w):
    def loss(z, y):
        return w*ce(z, y)
    return loss

@dataclass(frozen=True)
class Half:
    attack: object
    share: float = .5
    def __call__(self, model, x, y): return x

def net(classes=10, width=8) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(width, classes))

def several(*, n):
    return {n, n+1}

def raw():
    return b"x"

class Own:
    def __init__(self, n): self.n = n

def anything(classes=10, width=8):
    return nn.Linear(width, classes)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def test_a_file_that_was_typed(here):
    f = make("mine.py:squeezed", outside=True)
    assert f.__name__ == "squeezed" and text(f) == "mine.py:squeezed"
    assert make("mine.py:squeezed", outside=True) is f
    x = returns("mine.py:squeezed(beta=2)", outside=True)
    assert x.func is f and x.keywords == {"beta": 2} and outsiders(x) == [f]
    assert text(x) == "mine.py:squeezed(beta=2)"
    nested = returns("spat(a=0.2, objective=mine.py:squeezed(beta=3))", outside=True)
    assert outsiders(nested) == [f]
    refused("mine.py:squeezed(2)", "gets model, x, y, attack later|by position", outside=True)
    refused("mine.py:squeezed(bta=2)", "did you mean 'beta'", outside=True)
    refused("mine.py:squeezd", "did you mean 'squeezed'", outside=True)
    refused("mine.py:squeezed", "names only spat_nb's own")


def test_what_a_file_makes(here):
    loss = returns("mine.py:weighted(2.5)", outside=True)
    assert text(loss) == "mine.py:weighted(2.5)"
    assert loss(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(2.5 * np.log(2))
    assert text(make("mine.py:weighted", outside=True)(3)) == "mine.py:weighted(3)"
    assert [f.__name__ for f in outsiders(loss)] == ["weighted"]
    half = returns("mine.py:Half(pgd(L2(0.5)), share=0.25)", outside=True)
    assert half.share == 0.25 and [f.__name__ for f in outsiders(half)] == ["Half"]


def test_what_a_file_made_is_remembered(here):
    own = make("mine.py:Own(3)", outside=True)
    assert text(own) == "mine.py:Own(3)" and outsiders(own) == [type(own)]
    assert text(make("mine.py:weighted(mine.py:Own(3))", outside=True)) == (
        "mine.py:weighted(mine.py:Own(3))"
    )
    with pytest.raises(ValueError, match="Own has no spec"):
        text(type(own)(3))
    assert text(make("mine.py:several(n=3)", outside=True)) == "mine.py:several(n=3)"
    with pytest.raises(ValueError, match="a bytes has no spec"):
        text(make("mine.py:raw()", outside=True))


def test_networks_of_a_file_are_made_later(here):
    assert returns("mine.py:net(width=4)", outside=True)(classes=3)[1].out_features == 3
    assert isinstance(make("mine.py:anything(width=4)", outside=True), nn.Linear)
    kept = make("mine.py:anything(width=4)", outside=True, now=False)
    assert kept(classes=3).out_features == 3
    assert text(kept, now=False) == "mine.py:anything(width=4)"
    with pytest.raises(ValueError, match="-> nn.Module"):
        text(kept)


def test_an_edited_file_is_read_again(here):
    old = make("mine.py:weighted(1)", outside=True)
    stamp = (here / "mine.py").stat()
    (here / "mine.py").write_text(MINE.replace("w*ce", "w+ce"))
    os.utime(here / "mine.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    new = make("mine.py:weighted(1)", outside=True)
    at = torch.zeros(1, 2), torch.tensor([0])
    assert new(*at).item() == pytest.approx(1 + np.log(2)) and old(*at).item() == pytest.approx(
        np.log(2)
    )
    assert text(new) == "mine.py:weighted(1)"


def test_paths(here, monkeypatch):
    folder = here / "my dir"
    folder.mkdir()
    (folder / "a-b.c.py").write_text("from neighbour import f\ndef g(z, y): return f(z)\n")
    (folder / "neighbour.py").write_text("def f(z): return z\n")
    monkeypatch.setenv("HOME", str(here))
    for t in [
        "'my dir/a-b.c.py:g'",
        f"'{here}/my dir/a-b.c.py:g'",
        "pgd(loss='my dir/a-b.c.py:g')",
        "~/mine.py:squeezed",
        f"{here}/mine.py:squeezed(beta=1)",
        "'my dir/../mine.py:squeezed'(beta=2)",
    ]:
        returns(t, outside=True)
    assert (
        text(make("pgd(loss='my dir/a-b.c.py:g')", outside=True)) == "pgd(loss='my dir/a-b.c.py:g')"
    )
    assert text(make("./mine.py:squeezed", outside=True)) == "mine.py:squeezed"
    assert str(folder) not in sys.path
    del sys.modules["neighbour"]


@pytest.mark.parametrize(
    "content,match",
    [
        (None, "cannot be read"),
        ("def f(:", "does not run .SyntaxError"),
        ("1/0", "does not run .ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "does not run .SystemExit: 3"),
        ("g = 1", "has no 'f'"),
        ("f = 1", None),
    ],
)
def test_files_that_do_not_help(here, content, match):
    if content is not None:
        (here / "bad.py").write_text(content)
    if match:
        refused("bad.py:f", match, outside=True)
    refused("bad.py:f(1)", outside=True)


def test_modules_that_were_typed():
    import collections

    assert make("collections:OrderedDict", outside=True) is collections.OrderedDict
    assert text(collections.OrderedDict) == "collections:OrderedDict"
    assert outsiders(collections.OrderedDict) == [collections.OrderedDict]
    assert text(make("spat_nb.attacks.losses:ce", outside=True)) == "ce"
    refused("no_such_module:f", "cannot be imported .* no_such_module.py:name", outside=True)
    refused("collections:OrderedDct", "did you mean 'OrderedDict'", outside=True)
    assert make("{'a': 1, True:ce}", outside=True)[True] is public.resolve("ce")


def test_a_script_names_its_own(here):
    import subprocess

    code = "from spat_nb.core.spec import text\ndef f(z, y): return z\nprint(text(f))\n"
    (here / "script.py").write_text(code)
    run = [sys.executable, "script.py"]
    said = subprocess.run(run, capture_output=True, text=True, cwd=here, check=True).stdout
    assert said.strip() == "script.py:f"
    run = [sys.executable, "-c", code]
    failed = subprocess.run(run, capture_output=True, text=True, cwd=here)
    assert failed.returncode and "has no name that a spec could hold" in failed.stderr


# ---- two specs


@pytest.mark.parametrize(
    "a,b,words",
    [
        ("spat(a=.1)", "spat", ""),
        ("spat", "spat(objective=pgd_at)", ""),
        ("trades(beta=6)", "trades(beta=6.0)", ""),
        ("pgd(best=1)", "pgd(best=True)", "best is 1 in one, True in the other"),
        ("spat(a=.1)", "spat(a=.2)", "a is 0.1 in one, 0.2 in the other"),
        (
            "spat(objective=trades)",
            "spat(objective=trades(beta=5), a=.3)",
            "a is 0.1 in one, 0.3 in the other, objective.beta is 6.0 in one, 5 in the other",
        ),
        ("Linf(8/255)", "L2(.5)", "it is Linf(8/255) in one, L2(0.5) in the other"),
        ("deepfool", "deepfool()", "it is deepfool in one, deepfool() in the other"),
        ("m.py:f(beta=2)", "m.py:f", "beta is 2 in one, not given in the other"),
        ("[1, ce]", "[1, dlr]", "1 is ce in one, dlr in the other"),
        ("[1]", "(1,)", "it is [1] in one, (1,) in the other"),
        (
            "{'a': 1}",
            "{'b': 1}",
            "a is 1 in one, not given in the other, b is not given in one, 1 in the other",
        ),
        ("None", "0", "it is None in one, 0 in the other"),
        ("L2(1, lo=.1)", "L2(eps=1, lo=.1)", ""),
    ],
)
def test_what_differs(a, b, words):
    assert difference(a, b) == words
    assert same(a, b) == (not words)
    assert {k: v[::-1] for k, v in differences(a, b).items()} == differences(b, a)


def test_objects_are_compared_too():
    P = public.resolve
    assert same(partial(P("trades"), beta=6.0), "trades")
    assert (
        difference(P("Linf")(8 / 255), "Linf(4/255)") == "eps is 8/255 in one, 4/255 in the other"
    )
    assert same(partial(P("SmallCNN"), width=8), "SmallCNN(width=8)")


@given(TREES)
@settings(max_examples=200, deadline=None)
def test_a_tree_is_itself(v):
    written = render(parse(text(v)))
    assert written == text(v) and same(written, written)
