"""What may stand behind a flag: numbers, radii, lengths of time, specs

Nothing heavy is imported here, so that `--help` and a mistyped flag answer at once
"""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentTypeError
from fractions import Fraction

from ..core.grammar import parse
from ..core.slots import split_specs

__all__ = [
    "number",
    "above",
    "share",
    "not_below",
    "radius",
    "whole",
    "seconds",
    "pixels",
    "spec",
    "specs",
    "add_device",
    "add_elsewhere",
    "add_images",
    "add_judging",
    "add_scale",
]

SCALES = ("laptop", "mini", "small", "paper")
UNITS = {"s": 1, "m": 60, "h": 3600}


def number(text: str) -> float:
    "A number or a fraction: 8/255"
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is no number; write .03 or 8/255") from None


def above(text: str) -> float:
    "A number above 0"
    value = number(text)
    if value > 0:
        return value
    raise ArgumentTypeError(f"{text} is not above 0")


def share(text: str) -> float:
    "A number between 0 and 1"
    value = number(text)
    if 0 < value < 1:
        return value
    raise ArgumentTypeError(f"{text} does not lie between 0 and 1; .02 is two points")


def not_below(text: str) -> float:
    "A number that is 0 or more"
    value = number(text)
    if value >= 0:
        return value
    raise ArgumentTypeError(f"{text} is below 0")


def radius(text: str) -> float:
    "A radius in pixels of [0,1]"
    value = number(text)
    if 0 <= value <= 1:
        return value
    meant = f"; did you mean {text}/255? In L1 and L2 write --ball 'L1({text})'"
    raise ArgumentTypeError(
        f"{text} is no radius of pixels in [0,1]{meant if 1 < value <= 255 else ''}"
    )


def whole(
    least: int | None = None,
    most: int | None = None,
):  # text -> int
    "A whole number from `least` to `most`"

    def parse_whole(text):
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is no whole number") from None
        if least is not None and value < least:
            raise ArgumentTypeError(f"{value} is too small; give at least {least}")
        if most is not None and value > most:
            raise ArgumentTypeError(f"{value} is too large; give at most {most}")
        return value

    return parse_whole


def seconds(text: str) -> float:
    "90, 90s, 9m or 1.5h"
    unit = UNITS.get(text[-1:])
    try:
        value = float(text if unit is None else text[:-1]) * (unit or 1)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no length of time; write 90s, 9m or 1.5h") from None
    if 0 < value < math.inf:
        return value
    raise ArgumentTypeError(f"{text!r} is no length of time that passes; write 90s, 9m or 1.5h")


def pixels(text: str):  # a word, or a tuple of numbers
    "Numbers with commas between, or a word: imagenet, half, none"
    if text in ("imagenet", "half", "none"):
        return text
    return tuple(number(part.strip()) for part in text.split(","))


def spec(text: str) -> str:
    "A call written down, 'pgd(steps=5)'; what it names is looked up later"
    try:
        parse(text)
    except ValueError as e:
        raise ArgumentTypeError(str(e).rstrip(".")) from None
    return text


def specs(text: str) -> str:
    "Several of them, with commas between: 'fgsm, pgd(steps=20)'"
    try:
        found = split_specs(text)
    except ValueError as e:
        raise ArgumentTypeError(str(e).rstrip(".")) from None
    if not found:
        raise ArgumentTypeError("it names nothing; write a call such as 'pgd(steps=20)'")
    return text


# ---- flags that several commands have


def add_device(parser):
    "--device"
    parser.add_argument(
        "--device",
        help="Work on this device: cpu, cuda, cuda:1 or mps. The default is the setting.",
    )


def add_images(
    parser,
    more: str = "",  # what --size means besides
):
    "--root and --size: where pictures lie and how large they are made"
    parser.add_argument(
        "--root",
        help="Look for the data in this folder; of imagefolder it is the one with train/ and val/. "
        "The default is the setting.",
    )
    parser.add_argument(
        "--size",
        type=whole(1),
        help="Make the pictures of imagefolder so many pixels high and wide. The default is 224."
        + more,
    )


def add_judging(parser):
    "What `evaluate` and `diagnose` share: the weights, and by what they are judged"
    parser.add_argument(
        "weights",
        metavar="MODEL",
        help="This is judged: the folder of a run, a .safetensors file that train wrote, "
        "a shipped network such as digits/pgd_at/w16; or a network from elsewhere: "
        "timm:resnet18, torchvision:resnet50, hf:FOLDER, mine.py:net, package.module:net, or a "
        "program: x.onnx, x.pt2, a TorchScript file (its code runs in TorchScript's own "
        "interpreter).",
    )
    add_elsewhere(parser)
    parser.add_argument(
        "--model",
        type=spec,
        help="A network of your own needs this, as train had it: mine.py:net.",
    )
    parser.add_argument(
        "--data",
        help="Judge on this: a data set by name, an .npz file, a folder of images, hf:FOLDER of "
        "Hugging Face's datasets, or mine.py:name, a Dataset, a DataLoader or (x, y) of your own. "
        "The default is what it was trained on.",
    )
    parser.add_argument(
        "--split",
        metavar="PART",
        help="Judge on this part of your own data: val say. The default is test, else "
        "validation, else all there is.",
    )
    add_images(parser, " A network from elsewhere resizes the images of other sets to it.")
    parser.add_argument(
        "--ball",
        type=spec,
        help="Attack in this ball: 'Linf(8/255)', 'L2(.5)' or 'L1(12)'. "
        "The default is the one it was trained in.",
    )
    parser.add_argument(
        "--eps", type=radius, help="Change the radius of the ball to this: 8/255 say."
    )
    parser.add_argument(
        "--attacks",
        type=specs,
        help="Attack with these: 'pgd(steps=20), apgd, square(queries=1000), autoattack'. "
        "The default is what every network is judged by.",
    )
    parser.add_argument(
        "--n-test",
        type=whole(1),
        help="Judge on so many test images, balanced by class. The default is all.",
    )
    parser.add_argument(
        "--resume",
        help="Keep in this file what is done, so that the same command goes on after a kill. "
        "With --within or --budget each part has a file of its own beside it: a.0.json.",
    )
    parser.add_argument(
        "--precision",
        help="Run the network so while it is attacked: float32, channels_last or bfloat16. "
        "The verdict is float32.",
    )
    add_device(parser)


def add_elsewhere(parser):
    "What a network needs that was made elsewhere"
    parser.add_argument(
        "--weights",
        dest="state",
        metavar="FILE",
        help="Fill a network from elsewhere with these weights: .safetensors, or .pth that "
        "torch.save wrote. Nothing in the file is run.",
    )
    parser.add_argument(
        "--mean",
        type=pixels,
        help="Subtract this from the pixels first: numbers with commas between, or imagenet, half "
        "(0.5), none. The default is what its library says, else none.",
    )
    parser.add_argument(
        "--std",
        type=pixels,
        help="Divide the pixels by this then. The default is what belongs to --mean.",
    )
    parser.add_argument(
        "--preprocess",
        metavar="FILE.py:NAME",
        help="Let this function make of pixels (b,ch,h,w) in [0,1] what the network takes. Where "
        "it has no gradient, the identity stands in for it.",
    )
    parser.add_argument(
        "--labels",
        help="Find outputs by the names of the classes: a file with a name a line, a JSON file, "
        "imagenet (its 1000 classes, by word or WordNet number), or folder.",
    )
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="Let timm or torchvision fetch its own weights.",
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="Judge an architecture of a library with random weights.",
    )


def add_scale(parser):
    "--scale: how large a study is run. Its old name is --size"
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default="laptop",
        help="Take the study at this scale: laptop is digits in minutes, mini and small are "
        "CIFAR-10 with a narrow network, paper is CIFAR-10 with the usual one. "
        "The default is laptop.",
    )
    parser.add_argument("--size", dest="scale", choices=SCALES, help=argparse.SUPPRESS)
