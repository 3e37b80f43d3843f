"""The commands as a person types them: each runs on a few digits, in every ball, by every paper's
method; what they say first, what they refuse, and what their help shows
"""

import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spat_nb.app import commands, lab
from spat_nb.app.cli import COMMANDS, build_parser, command, main
from spat_nb.app.typed import recipe_of
from spat_nb.core.files import load_tree, save_tree
from spat_nb.data.sources import get_data
from spat_nb.measure.battery import STANDARD
from spat_nb.measure.report import Report
from spat_nb.training.methods import METHODS, changed, method
from spat_nb.training.recipe import Recipe
from spat_nb.training.rundir import open_run

FEW = "--n 60 --valid 20 --n-test 20 --batch 30 --epochs 1 --steps 1 --width 2 --device cpu".split()
HEAD = ["network", "data", "ball", "device"]


def run(line, *more):
    "Call a command; its status"
    return main([*shlex.split(line), *map(str, more)])


def trained(folder, *more, few=FEW):
    assert main(["train", *few, *more, "--out", str(folder)]) == 0
    return folder


def begins(said):
    "The first words of the first lines"
    return [line.split()[0] for line in said.splitlines()[: len(HEAD)]]


def refused(capsys, line, *more):
    "What is said where a command refuses: one sentence"
    status = run(line, *more)
    err = capsys.readouterr().err
    assert status == 1 and err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    "A run of few digits"
    return trained(tmp_path_factory.mktemp("plain") / "run")


# ---- help


def parser_of(name):
    "The parser of a command"
    parser = build_parser([name])
    return next(a.choices for a in parser._actions if isinstance(a.choices, dict))[name]


def test_every_module_is_a_command():
    assert {m.name for m in pkgutil.iter_modules(commands.__path__)} == {*COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as e:
        main([name, "--help"])
    said, example = capsys.readouterr().out, command(name).EXAMPLE
    assert e.value.code == 0 and f"Example: {example}" in said
    words = shlex.split(example)
    assert words[:2] == ["spat_nb", name]
    assert build_parser([name]).parse_args(words[1:]).command == name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_sentences(name):
    actions = [a for a in parser_of(name)._actions if a.dest != "help"]
    told = [a.help for a in actions if a.help != "==SUPPRESS=="]
    assert all(re.fullmatch(r"[A-Z].*\.", t, re.S) for t in [*told, COMMANDS[name]]), told


def test_a_flag_of_pictures_means_the_same_everywhere():
    "--size is pixels; studies have --scale, and know their old word"
    for name in ("train", "evaluate", "diagnose"):
        assert "224" in next(a.help for a in parser_of(name)._actions if a.dest == "size")
    for name in ("study", "zoo"):
        shown = [a for a in parser_of(name)._actions if a.help != "==SUPPRESS=="]
        assert "--size" not in [s for a in shown for s in a.option_strings]
    old = build_parser(["study"]).parse_args(["study", "table", "spat", "--size", "mini"])
    assert old.scale == "mini"


QUICK = """
import sys, time
from spat_nb.app.cli import main
try: main(["--help"])
except SystemExit: pass
print([m for m in sys.modules if m == "torch" or m.startswith("spat_nb.app.commands.")])
"""


def test_the_list_of_commands_imports_none():
    p = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True, check=True)
    assert p.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell, capsys):
    with pytest.raises(SystemExit) as e:
        main(["--print-completion", shell])
    said = capsys.readouterr().out
    assert not e.value.code and "--objective" in said and "diagnose" in said


def test_completion_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as e:
        main(["--print-completion", "bash"])
    err = capsys.readouterr().err
    assert e.value.code == 1 and "spat_nb[completion]" in err and err.count("\n") == 1


# ---- every method, every ball


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_is_judged(name, tmp_path, capsys):
    few = FEW if _is_pgd(name) else _without(FEW, "--steps")
    run_folder = trained(tmp_path / "run", "--method", name, few=few)
    said = capsys.readouterr().out
    assert begins(said) == HEAD and f"method   {name}: " in said
    recipe = open_run(run_folder).recipe
    for slot in ("objective", "callbacks", "replays", "best"):
        if slot in METHODS[name].fields:
            wanted = Recipe(**{slot: METHODS[name].fields[slot]})
            assert getattr(recipe, slot) == getattr(wanted, slot)
    # from its folder alone it stands again, with the numbers of its report
    assert run("evaluate --device cpu --out", tmp_path / "a.json", run_folder) == 0
    again = Report.load(tmp_path / "a.json").record
    first = Report.load(run_folder / "report.json").record
    assert all(torch.equal(again.preds[k], first.preds[k]) for k in first.preds)


def _is_pgd(name):
    return METHODS[name].fields.get("attack", "pgd").startswith("pgd")


def _without(words, flag):
    "The words without a flag and its value"
    at = words.index(flag)
    return words[:at] + words[at + 2 :]


BALLS = ["Linf(8/255)", "L2(.5)", "L1(6)"]
EVERYWHERE = "fgsm, pgd(steps=2), mim(steps=2), cw"
STRONG = "apgd(steps=4), square(queries=6), autoattack(steps=4, queries=6)"


@pytest.mark.parametrize("ball", BALLS)
def test_every_ball(ball, tmp_path, capsys):
    folder = trained(tmp_path / "run", "--ball", ball)
    spec = Recipe(ball=ball).ball
    assert f"ball     {spec}" in capsys.readouterr().out
    assert open_run(folder).recipe.ball == spec
    out = tmp_path / "a.json"
    attacks = EVERYWHERE if ball == "L1(6)" else f"{EVERYWHERE}, {STRONG}"
    assert run("evaluate --device cpu --attacks", attacks, folder, "--out", out) == 0
    said, report = capsys.readouterr().out, Report.load(out)
    assert begins(said) == HEAD and report.ball == spec
    assert {"fgsm", "pgd2", "mim2", "cw"} <= {*report.attacks} and "worst" in said
    assert ball == "L1(6)" or {"apgd4", "square"} <= {*report.attacks} and "/square" in said
    page = tmp_path / "d.html"
    assert run("diagnose --device cpu --n-test 20 --out", page, folder) == 0
    assert begins(capsys.readouterr().out) == HEAD and spec in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("ball", BALLS)
def test_a_network_is_judged_in_another_ball(ball, plain, tmp_path, capsys):
    out = tmp_path / "a.json"
    args = ["--ball", ball, "--out", out, "--attacks", "pgd(steps=2)"]
    assert run("evaluate --device cpu --n-test 20 --trust", plain, *args) == 0
    report, said = Report.load(out), capsys.readouterr().out
    assert report.ball == Recipe(ball=ball).ball and report.card is not None
    # one verdict: what says that a number may be too high is in it
    assert len(re.findall("^verdict: (no flag|flagged by)", said, re.M)) == 1
    assert said.count("no flag") == 0 or "masked" not in said
    assert run("evaluate --device cpu --n-test 20 --eps .01", plain, *args[:2]) == 0
    assert f"ball     {ball.split('(')[0]}(0.01)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spat", "hypersphere", "prototypes", "sparta"])
def test_fifty_steps_on_cifar10(name, tmp_path, capsys):
    try:
        get_data("cifar10", device="cpu", n=10)
    except FileNotFoundError as e:
        pytest.skip(f"no real cifar10: {e}")
    args = "--data cifar10 --n 400 --batch 8 --epochs 1 --valid 20 --n-test 20 --device cpu".split()
    args += ["--model", "PreActResNet10(width=2)", "--method", name]
    folder = trained(tmp_path / "run", *args, few=[])
    assert open_run(folder).steps == 50
    assert Report.load(folder / "report.json").record.accuracy("clean") >= 0


# ---- what is one's own

MINE = """
from torch import nn
from spat_nb.attacks.losses import ce

def squeezed(model, x, y, attack, beta=1.):
    return beta * ce(model(attack(model, x, y)), y).mean()

class net(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.layer = nn.Linear(channels * size * size, classes)
    def forward(self, x):
        return self.layer(x.flatten(1))

def weak(ball):
    return lambda model, x, y: x
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    "A file and arrays of one's own, in the working folder"
    (tmp_path / "mine.py").write_text(MINE)
    y = np.arange(60) % 3
    x = (np.zeros((60, 8, 8)) + 80 * y[:, None, None]).astype(np.uint8)
    arrays = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    np.savez(tmp_path / "my.npz", **arrays)
    monkeypatch.chdir(tmp_path)


def test_functions_and_arrays_of_ones_own(mine, tmp_path, capsys):
    args = "--objective mine.py:squeezed --model mine.py:net --data my.npz --beta 2".split()
    few = "--epochs 1 --batch 10 --valid 6 --device cpu".split()
    folder = trained(tmp_path / "run", *args, few=few)
    recipe = load_tree(folder / "weights.safetensors")["info"]["recipe"]
    assert recipe["objective"] == "mine.py:squeezed(beta=2.0)"
    assert Path(recipe["data"]).is_absolute()
    capsys.readouterr()
    # the file names a network that is not ours: it has to be typed, and the objective has not
    assert "--model file.py:name" in refused(capsys, "evaluate --device cpu", folder)
    judge = ["evaluate", "--device", "cpu", folder, "--model", "mine.py:net"]
    assert run("", *judge, "--attacks", "fgsm, mine.py:weak") == 0
    said = capsys.readouterr().out
    assert re.search(r"weak +20", said) and begins(said) == HEAD


def test_what_a_file_says_imports_nothing(plain, tmp_path, capsys):
    tree = load_tree(plain / "weights.safetensors")
    tree["info"]["recipe"]["ball"] = "os:system"
    bad = tmp_path / "w.safetensors"
    save_tree(bad, tree)
    assert "names only spat_nb's own" in refused(capsys, "evaluate --device cpu", bad)
    tree["info"]["recipe"]["ball"] = "Linf(0.1)"
    tree["info"]["recipe"]["model"] = "os:system"
    tree["model"]["act"] = None
    save_tree(bad, tree)
    assert "os:system; type it again" in refused(capsys, "evaluate --device cpu", bad)


@pytest.fixture
def pictures(tmp_path):
    "A folder of pictures, 12 pixels high and wide"
    for part in ("train", "val"):
        for k, name in enumerate("ab"):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            for i in range(6):
                pixels = np.full((12, 12, 3), 100 * k + i, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / part / name / f"{i}.png")
    return tmp_path / "pictures"


def test_folders_of_pictures_are_found_again(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = "--data imagefolder --root pictures --size 8 --model SmallCNN --width 2".split()
    few = "--epochs 1 --batch 6 --steps 1 --device cpu".split()
    folder = trained(tmp_path / "run", *args, few=few)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")  # the file says where they lie, from anywhere
    assert run("evaluate --device cpu", folder) == 0
    assert "12 images of 3x8x8, 2 classes" in capsys.readouterr().out
    pictures.rename(tmp_path / "moved")
    assert "pictures" in refused(capsys, "evaluate --device cpu", folder)
    for name in ("evaluate", "diagnose"):
        more = ["--root", tmp_path / "moved", "--size", 8]
        assert run(f"{name} --device cpu", folder, *more) == 0
        assert "12 images of 3x8x8" in capsys.readouterr().out


# ---- short words and old ones


@pytest.mark.parametrize(
    "typed,fields",
    [
        ("--model small --width 4", {"model": "SmallCNN(width=4)"}),
        ("--model wrn28 --width 2", {"model": "WideResNet(depth=28, widen=2)"}),
        ("--objective trades --beta 3", {"objective": "trades(beta=3.0)", "start": "gaussian()"}),
        ("--objective trades(beta=3)", {"objective": "trades(beta=3)"}),
        ("--method spat --eps 8/255", {"objective": "spat(a=0.1)", "ball": "Linf(8/255)"}),
        ("--ball L2(.5) --eps .25", {"ball": "L2(0.25)"}),
        ("--steps 3 --start at_x", {"attack": "pgd(steps=3, start=at_x)"}),
        (
            "--act Sparta --head Hypersphere(scale=15)",
            {"model": "SmallCNN(act=Sparta, head=Hypersphere(scale=15))"},
        ),
        ("--callbacks EMA,EarlyStop", {"callbacks": "EMA, EarlyStop"}),
        ("--data cifar10 --epochs 1", {"data": "cifar10", "epochs": 1}),
        ("--method free --replays 2", {"objective": "Free", "replays": 2}),
    ],
)
def test_words_set_slots(typed, fields):
    a = build_parser(["train"]).parse_args(["train", *shlex.split(typed)])
    assert recipe_of(a)[0] == changed(Recipe(data=fields.get("data", "digits")), **fields)


REFUSED = [
    ("train --objective trades(bta=3)", "--objective: .*'beta'"),
    ("train --objective pgd_at --beta 3", "--beta: "),
    ("train --method trads", "--method: .*'trads'.*trades"),
    ("train --model SmalCNN", "--model: .*'SmallCNN'"),
    ("train --act Foo", "--act: 'Foo'"),
    ("train --attack pdg", "--attack: .*'pgd'"),
    ("train --ball L2", "--ball"),
    ("train --ball L2(x=1)", "--ball: "),
    ("train --callbacks Foo", "--callbacks: 'Foo'"),
    ("train --precision float8", "--precision is 'float8'.*bfloat16"),
    ("train --device cuda:77", "--device is 'cuda:77'"),
    ("train --data digits --valid 5000", "--valid is 5000"),
    ("train --data digits --n-test 5000", "--n-test is 5000"),
    ("train --inner foo", "--inner: 'foo'"),
    ("evaluate {run} --ball L1(6) --aa", "--attacks: autoattack cannot be run in L1"),
    ("evaluate {run} --attacks foo", "--attacks: 'foo'"),
    ("evaluate {run} --ball L3(1)", "--ball: 'L3'"),
    ("evaluate {run} --attacks cw(x=1)", "--attacks: "),
    ("evaluate {run} --n-test 5000", "--n-test is 5000"),
    ("evaluate {run} --trust --eps 0", "--trust asks"),
    ("evaluate {run} --data nothing", "'nothing'"),
    ("diagnose {run} --attacks foo", "--attacks: 'foo'"),
    ("study table nope", "no study 'nope'.*spat"),
    ("study plot nope", "no study 'nope'.*spat"),
    ("methods nope", "no method 'nope'.*trades"),
]


@pytest.mark.parametrize("line,says", REFUSED)
def test_errors_name_the_flag(line, says, plain, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path / "results"))
    assert re.search(says, refused(capsys, line.replace("{run}", str(plain))))


@pytest.mark.parametrize("flag", ["--objective", "--attack", "--ball", "--head"])
def test_a_spec_that_is_none_is_refused_at_once(flag, capsys):
    with pytest.raises(SystemExit) as e:
        main(["train", flag, "pgd(steps="])
    err = capsys.readouterr().err
    assert e.value.code == 2 and f"argument {flag}: " in err and err.count("\n") == 1


# ---- the rest


def test_methods_says_the_specs_of_every_row(capsys):
    assert main(["methods"]) == 0
    said = capsys.readouterr().out
    for name in METHODS:
        line = said.split(f"\n{name}: ")[1].splitlines()[1]
        a = build_parser(["train"]).parse_args(["train", *shlex.split(line)])
        assert recipe_of(a)[0] == method(name)
    assert main(["methods", "spat"]) == 0
    said = capsys.readouterr().out
    assert "smoothed(ce, a)" in said and "trades" not in said


def test_shipped_results_are_read_where_no_others_are(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("study table spat") == 0
    said = capsys.readouterr().out
    assert str(lab.results() / "spat" / "laptop") in said and "PGD-AT" in said
    assert run("study plot spat --out", tmp_path / "p.png") == 0
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    # the reader's own come first
    own = tmp_path / "results" / "spat" / "laptop"
    own.mkdir(parents=True)
    first = sorted((lab.results() / "spat" / "laptop").glob("*.json"))[0]
    (own / first.name).write_bytes(first.read_bytes())
    capsys.readouterr()
    assert run("study table spat") == 0
    assert f"1 runs in {own}" in capsys.readouterr().out


def test_no_results_anywhere(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "results", lambda: tmp_path / "nothing")
    assert "spat_nb study run spat --scale mini" in refused(capsys, "study table spat --scale mini")


def test_a_judgement_that_was_killed_goes_on(plain, tmp_path, capsys, monkeypatch):
    "The network is there, the report is not: nothing is trained again"
    (plain / "report.json").unlink()
    weights = (plain / "weights.safetensors").stat().st_mtime_ns
    trained(plain)
    assert (plain / "report.json").is_file()
    assert (plain / "weights.safetensors").stat().st_mtime_ns == weights
    assert not (plain / "judging.json").exists()
    assert {*Report.load(plain / "report.json").attacks} == {"fgsm", "pgd20"}
    assert STANDARD == "fgsm, pgd(steps=20)"


def test_one_learner_and_one_battery():
    "A network is trained in one place, and judged by one battery"
    top = Path(commands.__path__[0]).parent
    for f in top.rglob("*.py"):
        text = f.read_text(encoding="utf-8")
        assert "Learner(" not in text, f
        assert "pgd20=" not in text or f.name == "shipping.py", f
