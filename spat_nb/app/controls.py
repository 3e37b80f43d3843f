"""Menus, sliders and buttons of the playground"""

from __future__ import annotations

from spat_nb.app.choices import BALLS
from spat_nb.app.shelf import Shelf


def widgets_library():
    """ipywidgets

    Returns
    -------
    module

    Raises
    ------
    ImportError
        where it is missing
    """
    try:
        import ipywidgets
    except ImportError:
        raise ImportError(
            'the playground needs ipywidgets; run: pip install "spat_nb[lab]"'
        ) from None
    return ipywidgets


def label_options(
    shelf: Shelf,
) -> list:  # (text, value) pairs
    """The menu of true classes; -1 is the label of the data set

    Parameters
    ----------
    shelf : Shelf

    Returns
    -------
    list
        (text, value) pairs
    """
    return [("as labelled", -1), *((name, k) for k, name in enumerate(shelf.classes))]


def make_controls(
    shelf: Shelf,  # networks and images to choose from
    attacks: dict,  # name -> function (ball, steps, generator=...) -> Attack
) -> dict:  # name -> widget
    """Menus and sliders

    Parameters
    ----------
    shelf : Shelf
        networks and images to choose from
    attacks : dict
        name -> function (ball, steps, generator=...) -> Attack

    Returns
    -------
    dict
        name -> widget
    """
    W = widgets_library()

    def wide():  # a layout of its own for each: one that is shared would hide all with one
        return dict(style={"description_width": "5.5em"}, layout=W.Layout(width="auto"))

    def menu(label, options, tip):
        return W.Dropdown(description=label, options=options, tooltip=tip, **wide())

    def slide(kind, label, value, lo, hi, tip, **kw):
        ends = dict(value=value, min=lo, max=hi, continuous_update=False)
        return kind(description=label, tooltip=tip, **ends, **wide(), **kw)

    radius = dict(step=0.005, readout_format=".3f")
    tip_of_eps = "radius of the ball, in pixel units (0 black, 1 white)"
    last = max(0, len(shelf.x) - 1)
    made = dict(
        network=menu("network", list(shelf.nets), "which network is attacked"),
        image=slide(W.IntSlider, "image", 0, 0, last, "number of the test image"),
        file=W.FileUpload(
            description="or a file of your own",
            accept="image/*",
            multiple=False,
            tooltip="an image file; it is made as small as the images of the data set",
            layout=W.Layout(width="auto"),
        ),
        label=menu("true class", label_options(shelf), "what the attack leads away from"),
        ball=menu("ball", list(BALLS), "how the size of a change is measured"),
        eps=slide(W.FloatSlider, "eps", shelf.eps, 0.0, 2.5 * shelf.eps, tip_of_eps, **radius),
        attack=menu("attack", list(attacks), "how the ball is searched"),
        steps=slide(W.IntSlider, "steps", 10, 1, 40, "steps of the attack"),
        seed=slide(W.IntSlider, "start", 0, 0, 20, "which random start"),
    )
    return _named(made)


def make_buttons() -> dict:  # name -> widget
    """Ways back, the gates, and the way to networks that read photographs

    Returns
    -------
    dict
        name -> widget
    """
    W = widgets_library()

    def button(label, tip, icon):
        kw = dict(layout=W.Layout(width="auto"))
        return W.Button(description=label, tooltip=tip, icon=icon, **kw)

    return _named(
        dict(
            again=button("Start again", "all controls as they were at the beginning", "undo"),
            gates=button(
                "Is its number real?",
                "asks the gates of the trust card, and follows up what they flag; some seconds",
                "balance-scale",
            ),
            back=button("Back to the test images", "without your file", "arrow-left"),
            offer=button(
                "Read it with a CIFAR-10 network", "your photograph stays as it is", "camera"
            ),
        )
    )


def _named(widgets):
    "With classes by which a page, or a test in a browser, finds them"
    for name, w in widgets.items():
        w.add_class("playground-control")
        w.add_class(f"playground-{name}")
    return widgets


def show_if(
    widget,  # of the page
    condition: bool,  # else it takes no room
) -> None:
    """Show or hide a widget

    Parameters
    ----------
    widget
        of the page
    condition : bool
        else it takes no room
    """
    widget.layout.display = None if condition else "none"
