"""What a slider of the playground shows, as pictures drawn when the site is built: the site has no
kernel, so that a slider of plain HTML chooses among them
"""

import io

import site_pages

LESSON = "91_playground"
RADII = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
IMAGE = 6  # of the test digits: the one of the lesson's first picture


def scenes():
    "One scene for each radius: the same digit, network and attack"
    import torch

    from spat_nb import Linf, get_data, pgd, zoo
    from spat_nb.app.scene import scene

    x, y = (t[IMAGE : IMAGE + 1] for t in get_data("digits", device="cpu").test.tensors())
    net = zoo.load("digits/standard/w16", "cpu").eval()
    for eps in RADII:
        attack = pgd(Linf(eps), 10, generator=torch.Generator().manual_seed(0))
        yield eps, scene(net, x, y, attack)


def write(out, names):
    "The frames, into the folder frames/ of a built site that has the lesson; html is `block()`"
    if LESSON not in names:
        return
    from PIL import Image

    from spat_nb.app.board import Board, draw

    (out / "frames").mkdir(exist_ok=True)
    board = Board(10, False, dpi=75)
    for eps, shown in scenes():
        draw(shown, board)
        with Image.open(io.BytesIO(board.png(1))) as image:
            image.convert("RGB").save(out / f"frames/eps-{eps:.2f}.webp", quality=75, method=4)


def block():
    "The slider and its frames, as HTML for the lesson's page"
    return site_pages.fill("frames.html.jinja", radii=[f"{r:.2f}" for r in RADII])


def add(nb, name):
    "A cell below the one that opens the playground"
    from fastcore.nbio import mk_cell

    at = next((i for i, c in enumerate(nb.cells) if "page = Playground()" in c.source), None)
    if name == LESSON and at is not None:
        nb.cells.insert(at + 1, mk_cell(block(), "markdown"))
