"What is put around a network: closed forms, gradients, weights of other people's files"

import argparse
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.identity import fingerprint
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.adapters import Adapted, adapt
from spat_nb.models.inputs import PIXELS, StraightThrough, follows_gradient, pixel_numbers
from spat_nb.models.labels import are_wnids, outputs_for, read_labels
from spat_nb.models.outputs import logits_path
from spat_nb.models.pieces import InPieces, fixed_batch
from spat_nb.models.state import load_weights, read_state, without_prefixes


def net(outputs=5, channels=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(32, outputs),
    ).eval()  # fmt: skip


@pytest.fixture
def x():
    return torch.rand(4, 3, 8, 8, generator=torch.manual_seed(1))


# ---- pixels


@pytest.mark.parametrize("word", PIXELS)
def test_normalisation_is_what_one_writes_by_hand(word, x):
    inner = net()
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in PIXELS[word])
    assert torch.equal(adapt(inner, x, mean=word)(x), inner((x - mean) / std))
    assert torch.equal(
        adapt(inner, x, mean=PIXELS[word][0], std=PIXELS[word][1])(x), inner((x - mean) / std)
    )  # noqa: E501


def test_nothing_is_put_before_a_network_that_needs_nothing(x):
    inner = net()
    for model in (adapt(inner, x), adapt(inner, x, mean="none")):
        assert torch.equal(model(x), inner(x)) and not model.notes and model.gradient


@pytest.mark.parametrize(
    "mean,std,wants",
    [
        (None, None, None),
        ("none", None, ()),
        ("half", None, ((0.5,), (0.5,))),
        (None, "half", ((0.5,), (0.5,))),
        ("imagenet", 0.25, (PIXELS["imagenet"][0], (0.25,))),
        ([0.1, 0.2], [1, 2], ((0.1, 0.2), (1.0, 2.0))),
    ],
)
def test_words_and_numbers(mean, std, wants):
    assert pixel_numbers(mean, std) == wants


@pytest.mark.parametrize(
    "mean,std,says",
    [
        (0.5, None, "std is not given"),
        (None, 0.5, "mean is not given"),
        ("cifar", None, "mean is 'cifar'; give numbers, or one of imagenet, half, none"),
        ("none", 0.5, "stands for both"),
        (True, 1, "mean is True"),
    ],
)
def test_what_is_no_normalisation(mean, std, says):
    with pytest.raises((TypeError, ValueError), match=says):
        pixel_numbers(mean, std)


def test_images_are_resized_inside(x):
    inner = net()
    model = adapt(inner, x, size=16)
    big = F.interpolate(x, (16, 16), mode="bilinear", antialias=True)
    assert torch.equal(model(x), inner(big))
    assert follows_gradient(model, x) and "8x8 pixels are resized to 16x16" in model.notes[0]


def test_grey_images_go_into_every_channel(x):
    inner, grey = net(), x[:, :1]
    model = adapt(inner, grey, channels=3, mean="imagenet")
    want = adapt(inner, x, mean="imagenet")(grey.expand(-1, 3, -1, -1))
    assert torch.equal(model(grey), want)
    with pytest.raises(ValueError, match="images have 3 channels but the network takes 1"):
        adapt(net(channels=1), x, channels=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_in_another_precision(dtype, x):
    inner = net().to(dtype)
    model = adapt(inner, x, mean="half")
    want = inner(((x.to(dtype) - 0.5) / 0.5).to(dtype))
    assert torch.allclose(model(x.to(dtype)), want, atol=1e-2)
    record = evaluate(model, (x, torch.arange(4)), progress=False, pgd=pgd(Linf(0.1), 2))
    assert len(record.y) == 4


# ---- outputs

Pair = namedtuple("Pair", "aux scores")
Z = torch.zeros(4, 5)
OUTS = {
    "tensor": (Z, ()),
    "1x1 map": (Z[..., None, None], ()),
    "tuple": ((torch.zeros(()), Z), (1,)),
    "list": ([Z, Z], (0,)),
    "dict": ({"loss": torch.zeros(()), "mine": Z}, ("mine",)),
    "known name first": (OrderedDict(a=Z, logits=Z), ("logits",)),
    "object": (SimpleNamespace(logits=Z, loss=None), ("logits",)),
    "namedtuple": (Pair(None, Z), ("scores",)),
    "nested": ({"out": {"logits": (Z,)}}, ("out", "logits", 0)),
    "features beside": ((torch.zeros(4, 512), Z), (1,)),
}


@pytest.mark.parametrize("kind", OUTS)
def test_where_the_logits_lie(kind):
    out, path = OUTS[kind]
    assert logits_path(out, 4, 5) == path


@pytest.mark.parametrize(
    "out", [None, "text", torch.zeros(3, 5), torch.zeros(4, 5).long(), (torch.zeros(()),), {}]
)
def test_where_there_are_none(out):
    assert logits_path(out, 4, 5) is None


@pytest.mark.parametrize("kind", [k for k in OUTS if k != "1x1 map"])
def test_logits_are_taken_out_with_their_gradient(kind, x):
    inner = net()

    def like(out, z):
        if isinstance(out, torch.Tensor):
            return z if out.shape == Z.shape else torch.zeros(len(z), *out.shape[1:])
        if isinstance(out, dict):
            return {k: like(v, z) for k, v in out.items()}
        if isinstance(out, Pair):
            return Pair(*(like(v, z) for v in out))
        if isinstance(out, (tuple, list)):
            return type(out)(like(v, z) for v in out)
        return SimpleNamespace(logits=z, loss=None) if out is not None else None

    model = adapt(lambda x: like(OUTS[kind][0], inner(x)), x, classes=5)
    assert torch.equal(model(x), inner(x)) and model.gradient
    assert len(model.notes) == (kind != "tensor")


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_stands_for_two_classes(shape, x):
    inner = net(1)
    model = adapt(lambda x: inner(x).view(shape), x)
    p = model(x).softmax(1)
    assert torch.allclose(p[:, 1], inner(x).sigmoid().flatten(), atol=1e-6)
    y = torch.tensor([0, 1, 1, 0])
    two = F.cross_entropy(model(x), y)
    one = F.binary_cross_entropy_with_logits(inner(x).flatten(), y.float())
    assert torch.allclose(two, one, atol=1e-6)


def test_probabilities_become_logits(x):
    inner = net()
    model = adapt(nn.Sequential(inner, nn.Softmax(1)), x)
    assert torch.allclose(model(x).softmax(1), inner(x).softmax(1), atol=1e-6)
    assert "probabilities" in model.notes[0]


def test_outputs_are_chosen_and_the_largest_other_one_counts(x):
    inner = net(7)
    z = inner(x)
    model = adapt(inner, x, chosen=(5, 0))
    assert torch.equal(model(x)[:, :2], z[:, [5, 0]])
    assert torch.equal(model(x)[:, 2], z[:, [1, 2, 3, 4, 6]].amax(1))
    is_right = z.argmax(1) == 5  # the decision is that of all seven outputs
    assert torch.equal(model(x).argmax(1) == 0, is_right)
    assert adapt(inner, x, chosen=range(6, -1, -1))(x).equal(z.flip(1))
    with pytest.raises(ValueError, match="output 9 was chosen, but the network has 7"):
        adapt(inner, x, chosen=(9, 1))


def test_more_arguments_stay_the_same(x):
    inner = net()
    model = adapt(lambda x, scale, shift: inner(x) * scale + shift, x, extra=(2.0, torch.ones(5)))
    assert torch.equal(model(x), inner(x) * 2 + 1)


def test_it_says_what_is_no_network(x):
    with pytest.raises(TypeError, match="no logits"):
        adapt(lambda x: "cat", x)
    with pytest.raises(ValueError, match="cannot take images of 3x8x8"):
        adapt(nn.Linear(3, 2), x)
    with pytest.raises(TypeError, match="cannot be called"):
        adapt(3, x)
    with pytest.raises(ValueError, match="no batch of images"):
        adapt(net(), x[0])


# ---- what lies outside


def rounded(x):
    return (x * 15).round() / 15


def test_a_preprocessing_with_a_gradient_is_part_of_the_network(x):
    inner = net()

    def squared(x):
        return x**2

    model = adapt(inner, x, preprocess=squared)
    v, w = (x.clone().requires_grad_() for _ in range(2))
    model(v).sum().backward()
    inner(w**2).sum().backward()
    assert torch.equal(v.grad, w.grad) and "gradients go through it" in model.notes[0]


def test_one_without_is_stood_in_for(x):
    inner = net()
    model = adapt(inner, x, preprocess=rounded)
    assert torch.equal(model(x), inner(rounded(x))) and "BPDA" in model.notes[0]
    v, w = x.clone().requires_grad_(), rounded(x).requires_grad_()
    model(v).sum().backward()
    inner(w).sum().backward()
    assert torch.equal(v.grad, w.grad) and v.grad.abs().max() > 0
    # where nothing stands in for it, an attack does not move
    assert not follows_gradient(lambda x: inner(rounded(x)), x)


def test_a_stand_in_of_ones_own(x):
    layer = StraightThrough(rounded, stand_in=lambda x: 3 * x)
    v = x.clone().requires_grad_()
    out = layer(v)
    assert torch.equal(out, rounded(x))
    assert torch.equal(torch.autograd.grad(out.sum(), v)[0], torch.full_like(x, 3))
    with pytest.raises(ValueError, match="give a stand_in= of the same shape"):
        StraightThrough(rounded, stand_in=lambda x: x[:, :1])(x)


def test_one_that_changes_the_size_too(x):
    def small(x):
        return F.interpolate(rounded(x), (4, 4))

    inner = net()
    model = adapt(inner, x, preprocess=small)
    assert torch.equal(model(x), inner(small(x))) and model.gradient


def test_pgd_finds_more_through_the_stand_in(x):
    inner = net(seed=3)
    y = inner(rounded(x)).argmax(1)
    plain = evaluate(
        adapt(inner, x, preprocess=rounded), (x, y), progress=False, pgd=pgd(Linf(0.5), 20)
    )  # noqa: E501
    assert plain.accuracy("clean") == 1 and plain.accuracy("pgd") < 1


def test_a_network_without_gradients_is_named(x):
    inner = net()
    for model in (lambda x: inner(x).detach(), lambda x: inner(x.detach())):
        made = adapt(model, x)
        assert not made.gradient and "judged by queries" in made.notes[-1]


# ---- in the house


def test_modes_and_identity(x):
    inner = net().train()
    model = adapt(inner, x, mean="half")
    assert isinstance(model, Adapted) and not any(m.training for m in model.modules())
    again = adapt(net().train(), x, mean="half")
    assert fingerprint(model) == fingerprint(again)
    assert fingerprint(model) != fingerprint(adapt(net(seed=1), x, mean="half"))
    assert fingerprint(model) != fingerprint(adapt(net(), x, mean="imagenet"))
    model.train()
    with eval_mode(model):
        assert not any(m.training for m in model.modules())
    assert all(m.training for m in model.modules())


def test_a_function_around_a_network_in_train_mode(x):
    inner = net().train()
    model = adapt(lambda x: inner(x), x)
    record = evaluate(model, (x, torch.arange(4)), progress=False, pgd=pgd(Linf(0.1), 2))
    want = evaluate(net(), (x, torch.arange(4)), progress=False, pgd=pgd(Linf(0.1), 2))
    assert torch.equal(record.preds["pgd"], want.preds["pgd"]) and inner.training


class Fixed(nn.Module):
    "A program that takes two images at once"

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        assert len(x) == 2
        return self.net(x)


def test_a_program_of_one_batch_size_is_fed_in_pieces():
    model, note = fixed_batch(Fixed(), torch.rand(1, 3, 8, 8), 2)
    assert isinstance(model, InPieces) and "2 images at a time" in note
    for n in (1, 2, 5):
        x = torch.rand(n, 3, 8, 8, requires_grad=True)
        assert torch.allclose(model(x), net()(x), atol=1e-6)
        a, b = (torch.autograd.grad(m(x).sum(), x)[0] for m in (model, net()))
        assert torch.allclose(a, b, atol=1e-6)
    same, note = fixed_batch(net(), torch.rand(1, 3, 8, 8), None)
    assert not isinstance(same, InPieces) and note == ""


# ---- weights


def under(prefix, s):
    return {f"{prefix}{k}": v for k, v in s.items()}


WRAPS = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s, "best": np.float64(0.5)},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer": {"lr": 0.1}},
    "model in arguments": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1)},
    "net": lambda s: {"net": s, "acc": 90.0},
    "ema": lambda s: {"ema": under("module.", s)},
    "module.": lambda s: under("module.", s),
    "_orig_mod.": lambda s: under("_orig_mod.", s),
    "all of them": lambda s: {"state_dict": under("module._orig_mod.model.", s)},
    "average": lambda s: {"n_averaged": torch.tensor(3), **under("module.", s)},
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_weights_come_back_out_of_any_wrapper(wrap, tmp_path):
    want, got = net(seed=1), net(seed=2)
    torch.save(WRAPS[wrap](want.state_dict()), tmp_path / "w.pth")
    load_weights(got, tmp_path / "w.pth")
    assert all(map(torch.equal, want.state_dict().values(), got.state_dict().values()))


def test_weights_of_safetensors(tmp_path):
    from safetensors.torch import save_file

    want, got = net(seed=1), net(seed=2)
    save_file({f"module.{k}": v for k, v in want.state_dict().items()}, tmp_path / "w.safetensors")
    assert load_weights(got, tmp_path / "w.safetensors") == [
        "weights: 'module.' was taken off the names."
    ]
    assert all(map(torch.equal, want.state_dict().values(), got.state_dict().values()))


def test_a_prefix_goes_only_where_all_then_fits():
    inner = nn.ModuleDict({"model": nn.Linear(2, 2)})
    state = inner.state_dict()
    assert without_prefixes(state, state)[1] == ""
    mixed = {"model.weight": torch.zeros(2), "other": torch.zeros(2)}
    assert without_prefixes(mixed, ["weight"]) == (mixed, "")


def test_what_does_not_fit_is_named_and_nothing_is_loaded():
    model = net()
    before = [v.clone() for v in model.state_dict().values()]
    state = {**net(7, seed=1).state_dict(), "odd": torch.zeros(1)}
    del state["0.bias"]
    with pytest.raises(ValueError) as e:
        load_weights(model, state, "mine")
    said = str(e.value)
    assert "1 of its 4 are missing (0.bias)" in said and "1 are not its own (odd)" in said
    assert "2 have another shape (5.weight (7x32 instead of 5x32)" in said
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_batch_counters_may_lack(tmp_path):
    model = nn.BatchNorm2d(2)
    state = {k: v for k, v in model.state_dict().items() if k != "num_batches_tracked"}
    assert load_weights(model, state) == []


@pytest.mark.parametrize(
    "content,says",
    [
        ({"epoch": 3}, "its keys are epoch"),
        ([1, 2], "holds a list and no weights"),
        (nn.Linear(2, 2), "can run code"),
    ],
)
def test_files_without_weights(content, says, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=says):
        read_state(tmp_path / "w.pth")


def test_files_that_are_none(tmp_path):
    (tmp_path / "w.pth").write_text("hello")
    with pytest.raises(ValueError, match="is a text file and no readable file of weights"):
        read_state(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_state(tmp_path / "none.pth")


# ---- labels


@pytest.mark.parametrize(
    "name,text",
    [
        ("a.txt", "cat\ndog\n\nred fox\n"),
        ("a.json", '["cat", "dog", "red fox"]'),
        ("a.json", '{"0": "cat", "1": "dog", "2": ["n0", "red fox"]}'),
        ("a.json", '{"dog": 1, "red fox": 2, "cat": 0}'),
    ],
)
def test_names_of_outputs_in_a_file(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    names = read_labels(tmp_path / name)
    assert outputs_for(["Red_Fox", "cat"], names) == ((2, 0), "")
    assert outputs_for(["cow", "cat"], names)[0] is None


def test_names_that_do_not_tell(tmp_path):
    assert "several outputs" in outputs_for(["crane"], (("crane",), ("crane",)))[1]
    assert "two classes have one output" in outputs_for(["a", "A"], (("a",), ("b",)))[1]
    assert "x, y, z and 1 more" in outputs_for([*"xyzw"], (("a",),))[1]
    (tmp_path / "a.json").write_text('{"0": "cat", "2": "dog"}')
    with pytest.raises(ValueError, match="does not number its classes from 0"):
        read_labels(tmp_path / "a.json")
    assert are_wnids(["n01440764"]) and not are_wnids(["n0144"]) and not are_wnids([])
