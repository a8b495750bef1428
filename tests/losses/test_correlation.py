# SPDX-License-Identifier: Apache-2.0
"""What correlation asks of a student, and where it has nothing to say."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd.losses import Correlation
from keras_kd.losses import correlation

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(8, 5)).astype("float32")
STUDENT = RNG.normal(size=(8, 5)).astype("float32")


def test_parts_equal_numpys_correlation_coefficient():
    p, q = reference.softmax(TEACHER), reference.softmax(STUDENT)
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)]
    inter = correlation(TEACHER, STUDENT, 1.0, 1.0, 0.0)
    np.testing.assert_allclose(inter, 1.0 - np.array(rows), rtol=1e-4)
    intra = correlation(TEACHER, STUDENT, 1.0, 0.0, 1.0)
    np.testing.assert_allclose(intra, [1.0 - np.mean(columns)] * 8, rtol=1e-4)


def test_probabilities_in_linear_relation_have_no_loss():
    p = reference.softmax(TEACHER)
    student = np.log(0.4 * p + 0.6 / 5)
    np.testing.assert_allclose(correlation(TEACHER, student), 0.0, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 8])
def test_examples_that_are_all_alike_leave_the_inter_part(rows):
    student = tf.constant(np.repeat(STUDENT[:1], rows, axis=0))
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = correlation(TEACHER[:rows], student)
        inter = correlation(TEACHER[:rows], student, intra_weight=0.0)
    np.testing.assert_allclose(values, inter + 1.0, rtol=1e-5)
    assert np.all(np.isfinite(tape.gradient(values, student)))


def test_gradient_at_a_thousand_classes_is_that_of_the_authors_code():
    """Most classes' probabilities hardly vary: the guard weighs in there."""
    rng = np.random.default_rng(1)
    teacher, student = rng.normal(size=(2, 8, 1000)) * [[[5.0]], [[1.0]]]
    variable = tf.Variable(student, dtype="float32")
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(correlation(teacher, variable))
    gradient = np.asarray(tape.gradient(value, variable), "float64")
    for direction in (teacher, rng.normal(size=student.shape)):
        ahead, behind = (
            reference.correlation(teacher, student + step).sum()
            for step in (1e-5 * direction, -1e-5 * direction)
        )
        received = (gradient * direction).sum()
        assert received == pytest.approx((ahead - behind) / 2e-5, rel=1e-3)


def test_weight_zero_leaves_an_example_in_the_correlation():
    weight = np.array([0.0, *[1.0] * 7], "float32")
    values = np.asarray(Correlation().call(TEACHER, STUDENT))
    received = Correlation()(TEACHER, STUDENT, weight)
    np.testing.assert_allclose(received, values[1:].sum() / 8, rtol=1e-5)
    alone = np.asarray(Correlation().call(TEACHER[1:], STUDENT[1:]))
    assert abs(alone.sum() - values[1:].sum()) > 1e-3
