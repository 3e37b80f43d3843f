"""G10 and G11: what one model cannot tell, its checkpoints and its seeds"""

from __future__ import annotations

__all__ = ["checkpoints_shown", "seeds_shown"]


def _value(r):
    return (
        r
        if isinstance(r, (int, float))
        else r.accuracy("worst" if len(r.attacks) > 1 else r.attacks[0] if r.attacks else "clean")
    )


def checkpoints_shown(
    t,  # the trial: model, images, ball, and what was measured before
):
    "Checkpoints: best and last, chosen on validation images"
    given, history = t.given.get("checkpoints"), t.given.get("history")
    if given is None:
        yield t.check("G10 both", note="give checkpoints=dict(best=..., last=...)")
    else:
        yield t.check(
            "G10 both",
            2 - sum(k in given for k in ("best", "last")),
            note=", ".join(f"{k} {_value(v):.1%}" for k, v in given.items()),
        )
    if history is None:
        yield t.check("G10 chosen", note="give history=learner.history")
        return
    looks = [r["robust"] for r in history if "robust" in r]
    yield t.check(
        "G10 chosen",
        max(0, 2 - len(looks)),
        note=f"{len(looks)} looks at validation images"
        + (f", best {max(looks):.1%}, last {looks[-1]:.1%}" if looks else ""),
    )


def seeds_shown(
    t,  # the trial: model, images, ball, and what was measured before
):
    "Seeds: at least three"
    seeds = t.given.get("seeds")
    if seeds is None:
        yield t.check("G11 seeds", note="give seeds=[...], an accuracy or Record of each")
        return
    v = [_value(r) for r in seeds]
    yield t.check(
        "G11 seeds",
        max(0, 3 - len(v)),
        note=f"{len(v)} seeds, {min(v):.1%} to {max(v):.1%}" if v else "no seed",
    )
