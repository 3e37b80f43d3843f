"""Train a network by a recipe, judge it, write both. The same command goes on after a kill, and a
finished run is shown, not trained again. Under torchrun or accelerate launch it trains on many
devices
"""

from __future__ import annotations

from ..arguments import (
    above,
    add_device,
    add_images,
    not_below,
    radius,
    seconds,
    spec,
    specs,
    whole,
)

EXAMPLE = "spat_nb train --data cifar10 --method trades --width 16 --eps 8/255 --epochs 2"
MORE = (
    "A flag sets a slot of the recipe, and what is not given is what the data set is usually "
    "trained with. Functions of your own are typed as file.py:name: --objective mine.py:squeezed "
    "--model mine.py:net --data my.npz."
)


def add(parser):
    "Its flags"
    _add_slots(parser)
    _add_short_words(parser)
    _add_numbers(parser)
    add_images(parser)
    _add_running(parser)


def _add_slots(parser):
    "What a recipe names"
    parser.add_argument(
        "--data",
        default="digits",
        help="Train on this data set: digits, mnist, cifar10, cifar100, svhn, stl10, imagefolder, "
        "or arrays in a file, my.npz. The default is digits.",
    )
    parser.add_argument(
        "--method",
        help="Set the slots of this row of `spat_nb methods`: spat, hypersphere, prototypes, "
        "sparta, trades, mart, alp, free, fast, awp, ema, standard or pgd_at.",
    )
    parser.add_argument(
        "--model", type=spec, help="Train this network: 'PreActResNet18(width=16, act=Sparta)'."
    )
    parser.add_argument("--objective", type=spec, help="Minimise this in each step: 'spat(a=.1)'.")
    parser.add_argument(
        "--ball", type=spec, help="Stand against this ball: 'Linf(8/255)', 'L2(.5)' or 'L1(12)'."
    )
    parser.add_argument("--attack", type=spec, help="Train against this attack: 'pgd(steps=5)'.")
    parser.add_argument(
        "--optimiser",
        type=spec,
        help="Move the weights by this: 'Adam' or 'sgd(weight_decay=.0001)'.",
    )
    parser.add_argument(
        "--schedule", type=spec, help="Change the learning rate by this: 'one_cycle(up=.2)'."
    )
    parser.add_argument(
        "--callbacks", type=specs, help="Let these listen too: 'EMA(decay=.999), EarlyStop'."
    )
    parser.add_argument(
        "--augment",
        type=spec,
        help="Augment the training images by this: 'crop_flip(4)'; none leaves them as they are.",
    )


def _add_short_words(parser):
    "Single arguments of slots"
    parser.add_argument(
        "--eps", type=radius, help="Change the radius of the ball to this: 8/255 say."
    )
    parser.add_argument(
        "--steps", type=whole(1), help="Let the training attack take so many steps."
    )
    parser.add_argument(
        "--start", type=spec, help="Let the training attack start so: 'gaussian(sigma=.001)'."
    )
    parser.add_argument(
        "--inner", type=spec, help="Let the training attack maximise this loss, for example margin."
    )
    parser.add_argument(
        "--beta", type=not_below, help="Weigh the second term of the objective by this."
    )
    parser.add_argument(
        "--width",
        type=whole(1),
        help="Make the network so wide: channels of the first stage, or the widening factor of "
        "WideResNet.",
    )
    parser.add_argument("--act", type=spec, help="Give the network these activations: Sparta say.")
    parser.add_argument(
        "--head", type=spec, help="Give the network this head: 'Hypersphere(scale=15)' say."
    )


def _add_numbers(parser):
    "Numbers of a recipe"
    parser.add_argument("--epochs", type=whole(1), help="Pass so often over the training images.")
    parser.add_argument("--lr", type=above, help="Let the highest learning rate be this.")
    parser.add_argument("--batch", type=whole(1), help="Take so many images in a step.")
    parser.add_argument(
        "--replays", type=whole(1), help="Show each batch so often in a row (Free-AT)."
    )
    parser.add_argument(
        "--n",
        "--images",
        type=whole(1),
        help="Train on so many images, balanced by class. The default is all.",
    )
    parser.add_argument(
        "--valid", type=whole(1), help="Hold out so many images, which choose the weights."
    )
    parser.add_argument(
        "--n-test", type=whole(1), help="Judge on so many test images. The default is all."
    )
    parser.add_argument(
        "--best",
        choices=("robust", "clean", "last"),
        help="Keep the weights that are best on attacked or clean validation images, or the last.",
    )
    parser.add_argument(
        "--look", type=above, help="Look at the validation images after so many epochs."
    )
    parser.add_argument(
        "--seed",
        type=whole(),
        help="Draw weights, order, augmentation and random starts by this. The default is 0.",
    )
    parser.add_argument(
        "--precision",
        help="Run the network in training so: float32, channels_last or bfloat16. "
        "The default is the setting.",
    )


def _add_running(parser):
    "What says how a run is done, not which"
    add_device(parser)
    parser.add_argument(
        "--out",
        help="Write into this folder. The default is one in the results folder, named by the "
        "recipe.",
    )
    parser.add_argument(
        "--again", action="store_true", help="Train anew where a run lies in the folder."
    )
    parser.add_argument(
        "--compile", action="store_true", help="Compile the network, which pays on GPUs."
    )
    parser.add_argument(
        "--every",
        type=not_below,
        default=60,
        help="Write a checkpoint after so many seconds. The default is 60.",
    )
    parser.add_argument(
        "--track",
        choices=("tensorboard", "mlflow"),
        help="Hand the history to this tracker, which must be installed: TensorBoard's files lie "
        "in the run's folder, MLflow writes where its own settings say.",
    )
    parser.add_argument(
        "--workers",
        type=whole(0),
        default=0,
        help="Let so many processes read the pictures of imagefolder ahead. The default is 0.",
    )
    parser.add_argument(
        "--shared-norm",
        action="store_true",
        help="Of many processes: take batch norm over the whole batch, not over each share.",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=600.0,
        help="Of many processes: give up one that does not answer for so long. The default is 10m.",
    )


def run(a):
    "Train, judge, write; one process of many, or alone"
    from spat_nb.training.devices import many

    from ..training import Work

    devices = many(a.device, a.timeout, a.shared_norm)
    try:
        Work(a, devices).do()
    finally:
        if devices:
            devices.close()
