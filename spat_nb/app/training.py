"The command `train`: a recipe is trained and judged, and a folder says both"

from __future__ import annotations

import json
from pathlib import Path

from ..core.files import write_aside
from ..core.identity import difference, made_of
from ..core.paths import check_writable
from ..core.precision import check_compiler
from ..core.settings import default_device, settings
from ..measure.battery import STANDARD, named_attacks
from ..measure.report import Report
from ..measure.told import network_told
from ..training.building import build_model, open_data
from ..training.run import train
from ..training.rundir import ELSE, FILES, stands
from ..training.sameness import identity, run_name
from ..training.trackers import Tracker
from .opening import facts_of, lines_above, settle
from .typed import recipe_of, row_told

__all__ = ["REPORT", "CURVES", "Work", "picture"]

REPORT, CURVES = "report.json", "curves.png"
JOURNAL = "judging.json"  # of a judgement that goes on


def picture(
    history: list,  # rows of a run's looks at validation images
    report: Report,  # its judgement
    path: Path,  # PNG file to write
):
    "Training curves, and every class under all that was tried"
    import matplotlib.pyplot as plt

    from spat_nb.core import plot

    axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")[1]
    lines = {}
    for key in ("clean", "robust"):
        rows = [r for r in history if key in r]
        lines[key] = ([r["epoch"] for r in rows], [r[key] for r in rows])
    plot.curves(lines, "epoch", "validation accuracy", axes[0])
    report.plot(ax=axes[1])
    with write_aside(path) as part:
        part.write_bytes(plot.png(axes))


class Work:
    "One call of the command, in one process of many or alone"

    def __init__(
        self,
        a,  # what was typed
        devices=None,  # `devices.many()`
    ):
        self.a = a
        self.devices = devices
        self.recipe, self.row = recipe_of(a)
        self.threads = settle()
        self.out = Path(a.out) if a.out else settings().results / run_name(self.recipe)
        self.device = devices.device if devices else default_device(a.device)
        # asked for before any work is done: is it installed?
        self.trackers = [Tracker(a.track, self.out / a.track)] if a.track else []

    @property
    def is_first(self) -> bool:
        "Is this the process that speaks and writes?"
        return self.devices is None or self.devices.first

    def say(self, *words):
        "One of many processes speaks"
        if self.is_first:
            print(*words, flush=True)

    def wait(self):
        "Until all processes are here"
        if self.devices:
            self.devices.wait()

    def do(self):
        "Train what is not trained, judge what is not judged"
        trained = self._is_trained()
        report = self._judged() if trained else None
        self.wait()  # nobody looks for files that the first one deletes or writes
        if report is not None:
            self.say("\n".join(report.head()))
            self.say(f"finished before: {self.out} (--again trains once more)")
            return self._show(report)
        if self.is_first:
            self._ready()
        self.wait()
        data = open_data(self.recipe, self.device, self.a.workers)
        self._begin(data)
        run = self._train(data)
        report = self._judge(run)
        self._show(report)
        self.say(f"written: {self.out}/weights.safetensors, result.json, {REPORT}, {CURVES}")

    # ---- what was done before

    def _is_trained(self):
        "Does this very run lie in the folder? ValueError where another one does"
        if self.a.again:
            return False
        told = json.loads(json.dumps(identity(self.recipe)))
        try:
            return stands(self.out, told)
        except ValueError as e:
            mend = "give another --out, or --again to train anew in it"
            raise ValueError(str(e).replace(ELSE, mend)) from None

    def _judged(self):
        "The report of a run, where it was made by the attacks of today; else None"
        path = self.out / REPORT
        if not path.is_file():
            return None
        report = Report.load(path)
        was = report.record.info.get("identity", {}).get("attacks", {})
        attacks = named_attacks(STANDARD, self.recipe.made("ball"))
        for name, attack in attacks.items():
            if difference(was.get(name, {}), made_of(attack)):
                self.say(f"{path} was made by another {name}: the network is judged anew")
                return None
        return report

    # ---- the work

    def _ready(self):
        "Refuse, before any work is done, what cannot be written or compiled"
        check_writable(self.out, folder=True)
        for name in (*FILES, REPORT, CURVES, JOURNAL):
            check_writable(self.out / name)
        if self.a.compile:
            try:
                check_compiler(self.device, "--compile")
            except RuntimeError as e:
                raise ValueError(str(e)) from None
        if not self._is_trained():
            for name in (REPORT, JOURNAL):  # of weights that are gone
                (self.out / name).unlink(missing_ok=True)

    def _begin(self, data):
        "Say what is trained, where, and by which slots"
        recipe = self.recipe
        network = network_told(build_model(recipe, data.train))
        source = f"{recipe.data}, test"
        processes = self.devices.of if self.devices else 1
        ball = recipe.made("ball")
        facts = facts_of(network, data.test, source, ball, self.device, processes)
        self.say(lines_above(facts, recipe.precision))
        if self.row is not None:
            self.say(f"method   {self.row}: {row_told(self.row)}")
        self.say(f"recipe   {recipe}")
        self.say(f"images   {data.train.n:,} to train on, {data.valid.n:,} to choose by")
        self.say(f"into     {self.out}")
        if (self.out / "checkpoint.safetensors").exists():
            self.say("going on from the checkpoint of a run that was interrupted")

    def _train(self, data):
        "The finished run, with its data open"
        a = self.a
        run = train(
            self.recipe,
            self.out,
            device=a.device,
            resume=not a.again,
            compile=a.compile,
            devices=self.devices,
            every=a.every,
            data=data,
            callbacks=self.trackers,
        )
        run.opened = data
        return run

    def _judge(self, run):
        "The report of a run, written together with its picture; that of a killed one goes on"
        report = run.judge(
            STANDARD,
            devices=self.devices,
            resume=None if self.devices else self.out / JOURNAL,
        )
        if not self.is_first:
            return report
        try:
            picture(run.history, report, self.out / CURVES)
        except Exception as e:  # hours of training are not lost for it
            why = " ".join(str(e).split())
            self.say(f"{self.out / CURVES} could not be drawn ({why}); all else is there")
        report.save(self.out / REPORT)  # last: it says that the run is judged
        (self.out / JOURNAL).unlink(missing_ok=True)
        return report

    def _show(self, report):
        "The table, the verdict, and each class by itself"
        classes = report.per_class.to_string(float_format="{:.3f}".format)
        self.say(f"\n{report.body()}\n\n{classes}")
