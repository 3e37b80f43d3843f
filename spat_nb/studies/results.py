"""The results of a study, from its files alone

Frame, table, figure, comparison of rows
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..core.paths import what_is
from ..measure.intervals import wilson
from ..measure.means import mean_interval
from ..measure.versus import paired
from .answers import solved
from .verdicts import verdict_on

__all__ = [
    "STUDY_SCHEMA",
    "Results",
    "run_file",
    "read_run",
    "read_runs",
    "read_results",
]

STUDY_SCHEMA = 2  # of a study's results: 2 has its configuration in specs
# what a result has, whatever its study
WHOLE = {
    **dict.fromkeys(("study", "arm", "size"), str),
    "seed": int,
    **dict.fromkeys(("config", "seconds", "attacks", "trust", "extra"), dict),
    **dict.fromkeys(("history", "classes"), list),
}
NBSP = "\u00a0"  # narrow columns break nowhere in a number with its interval


def _share(value):
    return value["correct"] / value["n"]


def _flags(d):
    "What is to be known of a run: flags of its trust card, and a collapse that a sentry has caught"
    caught = any(row.get("caught") for row in d["history"])
    return ", ".join([*d["trust"]["flags"], *["collapse"] * caught])


def _weakest(value, classes):
    "(accuracy, class) of the class that is answered worst; the first of equals"
    shares = zip(value["class_correct"], value["class_n"], classes, strict=True)
    return min((k / n, name) for k, n, name in shares if n)


@dataclass(frozen=True, repr=False)
class Results:
    "The results of a study: a dict for each run, as written"

    runs: tuple  # of dicts
    place: str = ""  # where they lie
    order: tuple = ()  # rows from top to bottom; those that are not in it come after, by name

    @property
    def sizes(self) -> list:
        return list(dict.fromkeys(d["size"] for d in self.runs))

    @property
    def arms(self) -> list:
        "The rows, in order"
        found = sorted({d["arm"] for d in self.runs})
        return [a for a in self.order if a in found] + [a for a in found if a not in self.order]

    def at(self, size: str) -> Results:
        "The runs of one size. ValueError where there are none"
        runs = tuple(d for d in self.runs if d["size"] == size)
        if not runs:
            raise ValueError(
                f"there are no results at size {size!r} in {self.place}; "
                f"there are {', '.join(self.sizes)}."
            )
        return Results(runs, self.place, self.order)

    def _one_size(self) -> Results:
        if len(self.sizes) <= 1:
            return self
        raise ValueError(
            f"{self.place} holds results of the sizes {', '.join(self.sizes)}; "
            f"choose one: .at({self.sizes[0]!r})."
        )

    def frame(self):  # pandas.DataFrame, a row per run and attack
        """size, arm, seed, attack, n, accuracy, lo, hi (Wilson), weakest_class, weakest, flags

        Seconds, parameters, extra
        """
        import pandas as pd

        rows = []
        for d in self.runs:
            about = {k: d[k] for k in ("size", "arm", "seed")}
            after = {"parameters": d["parameters"], "extra": d["extra"]}
            for attack, v in d["attacks"].items():
                if "/" in attack:  # a part of a cascade
                    continue
                lo, hi = wilson(v["correct"], v["n"])
                weakest, name = _weakest(v, d["classes"])
                rows.append(
                    {
                        **about,
                        "attack": attack,
                        "n": v["n"],
                        "accuracy": _share(v),
                        "lo": lo,
                        "hi": hi,
                        "weakest_class": name,
                        "weakest": weakest,
                        "flags": _flags(d),
                        "seconds": sum(d["seconds"].values()),
                        **after,
                    }
                )
        return pd.DataFrame(rows)

    def table(
        self,
        attacks=("clean", "pgd20", "cw20", "aa"),  # columns
        weakest="cw20",  # attack under which the weakest class is shown
    ):  # pandas.DataFrame of texts, a row per arm; per size and arm where there are several sizes
        """Percent, mean over seeds ± half of Student's 95% interval.

        Of one seed [Wilson's 95% interval over its images]; seeds, flags of the trust cards
        """
        import pandas as pd

        if len(self.sizes) > 1:
            tables = {s: self.at(s).table(attacks, weakest) for s in self.sizes}
            return pd.concat(tables, names=["size"])
        frame = self.frame()
        rows = {}
        for arm in self.arms:
            mine = frame[frame.arm == arm]
            cells = {
                k: _cell(mine[mine.attack == k], "accuracy") if (mine.attack == k).any() else ""
                for k in attacks
                if (frame.attack == k).any()
            }
            rows[arm] = {
                **cells,
                f"weakest class, {weakest}": _cell(mine[mine.attack == weakest], "weakest"),
                "seeds": mine.seed.nunique(),
                "flags": ", ".join(sorted({k for t in mine["flags"] for k in t.split(", ") if k})),
            }
        return pd.DataFrame(rows).T.rename_axis("arm")

    def solved(self, arm: str, seed: int, attack: str = "aa"):  # (n,) bool, or None
        """Which images the network of a run answers right under an attack

        None where that was not kept
        """
        for d in self._one_size().runs:
            if (d["arm"], d["seed"]) == (arm, seed):
                return solved(d, attack)
        return None

    def compare(self, a: str, b: str, attack: str = "aa", column: str = "accuracy") -> tuple:
        """Mean of a - b over common seeds, lowest and highest plausible value, number of seeds.

        Over seeds Student's 95% interval; of one seed the one over its images: that holds for
        these two networks, not for two more trainings. ValueError where the rows share no seed
        """
        frame = self._one_size().frame()
        first, second = (
            frame[(frame.arm == k) & (frame.attack == attack)].set_index("seed")[column]
            for k in (a, b)
        )
        both = sorted({*first.index} & {*second.index})
        if not both:
            raise ValueError(f"{a!r} and {b!r} share no seed in {self.place} under {attack!r}.")
        if len(both) == 1 and column == "accuracy":
            answers = [self.solved(k, both[0], attack) for k in (a, b)]
            if all(v is not None for v in answers):
                return (*paired(*answers), 1)
        mean, half = mean_interval([first[s] - second[s] for s in both])
        return mean, mean - half, mean + half, len(both)

    def judged(
        self,
        claim,  # a `Claim`
    ) -> dict:  # as of `verdict_on`
        "What these runs say of a claim"
        return verdict_on(claim, self._one_size().runs)

    def plot(self, attacks=("clean", "pgd20", "aa"), ax=None):  # the axes
        "Every run a dot, every arm's mean with Student's 95% interval; arms from top to bottom"
        from .results_plot import plot_arms

        return plot_arms(self._one_size().frame(), self.arms, attacks, ax)

    def __repr__(self):
        head = f"{len(self.runs)} runs in {self.place}: {', '.join(self.arms)}"
        return f"{head}\n{self.table().to_string()}"

    def _repr_html_(self):
        return self.table().to_html()


def _cell(rows, column):
    "A number of the table with its interval"
    mean, half = (100 * v for v in mean_interval(list(rows[column])))
    if len(rows) > 1:
        return f"{mean:.1f}{NBSP}±{NBSP}{half:.1f}"
    if column != "accuracy":
        return f"{mean:.1f}"
    return f"{mean:.1f} [{100 * rows.lo.item():.1f},{NBSP}{100 * rows.hi.item():.1f}]"


def run_file(arm: str, seed: int) -> str:
    "What the file of a run is called"
    return f"{re.sub('[^A-Za-z0-9.+=-]+', '_', arm)}-s{seed}.json"


def read_run(
    path,  # a file
) -> dict | None:  # as written; None where it is no result of a study
    "One result. ValueError where the file is damaged or another's"
    path = Path(path)
    mend = "move it away and run the study again."
    try:
        d = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is {what_is(path)} and no whole result; {mend}") from None
    if not isinstance(d, dict) or not {"arm", "schema"} & {*d}:
        return None
    _check_schema(path, d)
    odd = [k for k, kind in WHOLE.items() if not isinstance(d.get(k), kind)]
    if odd or not all(isinstance(v, dict) and v.get("n") for v in d["attacks"].values()):
        raise ValueError(f"{path} is no whole result ({(odd or ['attacks'])[0]!r}); {mend}")
    if path.name != run_file(d["arm"], d["seed"]):
        raise ValueError(
            f"{path} is the run of {d['arm']!r} with seed {d['seed']}, whose place is"
            f" {run_file(d['arm'], d['seed'])}; move it away."
        )
    return d


def read_runs(
    folder,  # of a study, or of one of its sizes
) -> tuple:  # of dicts, as written
    "The results that lie in a folder; none where there is none. ValueError as of `read_run`"
    folder = Path(folder)
    files = sorted(folder.glob("*.json")) or sorted(folder.glob("*/*.json"))
    return tuple(d for path in files if (d := read_run(path)) is not None)


def _check_schema(path, d):
    schema = d.get("schema")
    if schema == STUDY_SCHEMA and "arm" in d:
        return
    mend = "run the study again"
    if schema == 1:
        mend = "rewrite it by tools/migrate_results.py of the repository, or " + mend
    raise ValueError(f"{path} has schema {schema!r}, this version reads {STUDY_SCHEMA}; {mend}.")


def read_results(
    folder,  # of a study, or of one of its sizes
    order=(),  # rows from top to bottom
) -> Results:
    """The results that lie in a folder

    FileNotFoundError where there are none, ValueError where a file is damaged
    """
    runs = read_runs(folder)
    if not runs:
        raise FileNotFoundError(
            f"there are no results of a study in {folder}; check the path, or run it first."
        )
    return Results(runs, str(folder), tuple(order))
