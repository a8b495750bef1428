# SPDX-License-Identifier: Apache-2.0
"""The control is pruned for exactly the steps of the student."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.data.splits import Data
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.training.fit_arguments import steps_per_epoch
from keras_kd.workflows import stages as module
from keras_kd.workflows.stages import CompressionStages

X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
FEW = np.where(np.arange(50) < 9, Y, -1)


def network():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def as_it_is(x, seed):
    return x


def batches(y):
    return tf.data.Dataset.from_tensor_slices((X, y)).batch(16)


@pytest.mark.parametrize(
    ("train", "augment"),
    [
        ((X, Y), None),
        ((X, FEW), None),
        ((X, Y), as_it_is),
        ((X, FEW), as_it_is),
        (batches(Y), None),
        (batches(FEW), None),
    ],
)
def test_control_and_student_are_pruned_alike(
    train, augment, tmp_path, monkeypatch
):
    training = {"epochs": 60, "batch_size": 16, "learning_rate": 0.1}
    training |= {"loss": None} | ({"augment": augment} if augment else {})
    distilling = {"temperature": None, "distillation_losses": None}
    stages = CompressionStages(
        network(),
        network,
        Data(train=train, validation=(X[:8], Y[:8])),
        tmp_path,
        training,
        {"alpha": 0.5, **distilling},
        verbose=0,
    )
    asked = []

    def prune(model, data, *, teacher, batch_size, callbacks, **settings):
        x, *y = data.train if isinstance(data.train, tuple) else [data.train]
        count = {"x": x, "y": y[0] if y else None, "batch_size": batch_size}
        steps = settings["epochs"] * steps_per_epoch(count)
        asked.append({**settings, "steps": steps})
        return network(), StageRecord("prune", "pruned")

    monkeypatch.setattr(module, "prune", prune)
    monkeypatch.setattr(StageFolder, "model", lambda *_: network())
    monkeypatch.setattr(Evaluator, "measure", lambda *_: {})
    files = {"seed": 3}, {}, {"it.keras": "0"}
    stages.pruned(StageRecord("student", "distilled", *files), 0.8, 20)
    record = StageRecord("control", "control", *files)
    pruned = stages.pruned_control(record, 0.8, 20)
    assert asked[0]["epochs"] == 20 and asked[0]["steps"] == 80
    assert asked[1] == asked[0]
    assert (pruned.stage, pruned.name) == ("control", "pruned control")


def test_order_of_examples_is_not_that_of_what_ran_before(
    tmp_path, monkeypatch
):
    training = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1}
    distilling = {"temperature": None, "distillation_losses": None}
    orders = []

    def prune(model, data, **_):
        orders.append(next(iter(data.train))[0].numpy())
        return network(), StageRecord("prune", "pruned")

    monkeypatch.setattr(module, "prune", prune)
    monkeypatch.setattr(StageFolder, "model", lambda *_: network())
    monkeypatch.setattr(Evaluator, "measure", lambda *_: {})
    for before in (1, 2):
        stages = CompressionStages(
            network(),
            network,
            Data(train=(X, FEW), validation=(X[:8], Y[:8])),
            tmp_path / str(before),
            {**training, "loss": None},
            {"alpha": 0.5, **distilling},
            verbose=0,
        )
        keras.utils.set_random_seed(before)
        files = {"seed": 3}, {}, {"it.keras": "0"}
        record = StageRecord("control", "control", *files)
        stages.pruned_control(record, 0.8, 20)
    np.testing.assert_array_equal(*orders)
