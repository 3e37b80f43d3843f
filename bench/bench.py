"""What the engine costs: PGD-10 against the bare loop and against other libraries, all in one run

A PreActResNet-18 of width 16, batches of 64 images of 32x32. Contenders take turns; the figure is the median of the ratios
to the bare loop of the same round, so a machine that slows down slows all of them. Every attack is judged in float32.
"""
from __future__ import annotations
import argparse, copy, statistics, time
import torch
from torch.nn import functional as F
from spat_nb.attack import at_x, pgd
from spat_nb.balls import Linf
from spat_nb.core import default_device, fast, use_threads
from spat_nb.data import get_data
from spat_nb.models import PreActResNet18, load
from spat_nb.objectives import pgd_at

EPS, STEPS, LR, BATCH = 8/255, 10, 2/255, 64


def bare(model, x, y):
    "Ten forward and input-gradient passes and the two clamps: nothing can do PGD-10 for less"
    x_adv = x
    for _ in range(STEPS):
        x_adv = x_adv.detach().requires_grad_()
        g = torch.autograd.grad(F.cross_entropy(model(x_adv), y, reduction='sum'), x_adv)[0]
        x_adv = (x + (x_adv.detach() + LR*g.sign() - x).clamp(-EPS, EPS)).clamp(0, 1)
    return x_adv

def library(name):
    "An attack of another library as attack(model, x, y), or None with a printed reason"
    try:
        if name == 'torchattacks':
            import torchattacks
            return lambda m, x, y: torchattacks.PGD(m, eps=EPS, alpha=LR, steps=STEPS, random_start=False)(x, y)
        import foolbox
        return lambda m, x, y: foolbox.attacks.LinfPGD(abs_stepsize=LR, steps=STEPS, random_start=False)(
            foolbox.PyTorchModel(m, bounds=(0, 1), device=x.device), x, y, epsilons=EPS)[1]
    except ImportError as e: print(f"{name} is left out: {e}")

def network(weights, device):
    "The network and a batch: given weights on CIFAR-10, or PGD-AT for half a minute on digits blown up to 32x32"
    if weights:
        x, y = get_data('cifar10', device=device).test.subset(BATCH).tensors()
        return load(weights).to(device), x, y
    d = get_data('digits', device=device, batch_size=BATCH)
    grow = lambda x: F.interpolate(x, 32, mode='nearest').expand(-1, 3, -1, -1).contiguous()
    torch.manual_seed(0)
    model = PreActResNet18(classes=10, width=16).to(device)
    opt = torch.optim.SGD(model.parameters(), .05, momentum=.9)
    for epoch in range(4):
        for x, y in d.train.epoch(epoch):
            model.train()
            loss = pgd_at(fast(model, 'bfloat16'), grow(x), y, pgd(Linf(EPS), 2))
            opt.zero_grad(); loss.backward(); opt.step()
    x, y = d.test.subset(BATCH).tensors()
    return model.to(memory_format=torch.contiguous_format).eval(), grow(x), y

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--rounds', type=int, default=7, help='each contender once per round')
    p.add_argument('--weights', help='weights of a CIFAR-10 network of width 16 (default: a digits network made here)')
    p.add_argument('--device')
    p.add_argument('--compile', action='store_true', help='also torch.compile (pays on GPUs)')
    a = p.parse_args(argv)
    device = default_device(a.device)
    threads = use_threads()
    trained, x, y = network(a.weights, device)
    fresh = lambda: copy.deepcopy(trained)                        # one each: channels-last changes how the weights lie in memory
    engine = pgd(Linf(EPS), STEPS, LR, start=at_x)
    runs = {'bare loop': (fresh(), bare), 'engine': (fresh(), engine),
            'engine, channels_last': (fast(fresh(), 'channels_last'), engine), 'engine, bfloat16': (fast(fresh(), 'bfloat16'), engine)}
    if a.compile: runs['engine, bfloat16, compiled'] = (fast(fresh(), 'bfloat16', compile=True), engine)
    runs |= {n: (fresh(), f) for n in ('torchattacks', 'foolbox') if (f := library(n))}
    times, judge = {n: [] for n in runs}, fresh()
    sync = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
    robust = {}
    for r in range(a.rounds+1):                                   # the first round warms up
        for n, (m, attack) in runs.items():
            sync(); t = time.perf_counter()
            x_adv = attack(m, x, y)
            sync(); t = time.perf_counter()-t
            if r: times[n].append(t)
            else:
                with torch.no_grad(): robust[n] = (judge(x_adv).argmax(1) == y).double().mean().item()
    clean = (judge(x).argmax(1) == y).double().mean().item()
    print(f"PGD-{STEPS}, eps 8/255, PreActResNet-18 of width 16, batch {BATCH}, {device}, {threads} threads, torch {torch.__version__}, {a.rounds} rounds; clean accuracy {clean:.3f}")
    print(f"{'':28}{'seconds':>9}{'ratio to bare loop':>21}{'(lowest, highest)':>20}{'robust accuracy, judged in float32':>37}")
    for n, t in times.items():
        q = [b/a_ for b, a_ in zip(t, times['bare loop'])]
        print(f"{n:28}{statistics.median(t):9.3f}{statistics.median(q):21.3f}{f'({min(q):.2f}, {max(q):.2f})':>20}{robust[n]:37.3f}")

if __name__ == '__main__': main()
