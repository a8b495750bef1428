# SPDX-License-Identifier: Apache-2.0
"""A stage is not believed when what it came from has changed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.data.splits import Data
from keras_kd.workflows.stages import CompressionStages

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def batches(y=Y):
    return tf.data.Dataset.from_tensor_slices((X, y)).batch(4)


def network(factor=0.0):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    if factor:
        kernel = factor * np.arange(6.0).reshape(3, 2)
        model.set_weights([kernel, np.zeros(2)])
    return model


def loss_of(body):
    """The same name and module; only what it does is another."""
    namespace = {"__name__": "own", "keras": keras}
    text = f"def own(y, p): return {body} * keras.losses.mse(y, p[..., 0])"
    exec(text, namespace)
    return namespace["own"]


def helped_by(helper):
    namespace = {"__name__": "own", "helper": helper}
    exec("def ask(x): return helper(x)", namespace)
    return kd.teachers.CallableTeacher(namespace["ask"], (2,))


@keras.saving.register_keras_serializable("test_stale_stages")
class Own(keras.losses.Loss):
    def __init__(self, by=1.0):
        super().__init__("own")
        self.by = by  # nothing writes it down

    def call(self, y_true, y_pred):
        return self.by * keras.ops.mean(y_pred - y_true, -1)


class OwnDistance(kd.losses.SoftTargets):
    def call(self, y_true, y_pred):
        return super().call(y_true, y_pred)


TEACHER = network(1.0)
CASES = {
    "train": lambda new: {"train": batches(1 - Y if new else Y)},
    "test": lambda new: {"test": batches(1 - Y if new else Y)},
    "student": lambda new: {"build": lambda: network(2.0 + new)},
    "loss": lambda new: {"loss": loss_of(1.0 + new)},
    "loss object": lambda new: {"loss": Own(1.0 + new)},
    "teacher": lambda new: {"teacher": network(1.0 + new)},
    "helper": lambda new: {
        "teacher": helped_by((lambda x: x[:, :2]) if new else np.atleast_2d)
    },
}


def dependencies(
    tmp_path, train=(X, Y), test=None, teacher=TEACHER, build=network, loss=None
):
    """What every stage of a run depends on; nothing is trained."""
    stages = CompressionStages(
        teacher,
        build,
        Data(train, (X, Y), test),
        tmp_path / "run",
        {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "loss": loss},
        {"temperature": 2.0, "alpha": 0.5, "distillation_losses": None},
        verbose=0,
        task=kd.tasks.Classification(),
    )
    return stages.taught


@pytest.mark.parametrize("case", CASES)
def test_stage_is_not_believed_when_its_source_has_changed(tmp_path, case):
    before, same, after = (
        dependencies(tmp_path, **CASES[case](new)) for new in (0, 0, 1)
    )
    assert before == same != after


def test_own_distillation_loss_is_its_code(tmp_path, monkeypatch):
    def code():
        return kd.core.identity.identity_of_code([OwnDistance(2.0)])

    before = code()
    assert code() == before
    monkeypatch.setattr(OwnDistance, "call", lambda self, a, b: a - b)
    assert code() != before
