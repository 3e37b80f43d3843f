"""Accuracy over radii, and an attack watched step by step, on shipped networks"""

import functools
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
from asserting import assert_close, assert_eq, assert_fails

from spat_nb import Linf, fgsm, get_data, pgd, zoo
from spat_nb.attacks.recorder import Recorder
from spat_nb.measure.sweep import Flight, plot_flight, plot_sweep, sweep

ball = Linf(0.15)


@functools.cache
def real():
    names = {"standard": "standard", "PGD-AT": "pgd_at"}
    return SimpleNamespace(
        test=get_data("digits", device="cpu", batch_size=64).test.subset(120),
        nets={name: zoo.load(f"digits/{k}/w16", "cpu") for name, k in names.items()},
    )


def line(x):
    w = torch.linspace(-1, 2, 12).double()
    return torch.stack([torch.zeros(len(x)).to(x), x.flatten(1) @ w - 3], 1)


def test_the_curve_falls_to_chance():
    nets, test = real().nets, real().test
    radii = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    sweeps = {
        name: sweep(net, test, lambda e: pgd(Linf(e), 20), radii, progress=False)
        for name, net in nets.items()
    }
    for r in sweeps.values():
        acc = [r.accuracy(k) for k in r.info["eps"]]
        # it falls (one image of grace), to chance
        assert all(b <= a + 1 / 120 for a, b in zip(acc, acc[1:])) and acc[-1] <= 0.1
    assert all(
        sweeps["PGD-AT"].accuracy(k) >= sweeps["standard"].accuracy(k) - 1 / 120
        for k in sweeps["standard"].attacks
    )


def test_a_sweep_keeps_its_radii():
    lin_r = sweep(
        line,
        (torch.rand(40, 3, 2, 2).double(), torch.zeros(40, dtype=torch.long)),
        lambda e: fgsm(Linf(e)),
        (0.1, 0.02),
        progress=False,
    )
    assert_eq(
        (lin_r.attacks, lin_r.info["eps"]),
        (["eps 0.1", "eps 0.02"], {"eps 0.1": 0.1, "eps 0.02": 0.02}),
    )
    assert lin_r.accuracy("eps 0.02") >= lin_r.accuracy("eps 0.1")
    plt.close(plot_sweep(lin_r).figure)
    assert_fails(
        lambda: sweep(line, None, lambda e: fgsm(Linf(e)), (0.1, 0.1)), contains="not all different"
    )


def test_a_flight_knows_margin_and_stride():
    nets, (xb, yb) = real().nets, real().test.tensors()
    flights = {name: Flight(yb) for name in nets}
    for name, net_ in nets.items():
        pgd(ball, 20, recorder=flights[name], generator=torch.Generator().manual_seed(0))(
            net_, xb, yb
        )
    for f in flights.values():
        assert_eq([r["step"] for r in f.rows], list(range(21)))
        # a margin above 0 is a fooled image
        for r in f.rows:
            assert torch.equal(r["margin"] > 0, r["won"])
        strides = torch.stack([r["stride"] for r in f.rows[1:]])
        # 64 pixels, each moves by the step size at most
        assert f.rows[0]["stride"] is None and (strides <= 8 * 2.5 * ball.eps / 20 + 1e-6).all()
        # on the rim fewer and fewer pixels can move
        assert strides[-1].median() < strides[0].median()
    assert (
        flights["standard"].rows[-1]["margin"].median()
        > 0
        > flights["PGD-AT"].rows[-1]["margin"].median()
    )
    # at the rim after one step
    assert all((f.rows[1]["norm"].median() - ball.eps).abs() < 0.01 for f in flights.values())
    axes = plot_flight(flights["PGD-AT"])
    assert_close(
        axes[1].lines[0].get_ydata()[-1],
        flights["PGD-AT"].rows[-1]["margin"].double().quantile(0.5),
        eps=1e-6,
    )
    plt.close(axes[0].figure)
    plain = Recorder()
    pgd(ball, 2, recorder=plain)(nets["standard"], xb[:4], yb[:4])
    axes = plot_flight(plain)
    assert_eq([a.get_ylabel() for a in axes], ["loss", "distance in the ball's norm"])
    plt.close(axes[0].figure)
    assert_fails(lambda: plot_flight(dict(pgd=Flight(yb))), contains="the recorder 'pgd' is empty")
