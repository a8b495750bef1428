# SPDX-License-Identifier: Apache-2.0
"""Regression: numbers follow the teacher's, or stay within its error."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd

RNG = np.random.default_rng(0)
TEACHER, STUDENT, LABELS = RNG.normal(size=(3, 6, 2)).astype("float32")


def test_regression_of_values_scaled_by_k_has_a_gradient_scaled_by_k():
    gradients = []
    for k in (1.0, 100.0):
        student = tf.Variable(k * STUDENT)
        with tf.GradientTape() as tape:
            value = kd.losses.Regression()(k * TEACHER, student)
        gradients.append(tape.gradient(value, student).numpy())
    np.testing.assert_allclose(gradients[1], 100.0 * gradients[0], rtol=1e-4)


def test_regression_with_a_margin_stops_where_the_student_is_better():
    label = np.zeros((4, 1))
    student = np.array([[1.0], [2.0], [3.0], [-3.0]])
    received = kd.losses.regression(2.0 + label, student, label, margin=3.5)
    # The teacher's error is 4: 1 + 3.5 is above it, so is all else.
    np.testing.assert_allclose(received, [1.0, 4.0, 9.0, 9.0])
    received = kd.losses.regression(2.0 + label, student, label, margin=0.0)
    np.testing.assert_allclose(received, [0.0, 0.0, 9.0, 9.0])


def test_regression_with_a_margin_has_no_gradient_within_the_bound():
    student = tf.Variable([[1.0], [3.0]])
    loss = kd.losses.Regression(margin=0.0)
    with tf.GradientTape() as tape:
        value = loss(([[2.0], [2.0]], [[0.0], [0.0]]), student)
    np.testing.assert_allclose(tape.gradient(value, student), [[0.0], [3.0]])


def test_regression_refuses_a_margin_that_is_no_number():
    with pytest.raises(ValueError, match="`margin` must be None or a number"):
        kd.losses.Regression(margin="auto")
