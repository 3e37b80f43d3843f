"Each kind of bad input gives one sentence that names the value and the mend"
import pickle, re
import pytest, torch
from torch import nn
from spat_nb.attack import Attack, pgd
from spat_nb.balls import L1, L2, Linf
from spat_nb.core import settings
from spat_nb.data import get_data
from spat_nb.evaluate import Record, evaluate
from spat_nb.files import load_tree
from spat_nb.learner import Checkpoint, Learner
from spat_nb.models import SmallCNN, load, save
from spat_nb.objectives import pgd_at

X,Y = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)),torch.tensor([0, 1, 2, 9])
net = lambda *more: nn.Sequential(nn.Flatten(), nn.Linear(64, 10), *more)
attack,NET = pgd(Linf(.1), 2),net()

class Returns(nn.Module):
    def __init__(self, f): super().__init__(); self.f = f
    def forward(self, x): return self.f(x)

def nan(x): x = x.clone(); x[1, 0, 2, 3] = float('nan'); return x
def file(tmp_path, content): p = tmp_path/'w.safetensors'; p.write_bytes(content); return p
def whole(tmp_path): p = tmp_path/'w.safetensors'; save(SmallCNN(classes=10, channels=1), p); return p
def cut(tmp_path): p = whole(tmp_path); p.write_bytes(p.read_bytes()[:-100]); return p
def torch_file(tmp_path): p = tmp_path/'w.pt'; torch.save(net().state_dict(), p); return p
def ini(tmp_path, text): (tmp_path/'settings.ini').write_text('[spat_nb]\n'+text); return tmp_path
def resume(path):
    d = get_data('digits', device='cpu', n=64)
    return Learner(SmallCNN(classes=10, channels=1), d.train, pgd_at, attack, epochs=1, callbacks=[Checkpoint(path)]).fit()

# what is done, its error, and what the sentence must say: the value, then the mend
CASES = {
    'bytes as floats':     (lambda t: attack(net(), X*255, Y), ValueError, r'2[0-5]\d.*divide by 255'),
    'normalised':          (lambda t: attack(net(), (X-.5)/.25, Y), ValueError, r'-\d.*first layer'),
    'NaN':                 (lambda t: attack(net(), nan(X), Y), ValueError, 'NaN.*clean the images'),
    'infinity':            (lambda t: attack(net(), X/0, Y), ValueError, 'inf.*clean the images'),
    'integer images':      (lambda t: attack(net(), (X*255).byte(), Y), TypeError, r'uint8.*x\.float\(\)/255'),
    'no tensor':           (lambda t: attack(net(), X.numpy(), Y), TypeError, 'ndarray.*torch tensor'),
    'one pixel row':       (lambda t: attack(net(), X[0, 0, 0], Y), ValueError, r'\(8,\).*x\[None\]'),
    'too few labels':      (lambda t: attack(net(), X, Y[:2]), ValueError, '4 images but 2 labels.*one label per image'),
    'label too high':      (lambda t: attack(net(), X, Y+1), ValueError, 'label 10.*0 to 9'),
    'negative label':      (lambda t: attack(net(), X, Y-1), ValueError, 'label -1.*0 to'),
    'float labels':        (lambda t: attack(net(), X, Y.float()), TypeError, r'float32.*y\.long\(\)'),
    'target of other size': (lambda t: attack(net(), X, torch.full((4, 7), 1/7)), ValueError, '7 probabilities.*10 classes'),
    'probabilities':       (lambda t: attack(net(nn.Softmax(1)), X, Y), ValueError, 'probabilities.*leave out its last softmax'),
    'probabilities, evaluate': (lambda t: evaluate(net(nn.Softmax(1)), (X, Y)), ValueError, 'probabilities.*leave out its last softmax'),
    'wrong number of classes': (lambda t: evaluate(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), get_data('digits', device='cpu', n=50).test), ValueError, '7 classes.*10.*classes=10'),
    'feature map returned': (lambda t: attack(Returns(lambda x: x), X, Y), ValueError, r'\(4, 1, 8, 8\).*logits \(4,c\)'),
    'tuple returned':      (lambda t: attack(Returns(lambda x: (x, x)), X, Y), TypeError, 'tuple.*must return logits'),
    'no gradient':         (lambda t: attack(Returns(lambda x: net()(x.round().detach())), X, Y), ValueError, 'no gradient flows.*without gradients'),
    'another device':      (lambda t: attack(net().to('meta'), X, Y), ValueError, r"cpu.*meta.*x\.to\('meta'\)"),
    'eps negative':        (lambda t: Linf(-.1), ValueError, r'eps is -0\.1.*>= 0'),
    'eps NaN':             (lambda t: L2(float('nan')), ValueError, 'eps is nan.*finite'),
    'box upside down':     (lambda t: L1(1., lo=1., hi=0.), ValueError, r'\[1\.0,0\.0\].*below'),
    'eps for a ball':      (lambda t: pgd(8/255), TypeError, r'0\.03.*Linf\(8/255\)'),
    'steps negative':      (lambda t: pgd(Linf(.1), -3), ValueError, 'steps is -3.*>= 0'),
    'no restarts':         (lambda t: Attack(Linf(.1), restarts=0), ValueError, 'restarts is 0.*restarts=1'),
    'no passes':           (lambda t: Attack(Linf(.1), eot=0), ValueError, 'eot is 0.*eot=1'),
    'attack leaves its ball': (lambda t: evaluate(NET, (X, NET(X).argmax(1)), bad=type('Bad', (Attack,), {'__call__': lambda s, m, x, y: 1-x})(Linf(.01))), ValueError, r"bad.*left its ball.*0\.01"),
    'unknown data set':    (lambda t: get_data('cifar11'), ValueError, "cifar11.*cifar10"),
    'missing data':        (lambda t: get_data('svhn', root=t), FileNotFoundError, 'svhn.*spat_nb data svhn'),
    'unknown setting':     (lambda t: settings(ini(t, 'devise = cpu')), ValueError, "devise.*device"),
    'bad setting':         (lambda t: settings(ini(t, 'precision = float16')), ValueError, 'float16.*bfloat16'),
    'threads in words':    (lambda t: settings(ini(t, 'threads = two')), ValueError, 'two.*whole number'),
    'weights cut short':   (lambda t: load(cut(t)), ValueError, 'damaged or cut short.*write it again'),
    'empty weights':       (lambda t: load(file(t, b'')), ValueError, 'damaged or cut short.*write it again'),
    'pickle for weights':  (lambda t: load(torch_file(t)), ValueError, 'pickle.*safetensors'),
    'old pickle':          (lambda t: load(file(t, pickle.dumps({'w': 1}))), ValueError, 'pickle.*safetensors'),
    'missing weights':     (lambda t: load(t/'none.safetensors'), FileNotFoundError, 'none.safetensors.*check the path'),
    'checkpoint cut short': (lambda t: resume(cut(t)), ValueError, 'damaged or cut short.*delete it'),
    'pickle for checkpoint': (lambda t: resume(torch_file(t)), ValueError, 'pickle.*safetensors'),
    'weights for checkpoint': (lambda t: resume(whole(t)), ValueError, 'w.safetensors'),
    'another program\'s file': (lambda t: load_tree((__import__('safetensors.torch').torch.save_file({'a': X}, t/'a.safetensors'), t/'a.safetensors')[1]), ValueError, "spat_nb did not write"),
    'damaged record':      (lambda t: Record.load(file(t, b'{"y": [1')), ValueError, 'w.safetensors.*evaluate again'),
}

@pytest.mark.parametrize('case', CASES)
def test_bad_input(case, tmp_path):
    do,kind,says = CASES[case]
    with pytest.raises(kind) as e: do(tmp_path)
    text = str(e.value)
    assert re.search(says, text, flags=re.S), text
    assert '\n' not in text.strip() and len(text) < 400, f"one sentence: {text}"

def test_nothing_was_executed_from_a_pickle(tmp_path):
    p,flag = tmp_path/'w.safetensors',tmp_path/'boom'
    p.write_bytes(b'\x80\x04cposix\nsystem\n(S"touch ' + str(flag).encode() + b'"\ntR.')
    with pytest.raises(ValueError, match='pickle'): load(p)
    assert not flag.exists()
