# SPDX-License-Identifier: Apache-2.0
"""One batch goes through every stage before hours are spent."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.data.splits import Data
from keras_kd.engines import Serial
from keras_kd.workflows import dry_run as module
from keras_kd.workflows.dry_run import dry_run
from keras_kd.workflows.dry_run import one_batch
from keras_kd.workflows.seeds import train_seeds
from keras_kd.workflows.stages import CompressionStages

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
# Sorted, as files often are.
Y = np.repeat([0, 1], 32)
DATA = Data(train=(X, Y), validation=(X, Y), test=(X[:8], Y[:8]))
FILES = {"formats": ["saved_model", "tflite"], "quantize": None}


def build():
    hidden = layers.Dense(3, "relu")
    return keras.Sequential([keras.Input((4,)), hidden, layers.Dense(2)])


class Broken(kd.losses.DistillationLoss):
    def call(self, teacher, student):
        raise TypeError("no such loss")


@pytest.fixture
def said():
    return []


@pytest.fixture
def stages_of(tmp_path, said):
    def make(student=build, data=DATA, folder="run", **changes):
        keras.utils.set_random_seed(0)  # each run has the same teacher
        training = {"epochs": 1, "batch_size": 32, "learning_rate": 0.1}
        training["optimizer"] = "sgd"  # traced in a third of Adam's time
        distilling = {"temperature": None, "distillation_losses": None}
        found = CompressionStages(
            build(),
            student,
            data,
            tmp_path / folder,
            {**training, "loss": None},
            {"alpha": 0.5, **distilling, **changes},
            verbose=0,
        )
        found.say = found.folder.say = said.append
        return found

    return make


def no_lite(*_, **__):
    raise RuntimeError("no such operation in LiteRT")


@pytest.mark.usefixtures("no_picture", "eager")
def test_a_format_that_does_not_convert_is_told_at_once(
    stages_of, said, monkeypatch, tmp_path
):
    monkeypatch.setattr(module, "write_tflite", no_lite)
    stages = stages_of()
    dry_run(stages, 0.5, FILES)
    assert said[-1] == "tflite will be refused: no such operation in LiteRT"
    # Only its record stays, which no report speaks of.
    (kept,) = (p for p in tmp_path.rglob("*") if p.is_file())
    assert kept.name == "dry-run.json"
    record = StageRecord.load(kept)
    row = StageRecord("student", "distilled", {"seed": 0}, {"seeds": [0]})
    lineage = kd.Report(stages.directory, [row]).lineage
    assert record.stage not in [stage.stage for stage in lineage]
    # A run that goes on is told again, and waits for nothing.
    monkeypatch.setattr(module, "_through_all", None)
    dry_run(stages, 0.5, FILES)
    assert said[-2:] == ["dry-run: done before", said[-3]]


def test_a_loss_that_fails_is_named(stages_of):
    stages = stages_of(distillation_losses=[Broken()])
    told = "Before any training .* training a student failed. TypeError: no su"
    with pytest.raises(ValueError, match=told):
        dry_run(stages, 0.5, FILES)


def test_a_student_that_pruning_does_not_fit_is_named(stages_of):
    def student():
        head = layers.Dense(2, trainable=False)
        scaled = layers.BatchNormalization()
        return keras.Sequential([keras.Input((4,)), scaled, head])

    with pytest.raises(ValueError, match="pruning failed. .* no kernel to pr"):
        dry_run(stages_of(student), 0.5, FILES)


@pytest.fixture
def trained(monkeypatch):
    """Takes the training for granted."""
    records = {"student": [StageRecord("student", "student")]}
    monkeypatch.setattr(module, "train_seeds", lambda *_: records)
    monkeypatch.setattr(StageFolder, "model", lambda *_: build())


def test_files_that_fail_are_named(stages_of, trained, monkeypatch):
    monkeypatch.setattr(module, "write_tflite", no_lite)
    with pytest.raises(ValueError, match="files failed. RuntimeError: no su"):
        dry_run(stages_of(), None, {**FILES, "formats": ["tflite"]})
    made = {"tflite": "nowhere.tflite"}, {}
    monkeypatch.setattr(module, "convert", lambda *_: made)
    with pytest.raises(ValueError, match="measuring the file .tflite. failed"):
        dry_run(stages_of(), None, FILES)


def test_a_report_that_fails_is_named(stages_of, trained, monkeypatch):
    def save(self):
        raise OverflowError("axes")

    monkeypatch.setattr(module, "convert", lambda *_: ({}, {}))
    monkeypatch.setattr(kd.Report, "save", save)
    with pytest.raises(ValueError, match="reporting failed. OverflowError: a"):
        dry_run(stages_of(), None, FILES)


def test_an_optimizer_is_told_the_steps_of_the_whole_training(
    stages_of, trained, monkeypatch
):
    told = []

    def of(steps):
        told.append(steps)
        return keras.optimizers.SGD()

    def train(stages, *_):
        stages.training["optimizer"](1)
        return {"student": [StageRecord("student", "student")]}

    monkeypatch.setattr(module, "train_seeds", train)
    monkeypatch.setattr(module, "convert", lambda *_: ({}, {}))
    monkeypatch.setattr(kd.Report, "save", lambda self: None)
    stages = stages_of()
    stages.training |= {"optimizer": of, "epochs": 7}
    dry_run(stages, None, FILES)
    assert told == [7 * 2]


def test_nothing_of_the_run_changes(stages_of, eager, monkeypatch):
    monkeypatch.setattr(module, "convert", lambda *_: ({}, {}))
    monkeypatch.setattr(kd.Report, "save", lambda self: None)
    loss = kd.losses.SoftTargets(2.0)
    alone, after = (
        stages_of(folder=name, distillation_losses=[loss]) for name in "ab"
    )
    dry_run(after, 0.5, FILES)
    figures = []
    for stages in (alone, after):
        (student,) = train_seeds(stages, ["student"], [0], Serial())["student"]
        pruned = stages.pruned(student, 0.5, 1)
        weights = stages.folder.model(pruned).get_weights()
        figures.append((student.metrics["history"], weights))
    assert figures[0][0] == figures[1][0]
    for one, other in zip(figures[0][1], figures[1][1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_is_spread_over_the_arrays():
    found = one_batch(DATA, 8)
    assert len(found.train[0]) == 8 and len(found.test[0]) == 8
    assert set(found.train[1]) == set(found.validation[1]) == {0, 1}
    assert found.reported_split == "test"


def test_a_data_set_that_shuffles_itself_is_not_begun():
    begun = []

    def rows():
        begun.append(1)
        yield X[:4], Y[:4]

    specs = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int64))
    stream = tf.data.Dataset.from_generator(rows, output_signature=specs)
    held = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    found = one_batch(Data(train=stream, validation=held), 8)
    assert not begun
    assert len(list(found.train)) == 1
    assert found.reported_split == "validation"
    # Another kind of batches stands for no batch of training.
    weighted = held.map(lambda x, y: (x, y, y))
    one_batch(Data(train=stream, validation=weighted), 8)
    assert begun
