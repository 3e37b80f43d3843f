"""A scene drawn"""

from __future__ import annotations

import io

import torch

from spat_nb.app.landscape import INK, Landscape
from spat_nb.app.scene import Scene
from spat_nb.attacks.balls import Linf
from spat_nb.core.plot import PALETTE, plain


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
        dots per inch; the figure is 10.6 x 5.7 inches (default: 100)
    """

    def __init__(
        self,
        classes: int = 10,  # bars to draw; of more than 12 classes the most likely are shown
        colours: bool = False,  # images of three channels?
        dpi: int = 100,  # dots per inch; the figure is 10.6 x 5.7 inches
    ):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.fig = Figure((10.6, 5.7), dpi=dpi, facecolor="white")
        self.canvas = FigureCanvasAgg(self.fig)
        self.n = min(classes, 12)
        self.lines = []
        self.back = None
        self.moving = []
        self.pictures = [self._image(0.015 + 0.194 * k, k == 1, colours) for k in range(3)]
        self._bars(self.fig.add_axes((0.055, 0.1, 0.24, 0.36)))
        self._loss(self.fig.add_axes((0.38, 0.1, 0.2, 0.36)))
        self._land(self.fig.add_axes((0.645, 0.2, 0.34, 0.63)))
        for a in self.moving:
            a.set_animated(True)

    def _image(self, left, change, colours):
        ax = self.fig.add_axes((left, 0.575, 0.18, 0.36))
        ax.set_axis_off()
        look = (
            dict(cmap="RdBu_r") if change else {} if colours else dict(cmap="gray", vmin=0, vmax=1)
        )
        self.moving += (
            (im := ax.imshow([[0.0]], interpolation="nearest", aspect="equal", **look)),
            (title := ax.text(0.5, 1.04, "", transform=ax.transAxes, ha="center", fontsize=10)),
        )
        return im, title

    def _bars(self, ax):
        at = torch.arange(self.n).tolist()
        self.band = ax.bar([0], [1.02], 0.96, color="#e3e8ee", label="true class")[0]
        self.bars = [
            ax.bar([k + shift for k in at], [0] * self.n, 0.4, color=PALETTE[c], label=name)
            for shift, c, name in ((-0.2, 0, "clean"), (0.2, 1, "attacked"))
        ]
        ax.set(ylim=(0, 1.02), xlim=(-0.6, self.n - 0.4), yticks=[0, 0.25, 0.5, 0.75, 1])
        ax.grid(axis="y", alpha=0.3)
        ax.set_xticks(at, [""] * self.n)
        self.belief = ax
        self.shown = None
        self._axes(ax, "", "the network's belief", ncols=3, columnspacing=1.0, handlelength=1.4)
        self.moving += [self.band, *(b for bs in self.bars for b in bs)]

    def _loss(self, ax):
        def dots(mfc, label):
            return ax.plot([], [], "o", mfc=mfc, mec=PALETTE[1], ms=4.5, label=label)[0]

        self.curve, self.held, self.fell = (
            ax.plot([], [], color=PALETTE[1], lw=1.5)[0],
            dots("white", "holds"),
            dots(PALETTE[1], "fooled"),
        )
        ax.grid(alpha=0.3)
        ax.locator_params("both", nbins=5)
        ax.locator_params("x", integer=True)
        self._axes(ax, "step", "")
        ax.yaxis.set_label_coords(-0.235, 0.5)
        self.climbed = ax
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

    def png(
        self,
        level: int = 1,  # of compression, 0 to 9; 1 is quick
    ) -> bytes:  # a PNG file
        """The figure as it stands

        Parameters
        ----------
        level : int
            of compression, 0 to 9; 1 is quick (default: 1)

        Returns
        -------
        bytes
            a PNG file
        """
        from PIL import Image

        canvas = self.canvas
        out = io.BytesIO()
        if self.back is None:
            canvas.draw()
            self.back = canvas.copy_from_bbox(self.fig.bbox)
        canvas.restore_region(self.back)
        for a in sorted(self.moving + self.lines, key=lambda a: a.zorder):
            a.axes.draw_artist(a)
        Image.frombuffer(
            "RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1
        ).convert("RGB").save(out, "png", compress_level=level)
        return out.getvalue()

    def _show_images(self, s):
        d, (a, b) = (s.x_adv - s.x)[0].cpu(), s.answers
        # of each pixel's channels, the largest change
        d = d.gather(0, d.abs().argmax(0, keepdim=True))
        full = max(
            s.attack.ball.eps if isinstance(s.attack.ball, Linf) else d.abs().max().item(), 1 / 255
        )
        self.pictures[1][0].set_clim(-full, full)

        def said(what, k, p):
            return (
                f"{what}: {plain(s.classes[k], 24)} ({p:.0%})",
                PALETTE[0] if k == s.y else PALETTE[1],
            )

        texts = (
            said("clean", a, s.p[0].max()),
            (f"change (full colour: {full:.2g})", INK),
            said("attacked", b, s.p[1].max()),
        )
        for (im, title), v, (text, colour) in zip(
            self.pictures, (s.x[0].cpu(), d, s.x_adv[0].cpu()), texts
        ):
            h, w = v.shape[1:]
            im.set_data(v[0].numpy() if len(v) == 1 else v.permute(1, 2, 0).numpy())
            im.set_extent((-0.5, w - 0.5, h - 0.5, -0.5))
            im.axes.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
            title.set(text=text, color=colour)

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
            range(self.n), names, rotation=50 * long, ha="right" if long else "center"
        )

    def _show_loss(self, s):
        v, won = s.losses.cpu(), s.won.cpu()
        i = torch.arange(len(v))
        for line, k in ((self.curve, won | True), (self.held, ~won), (self.fell, won)):
            line.set_data(i[k].numpy(), v[k].numpy())
        lo, hi = v.min().item(), v.max().item()
        pad = max(0.08 * (hi - lo), 1e-3)
        self.climbed.set(xlim=(-0.5, max(len(v) - 0.5, 1.5)), ylim=(lo - pad, hi + pad))
        self.climbed.set_ylabel(f"loss ({s.attack.loss.__name__})")


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


def ink_for(img):
    "A grey image, white on black, cropped to the ink and padded to a square"
    from PIL import Image, ImageOps

    small = torch.frombuffer(
        bytearray(img.resize((16, 16), Image.Resampling.BOX).tobytes()), dtype=torch.uint8
    ).view(16, 16)
    rim = torch.cat([small[0], small[-1], small[:, 0], small[:, -1]]).float().mean()
    img = ImageOps.autocontrast(ImageOps.invert(img) if rim > 127 else img)
    box = img.point(lambda v: 255 * (v > 100)).getbbox()
    if box is None:
        return None
    img = img.crop(box)
    side = max(img.size)
    return ImageOps.pad(img, (side, side), color=0)
