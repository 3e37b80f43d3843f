"Temperature-PGD is PGD, CW and what lies between, whatever the scale of the logits; recipes for the weakest class keep what they promise for any number of classes"
import math
from dataclasses import replace
from types import SimpleNamespace
import pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional as F
from spat_nb.attack import at_x, gaussian, pgd, value_and_grad
from spat_nb.balls import L2, Linf
from spat_nb.data import Batches, get_data
from spat_nb.evaluate import evaluate
from spat_nb.learner import Checkpoint, Learner
from spat_nb.losses import ce, margin, tempered
from spat_nb.models import SmallCNN
from spat_nb.objectives import pgd_at, standard
from spat_nb.temperature import (CFA, CFATrades, CFOL, DAFA, FAWA, FRL, T1, WAT, biased, class_errors, dafa_weights, equal_budget, fit_bias,
                                 log_odds, m_tau, normalised, resized, rho, safe_ce, slopeless, temperature_pgd, zero_gradients)

slope = lambda loss, z, y: value_and_grad(lambda z: (loss(z, y),), z)[1]
class Scaled(nn.Module):
    def __init__(self, model, s): super().__init__(); self.model,self.s = model,s
    def forward(self, x): return self.s*self.model(x)

def toy(n=120, c=4, side=4, seed=0):
    "Noisy prototypes of `c` classes as bytes, the last class hard: it lies near the first"
    g = torch.Generator().manual_seed(seed)
    proto = torch.rand(c, 1, side, side, generator=g); proto[-1] = .7*proto[0]+.3*proto[-1]
    y = torch.arange(n) % c
    x = (proto[y] + .15*torch.randn(n, 1, side, side, generator=g)).clamp(0, 1)
    return Batches((x*255).round().byte(), y, tuple('abcdefgh'[:c]), 30, True)

def linear(data, seed=0):
    torch.manual_seed(seed)
    m = nn.Sequential(); m.add_module('flat', nn.Flatten()); m.add_module('head', nn.Linear(data.x[0].numel(), data.c))
    m.forward = lambda x: m.head(m.flat(x))
    return m

@settings(max_examples=30, deadline=None)
@given(c=st.integers(2, 12), tau=st.floats(1e-2, 1e2), size=st.floats(.01, 30), seed=st.integers(0, 99))
def test_algebra(c, tau, size, seed):
    "CE = softplus(tau M); the slope of M is w - e_y, of length 1 at the label whatever tau is; M rises with tau up to the margin plus log(c-1)/tau"
    g = torch.Generator().manual_seed(seed)
    z,y = size*torch.randn(9, c, dtype=torch.float64, generator=g),torch.randint(c, (9,), generator=g)
    M = m_tau(tau)(z, y)
    torch.testing.assert_close(F.softplus(tau*M, threshold=40), ce(tau*z, y), atol=1e-11, rtol=1e-9)
    d = slope(m_tau(tau), z, y); e = F.one_hot(y, c).double()
    torch.testing.assert_close(d, (tau*z).masked_fill(e > 0, -math.inf).softmax(1) - e, atol=1e-12, rtol=0)          # rounding of tau z, up to 3000
    assert ((M - margin(z, y)) >= -1e-9).all() and (M - margin(z, y) <= math.log(max(c-1, 1))/tau + 1e-9).all()

@settings(max_examples=40, deadline=None)
@given(c=st.integers(2, 8), lead=st.floats(0, 1000), seed=st.integers(0, 99))
def test_the_safe_loss_always_has_its_slope(c, lead, seed):
    z = torch.randn(5, c, generator=torch.Generator().manual_seed(seed)); z[:,0] = z.amax(1)+lead; y = torch.zeros(5, dtype=torch.long)
    assert not torch.stack(slopeless(safe_ce, z, y)).any() and not torch.stack(slopeless(m_tau(50.), z, y)).any()
    u = log_odds(z, y)
    assert torch.equal(safe_ce(z, y)[u > -11], ce(z, y)[u > -11])
    hi = safe_ce(z + .5*F.one_hot(torch.ones_like(y), c), y)          # a rival rises, so does the loss
    assert (hi >= safe_ce(z, y)).all()

def test_numbers_of_the_specification():
    z,y = torch.tensor([[120., 0., -3.]]),torch.tensor([0])
    assert torch.equal(slope(m_tau(100.), z, y), torch.tensor([[-1., 1., 0.]])) and not slope(tempered(ce, 100.), z, y).any()
    two = lambda lead: slopeless(ce, torch.tensor([[lead, 0.]]), y)
    assert not two(16.5)[0] and two(16.7)[0] and not two(16.7)[1] and not two(103.)[1] and two(105.)[1]
    assert (m_tau(1e4)(z.double(), y) - margin(z.double(), y)).abs() < 1e-9

@pytest.fixture(scope='module')
def nets():
    "A sure network and a PGD-AT one on digits"
    data = get_data('digits', device='cpu', batch_size=64)
    def fit(objective, attack=None, epochs=5):
        torch.manual_seed(0)
        return Learner(SmallCNN(width=8), data.train, objective, attack, epochs, lr=.1, precision='float32').fit().model.eval()
    return data,fit(standard),fit(pgd_at, pgd(Linf(.15), 3))

def test_tau_one_is_pgd_and_a_scale_is_nothing(nets):
    data,*models = nets; x,y = (t[:100] for t in data.test.tensors())
    go = lambda a, m: replace(a, generator=torch.Generator().manual_seed(1))(m, x, y)
    for m in models:
        for ball in (Linf(.15), L2(1.)):
            assert torch.equal(go(temperature_pgd(ball, 1., 8), m), go(pgd(ball, 8), m))
            for s,tau in ((2., 1.), (.125, 3.)): assert torch.equal(go(temperature_pgd(ball, tau/s, 5), Scaled(m, s)), go(temperature_pgd(ball, tau, 5), m))
    off = (go(temperature_pgd(Linf(.15), 5/.05, 5), Scaled(m, .05)) - go(temperature_pgd(Linf(.15), 5., 5), m)).abs()
    assert (off > 1e-6).double().mean() < 1e-3

def test_a_scale_that_means_nothing_moves_pgd(nets):
    "That the minimum over tau stays is shown in the notebook, on a PGD-AT network"
    data,sure,_ = nets; ball = Linf(.15); few = data.test.subset(200)
    seen = {s: evaluate(Scaled(sure, s).eval(), few, precision='float32', progress=False, pgd=pgd(ball, 20)).accuracy('pgd') for s in (1., .05, 50.)}
    assert seen[50.] > seen[1.]+.3 and seen[.05] > seen[1.]+.02 and zero_gradients(pgd(ball, 20), Scaled(sure, 50.).eval(), *few.tensors()) > .5

def test_mixed_radii_are_what_each_image_gets_alone(nets):
    data,_,m = nets; x,y = (t[:12] for t in data.test.tensors()); v = torch.linspace(0, 2, 12)
    x_adv = resized(pgd(Linf(.1), 4, start=at_x), v)(m, x, y)
    alone = torch.cat([pgd(Linf(.1*s), 4, start=at_x)(m, x[i:i+1], y[i:i+1]) for i,s in enumerate(v.tolist())])
    assert (x_adv-alone).abs().max() < 1e-6 and torch.equal(x_adv[0], x[0])
    assert ((resized(pgd(Linf(.1), 4), v)(m, x, y)-x).flatten(1).abs().amax(1) <= .1*v+1e-6).all()
    with pytest.raises(TypeError, match='made for Linf'): resized(pgd(L2(1.)), v)

MAKE = {'t1': lambda t, v: T1(v), 'cfa': lambda t, v: CFA(t.c), 'cfa trades': lambda t, v: CFATrades(t.c), 'wat': lambda t, v: WAT(v), 'dafa': lambda t, v: DAFA(t.c, 2, .3), 'frl': lambda t, v: FRL(v), 'cfol': lambda t, v: CFOL(t, eta=.05)}

@pytest.mark.parametrize('name', MAKE)
@pytest.mark.parametrize('c', (3, 5))
def test_any_number_of_classes_and_a_killed_run(name, c, tmp_path):
    "Every recipe trains with K != 10, changes something about its classes, and a run that was killed ends bit for bit as the other"
    def run(epochs_now, path):
        train,valid = toy(c=c),toy(60, c, seed=1)
        m = MAKE[name](train, valid); model = linear(train)
        class Cut(FAWA):
            order = 2
            def __init__(self): super().__init__(start=99)
            def after_epoch(self, l): l.stop = l.epoch >= epochs_now
        l = Learner(model, m if name == 'cfol' else train, m, pgd(Linf(.1), 2, start=gaussian()), 4, lr=.1, callbacks=[m, Checkpoint(path, every=1e9), Cut()], precision='float32')
        if path.exists(): l.callbacks[-1].after_epoch = lambda l: None
        return l.fit(),m
    whole,a = run(4, tmp_path/'a.safetensors')
    assert all(math.isfinite(r['loss']) for r in whole.history)
    memory = torch.cat([t.flatten() for t in a.state().values()]).double()
    assert memory.isfinite().all() and memory.std() > 0
    first,_ = run(2, tmp_path/'b.safetensors'); assert first.epoch == 2
    second,b = run(4, tmp_path/'b.safetensors')
    assert all(torch.equal(p, q) for p,q in zip(whole.model.parameters(), second.model.parameters()))
    assert all(torch.equal(p, q) for p,q in zip(a.state().values(), b.state().values()))

@settings(max_examples=40, deadline=None)
@given(c=st.integers(2, 20), seed=st.integers(0, 99))
def test_weights_keep_their_promises(c, seed):
    g = torch.Generator().manual_seed(seed); valid = SimpleNamespace(c=c)
    S = (3*torch.rand(c, c, generator=g)).softmax(1)
    assert abs(dafa_weights(S, .1).sum().item()-c) < 1e-4
    frl = FRL(valid)
    for e in torch.rand(20, 2, c, generator=g): frl.update(e)
    assert (frl.w.sum(1)-1).abs().max() < 1e-5 and (frl.w > 0).all() and (frl.v >= .98).all() and (frl.v <= 3).all()
    cfol = CFOL(toy(60, min(c, 8))); cfol.w = 30*torch.randn(min(c, 8), generator=g)
    assert abs(cfol.q.sum().item()-1) < 1e-5 and (cfol.q >= .5/len(cfol.w)-1e-6).all()
    t1 = T1(valid)
    for R in torch.rand(20, c, generator=g): t1.update(R)
    assert (t1.tau >= .5).all() and (t1.tau <= 2).all()

def test_heads(nets):
    data,_,m = nets; x,y = data.valid.tensors(); kept = [p.clone() for p in m.parameters()]
    n = normalised(m, 1.).head.weight.norm(dim=1)
    torch.testing.assert_close(n, m.head.weight.norm(dim=1).mean().expand(10)); assert torch.equal(normalised(m, 0.)(x), m(x))
    a = pgd(Linf(.15), 4, loss=margin, start=at_x); b = fit_bias(m, data.valid, a, 4)
    s = [1-class_errors(k, data.valid, a).sum(0) for k in (m, biased(m, b))]
    assert s[1].mean()+s[1].min() >= s[0].mean()+s[0].min()            # 0 is among the biases
    assert all(torch.equal(p, q) for p,q in zip(kept, m.parameters()))

def test_bad_input():
    for f,words in ((lambda: temperature_pgd(Linf(.1), 0.), 'tau is 0.0'), (lambda: m_tau(math.inf), 'tau is inf'), (lambda: equal_budget(Linf(.1), 1., 19), 'at least 20'), (lambda: rho(.5, .1, 0., .1), 'divides by both'),
                    (lambda: log_odds(torch.zeros(2, 3), torch.full((2, 3), 1/3)), 'needs labels'), (lambda: FAWA().restore(None), 'nothing was averaged')):
        with pytest.raises(ValueError, match=words): f()
