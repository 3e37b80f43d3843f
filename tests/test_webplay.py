"""The site's playground, in Chromium: against torch in numbers, and as a reader uses it"""

import base64
import hashlib
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import WHY, chromium, executable, served

from spat_nb import L2, Attack, Linf, ce, margin
from spat_nb.app import zoo
from spat_nb.classwise.temperature import temperature_pgd
from spat_nb.core.rng import generator
from spat_nb.data.sources import get_data

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("webplay", ROOT / "tools/webplay.py")
webplay = importlib.util.module_from_spec(spec)
spec.loader.exec_module(webplay)

pytestmark = pytest.mark.skipif(not executable(), reason=WHY)

# numbers travel as base64 of float32; `kernel` is the convolution in WebAssembly, or null
HELP = """
window.pack = (xs) => {
  const all = Float32Array.from(xs.flatMap((x) => [...x])), bytes = new Uint8Array(all.buffer);
  let s = "";
  for (let i = 0; i < bytes.length; i += 8192) s += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(s);
};
window.unpack = (text, n) => {
  const all = new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  return Array.from({length: all.length / n}, (_, i) => all.slice(i * n, (i + 1) * n));
};
window.attacks = spatAttacks();
window.nets = {};
window.net = async (name, plain) => {
  const { about, text } = await spatPlay.load(name);
  return nets[name + plain] ||= spatEngine(plain ? null : spatKernel()).network(about, text);
};
"""


def page_of(template):
    "nbs/play.md without the site around it"
    body = template.split("---", 2)[2]
    body = re.sub(r"^#+ (.*)$", r"<h2>\1</h2>", body, flags=re.M)
    return (
        '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Play'
        '</title><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"</head><body>{body}</body></html>"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The playground alone, with an empty page beside it"
    out = tmp_path_factory.mktemp("play")
    webplay.write(out)
    text = (ROOT / "nbs/play.md").read_text(encoding="utf-8")
    (out / "play.html").write_text(page_of(text), encoding="utf-8")
    bare = re.sub(r"<(link|div)[^>]*>", "", text)
    (out / "bare.html").write_text(page_of(bare), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def browser():
    with chromium() as b:
        yield b


@pytest.fixture(scope="module")
def address(site):
    with served(site) as a:
        yield a


@pytest.fixture(scope="module")
def numbers(browser, address):
    "A page that computes and shows nothing"
    tab = browser.new_page()
    tab.goto(f"{address}bare.html")
    tab.add_script_tag(content=HELP)
    return tab


def pack(t):
    return base64.b64encode(t.detach().float().contiguous().numpy().tobytes()).decode()


def unpack(text, *shape):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy()).view(*shape)


def digits():
    return get_data("digits", device="cpu").test.tensors()


def photographs(n):
    "The first `n` test images of CIFAR-10; noise of the same shape where there is no CIFAR-10"
    try:
        x, y = get_data("cifar10", device="cpu").test.tensors()
        return x[:n], y[:n], True
    except (FileNotFoundError, ValueError, OSError):
        g = generator(0)
        return torch.rand(n, 3, 32, 32, generator=g), torch.arange(n) % 10, False


def images(name, n):
    if name.startswith("digits"):
        x, y = digits()
        return x[:n], y[:n]
    return photographs(n)[:2]


# ---- numbers
LOGITS = """async ([name, text, n, plain]) => {
  const m = await net(name, plain);
  return pack(unpack(text, n).map((x) => m.logits(x)));
}"""
GRADIENTS = """async ([name, text, n, ys]) => {
  const m = await net(name, false);
  return pack(unpack(text, n).map((x, i) => m.back(attacks.lossOf({loss: "ce"})(m.logits(x), ys[i]).dz)));
}"""
ASCENT = """async ([name, text, from, n, ys, how]) => {
  const m = await net(name, false), start = unpack(from, n);
  return pack(unpack(text, n).map((x, i) => attacks.points(m, x, ys[i], how, start[i])[how.steps].x));
}"""


def test_every_shipped_network_is_in_the_menu(site):
    listed = json.loads((site / "play/menu.js").read_text().removeprefix("spatPlay.menu(")[:-3])
    assert {m["name"] for m in listed} == set(zoo.names())
    assert len({(m["name"].split("/")[0], m["title"]) for m in listed}) == len(listed)
    assert all((site / "play" / m["file"]).exists() for m in listed)


@pytest.mark.parametrize("name", zoo.names())
def test_logits_and_gradients_are_those_of_torch(numbers, name):
    """Within 1e-4, in units of the largest logit where that is above 1: float32 has seven digits,
    and prototype heads have logits of a thousand
    """
    x, y = images(name, 40 if name.startswith("digits") else 8)
    model = zoo.load(name, "cpu").eval()
    x.requires_grad_()
    z = model(x)
    (g,) = torch.autograd.grad(ce(z, y).sum(), x)
    x = x.detach()
    n = x[0].numel()
    for plain in (False, True):
        seen = unpack(numbers.evaluate(LOGITS, [name, pack(x), n, plain]), *z.shape)
        assert (seen - z).abs().max() < 1e-4 * max(1, z.abs().max().item()), plain
    seen = unpack(numbers.evaluate(GRADIENTS, [name, pack(x), n, y.tolist()]), *x.shape)
    size = g.flatten(1).norm(dim=1)
    off = (seen - g).flatten(1).norm(dim=1)
    assert (off < 1e-3 * size + 1e-6).all()


def at(start):
    "A start of an attack that is given"
    return lambda x, ball, generator=None: start


def both(numbers, name, x, y, attack, how):
    "(answers at the end of torch's attack, of the page's), as torch's network gives them"
    model = zoo.load(name, "cpu").eval()
    start = attack.ball.uniform(x, generator(3))
    by_torch = Attack(attack.ball, attack.steps, loss=attack.loss, start=at(start))(model, x, y)
    given = [name, pack(x), pack(start), x[0].numel(), y.tolist(), how]
    by_page = unpack(numbers.evaluate(ASCENT, given), *x.shape)
    assert attack.ball.norm(by_page - x).max() <= attack.ball.eps + 1e-5
    assert by_page.min() >= 0 and by_page.max() <= 1
    with torch.no_grad():
        return model(by_torch).argmax(1), model(by_page).argmax(1)


def how_of(ball, loss="ce", steps=10, tau=1.0):
    kind = type(ball).__name__
    return dict(
        ball=kind, eps=ball.eps, loss=loss, tau=tau, steps=steps, lr=2.5 * ball.eps / steps
    )


@pytest.mark.parametrize(
    "name", [f"digits/{n}/w16" for n in ("standard", "pgd_at", "he", "prototypes", "sparta")]
)
def test_the_same_answers_after_pgd_on_all_digits(numbers, name):
    x, y = digits()
    assert len(x) == 360
    ball = Linf(0.15)
    torch_says, page_says = both(numbers, name, x, y, Attack(ball), how_of(ball))
    assert torch.equal(torch_says, page_says)


def test_the_same_answers_after_pgd_on_photographs(numbers):
    x, y, real = photographs(200)
    ball = Linf(8 / 255)
    torch_says, page_says = both(
        numbers, "cifar10/pgd_at/w8", x, y, Attack(ball), how_of(ball)
    )
    assert torch.equal(torch_says, page_says)
    if not real:
        pytest.skip("no CIFAR-10 here: the answers are the same on noise")


@pytest.mark.parametrize(
    "attack, how",
    [
        (Attack(L2(0.6)), how_of(L2(0.6))),
        (Attack(Linf(0.1), loss=margin), how_of(Linf(0.1), "margin")),
        (temperature_pgd(Linf(0.1), 5.0, 10), how_of(Linf(0.1), "safe ce", tau=5.0)),
        (Attack(L2(0.6), loss=margin), how_of(L2(0.6), "margin")),
    ],
)
def test_other_balls_and_losses(numbers, attack, how):
    x, y = digits()
    torch_says, page_says = both(numbers, "digits/spat/w16", x[:120], y[:120], attack, how)
    assert torch.equal(torch_says, page_says)
