"""A report in a file: JSON, one line for each key, and all that differs between two runs in one"""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.files import write_aside
from ..core.paths import what_is
from .card import Card
from .followup import FollowUp
from .proved import Proved
from .record import Record
from .stopping import Stopped

if TYPE_CHECKING:
    from .report import Report

__all__ = ["KEYS", "SCHEMA", "read_report", "write_report_file"]

SCHEMA = 1
NAME = "report.json"  # of the file in a folder that --report wrote
KIND = "report"
# every key of the file
KEYS = {
    "schema": "version of this layout, a whole number; a new one where a key goes or means another "
    "thing, not where one is added",
    "kind": "always 'report'",
    "when": "date: when it was written, UTC, ISO 8601, or null; seconds: row -> seconds of the "
    "attack; card, proved: seconds of the trust card and the proofs, or null. Nothing else differs "
    "between two runs",
    "network": "name or make of the network, and its number of parameters",
    "data": "name, number and shape of the images",
    "ball": "threat model, as a spec: the norm and the radius in pixels of [0,1]",
    "device": "on which the network was judged",
    "threads": "of the CPU",
    "attacks": "name -> spec, or description, of every attack that was run",
    "passes": "name -> images, and forward and backward passes for each of them",
    "made": "versions and seed; command: what was typed; asked: flags that choose the judging; "
    "hashes: of the weights, their file and the images",
    "record": "y: labels; preds: row -> answer to each image, clean first; classes: names; info: "
    "attacks, precision, seed, notes, and identity: fingerprints of model, attacks and images",
    "card": "the trust card: checks with figure, limit and verdict; accuracy under the gates' "
    "attacks; null where it was not asked",
    "follow_up": "what the attacks found that the card's flags call for: falls, each with its "
    "attack as code; claimed, before, after: shares; lowered: points; null where not asked",
    "proved": "by: the bound; certified: whether each image stands whatever an attacker does in "
    "the ball; null where not asked",
    "privacy": "what the network tells of its training images: optimistic and split score of "
    "membership, 1/2 is a guess; loudest and loudest_attacked: longest gradients of the weights; "
    "intensity: their ratio; null where not asked",
    "stopped": "how far a judgement went that did not need all images: images, total, row, "
    "accuracy, low, high, why; null where all were judged",
    "summary": "counted from the answers: verdict; flags; rows: row -> n, accuracy and its 95% "
    "interval lo, hi, weakest_class, weakest; classes: the same for each class under the hardest "
    "row",
    "cases": "told: how the worst cases were found; shown: row, label, answer and radius of each",
}
OPTIONAL = ("when", "follow_up", "proved", "privacy", "stopped", "summary", "cases")
FIELDS = ("ball", "network", "data", "device", "threads", "attacks", "passes", "made")


def _json_of(thing) -> dict:
    "What `thing.save` writes, as JSON values"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "it.json"
        thing.save(path)
        return json.loads(path.read_text(encoding="utf-8"))


def _from_json(kind, values):
    "What `kind.load` reads from JSON values"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "it.json"
        path.write_text(json.dumps(values), encoding="utf-8")
        return kind.load(path)


def _values(report, date, more):
    "The file's values, in the order of `KEYS`"
    record = _json_of(report.record)
    card = _json_of(report.card) if report.card is not None else None
    when = {
        "date": date,
        "seconds": record["info"].pop("seconds", {}),
        "card": card["info"].pop("seconds", None) if card is not None else None,
        "proved": report.proved.seconds if report.proved is not None else None,
    }
    values = {k: getattr(report, k) for k in FIELDS}
    follow = report.follow.as_dict() if report.follow is not None else None
    stopped = report.stopped.as_dict() if report.stopped is not None else None
    values |= {
        "stopped": stopped,
        "follow_up": follow,
        "proved": report.proved.as_dict() if report.proved is not None else None,
        "privacy": report.privacy,
        "schema": SCHEMA,
        "kind": KIND,
        "when": when,
        "record": record,
        "card": card,
        **more,
    }
    return {k: values[k] for k in KEYS if k in values}


def write_report_file(
    report: Report,
    path,  # file to write
    date: str | None = None,  # when, ISO 8601
    **more,  # further keys of `KEYS`: summary, cases
):
    "Write a report, aside first"
    lines = [
        f"{json.dumps(k)}: {json.dumps(v)}" for k, v in _values(report, date, dict(more)).items()
    ]
    with write_aside(path) as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _with_seconds(values):
    "The values with the seconds back where record and card have them"
    values = copy.deepcopy(values)
    when = values.get("when") or {}
    if "seconds" in when:
        values["record"]["info"]["seconds"] = when["seconds"]
    if when.get("card") is not None and values["card"]:
        values["card"]["info"]["seconds"] = when["card"]
    return values


def read_report(
    kind: type[Report],  # what to make of it
    path,  # of a file that `write_report_file` wrote, or of a folder with report.json
) -> Report:
    """Read a report.

    FileNotFoundError, or ValueError where the file is damaged or no report
    """
    path = Path(path).expanduser()
    if (path / NAME).is_file():
        path /= NAME
    if not path.is_file():
        raise FileNotFoundError(f"no report {path}; check the path, or judge first.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        said = values["kind"]
    except (ValueError, KeyError, TypeError):
        said = None
    if said != KIND:
        raise ValueError(
            f"{path} is {what_is(path)} and no report; give the file that report.save wrote."
        )
    if values.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {values.get('schema')!r}, this version reads {SCHEMA}; judge again."
        )
    try:
        values = _with_seconds(values)
        report = kind(
            record=_from_json(Record, values["record"]),
            card=_from_json(Card, values["card"]) if values["card"] else None,
            stopped=Stopped(**values["stopped"]) if values.get("stopped") else None,
            follow=FollowUp.of(values["follow_up"]) if values.get("follow_up") else None,
            proved=Proved.of(values["proved"]) if values.get("proved") else None,
            privacy=values.get("privacy"),
            **{k: values[k] for k in FIELDS},
        )
        repr(report)  # a whole report can say what it says
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f"{path} holds no whole report ({' '.join(str(e).split())}); judge again."
        ) from None
    return report
