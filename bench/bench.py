"""What the engine costs: PGD-10 against the bare loop and against other libraries, all in one run

A PreActResNet-18 of width 16, batches of 64 images of 32x32. Contenders take turns; the figure is
the median of the ratios to the bare loop of the same round, so a machine that slows down slows all
of them. Every attack is judged in float32.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from torch.nn import functional as F

from spat_nb.attacks.ascent import at_x
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import Linf
from spat_nb.core.precision import fast
from spat_nb.core.settings import default_device
from spat_nb.core.threads import use_threads
from spat_nb.data.sources import get_data
from spat_nb.models.networks import PreActResNet18
from spat_nb.models.saving import load
from spat_nb.training.objectives import pgd_at

STEPS, BATCH = 10, 64


def bare(eps):
    "Ten forward and input-gradient passes and the two clamps: nothing can do PGD-10 for less"

    def attack(model, x, y):
        x_adv = x
        for _ in range(STEPS):
            x_adv = x_adv.detach().requires_grad_()
            g = torch.autograd.grad(F.cross_entropy(model(x_adv), y, reduction="sum"), x_adv)[0]
            x_adv = (x + (x_adv.detach() + eps / 4 * g.sign() - x).clamp(-eps, eps)).clamp(0, 1)
        return x_adv

    return attack


def library(name, eps):
    "An attack of another library as attack(model, x, y), or None with a printed reason"
    try:
        if name == "torchattacks":
            import torchattacks

            return lambda m, x, y: torchattacks.PGD(
                m, eps=eps, alpha=eps / 4, steps=STEPS, random_start=False
            )(x, y)
        import foolbox

        return lambda m, x, y: foolbox.attacks.LinfPGD(
            abs_stepsize=eps / 4, steps=STEPS, random_start=False
        )(foolbox.PyTorchModel(m, bounds=(0, 1), device=x.device), x, y, epsilons=eps)[1]
    except ImportError as e:
        print(f"{name} is left out: {e}")


def network(weights, n, device):
    """The network, `n` images and eps: given weights on CIFAR-10, or PGD-AT for half a minute on
    digits blown up to 32x32
    """
    if weights:
        x, y = get_data("cifar10", device=device).test.subset(n).tensors()
        return load(weights).to(device), x, y, 8 / 255
    d = get_data("digits", device=device, batch_size=BATCH)

    def grow(x):
        return F.interpolate(x, 32, mode="nearest").expand(-1, 3, -1, -1).contiguous()

    # digits stand more than photographs
    eps = 48 / 255
    torch.manual_seed(0)
    model = PreActResNet18(classes=10, width=16).to(device)
    opt = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for epoch in range(4):
        for x, y in d.train.epoch(epoch):
            model.train()
            loss = pgd_at(fast(model, "bfloat16"), grow(x), y, pgd(Linf(eps), 2))
            opt.zero_grad()
            loss.backward()
            opt.step()
    x, y = (t[torch.arange(n) % d.test.n] for t in d.test.tensors())
    return model.eval(), grow(x), y, eps


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--rounds", type=int, default=9, help="each contender once per round")
    p.add_argument(
        "--weights",
        help="weights of a CIFAR-10 network of width 16 (default: a digits network made here)",
    )
    p.add_argument("--device")
    p.add_argument(
        "--compile", action="store_true", help="also compiled: needs a C++ compiler, or a GPU"
    )
    a = p.parse_args(argv)
    device = default_device(a.device)
    threads = use_threads()
    trained, x, y, eps = network(a.weights, a.rounds * BATCH, device)

    # one each: channels-last changes how the weights lie in memory
    def fresh():
        return copy.deepcopy(trained).to(memory_format=torch.contiguous_format)

    engine = pgd(Linf(eps), STEPS, eps / 4, start=at_x)
    runs = {
        "bare loop": (fresh(), bare(eps)),
        "engine": (fresh(), engine),
        "engine, channels_last": (fast(fresh(), "channels_last"), engine),
        "engine, bfloat16": (fast(fresh(), "bfloat16"), engine),
    }
    if a.compile:
        runs |= {
            f"engine, {k}, compiled": (fast(fresh(), k, compile=True), engine)
            for k in ("channels_last", "bfloat16")
        }
    runs |= {n: (fresh(), f) for n in ("torchattacks", "foolbox") if (f := library(n, eps))}
    times, right, judge = {n: [] for n in runs}, dict.fromkeys(runs, 0), fresh()
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    answers = torch.no_grad()(lambda x, y: (judge(x).argmax(1) == y).sum().item())
    batches = list(zip(x.split(BATCH), y.split(BATCH)))
    for r, (xb, yb) in enumerate(batches[:1] + batches):  # the first round warms up
        for n, (m, attack) in runs.items():
            sync()
            t = time.perf_counter()
            x_adv = attack(m, xb, yb)
            sync()
            t = time.perf_counter() - t
            if r:
                times[n].append(t)
                right[n] += answers(x_adv, yb)
    clean = sum(answers(*b) for b in batches) / len(y)
    print(
        f"PGD-{STEPS}, eps {eps * 255:.0f}/255, PreActResNet-18 of width 16, batch {BATCH},"
        f" {device}, {threads} threads, torch {torch.__version__}, {a.rounds} rounds; {len(y)}"
        f" attacked images, clean accuracy {clean:.3f}"
    )
    print(
        f"{'':32}{'seconds':>9}{'ratio to bare loop':>21}{'(lowest, highest)':>20}{'robust accuracy, judged in float32':>37}"  # noqa: E501
    )
    for n, t in times.items():
        q = [b / a_ for b, a_ in zip(t, times["bare loop"])]
        print(
            f"{n:32}{statistics.median(t):9.3f}{statistics.median(q):21.3f}{f'({min(q):.2f}, {max(q):.2f})':>20}{right[n] / len(y):37.3f}"  # noqa: E501
        )


if __name__ == "__main__":
    main()
