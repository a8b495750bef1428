# SPDX-License-Identifier: Apache-2.0
"""A student's own loss is used, its own step refused; no teacher is trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_kd as kd
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear

X, Y = features(), labels()
ONCE = {"batch_size": len(X), "shuffle": False, "verbose": 0}
SHAPE = [keras.Input((4,)), layers.Dense(3)]


class OwnLoss(keras.Sequential):
    """Twice what was compiled, and 5; Keras has known no `training` once."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        found = super().compute_loss(x, y, y_pred, sample_weight)
        return 2.0 * found + 5.0


class NeedsNoLabels(keras.Sequential):
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return ops.mean(ops.square(y_pred))


def own(kind):
    model = kind([keras.Input((4,)), layers.Dense(3)])
    model.set_weights(linear(2).get_weights())
    return model


def fit(student, *data, **options):
    distiller = kd.Distiller(linear(1), student, alpha=0.25)
    distiller.compile(
        keras.optimizers.SGD(0.1), cross_entropy(), run_eagerly=True
    )
    return distiller.fit(*data, **ONCE, **options).history


def test_own_compute_loss_is_what_is_minimised():
    missing = np.where(np.arange(len(Y)) % 3, Y, -1)
    student = own(OwnLoss)
    found = fit(student, X, missing, validation_data=(X, missing))
    plain = fit(linear(2), X, missing)
    expected = 2.0 * plain["student_loss"][0] + 5.0
    assert found["student_loss"] == pytest.approx([expected], rel=1e-5)
    assert found["val_loss"][0] > 5.0
    assert student._compile_loss is None and not student.compiled


def test_own_compute_loss_may_need_no_labels():
    found = fit(own(NeedsNoLabels), X, validation_data=(X,))
    before = linear(2).predict(X, verbose=0)
    expected = np.square(before).mean()
    assert found["student_loss"] == pytest.approx([expected], rel=1e-5)
    assert 0.0 < found["val_loss"][0] < expected


@pytest.mark.parametrize("step", ["train_step", "test_step"])
def test_own_step_is_refused_by_name(step):
    kind = type("Stepping", (keras.Sequential,), {step: lambda self, data: {}})
    student = kind([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=f"Stepping with a `{step}`"):
        kd.Distiller(linear(1), student)
    with pytest.raises(ValueError, match=f"Stepping with a `{step}`"):
        kd.MutualDistiller([linear(1), student])


def test_evaluation_without_labels_gives_no_figure():
    stop = keras.callbacks.EarlyStopping(restore_best_weights=True)
    distiller = kd.Distiller(linear(1), linear(2), 4.0, alpha=1.0)
    distiller.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="no labels to evaluate on"):
        distiller.fit(X, validation_data=(X,), callbacks=[stop], **ONCE)
    with pytest.raises(ValueError, match="no labels to evaluate on"):
        distiller.evaluate(X, verbose=0)


def test_a_student_may_not_train_layers_of_its_teacher():
    inputs = keras.Input((4,))
    shared = layers.Dense(5, name="shared")
    teacher = keras.Model(inputs, layers.Dense(3)(shared(inputs)))
    student = keras.Model(inputs, layers.Dense(3)(shared(inputs)))
    for given in (teacher, [linear(1), teacher]):
        with pytest.raises(ValueError, match=r"the teacher: \['shared'\]"):
            kd.Distiller(given, student)
    shared.trainable = False
    kd.Distiller(teacher, student)


def test_a_stateful_teacher_begins_each_epoch_anew():
    inputs = keras.Input((5, 2), batch_size=4)
    state = layers.GRU(3, stateful=True)(inputs)
    teacher = keras.Model(inputs, layers.Dense(3)(state))
    student = keras.Sequential(
        [keras.Input((5, 2)), layers.Flatten(), layers.Dense(3)]
    )
    x = np.random.default_rng(0).normal(size=(8, 5, 2)).astype("float32")
    distiller = kd.Distiller(teacher, student, 4.0, alpha=1.0)
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    history = distiller.fit(
        x, batch_size=4, epochs=2, shuffle=False, verbose=0
    ).history["soft_targets"]
    assert history[0] == pytest.approx(history[1], rel=1e-6)
    # Within an epoch it remembers: the second batch alone differs.
    teacher.layers[1].reset_state()
    alone = teacher.predict_on_batch(x[4:])
    teacher.layers[1].reset_state()
    teacher.predict_on_batch(x[:4])
    assert np.abs(teacher.predict_on_batch(x[4:]) - alone).max() > 1e-3


def test_a_student_that_augments_its_inputs_is_warned_of():
    student = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.Sequential([layers.RandomFlip(name="flip")]),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    with pytest.warns(UserWarning, match=r"by \['flip'\], so the teacher"):
        kd.Distiller(None, student)
