# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.training.trainer import train

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = np.arange(12) % 3
WEIGHTS = {0: 0.5, 2: 4.0}
EXPECTED = np.array([0.5, 1.0, 4.0] * 4)


def data_of(train, **options):
    return kd.Data(train=train, validation=(X, Y), **options)


@pytest.mark.parametrize("labels", [Y, Y[:, None], Y.astype("float32")])
def test_class_weights_are_sample_weights(labels):
    data = data_of((X, labels), class_weight=WEIGHTS)
    np.testing.assert_array_equal(data.train[2], EXPECTED)
    assert len(data.validation) == 2
    # Another Data made of this one is not weighted twice.
    again = dataclasses.replace(data, class_names=("a", "b", "c"))
    np.testing.assert_array_equal(again.train[2], EXPECTED)


def test_class_weights_multiply_sample_weights_and_leave_the_unlabelled():
    given = np.linspace(0, 1, 12)
    labels = np.where(np.arange(12) < 3, -1, Y)
    data = data_of((X, labels, given), class_weight=WEIGHTS)
    expected = np.where(labels == -1, 1.0, EXPECTED) * given
    np.testing.assert_allclose(data.train[2], expected, rtol=1e-6)


def test_class_weights_of_a_data_set():
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
    data = data_of(stream, class_weight=WEIGHTS)
    found = np.concatenate([w for _, _, w in data.train.as_numpy_iterator()])
    np.testing.assert_array_equal(found, EXPECTED)


def test_control_with_class_weights_is_fit_with_class_weight():
    def build():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])

    data = data_of((X, Y), class_weight=WEIGHTS)
    options = {"epochs": 1, "batch_size": 12, "title": None}
    model, _ = train(
        build, data, optimizer="sgd", learning_rate=0.1, seed=0, **options
    )
    keras.utils.set_random_seed(0)
    plain = build()
    plain.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    plain.fit(X, Y, batch_size=12, class_weight={1: 1.0, **WEIGHTS}, verbose=0)
    for ours, theirs in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "labels", "message"),
    [
        ({0: -1.0}, Y, "Received: {0: -1.0}"),
        ({0: float("nan")}, Y, "must hold a number"),
        ({"a": 1.0}, Y, "class number"),
        (WEIGHTS, np.eye(3)[Y], "one-hot rows"),
        (WEIGHTS, {"a": Y}, "several outputs"),
        (WEIGHTS, Y + 0.5, "dtype float64"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(weights, labels, message):
    with pytest.raises(ValueError, match=message):
        data_of((X, labels), class_weight=weights)
