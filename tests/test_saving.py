"""Weights files: the same network comes back bit for bit, a file names layers and nothing else,
and whatever is wrong with one is said in a sentence
"""

import pickle
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb.core.files import load_tree, save_tree
from spat_nb.models.layers import Normalize
from spat_nb.models.net import Net
from spat_nb.models.networks import PreActResNet18, SmallCNN, WideResNet
from spat_nb.models.saving import _factory, _note, load, model_config, model_info, save


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


class Trap:
    def __reduce__(self):
        return print, ("said while it was read",)


class PerChannel(nn.Module):
    def __init__(self, channels, start=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), start))


def test_a_pickle_is_a_program(capsys):
    pickle.loads(pickle.dumps(Trap()))
    assert capsys.readouterr().out == "said while it was read\n"


# ---- what a file may name
@pytest.mark.parametrize(
    "factory",
    [
        nn.ReLU,
        nn.Linear,
        partial(Normalize, std=0.5),
        partial(nn.LeakyReLU, negative_slope=0.2),
    ],
)
def test_a_layer_comes_back_as_the_same_factory(factory):
    again = _factory(_note(factory))
    assert again is factory or (again.func, again.keywords) == (factory.func, factory.keywords)


@pytest.mark.parametrize(
    "factory",
    [
        lambda: nn.ReLU(),
        PerChannel,
        partial(PerChannel, start=2.0),
        partial(nn.ReLU, True),
        partial(nn.ReLU, inplace=torch.ones(1)),
        F.relu,
        print,
        "ReLU",
    ],
)
def test_what_no_file_can_name_is_none(factory):
    assert _note(factory) is None


@pytest.mark.parametrize(
    "text",
    [
        "os:system",
        "os.system",
        "this:s",
        "builtins:eval",
        "mine.py:net",
        "relu",
        "",
        "pgd",
        "load",
        "spec",
        "Net",
        "ReLU()()",
        "SmallCNN(head=os:system)",
        {"class": "torch.nn.ReLU", "with": {}},
    ],
)
def test_what_a_hostile_file_asks_for_is_refused_and_not_imported(text):
    "`this` is a harmless module of Python that nobody has loaded yet"
    with pytest.raises(ValueError):
        _factory(text)
    assert "this" not in sys.modules


def test_the_configuration_of_a_network():
    def own(d, c):
        return nn.Linear(d, c)

    net = SmallCNN(act=nn.SiLU, head=own, mean=torch.tensor([0.5]))
    assert model_config(net) == dict(
        name="SmallCNN",
        classes=10,
        width=16,
        act="SiLU",
        head=None,
        channels=1,
        size=8,
        mean=[0.5],
        std=None,
    )


@pytest.mark.parametrize("other", [nn.Linear(2, 2), Net(nn.Identity(), 3), print])
def test_other_modules_do_not_know_how_they_were_made(other):
    with pytest.raises(TypeError, match="made by one of SmallCNN, PreActResNet18"):
        model_config(other)


# ---- there and back
BUILDS = [
    partial(PreActResNet18, width=4, act=partial(nn.LeakyReLU, negative_slope=0.2)),
    partial(WideResNet, 10, 1, act=nn.PReLU, std=(0.2, 0.2, 0.3)),
    partial(SmallCNN, channels=3, mean=0.5),
]
CHANGES = {
    "as it is": lambda m: m,
    "float64": lambda m: m.double(),
    "bfloat16": lambda m: m.bfloat16(),
    "channels last": lambda m: m.to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("change", CHANGES)
def test_the_same_logits_bit_for_bit(path, build, change):
    xs = torch.rand(4, 3, 32, 32)
    net = CHANGES[change](build(classes=7))
    net(xs)  # train mode: the statistics move
    save(net, path)
    state = torch.get_rng_state()
    again = load(path)
    assert torch.equal(torch.get_rng_state(), state) and not again.training
    assert torch.equal(again(xs), net.eval()(xs))
    assert repr(again) == repr(net)


def test_information_and_a_factory_of_ones_own(path):
    save(SmallCNN(), path, data="digits", accuracy=0.98)
    assert model_info(path)["accuracy"] == 0.98 and model_info(path)["model"]["act"] == "ReLU"

    def act(c):
        return nn.PReLU(c)

    own, x = SmallCNN(act=act).eval(), torch.rand(2, 1, 8, 8)
    save(own, path)
    assert torch.equal(load(path, act=act)(x), own(x))
    with pytest.raises(ValueError, match=r"call load\(path, act=...\)"):
        load(path)
    with pytest.raises(TypeError, match="a Linear does not know how it was built"):
        save(nn.Linear(2, 2), path)


# ---- what can be wrong with a file
def damaged(path, change):
    "Load a file whose tree `change` was allowed to alter"
    save(SmallCNN(), path)
    tree = load_tree(path)
    change(tree)
    save_tree(path, tree)
    load(path)


def altered(part, **kw):
    return lambda path: damaged(path, lambda t: t[part].update(kw))


def cut(path):
    save(SmallCNN(), path)
    path.write_bytes(path.read_bytes()[:-100])
    load(path)


def pickled(path):
    torch.save(SmallCNN().state_dict(), path)
    load(path)


def other(path):
    save_tree(path, {"step": 3})
    load(path)


CASES = {
    "no file": load,
    "cut short": cut,
    "is a pickle": pickled,
    "holds no network": other,
    "holds a 'Huge', which is unknown here; known are SmallCNN": altered("model", name="Huge"),
    "head.bias is float (10,) in the file and float (7,) in the network": altered(
        "model", classes=7
    ),
    "unexpected keyword argument 'depth'": altered("model", depth=3),
    "no SmallCNN can be built": altered("model", width="wide"),
    "extra is float (2,) in the file and missing in the network": altered(
        "weights", extra=torch.ones(2)
    ),
    "head.bias is missing in the file and": lambda path: damaged(
        path, lambda t: t["weights"].pop("head.bias")
    ),
    "head.bias is missing in the file": altered("weights", **{"head.bias": "text"}),
    "head.bias is int (10,) in the file": altered("weights", **{"head.bias": torch.arange(10)}),
    "'os:system' is not spat_nb's": altered("model", act="os:system"),
    "'save_tree' is no public name": altered("model", head="save_tree(tree=1)"),
    "say which head to use": altered("model", head="torch.nn.Linear"),
    "say which act to use": altered("model", act={"class": "torch.nn.ReLU", "with": torch.ones(2)}),
    "holds a ['SmallCNN'], which is unknown": altered("model", name=["SmallCNN"]),
    "SmallCNN has no argument 'depth'": altered("model", act="SmallCNN(depth=3)"),
}


@pytest.mark.parametrize("words", CASES)
def test_whatever_is_wrong_is_one_sentence(path, words):
    with pytest.raises((ValueError, FileNotFoundError)) as e:
        CASES[words](path)
    said = str(e.value)
    assert words in said and "\n" not in said and len(said) < 400
