"""What a training step of each objective costs, over the price of the passes that it makes

    python bench/objectives.py                       # digits network; --cifar for a PreActResNet-18 of width 16 on random images

A step's passes are counted (forward without a graph, with the gradient for the pixels, for the
weights, for both at once), and the same number of each runs in bare torch: step, bare, bare, step,
in CPU seconds, with memory kept from step to step as the commands of spat_nb have it
(--return-memory: as it comes). Prints medians and quartiles of the ratio over the rounds, and
whether loss and weights are finite after the steps in each precision.
"""  # noqa: E501

from __future__ import annotations

import argparse
import copy
import time
from functools import partial
from statistics import median, quantiles
from unittest.mock import patch

import torch
from torch.nn import functional as F

from spat_nb.attacks.ascent import gaussian
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.core.precision import fast
from spat_nb.core.settings import PRECISIONS
from spat_nb.core.threads import keep_memory, use_threads
from spat_nb.models.networks import PreActResNet18, SmallCNN
from spat_nb.papers.hypersphere import Hypersphere, margin_ce
from spat_nb.papers.spat import spat
from spat_nb.training.fast import Free, fgsm_rs
from spat_nb.training.objectives import alp, mart, pgd_at, standard, trades
from spat_nb.training.tricks import awp


def arms(ball, steps):
    near, plain, free = pgd(ball, steps, start=gaussian()), pgd(ball, steps), Free(ball)
    free.before_fit(None)
    return {
        "standard": (standard, plain),
        "PGD-AT": (pgd_at, plain),
        "TRADES": (trades, near),
        "ALP": (alp, plain),
        "MART": (mart, near),
        "Free-AT": (free, None),
        "Fast-AT": (pgd_at, fgsm_rs(ball)),
        "PGD-AT + AWP": (awp(pgd_at), plain),
        "SPAT": (partial(spat, a=0.1), plain),
        "SPAT-TRADES": (partial(spat, a=0.1, objective=trades), near),
        "HE": (partial(pgd_at, loss=margin_ce(0.1, 10.0)), plain),
    }


def passes(net, objective, attack, x, y):
    """How many passes of each kind one step makes: (without a graph, for the pixels, for the
    weights, for both at once)
    """
    seen, grad, forward = (
        dict(none=0, pixels=0, weights=0, both=0),
        torch.autograd.grad,
        type(net).forward,
    )

    def kind(x):
        return "none" if not torch.is_grad_enabled() else "both" if x.requires_grad else "weights"

    def count(self, x):
        if self is net:
            seen[kind(x)] += 1
        return forward(self, x)

    def grad_(out, inputs, *a, **kw):
        # a graph for the pixels, used for these alone
        if isinstance(inputs, torch.Tensor):
            seen["pixels"] += 1
            seen["both"] -= 1
        return grad(out, inputs, *a, **kw)

    with patch("torch.autograd.grad", grad_), patch.object(type(net), "forward", count):
        step(net, objective, attack, x, y)
    return tuple(seen.values())


def step(net, objective, attack, x, y):
    """All that an objective does between two batches, up to the gradient of the weights; Free-AT
    also moves its perturbation. Its loss
    """
    net.train()
    loss = objective(net, x, y, attack)
    loss.backward()
    if isinstance(objective, Free):
        objective.after_step(None)
    return loss


def clock(f):
    t = time.process_time()
    f()
    return time.process_time() - t


def bare(net, x, y, none, pixels, weights, both):
    "The same number of passes of each kind in plain torch, one after another"
    net.eval()
    for _ in range(none):
        with torch.no_grad():
            net(x)
    for _ in range(pixels):
        x_ = x.clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(net(x_), y, reduction="sum"), x_)
    net.train()
    for _ in range(weights):
        F.cross_entropy(net(x), y).backward()
    for _ in range(both):
        F.cross_entropy(net(x.clone().requires_grad_()), y).backward()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--cifar", action="store_true")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--only", nargs="+", help="only these objectives")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument(
        "--return-memory",
        action="store_true",
        help="let the C library hand memory back to the system",
    )
    a = p.parse_args()
    use_threads(a.threads)
    a.return_memory or keep_memory()
    torch.manual_seed(0)
    make, shape, ball = (
        (partial(PreActResNet18, width=16), (3, 32, 32), Linf(8 / 255))
        if a.cifar
        else (SmallCNN, (1, 8, 8), Linf(0.15))
    )
    x, y = torch.rand(a.batch, *shape), torch.randint(10, (a.batch,))
    todo = {k: v for k, v in arms(ball, a.steps).items() if not a.only or k in a.only}
    nets = {"linear": make(), "HE": make(head=partial(Hypersphere, scale=10.0))}
    own, ratios = {}, {}
    for r in range(a.rounds + 1):
        for name, (objective, attack) in todo.items():
            kind = "HE" if name == "HE" else "linear"
            net = nets[kind].train()
            # the first round warms up
            if not r:
                own[name] = passes(net, objective, attack, x, y)
                continue
            mine, same = (
                partial(step, net, objective, attack, x, y),
                partial(bare, net, x, y, *own[name]),
            )
            # there and back: a machine's drift falls on both alike
            one, two, three, four = clock(mine), clock(same), clock(same), clock(mine)
            ratios.setdefault(name, []).append((one + four) / (two + three))
    print(
        f"{'':14}{'no graph':>9}{'pixels':>8}{'weights':>9}{'both':>6}{'cost / own passes':>19}{'quartiles':>15}"  # noqa: E501
    )
    for name in ratios:
        print(
            f"{name:14}{own[name][0]:9}{own[name][1]:8}{own[name][2]:9}{own[name][3]:6}{median(ratios[name]):19.3f}{'{:.3f} {:.3f}'.format(*quantiles(ratios[name], n=4)[::2]):>15}",  # noqa: E501
            flush=True,
        )
    print("\nfinite after 3 steps")
    for name, (objective, attack) in todo.items():
        finite = []
        for precision in PRECISIONS:
            net = copy.deepcopy(nets["HE" if name == "HE" else "linear"])
            f = fast(net, precision)
            opt = torch.optim.SGD(net.parameters(), 0.1)
            for _ in range(3):
                opt.zero_grad()
                loss = step(f, objective, attack, x[:16], y[:16])
                opt.step()
            finite.append(
                f"{precision}"
                f" {'yes' if loss.isfinite() and all(w.isfinite().all() for w in net.parameters()) else 'NO'}"  # noqa: E501
            )
        print(f"{name:14}{', '.join(finite)}", flush=True)


if __name__ == "__main__":
    main()
