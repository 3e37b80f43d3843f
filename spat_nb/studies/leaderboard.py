"""All results in one table: every recipe and seed once, with intervals"""

from __future__ import annotations

import json
from collections import Counter

from spat_nb.core import spec
from spat_nb.measure.intervals import wilson
from spat_nb.measure.means import mean_interval
from spat_nb.studies.finding import studies
from spat_nb.studies.rows import runs_of
from spat_nb.studies.sizes import SIZES


def recipe(
    d: dict,  # a result, as `runs_of` gives it
    # equal for runs that differ in the seed, the study's name or what was measured in addition
) -> str:
    """The training and the attacks of a run, as text; not on how many images it was judged

    Parameters
    ----------
    d : dict
        a result, as `runs_of` gives it

    Returns
    -------
    str
        equal for runs that differ in the seed, the study's name or what was measured in addition
    """

    c = d["config"]
    judge = {k: c["judge"].get(k) for k in ("finish", "strong")}
    return json.dumps([d["size"], c["recipe"], c.get("train"), judge], sort_keys=True)


def _fits(d, data):
    """Is it a run on `data`, in the size's own ball? An arm that brings other data is told by its
    text
    """
    c, size = d["config"], SIZES[d["size"]]
    same_ball = c["recipe"]["ball"] == spec.text(spec.make(size.ball))
    return size.data == data and same_ball and "data=" not in c.get("train", "")


def gather(
    data: str = "digits",  # data set
    size: str | None = None,  # one of `SIZES`; default: all sizes on this data set
    names=None,  # studies; default: all
    # (size, name) -> {seed: result}; 'studies' are all that have this recipe, 'twins' the results
    # of this seed by study
) -> dict:
    """Every recipe and seed once, from the study that judged it on most images, and of these from
    the one that has most of its seeds. A recipe goes by the name that most studies give it.

    Parameters
    ----------
    data : str
        data set (default: "digits")
    size : str | None
        one of `SIZES`; default: all sizes on this data set
    names
        studies; default: all

    Returns
    -------
    dict
        (size, name) -> {seed: result}; 'studies' are all that have this recipe, 'twins' the results
        of this seed by study

    Raises
    ------
    ValueError
        where no size is on `data`
    """
    sizes = [s for s, v in SIZES.items() if v.data == data and size in (None, s)]
    if not sizes:
        raise ValueError(
            f"no size {size or ''} on {data!r}; there are"
            f" {', '.join(f'{k} ({v.data})' for k, v in SIZES.items())}."
        )
    runs: dict = {}
    for s in sizes:
        for name in studies() if names is None else names:
            for d in runs_of(name, s):
                if _fits(d, data):
                    runs.setdefault((s, recipe(d)), []).append(d)
    out: dict = {}
    for (s, r), name in _names(runs).items():
        results = runs[s, r]
        seeds = sorted({d["seed"] for d in results})
        out[s, name] = {seed: _with_twins(results, _fullest(results), seed) for seed in seeds}
    return out


def _fullest(results):
    "The studies of these results: the one that judged on most images first, then by its seeds"

    def size(study):
        own = [d["attacks"] for d in results if d["study"] == study]
        return *(max(a[k]["n"] for a in own) for k in ("aa", "clean")), len(own)

    return sorted(dict.fromkeys(d["study"] for d in results), key=size, reverse=True)


def _names(runs):
    "(size, recipe) -> its name; of several that go by one name the one that was run most keeps it"
    names: dict = {}
    for key in sorted(runs, key=lambda key: -len(runs[key])):
        name = _usual_name(runs[key])
        if (key[0], name) in {(other[0], taken) for other, taken in names.items()}:
            name = f"{name} ({_fullest(runs[key])[0]})"
        names[key] = name
    return {key: names[key] for key in runs}


def _usual_name(results):
    "The name that most studies give this recipe"
    named = dict.fromkeys((d["study"], d["arm"]) for d in results)
    return Counter(arm for _, arm in named).most_common(1)[0][0]


def _with_twins(results, where, seed):
    "The result of a seed from the first study that has it, and beside it those of the others"
    twins = {n: d for n in where for d in results if (d["study"], d["seed"]) == (n, seed)}
    return {**next(iter(twins.values())), "studies": where, "twins": twins}


def _range(counts, level):
    "Mean share and an interval, from [(right, n)] of the seeds"
    v = [k / n for k, n in counts]
    m, half = mean_interval(v, level)
    n = min(n for _, n in counts)
    return (m, m - half, m + half) if len(v) > 2 else (m, *wilson(round(m * n), n, level))


def _row(size, name, runs, attacks, weakest, level):
    ds = [runs[s] for s in sorted(runs)]

    def count(d, k):
        return (d["attacks"][k]["correct"], d["attacks"][k]["n"])

    def low(d):
        return min(
            (
                (c, n, k)
                for c, n, k in zip(
                    d["attacks"][weakest]["class_correct"],
                    d["attacks"][weakest]["class_n"],
                    d["classes"],
                )
                if n
            ),
            key=lambda v: v[0] / v[1],
        )

    row = dict(
        arm=name,
        size=size,
        studies=", ".join(ds[0]["studies"]),
        eps=spec.make(ds[0]["config"]["recipe"]["ball"]).eps,
        seeds=len(ds),
        over="seeds" if len(ds) > 2 else "images",
    )
    for k in attacks:
        if all(k in d["attacks"] for d in ds):
            row |= zip((k, f"{k}_lo", f"{k}_hi"), _range([count(d, k) for d in ds], level))
            row[f"{k}_n"] = min(count(d, k)[1] for d in ds)
    row |= dict(
        weakest=sum(c / n for c, n, _ in map(low, ds)) / len(ds),
        weakest_class=Counter(low(d)[2] for d in ds).most_common(1)[0][0],
    )
    return row | dict(
        minutes=sum(d["seconds"]["train"] for d in ds) / len(ds) / 60,
        parameters=ds[0]["parameters"],
        flagged=sum(bool(d["trust"]["flags"]) for d in ds),
        flags=", ".join(sorted({f for d in ds for f in d["trust"]["flags"]})),
    )


def leaderboard(
    data: str = "digits",  # data set
    size: str | None = None,  # one of `SIZES`; default: all sizes on this data set
    sort: str = "aa",  # column that ranks the rows, highest first
    attacks=("clean", "pgd20", "cw20", "aa"),  # columns of accuracies
    weakest: str = "cw20",  # attack under which the weakest class is looked for
    names=None,  # studies; default: all
    level: float = 0.95,  # confidence of the intervals
    # pandas.DataFrame, a row per recipe: shares with ends of intervals and n, weakest class, seeds,
    # minutes of training, parameters, flags
):
    """All results on a data set, best first; without results the frame is empty.

    Parameters
    ----------
    data : str
        data set (default: "digits")
    size : str | None
        one of `SIZES`; default: all sizes on this data set
    sort : str
        column that ranks the rows, highest first (default: "aa")
    attacks
        columns of accuracies (default: ("clean", "pgd20", "cw20", "aa"))
    weakest : str
        attack under which the weakest class is looked for (default: "cw20")
    names
        studies; default: all
    level : float
        confidence of the intervals (default: 0.95)

    Returns
    -------
    pandas.DataFrame, a row per recipe: shares with ends of intervals and n, weakest class, seeds,
    minutes of training, parameters, flags

    Raises
    ------
    ValueError
        for an unknown data set or column
    """
    import pandas as pd

    found = gather(data, size, names)
    t = pd.DataFrame([_row(s, name, v, attacks, weakest, level) for (s, name), v in found.items()])
    if len(t) and sort not in t:
        raise ValueError(f"sort is {sort!r}; columns are {', '.join(t.columns)}.")
    return (
        t.sort_values(sort, ascending=False, kind="stable").reset_index(drop=True) if len(t) else t
    )
