"""Attack a trained network, and say what stands: the table with 95% intervals, the weakest class,
one verdict. With --trust also whether the number is real, with --report a page to hand on
"""

from __future__ import annotations

from pathlib import Path

from ..arguments import add_judging, seconds, share

EXAMPLE = (
    "spat_nb evaluate digits/pgd_at/w16 --attacks 'pgd(steps=20), apgd' --ball 'L2(.5)' --trust"
)
MORE = (
    "A network from elsewhere needs its weights, its data and a ball: spat_nb evaluate "
    "torchvision:resnet18 --weights resnet18.pth --data imagefolder --root photos "
    "--ball 'Linf(4/255)'."
)
# flags that say what was judged, for who judges again
ASKED = ("data", "split", "root", "size", "n_test")


def add(parser):
    "Its flags"
    add_judged(parser)
    add_stops(parser)


def add_judged(parser):
    "What is judged, by what, and where the report goes"
    add_judging(parser)
    parser.add_argument(
        "--aa",
        action="store_true",
        help="Attack by AutoAttack too, which takes minutes to hours: autoattack in --attacks.",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="Ask also whether the number is real: eleven gates on 256 images.",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="Run the attacks too that the flags of --trust call for, and print the one that left "
        "least, as code.",
    )
    parser.add_argument(
        "--certify",
        nargs="?",
        const="crown",
        metavar="BOUND",
        help="Prove too what no attack in the ball can cross: crown (the default), crown-ibp, ibp "
        "or lipschitz; of the package's own layers, and slow for large networks.",
    )
    parser.add_argument(
        "--privacy",
        action="store_true",
        help="Ask too what the network tells of its training images: membership by a threshold on "
        "its confidence, and how loud an image is. Needs the data that it was trained on.",
    )
    parser.add_argument("--out", help="Write the report to this JSON file.")
    parser.add_argument(
        "--report",
        metavar="FOLDER",
        help="Write a report to hand on into this folder: report.html with pictures, report.json, "
        "report.md.",
    )


def add_stops(parser):
    "When to stop before all images are judged"
    parser.add_argument(
        "--within",
        type=share,
        metavar="SHARE",
        help="Judge in random order, and stop when the 95%% interval of the hardest row reaches so "
        "far to each side: .02 is two points.",
    )
    parser.add_argument(
        "--budget",
        type=seconds,
        help="Judge in random order, and stop after this time: 90s, 10m or 1.5h.",
    )


def run(a):
    "Judge, print, write"
    report = judged(a)
    print(f"\n{report.body()}\n\n{report.per_class.to_string(float_format='{:.3f}'.format)}")


def judged(
    a,  # what was typed
    check=None,  # called with what was opened and name -> spec of the attacks, before they are run
):  # Report; written where --out and --report say
    "Judge, say what, and write"
    from spat_nb.measure.judge import judge

    from ..opening import open_weights

    _check_places(a)
    it = open_weights(a)
    attacks, told = _attacks(a, it)  # refused before anything is printed
    if a.privacy:
        _check_private(it)
    if check is not None:
        check(it, told)
    print(it.head(a.precision), flush=True)
    notes = [*it.notes, *_loading(it)]
    report = judge(
        it.model,
        it.data.test,
        it.ball,
        attacks,
        trust=a.trust,
        follow=a.follow,
        certify=a.certify,
        resume=a.resume,
        precision=a.precision,
        name=it.name,
        source=it.source,
        outside=True,
        notes=notes,
        within=a.within,
        budget=a.budget,
    )
    if a.privacy:
        report.privacy = _privacy(it)
    report.made |= _made(a, it)
    _write(a, it, report)
    return report


def _check_places(a):
    "Refuse, before any work is done, what cannot be written"
    from spat_nb.core.paths import check_writable

    if a.out:
        check_writable(a.out, ending=".json")
    if a.resume:
        check_writable(a.resume)
    if a.report:
        from ..report_page import NAMES

        for name in NAMES:
            check_writable(Path(a.report) / name)


def _attacks(a, it):
    "What `judge` is given, and name -> spec. What was not typed, a dict, imports nothing"
    from spat_nb.measure.battery import STANDARD, chosen_attacks

    attacks = a.attacks or it.attacks or STANDARD
    is_typed = isinstance(attacks, str)
    if is_typed and a.aa:
        attacks += ", autoattack"
    try:
        chosen = chosen_attacks(attacks, it.ball, outside=is_typed)
    except (TypeError, ValueError) as e:
        raise type(e)(f"attacks: {e}") from None
    return attacks, {k: told for k, (_, told) in chosen.items()}


def _loading(it):
    "Is a network from elsewhere loaded right? Printed before any attack; noted where it is not"
    if not it.is_foreign:
        return []
    from spat_nb.measure.loading import check_loading

    found = check_loading(it.model, it.data.test, it.normalisation)
    print(found, flush=True)
    return [f"loading: {found}"] if found.mistake else []


def _check_private(it):
    "Refuse --privacy, before anything has run, where there are no training images or no layers"
    from torch import nn

    train = getattr(it.data, "train", None)
    # data that is only judged has an empty part, or none
    has_both = train is not None and getattr(train, "n", 0) > 1
    if not has_both or not isinstance(it.model, nn.Module):
        raise ValueError(
            "--privacy sets training images beside test images, and looks at gradients of weights;"
            " it needs a network of layers and a data set that has both: --data digits, say."
        )


def _privacy(it):
    "What the network tells of its training images"
    from spat_nb.attacks.attack import pgd
    from spat_nb.core.rng import generator
    from spat_nb.papers.rpg import privacy

    attack = pgd(it.ball, 10, generator=generator(0))  # the same numbers in a second run
    return privacy(it.model, it.data, attack, generator=generator(0))


def _made(a, it):
    "What else a report keeps: the command, what was asked for, and hashes"
    from torch import nn

    from spat_nb.core.digest import digest
    from spat_nb.core.paths import shell
    from spat_nb.models.pieces import content_hash

    asked = {k: getattr(a, k, None) for k in ASKED}
    asked["data"] = asked["data"] or it.source.removesuffix(", test")
    hashes = {}
    if it.file is not None:
        hashes["file"] = content_hash(it.file)
    if isinstance(it.model, nn.Module):
        hashes["weights"] = digest(*it.model.state_dict().values())
    return {
        "command": shell("spat_nb", *a.words),
        "asked": {k: v for k, v in asked.items() if v is not None},
        "hashes": hashes,
    }


def _write(a, it, report):
    "Where --out and --report say"
    from spat_nb.measure.cases import worst_cases

    from ..report_page import write_report

    if a.out:
        report.save(a.out)
        print(f"written: {a.out}")
    if a.report:
        cases = worst_cases(it.model, it.data.test, report, outside=True)
        for path in write_report(report, a.report, cases):
            print(f"written: {path}")
