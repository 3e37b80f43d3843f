"Anybody's network from the command line: each kind is opened, judged, and passes the trust card"

import argparse
import io
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spat_nb.app.cli import build_parser, main
from spat_nb.app.naming import named_outputs
from spat_nb.app.opening import open_weights
from spat_nb.data.vision import torchvision
from spat_nb.measure.report import Report
from spat_nb.models.programs import open_program

torchvision("models")  # where its operators were built for another machine, timm cannot import it
timm = pytest.importorskip("timm")
onnx = pytest.importorskip("onnx")
transformers = pytest.importorskip("transformers")

SIDE = 16
MINE = """
import torch
from torch import nn


def vgg(classes, channels):
    layers = []
    for width in (8, 16):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 16, classes))


def grouped(classes, channels):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, classes),
    )


def mixer(num_classes):
    from timm.models import MlpMixer

    torch.manual_seed(5)
    net = MlpMixer(num_classes, img_size=16, patch_size=4, num_blocks=1, embed_dim=16)
    nn.init.normal_(net.head.weight)  # its first weights are zero
    return net


torch.manual_seed(2)
dropped = nn.Sequential(  # an instance, in train mode
    nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(512, 4)
)


class OneLogit(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.net = grouped(1, 3)

    def forward(self, x):
        return self.net(x).squeeze(1)


class Named(nn.Module):
    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(4)
        self.net = grouped(classes, 3)

    def forward(self, x):
        return {"loss": None, "features": x.flatten(1), "out": self.net(x)}


def rounded(x):
    return (x * 255).round() / 255


def answers(x):
    return dropped(x).detach()
"""
SMALL = {
    "ResNet": "timm:resnet18(layers=(1,1,1,1),channels=(8,8,8,8)) --untrained",
    "VGG with BN": "mine.py:vgg --weights vgg.pth --mean half",
    "MobileNet": "torchvision:mobilenet_v2(width_mult=0.2,"
    "inverted_residual_setting=[[1,16,1,1],[4,24,1,2]]) --untrained",
    "ConvNeXt": "timm:convnext_atto(depths=(1,1,1,1),dims=(8,8,8,8)) --size 32 --untrained",
    "ViT": "timm:vit_tiny_patch16_224(img_size=16,patch_size=4,embed_dim=24,depth=1) --untrained",
    "Swin": "timm:swin_tiny_patch4_window7_224(img_size=16,patch_size=2,window_size=2,"
    "embed_dim=8,depths=(1,1),num_heads=(1,2)) --untrained",
    "MLP-Mixer": "mine.py:mixer --mean imagenet",
    "GroupNorm": "mine.py:grouped --mean .5,.4,.3 --std .2,.2,.1",
    "dropout": "mine.py:dropped",
    "one logit": "mine.py:OneLogit",
    "dict": "mine.py:Named",
    "ONNX": "net.onnx",
}
QUICK = {
    "hf": "hf:vit",
    "hf by weights": "hf:bare --weights bare.safetensors",
    "torch.export": "net.pt2",
    "torch.export of one batch": "fixed.pt2",
    "TorchScript": "net.ts",
    "TorchScript in .pt": "net.pt",
    "ONNX of one batch": "fixed.onnx",
    "a function": "mine.py:answers --attacks square(queries=20)",
    "preprocessing": "mine.py:dropped --preprocess mine.py:rounded",
}


def images(classes=4, n=40, seed=0):
    "Images and labels of few classes"
    x = np.random.default_rng(seed).random((n, SIDE, SIDE, 3), dtype=np.float32)
    return x, np.arange(n) % classes


def written(folder, name, x, y, classes):
    path = folder / f"{name}.npz"
    names = [f"c{i}" for i in range(classes)]
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(names))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder of networks that others made, and of their data"
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mine.py").write_text(MINE)
    space: dict = {}
    exec(MINE, space)
    for classes in (2, 4):
        written(folder, f"c{classes}", *images(classes), classes)
    torch.manual_seed(0)
    # as nn.DataParallel names them; it would ask for an accelerator that another test pretends
    vgg = {f"module.{k}": v for k, v in space["vgg"](4, 3).state_dict().items()}
    torch.save({"state_dict": vgg, "epoch": 3}, folder / "vgg.pth")
    net, x = space["grouped"](4, 3).eval(), torch.rand(2, 3, SIDE, SIDE)
    programs(folder, net, x)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=SIDE,
        patch_size=4,
        num_labels=4,
        id2label={i: f"c{3 - i}" for i in range(4)},  # in the other order
    )
    vit = transformers.ViTForImageClassification(config).eval()
    vit.save_pretrained(folder / "vit")
    (folder / "vit/preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "do_normalize": true}'
    )
    config.save_pretrained(folder / "bare")
    from safetensors.torch import save_file

    save_file(vit.state_dict(), folder / "bare.safetensors")
    return folder


def programs(folder, net, x):
    "The same network as a program of every kind"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (x,)), folder / "fixed.pt2")
        shapes = ({0: torch.export.Dim("b")},)
        exported = torch.export.export(net, (x,), dynamic_shapes=shapes)
        torch.export.save(exported, folder / "net.pt2")
        for name in ("net.ts", "net.pt"):
            torch.jit.trace(net, x).save(folder / name)
        kw = {"dynamo": False, "input_names": ["x"], "opset_version": 17}
        torch.onnx.export(net, (x,), folder / "net.onnx", dynamic_axes={"x": {0: "b"}}, **kw)
        torch.onnx.export(net, (x,), folder / "fixed.onnx", **kw)


@pytest.fixture
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def typed(words, classes, *more):
    "What is typed after spat_nb"
    where = ["--data", f"c{classes}.npz", "--ball", "Linf(8/255)", "--device", "cpu"]
    return ["evaluate", *words.split(), *where, *more]


def opened(argv):
    "What a command would judge"
    a, _ = build_parser(["evaluate"]).parse_known_args(argv)
    return open_weights(a)


def relabelled(folder, argv, classes, right=5):
    "Data of which the network answers `right` images right"
    it = opened(argv)
    x, _ = images(classes, n=20, seed=7)
    z = it.model(torch.from_numpy(x).permute(0, 3, 1, 2)).argmax(1)
    wrong = torch.arange(len(z)) >= right
    written(folder, "few", x, ((z + wrong) % classes).numpy(), classes)
    return it


@pytest.mark.parametrize("name", SMALL)
def test_twelve_architectures_pass_the_trust_card(name, there, capsys):
    classes = 2 if name == "one logit" else 4
    argv = typed(SMALL[name], classes)
    it = relabelled(there, argv, classes)
    argv[argv.index(f"c{classes}.npz")] = "few.npz"
    few = ["--n-test", "20", "--attacks", "fgsm", "--trust", "--out", "out.json"]
    assert main([*argv, *few]) == 0
    said = capsys.readouterr().out
    report = Report.load(there / "out.json")
    assert report.record.accuracy("clean") == 5 / 20
    assert report.card is not None and len(report.card.checks) > 10
    for note in it.notes:
        assert note in report.record.notes and note in said
    assert report.card["G1 repeats"].verdict == report.card["G1 mode"].verdict == "pass"
    assert report.card["G7 zero"].figure < 100
    assert report.card.info["notes"] == list(it.notes)


@pytest.mark.parametrize("name", QUICK)
def test_other_kinds_are_judged(name, there, capsys):
    attacks = [] if "--attacks" in QUICK[name] else ["--attacks", "fgsm"]
    assert main(typed(QUICK[name], 4, "--n-test", "8", *attacks)) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "weakest class" in said and "\nnormalisation:" in said or name == "preprocessing"


@pytest.mark.parametrize("precision", ["channels_last", "bfloat16"])
@pytest.mark.parametrize("name", ["ONNX", "ViT", "dropout", "torch.export", "TorchScript"])
def test_other_precisions(name, precision, there, capsys):
    more = ["--n-test", "8", "--attacks", "fgsm", "--precision", precision]
    words = {**SMALL, **QUICK}[name]
    assert main(typed(words, 4, *more)) == 0, capsys.readouterr().err


def test_autoattack_on_a_network_from_elsewhere(there, capsys):
    more = ["--n-test", "8", "--attacks", "autoattack(steps=3,targets=1,queries=10)"]
    assert main(typed(SMALL["GroupNorm"], 4, *more)) == 0
    assert "autoattack" in capsys.readouterr().out


# ---- what is said


@pytest.fixture(scope="module")
def plain(place):
    "The network that all programs were made of"
    space: dict = {}
    exec(MINE, space)
    return space["grouped"](4, 3).eval()


PROGRAMS = ["net.pt2", "fixed.pt2", "net.ts", "net.pt", "net.onnx", "fixed.onnx"]


@pytest.mark.parametrize("file", PROGRAMS)
def test_a_program_gives_the_answers_and_gradients_of_its_network(file, there, plain):
    model = opened(typed(file, 4)).model
    x = torch.rand(5, 3, SIDE, SIDE, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0])
    assert torch.allclose(model(x), plain(x), atol=1e-5)
    grads = [
        torch.autograd.grad(nn.functional.cross_entropy(m(x), y), x)[0] for m in (model, plain)
    ]
    assert torch.allclose(*grads, atol=1e-6) and grads[1].abs().max() > 1e-5
    assert any(n.startswith("network: ") for n in opened(typed(file, 4)).notes)


@pytest.mark.parametrize("file", ["net.pt2", "fixed.onnx"])
def test_a_judgement_goes_on_in_another_process(file, there):
    argv = typed(file, 4, "--n-test", "4", "--attacks", "fgsm", "--resume", f"{file}.json")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    assert main(argv) == 0
    command = [sys.executable, "-W", "ignore", "-m", "spat_nb", *argv]
    run = subprocess.run(command, capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("version", [13, 17, 20])
def test_onnx_files_with_shared_weights_and_new_operators_convert(version, there):
    "Exporters put Identity before weights that are equal; converters know older operators alone"
    model = torchvision("models").resnet18(num_classes=4).eval()
    x = torch.rand(2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kw = {"dynamo": False, "input_names": ["x"], "opset_version": version}
        torch.onnx.export(model, (x,), "shared.onnx", **kw)
    program = open_program("shared.onnx", x)
    assert torch.allclose(program.model(x), model(x), atol=1e-4) and not program.notes[:-1]


def test_a_conversion_that_answers_otherwise_is_not_taken(there, plain, monkeypatch):
    from spat_nb.models import onnx_files

    convert = onnx_files._converter()
    monkeypatch.setattr(onnx_files, "_converter", lambda: lambda g: Doubled(convert(g)))
    program = open_program("net.onnx", torch.rand(2, 3, SIDE, SIDE))
    assert "answers otherwise, by 100.0%" in program.notes[0]
    x = torch.rand(2, 3, SIDE, SIDE)
    assert torch.allclose(program.model(x), plain(x), atol=1e-5)


class Doubled(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 2 * self.model(x)


def test_an_onnx_file_that_does_not_convert_is_judged_by_queries(there, plain, capsys, monkeypatch):
    from spat_nb.models import onnx_files

    monkeypatch.setattr(onnx_files, "_converter", lambda: None)
    it = opened(typed("net.onnx", 4))
    x = torch.rand(5, 3, SIDE, SIDE)
    assert torch.allclose(it.model(x), plain(x), atol=1e-5)
    assert "square" in it.attacks and not it.model.gradient
    assert main(typed("net.onnx", 4, "--n-test", "8")) == 0
    said = capsys.readouterr().out
    assert (
        "judged by queries" in said and "square" in said and "onnx2torch is not installed" in said
    )
    assert main(typed("net.onnx", 4, "--n-test", "8", "--attacks", "fgsm")) == 1
    assert "without gradients" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_a_network_in_half_precision_is_judged_in_float32(kind, there):
    text = "import mine\n\n\ndef small(classes, channels):\n    return mine.vgg(classes, channels)"
    text += f".{kind}()\n"
    Path(f"in_{kind}.py").write_text(text)
    it = opened(typed(f"in_{kind}.py:small", 4))
    assert {p.dtype for p in it.model.parameters()} == {torch.float32}
    assert any("judged in float32" in note for note in it.notes)


def test_what_a_function_without_gradients_is_judged_by(there):
    it = opened(typed("mine.py:answers", 4))
    assert it.attacks.startswith("square, spsa") and "queries" in it.notes[-2] + it.notes[-1]


def test_a_checkpoint_of_transformers_brings_numbers_and_names(there):
    it = opened(typed("hf:vit", 4))
    vit = transformers.ViTForImageClassification.from_pretrained(there / "vit").eval()
    x = torch.rand(3, 3, SIDE, SIDE)
    assert torch.allclose(it.model(x), vit((x - 0.5) / 0.25).logits.flip(1), atol=1e-5)
    assert any("order of the data's classes" in n for n in it.notes)
    again = opened(typed("hf:bare --weights bare.safetensors --mean .5 --std .25", 4))
    assert torch.allclose(again.model(x), it.model(x), atol=1e-5)


def test_weights_of_any_wrapper_give_one_network(there):
    space: dict = {}
    exec(MINE, space)
    want = space["vgg"](4, 3).eval()
    with torch.no_grad():
        want.load_state_dict(
            {
                k.removeprefix("module."): v
                for k, v in torch.load(there / "vgg.pth", weights_only=True)["state_dict"].items()
            }
        )
    it = opened(typed(SMALL["VGG with BN"], 4))
    x = torch.rand(3, 3, SIDE, SIDE)
    assert torch.equal(it.model(x), want((x - 0.5) / 0.5))
    assert {"weights: 'module.' was taken off the names."} < {*it.notes}


def test_many_outputs_for_few_classes(there):
    model = timm.create_model("test_vit", num_classes=1000, img_size=SIDE, patch_size=4).eval()
    torch.save(model.state_dict(), "thousand.pth")
    numbers = ["n01440764", "n03888257", "n02979186"]
    x, y = images(3)
    np.savez("wnids.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(numbers))
    words = f"timm:test_vit(img_size={SIDE},patch_size=4) --weights thousand.pth --mean half"
    argv = typed(words, 4)
    argv[argv.index("c4.npz")] = "wnids.npz"
    it = opened(argv)
    z = model((torch.rand(6, 3, SIDE, SIDE, generator=torch.manual_seed(0)) - 0.5) / 0.5)
    mine = it.model(torch.rand(6, 3, SIDE, SIDE, generator=torch.manual_seed(0)))
    assert torch.allclose(mine[:, :3], z[:, [0, 701, 482]], atol=1e-5)
    rest = [i for i in range(1000) if i not in (0, 701, 482)]
    assert torch.allclose(mine[:, 3], z[:, rest].amax(1), atol=1e-5)
    assert all(part.classes == (*numbers, "any other") for part in it.data)
    assert main([*argv, "--n-test", "6", "--attacks", "fgsm"]) == 0


def test_grey_images_for_a_network_of_colour(there, capsys):
    model = timm.create_model("test_resnet", num_classes=10).eval()
    torch.save(model.state_dict(), "colour.pth")
    argv = typed("timm:test_resnet --weights colour.pth --mean none", 4)
    argv[argv.index("c4.npz")] = "digits"
    it = opened(argv)
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(it.model(x), model(x.expand(-1, 3, -1, -1)), atol=1e-6)
    assert any(n.startswith("channels: ") for n in it.notes)


def test_a_file_of_ones_own_may_import_torchvision(there):
    "Also where its operators were built for another kind of machine"
    text = "from torchvision.models import squeezenet1_1\n\n\ndef net(num_classes):\n"
    Path("vision.py").write_text(f"{text}    return squeezenet1_1(num_classes=num_classes)\n")
    code = "from spat_nb.app.cli import main\nimport sys\nsys.exit(main(sys.argv[1:]))"
    argv = typed("vision.py:net --size 32", 4, "--n-test", "4", "--attacks", "fgsm")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, env=env
    )
    assert run.returncode == 0, run.stderr


def refused(capsys, argv):
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    "words,says",
    [
        ("timm:resnet18", "has no weights; give them: --weights FILE.safetensors"),
        ("timm:resnt18 --untrained", "did you mean timm:resnet18?"),
        ("torchvision:resnet18x --untrained", "did you mean torchvision:resnet18?"),
        ("timm:resnet18(spam=3) --untrained", "cannot be built"),
        ("torchvision:resnet18(spam=3) --untrained", "cannot be built"),
        ("hf:nowhere/nothing", "is no folder of transformers"),
        ("hf:bare", "hf:bare has no weights"),
        ("mine.py:nothing", "mine.py has no 'nothing'"),
        ("mine.py", "write mine.py:NAME"),
        ("nothing.onnx", "no file nothing.onnx"),
        ("vit", "write spat_nb evaluate hf:vit --data c4.npz"),
        (
            "mine.py:vgg --weights bare.safetensors",
            "do not fit mine.py:vgg: 14 of its 14 are missing",
        ),
        ("mine.py:dropped --mean .5", "std is not given"),
        ("mine.py:dropped --labels imagenet", "names 1000 classes, but the network has 4 outputs"),
        ("mine.py:dropped --labels none.txt", "--labels: no file none.txt"),
        ("net.onnx --weights vgg.pth", "--weights: net.onnx has its weights in it"),
        ("mine.py:dropped --model SmallCNN", "--model: mine.py:dropped is the network already"),
        ("mine.py:answers --aa", "--aa: AutoAttack follows gradients"),
        ("digits/pgd_at/w16 --mean half", "--mean is for a network that was made elsewhere"),
        ("timm:vit_tiny_patch16_224 --untrained", "cannot take images of 3x16x16"),
    ],
)
def test_what_is_refused(words, says, there, capsys):
    assert says in refused(capsys, typed(words, 4))


def test_data_and_ball_are_asked_for(there, capsys):
    assert "give --data" in refused(capsys, ["evaluate", "net.ts", "--ball", "L2(1)"])
    said = refused(capsys, ["evaluate", "net.ts", "--data", "c4.npz"])
    assert "--ball 'Linf(8/255)'" in said


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_the_command_that_is_named_works(ending, there, capsys):
    "A ResNet-18 of torchvision, trained elsewhere: what evaluate says of its weights can be typed"
    from safetensors.torch import save_file

    models = torchvision("models")
    state = models.resnet18(num_classes=4).state_dict()
    path = f"resnet18_state.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    said = refused(capsys, typed(path, 4))
    command = re.search(r"spat_nb (evaluate torchvision:resnet18 --weights .*)\.\n", said)[1]
    assert main([*shlex.split(command), "--n-test", "4", "--attacks", "fgsm"]) == 0


def test_weights_of_nobody_knows_what(there, capsys):
    said = refused(capsys, typed("vgg.pth", 4))
    assert "spat_nb evaluate mine.py:net --weights vgg.pth --data c4.npz" in said


class Evil:
    def __reduce__(self):
        return print, ("this line was printed by opening a file",)


def test_no_file_of_weights_runs_anything(there, capsys):
    torch.save({"state_dict": {"a": Evil()}}, "evil.pth")
    said = refused(capsys, typed("mine.py:vgg --weights evil.pth", 4))
    assert "can run code" in said and "this line" not in capsys.readouterr().out
    said = refused(capsys, typed("evil.pth", 4))
    assert "can run code" in said


def test_an_exported_program_with_an_object_in_it_is_refused(there, capsys):
    evil = io.BytesIO()
    torch.save(Evil(), evil)
    with zipfile.ZipFile("net.pt2") as old, zipfile.ZipFile("evil.pt2", "w") as new:
        for name in old.namelist():
            is_sample = name.endswith(".pt")
            new.writestr(name, evil.getvalue() if is_sample else old.read(name))
    said = refused(capsys, typed("evil.pt2", 4))
    assert "could run code" in said and "this line" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "more,says",
    [
        ("net/data/aotinductor/model/model.so", "compiled machine code"),
        ("serialized_state_dict.json", "no archive that torch.export.save writes"),
        ("net/models/model.json", "no archive that torch.export.save writes"),
    ],
)
def test_archives_that_hold_more_than_a_program(more, says, there, capsys):
    Path("odd.pt2").write_bytes(Path("net.pt2").read_bytes())
    with zipfile.ZipFile("odd.pt2", "a") as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that comes twice
        z.writestr(more, "{}")
    assert says in refused(capsys, typed("odd.pt2", 4))


def test_a_checkpoint_that_brings_code_of_its_own_runs_none(there, capsys):
    Path("coded").mkdir(exist_ok=True)
    Path("coded/own.py").write_text("print('this line was printed by opening a folder')\n")
    auto = {"AutoConfig": "own.C", "AutoModelForImageClassification": "own.M"}
    Path("coded/config.json").write_text(json.dumps({"model_type": "mine", "auto_map": auto}))
    said = refused(capsys, typed("hf:coded", 4))
    assert "hf:coded is no folder of transformers" in said
    assert "this line" not in capsys.readouterr().out


def test_help_brings_no_library():
    code = (
        "import sys\nfrom spat_nb.app.cli import main\n"
        "try: main(['evaluate', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'transformers', 'onnx'} & {*sys.modules}))"
    )
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert p.stdout.splitlines()[-1] == "[]"


def test_what_is_typed_is_known_to_the_parser():
    parser = build_parser(["evaluate"])
    a = parser.parse_args(["evaluate", "timm:resnet18", "--mean", ".5, .4", "--std", "imagenet"])
    assert a.mean == (0.5, 0.4) and a.std == "imagenet" and isinstance(a, argparse.Namespace)


# ---- libraries


def test_what_a_library_fetches_is_read_as_weights_only(there, monkeypatch, capsys):
    models = torchvision("models")
    asked = {}

    def fetched(url, **kw):
        asked.update(kw, url=url)
        return models.squeezenet1_1().state_dict()

    monkeypatch.setattr(models._api, "load_state_dict_from_url", fetched)
    argv = typed("torchvision:squeezenet1_1 --pretrained --size 32", 4)
    assert "1000 outputs, but c4.npz has 4 classes" in refused(capsys, argv)
    assert asked["weights_only"] is True and asked["url"].startswith("https://")


def test_timm_fetches_where_it_is_asked_to(there, monkeypatch):
    make, asked = timm.create_model, []

    def create(name, pretrained=False, **kw):
        asked.append((name, pretrained))
        return make("test_resnet", num_classes=4)

    monkeypatch.setattr(timm, "create_model", create)
    opened(typed("timm:resnet18 --pretrained", 4))
    assert asked == [("resnet18", True)]


@pytest.mark.parametrize(
    "module,words,extra",
    [
        ("timm", "timm:resnet18 --untrained", "models"),
        ("transformers", "hf:vit", "hf"),
        ("onnx", "net.onnx", "onnx"),
    ],
)
def test_a_library_that_is_not_installed(module, words, extra, there, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(capsys, typed(words, 4))
    assert f"needs {module}, which is not installed" in said and f"spat_nb[{extra}]" in said


def test_a_checkpoint_without_a_head_is_refused(there, capsys):
    config = transformers.ViTConfig.from_pretrained("vit")
    transformers.ViTModel(config).save_pretrained("headless")
    capsys.readouterr()
    said = refused(capsys, typed("hf:headless", 4))
    assert "lack classifier" in said and "drawn at random" in said


def test_the_words_of_a_library_find_outputs():
    names = torchvision("models").ResNet18_Weights.DEFAULT.meta["categories"]
    known = tuple((n,) for n in names)
    chosen, notes, classes = named_outputs(None, 1000, ("goldfish", "tench"), known, "mine")
    assert chosen == (1, 0) and classes == ("goldfish", "tench", "any other")
    with pytest.raises(ValueError, match="no output is called unicorn; give --labels FILE"):
        named_outputs(None, 1000, ("goldfish", "unicorn"), known, "mine")
    assert named_outputs("folder", 2, ("b", "a"), known, "mine") == (None, [], ("b", "a"))
    assert named_outputs(None, 2, ("b", "a"), (("a",), ("b",)), "mine")[0] == (1, 0)
