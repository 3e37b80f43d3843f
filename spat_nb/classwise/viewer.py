"""Attacked images of a class, to look at"""

from __future__ import annotations

import torch

from ..core.protocols import AttackFunction, ModelFunction
from .homing import answers_of

__all__ = ["view", "viewer"]


def view(
    model: ModelFunction,  # pixels to logits
    data,  # `Batches`, or a stream
    attack: AttackFunction,  # attack(model, x, y)
    k: int,  # the class
    show: int = 6,  # images to show
    limit: int = 36,  # images to attack
):  # two axes
    """What class `k` turns into: some images, and the answers to (at most `limit` of) its images.

    ValueError where it has none
    """
    import matplotlib.pyplot as plt
    from torch.nn.functional import pad

    from spat_nb.core.plot import plain

    part = data.take((data.y == k).nonzero()[:limit, 0])
    if not part.n:
        raise ValueError(
            f"class {k} has no images here; the classes with images are {data.y.unique().tolist()}."
        )
    x, y = part.tensors()
    x_adv = attack(model, x, y)
    was, now = answers_of(model, x).cpu(), answers_of(model, x_adv).cpu()

    def rgb(v):
        return v[:show].detach().cpu().float().expand(-1, 3, -1, -1)

    d = (x_adv - x)[:show].detach().cpu().float().mean(1)
    limit_ = max(d.abs().max().item(), 1 / 255)
    change = torch.tensor(plt.cm.RdBu_r((0.5 + d / limit_ / 2).numpy()), dtype=torch.float32)[
        ..., :3
    ].permute(0, 3, 1, 2)
    gap = max(1, x.shape[3] // 8)
    rows = [
        torch.cat(list(pad(v, (0, gap, 0, gap), value=1.0)), 2)
        for v in (rgb(x), change, rgb(x_adv))
    ]
    n, cell = min(show, part.n), x.shape[3] + gap
    # laid out by hand: the layout engine would double the time
    wide = n + 4.9
    axes = plt.subplots(1, 2, figsize=(wide, 3.3))[1]
    axes[0].set_anchor("E")
    axes[0].set_position((1.2 / wide, 0.19, n / wide, 0.71))
    axes[1].set_position(((n + 2.3) / wide, 0.19, 2.3 / wide, 0.71))
    axes[0].imshow(torch.cat(rows, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    axes[0].spines[:].set_visible(False)
    axes[0].set_yticks(
        [cell * (i + 0.5) for i in range(3)],
        ["clean", f"change\n(full colour {limit_:.2g})", "attacked"],
    )
    axes[0].tick_params(length=0)
    axes[0].set_xticks(
        [cell * (i + 0.45) for i in range(n)], [plain(data.classes[c], 16) for c in now[:n]]
    )
    for t, c in zip(axes[0].get_xticklabels(), now):
        t.set_color("#0072B2" if c == k else "#D55E00")
    counts = now.bincount(minlength=len(data.classes))
    top = counts.argsort(descending=True, stable=True)[:6]
    top = top[counts[top] > 0].flip(0)
    axes[1].barh(
        range(len(top)),
        (100 * counts[top] / part.n).tolist(),
        color=["#0072B2" if c == k else "#D55E00" for c in top.tolist()],
    )
    axes[1].set_yticks(range(len(top)), [plain(data.classes[c], 24) for c in top])
    axes[1].set(
        xlabel=f"% of {part.n} images",
        xlim=(0, 100),
        title=f"class {plain(data.classes[k], 24)}: answers",
    )
    axes[1].title.set_fontsize(9)
    axes[0].set_xlabel(
        f"answer under attack ({100 * (was == k).double().mean():.0f}% right without)"
    )
    return axes


def viewer(
    model: ModelFunction,  # pixels to logits
    data,  # `Batches`, or a stream
    attacks: dict,  # name -> (eps -> attack): dict(pgd20=lambda e: pgd(Linf(e), 20))
    eps,  # radii to choose from
    show: int = 6,  # images to show
):  # an ipywidgets.VBox; `children[1].value` is the picture, a PNG
    "`view` behind three controls: class, attack, eps. ImportError where ipywidgets is missing"
    from spat_nb.core.plot import png

    try:
        import ipywidgets as W
    except ImportError:
        raise ImportError(
            "the viewer needs ipywidgets; install it with pip install 'spat_nb[lab]', or draw one"
            " picture with `view`."
        ) from None
    k, name = (
        W.Dropdown(
            options=[(str(data.classes[c]), c) for c in data.y.unique().tolist()],
            description="class",
        ),
        W.Dropdown(options=list(attacks), description="attack"),
    )
    e, image = (
        W.SelectionSlider(
            options=[(f"{v:.3g}", v) for v in eps], description="eps", continuous_update=False
        ),
        W.Image(format="png"),
    )

    def draw(*_):
        image.value = png(view(model, data, attacks[name.value](e.value), k.value, show), dpi=80)

    for w in (k, name, e):
        w.observe(draw, "value")
    draw()
    return W.VBox([W.HBox([k, name, e]), image])
