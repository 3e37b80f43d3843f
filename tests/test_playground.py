"""The playground without a browser: scenes that can be computed again, a page whose every control
changes the picture, and how long that takes
"""

import io
import statistics
import subprocess
import sys
import time
from datetime import datetime
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spat_nb.app import playground, scene, shelf
from spat_nb.app.ownfile import own_image
from spat_nb.attacks.attack import Attack, fgsm, pgd
from spat_nb.attacks.balls import L1, L2, Linf
from spat_nb.attacks.losses import ce, margin
from spat_nb.attacks.steps import apgd, mim
from spat_nb.attacks.wrapped import tempered
from spat_nb.core.rng import generator
from spat_nb.models.networks import SmallCNN

W = pytest.importorskip("ipywidgets", reason="the extra `lab` is not installed")
LINF, L_2, L_1 = playground.BALLS


def net(shape=(1, 8, 8), c=10, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 12), nn.Tanh(), nn.Linear(12, c)
    )


@settings(max_examples=25, deadline=None)
@given(
    make=st.sampled_from(
        (pgd, mim, apgd, partial(pgd, loss=margin), partial(pgd, loss=tempered(ce, 5.0)))
    ),
    ball=st.sampled_from((Linf, L2, L1)),
    eps=st.one_of(st.just(0.0), st.floats(1e-3, 1.0)),
    steps=st.integers(0, 9),
    shape=st.tuples(st.sampled_from((1, 3)), st.integers(2, 6), st.integers(2, 6)),
    c=st.integers(2, 12),
    seed=st.integers(0, 99),
)
def test_a_scene_says_what_can_be_computed_again(make, ball, eps, steps, shape, c, seed):
    if make is apgd and ball is L1:
        return
    m, g = net(shape, c, seed).train(), generator(seed)
    x, y = torch.rand(1, *shape, generator=g), torch.randint(0, c, (1,), generator=g)
    a = make(ball(eps), steps=steps, generator=generator(seed))
    s = scene.scene(m, x, y, a, grid=7)
    again = Attack(**{**vars(a), "generator": generator(seed)})(m, x, y)
    # nothing but the attack
    assert torch.equal(s.x_adv, again) and m.training
    assert (
        a.ball.inside(s.x_adv, x).all()
        and a.ball.inside(s.path, x.expand_as(s.path)).all()
        and len(s.path) == steps + 1
    )
    with torch.no_grad():
        z = m(s.path)
    torch.testing.assert_close(s.losses, a.loss(z, y.expand(len(z))))
    assert torch.equal(s.won, z.argmax(1) != y)
    torch.testing.assert_close(s.p, m(torch.cat([x, s.x_adv])).softmax(1).detach())
    torch.testing.assert_close(s.e @ s.e.T, torch.eye(2), atol=1e-4, rtol=0)
    d = (s.x_adv - x).flatten()
    # the attacked image lies in the plane
    torch.testing.assert_close(s.e.T @ (s.e @ d), d, atol=1e-4, rtol=0)
    for i, j in ((0, 0), (2, 5), (6, 3)):
        at = x + (s.u[j] * s.e[0] + s.v[i] * s.e[1]).view_as(x)
        with torch.no_grad():
            z = m(at.clamp(0, 1))
        torch.testing.assert_close(s.values[i, j], a.loss(z, y)[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(s.lead[i, j], margin(z, y)[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(s.norms[i, j], a.ball.norm(at - x)[0], atol=1e-4, rtol=1e-4)
    assert s.aim != int(y) and s.words().startswith("Clean: ")


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    small = SmallCNN(channels=1).eval()
    return {
        "one": lambda: net(),
        "two": lambda: small,
        "broken": lambda: lambda x: x.detach().flatten(1)[:, :10],
    }


def show(pg):
    assert "playground-words" in pg.page.said.value, pg.page.said.value
    return pg.panels


def upload(pg, name, data):
    pg.controls["file"].value = (
        {
            "name": name,
            "type": "image/png",
            "size": len(data),
            "content": memoryview(data),
            "last_modified": datetime.now(),
        },
    )


def test_every_control_changes_the_picture_and_stays_in_the_ball(nets):
    pg = playground.Playground(nets)
    seen = [show(pg)]
    for name, value in (
        ("image", 9),
        ("eps", 0.3),
        ("steps", 25),
        ("seed", 3),
        ("label", 4),
        ("network", "two"),
        ("ball", L_2),
        ("ball", L_1),
        ("ball", LINF),
        *(("attack", k) for k in [*playground.ATTACKS][1:]),
    ):
        # as a slider does it
        pg.controls[name].value = value
        s = pg.scene
        assert show(pg) != seen[-1], (name, value)
        assert s.attack.ball.inside(s.x_adv, s.x).all() and s.attack.ball == playground.BALLS[
            pg.controls["ball"].value
        ][0](pg.controls["eps"].value)
        with torch.no_grad():
            torch.testing.assert_close(
                s.losses,
                s.attack.loss(pg.model()(s.path), torch.tensor([s.y] * len(s.path))),
                atol=1e-4,
                rtol=1e-4,
            )
        seen.append(pg.panels)
    # several at once, one picture
    before = len(pg.seconds)
    pg.set(image=1, steps=4, attack="PGD")
    assert len(pg.seconds) == before + 1
    assert all(
        not c.continuous_update for c in pg.controls.values() if hasattr(c, "continuous_update")
    )


def test_the_picture_is_a_function_of_the_controls(nets):
    a, b = playground.Playground(nets), playground.Playground(nets)
    b.set(network="two", image=30, eps=0.02, ball=L_2, attack="APGD")
    b.set(ball=LINF)
    b.set(**{name: c.value for name, c in a.controls.items() if name != "file"})
    assert show(a) == show(b)


def test_fooled_or_not_is_said(nets):
    pg = playground.Playground(nets)
    pg.set(eps=0.0)
    assert "still" in pg.page.said.value or "which is wrong" in pg.page.said.value
    right = next(
        k
        for k in range(len(pg.shelf.x))
        if pg.set(image=k) is None and pg.scene.answers[0] == pg.scene.y
    )
    pg.set(image=right, eps=0.37)
    assert "fooled at step" in pg.page.said.value and pg.scene.answers[1] != pg.scene.y


def test_what_goes_wrong_is_one_sentence_and_the_page_lives_on(nets):
    pg = playground.Playground(nets)
    for change, says in (
        (dict(network="broken"), "cuts the graph"),
        (dict(network="one", ball=L_1, attack="APGD"), "APGD for L1"),
    ):
        pg.set(**change)
        assert (
            "playground-error" in pg.page.said.value
            and says in pg.page.said.value
            and "Traceback" not in pg.page.said.value
        )
    pg.set(attack="PGD")
    show(pg)
    picture = show(pg)
    for name, data, says in (
        ("cat.txt", b"no image", "cat.txt is no image"),
        ("<b>.png", b"", "&lt;b&gt;.png is no image"),
        ("white.png", png("white"), "one even tone"),
    ):
        upload(pg, name, data)
        assert (
            "playground-error" in pg.page.said.value
            and says in pg.page.said.value
            and pg.panels == picture
        )
    with pytest.raises(ValueError, match="there is no network"):
        shelf.network("nonsense")


def png(paper, line=None, size=(90, 120), mode="RGB"):
    from PIL import Image, ImageDraw

    img = Image.new(mode, size, paper)
    out = io.BytesIO()
    if line:
        ImageDraw.Draw(img).line((30, 20, 30, 100), fill=line, width=10)
    img.save(out, "PNG")
    return out.getvalue()


def test_a_file_of_ones_own(nets):
    pg = playground.Playground(nets)
    upload(pg, "one.png", png("white", "black"))
    assert (
        "Your file one.png" in pg.page.said.value
        and pg.scene.x.shape == (1, 1, 8, 8)
        and pg.scene.x[..., 3:5].mean() > 0.4
        and pg.scene.y == pg.scene.answers[0]
    )
    # ink is white, whatever it was
    assert torch.equal(own_image(png("black", "white"), (1, 8, 8)), pg.scene.x)
    pg.set(label=1)
    assert pg.scene.y == 1
    pg.controls["image"].value = 3
    assert torch.equal(pg.scene.x, pg.shelf.x[3:4]) and "Your file" not in pg.page.said.value
    for shape, mode, paper in (
        ((3, 32, 32), "RGB", "white"),
        ((1, 28, 28), "LA", (255, 0)),
        ((3, 8, 8), "L", 255),
    ):
        x = own_image(
            png(paper, 0 if mode == "L" else (0, 255) if mode == "LA" else "red", mode=mode), shape
        )
        assert x.shape == (1, *shape) and x.min() >= 0 and x.max() <= 1


def test_other_networks_attacks_and_images():
    from spat_nb.data.batches import Batches

    g = generator(0)
    data = Batches(
        torch.randint(0, 256, (6, 3, 16, 16), generator=g).byte(),
        torch.arange(6),
        tuple(f"class {k}" for k in range(20)),
    )

    def cooled(ball, steps, **kw):
        return pgd(ball, steps, loss=tempered(ce, 0.1), **kw)

    pg = playground.Playground(
        {"mine": lambda: net((3, 16, 16), 20)},
        data,
        eps=8 / 255,
        attacks={**playground.ATTACKS, "cooled": cooled},
    )
    first = show(pg)
    pg.set(attack="cooled")
    assert show(pg) != first and pg.scene.attack.loss.__name__ == "tempered(ce, 0.1)"
    assert pg.controls["eps"].max == pytest.approx(20 / 255) and pg.boards["light"].n == 12


def test_a_change_asks_the_network_for_two_attacks_and_a_map():
    """What a change costs, in passes of the network; its seconds are printed, for they are the
    machine's
    """
    small, passes = SmallCNN(channels=1).eval(), []
    small.register_forward_hook(lambda net, inputs, out: passes.append(len(out)))
    pg = playground.Playground({"small": lambda: small})
    start = time.process_time()
    for k in range(20):
        passes.clear()
        pg.set(image=k, eps=0.02 + 0.01 * k, steps=10)
        # 10 + 5 steps and some looks; one batch for the map
        assert len(passes) < 30 and sum(n > 100 for n in passes) == 1, passes
    took = statistics.median(pg.seconds[-20:])
    print(
        f"\nplayground: {1000 * took:.0f} ms, median of 20 changes;"
        f" {50 * (time.process_time() - start):.0f} ms of processor time each,"
        f" {torch.get_num_threads()} thread"
    )


def test_hooks_for_a_browser(nets):
    pg = playground.Playground(nets)
    for name, c in pg.controls.items():
        assert f"playground-{name}" in c._dom_classes and c.description and c.tooltip
    assert (
        "playground-picture" in pg.page.rows["pictures"].value
        and "playground" in pg.page.box._dom_classes
        and 'role="status"' in pg.page.said.value
    )


def test_without_widgets_the_mend_is_named():
    code = (
        "import sys; sys.modules['ipywidgets'] = None\nfrom spat_nb.app import playground\ntry:"
        " playground.Playground({})\nexcept ImportError as e: print(e)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == 'the playground needs ipywidgets; run: pip install "spat_nb[lab]"'


def test_attack_by_hand():
    """A linear network: FGSM moves every pixel by eps along the sign of the weights, and the
    landscape is a plane
    """
    w = torch.tensor([1.0, -2.0, 3.0, -4.0])

    def m(x):
        return torch.stack([0 * x.flatten(1)[:, 0], x.flatten(1) @ w], 1)

    s = scene.scene(
        m, torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), fgsm(Linf(0.1), loss=margin)
    )
    torch.testing.assert_close(s.x_adv.flatten(), 0.5 + 0.1 * w.sign())
    torch.testing.assert_close(s.losses, torch.tensor([-1.0, 0.0]), atol=1e-6, rtol=0)
    # nothing is cut off at the box
    inside = s.norms < 0.5
    torch.testing.assert_close(
        s.values[inside],
        (-1.0 + s.u[None] * (s.e[0] @ w) + s.v[:, None] * (s.e[1] @ w))[inside],
        atol=1e-5,
        rtol=0,
    )
