"""The playground's parts by hand: the path, the plane, the scene, the figure, the page"""

import io
import re
from dataclasses import replace
from datetime import datetime
from functools import partial

import matplotlib.pyplot as plt
import pytest
import torch
from fastcore.test import test_close as close
from fastcore.test import test_eq as equal
from torch import nn, tensor

from spat_nb import L1, L2, Linf, apgd, ce, fgsm, get_data, margin, mim, pgd, tempered
from spat_nb.app.board import Board, draw
from spat_nb.app.choices import ATTACKS, reach
from spat_nb.app.landscape import _middle
from spat_nb.app.ownfile import own_image
from spat_nb.app.plane import axes, recorded_path, window
from spat_nb.app.playground import Playground
from spat_nb.app.scene import scene
from spat_nb.app.shelf import RECIPES, network, networks, train
from spat_nb.attacks.ascent import at_x
from spat_nb.attacks.attack import Attack
from spat_nb.core.rng import generator
from spat_nb.models.networks import SmallCNN

pytest.importorskip("ipywidgets", reason="the extra `lab` is not installed")


def flat(x):
    return torch.stack([0 * x[:, 0, 0, 0], x.flatten(1) @ tensor([2.0, 1.0])], 1)


def at(s, ab):
    return s.x + (ab @ s.e).view(-1, *s.x.shape[1:])


def pixels(board):
    """The picture as bytes (n,)"""
    from PIL import Image

    return torch.frombuffer(
        bytearray(Image.open(io.BytesIO(board.png())).tobytes()), dtype=torch.uint8
    ).int()


def photo(draw_on, size=(200, 160), mode="RGB", paper="white", kind="PNG", **kw):
    """A file with a drawing"""
    from PIL import Image, ImageDraw

    img = Image.new(mode, size, paper)
    draw_on(ImageDraw.Draw(img))
    out = io.BytesIO()
    img.save(out, kind, **kw)
    return out.getvalue()


def one(ink):
    return lambda d: d.line((90, 30, 90, 130), fill=ink, width=14)


def test_a_recorded_path_is_the_attack_with_a_listener():
    x2, y2 = (tensor([0.2, 0.5]).view(1, 1, 1, 2), tensor([0]))
    x_adv, path, losses, won = recorded_path(flat, x2, y2, Attack(Linf(0.25), 3, 0.1, start=at_x))
    close(path.flatten(1), tensor([[0.2, 0.5], [0.3, 0.6], [0.4, 0.7], [0.45, 0.75]]))
    close(losses, (1 + (path.flatten(1) @ tensor([2.0, 1.0])).exp()).log())
    close(x_adv.flatten(), path[-1].flatten())
    assert won.all()
    torch.manual_seed(0)
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    xs, ys = (torch.rand(1, 1, 8, 8), tensor([3]))
    for make in (partial(pgd, steps=7), partial(mim, steps=7), partial(apgd, steps=7), fgsm):
        a = make(Linf(0.1), generator=generator(1))
        got = recorded_path(small, xs, ys, a)
        assert torch.equal(got[0], replace(a, generator=generator(1))(small, xs, ys))
        equal(len(got[1]), a.steps + 1)
        close(got[2], a.loss(small(got[1]), ys.expand(a.steps + 1)))
    with pytest.raises(Exception, match=re.escape("there are 2 images")):
        recorded_path(small, xs.repeat(2, 1, 1, 1), ys.repeat(2), pgd(Linf(0.1)))
    with pytest.raises(Exception, match=re.escape("restarts is 2")):
        recorded_path(small, xs, ys, pgd(Linf(0.1), restarts=2))


def test_axes_and_window_by_hand():
    d1, d2 = (tensor([3.0, 4.0, 0.0]), tensor([3.0, 4.0, 2.0]))
    close(axes(d1, d2), tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]))
    close(d1 @ axes(d1, d2).T, tensor([5.0, 0.0]))
    for ds in (
        (d1, d2),
        (d1, d1),
        (d1, 2 * d1 + 1e-06),
        (d1, 0 * d1),
        (0 * d1, 0 * d1),
        (0.0001 * d1, d2),
    ):
        close(axes(*ds) @ axes(*ds).T, torch.eye(2), 1e-05)
    assert torch.equal(axes(d1, d1), axes(d1, 0 * d1))
    u, v = window(tensor([[0.0, 0.0], [2.0, 1.0]]), 0.1)
    assert u[0] < 0 and u[-1] > 2 and (v[0] < 0) and (v[-1] > 1)
    close(u[-1] - u[0], v[-1] - v[0])
    u, v = window(torch.zeros(1, 2), 0.1)
    close((u[0], u[-1]), (-0.1, 0.1))


def test_a_scene_of_two_pixels_and_of_digits():
    x2, y2 = tensor([0.2, 0.5]).view(1, 1, 1, 2), tensor([0])
    torch.manual_seed(0)
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    xs, ys = (torch.rand(1, 1, 8, 8), tensor([3]))
    s = scene(flat, x2, y2, Attack(Linf(0.25), 3, 0.1, start=at_x))
    close(at(s, s.track).flatten(1), s.path.flatten(1))
    close(s.off, torch.zeros(4), 1e-06)
    i, j = (7, 16)
    here = at(s, tensor([[s.u[j], s.v[i]]])).clamp(0, 1)
    close(s.values[i, j], ce(flat(here), y2)[0])
    close(s.lead[i, j], margin(flat(here), y2)[0])
    close(s.norms[i, j], (at(s, tensor([[s.u[j], s.v[i]]])) - s.x).abs().max())
    for ball in (Linf(0.1), L2(0.6), L1(3.0), Linf(0.0)):
        for make in (pgd, mim, fgsm) if ball.eps else (pgd,):
            s = scene(small, xs, ys, make(ball, generator=generator(0)))
            assert (
                ball.inside(s.x_adv, s.x).all() and ball.inside(s.path, s.x.expand_as(s.path)).all()
            )
            close(s.losses, ce(small(s.path), ys.expand(len(s.path))))
            equal(s.won, small(s.path).argmax(1) != 3)
            close((s.x_adv - s.x).flatten() @ s.e.T, tensor([(s.x_adv - s.x).norm(), 0.0]), 0.0001)
            assert (
                s.u[0] < s.track[:, 0].min()
                and s.u[-1] > s.track[:, 0].max()
                and (s.aim not in (3, s.answers[1]))
            )
    equal(
        scene(small, xs, ys, pgd(L2(0.5)), classes=tuple("abcdefghij")).words().split()[1],
        "abcdefghij"[small(xs).argmax()],
    )


def test_one_figure_for_many_scenes():
    torch.manual_seed(0)
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    xs, ys = (torch.rand(1, 1, 8, 8), tensor([3]))
    was_open = plt.get_fignums()
    board = Board()
    first = scene(small, xs, ys, pgd(Linf(0.1), generator=generator(0)))
    other = scene(
        small,
        xs,
        tensor([int(small(xs).argmax())]),
        apgd(L2(0.8), 12, margin, generator=generator(0)),
    )
    draw(other, board)
    board.png()
    fig = draw(first, board)
    fresh = Board()
    draw(first, fresh)
    assert (pixels(board) - pixels(fresh)).abs().max() <= 2
    assert (
        fig is board.fig is draw(first, board)
        and board.png() == board.png()
        and (plt.get_fignums() == was_open)
    )
    draw(other, board)
    assert board.png() != fresh.png()
    close(tensor([b.get_height() for b in board.bars[1]]), other.p[1])
    close(board.curve.get_ydata(), other.losses.numpy())
    equal(len(board.held.get_xdata()), int((~other.won).sum()))
    close(board.ends[1].get_xdata()[0], (other.x_adv - other.x).norm(), 0.0001)
    assert (
        f"{other.p[1].max():.0%}" in board.pictures[2][2].get_text()
        and "margin" in board.steps.get_ylabel()
    )
    equal(
        _middle(
            tensor(
                [
                    [0, 0, 0, 0, 0],
                    [0, 1, 1, 1, 0],
                    [0, 1, 1, 1, 0],
                    [0, 1, 1, 1, 0],
                    [0, 0, 0, 0, 1],
                ]
            ).bool()
        ),
        [2, 2],
    )
    many = tuple(f"class {k}" for k in range(30))
    torch.manual_seed(1)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 30))
    rgb = scene(
        wide, torch.rand(1, 3, 8, 8), tensor([7]), pgd(Linf(0.02), generator=generator(0)), many
    )
    b30 = Board(30, True)
    draw(rgb, b30)
    assert b30.n == 12 and len(b30.png()) > 10000.0 and (many[rgb.answers[1]] in b30.shown)


def test_networks_on_the_shelf():
    equal(list(networks()), list(RECIPES))
    assert network("PGD-AT") is networks()["PGD-AT"]()
    digits = get_data("digits", device="cpu").test
    state = torch.get_rng_state()
    net = train("standard", 1)
    assert torch.equal(torch.get_rng_state(), state)
    x, y = digits.tensors()
    equal(net(x[:3]).shape, (3, 10))
    assert not net.training
    with torch.no_grad():
        right = {
            k: (network(k)(x).argmax(1) == y).double().mean().item() for k in ("standard", "PGD-AT")
        }
    assert min(right.values()) > 0.85
    with pytest.raises(Exception, match=re.escape("there is no network 'Resnet'")):
        network("Resnet")


def test_an_image_of_ones_own():
    paper, chalk, clear = (
        own_image(photo(one("black")), (1, 8, 8)),
        own_image(photo(one("white"), paper="black", kind="JPEG"), (1, 8, 8)),
        own_image(photo(one((0, 0, 0, 255)), mode="RGBA", paper=(0, 0, 0, 0)), (1, 8, 8)),
    )
    for v in (paper, chalk, clear):
        equal(v.shape, (1, 1, 8, 8))
        assert v.min() >= 0 and v.max() <= 1
        assert (
            v[0, 0, :, 3:5].mean() > 0.5
            and v[0, 0, :, :2].max() < 0.05
            and (v[0, 0, :, -2:].max() < 0.05)
        )
    equal(own_image(photo(one("red")), (3, 32, 32)).shape, (1, 3, 32, 32))
    with pytest.raises(Exception, match=re.escape("cat.txt is no image that can be read")):
        own_image(b"no image at all", (1, 8, 8), "cat.txt")
    with pytest.raises(Exception, match=re.escape("no image")):
        own_image(photo(one("black"))[:99], (1, 8, 8))
    with pytest.raises(Exception, match=re.escape("one even tone")):
        own_image(photo(lambda d: None), (1, 8, 8))


def test_controls_take_the_same_way_from_python():
    paper = own_image(photo(one("black")), (1, 8, 8))
    pg = Playground()

    def page():
        return (pg.panels, pg.scene.x_adv.clone())

    def differs(**change):
        """Does the picture change with the control, and is the attack still inside its ball?"""
        before = page()
        pg.set(**change)
        s = pg.scene
        assert "playground-words" in pg.page.said.value, pg.page.said.value
        assert pg.panels["loss"][:4] == b"\x89PNG" and s.attack.ball.inside(s.x_adv, s.x).all()
        return pg.panels != before[0]

    assert all(
        (
            differs(**{k: v})
            for k, v in dict(
                image=5,
                eps=0.05,
                steps=3,
                seed=1,
                attack="MIM (momentum)",
                network="PGD-AT",
                label=2,
                ball="L2: Euclidean length eps",
            ).items()
        )
    )
    close(pg.controls["eps"].value, reach("L2: Euclidean length eps", 0.05, 64), 1e-06)
    pg.set(ball="Linf: every pixel by eps")
    close(pg.controls["eps"].value, 0.05, 1e-06)
    assert not differs(steps=pg.controls["steps"].value)
    pg.set(ball="L1: sum of changes eps", attack="APGD")
    assert "playground-error" in pg.page.said.value and "APGD for L1" in pg.page.said.value
    pg.set(attack="PGD", label=-1)

    def upload(name, data):
        return pg.set(
            file=(
                {
                    "name": name,
                    "type": "image/png",
                    "size": len(data),
                    "content": memoryview(data),
                    "last_modified": datetime.now(),
                },
            )
        )

    upload("one.png", photo(one("black")))
    assert (
        torch.equal(pg.scene.x, paper)
        and "Your file one.png" in pg.page.said.value
        and (pg.scene.y == pg.scene.answers[0])
    )
    upload("cat.txt", b"no image")
    assert "cat.txt is no image" in pg.page.said.value
    pg.set(image=7)
    assert torch.equal(pg.scene.x, pg.shelf.x[7:8]) and pg.own is None
    mine = Playground({"mine": lambda: lambda x: x.detach().flatten(1) @ torch.eye(64)[:, :10]})
    assert "cuts the graph" in mine.page.said.value


def test_the_tour_shows_its_four_cases():
    digits, cube, k = get_data("digits", device="cpu").test, Linf(0.15), 6
    x, y = (t[k : k + 1] for t in digits.tensors())

    def stop(name, attack, steps=10):
        made = ATTACKS[attack](cube, steps, generator=generator(0))
        return scene(network(name), x, y, made, digits.classes)

    s1, s2, s3 = (stop(name, "PGD") for name in ("standard", "PGD-AT", "prototypes"))
    s4 = stop("prototypes", "PGD on the margin (CW)", 20)
    assert s1.won[-1] and not s2.won[-1] and not s3.won[-1] and s4.won[-1]
    assert s1.losses[-1] > s2.losses[-1] > s2.losses[0]
    # both meet at the end, which lies in the plane
    shadow = ce(
        network("standard")((s1.x + (s1.track @ s1.e).view_as(s1.path)).clamp(0, 1)),
        tensor([s1.y] * len(s1.path)),
    )
    close(s1.off[-1], 0.0, 1e-3)
    close(shadow[-1], s1.losses[-1], 1e-3)


def test_own_parts():
    def cooled(ball, steps, **kw):
        return pgd(ball, steps, loss=tempered(ce, 0.1), **kw)

    own = Playground(
        {"fresh": lambda: SmallCNN(channels=1).eval()}, attacks={**ATTACKS, "PGD, tau 0.1": cooled}
    )
    own.set(attack="PGD, tau 0.1")
    assert (
        own.scene.attack.loss.__name__ == "tempered(ce, 0.1)"
        and "playground-words" in own.page.said.value
    )
    own.close()
