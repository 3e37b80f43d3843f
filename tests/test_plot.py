"""Pictures: which numbers were drawn, on which scale, with which label"""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from sklearn.datasets import load_digits

from spat_nb.core.pictures import _bare, _pixels, largest_change, show_attack, show_images
from spat_nb.core.plot import PALETTE, class_bars, confusion, curves, png, style
from spat_nb.core.rng import generator

digits = load_digits()
x = torch.tensor(digits.images[:16] / 16).float()[:, None]
y = digits.target[:16]
flat = torch.full((5, 5), 0.50)
flat[2, 2] = 0.52
d = torch.tensor([-0.1, 0.0, 0.1])


def luminance(code):
    """Relative luminance of a colour such as '#0072B2' (WCAG 2.2)"""
    v = torch.tensor([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)], dtype=torch.float64)
    return (
        torch.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
        @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
    ).item()


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_pixels_as_matplotlib_wants_them():
    equal(_pixels(x).shape, (16, 8, 8))
    equal(_pixels(torch.rand(2, 3, 4, 5)).shape, (2, 4, 5, 3))
    equal(_pixels(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item(), 1.0)
    rgb = torch.rand(1, 3, 2, 2)
    equal(_pixels(rgb)[0, 1, 0], rgb[0, :, 1, 0].numpy())
    with pytest.raises(Exception, match=re.escape("x[None]")):
        _pixels(x[0])
    with pytest.raises(Exception, match=re.escape("ranges from -1")):
        _pixels(x * 2 - 1)
    with pytest.raises(Exception, match=re.escape("1 or 3 channels")):
        _pixels(torch.rand(1, 2, 4, 4))


def test_a_grid_holds_every_image_on_one_scale():
    axes = show_images(x, titles=y)
    equal(axes.shape, (2, 8))
    for a, im, t in zip(axes.flat, x, y):
        equal(np.asarray(a.images[0].get_array()), im[0].numpy())
        equal(a.get_title(), str(t))
    a = show_images(flat[None, None], scale=0.5)[0, 0]
    close(a.images[0].norm(0.52) - a.images[0].norm(0.5), 0.02)
    equal(show_images(x[:5], cols=3, scale=0.3).shape, (2, 3))
    equal(len(show_images(x[:5], cols=3, scale=0.3)[1, 2].images), 0)
    with pytest.raises(Exception, match=re.escape("2 titles for 16 images")):
        show_images(x, titles=[1, 2])
    with pytest.raises(Exception, match=re.escape("3 images but 1 axes")):
        show_images(x[:3], ax=np.array([a]))
    plt.close("all")


def test_contrast_of_black_and_white():
    close(contrast("#000000", "#FFFFFF"), 21)


def test_28_curves_differ_in_colour_or_dash():
    equal(len({tuple(style(k).values()) for k in range(28)}), 28)
    assert min(contrast(c, "#FFFFFF") for c in PALETTE) > 2
    assert contrast("#F0E442", "#FFFFFF") < 2
    grey = sorted(luminance(c) for c in PALETTE)
    assert min((b - a for a, b in zip(grey, grey[1:]))) < 0.02


def test_curves_draw_what_they_are_given():
    t = torch.linspace(0, 4, 60)
    series = {f"rate {r}": (t, (-t * r).exp()) for r in (0.25, 0.5, 1, 2, 4)}
    axes = [curves(series, "time (s)", "amount left (share)")]
    for line, (name, (_u, v)) in zip(axes[0].lines, series.items()):
        equal(line.get_label(), name)
        close(line.get_ydata(), v.numpy())
    equal([t.get_text() for t in axes[0].get_legend().get_texts()], list(series))
    ax = curves(
        {"a": [3, 1, 2], "b": ([10, 20], [1.0, 2.0], [0.0, 1.0], [2.0, 3.0])},
        "epoch",
        "loss (nats)",
        title="T",
    )
    equal(ax.lines[0].get_xdata(), [0, 1, 2])
    equal(ax.lines[1].get_xdata(), [10, 20])
    equal(len(ax.collections), 1)
    equal((ax.get_xlabel(), ax.get_ylabel(), ax.get_title()), ("epoch", "loss (nats)", "T"))
    with pytest.raises(Exception, match=re.escape("'a' has 3 x but 2 y")):
        curves({"a": ([1, 2, 3], [1, 2])}, "x", "y")
    with pytest.raises(Exception, match=re.escape("xlabel")):
        curves({"a": [1]})
    plt.close("all")


def test_three_rows_of_an_attack():
    x_adv = (x + 0.2 * torch.randn(x.shape, generator=generator(0)).sign()).clamp(0, 1)
    axes = show_attack(x[:6], x_adv[:6], y=y[:6], pred=[0, 1, 2, 8, 4, 5])
    equal(axes.shape, (3, 6))
    for k in range(6):
        clean, change, attacked = (np.asarray(a.images[0].get_array()) for a in axes[:, k])
        close(clean + change, attacked, 1e-06)
    close(axes[1, 0].images[0].get_clim(), (-0.2, 0.2), 1e-06)
    equal([a.title.get_color() for a in axes[2]], [PALETTE[k == 3] for k in range(6)])
    equal(
        [
            a.get_title()
            for a in show_attack(
                x[:2], x[:2], [0, 1], torch.tensor([1, 1]), ("zero", "one"), scale=0.4
            )[2]
        ],
        ["one", "one"],
    )
    equal([a.get_ylabel() for a in axes[:, 0]], ["clean", "change", "attacked"])
    equal(axes[0, 0].figure.axes[-1].get_ylabel(), "change of pixel")
    equal(largest_change(d.view(1, 3, 1, 1)).abs().item(), torch.tensor(0.1).item())
    close(show_attack(x[:1], x[:1])[1, 0].images[0].get_clim(), (-1 / 255, 1 / 255))
    with pytest.raises(Exception, match=re.escape("give pairs")):
        show_attack(x, x[:3])
    plt.close("all")


def test_class_bars_are_ordered_with_their_intervals():
    names = ("bird", "car", "cat", "ship")
    acc, low, high = ([0.62, 0.9, 0.55, 0.81], [0.52, 0.83, 0.45, 0.72], [0.71, 0.94, 0.64, 0.87])
    ax = class_bars(names, acc, low, high, xlabel="accuracy (share of 100 images)", xlim=(0, 1))
    equal([t.get_text() for t in ax.get_yticklabels()], ["cat", "bird", "ship", "car"])
    close([b.get_width() for b in ax.patches], [0.55, 0.62, 0.81, 0.9])
    ends = ax.collections[0].get_segments()
    close(
        np.array([s[:, 0] for s in ends]), [[0.45, 0.64], [0.52, 0.71], [0.72, 0.87], [0.83, 0.94]]
    )
    equal(ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor(), True)
    with pytest.raises(Exception, match=re.escape("not its lengths")):
        class_bars(names, acc, [0.1] * 4, [0.1] * 4)
    with pytest.raises(Exception, match=re.escape("4 names, 3 values")):
        class_bars(names, acc[:3])
    plt.close("all")


def test_confusion_divides_the_rows():
    counts = torch.tensor([[75, 20, 5], [10, 85, 5], [0, 2, 98]])
    ax = confusion(counts, ("cat", "dog", "ship"))
    m = np.asarray(ax.images[0].get_array())
    close(m[0], [75, 20, 5])
    close(m.sum(1), [100] * 3)
    equal(
        {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}[
            0, 1
        ],
        "20",
    )
    equal((ax.get_ylabel(), ax.get_xlabel()), ("true class", "predicted class"))
    equal(
        np.asarray(confusion([[2, 0], [0, 0]], "ab").images[0].get_array()),
        [[100.0, 0.0], [0.0, 0.0]],
    )
    with pytest.raises(Exception, match=re.escape("(3, 3) but there are 2 classes")):
        confusion(counts, "ab")
    plt.close("all")


def test_png_closes_its_figure():
    data = png(show_images(x, titles=y))
    equal(data[:8], b"\x89PNG\r\n\x1a\n")
    assert len(data) < 150000
    equal(plt.get_fignums(), [])
    assert png(curves({"a": [1, 2]}, "x", "y"), dpi=50) != png(
        curves({"a": [2, 1]}, "x", "y"), dpi=50
    )


def test_a_chosen_scale_misleads():
    pale = x[:1] / x[:1].max() * 0.4
    poked = pale.clone()
    poked[0, 0, 0, 0] = 1
    fig, axes = plt.subplots(2, 2, figsize=(3, 3), dpi=100, layout="constrained")
    for a, im in zip(axes[0], (pale, poked)):
        a.imshow(im[0, 0], cmap="gray")
        _bare(a)
    show_images(torch.cat([pale, poked]), ax=axes[1])
    axes[0, 0].set_ylabel("chosen", fontsize=9)
    axes[1, 0].set_ylabel("fixed", fontsize=9)
    chosen = [a.images[0].norm(0.4) for a in axes[0]]
    fixed = [a.images[0].norm(0.4) for a in axes[1]]
    close(chosen, [1.0, 0.4], 1e-06)
    close(fixed, [0.4, 0.4], 1e-06)
