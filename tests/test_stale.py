"""Nothing that was made of other code or other values is taken for what is asked now: evaluations,
trainings, finished runs, records, studies
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from functools import partial

import pytest
import torch
from torch import nn

from spat_nb.app.cli import main
from spat_nb.attacks.attack import Attack, pgd
from spat_nb.attacks.balls import Linf
from spat_nb.attacks.losses import ce
from spat_nb.attacks.wrapped import smoothed
from spat_nb.classwise.budgets import tau_sweep
from spat_nb.classwise.diagnosis import diagnose
from spat_nb.classwise.temperature import temperature_pgd
from spat_nb.core.rng import generator
from spat_nb.data.batches import Batches
from spat_nb.data.draws import crop_flip
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.record import Record
from spat_nb.measure.sweep import sweep
from spat_nb.models.networks import SmallCNN
from spat_nb.training.callbacks import Best, EarlyStop, Validate
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.events import Callback
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import pgd_at
from spat_nb.training.progress_bar import Progress
from spat_nb.training.schedule import sgd


def module(folder, text):
    "A module read from a file, as an import does"
    m, path = type(sys)("mine"), folder / "mine.py"
    path.write_text(textwrap.dedent(text))
    m.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), m.__dict__)
    return m


def typed(text):
    "A module that no file holds"
    m = type(sys)("mine")
    exec(textwrap.dedent(text), m.__dict__)
    return m


def images(n=12, seed=0):
    g = generator(seed)
    return (torch.rand(n, 1, 8, 8, generator=g) * 255).byte(), torch.arange(n) % 10


X, Y = images()
DATA = Batches(X, Y, tuple("abcdefghij"), batch_size=5)


def net(seed=0):
    torch.manual_seed(seed)
    return SmallCNN(width=4)


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


# ---- evaluate(resume=file)
def go(path, attack=None, model=None, data=DATA, **kw):
    return evaluate(
        model or linear(),
        data,
        progress=False,
        resume=path,
        **{"precision": "float32", "mine": attack or pgd(Linf(0.1), 2), **kw},
    )


def refused(f, *says):
    "One sentence with the mend, that says all of this"
    with pytest.raises(ValueError) as e:
        f()
    text = str(e.value)
    assert (
        "\n" not in text
        and text.count("; ") == 1
        and ("delete it" in text or "--again" in text or "evaluate both" in text)
    ), text
    for s in says:
        assert re.search(s, text), text


HEAD = "import functools, torch\nfrom torch import nn\n"
ATTACKS = {  # before, after, what the refusal names
    "body": (
        "def a(model, x, y): return (x+.1).clamp(0, 1)",
        "def a(model, x, y): return (x+.2).clamp(0, 1)",
        "another mine: its function `a`",
    ),
    "global": (
        "E = .1\ndef a(model, x, y): return (x+E).clamp(0, 1)",
        "E = .2\ndef a(model, x, y): return (x+E).clamp(0, 1)",
        "the global E was 0.1, now 0.2",
    ),
    "tensor": (
        "E = torch.full((8, 8), .1)\ndef a(model, x, y): return (x+E).clamp(0, 1)",
        "E = torch.full((8, 8), .2)\ndef a(model, x, y): return (x+E).clamp(0, 1)",
        "the global E has changed",
    ),
    "surrogate": (
        (
            "def make(k):\n torch.manual_seed(k)\n s = nn.Conv2d(1, 1, 1)\n def a(model, x, y):"
            " return s(x).detach().clamp(0, 1)\n return a\na = make(0)"
        ),
        (
            "def make(k):\n torch.manual_seed(k)\n s = nn.Conv2d(1, 1, 1)\n def a(model, x, y):"
            " return s(x).detach().clamp(0, 1)\n return a\na = make(1)"
        ),
        "s.weight of make.a",
    ),
    "surrogate's forward": (
        (
            "class S(nn.Module):\n def forward(self, x): return x\ndef make(s):\n def a(model, x,"
            " y): return s(x)\n return a\na = make(S())"
        ),
        (
            "class S(nn.Module):\n def forward(self, x): return 1-x\ndef make(s):\n def a(model, x,"
            " y): return s(x)\n return a\na = make(S())"
        ),
        "`S.forward`",
    ),
    "helper": (
        "def h(x): return x\ndef a(model, x, y): return h(x)",
        "def h(x): return 1-x\ndef a(model, x, y): return h(x)",
        "its function `h`",
    ),
    "default": (
        "def a(model, x, y, e=.1): return (x+e).clamp(0, 1)",
        "def a(model, x, y, e=.2): return (x+e).clamp(0, 1)",
        "the default e of a was 0.1, now 0.2",
    ),
    "keyword": (
        "def a(model, x, y, *, e=.1): return (x+e).clamp(0, 1)",
        "def a(model, x, y, *, e=.2): return (x+e).clamp(0, 1)",
        "the default e of a was 0.1, now 0.2",
    ),
    "partial": (
        "def f(model, x, y, e): return (x+e).clamp(0, 1)\na = functools.partial(f, e=.1)",
        "def f(model, x, y, e): return (x+2*e).clamp(0, 1)\na = functools.partial(f, e=.1)",
        "its function `f`",
    ),
    "decorated": (
        (
            "def d(f):\n @functools.wraps(f)\n def g(*p): return f(*p)\n return g\n@d\ndef a(model,"
            " x, y): return x"
        ),
        (
            "def d(f):\n @functools.wraps(f)\n def g(*p): return f(*p)\n return g\n@d\ndef a(model,"
            " x, y): return 1-x"
        ),
        "its function `a`",
    ),
    "class": (
        "class A:\n def __call__(self, model, x, y): return x\na = A()",
        "class A:\n def __call__(self, model, x, y): return 1-x\na = A()",
        "its function `A.__call__`",
    ),
    "attribute": (
        (
            "class A:\n e = .1\n def __call__(self, model, x, y): return (x+self.e).clamp(0, 1)\na"
            " = A()"
        ),
        (
            "class A:\n e = .2\n def __call__(self, model, x, y): return (x+self.e).clamp(0, 1)\na"
            " = A()"
        ),
        "e of A was 0.1, now 0.2",
    ),
    "inherited": (
        (
            "class B:\n def s(self): return .1\nclass A(B):\n def __call__(self, model, x, y):"
            " return (x+self.s()).clamp(0, 1)\na = A()"
        ),
        (
            "class B:\n def s(self): return .2\nclass A(B):\n def __call__(self, model, x, y):"
            " return (x+self.s()).clamp(0, 1)\na = A()"
        ),
        "its function `B.s`",
    ),
    "property": (
        (
            "class A:\n @property\n def e(self): return .1\n def __call__(self, model, x, y):"
            " return (x+self.e).clamp(0, 1)\na = A()"
        ),
        (
            "class A:\n @property\n def e(self): return .2\n def __call__(self, model, x, y):"
            " return (x+self.e).clamp(0, 1)\na = A()"
        ),
        "its function `A.e`",
    ),
    "method on the instance": (
        (
            "import types\nclass A:\n def s(self): return .1\n def __call__(self, model, x, y):"
            " return (x+self.s()).clamp(0, 1)\na = A()"
        ),
        (
            "import types\nclass A:\n def s(self): return .1\n def __call__(self, model, x, y):"
            " return (x+self.s()).clamp(0, 1)\na = A()\na.s = types.MethodType(lambda self: .2, a)"
        ),
        "s is new",
    ),
    "nested": (
        "def a(model, x, y):\n def inner(): return .1\n return (x+inner()).clamp(0, 1)",
        "def a(model, x, y):\n def inner(): return .2\n return (x+inner()).clamp(0, 1)",
        "its function `a`",
    ),
    "loss": (
        (
            "from spat_nb.attacks.attack import pgd\nfrom spat_nb.attacks.balls import Linf\ndef loss(z, y): return"  # noqa: E501
            " z[:,0]\na = pgd(Linf(.1), 2, loss=loss)"
        ),
        (
            "from spat_nb.attacks.attack import pgd\nfrom spat_nb.attacks.balls import Linf\ndef loss(z, y): return"  # noqa: E501
            " -z[:,0]\na = pgd(Linf(.1), 2, loss=loss)"
        ),
        "its function `loss`",
    ),
    "member": (
        (
            "from spat_nb.attacks.autoattack import Cascade\ndef m(model, x, y): return x\na ="
            " Cascade(dict(m=m))"
        ),
        (
            "from spat_nb.attacks.autoattack import Cascade\ndef m(model, x, y): return 1-x\na ="
            " Cascade(dict(m=m))"
        ),
        "its function `m`",
    ),
}


@pytest.mark.parametrize("read", [module, lambda folder, text: typed(text)], ids=["file", "typed"])
@pytest.mark.parametrize("case", ATTACKS)
def test_an_edited_attack_is_not_resumed(case, read, tmp_path):
    before, after, says = ATTACKS[case]
    path = tmp_path / "a.json"
    with torch.no_grad():
        first = go(path, read(tmp_path, HEAD + before).a)
        kept = path.read_bytes()
        # imported once more, as another process would
        again = go(path, read(tmp_path, HEAD + before).a)
        assert (
            all(torch.equal(first.preds[k], again.preds[k]) for k in first.preds)
            and path.read_bytes() == kept
        )
        m = read(tmp_path, HEAD + after)
        refused(lambda: go(path, m.a), "a.json was begun with another mine", says)
    if read is module and says.startswith("its function"):
        refused(lambda: go(path, m.a), r"\(mine.py\)")


def test_another_model_is_named(tmp_path):
    path = tmp_path / "a.json"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = linear()

        def forward(self, x):
            return self.l(x)

    class Edited(Net):
        def forward(self, x):
            return -self.l(x)

    Edited.__qualname__, Edited.__name__ = Net.__qualname__, "Net"
    go(path, model=Net())
    refused(lambda: go(path, model=Edited()), "another model", "forward")

    def patched():
        n = Net()
        n.forward = lambda x: -n.l(x)
        return n

    refused(lambda: go(path, model=patched()), "another model: .*forward")

    def hooked():
        n = Net()
        n.register_forward_hook(lambda m, i, o: -o)
        return n

    refused(lambda: go(path, model=hooked()), "another model: .*hook")

    def hidden():
        n = Net()
        n.register_buffer("t", torch.ones(9), persistent=False)
        return n

    refused(lambda: go(path, model=hidden()), "another model: t is new")

    def moved():
        n = Net()
        with torch.no_grad():
            n.l[1].weight[0, 0] += 1e-3
        return n

    refused(lambda: go(path, model=moved()), r"another model: l.1.weight has changed")
    a, b = linear(0), linear(1)
    f = tmp_path / "f.json"

    def wrap(m):
        return lambda x: m(x)

    go(f, model=wrap(a).__call__)
    go(f, model=wrap(linear(0)).__call__)
    refused(lambda: go(f, model=wrap(b).__call__), "another model", "m.1.weight")


def test_other_images_labels_classes_and_ways_to_run(tmp_path):
    path = tmp_path / "a.json"
    go(path)
    for change, says in (
        (dict(data=DATA.with_(x=255 - X)), "other images .they differ at clean 0"),
        (dict(data=DATA.with_(y=Y.flip(0))), "other labels .they differ at clean 0"),
        (dict(data=DATA.with_(classes=tuple("abcdefghiz"))), "other classes"),
        (dict(seed=3), "another seed .0, now 3"),
        (dict(precision="channels_last"), "another precision .float32, now channels_last"),
        (dict(data=DATA.with_(batch_size=4)), "other images in a batch .5, now 4"),
        (dict(more=pgd(Linf(0.1), 1)), "other attacks .mine, now mine, more"),
        (dict(attack=pgd(Linf(0.1), 3)), "another mine: steps was 2, now 3"),
    ):
        refused(lambda: go(path, **change), "a.json was begun with " + says)
    last = X.clone()
    last[-1, 0, 0, 0] ^= 1  # one bit of the last image
    refused(lambda: go(path, data=DATA.with_(x=last)), "other images .they differ at clean 2")


def test_a_file_of_an_earlier_version_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps(
            dict(
                key=dict(
                    model="0123 4567", attacks={"mine": "Attack(...)"}, seed=0, precision="float32"
                ),
                done={"clean 0": ["ab", [[1], 0.1, ["a"]]]},
            )
        )
    )
    refused(lambda: go(path), "begun by an earlier version")


RUN = """
import sys, torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from mine import attack
from test_stale import go
import json
class Stop:
    n = int(sys.argv[3])
    def __init__(self, a): self.a = a
    def __identity__(self): return self.a
    def __call__(self, *p):
        Stop.n -= 1
        if Stop.n == 0: sys.exit(9)
        return self.a(*p)
r = go(sys.argv[2], Stop(attack))
print(json.dumps([r.preds['mine'].tolist(), r.info['identity']]))
"""


def test_killed_it_goes_on_in_another_process_and_ends_the_same(tmp_path):
    "An attack with a generator of its own too: it goes on from where it stood"
    (tmp_path / "mine.py").write_text(
        'import torch\nG = torch.Generator().manual_seed(3)\nS = {"p", "q", "r"}\ndef attack(model,'
        " x, y): return torch.rand(x.shape, generator=G) if S else x\n"
    )

    def run(file, stop, hash_seed):
        p = subprocess.run(
            [sys.executable, "-c", RUN, str(tmp_path), str(tmp_path / file), str(stop)],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.path.dirname(__file__),
                "PYTHONHASHSEED": hash_seed,
                "OMP_NUM_THREADS": "1",
            },
        )
        assert p.returncode in (0, 9), p.stderr
        return p.stdout

    whole = run("whole.json", 0, "1")
    assert run("torn.json", 2, "2") == "" and run("torn.json", 0, "3") == whole == run(
        "torn.json", 0, "4"
    )


def test_diagnose_and_sweeps_share_the_refusal(tmp_path):
    data, a = (
        (X.float() / 255, Y),
        lambda n: (lambda model, x, y: x) if n else (lambda model, x, y: 1 - x),
    )
    kw = dict(precision="float32", progress=False)
    for do in (
        lambda k: diagnose(
            linear(), data, dict(mine=a(k)), resume=tmp_path / "d.json", times=10, **kw
        ),
        lambda k: sweep(
            linear(), data, lambda e: a(k), (0.1, 0.2), resume=tmp_path / "s.json", **kw
        ),
        lambda k: tau_sweep(
            linear(),
            data,
            lambda t: temperature_pgd(Linf(0.1), t, 2 + k),
            (1.0, 2.0),
            resume=tmp_path / "t.json",
            **kw,
        ),
    ):
        do(0)
        do(0)
        refused(lambda: do(1), "was begun with another")


# ---- records
def test_records_of_other_attacks_or_images_are_not_compared(tmp_path, capsys):
    def record(text="def a(model, x, y): return x", model=None, data=DATA, name="r"):
        r = evaluate(
            model or linear(), data, precision="float32", progress=False, mine=typed(text).a
        )
        r.save(tmp_path / f"{name}.json")
        return Record.load(tmp_path / f"{name}.json")

    one, same, other = (
        record(name="one"),
        record(model=linear(1), name="same"),
        record("def a(model, x, y): return 1-x", name="other"),
    )
    images, value = (
        record(data=DATA.with_(x=255 - X), name="images"),
        record("E = 1\ndef a(model, x, y): return x", name="v"),
    )
    assert (
        len(one.versus(same)) == 2
        and one.versus(same).attrs["notes"] == []
        and len(one.versus(value)) == 2
    )
    for r, says in (
        (other, ("mine was another attack", "function `a` differs")),
        (images, ("images of the records differ",)),
    ):
        refused(lambda: one.versus(r), *says)
        refused(lambda: one.versus(r, "mine"), *says)
    refused(lambda: one.versus(images, "clean"), "images")
    # the attack was not asked for
    assert len(one.versus(other, "clean")) == len(Y.unique())
    assert (
        main(["compare", str(tmp_path / "one.json"), str(tmp_path / "other.json")]) == 1
        and "`a` differs" in capsys.readouterr().err
    )
    assert (
        main(["compare", str(tmp_path / "one.json"), str(tmp_path / "same.json")]) == 0
        and "Note" not in capsys.readouterr().out
    )
    d = json.loads((tmp_path / "other.json").read_text())
    del d["info"]["identity"]  # a record from before
    (tmp_path / "old.json").write_text(json.dumps(d))
    assert (
        "before code and images were kept"
        in one.versus(Record.load(tmp_path / "old.json")).attrs["notes"][0]
    )
    assert (
        main(["compare", str(tmp_path / "one.json"), str(tmp_path / "old.json")]) == 0
        and "Note: a record was made before" in capsys.readouterr().out
    )


def test_the_worst_case_asks_for_every_attack():
    def make(text):
        return evaluate(
            linear(),
            DATA,
            precision="float32",
            progress=False,
            p=pgd(Linf(0.1), 1),
            mine=typed(text).a,
        )

    refused(
        lambda: make("def a(model, x, y): return x").versus(
            make("def a(model, x, y): return 1-x"), "worst"
        ),
        "mine was another attack",
    )


def test_the_images_are_the_same_on_every_device_and_in_every_batch():
    a = evaluate(linear(), DATA, precision="float32", progress=False).info["identity"]["images"]
    x = X.float()
    # a GPU multiplies by 1/255
    for data in (
        DATA.with_(batch_size=3),
        (x / 255, Y),
        (x * (1 / 255), Y),
        ((x.double() / 255).float(), Y),
    ):
        assert (
            evaluate(linear(), data, precision="float32", progress=False).info["identity"]["images"]
            == a
        )
    assert (
        evaluate(
            linear(), DATA.take(torch.arange(12).flip(0)), precision="float32", progress=False
        ).info["identity"]["images"]
        != a
    )


# ---- trainings
class Bomb(Callback):
    def after_step(self, learner):
        if learner.done == 2:
            raise KeyboardInterrupt


class Keeper(Callback):
    def __init__(self, k=1):
        self.k, self.seen = k, 0

    def after_step(self, learner):
        self.seen += self.k

    def state(self):
        return dict(seen=self.seen)


TRAIN = Batches(X, Y, tuple("abcdefghij"), batch_size=4, shuffle=True, augment=crop_flip(1))


def begin(path, *more, **kw):
    kw = {
        "model": net(),
        "train": TRAIN,
        "objective": pgd_at,
        "attack": pgd(Linf(0.1), 1),
        "epochs": 2,
        "precision": "float32",
        **kw,
    }
    return Learner(callbacks=[Checkpoint(path, 0), *more], **kw)


def killed(path, *more, **kw):
    with pytest.raises(KeyboardInterrupt):
        begin(path, *more, Bomb(), **kw).fit()


OBJECTIVE = (
    "def make(k):\n def objective(model, x, y, attack): return k*model(x).logsumexp(1).mean()\n"
    " return objective\nobjective = make({})"
)
CHANGES = {
    "weight decay": (
        dict(opt=partial(sgd, weight_decay=0.0)),
        "another optimiser: weight_decay was 0.0005, now 0.0",
    ),
    "momentum": (
        dict(opt=partial(sgd, momentum=0.5)),
        "another optimiser: momentum was 0.9, now 0.5",
    ),
    "nesterov": (
        dict(opt=partial(sgd, nesterov=False)),
        "another optimiser: nesterov was True, now False",
    ),
    "optimiser": (dict(opt=torch.optim.AdamW), "another optimiser: it was SGD, now AdamW"),
    "schedule": (dict(schedule=lambda t: 1 - t), "another schedule"),
    "augmentation": (
        dict(train=TRAIN.with_(augment=crop_flip(2))),
        "another training data: augment.pad was 1, now 2",
    ),
    "no augmentation": (
        dict(train=TRAIN.with_(augment=None)),
        "another training data: augment was crop_flip, now None",
    ),
    "images": (dict(train=TRAIN.with_(x=255 - X)), "another training data: x has changed"),
    "labels": (dict(train=TRAIN.with_(y=Y.flip(0))), "another training data: y has changed"),
    "order": (
        dict(train=TRAIN.with_(shuffle=False)),
        "another training data: shuffle was True, now False",
    ),
    "objective": (dict(objective=partial(pgd_at, loss=smoothed(ce, 0.2))), "another objective"),
    "attack": (dict(attack=pgd(Linf(0.1), 1, loss=smoothed(ce, 0.1))), "another attack"),
    "radius": (
        dict(attack=pgd(Linf(0.2), 1, lr=0.25)),
        "another attack: ball.eps was 0.1, now 0.2",
    ),
    "network": (dict(model=SmallCNN(width=8)), "another model"),
    "normalisation": (dict(model=SmallCNN(width=4, mean=0.9)), "another model: .*mean"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_training_of_another_kind_is_not_gone_on_with(case, tmp_path):
    path = tmp_path / "c.safetensors"
    killed(path)
    change, says = CHANGES[case]
    refused(lambda: begin(path, **change).fit(), "c.safetensors belongs to a run with " + says)
    begin(path).fit()  # its own is welcome


def test_edited_code_of_a_training_is_seen(tmp_path):
    path = tmp_path / "c.safetensors"

    def both(before, after, key, *says, file=True):
        path.unlink(missing_ok=True)
        read = (lambda t: module(tmp_path, HEAD + t)) if file else (lambda t: typed(HEAD + t))
        killed(path, **{key: getattr(read(before), key)()})
        begin(path, **{key: getattr(read(before), key)()})("resume")
        new = getattr(read(after), key)()
        refused(lambda: begin(path, **{key: new}).fit(), *says)

    for file in (True, False):
        obj = (
            "E = 1\ndef make(k):\n def f(model, x, y, attack): return"
            " E*k*model(x).logsumexp(1).mean()\n return f\n"
        )
        both(
            obj + "objective = lambda: make(1)",
            obj + "objective = lambda: make(2)",
            "objective",
            "another objective: k of make.f was 1, now 2",
            file=file,
        )
        both(
            obj + "objective = lambda: make(1)",
            obj.replace("E = 1", "E = 2") + "objective = lambda: make(1)",
            "objective",
            "the global E was 1, now 2",
            file=file,
        )
        both(
            obj + "objective = lambda: make(1)",
            obj.replace("return E", "return -E") + "objective = lambda: make(1)",
            "objective",
            "function `make.f`",
            file=file,
        )
        both(
            obj + "objective = lambda: functools.partial(make(1))",
            obj.replace("return E", "return -E") + "objective = lambda: functools.partial(make(1))",
            "objective",
            "function `make.f`",
            file=file,
        )
        both(
            "def f(t): return 1-t\nschedule = lambda: f",
            "def f(t): return 1-t/2\nschedule = lambda: f",
            "schedule",
            "another schedule: its function `f`",
            file=file,
        )
        model = (
            "class N(nn.Module):\n def __init__(self):\n  super().__init__()\n  self.l ="
            " nn.Linear(64, 10)\n def forward(self, x): return self.l(x.flatten(1))\nmodel = N"
        )
        both(
            model,
            model.replace("return self.l", "return -self.l"),
            "model",
            "another model: its function `N.forward`",
            file=file,
        )
        augment = (
            "from test_stale import TRAIN\ndef aug(x, g): return x\ntrain = lambda:"
            " TRAIN.with_(augment=aug)"
        )
        both(
            augment,
            augment.replace("return x", "return 1-x"),
            "train",
            "another training data: its function `aug`",
            file=file,
        )


def test_listeners_that_decide_are_the_same(tmp_path):
    path = tmp_path / "c.safetensors"
    valid = Batches(X, Y, tuple("abcdefghij"), batch_size=4)

    def look(every=1.0, steps=1):
        return Validate(valid, pgd(Linf(0.1), steps), every)

    killed(path, Keeper(), look(), Best(), EarlyStop(3))

    def ok(*c):
        return begin(path, *c)("resume")

    ok(Keeper(), look(), Best(), EarlyStop(3))
    ok(Keeper(), look(), Best(), EarlyStop(3), Progress(1e9))
    refused(lambda: ok(Keeper(2), look(), Best(), EarlyStop(3)), "another Keeper: k was 1, now 2")
    refused(
        lambda: ok(Keeper(), look(steps=2), Best(), EarlyStop(3)),
        "another Validate: attack.steps was 1, now 2",
    )
    refused(
        lambda: ok(Keeper(), look(0.5), Best(), EarlyStop(3)),
        "another Validate: every was 1.0, now 0.5",
    )
    refused(
        lambda: ok(Keeper(), look(), Best(), EarlyStop(4)),
        "another EarlyStop: patience was 3, now 4",
    )
    refused(lambda: ok(Keeper(), Best(), EarlyStop(3)), "with Validate")
    refused(lambda: ok(Keeper(), look(), Best("clean"), EarlyStop(3)), "another Best: key was")

    class Edited(Keeper):
        def after_step(self, learner):
            self.seen -= self.k

    Edited.__name__ = "Keeper"
    refused(lambda: ok(Edited(), look(), Best(), EarlyStop(3)), "another Keeper")


def test_edited_listeners_without_a_state_are_seen_and_newcomers_are_welcome(tmp_path):
    path = tmp_path / "c.safetensors"
    text = (
        "from spat_nb.training.events import Callback\nclass Clip(Callback):\n def after_step(self, l):"  # noqa: E501
        " l.model.head.weight.data.clamp_(-1, 1)"
    )
    killed(path, typed(text).Clip())
    begin(path, typed(text).Clip())("resume")
    begin(path)("resume")
    refused(
        lambda: begin(path, typed(text.replace("1, 1", "2, 2")).Clip())("resume"),
        "another Clip: its function `Clip.after_step`",
    )


def test_a_training_that_was_interrupted_in_a_notebook_goes_on_with_its_own_objects(tmp_path):
    "The network has moved since, and its batch norm; they lie in the file"
    path, model = tmp_path / "c.safetensors", net()
    keeper, best = Keeper(), Best()
    killed(path, keeper, best, model=model)
    with torch.no_grad():
        torch.manual_seed(7)
        [p.normal_() for p in model.parameters()]
    assert begin(path, keeper, best, model=model).fit().done == 6


def test_a_checkpoint_of_an_earlier_version_is_named(tmp_path):
    from spat_nb.core.files import load_tree, save_tree

    path = tmp_path / "c.safetensors"
    killed(path)
    tree = load_tree(path)
    del tree["made"], tree["fixed"]
    save_tree(path, tree)
    refused(lambda: begin(path).fit(), "earlier version")


# ---- finished runs
ARGS = [
    "train",
    "--data",
    "digits",
    "--objective",
    "trades",
    "--epochs",
    "1",
    "--n",
    "100",
    "--n-test",
    "20",
    "--valid",
    "20",
    "--device",
    "cpu",
    "--precision",
    "float32",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    assert main([*ARGS, "--out", str(out)]) == 0
    return out


def test_a_finished_run_of_another_configuration_is_not_shown(finished, capsys):
    before = {f.name: f.read_bytes() for f in finished.iterdir()}
    for more, says in (
        (["--lr", ".05", "--epochs", "2"], r"epochs 1, not 2 and lr 0.1, not 0.05"),
        (["--eps", ".1"], r"ball Linf\(0.15\), not Linf\(0.1\)"),
        (["--seed", "3"], "seed 0, not 3"),
        (["--n", "50"], "n 100, not 50"),
        (["--objective", "pgd_at"], r"objective trades\(beta=6\), not pgd_at"),
        (["--width", "8"], r"model SmallCNN, not SmallCNN\(width=8\)"),
    ):
        assert main([*ARGS, *more, "--out", str(finished)]) == 1
        got = capsys.readouterr()
        assert (
            re.search(says, got.err)
            and "--again" in got.err
            and got.err.count("\n") == 1
            and "pgd20" not in got.out
        ), got
    assert (
        main([*ARGS, "--out", str(finished)]) == 0
        and "finished before" in (told := capsys.readouterr().out)
        and "pgd20" in told
    )
    assert before == {f.name: f.read_bytes() for f in finished.iterdir()}


SQUEEZED = """
def squeezed(model, x, y, attack):
    return {factor}*model(attack(model, x, y)).logsumexp(1).mean()
"""


def test_nor_one_of_other_code(tmp_path, capsys):
    "The body of an objective in a file was edited since"
    mine = tmp_path / "mine.py"
    args = [*ARGS, "--objective", f"'{mine}:squeezed'", "--out", str(tmp_path / "run")]
    mine.write_text(SQUEEZED.format(factor=1))
    assert main(args) == 0
    assert main(args) == 0 and "finished before" in capsys.readouterr().out
    mine.write_text(SQUEEZED.format(factor=2))
    assert main(args) == 1
    err = capsys.readouterr().err
    assert "objective had another source" in err and "--again" in err and err.count("\n") == 1
    assert main([*args, "--again"]) == 0 and "finished before" not in capsys.readouterr().out


def test_an_edited_judge_outdates_the_judgement_alone(finished, capsys, monkeypatch):
    before = {f.name: f.read_bytes() for f in finished.iterdir()}
    with monkeypatch.context() as m:
        m.setattr(Attack, "__call__", lambda self, model, x, y: x)
        assert main([*ARGS, "--out", str(finished)]) == 0
        assert "judged anew" in capsys.readouterr().out
    judged = (finished / "report.json").read_bytes()
    assert judged != before["report.json"]
    assert main([*ARGS, "--out", str(finished)]) == 0
    assert "judged anew" in capsys.readouterr().out
    for name in ("weights.safetensors", "result.json", "recipe.json"):
        assert (finished / name).read_bytes() == before[name]
    assert main([*ARGS, "--out", str(finished)]) == 0
    assert "finished before" in capsys.readouterr().out


def test_a_damaged_result_is_named(finished, capsys):
    result = (finished / "result.json").read_text()
    told = json.loads(result)
    del told["code"]  # a run from before code was kept
    (finished / "result.json").write_text(json.dumps(told))
    assert main([*ARGS, "--out", str(finished)]) == 0
    (finished / "result.json").write_text("{")
    assert main([*ARGS, "--out", str(finished)]) == 1
    assert "no whole result" in capsys.readouterr().err
    (finished / "result.json").write_text(result)
    assert main([*ARGS, "--out", str(finished)]) == 0


# ---- studies
MINE = """
from spat_nb.attacks.losses import ce
from spat_nb.studies.study import Arm, Study

def mine(model, x, y, attack): return {k}*ce(model(x), y).mean()
def look(model, job, record): return dict(v={v})

study = Study("toy", "?", {{"a": Arm({{"objective": mine}}, extra=look)}}, {{"laptop": dict(
    epochs=1, judged={judged}, trusted=10, cost=0.05, valid=60,
    strong="autoattack(steps=2, targets=1, queries=5)")}})
"""


def test_a_study_of_edited_code_is_run_again(tmp_path, monkeypatch):
    "Whatever its file says, and also where it lies elsewhere by then"
    from test_study import CPU

    from spat_nb.studies import finding, runner, work
    from spat_nb.studies.job import Job

    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("TQDM_DISABLE", "1")

    def job(k=1, v=1, judged=10, folder=tmp_path):
        (folder / "mine.py").write_text(MINE.format(k=k, v=v, judged=judged))
        return Job(finding.find_study(folder / "mine.py"), "a", "laptop", 0, CPU)

    assert runner.one(job(), CPU, quiet=True) and job().done()
    first = json.loads(job().path.read_text())
    assert first["config"]["recipe"]["objective"] == "mine.py:mine"
    assert first["config"]["judge"]["extra"] == "mine.py:look"
    (tmp_path / "moved").mkdir()
    assert job(folder=tmp_path / "moved").done()
    assert not job(k=2).done() and not job(v=2).done() and not job(judged=20).done()
    assert {*first["code"]["arm"]} == {"train", "judge"}
    assert job(k=2).outdated(first) == {"train"}
    assert job(v=2).outdated(first) == job(judged=20).outdated(first) == {"judge"}
    assert job(k=2, judged=20).outdated(first) == {"train", "judge"}
    trained = []
    monkeypatch.setattr(
        runner, "learn", lambda job, learn=work.learn: trained.append(1) or learn(job)
    )
    # an edited judge leaves the training, and so do other numbers of the judgement
    assert runner.one(job(v=2), CPU, quiet=True) and not trained
    second = json.loads(job(v=2).path.read_text())
    assert (
        second["extra"] == dict(v=2)
        and second["history"] == first["history"]
        and second["chosen_step"] == first["chosen_step"]
        and job(v=2).done()
    )
    assert runner.one(job(v=2, judged=20), CPU, quiet=True) and not trained
    third = json.loads(job(v=2, judged=20).path.read_text())
    assert third["attacks"]["aa"]["n"] == 20 and third["history"] == first["history"]
    # an edited objective does not
    assert runner.one(job(k=2, v=2), CPU, quiet=True) and trained
    old = json.loads(job(k=2, v=2).path.read_text())
    del old["code"]["arm"]
    job().path.write_text(json.dumps(old))
    # a result from before says nothing of code
    assert job(k=9).done()


LAMBDAS = {
    "objective": "{'objective': lambda model, x, y, attack: model(x).mean()}",
    "head": "{'head': lambda d, c: None}",
    "extra": "{}, extra=lambda model, job, record: {}",
    "train": "{}, train=lambda job: None",
    "strong": "{'strong': lambda ball: None}",
}


@pytest.mark.parametrize("where", LAMBDAS)
def test_a_lambda_in_a_row_is_refused(where, tmp_path):
    "In one sentence that names the field, the line and the mend"
    from spat_nb.studies import finding
    from spat_nb.studies.job import Job

    (tmp_path / "mine.py").write_text(
        "from spat_nb.studies.study import Arm, Study\n"
        f"study = Study('mine', '?', {{'a': Arm({LAMBDAS[where]})}})\n"
    )
    job = Job(finding.find_study(tmp_path / "mine.py"), "a", "laptop", 0)
    with pytest.raises(ValueError) as e:
        job.done() or job.config
    said = str(e.value)
    assert "a lambda" in said and "mine.py, line 2" in said and "make it a def" in said, said
    assert "\n" not in said and (where in said or where == "head")


def test_studies_of_this_package_say_nothing_of_code():
    from spat_nb.studies.finding import studies
    from spat_nb.studies.job import Job

    for s in studies().values():
        for a in s.arms:
            assert Job(s, a, "laptop", 0).code == {}
