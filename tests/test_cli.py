"The console command, as a user calls it: a run that is killed and goes on, its files, its errors, the tour"
import json, re, signal, subprocess, sys, time
import pytest, torch
from spat_nb.cli import main
from spat_nb.data import get_data
from spat_nb.evaluate import Record, evaluate
from spat_nb.files import load_tree
from spat_nb.models import load

RUN = ['train', '--data', 'digits', '--epochs', '5', '--steps', '3', '--n', '600', '--every', '0', '--device', 'cpu']

def command(*args, **kw): return subprocess.Popen([sys.executable, '-m', 'spat_nb.cli', *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
def result(folder):
    "The results without what may differ between two runs: times"
    r = json.loads((folder/'result.json').read_text())
    return {k: v for k,v in r.items() if k != 'seconds'}

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that nobody disturbed"
    out = tmp_path_factory.mktemp('run')/'whole'
    p = command(*RUN, '--out', str(out)); text = p.communicate()[0]
    assert p.returncode == 0, text
    return out,text

def test_train_writes_and_says_what_it_did(whole):
    out,text = whole
    assert {'weights.safetensors', 'result.json', 'record.json', 'curves.png'} == {p.name for p in out.iterdir()}
    r,rec = result(out),Record.load(out/'record.json')
    assert (out/'curves.png').read_bytes()[:4] == b'\x89PNG'
    assert r['config']['data'] == 'digits' and r['torch'] == torch.__version__ and len(r['history']) == 5
    assert re.search(rf"pgd20 +accuracy {rec.accuracy('pgd20'):.2%} +\(95% interval {rec.interval('pgd20')[0]:.2%} to", text), text
    assert rec.accuracy('clean') > .5 and rec.accuracy('pgd20') <= rec.accuracy('clean')
    test = get_data('digits', device='cpu', n=600).test                                # the file holds the network that was measured
    again = evaluate(load(out/'weights.safetensors'), test, precision='float32', progress=False)
    assert torch.equal(again.preds['clean'], rec.preds['clean'])

def test_killed_runs_end_with_the_same_numbers(whole, tmp_path):
    out,_ = whole
    mine = tmp_path/'killed'
    for wait in (.05, .4, .9):                                                         # seconds after the first checkpoint
        p = command(*RUN, '--out', str(mine))
        deadline = time.monotonic()+60
        while not (mine/'checkpoint.safetensors').exists() and p.poll() is None and time.monotonic() < deadline: time.sleep(.01)
        time.sleep(wait)
        if p.poll() is None: p.send_signal(signal.SIGKILL)
        p.communicate()
        if (mine/'checkpoint.safetensors').exists(): load_tree(mine/'checkpoint.safetensors')     # never half a file
    p = command(*RUN, '--out', str(mine)); text = p.communicate()[0]
    assert p.returncode == 0, text
    assert result(mine) == result(out)
    assert Record.load(mine/'record.json').preds.keys() == Record.load(out/'record.json').preds.keys()
    a,b = (load_tree(o/'weights.safetensors')['weights'] for o in (mine, out))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def test_a_finished_run_is_not_trained_again(whole, capsys):
    out,_ = whole
    before = (out/'weights.safetensors').stat().st_mtime_ns
    assert main([*RUN, '--out', str(out)]) == 0
    assert 'finished before' in capsys.readouterr().out and (out/'weights.safetensors').stat().st_mtime_ns == before

def test_evaluate_gives_the_numbers_of_the_run(whole, tmp_path, capsys):
    out,_ = whole
    assert main(['evaluate', str(out/'weights.safetensors'), '--out', str(tmp_path/'r.json'), '--device', 'cpu', '--precision', 'float32', '--n-test', '100']) == 0
    assert 'pgd20' in capsys.readouterr().out
    assert len(Record.load(tmp_path/'r.json').y) == 100

def test_evaluate_with_the_strongest_attack_and_the_card(whole, tmp_path, capsys, monkeypatch):
    args = ['evaluate', str(whole[0]/'weights.safetensors'), '--device', 'cpu', '--precision', 'float32', '--n-test', '10', '--aa', '--resume', str(tmp_path/'journal.json')]
    assert main([*args, '--trust']) == 0
    first = capsys.readouterr().out
    assert 'aa/square' in first and 'Is this number real?' in first and 'G9 stronger' in first
    def computes(*a, **kw): raise AssertionError("a finished run is read back, not computed again")
    monkeypatch.setattr(torch.autograd, 'grad', computes)
    assert main(args) == 0
    assert capsys.readouterr().out.strip() == first.split('Is this number real?')[0].strip()

def test_diagnose_writes_a_page(whole, tmp_path, capsys):
    assert main(['diagnose', str(whole[0]/'weights.safetensors'), '--device', 'cpu', '--precision', 'float32', '--n-test', '30', '--out', str(tmp_path/'d.html'), '--taus', '30', '--record', str(tmp_path/'r.json')]) == 0
    r = Record.load(tmp_path/'r.json')
    assert len(r.y) == 30 and {'pgd20', 't_pgd 100', 'aa 100'} <= {*r.attacks} and len(r.info['taus']) == 10 and f"{r.info['tau']:g}" in r.info['taus']
    assert 'taken for' in capsys.readouterr().out and (tmp_path/'d.html').read_text().count('data:image/png;base64,') == 3

@pytest.mark.parametrize('args,says', [(['train', '--data', 'digitz'], "digitz.*digits"), (['evaluate', 'none.safetensors'], 'none.safetensors'), (['train', '--device', 'cuda:77'], 'cuda:77'),
                                       (['train', '--precision', 'float8'], 'float8.*bfloat16')])
def test_errors_are_one_sentence(args, says, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('SPAT_NB_RESULTS', str(tmp_path))
    assert main(args) == 1
    err = capsys.readouterr().err
    assert re.search(says, err) and err.count('\n') == 1

def test_real_cifar10(tmp_path, capsys):
    "The paper tier's command, on a few hundred of the real images"
    try: get_data('cifar10', device='cpu', n=10)
    except FileNotFoundError as e: pytest.skip(f"no real cifar10: {e}")
    args = ['train', '--data', 'cifar10', '--objective', 'trades', '--model', 'preact18', '--width', '8', '--epochs', '1', '--steps', '2', '--n', '512', '--valid', '100', '--n-test', '200']
    assert main([*args, '--precision', 'channels_last', '--device', 'cpu', '--out', str(tmp_path/'run')]) == 0
    assert 'airplane' in capsys.readouterr().out
    r = result(tmp_path/'run')
    assert r['config']['precision'] == 'channels_last' and r['table'][0]['n'] == 200 and len(r['history']) == 2

def test_tour(tmp_path, capsys):
    assert main(['tour', '--out', str(tmp_path/'tour.html')]) == 0
    page,said = (tmp_path/'tour.html').read_text(),capsys.readouterr().out
    assert all(w in said for w in ('clean', 'FGSM', 'PGD-20', 'weakest class', 'standard', 'PGD-AT'))
    assert page.count('data:image/png;base64,') == 3 and 'http' not in re.sub(r'data:image/png;base64,[^"]*', '', page)
    std,rob = (_pgd(said, n) for n in ('standard', 'PGD-AT'))
    assert rob > std+20                                                                # points of PGD-20 accuracy: what the tour is there to show

def _pgd(said, name):
    row = next(l for l in said.splitlines() if l.startswith(name))
    return float(re.findall(r'([\d.]+)%  \[', row)[2])

def test_a_reader_who_goes_away_is_no_fault():
    "spat_nb study list | head -1"
    p = subprocess.Popen([sys.executable, '-m', 'spat_nb.cli', 'study', 'list'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.close()
    assert p.stderr.read() == '' and p.wait() == 141

def test_weights_of_a_study_say_what_they_are_measured_by(tmp_path, capsys):
    from spat_nb.models import SmallCNN, save
    save(SmallCNN(width=4), tmp_path/'w.safetensors', data='digits', eps=.15, study='s', arm='a', seed=0)
    assert main(['evaluate', str(tmp_path/'w.safetensors'), '--device', 'cpu', '--precision', 'float32', '--n-test', '20']) == 0
    assert '20' in capsys.readouterr().out
    save(SmallCNN(width=4), tmp_path/'v.safetensors')
    assert main(['evaluate', str(tmp_path/'v.safetensors'), '--device', 'cpu']) == 1 and 'give --data and --eps' in capsys.readouterr().err

def test_two_records_are_compared_image_by_image(tmp_path, capsys):
    y, right = torch.arange(200) % 10, lambda n: torch.where(torch.arange(200) < n, torch.arange(200) % 10, (torch.arange(200)+1) % 10)
    a, b = (Record(y, dict(clean=right(190), pgd20=right(n)), tuple('0123456789')) for n in (162, 150))
    for r, k in ((a, 'a'), (b, 'b')): r.save(tmp_path/f'{k}.json')
    assert main(['compare', str(tmp_path/'a.json'), str(tmp_path/'b.json')]) == 0
    out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'clean +200 +95\.0 +95\.0 +\+0\.0 \[-1\.0, \+1\.0\] +not told apart', out[1]) and re.fullmatch(r'pgd20 +200 +81\.0 +75\.0 +\+6\.0 \[\+2\.\d, \+9\.\d\]', out[2])
    assert main(['compare', str(tmp_path/'a.json'), str(tmp_path/'b.json'), '--classes', 'pgd20']) == 0
    assert re.fullmatch(r'0 +20 +85\.0 +75\.0 +\+10\.0 \[.*not told apart', capsys.readouterr().out.splitlines()[1])
    assert main(['compare', str(tmp_path/'a.json'), str(tmp_path/'b.json'), '--classes', 'aa']) == 1 and "'aa' gives no answers" in capsys.readouterr().err
    Record(y.flip(0), b.preds, b.classes).save(tmp_path/'c.json')
    assert main(['compare', str(tmp_path/'a.json'), str(tmp_path/'c.json')]) == 1 and 'on the same images' in capsys.readouterr().err
