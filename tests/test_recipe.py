"Recipes: text and back, what differs, what is refused; training by them, and the folder of a run"

import json
import sys
from functools import partial

import numpy as np
import pytest
import torch

from spat_nb.attacks.attack import pgd
from spat_nb.attacks.balls import L2, Linf
from spat_nb.core.files import load_tree, save_tree
from spat_nb.core.slots import normal
from spat_nb.measure.evaluate import evaluate
from spat_nb.models.networks import SmallCNN
from spat_nb.training.building import build_model, open_data
from spat_nb.training.callbacks import Best, Validate
from spat_nb.training.events import Callback
from spat_nb.training.fields import PRESETS
from spat_nb.training.fit import fit
from spat_nb.training.learner import Learner
from spat_nb.training.methods import METHODS, changed, method, method_table
from spat_nb.training.objectives import pgd_at, trades
from spat_nb.training.recipe import Recipe
from spat_nb.training.run import train
from spat_nb.training.rundir import FILES, open_run, weights_info
from spat_nb.training.sameness import difference, identity, run_name

SMALL = {"data": "digits", "epochs": 1, "n": 60, "valid": 40, "n_test": 40, "batch": 30}
MINE = """
from torch import nn
from spat_nb.attacks.losses import ce

def factor():
    return {factor}

def squeezed(model, x, y, attack, beta=1.):
    return factor()*beta*ce(model(attack(model, x, y)), y).mean()

class Flat(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.layer = nn.Linear(channels*size*size, classes)
    def forward(self, x):
        return self.layer(x.flatten(1))
"""


def small(**changes):
    "A recipe that trains in the blink of an eye"
    return Recipe(**{**SMALL, "model": "SmallCNN(width=2)", "attack": "pgd(steps=1)", **changes})


def of_method(name, **changes):
    recipe = method(name, **{**SMALL, "width": 2, **changes})
    return changed(recipe, steps=1) if recipe.attack.startswith("pgd") else recipe


def answers(run):
    torch.manual_seed(0)  # of networks that roll dice
    with torch.no_grad():
        return run.model(run.data.test.tensors()[0])


class Killed(Exception):
    "What stops a run in the middle"


class Killer(Callback):
    onlooker = True

    def __init__(self, step):
        self.step = step

    def before_step(self, learner):
        if learner.done == self.step:
            raise Killed


# ---- text


RECIPES = [
    Recipe(),
    Recipe(data="cifar10", ball=L2(0.5), model="PreActResNet18(width=16, act=Sparta)"),
    Recipe(objective=partial(trades, beta=3.0), attack=partial(pgd, steps=7), callbacks="EMA"),
    Recipe(callbacks="EMA(decay=0.9), EarlyStop(patience=2)", augment="crop_flip(1)", n=10),
    Recipe(optimiser="Adam", schedule="one_cycle(up=0.1)", ball="L1(3)", lr=0.001, valid=7),
    Recipe(objective="spat(a=0.1, objective=pgd_at(loss=margin_ce(m=0.2, scale=15)))"),
]


@pytest.mark.parametrize("recipe", RECIPES + [of_method(k) for k in METHODS], ids=str)
def test_text_and_dict_make_the_same_recipe(recipe):
    assert Recipe.from_text(recipe.text()) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe.text().startswith(f"Recipe(data={recipe.data!r}")


def test_a_recipe_is_complete_by_its_data():
    for data, preset in PRESETS.items():
        recipe = Recipe(data=data)
        assert (recipe.epochs, recipe.lr, recipe.batch) == (
            preset["epochs"],
            preset["lr"],
            preset["batch"],
        )
    assert Recipe(data="svhn").ball == "Linf(8/255)"
    assert Recipe().text() == "Recipe(data='digits')"


def test_small_images_in_a_file_are_trained_as_digits_are(tmp_path):
    def written(name, size):
        x = np.zeros((4, size, size), "uint8")
        y = np.arange(4) % 2
        np.savez(tmp_path / name, x_train=x, y_train=y, x_test=x, y_test=y)
        return Recipe(data=str(tmp_path / name))

    assert written("small.npz", 8).model == normal("SmallCNN")
    assert written("small.npz", 8).ball == "Linf(0.15)"
    assert written("large.npz", 32).model == normal("PreActResNet18")
    # what cannot be read is said by whoever reads it
    (tmp_path / "no.npz").write_bytes(b"nothing")
    assert Recipe(data=str(tmp_path / "no.npz")).model == normal("PreActResNet18")


@pytest.mark.parametrize("objective", ["pgd", "pgd(steps=2)", "fgsm", "autoattack"])
def test_an_attack_is_no_objective(objective):
    with pytest.raises(ValueError, match="an attack; give it as attack="):
        Recipe(objective=objective)


def test_functions_and_their_texts_are_one():
    by_text = Recipe(objective="trades( beta = 3.0 )", ball="Linf(0.1)", model="SmallCNN(width=8)")
    by_object = Recipe(
        objective=partial(trades, beta=3.0), ball=Linf(0.1), model=partial(SmallCNN, width=8)
    )
    assert by_text == by_object
    assert by_object.made("ball") == Linf(0.1)
    assert by_text.made("objective").func is trades


def test_difference_names_just_the_changed_slots():
    a = Recipe()
    b = a.but(objective="trades(beta=6)", lr=0.2, callbacks=("EMA",))
    told = difference(a, b)
    assert {*told} == {"objective", "lr", "callbacks"}
    assert str(told).splitlines()[0] == "objective: pgd_at -> trades(beta=6)"
    assert not difference(a, Recipe.from_text(a.text()))
    assert str(difference(a, a)) == "no difference"


def test_what_is_only_written_otherwise_is_no_difference():
    a = Recipe(objective="trades(beta=6)", attack="pgd(steps=5)")
    assert not difference(a, a.but(objective="trades(beta=6.0)"))
    assert not difference(a, a.but(attack="pgd(steps=5, start=uniform)"))
    assert {*difference(a, a.but(attack="pgd(steps=5, start=at_x)"))} == {"attack"}


@pytest.mark.parametrize(
    "bad, word",
    [
        ({"attack": lambda model, x, y: x}, "lambda"),
        ({"objective": "nope"}, "nope"),
        ({"model": "SmallCNN(widht=3)"}, "widht"),
        ({"model": 3}, "model"),
        ({"ball": 0.3}, "Linf"),
        ({"ball": "pgd"}, "Linf"),
        ({"ball": "Linf(8)"}, "8"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": float("nan")}, "nan"),
        ({"epochs": 1.5}, "1.5"),
        ({"epochs": -1}, "-1"),
        ({"batch": 0}, "batch"),
        ({"seed": "x"}, "seed"),
        ({"n": True}, "n is True"),
        ({"look": 0}, "look"),
        ({"best": "first"}, "robust or clean or last"),
        ({"precision": "half"}, "bfloat16"),
        ({"data": None}, "data"),
        ({"callbacks": "EMA(decay=0.9"}, "EMA"),
    ],
)
def test_bad_fields_get_one_sentence(bad, word):
    with pytest.raises((ValueError, TypeError)) as e:
        Recipe(**bad)
    assert word in str(e.value)
    assert "\n" not in str(e.value)


def test_unknown_fields_and_texts_are_refused():
    with pytest.raises(ValueError, match="no field 'epoch'"):
        Recipe.from_dict({"epoch": 3})
    for text in ("pgd(steps=3)", "Recipe", "Recipe('digits')", "3", "Recipe(data='digits'"):
        with pytest.raises(ValueError):
            Recipe.from_text(text)


# ---- what a file may name


@pytest.mark.parametrize("slot", ["model", "objective", "attack", "optimiser", "schedule"])
def test_what_is_read_imports_nothing(slot):
    sys.modules.pop("antigravity", None)
    with pytest.raises(ValueError, match="antigravity"):
        Recipe.from_dict({slot: "antigravity:fly"})
    with pytest.raises(ValueError, match="os:system"):
        Recipe.from_text(f"Recipe({slot}='os:system')")
    assert "antigravity" not in sys.modules
    with pytest.raises(ValueError, match="antigravity"):
        Recipe.from_dict({"callbacks": ["antigravity:fly"]})
    assert "antigravity" not in sys.modules


def test_a_function_of_ones_own_is_hashed_and_an_edit_outdates(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE.format(factor=1.0))
    recipe = small(objective=f"{mine}:squeezed(beta=2)", model=f"{mine}:Flat")
    before = identity(recipe)
    assert {*before["code"]} == {"objective", "model"}
    assert identity(small())["code"] == {}
    run = train(recipe, tmp_path / "run", quiet=True)
    assert type(run.model).__name__ == "Flat"

    mine.write_text(MINE.format(factor=1.0) + "# a remark\n")
    assert identity(recipe) == before
    again = train(recipe, tmp_path / "run", quiet=True)
    assert torch.equal(answers(run), answers(again))

    mine.write_text(MINE.format(factor=3.0))
    assert {k for k, v in identity(recipe)["code"].items() if v != before["code"][k]} == {
        "objective"
    }
    with pytest.raises(ValueError, match="whose objective had another source"):
        train(recipe, tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="is not spat_nb's"):
        open_run(tmp_path / "run")  # the file alone may not name it


def test_a_weights_file_that_names_what_it_may_not_is_refused(tmp_path):
    train(small(), tmp_path, quiet=True)
    file = tmp_path / "weights.safetensors"
    tree = load_tree(file)
    sys.modules.pop("antigravity", None)
    for slot, said in {"model": "antigravity:fly", "callbacks": ["antigravity:fly"]}.items():
        info = {**tree["info"], "recipe": {**tree["info"]["recipe"], slot: said}}
        save_tree(file, {**tree, "info": info})
        with pytest.raises(ValueError, match="antigravity"):
            open_run(file)
    assert "antigravity" not in sys.modules
    save_tree(file, {**tree, "info": {}})
    with pytest.raises(ValueError, match="of which run"):
        open_run(file)
    with pytest.raises(FileNotFoundError):
        open_run(tmp_path / "none")


def test_a_network_of_ones_own_may_ask_for_what_a_run_knows(tmp_path):
    mine = tmp_path / "net.py"
    mine.write_text("from torch import nn\ndef net(num_classes, depth):\n    return nn.Flatten()\n")
    recipe = small(model=f"{mine}:net")
    with pytest.raises(ValueError, match=r"net asks for depth.*Write net\(depth=...\)"):
        train(recipe, quiet=True)
    odd = tmp_path / "odd.py"
    odd.write_text("def net(num_classes):\n    return num_classes\n")
    with pytest.raises(TypeError, match="makes a int"):
        train(small(model=f"{odd}:net"), quiet=True)


# ---- methods


def test_methods_set_the_slots_of_their_row():
    assert difference(method("pgd_at"), Recipe()) == {}
    assert {*difference(method("trades"), Recipe())} == {"objective", "attack"}
    assert {*difference(method("sparta"), Recipe())} == {"model"}
    assert {*difference(method("hypersphere"), Recipe())} == {"objective", "model"}
    assert {*method_table().index} == {*METHODS}
    with pytest.raises(ValueError, match="no method 'trade'"):
        method("trade")


def test_short_words_change_one_argument():
    recipe = changed(
        Recipe(data="cifar10"), eps="4/255", steps=7, width=16, act="Sparta", start="at_x"
    )
    assert recipe.ball == "Linf(4/255)"
    assert recipe.attack == "pgd(steps=7, start=at_x)"
    assert recipe.model == "PreActResNet18(width=16, act=Sparta)"
    assert changed(Recipe(ball="L2(1)"), eps=0.5).made("ball") == L2(0.5)
    assert changed(Recipe(model="WideResNet(depth=10)"), width=2).model.endswith("widen=2)")
    assert method("sparta", act="SiLU").model == "SmallCNN(act=SiLU)"  # the reader's word wins
    with pytest.raises(ValueError, match="'epsilon'"):
        changed(Recipe(), epsilon=0.1)


PASSES = {  # (forward, backward) for each image, with one step of attack
    "standard": (1, 1),
    "pgd_at": (2, 2),
    "trades": (4, 3),
    "mart": (3, 3),
    "alp": (3, 3),
    "free": (1, 1),
    "fast": (2, 2),
    "n_fgsm": (2, 2),
    "zerograd": (2, 2),
    "grad_align": (3, 5),  # its double backward pass goes through two answers once more
    "nuat": (3, 3),
    "faal": (2, 2),
    "muon": (2, 2),
    # bounds walk through the layers by themselves: no pass of the network is counted for them
    "ibp": (1, 1),
    "crown_ibp": (1, 1),
    "smoothing": (1, 1),
    "head_only": (0, 0),  # features and head, each by itself: no pass of the whole network
    "lwf": (0, 0),  # likewise
    "latent_at": (2, 2),
    "coloured_noise": (2, 2),
    "arks": (16, 16),  # fifteen steps of its own
    "apart": (2, 2),
    "jeat": (2, 2),
    "mlcat": (12, 12),  # ten steps of the weights
    "awp": (3, 3),
    "ema": (2, 2),
    "spat": (2, 2),
    "hypersphere": (2, 2),
    "prototypes": (1, 1),
    "sparta": (2, 2),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_is_kept_and_judged(name, tmp_path):
    recipe = of_method(name)
    run = train(recipe, tmp_path, quiet=True)
    assert (run.passes["forward"], run.passes["backward"]) == PASSES[name]
    kept = open_run(tmp_path)
    assert kept.recipe == recipe
    alone = open_run(tmp_path / "weights.safetensors")
    assert (alone.recipe, alone.history, kept.history) == (recipe, [], run.history)
    assert torch.equal(answers(kept), answers(run))
    report, again = run.judge("fgsm", progress=False), kept.judge("fgsm", progress=False)
    assert torch.equal(report.record.preds["fgsm"], again.record.preds["fgsm"])
    assert report.made["recipe"] == recipe.as_dict()


def test_free_shows_each_batch_again():
    run = train(of_method("free", epochs=8), quiet=True)
    assert run.steps == 8 * 2  # two batches; two epochs of four showings
    assert run.passes["images"] == 8 * 60


# ---- the loop


def test_train_is_the_bare_loop_bit_by_bit():
    recipe = small(epochs=2)
    data = open_data(recipe)
    best = Best()
    look = Validate(data.valid, pgd(Linf(0.15), 10))
    bare = Learner(
        build_model(recipe, data.train),
        data.train,
        pgd_at,
        pgd(Linf(0.15), 1),
        2,
        0.1,
        callbacks=[look, best],
        seed=0,
    ).fit()
    best.restore(bare.model)
    run = train(recipe, quiet=True)
    assert run.history == bare.history
    assert run.best == best.step
    for k, v in bare.model.state_dict().items():
        assert torch.equal(v, run.model.state_dict()[k])


def test_fit_wants_somebody_who_looks():
    data = open_data(small())
    with pytest.raises(ValueError, match="best"):
        fit(SmallCNN(width=2), data.train, pgd_at, best="robust", epochs=1)


def test_last_weights_where_nothing_is_held_out():
    run = train(small(valid=0), quiet=True)
    assert run.best is None
    assert run.steps == 2


def test_the_last_weights_may_be_kept():
    whole, last = (
        train(small(epochs=3), quiet=True),
        train(small(epochs=3, best="last"), quiet=True),
    )
    assert last.best is None
    assert last.history == whole.history  # looked at all the same


def test_a_name_tells_what_a_person_looks_for():
    recipe = small(objective="trades(beta=6)", seed=3)
    assert run_name(recipe).startswith("digits-trades-SmallCNN-s3-")
    assert run_name(recipe) != run_name(recipe.but(lr=0.3))
    assert run_name(recipe) == run_name(Recipe.from_text(recipe.text()))


def test_an_average_of_weights_is_what_is_looked_at():
    plain, averaged = train(small(), quiet=True), train(small(callbacks="EMA(decay=0)"), quiet=True)
    assert (
        plain.history == averaged.history
    )  # a share of 0 of the old average is the network itself
    slow = train(small(callbacks="EMA(decay=0.5)"), quiet=True)
    assert [r["step"] for r in slow.history] == [r["step"] for r in plain.history]


# ---- the folder


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(small(), quiet=True)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"callbacks": "EMA"},
        {"objective": "Free", "replays": 2},
        # their radius rises with the run
        {"objective": "CrownIBP"},
        {"objective": "IBP(begin=0)"},
        {"objective": "gaussian_noise(sigma=0.1)"},
    ],
)
def test_a_killed_run_goes_on_bit_by_bit(changes, tmp_path):
    recipe = small(epochs=4, **changes)
    whole = train(recipe, quiet=True)
    with pytest.raises(Killed):
        train(recipe, tmp_path, quiet=True, callbacks=[Killer(3)], every=0)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    assert not (tmp_path / "result.json").is_file()
    resumed = train(recipe, tmp_path, quiet=True)
    for k, v in whole.model.state_dict().items():
        assert torch.equal(v, resumed.model.state_dict()[k])
    assert resumed.history == whole.history
    assert resumed.passes == whole.passes
    assert not (tmp_path / "checkpoint.safetensors").is_file()


def test_a_finished_run_is_read_and_another_refused(tmp_path):
    run = train(small(), tmp_path, quiet=True)
    written = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    again = train(small(attack="pgd(steps=1, start=uniform)"), tmp_path, quiet=True)
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == written
    assert torch.equal(answers(run), answers(again))
    assert again.history == run.history
    with pytest.raises(ValueError) as e:
        train(small(lr=0.2, objective="trades"), tmp_path)
    assert "objective pgd_at, not trades and lr 0.1, not 0.2" in str(e.value)
    assert "epochs" not in str(e.value)
    other = train(small(lr=0.2), tmp_path, resume=False, quiet=True)
    assert not torch.equal(answers(run), answers(other))
    assert open_run(tmp_path).recipe.lr == 0.2


def test_an_unfinished_run_of_another_recipe_is_refused(tmp_path):
    with pytest.raises(Killed):
        train(small(), tmp_path, quiet=True, callbacks=[Killer(1)], every=0)
    with pytest.raises(ValueError, match="seed 0, not 1"):
        train(small(seed=1), tmp_path, quiet=True)


def test_a_folder_of_before_is_refused(tmp_path):
    (tmp_path / "result.json").write_text('{"config": {}}')
    with pytest.raises(ValueError, match="earlier version"):
        train(small(), tmp_path, quiet=True)
    (tmp_path / "result.json").write_text('{"config": ')
    with pytest.raises(ValueError, match="no whole result"):
        train(small(), tmp_path, quiet=True)


def test_a_place_that_cannot_be_written_is_refused_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(small(), tmp_path / "file", quiet=True)


def test_one_layout_beside_weights_and_results(tmp_path):
    recipe = small()
    run = train(recipe, tmp_path, quiet=True)
    info = weights_info(tmp_path / "weights.safetensors")
    result = json.loads((tmp_path / "result.json").read_text())
    for k in ("schema", "spat_nb", "recipe", "code", "shape", "classes"):
        assert info[k] == result[k]
    assert info["recipe"] == recipe.as_dict()
    assert info["shape"] == [1, 8, 8]
    assert result["history"] == run.history
    assert {p.name for p in tmp_path.iterdir()} == {*FILES} - {"checkpoint.safetensors"}


def test_a_reader_may_open_the_data_and_more_listeners(tmp_path):
    recipe = small()
    data = open_data(recipe)
    seen = []

    class Tracker(Callback):
        onlooker = True

        def after_validate(self, learner):
            seen.append(learner.history[-1]["robust"])

    run = train(recipe, tmp_path, quiet=True, data=data, callbacks=[Tracker()])
    assert seen == [r["robust"] for r in run.history]
    record = evaluate(run.model, data.valid, progress=False, robust=pgd(Linf(0.15), 10))
    assert len(record.y) == 40
    assert run.data is data
    with pytest.raises(ValueError, match="n_test is 10000"):
        open_data(recipe.but(n_test=10000))
    with pytest.raises(TypeError, match="Recipe"):
        train("digits")
