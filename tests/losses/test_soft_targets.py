# SPDX-License-Identifier: Apache-2.0
"""Equalities of soft targets that no reference is needed for."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd.losses import SoftTargets
from keras_kd.losses import soft_targets

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(6, 5)).astype("float32")
STUDENT = RNG.normal(size=(6, 5)).astype("float32")


def test_a_constant_added_to_a_row_changes_nothing():
    shift = RNG.normal(size=(6, 1))
    values = soft_targets(TEACHER + shift, STUDENT - shift)
    np.testing.assert_allclose(
        values, soft_targets(TEACHER, STUDENT), rtol=1e-3, atol=1e-5
    )


def test_temperature_divides_the_logits():
    values = soft_targets(3.0 * TEACHER, 3.0 * STUDENT, temperature=3.0)
    expected = 9.0 * soft_targets(TEACHER, STUDENT, temperature=1.0)
    np.testing.assert_allclose(values, expected, rtol=1e-4)


def test_one_hot_teacher_gives_cross_entropy():
    labels = np.array([0, 1, 2, 3, 4, 0])
    teacher = 1e4 * np.eye(5)[labels]
    values = soft_targets(teacher, STUDENT, temperature=1.0)
    expected = -reference.log_softmax(STUDENT)[np.arange(6), labels]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_confident_disagreement_is_not_clipped():
    values = soft_targets([[200.0, 0.0]], [[0.0, 200.0]], temperature=1.0)
    np.testing.assert_allclose(values, [200.0], rtol=1e-6)


def test_gradient_at_high_temperature_is_that_of_logit_matching():
    """Hinton et al., section 2.1: (z - v) / N for rows of mean zero."""
    teacher = TEACHER - TEACHER.mean(axis=1, keepdims=True)
    student = tf.constant(STUDENT - STUDENT.mean(axis=1, keepdims=True))
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = tf.reduce_sum(soft_targets(teacher, student, 500.0))
    gradient = tape.gradient(loss, student)
    np.testing.assert_allclose(gradient, (student - teacher) / 5, atol=5e-3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), "warm", None])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="`temperature` must be a finite"):
        SoftTargets(temperature)
