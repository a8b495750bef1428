# SPDX-License-Identifier: Apache-2.0
"""Seeds and controls side by side are those that come one after another."""

from __future__ import annotations

import os
import pathlib
import signal
from concurrent import futures

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.core.keras_settings import apply_settings
from keras_kd.core.keras_settings import current_settings
from keras_kd.data.splits import Data
from keras_kd.engines import Engine
from keras_kd.engines import Loky
from keras_kd.engines import Serial
from keras_kd.engines import shipping
from keras_kd.workflows import seeds
from keras_kd.workflows.stages import CompressionStages

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int64")
SEEDS = (0, 3)
FIGURES = ("accuracy", "agreement", "best_epoch", "history")


def build(width=4):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(2),
        ]
    )


class Elsewhere(Engine):
    """Hands tasks over as to a process, and ends the last of two first."""

    slots = 2

    def __init__(self):
        self.tasks, self.shared = [], 0

    def share(self, value):
        self.shared += 1
        return shipping.unpacked(shipping.packed(value))

    def submit(self, function, *arguments):
        content = shipping.packed((function, arguments))
        self.tasks.append((futures.Future(), content))
        future = self.tasks[-1][0]
        if len(self.tasks) == self.slots:
            while self.tasks:
                ended, content = self.tasks.pop()
                function, arguments = shipping.unpacked(content)
                ended.set_result(function(*arguments))
        return future


def stages_in(folder, teacher=None):
    keras.utils.set_random_seed(1)
    return CompressionStages(
        teacher or build(16),
        build,
        Data((X, Y), (X[:16], Y[:16])),
        pathlib.Path(folder),
        {
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": keras.optimizers.schedules.CosineDecay(1e-2, 8),
            "loss": keras.losses.SparseCategoricalCrossentropy(True),
            # Objects that hold variables have to travel, too.
            "optimizer": keras.optimizers.SGD(1e-2, momentum=0.5),
            "metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")],
            "callbacks": [keras.callbacks.TerminateOnNaN()],
        },
        {
            "temperature": None,
            "alpha": 0.5,
            "distillation_losses": [kd.losses.SoftTargets(2.0)],
        },
        verbose=0,
        task=kd.tasks.Classification(),
    )


def trained_in(folder, engine):
    stages = stages_in(folder)
    found = seeds.train_seeds(stages, ("control", "student"), (3,), engine)
    records = [*found["control"], *found["student"]]
    weights = [stages.folder.model(r).get_weights() for r in records]
    return [
        [r.name, r.settings["seed"], *(r.metrics[key] for key in FIGURES)]
        for r in records
    ], weights


def same(one, other):
    assert one[0] == other[0]
    keras.tree.map_structure(np.testing.assert_array_equal, one[1], other[1])


def test_order_in_which_seeds_end_changes_nothing(eager, tmp_path):
    engine = Elsewhere()
    found = trained_in(tmp_path / "beside", engine)
    same(trained_in(tmp_path / "alone", Serial()), found)
    assert engine.shared == 3  # the lesson, no teaching, the teacher's answers
    assert [name for name, *_ in found[0]] == ["control", "student"]


def test_what_ended_beside_a_failure_is_kept(eager, tmp_path, monkeypatch):
    train, calls = seeds.train, []

    def fails_once(*arguments, seed, **options):
        calls.append(seed)
        if len(calls) == 2:
            raise ValueError("no such width")
        return train(*arguments, seed=seed, **options)

    monkeypatch.setattr(seeds, "train", fails_once)
    run = stages_in(tmp_path), ("control",), SEEDS, Serial()
    with pytest.raises(ValueError, match="no such width"):
        seeds.train_seeds(*run)
    assert calls == [0, 3]
    seeds.train_seeds(*run)
    assert calls == [0, 3, 3]


def test_another_process_builds_with_the_precision_of_this_one():
    before = current_settings()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        here = shipping.unpacked(shipping.packed(current_settings()))
        apply_settings(before)
        assert keras.config.dtype_policy().compute_dtype == "float32"
        apply_settings(here)
        assert keras.config.dtype_policy().compute_dtype == "bfloat16"
    finally:
        apply_settings(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loky", "ray"])
def test_compress_with_workers_has_the_figures_of_one(tmp_path, name):
    if name == "ray":
        pytest.importorskip("ray", reason="pip install 'keras_kd[ray]'")
    died = tmp_path / "died"

    def builder():
        # The first process to begin a training dies, and only it.
        if "OMP_NUM_THREADS" in os.environ and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return build()

    def run(folder, **where):
        keras.utils.set_random_seed(1)
        report = kd.compress(
            build(16),
            builder,
            kd.Data((X, Y), (X[:16], Y[:16])),
            tmp_path / folder,
            epochs=2,
            seeds=SEEDS,
            prune=None,
            formats=("tflite",),
            verbose=0,
            **where,
        )
        models = sorted((tmp_path / folder / "stages").glob("*-[03].keras"))
        assert len(models) == 4
        return [
            (r.name, r.metrics.get("accuracies"), r.metrics.get("history"))
            for r in report.records
        ], [keras.saving.load_model(m).get_weights() for m in models]

    assert "OMP_NUM_THREADS" not in os.environ
    with Loky(1, threads=1) as alone:
        expected = run("alone", engine=alone)
    assert alone.lost == 1 and died.exists()
    with kd.engines.get(name, 2) as engine:
        same(expected, run("beside", engine=engine))
