"""Shipped networks: each loads, is the one of its card, and answers as its card says; a changed
file is refused
"""

import json
import math
import shutil
from functools import partial

import pytest
import torch

from spat_nb.app import shipping, zoo
from spat_nb.app.cli import main
from spat_nb.attacks.attack import pgd
from spat_nb.attacks.autoattack import autoattack
from spat_nb.attacks.balls import Linf
from spat_nb.data.sources import get_data
from spat_nb.measure.evaluate import evaluate
from spat_nb.papers.hypersphere import Hypersphere, margin_ce
from spat_nb.papers.prototypes import Prototypes
from spat_nb.papers.sparta import Sparta
from spat_nb.studies import finding, runner, study
from spat_nb.training.objectives import pgd_at, standard


def opened(name):
    try:
        return get_data(name, device="cpu").test
    except FileNotFoundError as e:
        pytest.skip(f"no real {name}: {e}")


def test_something_is_shipped():
    assert "digits/pgd_at/w16" in zoo.names() and {n for *_, n in shipping.SHELF} >= {*zoo.names()}
    assert len({n for *_, n in shipping.SHELF}) == len(shipping.SHELF) and all(
        a in finding.studies()[s].arms for s, _, a, *_ in shipping.SHELF
    )


@pytest.mark.parametrize("name", zoo.names())
def test_file_and_card_belong_together(name):
    file, c = zoo.path(name), zoo.card(name)
    assert file.stat().st_size == c["bytes"] < 3e6 and c["name"] == name
    net = zoo.load(name, "cpu")
    assert not net.training and {t.dtype for t in net.state_dict().values()} <= {
        torch.float32,
        torch.int64,
    }
    assert sum(p.numel() for p in net.parameters()) == c["parameters"]
    for k, v in c["accuracy"].items():
        assert sum(v["class_n"]) == v["n"] >= v["correct"] == sum(v["class_correct"]), k
    assert {"clean", "pgd20", "aa"} <= {*c["accuracy"]} and c["accuracy"]["aa"]["correct"] / c[
        "accuracy"
    ]["aa"]["n"] <= c.accuracy()[0]
    assert (
        c["source"]["commit"]
        and c["recipe"]["recipe"]["data"] == c["data"]
        and isinstance(c["trust"]["flags"], list)
    )
    text = repr(c)
    assert all(
        w in text
        for w in (
            c["sha256"],
            c["source"]["results"],
            "weakest class",
            "trust card",
            f"n = {c['accuracy']['aa']['n']}",
        )
    )


@pytest.mark.parametrize("name", zoo.names())
def test_it_answers_as_its_card_says(name):
    """The float16 network on the images that it was shipped with, and within half a point of the
    float32 network of the run
    """
    c, test = zoo.card(name), opened(zoo.card(name)["data"])
    n, eps = c["shipped"]["n"], c["eps"]
    small = c["data"] == "digits"
    x, y = (test if n >= test.n else test.subset(n)).tensors()
    # minutes on CIFAR-10: there the clean answers must do
    attacks = dict(pgd20=pgd(Linf(eps), 20, eps / 4)) if small else {}
    r = evaluate(zoo.load(name, "cpu"), (x, y), "float32", progress=False, **attacks)
    for k in ("clean", *attacks):
        v = c["shipped"]["accuracy"][k]
        assert (
            v["n"] == len(r.y)
            and abs(r.accuracy(k) - v["correct"] / n) <= 0.005
            and abs(v["float32"] - v["correct"]) / n <= 0.005
        )
        # the run's own count may differ by one image with the order of sums
        if c["accuracy"][k]["n"] == n:
            assert abs(r.accuracy(k) - c.accuracy(k)[0]) <= 0.005 + 1 / n


def test_unknown_names_are_answered_with_the_list(capsys):
    for call in (zoo.load, zoo.card, zoo.path):
        with pytest.raises(ValueError, match="no shipped network .*nothing.*digits/pgd_at/w16"):
            call("digits/nothing/w1")
    assert (
        main(["evaluate", "digits/nothing/w1"]) == 1
        and "digits/pgd_at/w16" in capsys.readouterr().err
    )


TINY = dict(
    epochs=1,
    judged=10,
    trusted=10,
    cost=0.05,
    valid=60,
    strong=partial(autoattack, steps=2, targets=1, queries=5),
    seeds=1,
)
HEADS = {
    "plain": {},
    "sphere": dict(head=partial(Hypersphere, scale=10.0)),
    "points": dict(
        head=partial(Prototypes, points="repulsive", rule="dot", metric="linf", width=100)
    ),
    "gate": dict(act=partial(Sparta, rectify=True)),
}
TOY = study.Study(
    "toy",
    "?",
    {
        k: study.Arm(
            {
                "objective": partial(pgd_at, loss=margin_ce(0.1, 10.0))
                if k == "sphere"
                else standard,
                **v,
            }
        )
        for k, v in HEADS.items()
    },
    {"laptop": TINY},
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "A run of each kind of network"
    top = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as m:
        m.setenv("SPAT_NB_RESULTS", str(top / "results"))
        m.setenv("TQDM_DISABLE", "1")
        m.setattr(runner, "find_study", lambda name: TOY)
        assert runner.run("toy", device="cpu", quiet=True, say=lambda *_: None) == len(HEADS)
    return top


@pytest.fixture
def shelf(runs, tmp_path, monkeypatch):
    "An empty shelf beside the runs"
    monkeypatch.setenv("SPAT_NB_RESULTS", str(runs / "results"))
    monkeypatch.setattr(shipping, "find_study", lambda name: TOY)
    for room in (zoo, shipping):
        monkeypatch.setattr(room, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.mark.parametrize("arm", HEADS)
def test_what_is_shipped_comes_back(shelf, runs, arm):
    from spat_nb.models.saving import load

    name = f"digits/{arm}/w16"
    file = shipping.ship("toy", "laptop", arm, 0, name, images=90)
    assert zoo.names() == [name] and file.stat().st_size < shipping.LIMIT
    run = load(runs / "results" / "toy" / "laptop" / "weights" / f"{arm}-s0.safetensors")
    net = zoo.load(name, "cpu")
    a, b = run.state_dict(), net.state_dict()
    assert (
        type(net.head) is type(run.head)
        and a.keys() == b.keys()
        and any(k.endswith("running_var") for k in b)
    )
    for k in a:
        assert torch.equal(a[k].half().float() if a[k].is_floating_point() else a[k], b[k]), k
    c = zoo.card(name)
    assert (
        c["source"]["arm"] == arm
        and c["source"]["results"].endswith(f"toy/laptop/{arm}-s0.json")
        and c["shipped"]["n"] == 90
    )
    assert (
        c["accuracy"]
        == json.loads((runs / "results" / "toy" / "laptop" / f"{arm}-s0.json").read_text())[
            "attacks"
        ]
    )


def test_a_changed_file_is_refused(shelf, capsys):
    import hashlib

    name = "digits/plain/w16"
    file = shipping.ship("toy", "laptop", "plain", 0, name, images=90)
    said = zoo.card(name)["sha256"]
    # one bit of one weight
    data = bytearray(file.read_bytes())
    data[-7] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError) as e:
        zoo.load(name)
    assert said in str(e.value) and hashlib.sha256(data).hexdigest() in str(e.value)
    assert main(["evaluate", name]) == 1 and said in capsys.readouterr().err


def test_what_must_not_be_shipped(shelf, runs, tmp_path, monkeypatch):
    def go(arm="plain", seed=0, name="digits/x/w1", **kw):
        return shipping.ship("toy", "laptop", arm, seed, name, **kw)

    with pytest.raises(FileNotFoundError, match="spat_nb study run toy"):
        go(seed=7)
    with pytest.raises(ValueError, match="no arm 'x'"):
        go("x")
    with pytest.raises(ValueError, match="small letters"):
        go(name="../x")
    with monkeypatch.context() as m, pytest.raises(ValueError, match="at most"):
        m.setattr(shipping, "LIMIT", 1000)
        go(images=20)

    def coarse(net, name):
        return torch.nn.Module.float(_rounded(net))

    with (
        monkeypatch.context() as m,
        pytest.raises(
            ValueError, match="clean accuracy is .* in float32, but float16 gives .* not shipped"
        ),
    ):
        m.setattr(shipping, "_halved", coarse)
        go()
    copy = tmp_path / "results"
    shutil.copytree(runs / "results", copy)
    monkeypatch.setenv("SPAT_NB_RESULTS", str(copy))
    home = copy / "toy" / "laptop"
    # the weights of another run
    shutil.copy(home / "weights" / "gate-s0.safetensors", home / "weights" / "plain-s0.safetensors")
    with pytest.raises(ValueError, match="but the result gives"):
        go()
    d = json.loads((home / "points-s0.json").read_text())
    d["config"]["recipe"]["lr"] = 0.7
    (home / "points-s0.json").write_text(json.dumps(d))
    with pytest.raises(ValueError, match="another configuration"):
        go("points")
    assert zoo.names() == []


def _rounded(net):
    "`net` with weights of one bit"
    import copy

    net = copy.deepcopy(net)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p.sign() * p.abs().mean())
    return net


def test_ship_all_says_what_it_did(shelf, monkeypatch):
    monkeypatch.setattr(
        shipping,
        "SHELF",
        [
            ("toy", "laptop", "plain", 0, "digits/plain/w16"),
            ("toy", "laptop", "plain", 3, "digits/none/w16"),
        ],
    )
    first, second = dict(shipping.ship_all(images=90)), dict(shipping.ship_all())
    assert (
        first["digits/plain/w16"] == "shipped, seed 0"
        and second["digits/plain/w16"] == "shipped before"
        and "spat_nb study run" in first["digits/none/w16"]
    )
    t = zoo.table()
    assert list(t.index) == ["digits/plain/w16"] and not math.isnan(t["aa"].iloc[0])


def test_overflow_is_seen(shelf):
    net = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(net.weight, 1e6)
    with pytest.raises(ValueError, match="weight holds numbers"):
        shipping._halved(net, "x")


def test_commands(shelf, capsys):
    assert main(["zoo"]) == 0 and "no network" in capsys.readouterr().out
    assert (
        main(["zoo", "ship", "toy", "plain", "--name", "digits/plain/w16"]) == 0
        and "in float16, on 360" in capsys.readouterr().out
    )
    assert main(["zoo", "list"]) == 0 and "digits/plain/w16" in capsys.readouterr().out
    assert main(["zoo", "card", "digits/plain/w16"]) == 0 and "SHA-256" in capsys.readouterr().out
    assert (
        main(["evaluate", "digits/plain/w16", "--n-test", "20", "--device", "cpu"]) == 0
        and "pgd20" in capsys.readouterr().out
    )
    assert main(["zoo", "ship", "toy"]) == 1 and "--name" in capsys.readouterr().err
