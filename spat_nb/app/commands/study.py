"""Studies: list them, see what is done, run what is missing, judge the kept networks once more,
show tables, claims and plots: of your results, or of the shipped ones where there are none of yours
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..arguments import add_device, add_scale, seconds, whole

EXAMPLE = "spat_nb study run spat --scale laptop --budget 9m"
say = partial(print, flush=True)
# flags that not every doing reads: who reads them
READERS = {
    "budget": ("run",),
    "whole": ("run",),
    "seeds": ("run", "verify"),
    "arms": ("run", "verify"),
    "repeat": ("run",),
    "workers": ("run",),
    "on": ("run",),
    "out": ("plot",),
}


def add(parser):
    "Its flags"
    parser.add_argument(
        "what",
        choices=["list", "status", "run", "verify", "table", "claims", "plot"],
        help="Do this; verify judges the kept networks once more, claims says which claims of"
        " papers the runs support.",
    )
    parser.add_argument(
        "name", nargs="?", help="Take this study of the package, or that of a file: mine.py."
    )
    add_scale(parser)
    parser.add_argument(
        "--budget",
        type=seconds,
        help="Stop after 90s, 9m or 1.5h; what is done is kept. The default is no limit.",
    )
    parser.add_argument(
        "--whole",
        action="store_true",
        help="Begin only runs that are expected to fit into the budget.",
    )
    parser.add_argument(
        "--seeds",
        type=whole(0),
        nargs="+",
        help="Run only these seeds. The default is as many as the scale asks for.",
    )
    parser.add_argument("--arms", nargs="+", help="Run only these rows.")
    parser.add_argument(
        "--repeat",
        action="store_true",
        help="Run the further seeds that must agree before a claim counts as supported, "
        "in the rows of the claims that the first seeds support.",
    )
    parser.add_argument(
        "--workers",
        type=whole(1),
        help="Do so many runs side by side, one thread each. "
        "The default is as many as there are cores, and 1 on a GPU.",
    )
    parser.add_argument(
        "--on",
        metavar="WHERE",
        help="Do the runs on a cluster: dask://host:port, slurm, or slurm(timeout_min=240).",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="Print a line for each finished run, and no bars."
    )
    add_device(parser)
    parser.add_argument("--out", help="Write the plot to this file.")


def run(a):
    "Do what was asked"
    from spat_nb.studies.finding import studies

    if a.what not in ("list", "status") and not a.name:
        raise ValueError(
            f"which study? spat_nb study {a.what} NAME; they are {', '.join(studies())}."
        )
    for flag, readers in READERS.items():
        if getattr(a, flag) not in (None, False) and a.what not in readers:
            raise ValueError(
                f"--{flag} is of study {' and '.join(readers)}; study {a.what} does not read it."
            )
    doings = {
        "list": _list,
        "status": _status,
        "table": _table,
        "claims": _claims,
        "plot": _plot,
        "verify": _verify,
        "run": _run,
    }
    return doings[a.what](a)


def _list(a):
    from spat_nb.studies.finding import find_study, studies

    found = [find_study(a.name)] if a.name else studies().values()
    for study in found:
        rows = f"{len(study.arms)} rows: {' | '.join(study.arms)}"
        print(f"{study.name:12} {study.question}  ({rows})")


def _status(a):
    from spat_nb.studies import rows

    print(rows.status(a.name).to_string())


def _results(a):
    "The results of a study at a scale: the reader's own, or the shipped ones where there are none"
    from spat_nb.core.paths import shell
    from spat_nb.core.settings import settings
    from spat_nb.studies.finding import find_study
    from spat_nb.studies.reading import read

    from .. import lab

    study = find_study(a.name)
    own = settings().results / study.name / a.scale
    shipped = lab.results() / study.name / a.scale
    for place in (own, shipped):
        if any(place.glob("*.json")):
            return read(place, list(study.arms))
    command = shell("spat_nb", "study", "run", a.name, "--scale", a.scale)
    raise ValueError(
        f"there are no results of {study.name!r} at scale {a.scale!r} in {settings().results}; "
        f"run: {command}"
    )


def _outdated(a):
    "A sentence where rows were made of what has changed since, else ''"
    from spat_nb.core.paths import shell
    from spat_nb.studies.finding import find_study
    from spat_nb.studies.rows import runs_of
    from spat_nb.studies.today import current

    study = find_study(a.name)
    runs = [d for d in runs_of(study, a.scale) if d["arm"] in study.arms]
    there = current(study, a.scale, runs)
    old = [d for d in runs if d not in there]
    if not old:
        return ""
    arms = [arm for arm in study.arms if any(d["arm"] == arm for d in old)]
    seeds = sorted({str(d["seed"]) for d in old}, key=int)
    command = ("spat_nb", "study", "run", a.name, "--scale", a.scale)
    return (
        f"\n\n{len(old)} of these {'is' if len(old) == 1 else 'are'} outdated: what they were made"
        " of has changed since, and no verdict counts them."
        f" {shell(*command, '--arms', *arms, '--seeds', *seeds)} makes them anew."
    )


def _table(a):
    found = _results(a)
    table = found.table().to_string()
    print(f"{len(found.runs)} runs in {found.place}\n\n{table}{_outdated(a)}")


def _claims(a):
    from spat_nb.studies.claims import card_on

    found = _results(a)
    card = card_on(a.name, found.runs, a.scale)
    if card.empty:
        raise ValueError(f"no claim rests on the runs of {a.name}; its rows: study table {a.name}.")
    print(f"{len(found.runs)} runs in {found.place}\n\n{card.to_string(index=False)}{_outdated(a)}")


def _plot(a):
    from spat_nb.core.files import write_aside
    from spat_nb.core.paths import check_writable
    from spat_nb.core.plot import png

    out = Path(a.out or f"{Path(a.name).stem}-{a.scale}.png")
    check_writable(out, ending=".png")
    found = _results(a)
    with write_aside(out) as part:
        part.write_bytes(png(found.plot()))
    print(f"{len(found.runs)} runs in {found.place}\nwritten: {out}{_outdated(a)}")


def _place(a):
    "What is done before any run: the device, once it is clear that results can be written"
    from spat_nb.core.paths import check_writable
    from spat_nb.core.settings import default_device, settings

    from ..opening import settle

    check_writable(settings().results, folder=True)
    settle()
    return default_device(a.device)


def _verify(a):
    from spat_nb.studies.verify import verify

    device = _place(a)
    good = verify(a.name, a.scale, a.seeds, a.arms, device, a.quiet, say)
    return 1 if good else 0


def _to_repeat(a):
    "Rows and seeds that --repeat asks for"
    from spat_nb.studies.repeats import to_repeat

    if a.arms or a.seeds:
        raise ValueError("--repeat chooses rows and seeds itself; leave out --arms and --seeds.")
    arms, seeds = to_repeat(a.name, a.scale)
    if not arms:
        say(_no_repeat(a, seeds))
    return arms, seeds


def _no_repeat(a, seeds):
    "Why no further seed is run"
    from spat_nb.core.paths import shell
    from spat_nb.studies import rows

    if not seeds:
        return f"at scale {a.scale} no further seeds are asked for."
    state = rows.status(a.name).xs(a.scale, level="size")
    done, of = int(state["done"].item()), int(state["of"].item())
    if done < of:
        return (
            f"{done} of the {of} runs of the first seeds are there, and no claim"
            " waits for further ones yet; what is missing is run by"
            f" {shell('spat_nb', 'study', 'run', a.name, '--scale', a.scale)}"
        )
    return (
        f"no claim of {a.name} waits for further seeds at scale {a.scale}; the verdicts:"
        f" {shell('spat_nb', 'study', 'claims', a.name, '--scale', a.scale)}"
    )


def _run(a):
    from spat_nb.studies import rows, runner
    from spat_nb.studies.spread import cores

    device = _place(a)
    workers = a.workers or (cores() if device.type == "cpu" else 1)
    arms, seeds = _to_repeat(a) if a.repeat else (a.arms, a.seeds)
    if a.repeat and not arms:
        return
    n = runner.run(
        a.name,
        a.scale,
        a.budget,
        device,
        seeds,
        arms,
        a.whole,
        a.quiet,
        say,
        workers,
        on=a.on,
    )
    if a.quiet:
        return
    print(f"{n} runs finished\n\n{rows.status(a.name).to_string()}")
    if rows.runs_of(a.name, a.scale):
        print(f"\n{rows.results_of(a.name, a.scale).table().to_string()}")
