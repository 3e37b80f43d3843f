"""Write what the site's playground needs: shipped networks and images, as files of the page

`make docs` calls `write`; by hand:  python tools/webplay.py --out DIR

A page that is opened from a folder may load scripts and nothing else, so a network is a script: its
layers as JSON, its numbers in base64, as float16 where that is exact (shipped weights are) and as
float32 elsewhere. Batch norm becomes a x + b, and the scale of a head goes into its matrix.
docs/play/engine.js reads these layers, and no others: a network with another layer is refused here,
in one sentence.
"""

import argparse
import base64
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "docs/play"
sys.path.insert(0, str(ROOT))

from spat_nb.app import shelf, zoo  # noqa: E402
from spat_nb.data.sources import get_data  # noqa: E402
from spat_nb.models.layers import Normalize, PreActBlock  # noqa: E402
from spat_nb.papers.hypersphere import Hypersphere  # noqa: E402
from spat_nb.papers.prototype_rules import dot, l2  # noqa: E402
from spat_nb.papers.prototypes import Prototypes  # noqa: E402
from spat_nb.papers.sparta import Sparta  # noqa: E402

# what the menu calls the networks that the notebook's playground does not offer
MORE = {
    "hypersphere (HE), scale 15": "digits/he_s15/w16",
    "PGD-AT with AWP": "digits/pgd_at_awp/w16",
    "PGD-AT, averaged weights": "digits/pgd_at_ema/w16",
    "simplex": "digits/simplex_at/w16",
    "SPAT + HE": "digits/spat_he/w16",
    "TRADES": "digits/trades/w16",
    "CIFAR-10, SPAT + HE": "cifar10/spat_he/w8",
}
# bytes of weights: a page is to be light on a phone
LARGEST = 600_000


def played():
    "The shipped networks that are light enough for the page"
    return [n for n in zoo.names() if zoo.card(n)["bytes"] <= LARGEST]


def menu():
    "{name of a network: what the menu calls it}, those of the notebook's playground first"
    named = {**shelf.SHIPPED, **shelf.PHOTOGRAPHS, **MORE}
    titles = {name: title.removeprefix("CIFAR-10, ") for title, name in named.items()}
    lacking = set(played()) - set(titles)
    if lacking:
        raise ValueError(
            f"{', '.join(sorted(lacking))}: give it a name in MORE of tools/webplay.py."
        )
    return titles


# ---- layers
class Layers:
    "The layers of a network, as JSON, and all their numbers in two rows"

    def __init__(self):
        self.numbers = {"<f2": [], "<f4": []}

    def keep(self, t):
        "Add numbers; their row, and where they begin"
        full = t.detach().double().numpy().astype("<f4").ravel()
        half = full.astype("<f2")
        row = "<f2" if np.array_equal(half.astype("<f4"), full) else "<f4"
        begin = sum(a.size for a in self.numbers[row])
        self.numbers[row].append(half if row == "<f2" else full)
        return [list(self.numbers).index(row), begin]

    def texts(self):
        "Both rows in base64"
        rows = (np.concatenate([np.zeros(0, t), *r]) for t, r in self.numbers.items())
        return [base64.b64encode(r.tobytes()).decode() for r in rows]

    def affine(self, norm):
        a, b = scale_and_shift(norm)
        return {"op": "affine", "a": self.keep(a), "b": self.keep(b)}

    def conv(self, m, norm):
        if m.bias is not None:
            raise ValueError("the site's playground knows convolutions without bias alone.")
        one = dict(op="conv", out=m.out_channels, groups=m.groups, k=m.kernel_size[0])
        norm = norm and self.affine(norm)
        return {**one, "stride": m.stride[0], "w": self.keep(m.weight), "norm": norm}

    def linear(self, w, b):
        return {"op": "linear", "out": len(w), "w": self.keep(w), "b": self.keep(b)}

    # ---- one layer of torch, or several, to layers of the page
    def row(self, modules):
        "Layers in a row; a convolution takes the batch norm behind it in"
        made, left = [], list(modules)
        while left:
            m = left.pop(0)
            if isinstance(m, nn.Conv2d):
                norm = left.pop(0) if left and isinstance(left[0], nn.BatchNorm2d) else None
                made.append(self.conv(m, norm))
            else:
                made += self.one(m)
        return made

    def one(self, m):
        kinds = {
            Normalize: self.normalize,
            nn.BatchNorm2d: lambda m: [self.affine(m)],
            nn.ReLU: lambda m: [{"op": "relu"}],
            nn.Sequential: self.row,
            Sparta: self.sparta,
            PreActBlock: self.block,
            nn.Linear: lambda m: [self.linear(m.weight, bias_of(m))],
            Hypersphere: self.hypersphere,
            Prototypes: self.prototypes,
        }
        if type(m) not in kinds:
            raise ValueError(
                f"the site's playground knows no layer {type(m).__name__}; teach it to"
                " docs/play/engine.js and to tools/webplay.py."
            )
        return kinds[type(m)](m)

    def normalize(self, m):
        a, b = 1 / m.std.double().flatten(), (-m.mean.double() / m.std).flatten()
        return [{"op": "affine", "a": self.keep(a), "b": self.keep(b)}]

    def sparta(self, m):
        if m.rectify or m.shuffle or m.wire is not None:
            raise ValueError("the site's playground knows the plain Sparta alone.")
        return [{"op": "gate", "around": self.row(m.around)}]

    def block(self, m):
        return [
            {
                "op": "block",
                "before": self.row([m.bn1, m.act1]),
                "main": self.row([m.conv1, m.bn2, m.act2, m.conv2]),
                "short": self.row([m.short]) if m.short is not None else None,
            }
        ]

    def hypersphere(self, m):
        if not m.fn:
            raise ValueError("the site's playground knows a Hypersphere with fn=True alone.")
        rows = m.scale * m.rows().double()
        return [{"op": "unit"}, self.linear(rows, torch.zeros(len(rows)))]

    def prototypes(self, m):
        embed = self.linear(m.embed.weight, bias_of(m.embed))
        if m.rule is dot:
            return [embed, self.linear(m.P, torch.zeros(len(m.P)))]
        if m.rule is l2:
            return [embed, {"op": "nearest", "out": len(m.P), "w": self.keep(m.P)}]
        raise ValueError(f"the site's playground knows no rule {m.rule.__name__}.")


def bias_of(m):
    return torch.zeros(m.out_features) if m.bias is None else m.bias


def scale_and_shift(norm):
    "A batch norm in eval mode as a x + b"
    a = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return a, norm.bias.double() - a * norm.running_mean.double()


def record(card):
    "What the card says of the network, in one line"
    shares = {k: card.accuracy(k) for k in ("clean", "aa")}
    clean, attacked = (f"{share:.0%} of {n:,}" for share, *_, n in shares.values())
    kind = "photographs" if card["data"] == "cifar10" else "digits"
    radius = f"{255 * card['eps']:.0f}/255" if kind == "photographs" else f"{card['eps']:g}"
    return (
        f"Recorded: right on {clean} test {kind}, and on {attacked} under AutoAttack"
        f" (Linf, {radius})."
    )


def network_script(name, title):
    "A shipped network as a script that hands it to the page"
    net, card, layers = zoo.load(name, "cpu").eval(), zoo.card(name), Layers()
    body = net.body if isinstance(net.body, nn.Sequential) else [net.body]
    made = [*layers.one(net.normalize), *layers.row(body), {"op": "mean"}, *layers.one(net.head)]
    photographs = net.config["channels"] == 3
    about = dict(
        name=name,
        title=title,
        shape=[3, 32, 32] if photographs else [1, 8, 8],
        classes=list(card["classes"]),
        eps=card["eps"],
        record=record(card),
        layers=made,
    )
    return script("network", about, layers.texts())


# ---- images
def digits_script():
    "The test digits, one byte a pixel"
    x, y = get_data("digits", device="cpu").test.tensors()
    levels = (255 * x).round().to(torch.uint8)
    if not torch.equal(levels.float() / 255, x):
        raise ValueError("a digit has a level that is no byte; the page would round it.")
    classes = list(map(str, range(10)))
    return images_script("digits", [1, 8, 8], classes, y.tolist(), levels.numpy().tobytes())


def photographs_script():
    "The free photographs of docs/play/photographs, listed in its LICENCES.txt"
    from PIL import Image

    made, labels = [], []
    classes = list(zoo.card("cifar10/standard/w8")["classes"])
    for f in sorted((SOURCES / "photographs").glob("*.png")):
        img = Image.open(io.BytesIO(f.read_bytes())).convert("RGB")
        made.append(np.asarray(img).transpose(2, 0, 1).tobytes())
        labels.append(classes.index(f.stem.split("_")[0]))
    return images_script("photographs", [3, 32, 32], classes, labels, b"".join(made))


def images_script(name, shape, classes, labels, levels):
    about = dict(name=name, shape=shape, classes=classes, labels=labels)
    return script("keep", about, base64.b64encode(levels).decode())


def script(call, about, numbers):
    "A script that hands something to the page"
    about = json.dumps(about, separators=(",", ":"))
    return f"spatPlay.{call}({about},\n{json.dumps(numbers)});\n"


def write(
    out: Path,  # folder of the site
) -> dict:  # file -> bytes
    "Scripts, style, networks and images of the playground, into `out`/play"
    to = Path(out) / "play"
    shutil.rmtree(to, ignore_errors=True)
    (to / "networks").mkdir(parents=True)
    for f in (*SOURCES.glob("*.js"), *SOURCES.glob("*.css")):
        shutil.copy(f, to)
    titles = menu()
    listed = [dict(name=n, title=t, file=file_of(n)) for n, t in titles.items()]
    files = {
        "menu.js": f"spatPlay.menu({json.dumps(listed)});\n",
        "digits.js": digits_script(),
        "photographs.js": photographs_script(),
        **{file_of(n): network_script(n, t) for n, t in titles.items()},
    }
    for name, text in files.items():
        (to / name).write_text(text, encoding="utf-8")
    return {str(f.relative_to(to)): f.stat().st_size for f in sorted(to.rglob("*")) if f.is_file()}


def file_of(name):
    return f"networks/{name.replace('/', '_')}.js"


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    a.add_argument("--out", type=Path, default=ROOT / "_docs", help="folder of the site")
    for name, size in write(a.parse_args().out).items():
        print(f"{size:9,} {name}")


if __name__ == "__main__":
    main()
