# SPDX-License-Identifier: Apache-2.0
"""A copy answers as its original: also by state that is in no weight."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.core.copying import copy_of

X = np.random.default_rng(0).normal(5.0, 3.0, size=(32, 4)).astype("float32")
WORDS = np.array([["a", "zz"], ["c", "b"]])


def normalizing():
    adapted = layers.Normalization()
    adapted.adapt(X)
    inner = keras.Sequential([keras.Input((4,)), adapted])
    return keras.Sequential([keras.Input((4,)), inner, layers.Dense(3)]), X


def looking_up():
    table = layers.StringLookup()
    table.adapt(np.array(["a", "b", "c"]))
    x = keras.Input((2,), dtype="string")
    embedded = layers.Embedding(5, 3)(table(x))
    return keras.Model(x, layers.Flatten()(embedded)), tf.constant(WORDS)


def vectorizing():
    table = layers.TextVectorization(output_sequence_length=4)
    table.adapt(np.array(["a b", "b c"]))
    x = keras.Input((), dtype="string")
    embedded = layers.Embedding(8, 3)(table(x))
    return keras.Model(x, layers.Flatten()(embedded)), tf.constant(WORDS[:, 0])


@pytest.mark.parametrize("build", [normalizing, looking_up, vectorizing])
def test_copy_has_the_whole_state(build):
    model, x = build()
    np.testing.assert_array_equal(copy_of(model)(x), model(x))


def test_averaged_teacher_of_an_adapted_model_answers_as_it_does():
    model, x = normalizing()
    teacher = kd.teachers.EMATeacher(0.9)
    teacher.bind(model)
    np.testing.assert_array_equal(teacher.model(x), model(x))


def test_channels_are_pruned_of_an_adapted_model():
    model, x = normalizing()
    hidden = layers.Dense(8, "relu", name="hidden")(model.outputs[0])
    deeper = keras.Model(model.inputs, layers.Dense(2)(hidden))
    smaller, _ = kd.prune_channels(deeper, 0.5)
    found, before = (
        m.get_layer(model.layers[0].name)(x) for m in (smaller, deeper)
    )
    np.testing.assert_allclose(found, before, rtol=1e-6)


class Forgetful(layers.Layer):
    """Holds a number that is neither in its config nor in its weights."""

    offset = 0.0

    def call(self, x):
        return x + self.offset


def test_prune_refuses_a_copy_that_answers_otherwise():
    forgetful = Forgetful()
    forgetful.offset = 3.0
    student = keras.Sequential([keras.Input((4,)), forgetful, layers.Dense(3)])
    y = np.arange(32) % 3
    with pytest.raises(ValueError, match="does not answer as the model does"):
        kd.prune(student, (X, y), epochs=1)


def test_prune_takes_no_regressor_for_a_classifier():
    student = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    _, record = kd.prune(student, (X, X.sum(axis=1)), 0.5, epochs=1)
    assert "MeanSquaredError" in str(record.settings["loss"])
    yes_no = (X[:, 0] > 5).astype("int64")
    with pytest.raises(ValueError, match=r"Pass `task`.*Regression"):
        kd.prune(student, (X, yes_no), 0.5, epochs=1)
