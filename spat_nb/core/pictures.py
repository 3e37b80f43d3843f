"""Images and what an attack changed in them, on one grey scale"""

from __future__ import annotations

import torch
from torch import Tensor

from spat_nb.core.checks import check_images
from spat_nb.core.plot import PALETTE, new_axes, plain


def _pixels(x):
    "Images (n,h,w) or (n,h,w,3) as matplotlib wants them, from (n,ch,h,w)"
    x = torch.as_tensor(x).detach().cpu()
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(
            f"the images have shape {tuple(x.shape)}; give (n,ch,h,w), 1 or 3 channels; one image"
            " is x[None]."
        )
    x = check_images(x.float() / 255 if x.dtype == torch.uint8 else x.float())
    return x[:, 0].numpy() if x.shape[1] == 1 else x.permute(0, 2, 3, 1).numpy()


def _bare(a, title=None):
    "Take ticks and frame away"
    a.set(xticks=[], yticks=[])
    a.spines[:].set_visible(False)
    if title is not None:
        a.set_title(plain(title), fontsize=8, pad=2)


def _words(words, n, what):
    words = [None] * n if words is None else list(words)
    if len(words) != n:
        raise ValueError(f"{len(words)} {what} for {n} images; give one for each.")
    return words


def show_images(
    x: Tensor,  # (n,ch,h,w) pixels in [0,1], or bytes; 1 or 3 channels
    titles=None,  # n texts or numbers that stand above the images
    cols: int = 8,  # images per row
    scale: float = 1.0,  # width of an image, in inches
    ax=None,  # at least n axes in an array; default: new ones
):  # array of axes (rows,cols)
    """A grid of images on one grey scale: 0 is black, 1 is white, whatever the images hold.

    Parameters
    ----------
    x : Tensor
        (n,ch,h,w) pixels in [0,1], or bytes; 1 or 3 channels
    titles
        n texts or numbers that stand above the images (default: None)
    cols : int
        images per row (default: 8)
    scale : float
        width of an image, in inches (default: 1.0)
    ax
        at least n axes in an array; default: new ones

    Returns
    -------
    array of axes (rows,cols)

    Raises
    ------
    ValueError
        for other shapes and ranges
    """
    x = _pixels(x)
    n, cols, titles = len(x), min(cols, len(x)), _words(titles, len(x), "titles")
    rows, tall = -(-n // cols), x.shape[1] / x.shape[2]
    axes = new_axes(
        ax, (scale * cols, scale * rows * (tall + 0.25 * (titles[0] is not None))), rows, cols
    )
    if axes.size < n:
        raise ValueError(f"{n} images but {axes.size} axes; give one for each.")
    for a in axes.flat:
        _bare(a)
    for a, image, title in zip(axes.flat, x, titles):
        a.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        _bare(a, title)
    return axes


def largest_change(
    d: Tensor,  # (n,ch,h,w) changes
) -> Tensor:  # (n,h,w)
    """Of each pixel's changes the one of the largest size, with its sign

    Parameters
    ----------
    d : Tensor
        (n,ch,h,w) changes

    Returns
    -------
    Tensor
        (n,h,w)
    """
    return d.gather(1, d.abs().argmax(1, keepdim=True))[:, 0]


def _names(labels, classes):
    "Texts for labels that are numbers, tensors or texts already"
    if labels is None:
        return None
    return [
        str(classes[int(k)] if classes else k.item() if hasattr(k, "item") else k) for k in labels
    ]


def show_attack(
    x: Tensor,  # (n,ch,h,w) clean images, pixels in [0,1]
    x_adv: Tensor,  # (n,ch,h,w) attacked images
    y=None,  # n labels, written above the clean images
    # n answers of the network, written above the attacked images; those that differ from `y` in
    # another colour
    pred=None,
    classes=None,  # class names, where `y` and `pred` are numbers
    # change that gets the full colour, in pixels of [0,1]; default: the largest one
    limit: float | None = None,
    scale: float = 1.0,  # width of an image, in inches
    ax=None,  # array of axes (3,n); default: new ones
):  # array of axes (3,n)
    """Three rows: clean images, what the attack changed (red: brighter, blue: darker), attacked
    images.

    Parameters
    ----------
    x : Tensor
        (n,ch,h,w) clean images, pixels in [0,1]
    x_adv : Tensor
        (n,ch,h,w) attacked images
    y
        n labels, written above the clean images (default: None)
    pred
        n answers of the network, written above the attacked images; those that differ from `y` in
        another colour (default: None)
    classes
        class names, where `y` and `pred` are numbers (default: None)
    limit : float | None
        change that gets the full colour, in pixels of [0,1]; default: the largest one
    scale : float
        width of an image, in inches (default: 1.0)
    ax
        array of axes (3,n); default: new ones

    Returns
    -------
    array of axes (3,n)

    Raises
    ------
    ValueError
        where the shapes differ
    """
    if x.shape != x_adv.shape:
        raise ValueError(
            f"the clean images have shape {tuple(x.shape)}, the attacked ones {tuple(x_adv.shape)};"
            " give pairs."
        )
    n, d = len(x), largest_change((x_adv - x).detach().cpu().float())
    limit = limit or max(d.abs().max().item(), 1 / 255)
    y, pred = _names(y, classes), _names(pred, classes)
    axes = new_axes(ax, (scale * n + 1.0, scale * 3.5), 3, n)
    show_images(x, y, ax=axes[0])
    show_images(x_adv, pred, ax=axes[2])
    for a, image in zip(axes[1], d.numpy()):
        _bare(a)
        shown = a.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    for a, was, now in zip(axes[2], y or (), pred or ()):
        a.title.set_color(PALETTE[was != now])
    for a, text in zip(axes[:, 0], ("clean", "change", "attacked")):
        a.set_ylabel(text, fontsize=9)
    axes[0, 0].figure.colorbar(shown, ax=list(axes[1]), label="change of pixel", fraction=0.05)
    return axes
