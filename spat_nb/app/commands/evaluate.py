"""Attack a trained network, and say what stands: the table with 95% intervals, the weakest class,
one verdict. With --trust also whether the number is real
"""

from __future__ import annotations

from ..arguments import add_judging

EXAMPLE = (
    "spat_nb evaluate digits/pgd_at/w16 --attacks 'pgd(steps=20), apgd' --ball 'L2(.5)' --trust"
)
MORE = (
    "A network from elsewhere needs its weights, its data and a ball: spat_nb evaluate "
    "torchvision:resnet18 --weights resnet18.pth --data imagefolder --root photos "
    "--ball 'Linf(4/255)'."
)


def add(parser):
    "Its flags"
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
    parser.add_argument("--out", help="Write the report to this JSON file.")


def run(a):
    "Judge, print, write"
    from spat_nb.core.paths import check_writable
    from spat_nb.measure.battery import STANDARD
    from spat_nb.measure.judge import judge

    from ..opening import attacks_in, open_weights

    if a.out:
        check_writable(a.out, ending=".json")
    if a.resume:
        check_writable(a.resume)
    it = open_weights(a)
    attacks = a.attacks or it.attacks or STANDARD
    if a.aa:
        attacks += ", autoattack"
    attacks_in(attacks, it.ball)  # refused before anything is printed
    print(it.head(a.precision), flush=True)
    report = judge(
        it.model,
        it.data.test,
        it.ball,
        attacks,
        trust=a.trust,
        resume=a.resume,
        precision=a.precision,
        name=it.name,
        source=it.source,
        outside=True,
        notes=it.notes,
    )
    print(f"\n{report.body()}\n\n{report.per_class.to_string(float_format='{:.3f}'.format)}")
    if a.out:
        report.save(a.out)
        print(f"written: {a.out}")
