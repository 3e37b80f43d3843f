"""Choose a network, an image and an attacker, and watch the attack step by step"""

from __future__ import annotations

import time
from functools import partial

import torch

from spat_nb.app.board import Board, draw
from spat_nb.app.choices import ATTACKS, BALLS, reach
from spat_nb.app.controls import (
    label_options,
    make_buttons,
    make_controls,
    show_if,
    widgets_library,
)
from spat_nb.app.ownfile import OwnFile
from spat_nb.app.page import Page, still_html
from spat_nb.app.scene import Scene, scene
from spat_nb.app.shelf import Shelf, networks, photograph_shelf
from spat_nb.app.start import first_fooled
from spat_nb.app.theme import DARK, LIGHT
from spat_nb.app.verdict import ask_the_gates, verdict_html
from spat_nb.core.evalmode import eval_mode
from spat_nb.core.rng import generator
from spat_nb.core.tensors import logits
from spat_nb.data.sources import get_data
from spat_nb.models.library import first_line

DPI = 130  # of the panels, which fill the page


class Playground:
    """Menus and sliders around a scene; show it as the last line of a cell.

    It opens on the first attack that succeeds. Without `nets` and `data` it reads digits, and
    offers CIFAR-10 networks for a photograph of the reader's.

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
        widgets_library()
        self.attacks = attacks or ATTACKS
        batches = data or get_data("digits", device="cpu").test
        own_nets = networks() if nets is None else nets
        x, y = batches.tensors()
        self.home = Shelf(own_nets, tuple(batches.classes), x, y, eps)
        self.photographs = photograph_shelf() if data is None else None
        self.shelf = self.home
        self.models: dict = {}  # name -> network, once it was chosen
        self.own: OwnFile | None = None  # an image of the reader's
        self.seconds: list[float] = []  # of every picture
        self.scene: Scene | None = None
        self.panels: dict = {}  # name -> PNG file, as a light page shows it
        self._busy = False
        self._left: dict = {}  # controls of the home shelf, while another one is open
        self._boards()
        self.controls = make_controls(self.home, self.attacks)
        self.buttons = make_buttons()
        self.page = Page(self.controls, self.buttons)
        self._opening = self._first_controls()
        for name, c in self.controls.items():
            c.observe(partial(self._changed, name), "value")
        self.buttons["again"].on_click(lambda _: self.start_again())
        self.buttons["back"].on_click(lambda _: self.back_to_test_images())
        self.buttons["offer"].on_click(lambda _: self.read_as_photograph())
        self.buttons["gates"].on_click(lambda _: self.ask_the_gates())
        self.set(**self._opening)

    # ---- what is shown at first, and the ways back

    def _first_controls(self):
        "The controls as they stand, with the first attack among them that succeeds"
        seen = {name: c.value for name, c in self.controls.items() if name != "file"}
        kind = BALLS[seen["ball"]][0]

        def attack_at(eps):
            make, g = self.attacks[seen["attack"]], generator(seen["seed"])
            return make(kind(eps), seen["steps"], generator=g)

        names, home = list(self.home.nets), self.home
        start = first_fooled(names, self._model, home.x, home.y, attack_at, home.eps)
        return {**seen, "network": start.network, "image": start.image, "eps": start.eps}

    def start_again(self) -> None:
        "All controls as they were at the beginning"
        self._forget_file()
        # the ball comes first: the range of eps hangs on it
        self.set(**{"ball": self._opening["ball"], **self._opening})

    def back_to_test_images(self) -> None:
        "Without the reader's file, and with the networks that were there before it"
        left = self._left
        self._forget_file()
        self.set(**left)

    def _forget_file(self):
        self.own, self._busy = None, True
        self.controls["file"].value = ()
        self.controls["label"].value = -1
        self._busy = False
        if self.shelf is not self.home:
            self._open_shelf(self.home)

    def read_as_photograph(self) -> None:
        "The reader's file, attacked in networks that read photographs"
        if self.photographs is None or self.own is None:
            return self.page.say("There is no photograph yet: choose a file first.", bad=True)
        kept = ("network", "image", "ball", "eps", "attack", "steps", "seed")
        self._left = {name: self._value(name) for name in kept}
        self._open_shelf(self.photographs)
        self.update()

    def ask_the_gates(self) -> None:
        "Is the network's number real? A small trust card in the chosen ball, followed up"
        name = self._value("network")
        self.page.say(f"The gates ask {name!r}: some seconds ...")
        try:
            asked = ask_the_gates(self.model(), self.shelf, self._ball())
        except (ValueError, TypeError, RuntimeError) as e:
            return self.page.say(first_line(e), bad=True)
        self.page.verdict.value = verdict_html(name, *asked)
        self.page.say("The gates have answered: see below the pictures.")

    def _open_shelf(self, shelf):
        "Other networks in the menu, other classes, another size of image, another radius"
        self._busy = True
        self.shelf = shelf
        c = self.controls
        c["network"].options = list(shelf.nets)
        c["label"].options = label_options(shelf)
        c["label"].value = -1
        c["ball"].value = next(iter(BALLS))
        self._set_radius(2.5 * shelf.eps, shelf.eps)
        self._boards()
        self._busy = False
        if shelf is self.home:
            self._left = {}

    def _boards(self):
        kind = len(self.shelf.classes), self.shelf.shape[0] == 3, DPI
        self.boards: dict[str, Board] = {"light": Board(*kind, LIGHT), "dark": Board(*kind, DARK)}

    # ---- the controls

    def _value(self, name):
        return self.controls[name].value

    def set(self, **values):
        "Change several controls and draw once"
        self._busy = True
        try:
            for name, v in values.items():
                self.controls[name].value = v
        except ValueError as e:
            return self.page.say(str(e), bad=True)
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
                self._other_ball(change["old"])
            if name in ("network", "ball", "eps"):
                self.page.verdict.value = ""  # it was of another network, or another ball
        except ValueError as e:
            if was:
                raise
            return self.page.say(str(e), bad=True)
        finally:
            self._busy = was
        if not was:
            self.update()

    def _read(self, f):
        file = OwnFile(f["name"], bytes(f["content"]))
        file.image(self.shelf.shape)  # is it one?
        self.own = file

    def _top(self, ball):
        "The largest radius that the slider offers"
        pixels = torch.Size(self.shelf.shape).numel()
        return reach(ball, 2.5 * self.shelf.eps, pixels)

    def _other_ball(self, old):
        "The slider for another ball: as far to the right as before"
        c = self.controls["eps"]
        share = c.value / c.max
        top = self._top(self._value("ball"))
        self._set_radius(top, round(share * top, 6))  # a number that an error can print

    def _set_radius(self, top, value):
        c = self.controls["eps"]
        c.min, c.value, c.max, c.step = 0.0, 0.0, top, top / 75
        c.value = value

    # ---- the picture

    def _model(self, name):
        "A network; the first time it may have to be loaded or trained"
        if name not in self.models:
            self.page.say(f"Getting the network {name!r} ready ...")
            self.models[name] = self.shelf.nets[name]()
        return self.models[name]

    def model(self):
        "The chosen network"
        return self._model(self._value("network"))

    def _ball(self):
        return BALLS[self._value("ball")][0](self._value("eps"))

    def look(self) -> Scene:
        "The scene that the controls ask for"
        model, k = self.model(), self._value("image")
        x = self.own.image(self.shelf.shape) if self.own else self.shelf.x[k : k + 1]
        given = self._value("label")
        if given < 0 and self.own:
            with eval_mode(model), torch.no_grad():
                given = int(logits(model, x).argmax())
        y = self.shelf.y[k : k + 1] if given < 0 else torch.tensor([given], device=x.device)
        attack = self.attacks[self._value("attack")](
            self._ball(), self._value("steps"), generator=generator(self._value("seed"))
        )
        return scene(model, x, y, attack, self.shelf.classes)

    def update(self):
        "Attack, draw, and say what is seen"
        at_home = self.shelf is self.home
        show_if(self.buttons["offer"], bool(self.own and at_home and self.photographs))
        show_if(self.buttons["back"], self.own is not None)
        show_if(self.controls["image"], at_home)
        start = time.perf_counter()
        try:
            shown = self.look()
        except (ValueError, TypeError, RuntimeError) as e:
            return self.page.say(first_line(e), bad=True)
        self.scene = shown
        drawn = {}
        for theme, board in self.boards.items():
            draw(shown, board)
            drawn[theme] = board.panels()
        self.panels = drawn["light"]
        self.page.show(drawn["light"], drawn["dark"], shown.alternatives())
        self.seconds.append(time.perf_counter() - start)
        self.page.say(shown.verdict(), f"{shown.words()} {shown.rival_words()}", self._of_own())

    def _of_own(self):
        "What is to be said of the reader's file"
        if not self.own:
            return ""
        reads_digits = self.photographs is not None and self.shelf is self.home
        return self.own.told(self._value("label") >= 0, reads_digits)

    # ---- the page

    def _ipython_display_(self):
        from IPython.display import HTML, display

        if self.scene is not None:  # what a saved notebook shows where no kernel listens
            board = Board(len(self.shelf.classes), self.shelf.shape[0] == 3)
            draw(self.scene, board)
            display(HTML(still_html(board.png(9), self.scene.words())))
        display(self.page.box)

    def close(self):
        "Forget the widgets, the kernel's and the browser's, and the pictures in them"
        self.page.close()
