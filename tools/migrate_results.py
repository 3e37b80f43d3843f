#!/usr/bin/env python
"""Recorded results and shipped networks, from configurations told by `describe` to specs

    python tools/migrate_results.py             rewrite what is not rewritten yet, and the log
    python tools/migrate_results.py --check     say what would be done; status 1 if there is any
    python tools/migrate_results.py --record 206ec25    note what lies in that commit

A result keeps every number: `config` is told anew, and `schema`, the layout of it, goes from 1 to
2. All else must be, byte for byte, what tools/migrate_results.json has noted of the commit before;
so must the tensors of a network. A configuration is told anew only where the note knows it as that
of its row: at 206ec25 each of them was what the code of that commit told of its row, names of
modules apart. Anything else is left as it is and named. Run twice, the second run does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from spat_nb.core import spec
from spat_nb.core.files import load_tree, save_tree, write_aside
from spat_nb.studies.finding import studies
from spat_nb.studies.job import Job
from spat_nb.studies.results import STUDY_SCHEMA
from spat_nb.training.rundir import SCHEMA
from spat_nb.training.sameness import identity

TOP = Path(__file__).resolve().parents[1]
NOTE = Path(__file__).with_suffix(".json")
RESULTS, WEIGHTS, LOG = TOP / "results", TOP / "spat_nb" / "weights", TOP / "results/MIGRATION.md"
SHAPES = {"digits": [1, 8, 8], "cifar10": [3, 32, 32]}


def sha256(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def dumped(d):
    "A result as its file has it"
    return json.dumps(d, separators=(",", ":"))


def numbers(d):
    "A result without its configuration: what must not change"
    return sha256(dumped({k: v for k, v in d.items() if k not in ("config", "schema")}))


def row(d):
    return f"{d['study']}, {d['size']}, {d['arm']}"


def tensors(data):
    "The tensors of a safetensors file, byte by byte, with their names, types and shapes"
    n = int.from_bytes(data[:8], "little")
    head = {k: v for k, v in json.loads(data[8 : 8 + n]).items() if k != "__metadata__"}
    return sha256(json.dumps(head, sort_keys=True).encode() + data[8 + n :])


# ---- what lies in a commit


def git(*args):
    return subprocess.run(["git", "-C", str(TOP), *args], capture_output=True, check=True).stdout


def in_commit(commit):
    "path -> bytes of the results and the networks of a commit"
    paths = git("ls-tree", "-r", "--name-only", commit, "results", "spat_nb/weights")
    return {p: git("show", f"{commit}:{p}") for p in paths.decode().splitlines()}


def noted(files):
    "The note of `in_commit`"
    found = {"results": {}, "configs": {}, "weights": {}}
    for path, data in files.items():
        if path.endswith(".safetensors"):
            found["weights"][path] = tensors(data)
        elif path.startswith("results/") and path.count("/") == 3 and path.endswith(".json"):
            d = json.loads(data)
            if dumped(d).encode() != data:
                raise ValueError(f"{path} is not written as results are; it cannot be told anew.")
            found["results"][path] = numbers(d)
            found["configs"].setdefault(row(d), sha256(json.dumps(d["config"])))
            if found["configs"][row(d)] != sha256(json.dumps(d["config"])):
                raise ValueError(f"{path} has another configuration than its row.")
    return found


# ---- results


def told_anew(d, note):
    "The same result with its configuration in specs. ValueError where it may not be told anew"
    if note["configs"].get(row(d)) != sha256(json.dumps(d["config"])):
        raise ValueError("its configuration is none that was checked; run the study again")
    study = studies().get(d["study"])
    if study is None or d["arm"] not in study.arms:
        raise ValueError("there is no such row any more")
    config = Job(study, d["arm"], d["size"], d["seed"]).config
    return {**d, "schema": STUDY_SCHEMA, "config": config}


def results(note):
    "(path, new text) of each result that is still told as before; text None and why where it stays"
    for path in sorted(RESULTS.glob("*/*/*.json")):
        name = path.relative_to(TOP).as_posix()
        d = json.loads(path.read_text(encoding="utf-8"))
        if note["results"].get(name, numbers(d)) != numbers(d):
            yield path, None, "its numbers are not those of the note"
        elif d["schema"] == 1:
            try:
                yield path, dumped(told_anew(d, note)), ""
            except ValueError as e:
                yield path, None, str(e)


# ---- networks


def layer(note):
    "The spec of an act or head that a file named by its module"
    if note is None or isinstance(note, str):
        return note
    name = note["class"].rpartition(".")[2]
    told = ", ".join(f"{k}={v!r}" for k, v in note["with"].items())
    return spec.text(spec.make(f"{name}({told})", now=False), now=False)


def network(path):
    "The tree and the card of a shipped network as they are now; None where they are that already"
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    tree, source = load_tree(path), card["source"]
    if tree["info"].get("schema") == SCHEMA:
        return None
    job = Job(studies()[source["study"]], source["arm"], source["size"], source["seed"])
    model = {k: layer(v) if k in ("act", "head") else v for k, v in tree["model"].items()}
    info = {
        "schema": SCHEMA,
        "spat_nb": "0.1.0",
        **identity(job.recipe.but(precision=card["trained"]["precision"])),
        "shape": SHAPES[card["data"]],
        "classes": card["classes"],
        **{k: source[k] for k in ("study", "arm", "size", "seed")},
        "zoo": card["name"],
    }
    return {**tree, "model": model, "info": info}, {**card, "model": model, "recipe": job.config}


def write_network(path, tree, card):
    save_tree(path, tree)
    card["sha256"], card["bytes"] = sha256(path.read_bytes()), path.stat().st_size
    write_card(path, card)


def write_card(path, card):
    with write_aside(path.with_suffix(".json")) as part:
        part.write_text(json.dumps(card, indent=1), encoding="utf-8")


def refreshed(path):
    "The card of a network with the fingerprint of its result as that lies there; None: it has it"
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    result = TOP / card["source"]["results"]
    is_ = sha256(result.read_bytes()) if result.is_file() else card["source"]["results_sha256"]
    if is_ == card["source"]["results_sha256"]:
        return None
    return {**card, "source": {**card["source"], "results_sha256": is_}}


# ---- the log


def log():
    "Every row that was told anew, with its configuration, and how many results it has"
    rows = {}
    for name in sorted(json.loads(NOTE.read_text(encoding="utf-8"))["results"]):
        d = json.loads((TOP / name).read_text(encoding="utf-8"))
        rows.setdefault((d["study"], d["size"], d["arm"]), []).append(d)
    lines = [
        "# Results told in specs",
        "",
        "Written by tools/migrate_results.py, whose head says what was changed: `config` and",
        "`schema` of each result, nothing else; tests/test_migration.py holds all other bytes",
        "against tools/migrate_results.json, which was noted from commit 206ec25, and the",
        "configurations against the rows of today.",
        "",
        f"{sum(map(len, rows.values()))} results of {len(rows)} rows:",
        "",
    ]
    for (study, size, arm), runs in rows.items():
        config = runs[0]["config"]
        told = ", ".join(f"{k}={v!r}" for k, v in config["recipe"].items())
        own = f"; trained by {config['train']}" if "train" in config else ""
        judge = ", ".join(f"{k}={v!r}" for k, v in config["judge"].items())
        lines.append(
            f"- {study}, {size}, **{arm}**, {len(runs)} seeds: {told}{own}; judge: {judge}"
        )
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--check", action="store_true", help="change nothing")
    p.add_argument("--record", metavar="COMMIT", help="note what lies in a commit, and stop")
    a = p.parse_args()
    if a.record:
        NOTE.write_text(json.dumps(noted(in_commit(a.record)), indent=0) + "\n", encoding="utf-8")
        return 0
    note = json.loads(NOTE.read_text(encoding="utf-8"))
    told = left = 0
    for path, text, why in results(note):
        if text is None:
            left += 1
            print(f"{path.relative_to(TOP)} stays as it is: {why}")
            continue
        told += 1
        if not a.check:
            with write_aside(path) as part:
                part.write_text(text, encoding="utf-8")
    rewritten = 0
    for path in sorted(WEIGHTS.glob("*/*/*.safetensors")):
        new = network(path)
        card = None if new else refreshed(path)
        rewritten += new is not None or card is not None
        if new and not a.check:
            write_network(path, *new)
            card = refreshed(path)
        if card and not a.check:
            write_card(path, card)
    print(f"{told} results told anew, {left} left; {rewritten} networks or cards rewritten")
    if told and not a.check:
        LOG.write_text(log(), encoding="utf-8")
    return int(bool(left or a.check and (told or rewritten)))


if __name__ == "__main__":
    sys.exit(main())
