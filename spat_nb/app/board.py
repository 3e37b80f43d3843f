"""A scene drawn"""

from __future__ import annotations

import io

import torch

from spat_nb.app.landscape import Landscape, loss_label
from spat_nb.app.scene import Scene
from spat_nb.app.theme import PRINT, Theme
from spat_nb.attacks.balls import Linf
from spat_nb.core.plot import plain

# panel -> its part of the figure: left, bottom, right, top
PANELS = {
    "clean": (0.0, 0.58, 0.2, 0.99),
    "change": (0.2, 0.58, 0.4, 0.99),
    "attacked": (0.4, 0.58, 0.6, 0.99),
    "belief": (0.0, 0.0, 0.31, 0.55),
    "loss": (0.31, 0.0, 0.605, 0.55),
    "landscape": (0.605, 0.035, 1.0, 0.96),
}


class Board(Landscape):
    """One figure for many scenes: call it with a scene.

    What never changes is drawn once and kept as a picture

    Parameters
    ----------
    classes : int
        bars to draw; of more than 12 classes the most likely are shown (default: 10)
    colours : bool
        images of three channels? (default: False)
    dpi : int
        dots per inch; the figure is 10.6 x 6.4 inches (default: 100)
    theme : Theme
        its colours (default: PRINT)
    """

    def __init__(
        self,
        classes: int = 10,  # bars to draw; of more than 12 classes the most likely are shown
        colours: bool = False,  # images of three channels?
        dpi: int = 100,  # dots per inch; the figure is 10.6 x 6.4 inches
        theme: Theme = PRINT,  # its colours
    ):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.theme = theme
        self.fig = Figure((10.6, 6.4), dpi=dpi, facecolor=theme.paper)
        self.canvas = FigureCanvasAgg(self.fig)
        self.n = min(classes, 12)
        self.lines = []
        self.back = None
        self.moving = []
        self.pictures = [self._image(0.01 + 0.2 * k, k == 1, colours) for k in range(3)]
        self._bars(self.fig.add_axes((0.068, 0.105, 0.235, 0.33)))
        self._loss(self.fig.add_axes((0.385, 0.105, 0.205, 0.33)))
        self._land(self.fig.add_axes((0.665, 0.235, 0.325, 0.538)))
        for a in self.moving:
            a.set_animated(True)

    def _image(self, left, change, colours):
        ax = self.fig.add_axes((left, 0.63, 0.18, 0.298))
        ax.set_axis_off()
        look = (
            dict(cmap="RdBu_r") if change else {} if colours else dict(cmap="gray", vmin=0, vmax=1)
        )
        im = ax.imshow([[0.0]], interpolation="nearest", aspect="equal", **look)
        title, below = (
            ax.text(0.5, height, "", transform=ax.transAxes, ha="center", color=self.theme.ink)
            for height in (1.05, -0.05)
        )
        title.set(fontsize=11, weight="bold")
        below.set(fontsize=9, va="top")
        self.moving += im, title, below
        return im, title, below

    def _bars(self, ax):
        at = torch.arange(self.n).tolist()
        self.band = ax.bar([0], [1.02], 0.96, color=self.theme.band, label="true class")[0]
        self.bars = [
            ax.bar([k + shift for k in at], [0] * self.n, 0.4, color=colour, label=name)
            for shift, colour, name in (
                (-0.2, self.theme.clean, "clean"),
                (0.2, self.theme.attacked, "attacked"),
            )
        ]
        ax.set(ylim=(0, 1.02), xlim=(-0.6, self.n - 0.4), yticks=[0, 0.25, 0.5, 0.75, 1])
        ax.grid(axis="y", alpha=0.3)
        ax.set_xticks(at, [""] * self.n)
        self.belief = ax
        self.shown = None
        self._axes(ax, "", "probability (0 to 1)", ncols=3, columnspacing=1.0, handlelength=1.4)
        ax.yaxis.set_label_coords(-0.175, 0.5)
        self._title(ax, "What the network believes", 1.14)
        self.moving += [self.band, *(b for bs in self.bars for b in bs)]

    def _loss(self, ax):
        def dots(mfc, label):
            return ax.plot([], [], "o", mfc=mfc, mec=colour, ms=4.5, label=label)[0]

        colour = self.theme.attacked
        hollow = "none" if self.theme.paper == "none" else self.theme.paper

        self.curve, self.held, self.fell = (
            ax.plot([], [], color=colour, lw=1.5)[0],
            dots(hollow, "holds"),
            dots(colour, "fooled"),
        )
        ax.grid(alpha=0.3)
        ax.locator_params("both", nbins=5)
        ax.locator_params("x", integer=True)
        self._axes(ax, "step (number)", "")
        ax.yaxis.set_label_coords(-0.2, 0.5)
        self._title(ax, "The loss, step by step", 1.14)
        self.steps = ax
        self.moving += [ax.xaxis, ax.yaxis, self.curve, self.held, self.fell]

    def __call__(
        self,
        s: Scene,
    ):  # matplotlib Figure, the same every time
        "Show the scene"
        self._show_images(s)
        self._show_belief(s)
        self._show_loss(s)
        self._show_land(s)
        return self.fig

    def _image_of_all(self):
        "The figure as an image of PIL, with transparency"
        from PIL import Image

        canvas = self.canvas
        if self.back is None:
            canvas.draw()
            self.back = canvas.copy_from_bbox(self.fig.bbox)
        canvas.restore_region(self.back)
        for a in sorted(self.moving + self.lines, key=lambda a: a.zorder):
            a.axes.draw_artist(a)
        size = canvas.get_width_height()
        return Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1)

    def png(
        self,
        level: int = 1,  # of compression, 0 to 9; 1 is quick
    ) -> bytes:  # a PNG file
        """The figure as it stands, in one piece

        Parameters
        ----------
        level : int
            of compression, 0 to 9; 1 is quick (default: 1)

        Returns
        -------
        bytes
            a PNG file
        """
        see_through = self.theme.paper == "none"
        return _png(self._image_of_all().convert("RGBA" if see_through else "RGB"), level)

    def panels(self) -> dict:  # name -> a PNG file
        """The figure as it stands, cut into `PANELS`

        Returns
        -------
        dict
            name -> a PNG file
        """
        whole = self._image_of_all()
        w, h = whole.size
        found = {}
        for name, (left, bottom, right, top) in PANELS.items():
            box = (left * w, (1 - top) * h, right * w, (1 - bottom) * h)
            found[name] = _png(whole.crop(tuple(map(round, box))), 1)
        return found

    def _show_images(self, s):
        d, (a, b) = (s.x_adv - s.x)[0].cpu(), s.answers
        # of each pixel's channels, the largest change
        d = d.gather(0, d.abs().argmax(0, keepdim=True))
        full = max(
            s.attack.ball.eps if isinstance(s.attack.ball, Linf) else d.abs().max().item(), 1 / 255
        )
        self.pictures[1][0].set_clim(-full, full)

        def read(k, p):
            right = self.theme.clean if k == s.y else self.theme.attacked
            return f"read as {plain(s.classes[k], 16)} ({p:.0%})", right

        ink = self.theme.ink
        texts = (
            ("Clean image", *read(a, s.p[0].max())),
            ("The change", f"up to ±{full:.2g} (pixel units)", ink),
            ("Attacked image", *read(b, s.p[1].max())),
        )
        for (im, title, below), v, (name, text, colour) in zip(
            self.pictures, (s.x[0].cpu(), d, s.x_adv[0].cpu()), texts
        ):
            h, w = v.shape[1:]
            im.set_data(v[0].numpy() if len(v) == 1 else v.permute(1, 2, 0).numpy())
            im.set_extent((-0.5, w - 0.5, h - 0.5, -0.5))
            im.axes.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
            title.set_text(name)
            below.set(text=text, color=colour)

    def _show_belief(self, s):
        p = s.p.cpu()
        shown = sorted(p.amax(0).topk(self.n).indices.tolist())
        for bars, q in zip(self.bars, p):
            for bar, k in zip(bars, shown):
                bar.set_height(q[k].item())
        self.band.set_x((shown.index(s.y) if s.y in shown else -9) - 0.48)
        names = [plain(s.classes[k], 16) for k in shown]
        if names == self.shown:
            return
        # other words below the bars: the background is drawn anew
        self.shown, self.back = names, None
        long = max(map(len, names)) > 3
        self.belief.set_xticks(
            range(self.n), names, rotation=35 * long, ha="right" if long else "center"
        )
        self.belief.set_xlabel("" if long else "class (name)", fontsize=9, color=self.theme.ink)

    def _show_loss(self, s):
        v, won = s.losses.cpu(), s.won.cpu()
        i = torch.arange(len(v))
        for line, k in ((self.curve, won | True), (self.held, ~won), (self.fell, won)):
            line.set_data(i[k].numpy(), v[k].numpy())
        lo, hi = v.min().item(), v.max().item()
        pad = max(0.08 * (hi - lo), 1e-3)
        self.steps.set(xlim=(-0.5, max(len(v) - 0.5, 1.5)), ylim=(lo - pad, hi + pad))
        self.steps.set_ylabel(loss_label(s))


def _png(img, level):
    "An image of PIL as a PNG file"
    out = io.BytesIO()
    img.save(out, "png", compress_level=level)
    return out.getvalue()


def draw(
    s: Scene,
    board: Board | None = None,  # figure to draw on; default: a new one
):  # matplotlib Figure
    """The scene as a figure

    Parameters
    ----------
    s : Scene
    board : Board | None
        figure to draw on; default: a new one

    Returns
    -------
    matplotlib Figure
    """
    return (board or Board(len(s.classes), s.x.shape[1] == 3))(s)
