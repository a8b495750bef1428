# SPDX-License-Identifier: Apache-2.0
"""Trainings and trials on each engine: seconds, memory, disk.

    .venv/bin/python benchmarks/engines.py     # 40 minutes on two cores
    .venv/bin/python benchmarks/engines.py digits     # one job of three
    .venv/bin/python benchmarks/engines.py --render   # the table only
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/engines.py     # a look

`digits` is `compress` with four seeds and their controls, eight trainings.
`depthwise` and `heavy` are 20 trials of a search; see `search.py`. Memory is
that of the process and all that it has started, shared pages counted once.
Overhead is what a trial costs beside its training: the seconds of all
workers, less those of the trials, over the trials.

Serial trains with as many threads as there are cores, a worker of the others
with its share of them: of two cores, one. TensorFlow then adds up in another
order, so figures differ in what rounding decides.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from _meter import disk_usage
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import keep
from _timing import kept
from search import Search

import keras_kd as kd
from keras_kd.core.records import StageRecord
from keras_kd.training.trainer import train

SCRIPT = "engines"
SEEDS, EPOCHS = ((0,), 2) if FAST else ((0, 1, 2, 3), 60)
ENGINES: dict[str, Callable[[], kd.engines.Engine]] = {
    "Serial": kd.engines.Serial,
    "Loky(2)": lambda: kd.engines.Loky(2),
    "Ray(2)": lambda: kd.engines.Ray(workers=2),
}


class Watch(threading.Thread):
    """Notes the most memory of this process and its descendants, in MB.

    Also the most bytes in a folder.
    """

    def __init__(self, folder: str):
        super().__init__(daemon=True)
        self.folder = pathlib.Path(folder)
        self.memory, self.disk = 0.0, 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.5):
            self.memory = max(self.memory, memory_of_tree())
            self.disk = max(self.disk, disk_usage(self.folder))


def memory_of_tree() -> float:
    """Returns the proportional set size of this process and all below, MB."""
    parents = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text().rpartition(") ")[2]
            parents[int(folder.name)] = int(stat.split()[1])
    tree, size = {os.getpid()}, 0
    while len(tree) > size:
        size = len(tree)
        tree |= {pid for pid, parent in parents.items() if parent in tree}
    total = 0
    for pid in tree:
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            line = next(x for x in text.splitlines() if x.startswith("Pss:"))
            total += int(line.split()[1])
    return total / 1024


def measured(job: Callable, make: Callable[[], kd.engines.Engine]) -> dict:
    """Returns what a job takes on an engine, its start and end included."""
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(folder)
        watch.start()
        began = time.perf_counter()
        with make() as engine:
            found = job(pathlib.Path(folder) / "it", engine)
            slots = engine.slots
        seconds = time.perf_counter() - began
        watch.ended.set()
        watch.join()
    trials, of_trials, table = found
    return {
        "seconds": seconds,
        "memory_mb": watch.memory,
        "disk_mb": watch.disk / 2**20,
        "overhead": (seconds * slots - of_trials) / trials,
        "table": table,
    }


def digits(folder: pathlib.Path, engine: kd.engines.Engine) -> tuple:
    """Eight trainings of `compress`, taught by one teacher."""
    recipe = kd.recipes.load("digits")
    report = kd.compress(
        _teacher(),
        recipe.build_student,
        recipe.load_data(),
        folder,
        epochs=EPOCHS,
        seeds=SEEDS,
        prune=None,
        formats=("tflite",),
        engine=engine,
    )
    records = [
        StageRecord.load(path)
        for kind in ("control", "student")
        for path in sorted((folder / "stages").glob(f"{kind}-*.json"))
    ]
    seconds = sum(record.seconds for record in records)
    figures = [record.metrics["accuracy"] for record in records]
    return len(records), seconds, [figures, str(report.gain)]


@functools.cache
def _teacher():
    recipe = kd.recipes.load("digits")
    teacher, _ = train(
        recipe.build_teacher, recipe.load_data(), title="teacher", epochs=EPOCHS
    )
    return teacher


def trials(pair: str) -> Callable:
    """Returns a job of 20 trials."""
    search = Search(pair)

    def job(folder, engine):
        found = search.search(folder, engine=engine)
        rows = [[row.name, row.settings, row.objective] for row in found.rows]
        return len(rows), sum(row.seconds for row in found.rows), rows

    return job


def to_markdown(results: dict) -> str:
    lines = []
    for name, runs in results["jobs"].items():
        tables = {engine: run["table"] for engine, run in runs.items()}
        lines += [
            f"## {name}",
            "",
            "| engine | seconds | memory (MB) | disk (MB) | overhead (s) |",
            "|:---|---:|---:|---:|---:|",
            *(
                f"| {engine} | {run['seconds']:.0f} | {run['memory_mb']:.0f} "
                f"| {run['disk_mb']:.1f} | {run['overhead']:.2f} |"
                for engine, run in runs.items()
            ),
            "",
            *told_of(tables),
            "",
        ]
    return "\n".join(["# Engines", "", *lines, footnote(results), ""])


def told_of(tables: dict) -> list[str]:
    """Returns what is equal on which engines."""
    alone, *others = tables.values()
    workers = " and ".join(list(tables)[1:])
    equal = all(table == others[0] for table in others)
    lines = [f"Figures on {workers}: {'equal' if equal else '**other**'}."]
    if alone == others[0]:
        return [*lines, "Serial's: equal."]
    named = isinstance(alone[0], list)  # trials: name, settings, figure
    if named and [t[:2] for t in alone] == [t[:2] for t in others[0]]:
        apart = max(
            abs(one[2] - other[2])
            for one, other in zip(alone, others[0], strict=True)
        )
        lines.append(
            "Serial's: the same trials and settings; validation accuracies "
            f"up to {apart:.3f} apart, for its trainings have two threads."
        )
        return lines
    return [*lines, "Serial's: **other**."]


def main() -> None:
    jobs = {
        "digits": lambda: digits,
        "depthwise": lambda: trials("depthwise"),
        "heavy": lambda: trials("heavy"),
    }
    chosen = sys.argv[1:] or list(jobs)
    if chosen == ["--render"]:
        results = kept(SCRIPT)
        keep(SCRIPT, results, to_markdown(results))
        return
    results = {**circumstances(SCRIPT), "jobs": kept(SCRIPT).get("jobs", {})}
    for name in chosen:
        job = jobs[name]()
        results["jobs"][name] = {}
        for engine, make in ENGINES.items():
            results["jobs"][name][engine] = found = measured(job, make)
            shown = {k: v for k, v in found.items() if k != "table"}
            print(name, engine, shown, flush=True)
    keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main()
