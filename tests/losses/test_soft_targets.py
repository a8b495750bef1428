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


@pytest.mark.parametrize(
    ("beta", "limit"), [(1e-3, "forward_kl"), (1 - 1e-3, "reverse_kl")]
)
def test_jensen_shannon_leads_from_forward_to_reverse_kl(beta, limit):
    """Agarwal et al. 2023: JSD / beta, and JSD / (1 - beta), in the limit."""
    teacher, student = 2.0 * TEACHER, 2.0 * STUDENT
    values = soft_targets(teacher, student, 1.0, "jensen_shannon", beta)
    expected = soft_targets(teacher, student, 1.0, limit)
    np.testing.assert_allclose(
        values / min(beta, 1 - beta), expected, rtol=0.03
    )


def test_jensen_shannon_is_symmetric_and_at_most_log_two():
    arguments = {"temperature": 1.0, "divergence": "jensen_shannon"}
    values = soft_targets(TEACHER, STUDENT, **arguments)
    mirrored = soft_targets(STUDENT, TEACHER, **arguments)
    np.testing.assert_allclose(values, mirrored, rtol=1e-5)
    values = soft_targets([[99.0, 0.0]], [[0.0, 99.0]], **arguments)
    np.testing.assert_allclose(values, [np.log(2.0)], rtol=1e-6)


def test_reverse_kl_swaps_teacher_and_student():
    values = soft_targets(TEACHER, STUDENT, 2.0, "reverse_kl")
    np.testing.assert_array_equal(values, soft_targets(STUDENT, TEACHER, 2.0))


def test_jensen_shannon_has_its_gradient_where_probabilities_are_equal():
    """Class 0 is equally likely for both, the other two are not."""
    teacher = np.log([[0.5, 0.2, 0.3]])
    logits = np.log([[0.5, 0.4, 0.1]])

    def value(logits):
        return reference.soft_targets(teacher, logits, 1.0, "jensen_shannon")

    student = tf.constant(logits, "float32")
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = soft_targets(teacher, student, 1.0, "jensen_shannon")
    steps = 1e-5 * np.eye(3)[:, None]
    slopes = [(value(logits + s) - value(logits - s))[0] / 2e-5 for s in steps]
    np.testing.assert_allclose(
        tape.gradient(loss, student)[0], slopes, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"divergence": "kl"}, "must be one of .*'forward_kl'"),
        ({"beta": 0.0}, "limits are divergence='forward_kl'"),
        ({"beta": 1.0}, "strictly between 0 and 1"),
        ({"beta": float("nan")}, "strictly between 0 and 1"),
    ],
)
def test_unknown_divergence_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SoftTargets(**arguments)
    with pytest.raises(ValueError, match=message):
        soft_targets(TEACHER, STUDENT, **arguments)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), "warm", None])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="`temperature` must be a finite"):
        SoftTargets(temperature)
