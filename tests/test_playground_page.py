"""What a reader of the playground meets: a network that is fooled, a line that says what to do,
titles and units, ways back, a word about photographs, two themes, a wide page and a phone's, and a
picture where no kernel listens
"""

import io
import json
import re
from datetime import datetime
from pathlib import Path

import pytest
import torch
from torch import nn

from spat_nb import Linf, get_data, margin, pgd
from spat_nb.app import page as pages
from spat_nb.app.board import PANELS, Board, draw
from spat_nb.app.landscape import unit_of
from spat_nb.app.ownfile import looks_like_photograph
from spat_nb.app.playground import Playground
from spat_nb.app.scene import scene
from spat_nb.app.shelf import network, photograph_shelf
from spat_nb.app.start import Start, first_fooled
from spat_nb.app.theme import DARK, LIGHT, PRINT
from spat_nb.core.rng import generator

TOP = Path(__file__).parents[1]
W = pytest.importorskip("ipywidgets", reason="the extra `lab` is not installed")


def png_of(img):
    out = io.BytesIO()
    img.save(out, "PNG")
    return out.getvalue()


def drawing(ink="black", paper="white"):
    from PIL import Image, ImageDraw

    img = Image.new("RGB", (200, 160), paper)
    ImageDraw.Draw(img).line((90, 30, 90, 130), fill=ink, width=14)
    return png_of(img)


def photograph():
    "Soft colours everywhere, as a photograph has them"
    from PIL import Image

    noise = torch.rand(1, 3, 6, 6, generator=generator(1))
    soft = nn.functional.interpolate(noise, (150, 200), mode="bicubic").clamp(0, 1)
    return png_of(Image.fromarray((soft[0].permute(1, 2, 0) * 255).byte().numpy()))


def give(pg, name, data):
    pg.controls["file"].value = (
        {
            "name": name,
            "type": "image/png",
            "size": len(data),
            "content": memoryview(data),
            "last_modified": datetime.now(),
        },
    )


def is_shown(widget):
    return widget.layout.display != "none"


def values(pg):
    return {name: c.value for name, c in pg.controls.items()}


@pytest.fixture(scope="module")
def opened():
    return Playground()


@pytest.fixture
def pg(opened):
    opened.start_again()
    return opened


# ---- 0. is its number real?


def test_the_gates_are_one_click_away(pg):
    pg.set(network="prototypes")
    assert pg.page.verdict.value == ""
    pg.buttons["gates"].click()
    said = pg.page.verdict.value
    assert "flagged by" in said and "Followed up:" in said and "as a cell to keep" in said
    assert "attack = partial(" in said and "ball = Linf(0.15)" in said
    pg.set(steps=11)
    assert pg.page.verdict.value == said  # of the same network in the same ball
    pg.set(eps=0.1)
    assert pg.page.verdict.value == ""
    pg.set(network="PGD-AT", eps=0.15)
    pg.buttons["gates"].click()
    assert "no flag" in pg.page.verdict.value and "no attack is called for" in pg.page.verdict.value


def test_gates_without_a_ball_or_without_images_say_what_to_do(pg):
    pg.set(eps=0.0)
    pg.buttons["gates"].click()
    assert "move eps to the right" in pg.page.said.value and pg.page.verdict.value == ""
    pg.start_again()
    give(pg, "photo.png", photograph())
    pg.read_as_photograph()
    pg.buttons["gates"].click()
    assert "back to the test images" in pg.page.said.value and pg.page.verdict.value == ""


# ---- 1. it opens on an attack that succeeds


def test_it_opens_on_a_network_that_is_fooled(pg):
    s = pg.scene
    assert s.answers[0] == s.y != s.answers[1] and s.p[1].max() >= 0.5
    assert pg.page.said.value.index("Fooled: ") < pg.page.said.value.index("Clean: ")
    # and on the same one each time
    assert values(Playground()) == values(pg)
    # the first: no image before it falls as clearly
    x, y = pg.shelf.x, pg.shelf.y
    for k in range(pg.controls["image"].value):
        attack = pgd(Linf(0.15), 10, generator=generator(0))
        before = scene(network("standard"), x[k : k + 1], y[k : k + 1], attack, grid=2)
        assert not before.won[-1] or before.p[1].max() < 0.5 or before.answers[0] != before.y


def test_the_search_goes_on_to_wider_balls_and_to_the_next_network():
    def firm(x):
        "Reads 0, whatever comes"
        return torch.stack([0 * x.flatten(1)[:, 0] + 2, 0 * x.flatten(1)[:, 0]], 1)

    def soft(x):
        "Reads 0 where the mean is below 1/2 + 1/4"
        v = 40 * (x.flatten(1).mean(1) - 0.75)
        return torch.stack([-v, v], 1)

    x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([1, 0, 0])
    nets = {"firm": firm, "soft": soft}

    def found(names, eps):
        return first_fooled(
            names,
            nets.get,
            x,
            y,
            lambda r: pgd(Linf(r), 10, loss=margin, generator=generator(0)),
            eps,
        )

    # image 0 is read wrongly without an attack; 0.2 and 0.3 do not suffice for .25, 0.3 does
    assert found(["firm", "soft"], 0.2) == Start("soft", 1, pytest.approx(0.3))
    assert found(["soft"], 0.3) == Start("soft", 1, 0.3)
    assert found(["firm"], 0.2) == Start("firm", 0, 0.2)


# ---- 2. a line that says what to do


def test_one_line_says_what_to_do(pg):
    (line,) = [w.value for w in pg.page.widgets if "playground-todo" in w._dom_classes]
    words = re.sub("<[^>]+>", "", line)
    assert line.count("<p") == 1 and len(words) < 150 and words.startswith("Move eps")
    # what it says is true: with a small enough ball the network holds
    pg.set(eps=0.0)
    assert "It holds: " in pg.page.said.value


# ---- 3. titles and units


@pytest.mark.parametrize("loss, unit", [("ce", "nats"), ("margin", "difference of logits")])
def test_every_picture_has_a_title_and_every_axis_a_unit(pg, loss, unit):
    pg.set(attack={"ce": "PGD", "margin": "PGD on the margin (CW)"}[loss])
    for board in pg.boards.values():
        # titles stand above their picture, in bold
        bold = [t for ax in board.fig.axes for t in ax.texts if t.get_weight() == "bold"]
        titles = {t.get_text() for t in bold} - set(pg.scene.classes) - {""}
        assert titles == {
            "Clean image",
            "The change",
            "Attacked image",
            "What the network believes",
            "The loss, step by step",
            "The loss around the image",
        }
        labels = []
        for ax in board.fig.axes:
            if not ax.axison:
                continue
            ticked = [a for a in (ax.xaxis, ax.yaxis) if len(a.get_majorticklocs())]
            for axis in ticked:
                assert re.fullmatch(r".+ \(.+\)", axis.get_label_text()), axis.get_label_text()
                labels.append(axis.get_label_text())
        assert labels.count(f"loss {loss} ({unit})") == 2
        assert "(pixel units)" in board.pictures[1][2].get_text()
    assert len(PANELS) == 6 and set(pg.panels) == set(PANELS) == set(pg.scene.alternatives())


def test_units_of_losses():
    assert unit_of("tempered(ce, 0.1)") == unit_of("margin_ce(m=0.1)") == "nats"
    assert unit_of("margin") == "difference of logits" and unit_of("mine") == "its own unit"


# ---- 4. ways back


def test_start_again_leads_back_to_the_opening(pg):
    first, panels = values(pg), pg.panels
    pg.set(image=9, ball="L2: Euclidean length eps", steps=3, seed=2, label=4, network="PGD-AT")
    pg.set(eps=0.1)
    assert pg.panels != panels
    pg.buttons["again"].click()
    assert values(pg) == first and pg.panels == panels


def test_back_from_a_drawing(pg):
    pg.set(image=9, eps=0.05)
    before, panels = values(pg), pg.panels
    assert not is_shown(pg.buttons["back"])
    give(pg, "one.png", drawing())
    pg.set(label=1)
    assert is_shown(pg.buttons["back"]) and pg.panels != panels
    pg.buttons["back"].click()
    assert values(pg) == before and pg.panels == panels and pg.own is None
    assert not is_shown(pg.buttons["back"]) and not is_shown(pg.buttons["offer"])
    # the same file can be chosen again
    give(pg, "one.png", drawing())
    assert pg.own is not None


# ---- 5. photographs


def test_ink_on_paper_is_told_from_a_photograph():
    assert looks_like_photograph(photograph())
    for data in (drawing(), drawing("white", "black"), drawing("red", (240, 230, 190))):
        assert not looks_like_photograph(data)
    with pytest.raises(ValueError, match="cat.txt is no image"):
        looks_like_photograph(b"cat", "cat.txt")


def test_a_photograph_is_offered_a_network_that_reads_it(pg):
    opening = values(pg)
    pg.set(image=9, ball="L2: Euclidean length eps", network="PGD-AT")
    pg.set(eps=0.7)
    before = values(pg)
    give(pg, "sea.png", drawing())
    assert "read as a digit" in pg.page.said.value and is_shown(pg.buttons["offer"])
    give(pg, "sea.png", photograph())
    assert "looks like a photograph, but these networks read digits" in pg.page.said.value
    assert is_shown(pg.buttons["offer"])
    pg.buttons["offer"].click()
    s = pg.scene
    assert "playground-words" in pg.page.said.value and "sea.png" in pg.page.said.value
    assert s.x.shape == (1, 3, 32, 32) and "airplane" in s.classes
    assert torch.equal(s.x, pg.own.image((3, 32, 32)))
    assert s.attack.ball == Linf(8 / 255) and "read digits" not in pg.page.said.value
    assert not is_shown(pg.buttons["offer"]) and not is_shown(pg.controls["image"])
    # nothing else went with the slider of images
    assert all(is_shown(c) for name, c in pg.controls.items() if name != "image")
    assert all(name.startswith("CIFAR-10") for name in pg.controls["network"].options)
    for name in pg.controls["network"].options[1:3]:
        pg.set(network=name)
        assert "playground-words" in pg.page.said.value
    pg.buttons["back"].click()
    assert values(pg) == before and pg.scene.x.shape == (1, 1, 8, 8)
    assert is_shown(pg.controls["image"]) and list(pg.controls["network"].options)[0] == "standard"
    give(pg, "sea.png", photograph())
    pg.buttons["offer"].click()
    pg.buttons["again"].click()
    assert values(pg) == opening and "Fooled: " in pg.page.said.value


def test_networks_for_photographs_are_shipped():
    shelf = photograph_shelf()
    assert shelf.shape == (3, 32, 32) and len(shelf.x) == 0 and len(shelf.classes) == 10
    for get in shelf.nets.values():
        with torch.no_grad():
            assert get()(torch.rand(1, 3, 32, 32)).shape == (1, 10)
        assert get() is get()


def test_own_images_are_never_called_photographs():
    "Where the reader brought the networks' data, nobody knows what they read"
    digits = get_data("digits", device="cpu").test
    pg = Playground(data=digits)
    give(pg, "sea.png", photograph())
    assert not is_shown(pg.buttons["offer"]) and "read digits" not in pg.page.said.value
    assert is_shown(pg.buttons["back"])


# ---- 6. light and dark


def contrast(a, b):
    "WCAG's ratio of two colours"
    from matplotlib.colors import to_rgb

    def lightness(c):
        rgb = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(c)]
        return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]

    hi, lo = sorted((lightness(a), lightness(b)), reverse=True)
    return (hi + 0.05) / (lo + 0.05)


# what JupyterLab and Voila put behind a page
@pytest.mark.parametrize("theme, papers", [(LIGHT, ["#ffffff"]), (DARK, ["#111111", "#212121"])])
def test_figures_are_readable_on_their_page(theme, papers):
    assert theme.paper == "none"
    for paper in papers:
        assert contrast(theme.ink, paper) > 7
        for colour in (theme.clean, theme.attacked):
            assert contrast(colour, paper) > 3.7  # words of 9 points and marks
    # borders and names are seen on every height that is drawn: up to 1/1.7 of the colours
    for share in torch.linspace(0, 1 / 1.7, 20).tolist():
        assert contrast(theme.ink, theme.colour_map(share)[:3]) > 3.5


def test_both_themes_are_on_the_page_and_one_is_seen(pg):
    from PIL import Image

    for group, names in pages.GROUPS.items():
        row = pg.page.rows[group].value
        assert row.count("on-light") == row.count("on-dark") == len(names)
        assert row.count("alt=") == 2 * len(names)
        uris = re.findall(r'src="data:image/png;base64,([^"]+)"', row)
        assert len(set(uris)) == len(uris)
    corner = Image.open(io.BytesIO(pg.panels["belief"])).getpixel((1, 1))
    assert corner[3] == 0, "the page shines through"
    style = pages.STYLE
    hidden = re.search(
        r"\.playground \.on-dark, (.*) \.playground \.on-light { display: none }", style
    )
    assert hidden and 'data-jp-theme-light="false"' in hidden[1]
    assert f"{hidden[1]} .playground .on-dark {{ display: block }}" in style
    # on paper there is no page that could shine through
    board = Board(theme=PRINT)
    draw(pg.scene, board)
    assert Image.open(io.BytesIO(board.png())).mode == "RGB"


# ---- 7 and 8 are seen in a browser: tests/test_browser.py. Here is what can be read


def test_nothing_holds_the_page_narrow():
    assert "width: 100%" in pages.STYLE and "max-width" not in pages.STYLE.replace("(max-width", "")
    narrow = pages.STYLE.split("@container (max-width: 640px)")[1]
    assert '"todo" "said" "pictures" "controls" "charts" "land"' in narrow


# ---- 9. a saved notebook


def test_no_saved_notebook_holds_what_a_reload_cannot_draw():
    for path in sorted(TOP.glob("nbs/*.ipynb")):
        text = path.read_text(encoding="utf-8")
        assert "application/vnd.jupyter.widget" not in text, path.name
    cells = json.loads((TOP / "nbs/91_playground.ipynb").read_text(encoding="utf-8"))["cells"]
    (cell,) = [c for c in cells if "".join(c["source"]).startswith("page = Playground()")]
    (output,) = cell["outputs"]
    html = "".join(output["data"]["text/html"])
    assert 'src="data:image/png;base64,' in html and "playground-still" in html


def test_the_tool_that_stores_outputs_leaves_widgets_out():
    import importlib.util

    import nbformat.v4 as nb

    spec = importlib.util.spec_from_file_location("outputs", TOP / "tools/outputs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    widget = nb.new_output("display_data", {tool.WIDGET: {}, "text/plain": "Box()"})
    still = nb.new_output("display_data", {"text/html": "<img>"})
    words = nb.new_output("stream", text="words")
    book = nb.new_notebook(cells=[nb.new_code_cell(outputs=[still, widget, words])])
    book.cells.append(nb.new_markdown_cell("text"))
    book.metadata["widgets"] = {}
    tool.without_widgets(book)
    assert book.cells[0].outputs == [still, words] and "widgets" not in book.metadata


def test_a_live_page_hides_its_still(pg, monkeypatch):
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    pg._ipython_display_()
    still, live = shown
    assert "playground-still" in still.data and live is pg.page.box
    assert ":has(.playground) .playground-still { display: none }" in still.data


# ---- 10. plain words


def test_nothing_climbs():
    files = [
        *TOP.glob("spat_nb/app/**/*.py"),
        TOP / "spat_nb/training/methods.py",
        TOP / "nbs/91_playground.ipynb",
    ]
    for path in files:
        assert not re.search(r"climb", path.read_text(encoding="utf-8"), re.I), path.name
