# SPDX-License-Identifier: Apache-2.0
"""Hidden states: direction only, zero states, settings."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.losses import HiddenStates
from keras_kd.losses import hidden_states

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(3, 4, 5)).astype("float32")
STUDENT = RNG.normal(size=(3, 4, 5)).astype("float32")


def test_cosine_is_that_of_keras():
    expected = 1.0 + keras.losses.cosine_similarity(TEACHER, STUDENT)
    values = hidden_states(TEACHER, STUDENT)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_mse_is_that_of_keras():
    expected = keras.losses.mean_squared_error(TEACHER, STUDENT)
    values = hidden_states(TEACHER, STUDENT, metric="mse")
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_cosine_looks_at_the_direction_only():
    values = hidden_states(TEACHER, 7.0 * TEACHER)
    np.testing.assert_allclose(values, np.zeros((3, 4)), atol=1e-6)
    values = hidden_states(TEACHER, -TEACHER)
    np.testing.assert_allclose(values, 2.0 * np.ones((3, 4)), rtol=1e-6)


def test_zero_state_gives_one_and_no_gradient():
    student = tf.constant(STUDENT * np.array([0, 1, 1, 1])[:, None], "float32")
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = hidden_states(TEACHER, student)
    gradient = tape.gradient(values, student).numpy()
    np.testing.assert_allclose(values[:, 0], np.ones(3))
    assert not gradient[:, 0].any() and gradient[:, 1:].all()


def test_unknown_metric_is_refused():
    for make in (HiddenStates, lambda metric: hidden_states(0, 0, metric)):
        with pytest.raises(ValueError, match="must be one of .*'cosine'"):
            make(metric="l1")
