"""What our results advise, in sentences that are written from the numbers; and who would have won

A sentence whose evidence is missing says so instead.
"""

from __future__ import annotations

import pandas as pd

from spat_nb.studies.against import against
from spat_nb.studies.leaderboard import gather, leaderboard
from spat_nb.studies.sizes import SIZES


def firsts(data="digits", size="laptop", attack="aa"):
    """A row per seed: who is first, by how much, and where the winner of the means stands; by the
    first seeds, since only some rows have further ones
    """
    runs = {
        k: {s: d for s, d in v.items() if s < SIZES[size].seeds}
        for (_, k), v in gather(data, size).items()
        if not any(d["trust"]["flags"] for d in v.values())
    }
    many = max((len(v) for v in runs.values()), default=0)
    full = {k: v for k, v in runs.items() if len(v) == many}
    if many < 2:
        return pd.DataFrame()
    acc = (
        pd.DataFrame(
            {
                k: {
                    s: 100 * d["attacks"][attack]["correct"] / d["attacks"][attack]["n"]
                    for s, d in v.items()
                }
                for k, v in full.items()
            }
        )
        .sort_index()
        .dropna()
    )
    best = acc.mean().idxmax()
    return pd.DataFrame(
        {
            "first": acc.idxmax(axis=1),
            "its accuracy": acc.max(axis=1).round(1),
            f"rank of {best}": acc.rank(axis=1, ascending=False, method="min")[best].astype(int),
            "rows": acc.shape[1],
            "spread of the rows": (acc.max(axis=1) - acc.min(axis=1)).round(1),
        }
    ).rename_axis("seed")


def falls(data="digits", size="laptop"):
    """Points between the first member of AutoAttack and the whole, mean over seeds; of runs that
    recorded both
    """

    def gap(d):
        return (
            100
            * (d["attacks"]["aa/apgd_ce"]["correct"] - d["attacks"]["aa"]["correct"])
            / d["attacks"]["aa"]["n"]
        )

    rows = {}
    for (_, k), v in gather(data, size).items():
        gaps = [gap(d) for d in v.values() if "aa/apgd_ce" in d["attacks"]]
        if gaps:
            rows[k] = dict(seeds=len(gaps), gap=sum(gaps) / len(gaps), largest=max(gaps))
    return pd.DataFrame(rows).T.rename_axis("method") if rows else pd.DataFrame()


def share(v):
    return f"{100 * v:.1f}%"


def advice(data="digits", size="laptop", base="PGD-AT"):
    "Sentences with their numbers, from whatever results exist"
    b = leaderboard(data, size)
    if not len(b) or base not in set(b.arm):
        return [
            f"**Nothing can be said yet** of {data} at size {size}: there are no runs of {base}."
            f" `spat_nb study run baseline --scale {size}` makes them."
        ]
    b = b.set_index("arm")
    P = b.loc[base]
    t = against(base, "aa", data, size).set_index("arm").query('over == "seeds"')

    def say(r):
        return f"{100 * r['diff']:+.1f} points [{100 * r.lo:+.1f}, {100 * r.hi:+.1f}]"

    out = []
    if "standard" in t.index:
        out.append(
            f"**Train with attacks.** Without them {share(b.aa['standard'])} of the test images"
            f" stand under AutoAttack (n = {P.aa_n}, {b.seeds['standard']} seeds), with {base}"
            f" {share(P.aa)}: {say(t.loc['standard'])} for the standard network, which has"
            f" {share(b.clean['standard'])} clean against {share(P.clean)}."
        )
    else:
        out.append(
            f"**Train with attacks:** {base} keeps {share(P.aa)} under AutoAttack (n = {P.aa_n},"
            f" {P.seeds} seeds) at {share(P.clean)} clean. How little a standard network keeps,"
            " [Objectives](23_objectives.ipynb) shows on one seed; the paired runs are missing"
            f" here (`spat_nb study run baseline --scale {size}`)."
        )
    good = t[(t.verdict == "better") & (t["flags"] == "")]
    even = t[t.verdict == "not told apart"]
    bad = t[(t.verdict == "worse") & (t.index != "standard")]
    if len(good):
        out.append(
            f"**Shown to beat {base}** under AutoAttack: "
            + "; ".join(
                f"{k}, {say(r)}, {b.minutes[k] / P.minutes:.1f} times its training time"
                for k, r in good.iterrows()
            )
            + "."
        )
    elif len(t):
        out.append(
            f"**Nothing here is shown to beat {base}** under AutoAttack, of {len(t)} recipes that"
            f" were paired with it seed by seed. Begin with {base}, and spend effort on the"
            " schedule and the judge before a new loss."
        )
    else:
        out.append(
            f"**No recipe has three seeds in common with {base} yet**, so none can be preferred"
            " to it."
        )
    few = (
        f"{int(even.seeds.min())} to {int(even.seeds.max())}"
        if len(even) and even.seeds.nunique() > 1
        else even.seeds.max()
    )
    if len(even):
        width = (t.hi - t.lo).loc[even.index].median() * 50
        out.append(
            f"**Not told apart from {base}:** {'; '.join(even.index)}. These intervals reach"
            f" {width:.1f} points (median) to either side: gains smaller than that cannot be seen"
            f" with {few} seeds on {P.aa_n} images, and are neither confirmed nor denied."
        )
    if len(bad):
        out.append(
            "**Shown to be worse:** " + "; ".join(f"{k}, {say(r)}" for k, r in bad.iterrows()) + "."
        )
    g = falls(data, size)
    k = g.gap.idxmax()
    out.append(
        "**Report AutoAttack and the trust card.** From APGD on cross-entropy to the whole of"
        f" AutoAttack, {base} loses {g.gap[base]:.1f} points and {k} {g.gap[k]:.1f} (means over"
        f" seeds, the same {P.aa_n} images). "
        + (
            f"The card has flagged {', '.join(b.index[b.flagged > 0])}: take no number of these"
            " rows at its word."
            if (b.flagged > 0).any()
            else (
                f"The card has flagged none of the {int(b.seeds.sum())} networks, so none of these"
                " numbers is suspected."
            )
        )
    )
    out.append(
        f"**Look at the weakest class.** {base} keeps {share(P.cw20)} under the margin attack, its"
        f" weakest class (here most often {P.weakest_class}) {share(P.weakest)} (n = {P.clean_n},"
        f" about {int(P.clean_n) // 10} of a class). The recipe with the best weakest class is"
        f" {b.weakest.idxmax()}, {share(b.weakest.max())}; single classes are counted on so few"
        " images that this is a hint and no finding."
    )
    return out


def limits():
    "What stands between the advice and its use elsewhere"
    real = {s: leaderboard(v.data, s) for s, v in SIZES.items() if v.data == "cifar10"}
    runs = ", ".join(
        f"{len(t)} recipe{'s' * (len(t) > 1)}, {int(t.seeds.sum())}"
        f" network{'s' * bool(t.seeds.sum() > 1)} at size {s}"
        for s, t in real.items()
        if len(t)
    )
    few = f"On CIFAR-10 we have {runs}. " if runs else "On CIFAR-10 no run of a study is here. "
    thin = all(len(t) == 0 or t.seeds.max() < 3 for t in real.values())
    return few + (
        "That is too little to carry a word of this over to it; `spat_nb study run combine --scale"
        " small`, on a GPU `--scale paper`, would be the evidence."
        if thin
        else "Its table above says which orders survive the change of data."
    )
