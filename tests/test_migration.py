"""Recorded results and shipped networks survived: told in specs, with every number as it was, and
they are results of the rows of today
"""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
import torch

from spat_nb.app import zoo
from spat_nb.core import spec
from spat_nb.core.files import load_tree, save_tree
from spat_nb.measure.battery import named_attacks
from spat_nb.measure.evaluate import evaluate
from spat_nb.measure.intervals import wilson
from spat_nb.models.saving import load, model_info
from spat_nb.studies import runner
from spat_nb.studies.finding import studies
from spat_nb.studies.job import Job
from spat_nb.studies.rows import status
from spat_nb.training.recipe import Recipe
from spat_nb.training.rundir import open_run, weights_info

TOP = Path(__file__).parents[1]
CPU = torch.device("cpu")


def tool():
    found = importlib.util.spec_from_file_location("tool", TOP / "tools" / "migrate_results.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


TOOL = tool()
NOTE = json.loads(TOOL.NOTE.read_text(encoding="utf-8"))
FILES = sorted((TOP / "results").glob("*/*/*.json"))


def told(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_number_is_as_it_was():
    "And the text around it: what is neither `config` nor `schema` is the same byte for byte"
    there = {f.relative_to(TOP).as_posix(): told(f) for f in FILES}
    assert len(NOTE["results"]) == 366
    for name, digest in NOTE["results"].items():
        assert TOOL.numbers(there[name]) == digest, name
        assert TOOL.dumped(there[name]) == (TOP / name).read_text(encoding="utf-8"), name
    changed = {**there[name], "seconds": {"train": 0.0, "judge": 0.0}}
    assert TOOL.numbers(changed) != digest


def test_the_note_is_that_of_the_commit():
    "Where the history is here, it gives the same note again"
    try:
        files = TOOL.in_commit("206ec25")
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("the commit before is not in this copy")
    assert TOOL.noted(files) == NOTE


def test_tensors_of_shipped_networks_are_as_they_were():
    for name, digest in NOTE["weights"].items():
        data = bytearray((TOP / name).read_bytes())
        assert TOOL.tensors(bytes(data)) == digest, name
    data[-1] ^= 1
    assert TOOL.tensors(bytes(data)) != digest


def test_results_are_those_of_the_rows_of_today(monkeypatch):
    monkeypatch.setenv("SPAT_NB_RESULTS", str(TOP / "results"))
    for path in FILES:
        d = told(path)
        job = Job(studies()[d["study"]], d["arm"], d["size"], d["seed"])
        assert job.path == path and job.done() and job.outdated(d) == set(), path
        recipe = Recipe.from_dict(d["config"]["recipe"])
        assert recipe.but(seed=d["seed"]) == job.recipe.but(precision="float32"), path
    t = status()
    assert t.outdated.sum() == 0 and t.done.sum() + t.further.sum() == len(FILES)


def test_nothing_is_left_to_do_and_the_log_is_that_of_the_results():
    assert list(TOOL.results(NOTE)) == []
    for path in TOOL.WEIGHTS.glob("*/*/*.safetensors"):
        assert TOOL.network(path) is None and TOOL.refreshed(path) is None, path
    assert TOOL.LOG.read_text(encoding="utf-8") == TOOL.log()


def test_a_result_that_was_not_checked_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(TOOL, "RESULTS", tmp_path)
    monkeypatch.setattr(TOOL, "TOP", tmp_path.parent)
    path = tmp_path / "spat" / "laptop" / "PGD-AT-s0.json"
    path.parent.mkdir(parents=True)
    d = {**told(TOP / "results/spat/laptop/PGD-AT-s0.json"), "schema": 1}
    d["config"] = {"arm": {"objective": "<function mine>"}, "size": {}}
    path.write_text(TOOL.dumped(d))
    [(_, text, why)] = TOOL.results(NOTE)
    assert text is None and "none that was checked" in why
    d["config"] = {"arm": {"objective": "<function pgd_at>"}, "size": {"lr": "0.1"}}
    path.write_text(TOOL.dumped(d))
    note = {"results": {}, "configs": {TOOL.row(d): TOOL.sha256(json.dumps(d["config"]))}}
    [(_, text, why)] = TOOL.results(note)
    config = told(TOP / "results/spat/laptop/PGD-AT-s0.json")["config"]
    assert json.loads(text)["config"] == config
    assert TOOL.numbers(json.loads(text)) == TOOL.numbers(d)


@pytest.mark.parametrize("name", zoo.names())
def test_a_shipped_network_says_where_it_comes_from(name):
    info, card = weights_info(zoo.path(name)), zoo.card(name)
    recipe = Recipe.from_dict(info["recipe"])
    assert recipe.data == card["data"] and spec.make(recipe.ball).eps == card["eps"]
    assert info["zoo"] == name and info["classes"] == card["classes"] and info["code"] == {}
    assert card["recipe"]["recipe"]["objective"] == recipe.objective
    assert card["model"] == model_info(zoo.path(name))["model"]
    run = open_run(zoo.path(name))
    assert run.recipe == recipe
    same = zip(run.model.state_dict().values(), load(zoo.path(name)).state_dict().values())
    assert all(torch.equal(a, b) for a, b in same)


@pytest.mark.parametrize("slot", ["act", "head"])
@pytest.mark.parametrize(
    "said", ["os:system", "os.system", "mine.py:net", "Hypersphere(scale=os:system)", "pgd"]
)
def test_a_file_that_names_what_is_not_ours_is_refused(slot, said, tmp_path):
    tree = load_tree(zoo.path("digits/he/w16"))
    path = tmp_path / "w.safetensors"
    save_tree(path, {**tree, "model": {**tree["model"], slot: said}})
    with pytest.raises(ValueError, match=f"does not say which {slot} to use"):
        load(path)
    info = {**tree["info"], "recipe": {**tree["info"]["recipe"], "objective": "os:system"}}
    save_tree(path, {**tree, "info": info})
    with pytest.raises(ValueError, match="os:system' is not spat_nb's"):
        open_run(path)


def opened(job):
    try:
        return job.open()
    except FileNotFoundError as e:
        pytest.skip(f"no real {job.size.data}: {e}")


@pytest.mark.parametrize("name", ["digits/he/w16", "digits/sparta/w16", "cifar10/spat/w8"])
def test_a_shipped_network_answers_as_its_card_says(name):
    "Judged again by its row's attacks, within the intervals of what is recorded"
    card = zoo.card(name)
    source = card["source"]
    job = Job(studies()[source["study"]], source["arm"], source["size"], source["seed"], CPU)
    test = opened(job).test.subset(min(360, card["accuracy"]["clean"]["n"]))
    test = test.with_(batch_size=job.size.chunk or job.size.batch)
    battery = named_attacks("pgd(steps=20)", job.ball)
    record = evaluate(zoo.load(name, "cpu"), test, progress=False, **battery)
    for attack in ("clean", "pgd20"):
        was = card["accuracy"][attack]
        lo, hi = wilson(was["correct"], was["n"])
        room = 0.07 if was["n"] > test.n else 0  # few of its images are asked here
        assert lo - room <= record.accuracy(attack) <= hi + room, attack


@pytest.mark.slow
@pytest.mark.parametrize("study,arm", [("combine", "SPAT + HE"), ("sparta", "Sparta (V2)")])
def test_a_committed_row_comes_out_again(study, arm, tmp_path, monkeypatch):
    "A run of the same seed lies within the 95% intervals of the committed one, under every attack"
    was = told(
        TOP / "results" / study / "laptop" / Job(studies()[study], arm, "laptop", 0).path.name
    )
    monkeypatch.setenv("SPAT_NB_RESULTS", str(tmp_path))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    job = Job(studies()[study], arm, "laptop", 0, CPU)
    assert was["config"] == job.config
    assert runner.one(job, CPU, quiet=True)
    now = told(job.path)
    assert now["config"] == was["config"] and now["parameters"] == was["parameters"]
    assert [r["step"] for r in now["history"]] == [r["step"] for r in was["history"]]
    for k in ("clean", "fgsm", "pgd20", "cw20", "aa"):
        lo, hi = wilson(was["attacks"][k]["correct"], was["attacks"][k]["n"])
        assert now["attacks"][k]["n"] == was["attacks"][k]["n"]
        assert lo <= now["attacks"][k]["correct"] / now["attacks"][k]["n"] <= hi, k
