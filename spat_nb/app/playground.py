"""Choose a network, an image and an attacker, and watch the climb"""

from __future__ import annotations

import html
import time
from functools import partial

import torch
from torch import Tensor

from spat_nb.app.board import Board, draw
from spat_nb.app.choices import ATTACKS, BALLS, own_image, reach
from spat_nb.app.scene import Scene, scene
from spat_nb.app.shelf import networks
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.rng import generator
from spat_nb.core.tensors import logits
from spat_nb.data.sources import get_data


def _widgets():
    try:
        import ipywidgets
    except ImportError:
        raise ImportError(
            'the playground needs ipywidgets; run: pip install "spat_nb[lab]"'
        ) from None
    return ipywidgets


class Playground:
    """Menus and sliders around a scene; show it as the last line of a cell.

    Parameters
    ----------
    nets : dict | None
        name -> function that gives a network; default: `networks()`
    data
        Batches to choose images from; default: the test digits
    eps : float
        Linf radius to begin with; the slider goes to 2.5 times as much (default: 0.15)
    attacks : dict | None
        name -> function (ball, steps, generator=...) -> Attack; default: `ATTACKS`

    Raises
    ------
    ImportError
        where ipywidgets is missing
    """

    def __init__(
        self,
        nets: dict | None = None,  # name -> function that gives a network; default: `networks()`
        data=None,  # Batches to choose images from; default: the test digits
        eps: float = 0.15,  # Linf radius to begin with; the slider goes to 2.5 times as much
        # name -> function (ball, steps, generator=...) -> Attack; default: `ATTACKS`
        attacks: dict | None = None,
    ):
        self.W = _widgets()
        self.nets, self.attacks = networks() if nets is None else nets, attacks or ATTACKS
        self.data, self.eps = data or get_data("digits", device="cpu").test, eps
        self.x: Tensor  # (n,ch,h,w)
        self.y: Tensor  # (n,)
        self.x, self.y = self.data.tensors()
        self.models: dict = {}  # name -> network, once it was chosen
        self.own: tuple[Tensor, str] | None = None  # an image of the reader's, and its file
        self.seconds: list[float] = []  # of every picture
        self.scene: Scene | None = None
        self._busy = False
        self.board = Board(self.data.c, self.x.shape[1] == 3)
        self._controls()
        self._page()
        self.update()

    def _controls(self):
        W = self.W
        wide = dict(style={"description_width": "5.5em"}, layout=W.Layout(width="21em"))

        def menu(label, options, tip, **kw):
            return W.Dropdown(description=label, options=options, tooltip=tip, **wide, **kw)

        def slide(kind, label, value, lo, hi, tip, **kw):
            return kind(
                description=label,
                value=value,
                min=lo,
                max=hi,
                continuous_update=False,
                tooltip=tip,
                **wide,
                **kw,
            )

        self.controls = dict(
            network=menu("network", list(self.nets), "which network is attacked"),
            image=slide(W.IntSlider, "image", 0, 0, len(self.x) - 1, "number of the test image"),
            file=W.FileUpload(
                description="or a file of your own",
                accept="image/*",
                multiple=False,
                tooltip="an image file; it is made as small as the images of the data set",
                layout=W.Layout(width="21em"),
            ),
            label=menu(
                "true class",
                [("as labelled", -1), *((name, k) for k, name in enumerate(self.data.classes))],
                "what the attack leads away from",
            ),
            ball=menu("ball", list(BALLS), "how the size of a change is measured"),
            eps=slide(
                W.FloatSlider,
                "eps",
                self.eps,
                0.0,
                2.5 * self.eps,
                "radius of the ball, in pixel units (0 black, 1 white)",
                step=0.005,
                readout_format=".3f",
            ),
            attack=menu("attack", list(self.attacks), "how the ball is searched"),
            steps=slide(W.IntSlider, "steps", 10, 1, 40, "steps of the climb"),
            seed=slide(W.IntSlider, "start", 0, 0, 20, "which random start"),
        )
        for name, c in self.controls.items():
            c.add_class("playground-control")
            c.add_class(f"playground-{name}")
            c.observe(partial(self._changed, name), "value")

    def _page(self):
        W = self.W
        self.picture, self.said = (
            W.Image(format="png", layout=W.Layout(width="100%", max_width="1060px")),
            W.HTML(),
        )
        self.picture.add_class("playground-picture")
        self.said.add_class("playground-said")
        left, right = (
            W.VBox([*self.controls.values()], layout=W.Layout(flex="0 0 auto")),
            W.VBox([self.picture, self.said], layout=W.Layout(flex="1 1 560px", min_width="300px")),
        )
        self.page = W.Box(
            [left, right],
            layout=W.Layout(
                display="flex", flex_flow="row wrap", align_items="flex-start", width="100%"
            ),
        )
        self.page.add_class("playground")

    def _ipython_display_(self):
        from IPython.display import display

        display(self.page)

    def close(self):
        "Forget the widgets, the kernel's and the browser's, and the picture in them"
        self.picture.value = b""
        for w in (*self.controls.values(), self.picture, self.said, *self.page.children, self.page):
            w.close()

    def _value(self, name):
        return self.controls[name].value

    def set(self, **values):
        "Change several controls and draw once"
        self._busy = True
        try:
            for name, v in values.items():
                self.controls[name].value = v
        except ValueError as e:
            return self._say(str(e), bad=True)
        finally:
            self._busy = False
        self.update()

    def _changed(self, name, change):
        "What follows from a change, then the picture"
        was, self._busy = self._busy, True
        try:
            if name == "image":
                self.own = None
            if name == "file" and change["new"]:
                self._read(change["new"][0])
            if name == "ball":
                self._radius(change["old"])
        except ValueError as e:
            if was:
                raise
            return self._say(str(e), bad=True)
        finally:
            self._busy = was
        if not was:
            self.update()

    def _read(self, f):
        self.own = own_image(bytes(f["content"]), self.data.shape, f["name"]), f["name"]

    def _radius(self, old):
        "The slider for another ball: as far to the right as before"
        c, n = self.controls["eps"], self.x[0].numel()

        def top(ball):
            return reach(ball, 2.5 * self.eps, n)

        new, share = top(self._value("ball")), c.value / c.max
        c.min, c.value, c.max, c.step = 0.0, 0.0, new, new / 75
        c.value = share * new

    def model(self):
        "The chosen network; the first time it may have to be loaded or trained"
        name = self._value("network")
        if name not in self.models:
            self._say(f"Getting the network {name!r} ready ...")
            self.models[name] = self.nets[name]()
        return self.models[name]

    def look(self) -> Scene:
        "The scene that the controls ask for"
        model, k = self.model(), self._value("image")
        x = self.own[0] if self.own else self.x[k : k + 1]
        given = self._value("label")
        if given < 0 and self.own:
            with eval_mode(model), torch.no_grad():
                given = int(logits(model, x).argmax())
        y = self.y[k : k + 1] if given < 0 else torch.tensor([given], device=x.device)
        ball = BALLS[self._value("ball")][0](self._value("eps"))
        return scene(
            model,
            x,
            y,
            self.attacks[self._value("attack")](
                ball, self._value("steps"), generator=generator(self._value("seed"))
            ),
            self.data.classes,
        )

    def update(self):
        "Attack, draw, and say what is seen"
        start = time.perf_counter()
        try:
            shown = self.look()
        except (ValueError, TypeError, RuntimeError) as e:
            return self._say(str(e).splitlines()[0] if str(e) else type(e).__name__, bad=True)
        self.scene = shown
        draw(shown, self.board)
        self.picture.value = self.board.png()
        self.seconds.append(time.perf_counter() - start)
        own = (
            f"Your file {self.own[1]}"
            + ("" if self._value("label") >= 0 else ", taken for what the network says")
            + ". "
            if self.own
            else ""
        )
        self._say(
            f"{own}{shown.words()} The other attack is sent to"
            f" {shown.classes[shown.aim]}. ({1000 * self.seconds[-1]:.0f} ms)"
        )

    def _say(self, text, bad=False):
        colour = "color:#a33b00;font-weight:600" if bad else ""
        self.said.value = (
            f'<p class="playground-{"error" if bad else "words"}" role="status" aria-live="polite"'
            f' style="margin:.2em .8em;line-height:1.4;{colour}">{html.escape(text)}</p>'
        )
