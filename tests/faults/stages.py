# SPDX-License-Identifier: Apache-2.0
"""Stages: everything that writes, each one row; a new one is one more.

A stage is a function of its folder. It returns JSON values that are the same
however often it was interrupted before.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil

import keras
import numpy as np

import keras_kd as kd
from cli.tiny_recipe import RECIPE
from export import releasing
from keras_kd.cli import main
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.stage_cache import StageFolder
from keras_kd.data.splits import Data
from keras_kd.export.manifest import check_manifest
from keras_kd.export.verification.golden import read_golden
from keras_kd.report import Report

BEFORE = pathlib.Path(__file__).parents[1] / "saved_before" / "run"
ROWS = 40
LEARN = {"epochs": 1, "batch_size": 20, "verbose": 0}


def network(width=4, seed=0):
    """Returns a small model, the same for each seed."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((3,), name="x"),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dense(2),
        ],
        name="student",
    )


def build():
    """Returns a new student, drawn anew."""
    return keras.Sequential(
        [keras.Input((3,), name="x"), keras.layers.Dense(2)], name="student"
    )


def splits():
    """Returns the data that all stages share."""
    x = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    return Data((x, y), (x[:10], y[:10]), (x[10:], y[10:]))


def weights(model):
    """Returns a digest of a model's weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def contents(folder):
    """Returns the sha256 of each file that has a final name."""
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def stages(folder):
    """Two stages of a run, of which one depends on the other."""
    kept = StageFolder(folder)
    first = kept.run("first", 1, lambda: (network(), StageRecord("a", "a")))
    model = kept.model(first)
    record = StageRecord("b", "b", metrics={"sum": weights(model)})
    return kept.run("second", 2, lambda: (None, record)).metrics


def targets(folder):
    """The answers of a teacher, in several shards."""
    cache = kd.TeacherCache(folder, shard_size=8)
    cache.build(network(), splits().train, verbose=0)
    return [contents(folder), np.asarray(cache.fingerprints).tolist()]


def merged(folder):
    """Parts that are labelled each in its folder, and put together."""
    for index in range(2):
        cache = kd.TeacherCache(folder / f"part-{index}", shard_size=8)
        part = (index, 2)
        cache.build(network(), splits().train, verbose=0, part=part)
    parts = [folder / f"part-{index}" for index in range(2)]
    kd.TeacherCache.merge(parts, folder / "whole")
    return contents(folder / "whole")


def exported(folder):
    """A SavedModel and a .tflite file, published."""
    kd.export(network(), folder, "m", identity="one", verbose=0)
    base = folder / "m"
    versions = sorted(p.name for p in base.iterdir() if p.name.isdigit())
    for path in [*map(base.joinpath, versions), base / "m.tflite"]:
        with contextlib.suppress(ValueError):
            check_manifest(path)
            continue
        if path != base / versions[-1]:
            continue  # a damaged older version stays where it is
        return "the newest is damaged"
    return file_sha256(base / "m.tflite")


def released(folder):
    """Another export's files, over an earlier version."""
    base, first = folder / "run", folder / ".first"
    if not base.exists():
        shutil.rmtree(first, ignore_errors=True)
        shutil.copytree(BEFORE, first)
        os.rename(first, base)
    releasing.publish_second(base, BEFORE, b"second")
    newest = max(int(p.name) for p in base.iterdir() if p.name.isdigit())
    found = [releasing.contents(base / n) for n in (str(newest), "serving")]
    for files in found:
        files.pop("manifest.json")  # of all that is good beside them, too
    answers = read_golden(base / "run.tflite").expected
    answers = {name: a.tolist() for name, a in answers.items()}
    return [found, releasing.contents(base / "run.tflite"), answers]


def whole_files(folder):
    """Raises a ValueError if a final name in `released` has half a file."""
    if (folder / "run").exists():
        releasing.check_all(folder / "run")


def reported(folder):
    """A report of records that are there."""
    metrics = {"accuracy": 0.5, "accuracies": [0.5, 0.5], "seeds": [0, 1]}
    records = [
        StageRecord(kind, kind, metrics=dict(metrics))
        for kind in ("control", "student")
    ]
    Report(folder, records, command="c", environment={}, lineage=[]).save()
    return Report.load(folder).to_markdown()


def searched(folder):
    """A search of three trials, and a fresh seed."""
    result = kd.search(
        *(network(8), build, splits(), 3, folder),
        **{"tuner": "random", "confirm": 1, **LEARN},
    )
    figures = [[row.name, row.settings, row.objective] for row in result.rows]
    return [figures, weights(result.best_model), str(result.confirmed)]


def generations(folder):
    """Two generations, each taught by the one before."""
    result = kd.born_again(
        build, splits(), 2, directory=folder, patience=2, **LEARN
    )
    return list(map(weights, result.students))


def links(folder):
    """A teacher, an assistant and a student."""
    student, records = kd.teach_through(
        network(8), [build, build], splits(), directory=folder, **LEARN
    )
    return [weights(student), len(records)]


def run(folder):
    """A recipe from the command line, teacher to report."""
    recipe = folder.parent / "recipe.py"
    few = RECIPE.replace("seeds=(0, 1)", "seeds=(0,)")
    for name in ("teacher_epochs=3", "epochs=3", "prune_epochs=2"):
        few = few.replace(name, name[:-1] + "1")
    recipe.write_text(few)
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = main(["run", str(recipe), "--directory", str(folder)])
    if code:
        # As the shell sees it; the harness judges code and words.
        raise Ended(code, told.getvalue())
    content = json.loads((folder / "report.json").read_text())
    wanted = ("accuracy", "agreement", "nonzero_parameters", "accuracies")
    kept = [
        [r["name"], *(r["metrics"].get(key) for key in wanted)]
        for r in content["records"]
    ]
    pruned = keras.saving.load_model(folder / "stages" / "pruned.keras")
    versions = sorted(p.name for p in folder.iterdir() if p.name.isdigit())
    return [kept, weights(pruned), versions[-1:] and "published"]


class Ended(OSError):
    """A command ended with another code than 0."""

    def __init__(self, code, text):
        super().__init__(text[-2000:])
        self.code = code


STAGES = (
    *(stages, targets, merged, reported, released, exported, generations),
    *(links, searched, run),
)
LEFT = {released: whole_files}
"""What must hold of a folder that a fault has left behind."""


def by_name(name):
    """Returns a stage."""
    return next(stage for stage in STAGES if stage.__name__ == name)


def fresh(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder of a stage, empty, in a folder of its own."""
    (folder / "m").mkdir(parents=True)
    return folder / "m"
