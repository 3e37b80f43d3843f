"Frames, tables and figures of what lies in results files"

from __future__ import annotations

import base64
import json
import math

import torch

from ..core.paths import shell, what_is
from ..core.settings import settings
from ..measure.intervals import paired, wilson
from .sizes import SIZES
from .study import SCHEMA, find_study, jobs, studies


def unbits(text, n):
    "(n,) bool from what `bits` wrote. ValueError where that is not n images"
    import numpy as np

    raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(raw) != -(-n // 8):
        raise ValueError(
            f"{len(raw)} bytes hold the answers, not those to {n} images; the file is damaged, run"
            " the study again."
        )
    return torch.from_numpy(np.unpackbits(raw, count=n).astype(bool))


# pandas.DataFrame: a row per study and size; runs done, runs in all, minutes that they took
def status(name=None):
    "What is done and what is missing"
    import pandas as pd

    rows = []
    for s in [find_study(name)] if name else studies().values():
        for size in SIZES:
            all_ = jobs(s, size)
            there = [j for j in all_ if j.done()]
            old = sum(j.path.is_file() for j in all_) - len(there)
            rows.append(
                dict(
                    study=s.name,
                    size=size,
                    done=len(there),
                    of=len(all_),
                    outdated=old,
                    minutes=round(
                        sum(sum(d["seconds"].values()) for d in results(s.name, size)) / 60, 1
                    ),
                )
            )
    return pd.DataFrame(rows).set_index(["study", "size"])


# ---- reading


def results(study, size="laptop") -> list:  # dicts, as written
    "All results of a study at a size. ValueError where a file is damaged"
    out = []
    for p in sorted((settings().results / study / size).glob("*.json")):
        try:
            d = json.loads(p.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(
                f"{p} is {what_is(p)} and no whole result; move it away and run the study again."
            ) from None
        if d.get("schema") != SCHEMA:
            raise ValueError(
                f"{p} has schema {d.get('schema')!r}, this version reads {SCHEMA}; run the study"
                " again."
            )
        out.append(d)
    return out


def whole(study, size="laptop") -> bool:
    "Has every arm at least one result?"
    return {*find_study(study).arms} <= {d["arm"] for d in results(study, size)}


def frame(study, size="laptop"):  # pandas.DataFrame, a row per run and attack
    """arm, seed, attack, n, accuracy, lo, hi (Wilson), weakest_class, weakest, flags, seconds,
    parameters. ValueError where there are no results
    """
    import pandas as pd

    rows = []
    for d in results(study, size):
        for k, v in d["attacks"].items():
            if "/" in k:
                continue
            acc = [c / n if n else math.nan for c, n in zip(v["class_correct"], v["class_n"])]
            weak = min((a, c) for a, c in zip(acc, d["classes"]) if a == a)
            lo, hi = wilson(v["correct"], v["n"])
            rows.append(
                dict(
                    arm=d["arm"],
                    seed=d["seed"],
                    attack=k,
                    n=v["n"],
                    accuracy=v["correct"] / v["n"],
                    lo=lo,
                    hi=hi,
                    weakest_class=weak[1],
                    weakest=weak[0],
                    flags=", ".join(d["trust"]["flags"]),
                    seconds=sum(d["seconds"].values()),
                    parameters=d["parameters"],
                    extra=d["extra"],
                )
            )
    if not rows:
        raise ValueError(
            f"there are no results of {study!r} at size {size!r} in {settings().results}; run:"
            f" {shell('spat_nb', 'study', 'run', study, '--size', size)}"
        )
    return pd.DataFrame(rows)


def mean_interval(v, level=0.95):
    "Mean of the seeds' values and half the width of Student's interval; NaN with one seed"
    from scipy.stats import t

    n, m = len(v), sum(v) / len(v)
    if n < 2:
        return m, math.nan
    sd = math.sqrt(sum((a - m) ** 2 for a in v) / (n - 1))
    return m, t.ppf((1 + level) / 2, n - 1) * sd / math.sqrt(n)


# pandas.DataFrame, a row per arm
def table(study, size="laptop", attacks=("clean", "pgd20", "cw20", "aa"), weakest="cw20"):
    """Percent, mean over seeds ± half of Student's 95% interval (one seed: [Wilson's 95% interval
    over its images]): each attack, the weakest class under the attack `weakest`; seeds, flags of
    the trust cards
    """
    import pandas as pd

    f, order = frame(study, size), list(find_study(study).arms)

    def show(g, column="accuracy"):
        m, half = (100 * v for v in mean_interval(list(g[column])))
        if len(g) == 1:
            return f"{m:.1f}" + (
                f" [{100 * g.lo.item():.1f},\u00a0{100 * g.hi.item():.1f}]"
                if column == "accuracy"
                else ""
            )
        # narrow columns break nowhere in it
        return f"{m:.1f}\u00a0±\u00a0{half:.1f}"

    rows = {}
    for arm in sorted(f.arm.unique(), key=lambda a: order.index(a) if a in order else len(order)):
        g = f[f.arm == arm]
        flags = sorted({k for t in g["flags"] for k in t.split(", ") if k})
        rows[arm] = {
            **{
                k: show(g[g.attack == k]) if (g.attack == k).any() else ""
                for k in attacks
                if (f.attack == k).any()
            },
            f"weakest class, {weakest}": show(g[g.attack == weakest], "weakest"),
            "seeds": g.seed.nunique(),
            "flags": ", ".join(flags),
        }
    return pd.DataFrame(rows).T.rename_axis("arm")


def solved(d, attack="aa"):  # (n,) bool, or None
    "Which images a result's network answers right under an attack; None where that was not kept"
    v = d["attacks"].get(attack, {})
    return unbits(v["right"], v["n"]) if "right" in v else None


# mean of a-b over the seeds that both have, lowest and highest plausible value, number of seeds
def compare(study, a, b, attack="aa", size="laptop", column="accuracy") -> tuple:
    """Paired difference between two arms; shares. Over seeds Student's 95% interval; of one seed
    the one over its images, where their answers were kept (else NaN): that one holds for these two
    networks, not for two more trainings. ValueError where the arms share no seed"""
    f = frame(study, size)
    va, vb = (f[(f.arm == k) & (f.attack == attack)].set_index("seed")[column] for k in (a, b))
    both = sorted({*va.index} & {*vb.index})
    if not both:
        raise ValueError(
            f"{a!r} and {b!r} share no seed in {study} at size {size!r} under {attack!r}."
        )
    if len(both) == 1 and column == "accuracy":
        ra, rb = (
            solved(d, attack)
            for k in (a, b)
            for d in results(study, size)
            if (d["arm"], d["seed"]) == (k, both[0])
        )
        if ra is not None and rb is not None:
            return (*paired(ra, rb), 1)
    m, half = mean_interval([va[s] - vb[s] for s in both])
    return m, m - half, m + half, len(both)


def plot(study, size="laptop", attacks=("clean", "pgd20", "aa"), ax=None):
    "Every run a dot, every arm's mean with Student's 95% interval; arms from top to bottom"
    import matplotlib.pyplot as plt

    from spat_nb.core.plot import PALETTE, plain

    f, order = frame(study, size), list(find_study(study).arms)
    arms = sorted(f.arm.unique(), key=lambda a: order.index(a) if a in order else len(order))
    ax = ax or plt.subplots(figsize=(7, 0.8 + 0.42 * len(arms)), layout="constrained")[1]
    for k, attack in enumerate(attacks):
        first = True
        for i, arm in enumerate(arms):
            v = list(100 * f[(f.arm == arm) & (f.attack == attack)].accuracy)
            if not v:
                continue
            at, (m, half) = i + (k - (len(attacks) - 1) / 2) * 0.22, mean_interval(v)
            ax.plot(v, [at] * len(v), ".", color=PALETTE[k], alpha=0.35, ms=6)
            ax.errorbar(
                m,
                at,
                xerr=None if math.isnan(half) else half,
                fmt="osD^v"[k % 5],
                color=PALETTE[k],
                ms=5,
                capsize=2,
                lw=1,
                label=plain(attack) if first else None,
            )
            first = False
    ax.set_yticks(range(len(arms)), [plain(a) for a in arms])
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set(
        xlabel=f"accuracy, % of test images ({size}); dots: seeds, bars: 95% intervals of the mean"
    )
    ax.legend(fontsize=8)
    return ax
