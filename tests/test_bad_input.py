"Each kind of bad input gives one sentence that names the value and the mend"

import pickle
import re
from functools import partial

import pytest
import torch
from torch import nn

from spat_nb.attacks.attack import Attack, pgd
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import ce, dlr, margin
from spat_nb.classwise.fairness import CFA, DAFA, CFATrades
from spat_nb.classwise.minmax import CFOL, FRL, WAT
from spat_nb.classwise.radii import T1
from spat_nb.classwise.temperature import log_odds
from spat_nb.core.files import load_tree
from spat_nb.core.rng import generator, seed_everything
from spat_nb.core.settings import settings
from spat_nb.data.pairs import in_memory
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.record import Record
from spat_nb.measure.trust import trust
from spat_nb.models.networks import (
    PreActResNet10,
    PreActResNet18,
    PreActResNet34,
    SmallCNN,
    WideResNet,
)
from spat_nb.models.saving import load, save
from spat_nb.papers.hypersphere import margin_ce
from spat_nb.papers.spat import flips
from spat_nb.training.callbacks import Validate
from spat_nb.training.checkpoint import Checkpoint
from spat_nb.training.learner import Learner
from spat_nb.training.objectives import boosted, mart, pgd_at

X, Y = (
    torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 2, 9]),
)


def net(*more):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), *more)


attack, NET = pgd(Linf(0.1), 2), net()


class Returns(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def nan(x):
    x = x.clone()
    x[1, 0, 2, 3] = float("nan")
    return x


def file(tmp_path, content):
    p = tmp_path / "w.safetensors"
    p.write_bytes(content)
    return p


def whole(tmp_path):
    p = tmp_path / "w.safetensors"
    save(SmallCNN(classes=10, channels=1), p)
    return p


def cut(tmp_path):
    p = whole(tmp_path)
    p.write_bytes(p.read_bytes()[:-100])
    return p


def torch_file(tmp_path):
    p = tmp_path / "w.pt"
    torch.save(net().state_dict(), p)
    return p


def ini(tmp_path, text):
    (tmp_path / "settings.ini").write_text("[spat_nb]\n" + text)
    return tmp_path


def bare(tmp_path, content):
    (tmp_path / "settings.ini").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    return tmp_path


def learner(train=0, **kw):
    return Learner(
        SmallCNN(width=2),
        get_data("digits", device="cpu", n=64).train if isinstance(train, int) else train,
        pgd_at,
        attack,
        **kw,
    )


class Pictures(torch.utils.data.Dataset):
    "Items as torchvision gives them without a transform"

    def __len__(self):
        return 3

    def __getitem__(self, i):
        from PIL import Image

        return Image.new("L", (8, 8)), i


class Sizes(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return torch.rand(1, 8 + i, 8), i


LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=2)
SOFT = torch.eye(10)[Y] * 0.8 + 0.02  # as mixup makes them


def resume(path):
    d = get_data("digits", device="cpu", n=64)
    return Learner(
        SmallCNN(classes=10, channels=1),
        d.train,
        pgd_at,
        attack,
        epochs=1,
        callbacks=[Checkpoint(path)],
    ).fit()


# what is done, its error, and what the sentence must say: the value, then the mend
CASES = {
    "bytes as floats": (
        lambda t: attack(net(), X * 255, Y),
        ValueError,
        r"2[0-5]\d.*divide by 255",
    ),
    "normalised": (lambda t: attack(net(), (X - 0.5) / 0.25, Y), ValueError, r"-\d.*first layer"),
    "NaN": (lambda t: attack(net(), nan(X), Y), ValueError, "NaN.*clean the images"),
    "infinity": (lambda t: attack(net(), X / 0, Y), ValueError, "inf.*clean the images"),
    "integer images": (
        lambda t: attack(net(), (X * 255).byte(), Y),
        TypeError,
        r"uint8.*x\.float\(\)/255",
    ),
    "no tensor": (lambda t: attack(net(), X.numpy(), Y), TypeError, "ndarray.*torch tensor"),
    "one pixel row": (lambda t: attack(net(), X[0, 0, 0], Y), ValueError, r"\(8,\).*x\[None\]"),
    "too few labels": (
        lambda t: attack(net(), X, Y[:2]),
        ValueError,
        "4 images but 2 labels.*one label per image",
    ),
    "label too high": (lambda t: attack(net(), X, Y + 1), ValueError, "label 10.*0 to 9"),
    "negative label": (lambda t: attack(net(), X, Y - 1), ValueError, "label -1.*0 to"),
    "float labels": (lambda t: attack(net(), X, Y.float()), TypeError, r"float32.*y\.long\(\)"),
    "target of other size": (
        lambda t: attack(net(), X, torch.full((4, 7), 1 / 7)),
        ValueError,
        "7 probabilities.*10 classes",
    ),
    "probabilities": (
        lambda t: attack(net(nn.Softmax(1)), X, Y),
        ValueError,
        "probabilities.*leave out its last softmax",
    ),
    "probabilities, evaluate": (
        lambda t: evaluate(net(nn.Softmax(1)), (X, Y)),
        ValueError,
        "probabilities.*leave out its last softmax",
    ),
    "wrong number of classes": (
        lambda t: evaluate(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 7)),
            get_data("digits", device="cpu", n=50).test,
        ),
        ValueError,
        "7 classes.*10.*classes=10",
    ),
    "feature map returned": (
        lambda t: attack(Returns(lambda x: x), X, Y),
        ValueError,
        r"\(4, 1, 8, 8\).*logits \(4,c\)",
    ),
    "tuple returned": (
        lambda t: attack(Returns(lambda x: (x, x)), X, Y),
        TypeError,
        "tuple.*must return logits",
    ),
    "no gradient": (
        lambda t: attack(Returns(lambda x: net()(x.round().detach())), X, Y),
        ValueError,
        "no gradient flows.*without gradients",
    ),
    "another device": (
        lambda t: attack(net().to("meta"), X, Y),
        ValueError,
        r"cpu.*meta.*x\.to\('meta'\)",
    ),
    "eps negative": (lambda t: Linf(-0.1), ValueError, r"eps is -0\.1.*>= 0"),
    "eps NaN": (lambda t: L2(float("nan")), ValueError, "eps is nan.*finite"),
    "box upside down": (lambda t: L1(1.0, lo=1.0, hi=0.0), ValueError, r"\[1\.0,0\.0\].*below"),
    "eps for a ball": (lambda t: pgd(8 / 255), TypeError, r"0\.03.*Linf\(8/255\)"),
    "steps negative": (lambda t: pgd(Linf(0.1), -3), ValueError, "steps is -3.*>= 0"),
    "no restarts": (
        lambda t: Attack(Linf(0.1), restarts=0),
        ValueError,
        "restarts is 0.*restarts=1",
    ),
    "no passes": (lambda t: Attack(Linf(0.1), eot=0), ValueError, "eot is 0.*eot=1"),
    "attack leaves its ball": (
        lambda t: evaluate(
            NET,
            (X, NET(X).argmax(1)),
            bad=type("Bad", (Attack,), {"__call__": lambda s, m, x, y: 1 - x})(Linf(0.01)),
        ),
        ValueError,
        r"bad.*left its ball.*0\.01",
    ),
    "unknown data set": (lambda t: get_data("cifar11"), ValueError, "cifar11.*cifar10"),
    "missing data": (
        lambda t: get_data("svhn", root=t),
        FileNotFoundError,
        "svhn.*spat_nb data svhn",
    ),
    "unknown setting": (lambda t: settings(ini(t, "devise = cpu")), ValueError, "devise.*device"),
    "bad setting": (
        lambda t: settings(ini(t, "precision = float16")),
        ValueError,
        "float16.*bfloat16",
    ),
    "threads in words": (
        lambda t: settings(ini(t, "threads = two")),
        ValueError,
        "two.*whole number",
    ),
    "weights cut short": (
        lambda t: load(cut(t)),
        ValueError,
        "damaged or cut short.*write it again",
    ),
    "empty weights": (
        lambda t: load(file(t, b"")),
        ValueError,
        "damaged or cut short.*write it again",
    ),
    "pickle for weights": (lambda t: load(torch_file(t)), ValueError, "pickle.*load_weights"),
    "old pickle": (
        lambda t: load(file(t, pickle.dumps({"w": 1}))),
        ValueError,
        "pickle.*safetensors",
    ),
    "missing weights": (
        lambda t: load(t / "none.safetensors"),
        FileNotFoundError,
        "none.safetensors.*check the path",
    ),
    "checkpoint cut short": (
        lambda t: resume(cut(t)),
        ValueError,
        "damaged or cut short.*delete it",
    ),
    "pickle for checkpoint": (lambda t: resume(torch_file(t)), ValueError, "pickle.*load_weights"),
    "weights for checkpoint": (lambda t: resume(whole(t)), ValueError, "w.safetensors"),
    "another program's file": (
        lambda t: load_tree(
            (
                __import__("safetensors.torch").torch.save_file({"a": X}, t / "a.safetensors"),
                t / "a.safetensors",
            )[1]
        ),
        ValueError,
        "spat_nb did not write",
    ),
    "no width": (lambda t: SmallCNN(width=0), ValueError, "width is 0.*at least 1"),
    "negative width": (lambda t: PreActResNet18(width=-3), ValueError, "width is -3.*at least 1"),
    "width of 18": (lambda t: PreActResNet34(width=1.5), TypeError, "width is 1.5.*whole number"),
    "no widening": (lambda t: WideResNet(10, 0), ValueError, "widen is 0"),
    "no classes": (lambda t: SmallCNN(classes=0), ValueError, "classes is 0"),
    "no channels": (lambda t: PreActResNet10(channels=0), ValueError, "channels is 0"),
    "no size": (lambda t: SmallCNN(size=-8), ValueError, "size is -8"),
    "negative epochs": (lambda t: learner(epochs=-1), ValueError, "epochs is -1.*whole number"),
    "half an epoch": (lambda t: learner(epochs=0.5), ValueError, "epochs is 0.5.*whole number"),
    "epochs NaN": (lambda t: learner(epochs=float("nan")), ValueError, "epochs is nan"),
    "lr NaN": (lambda t: learner(lr=float("nan")), ValueError, "lr is nan.*above 0"),
    "lr infinite": (lambda t: learner(lr=float("inf")), ValueError, "lr is inf.*above 0"),
    "lr 0": (lambda t: learner(lr=0), ValueError, "lr is 0.*above 0"),
    "lr negative": (lambda t: learner(lr=-1), ValueError, "lr is -1.*above 0"),
    "DataLoader for Learner": (lambda t: learner(LOADER), TypeError, "DataLoader.*in_memory"),
    "Dataset for Learner": (
        lambda t: learner(LOADER.dataset),
        TypeError,
        "TensorDataset.*in_memory",
    ),
    "pairs for Learner": (lambda t: learner([(X, Y)]), TypeError, "list.*in_memory"),
    "nothing for Learner": (lambda t: learner(None), TypeError, "NoneType.*Batches"),
    "three parts for Validate": (
        lambda t: Validate(get_data("digits", device="cpu", n=50), attack),
        TypeError,
        r"several parts.*data\.valid",
    ),
    "a generator for Validate": (
        lambda t: Validate((b for b in [(X, Y)]), attack),
        TypeError,
        "generator.*used up after one look",
    ),
    "seed of another kind": (
        lambda t: seed_everything("one"),
        TypeError,
        "seed is 'one'.*whole number",
    ),
    "seed in between": (lambda t: generator(1.5), TypeError, "seed is 1.5.*whole number"),
    "name of a set for evaluate": (
        lambda t: evaluate(NET, "digits"),
        TypeError,
        "'digits'.*get_data",
    ),
    "images alone": (lambda t: evaluate(NET, X), TypeError, r"a Tensor.*\(x, y\)"),
    "nothing for evaluate": (lambda t: evaluate(NET, None), TypeError, "NoneType.*Batches"),
    "batches without labels": (lambda t: evaluate(NET, [X, X]), ValueError, "y has shape|images"),
    "a dict of other keys": (
        lambda t: evaluate(NET, [dict(picture=X, label=Y)]),
        ValueError,
        "'picture', 'label'.*'image'",
    ),
    "images one by one": (
        lambda t: evaluate(NET, [*zip(X, Y)]),
        ValueError,
        "single images.*DataLoader",
    ),
    "one-hot labels": (
        lambda t: evaluate(NET, [(X, torch.eye(10)[Y])]),
        ValueError,
        r"y\.argmax\(1\)",
    ),
    "whole one-hot labels": (
        lambda t: evaluate(NET, [(X, torch.eye(10)[Y].long())]),
        ValueError,
        r"shape \(4, 10\)",
    ),
    "float labels in a loader": (
        lambda t: evaluate(NET, [(X, Y.float())]),
        TypeError,
        r"float32.*y\.long",
    ),
    "bytes in a loader": (
        lambda t: evaluate(NET, [((X * 255).byte(), Y)]),
        TypeError,
        r"uint8.*x\.float\(\)/255",
    ),
    "PIL images": (lambda t: evaluate(NET, Pictures()), TypeError, "ToTensor"),
    "images of many sizes": (lambda t: evaluate(NET, Sizes()), TypeError, "all images of one size"),
    "loader for trust": (
        lambda t: trust(NET, LOADER, Linf(0.1)),
        TypeError,
        "DataLoader.*in_memory",
    ),
    "in_memory of nothing": (lambda t: in_memory([]), ValueError, "holds no images"),
    "in_memory, normalised": (
        lambda t: in_memory([((X - 0.5) / 0.25, Y)]),
        ValueError,
        "first layer",
    ),
    **{
        f"soft labels in {k}": (
            lambda t, f=f: f(net(), X, SOFT),
            ValueError,
            r"needs labels \(b,\).*shape \(4, 10\)",
        )
        for k, f in dict(
            mart=lambda m, x, y: mart(m, x, y, attack),
            boosted=lambda m, x, y: boosted(m(x), y),
            margin=lambda m, x, y: margin(m(x), y),
            dlr=lambda m, x, y: dlr(m(x), y),
            CFA=lambda m, x, y: CFA(10)(m, x, y, attack),
            CFATrades=lambda m, x, y: CFATrades(10)(m, x, y, attack),
            DAFA=lambda m, x, y: DAFA(10)(m, x, y, attack),
            WAT=lambda m, x, y: WAT(get_data("digits", device="cpu").valid)(m, x, y, attack),
            FRL=lambda m, x, y: FRL(get_data("digits", device="cpu").valid)(m, x, y, attack),
            T1=lambda m, x, y: T1(get_data("digits", device="cpu").valid)(m, x, y, attack),
            CFOL=lambda m, x, y: CFOL(get_data("digits", device="cpu").train)(m, x, y, attack),
            flips=lambda m, x, y: flips(m(x), y, 0.1),
            log_odds=lambda m, x, y: log_odds(m(x), y),
            margin_ce=lambda m, x, y: margin_ce(0.1, 10.0)(m(x), y),
        ).items()
    },
    "settings above": (
        lambda t: settings(bare(t, "precision = bfloat16")),
        ValueError,
        r"'precision' above any section.*\[spat_nb\]",
    ),
    "settings above ours": (
        lambda t: settings(bare(t, "device = cpu\n[spat_nb]\nthreads = 1")),
        ValueError,
        "'device' above any section",
    ),
    "settings in Latin-1": (
        lambda t: settings(bare(t, "[spat_nb]\ndata = /home/jörg".encode("latin-1"))),
        ValueError,
        "unknown encoding.*UTF-8",
    ),
    "damaged record": (
        lambda t: Record.load(file(t, b'{"y": [1')),
        ValueError,
        "w.safetensors.*evaluate again",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, tmp_path):
    do, kind, says = CASES[case]
    with pytest.raises(kind) as e:
        do(tmp_path)
    text = str(e.value)
    assert re.search(says, text, flags=re.S), text
    assert "\n" not in text.strip() and len(text) < 400, f"one sentence: {text}"


def test_nothing_was_executed_from_a_pickle(tmp_path):
    p, flag = tmp_path / "w.safetensors", tmp_path / "boom"
    p.write_bytes(b'\x80\x04cposix\nsystem\n(S"touch ' + str(flag).encode() + b'"\ntR.')
    with pytest.raises(ValueError, match="pickle"):
        load(p)
    assert not flag.exists()


def test_seeds_are_any_whole_number():
    "Those that torch can take are as they were; longer ones differ from each other"
    for seed in (0, 5, -1, 2**64 - 1, -(2**63)):
        assert generator(seed).initial_seed() == torch.Generator().manual_seed(seed).initial_seed()
    assert (
        len({generator(s).initial_seed() for s in (2**64, 2**70, -(2**70), 2**64 + 5, 0, 5)}) == 6
    )
    for seed in (2**70, -(2**70), 2**64):
        seed_everything(seed)
        a = torch.rand(3)
        seed_everything(seed)
        assert torch.equal(a, torch.rand(3))
    d = get_data("digits", device="cpu", n=20, seed=2**70)
    a = evaluate(NET, d.test.subset(9), seed=2**70, progress=False, a=attack)
    b = evaluate(NET, d.test.subset(9), seed=2**70, progress=False, a=attack)
    assert torch.equal(a.preds["a"], b.preds["a"])
    Learner(SmallCNN(width=2), d.train, pgd_at, attack, epochs=1, seed=2**70).fit()


def test_no_epochs_is_no_training():
    net = SmallCNN(width=2)
    was = [p.clone() for p in net.parameters()]
    Learner(net, get_data("digits", device="cpu", n=20).train, pgd_at, attack, epochs=0).fit()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), was))


class Named(torch.utils.data.Dataset):
    "A map-style set that knows its classes"

    classes = [f"class {k}" for k in range(10)]

    def __len__(self):
        return 7

    def __getitem__(self, i):
        return X[i % 4], int(Y[i % 4])


DATA = {
    "triples": [(X, Y, torch.arange(4))],
    "a dict": [dict(image=X, label=Y)],
    "as transformers name them": [dict(pixel_values=X, labels=Y)],
    "lists": [[X, Y]],
    "an empty first batch": [(X[:0], Y[:0]), (X, Y)],
    "an empty last batch": [(X, Y), (X[:0], Y[:0])],
    "numpy": [(X.numpy(), Y.numpy())],
    "numpy pair": (X.numpy(), Y.numpy()),
    "a triple": (X, Y, torch.arange(4)),
    "int32": [(X, Y.int())],
    "uint8": [(X, Y.byte())],
    "a column": [(X, Y[:, None])],
    "int32 pair": (X, Y.int()),
    "labels as a list": [(X, Y.tolist())],
    "images as a list": [([*X], Y)],
    "two dicts": [dict(image=X[:2], label=Y[:2]), dict(image=X[2:], label=Y[2:])],
    "a loader": LOADER,
    "a set": LOADER.dataset,
    "a tuple of batches": ((X[:2], Y[:2]), (X[2:], Y[2:])),
}


@pytest.mark.parametrize("kind", DATA)
def test_batches_as_others_make_them(kind):
    "All give the record of plain tensors, or that of the same images in other batches"
    from spat_nb.classwise.diagnosis import diagnose

    want = evaluate(NET, (X, Y), progress=False, a=attack)
    got = evaluate(NET, DATA[kind], progress=False, a=attack)
    assert torch.equal(got.y, Y) and torch.equal(got.preds["clean"], want.preds["clean"])
    assert (
        diagnose(NET, DATA[kind], dict(a=attack), progress=False, times=2).record.y.tolist()
        == Y.tolist()
    )
    look = Validate(DATA[kind], attack)
    learner = Learner(
        net(),
        get_data("digits", device="cpu", n=64).train,
        pgd_at,
        attack,
        epochs=1,
        lr=0.01,
        callbacks=[look],
    ).fit()
    assert "robust" in learner.history[-1]


def test_class_names_of_a_data_set_are_kept():
    subset = torch.utils.data.Subset(Named(), [0, 2, 5])
    for data in (
        Named(),
        torch.utils.data.DataLoader(Named(), batch_size=3),
        subset,
        torch.utils.data.DataLoader(subset),
    ):
        assert evaluate(NET, data, progress=False).classes == tuple(Named.classes)
    b = in_memory(torch.utils.data.DataLoader(Named(), batch_size=3), batch_size=2)
    assert (
        b.n == 7
        and b.classes == tuple(Named.classes)
        and torch.equal(b.x[:4], (X * 255).round().byte())
        and b.y.tolist() == (Y.tolist() * 2)[:7]
    )


@pytest.mark.parametrize(
    "text",
    [
        "[SPAT_NB]\nthreads = 3",
        "[Spat_nb]\nthreads = 3",
        "  [ spat_nb ]\nthreads = 3",
        "[spat-nb]\nthreads = 3",
        "# mine\n[SPAT_NB]\nthreads=3\n[other]\nx=1",
    ],
)
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_settings_as_editors_write_them(text, code, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    assert settings(bare(tmp_path, text.replace("\n", "\r\n").encode(code))).threads == 3


@pytest.mark.parametrize(
    "content",
    [
        b"[DEFAULT]\nlib_name = x",
        b"lib_name = x\ndata = y",
        b"\x00\xff no INI",
        "[DEFAULT]\nautor = Jörg".encode("latin-1"),
        b"",
        b"just words",
    ],
)
def test_settings_of_others_are_passed_over(content, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    assert settings(bare(tmp_path, content)).threads == 0


def test_an_objective_gives_one_number():
    data = get_data("digits", device="cpu", batch_size=64).train.subset(64)

    def each(model, x, y, attack):
        return ce(model(x), y)

    with pytest.raises(ValueError, match=r"loss of shape \(64,\); give one number"):
        Learner(SmallCNN(channels=1, width=2), data, each, epochs=1).fit()


@pytest.mark.parametrize(
    "given, says",
    [
        ({"objective": lambda learner, x, y: x}, "(learner, x, y), but it is called with (model, "),
        (
            {"objective": "pgd_at"},
            "objective is 'pgd_at'; give a function of (model, x, y, attack).",
        ),
        ({"attack": lambda x, y: x}, "(x, y), but it is called with (model, x, y)"),
        ({"attack": lambda model, x, y, eps: x}, "(model, x, y, eps), but it is called with"),
    ],
)
def test_what_is_called_otherwise_is_refused_before_it_trains(given, says):
    images = get_data("digits", device="cpu", batch_size=64).train.subset(64)
    with pytest.raises(TypeError, match=re.escape(says)):
        Learner(SmallCNN(channels=1, width=2), images, **{"objective": pgd_at, **given})


def test_what_tells_no_signature_is_taken_as_it_is():
    images = get_data("digits", device="cpu", batch_size=64).train.subset(64)
    for f in (max, lambda *args: 0, lambda model, x, y, attack, beta=6: 0, partial(pgd_at)):
        assert Learner(SmallCNN(channels=1, width=2), images, f).objective is f
