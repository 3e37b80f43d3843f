"""Settings, threads, random streams, modes, checks at the door and precision"""

import math
import os
import platform
import random
import re
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from counters import Wasted
from fastcore.test import test_close as close
from fastcore.test import test_eq as same
from fastcore.test import test_fail as fails
from fastcore.test import test_stdout as prints
from torch import nn

from spat_nb import PreActResNet10
from spat_nb.core.checks import MASKED, check_images, check_labels, check_logits
from spat_nb.core.evalmode import attack_mode, eval_mode
from spat_nb.core.modes import networks
from spat_nb.core.precision import Fast, compiler, fast
from spat_nb.core.progress import bar
from spat_nb.core.rng import generator, rand_like, randn_like, seed_everything
from spat_nb.core.settings import (
    _RULES,
    Settings,
    _ini,
    _known,
    _parse,
    default_device,
    settings,
)
from spat_nb.core.tensors import bview, logits
from spat_nb.core.threads import keep_memory, multiplications, use_threads

torch.set_num_threads(1)
t = torch.tensor


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def only(**env):
    "The environment without our variables, but for `env`"
    others = {k: v for k, v in os.environ.items() if not k.startswith("SPAT_NB_")}
    return patch.dict(os.environ, others | env, clear=True)


def small(c=16, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, c, 3, padding=1),
        nn.BatchNorm2d(c),
        nn.ReLU(),
        nn.Conv2d(c, c, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(c * 64, 10),
    ).eval()


def test_settings_are_frozen():
    s = Settings(device="cpu")
    same((s.device, s.threads), ("cpu", 0))
    fails(lambda: setattr(s, "device", "cuda"), contains="device")  # frozen


def test_rules_of_settings():
    same(set(_RULES), {f.name for f in fields(Settings)})
    same(_parse("threads", " 2", "here", Path("/p")), 2)
    same(_parse("results", "../runs", "here", Path("/p/q")), Path(os.path.abspath("/p/runs")))
    for d in "auto", "cpu", "cuda", "cuda:1", "mps":
        same(_parse("device", d, "here", Path()), d)
    for key, bad in [
        ("threads", "two"),
        ("threads", "-1"),
        ("device", "gpu"),
        ("device", "cuda:"),
        ("device", "auto:1"),
        ("precision", "fp8"),
        ("tier", "LAPTOP"),
        ("data", ""),
    ]:
        fails(
            lambda: _parse(key, bad, "here", Path()),
            exc=ValueError,
            contains=f"{key} is {bad!r} in here; write",
        )
    fails(lambda: _known("presicion", "here"), contains="did you mean 'precision'?")
    fails(lambda: _known("colour", "here"), contains="known are data, results")


def test_four_places_the_strongest_first():
    tmp = Path(os.path.realpath(tempfile.mkdtemp()))
    nbs = tmp / "proj" / "nbs"
    user = dict(XDG_CONFIG_HOME=str(tmp / "config"), APPDATA=str(tmp / "config"))
    # another tool's file
    write(nbs / "settings.ini", "[DEFAULT]\nlib_name = other\n")
    with only(**user):
        same(
            settings(nbs),
            Settings(
                data=Path("~/.cache/spat_nb/data").expanduser(),
                results=nbs / "results",
                progress=nbs / ".spat_nb_progress.json",
            ),
        )
    write(
        tmp / "config/spat_nb/settings.ini",
        "[spat_nb]\ndata = /all/data  # one place for every project\nthreads = 1\n",
    )
    with only(**user):
        same((settings(nbs).threads, str(settings(nbs).data)), (1, os.path.abspath("/all/data")))
    # as Windows' editor writes it
    write(
        tmp / "proj/settings.ini",
        "\ufeff[DEFAULT]\nlib_name = x\n[spat_nb]\nthreads = 2\nresults = runs\n",
    )
    with only(**user):
        s = settings(nbs)
        # key by key
        same(
            (s.threads, s.results, str(s.data)),
            (2, tmp / "proj/runs", os.path.abspath("/all/data")),
        )
    with only(**user, SPAT_NB_THREADS="3", SPAT_NB_RESULTS="here"):
        same((settings(nbs).threads, settings(nbs).results), (3, nbs / "here"))


def test_settings_that_are_refused():
    tmp = Path(os.path.realpath(tempfile.mkdtemp()))
    nbs = tmp / "proj" / "nbs"
    user = dict(XDG_CONFIG_HOME=str(tmp / "config"), APPDATA=str(tmp / "config"))
    for text, says in [
        ("thread = 2", "unknown setting 'thread' in {f}; did you mean 'threads'?"),
        ("threads = many", "threads is 'many' in {f}; write a whole number"),
        ("data =", "data is '' in {f}; write a folder"),
        ("threads", "{f} is not a settings file"),
        ("tier=paper\ntier=laptop", "{f} is not a settings file"),
        ("[x\n", "{f} is not a settings file"),
    ]:
        write(nbs / "settings.ini", "[spat_nb]\n" + text)
        with only(**user):
            fails(
                lambda: settings(nbs), exc=ValueError, contains=says.format(f=nbs / "settings.ini")
            )
    # not ours: passed over
    (nbs / "settings.ini").write_bytes(b"\x00\xff no INI at all")
    with only(**user, SPAT_NB_TIER="huge"):
        fails(
            lambda: settings(nbs),
            contains="tier is 'huge' in the environment (SPAT_NB_...); write laptop or paper.",
        )
    with only(**user, SPAT_NB_DEVISE="cpu"):
        fails(lambda: settings(nbs), contains="did you mean 'device'?")


def test_the_file_at_the_top_documents_itself():
    tmp = Path(os.path.realpath(tempfile.mkdtemp()))
    top = Path(__file__).parents[1] / "settings.ini"
    assert _ini(top) is not None
    same(set(re.findall(r"^# ?(\w+) = ", top.read_text(), flags=re.M)), set(_RULES))
    write(tmp / "active/settings.ini", re.sub(r"^# ?(\w+ = )", r"\1", top.read_text(), flags=re.M))
    with only(XDG_CONFIG_HOME=str(tmp), APPDATA=str(tmp)):
        same(
            settings(tmp / "active"),
            Settings(
                data=Path("~/.cache/spat_nb/data").expanduser(),
                results=tmp / "active/results",
                progress=tmp / "active/.spat_nb_progress.json",
            ),
        )


def test_device_and_threads():
    same(default_device("cpu"), torch.device("cpu"))
    same(default_device(torch.device("cpu")), torch.device("cpu"))
    assert default_device("auto").type == (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    with only(SPAT_NB_DEVICE="cpu"):
        same(default_device(), torch.device("cpu"))
    fails(
        lambda: default_device("gpu"),
        exc=ValueError,
        contains="device is 'gpu' in the call; write auto, cpu, cuda",
    )
    fails(
        lambda: default_device("cuda:99"), exc=ValueError, contains="'cuda:99' but this machine has"
    )
    same((use_threads(1), use_threads(0)), (1, 1))
    same(multiplications(nn.Linear(3, 2, bias=False), torch.zeros(5, 3)), 30)


def test_memory_is_kept_on_linux():
    same(keep_memory(), sys.platform == "linux" and platform.libc_ver()[0] == "glibc")


def test_a_seed_decides_all_streams():
    def three():
        return random.random(), np.random.rand(), torch.rand(()).item()

    seed_everything(2**40)
    a = three()
    seed_everything(2**40)
    same(three(), a)
    # another seed, three other numbers
    seed_everything(1)
    assert not {*a} & {*three()}
    assert torch.equal(torch.rand(3, generator=generator(5)), torch.rand(3, generator=generator(5)))


def test_noise_is_the_same_for_every_layout():
    x = torch.zeros(2, 3, 4, 4)
    xl = x.to(memory_format=torch.channels_last)
    n = 100_000
    for draw, mu, sigma in [
        (lambda x, g=None: rand_like(x, -1, 3, g), 1, 4 / math.sqrt(12)),
        (randn_like, 0, 1),
    ]:
        for other in (xl, x.transpose(2, 3), x[:, :1].expand(2, 3, 4, 4)):
            assert torch.equal(draw(x, generator(1)), draw(other, generator(1)))
        state = torch.get_rng_state()
        draw(x, generator(1))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(7)
        a = draw(x)
        torch.manual_seed(7)
        assert torch.equal(draw(xl), a)
        v = draw(torch.empty(n), generator(0))
        assert abs(v.mean() - mu) < 5 * sigma / math.sqrt(n) and abs(
            v.std() - sigma
        ) < 5 * sigma / math.sqrt(n)
        same(
            (draw(x.double()).dtype, draw(x.bfloat16()).dtype, draw(torch.empty(0, 3)).shape),
            (torch.float64, torch.bfloat16, (0, 3)),
        )
    u = rand_like(torch.empty(n), -1, 3)
    assert -1 <= u.min() and u.max() <= 3


def test_values_per_sample():
    x, v = torch.ones(4, 3, 4, 4), t([1.0, 2.0, 3.0, 4.0])
    # no error, and wrong: the columns were scaled
    same((v * x)[0, 0, 0], v)
    same((bview(v, x) * x).amax((1, 2, 3)), v)
    same(((bview(v, x) * x).amin((1, 2, 3))), v)
    same(
        (bview(v, v).shape, bview(v, x[:, 0, 0]).shape, bview(v[:0], x[:0]).shape),
        ((4,), (4, 1), (0, 1, 1, 1)),
    )


def test_networks_are_found_inside():
    class Voting:
        def __init__(self, *nets):
            self.nets = list(nets)

        def __call__(self, x):
            return sum(n(x) for n in self.nets)

    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    same([id(n) for n in networks(Voting(a, b))], [id(a), id(b)])


def test_modes_come_back():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    net.train()
    net[1].eval()
    with eval_mode(net) as m:
        same([m.training, *[layer.training for layer in m]], [False] * 4)
    same([net.training, *[layer.training for layer in net]], [True, True, False, True])

    def boom():
        with eval_mode(net):
            raise KeyError("in between")

    fails(boom, exc=KeyError)
    same([net.training, *[layer.training for layer in net]], [True, True, False, True])
    with eval_mode(torch.sin) as f:
        same(f, torch.sin)
    with eval_mode(lambda x: net(x)):
        same(net.training, False)  # found inside
    same(net.training, True)
    with torch.inference_mode(), eval_mode(net):
        assert not torch.is_inference_mode_enabled()
    fails(
        lambda: eval_mode(nn.LazyLinear(2)).__enter__(),
        exc=ValueError,
        contains="show it a batch once",
    )


def test_images_at_the_door():
    x = torch.rand(2, 1, 4, 4, generator=generator(0))
    for good in (x, x.half(), x.double(), x.flatten(1), x[:0], torch.zeros(1, 1), torch.ones(1, 1)):
        assert check_images(good) is good
    for bad, exc, says in [
        (x.tolist(), TypeError, "x is a list"),
        ((x * 255).byte(), TypeError, "use x.float()/255"),
        (x[0, 0, 0], ValueError, "x[None]"),
        (x * 255, ValueError, "divide by 255"),
        ((x - 0.5) / 0.25, ValueError, "do not normalise"),
        (1 + x * 1e-3, ValueError, "use x.clamp(0,1)"),
        (x / 0, ValueError, "NaN or infinity"),
        (x.where(x > 0.5, math.nan), ValueError, "NaN or infinity"),
    ]:
        fails(lambda: check_images(bad), exc=exc, contains=says)


def test_labels_at_the_door():
    y, p = t([0, 2, 1]), torch.eye(3)[[0, 2, 1]]
    for good in (
        y,
        p,
        y[:0],
        p[:0],
        p.bfloat16(),
        torch.randn(3, 3, generator=generator(0)).softmax(1),
    ):
        assert check_labels(good, len(good), 3) is good
    for bad, exc, says in [
        ([0, 2, 1], TypeError, "y is a list"),
        (y[:2], ValueError, "3 images but 2 labels"),
        (p[:, :2], ValueError, "2 probabilities per image but there are 3 classes"),
        (y.int(), TypeError, "use y.long()"),
        (y.float(), TypeError, "use y.long()"),
        (y[:, None], ValueError, "shape (3, 1)"),
        (t(1), ValueError, "shape ()"),
        (p * 3 - 1, ValueError, "no probabilities"),
        (p * math.nan, ValueError, "no probabilities"),
        (y + 1, ValueError, "label 3; labels run from 0 to 2"),
        (y - 1, ValueError, "label -1"),
    ]:
        fails(lambda: check_labels(bad, 3, 3), exc=exc, contains=says)
    fails(lambda: check_labels(y - 1), contains="from 0 to c-1")


def test_logits_at_the_door():
    z = torch.randn(5, 3, generator=generator(0))
    for good in (z, z[:0], z.log_softmax(1), z * 1e30, t([[0.3, 0.705]])):
        assert check_logits(good, len(good)) is good
    for bad, exc, says in [
        ((z, z), TypeError, "returned a tuple"),
        (z[0], ValueError, "shape (3,) for 5 images"),
        (z[:4], ValueError, "shape (4, 3) for 5 images"),
        (z[..., None], ValueError, "it must return logits (5,c)"),
        (z.softmax(1), ValueError, "leave out its last softmax"),
        (z.bfloat16().softmax(1), ValueError, "leave out its last softmax"),
        (z.where(z > 0, math.nan), ValueError, "returned NaN for"),
        (z / 0, ValueError, "returned infinity for 5 of 5"),
        (z[:, 0], ValueError, "one logit for each image"),
        (z[:, :1], ValueError, "one logit for each image"),
        (dict(logits=z), TypeError, "model(x)['logits']"),
    ]:
        fails(lambda: check_logits(bad, 5), exc=exc, contains=says)
    zz = t([[20.0, 0.0, 0.0]], requires_grad=True)  # a confident network

    def push(z):
        return torch.autograd.grad(-z.log_softmax(1)[0, 1], zz)[0].abs().max()

    # the second softmax hides the gradient
    assert push(zz) > 0.9 and push(zz.softmax(1)) < 1e-7


def test_how_a_model_is_asked():
    net, x = small(), torch.rand(8, 3, 16, 16, generator=generator(0))
    assert torch.equal(logits(net, x), net(x))
    for dtype, out in [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ]:
        z = logits(small().to(dtype), x)
        same(z.dtype, out)
        close(z.float(), net(x), eps=0.02)
    same(logits(net, x.double()).dtype, torch.float32)  # the weights decide
    # it wrote into its own copy
    same(logits(lambda x: x.sub_(1).flatten(1), x[:, :1, :1, :2]) + 1, x[:, 0, 0, :2])
    same(logits(lambda x: t([[0.0, -math.inf]]), x[:1]), t([[0.0, MASKED]]))
    same(logits(lambda x: x.flatten(1).half(), x).dtype, torch.float32)
    fails(
        lambda: logits(small().to("meta"), x),
        contains="x is on cpu but the model is on meta; use x.to('meta')",
    )


def test_precisions_and_compilers():
    x = torch.rand(8, 3, 16, 16, generator=generator(0))
    net = small()
    want = net(x)
    assert fast(net, "float32") is net
    cl, bf = fast(net, "channels_last"), fast(net)
    close(cl(x), want, eps=1e-5)
    same((bf(x).dtype, logits(bf, x).dtype), (torch.float32, torch.float32))
    off = (bf(x) - want).abs().max() / want.abs().max()
    assert 0 < off < 2**-6, off
    # the same weights
    assert {p.data_ptr() for p in bf.parameters()} == {p.data_ptr() for p in net.parameters()}
    with torch.no_grad():
        net[-1].bias += 1
    close(bf(x) - 1, want, eps=0.05)
    xg = x.clone().requires_grad_()
    g = torch.autograd.grad(bf(xg).sum(), xg)[0]
    same((g.dtype, g.shape), (torch.float32, x.shape))
    same((bf.training, fast(net.train()).training), (False, True))
    with patch.dict(os.environ, {"PATH": "", "CXX": "", "CC": ""}):
        same((compiler("cpu"), compiler("cuda")), (None, None))
        fails(
            lambda: fast(net, compile=True),
            exc=RuntimeError,
            contains="needs a C++ compiler, and none is on the path",
        )
    # the reader's own choice comes first
    with patch.dict(os.environ, {"CXX": sys.executable}):
        same(compiler("cpu"), sys.executable)
    fails(
        lambda: fast(net, "fp8"),
        exc=ValueError,
        contains="precision is 'fp8' in the call; write float32, channels_last, bfloat16.",
    )


def test_a_compiled_network_gives_no_gradient_to_its_filters():
    x = torch.rand(8, 3, 16, 16, generator=generator(0))

    def attacked(net, mode):
        "Gradient of the pixels, and how many filters got one that nobody wanted"
        u = x.clone().requires_grad_()
        with mode(net) as m:
            z = m(u)
            with Wasted() as w:
                g = torch.autograd.grad(z[:, 0].sum(), u)[0]
        return g, w.n

    # a compiler that needs no C++
    net = small()
    comp = torch.compile(net, backend="aot_eager")
    runs = {
        "as it is": attacked(net, eval_mode),
        "compiled": attacked(comp, eval_mode),
        "compiled, attack_mode": attacked(comp, attack_mode),
    }
    for k, (g, n) in runs.items():
        print(f"{k:22} {n} of 2")
        close(g, runs["as it is"][0], eps=1e-5)
    same([n for _, n in runs.values()], [0, 2, 0])

    def gradients(m):
        return torch.autograd.grad(
            m(x.clone().requires_grad_()).square().mean(), list(net.parameters())
        )

    # it still learns
    for a, b in zip(gradients(comp), gradients(net), strict=True):
        close(a, b, eps=1e-5)

    # not compiled: not touched
    with attack_mode(net) as m:
        assert m is net and not net.training
    inside = nn.Sequential(Fast(small()), nn.Linear(10, 2)).train()
    inside[0].compile()
    with attack_mode(inside) as m:
        assert m is not inside and not inside[0].model[1].training
    assert inside[0].model[1].training
    with attack_mode(torch.sin) as f:
        same(f, torch.sin)


def test_bars_are_silent_in_tests():
    with patch.dict(os.environ, {"IN_TEST": "1"}):
        prints(lambda: same(list(bar(range(3), desc="walk")), [0, 1, 2]), "")
        same(list(bar(iter("ab"), total=2, unit="letters")), ["a", "b"])


def test_a_convolution_that_torch_breaks_stays_as_it_is():
    "On CPUs without AVX-512 its backward pass, channels-last, writes beyond its memory"
    narrow, usual = PreActResNet10(width=4), PreActResNet10(width=8)
    assert not Fast(narrow).nhwc and Fast(usual).nhwc
    x = torch.rand(8, 3, 32, 32)
    run = Fast(narrow.train())
    for _ in range(3):
        run(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in narrow.parameters())
    assert torch.allclose(run(x), narrow(x))
