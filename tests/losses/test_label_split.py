# SPDX-License-Identifier: Apache-2.0
"""Losses that look at the label: its shapes, its absence, their limits."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd import losses

RNG = np.random.default_rng(0)
TEACHER = 3.0 * RNG.normal(size=(6, 5)).astype("float32")
STUDENT = RNG.normal(size=(6, 5)).astype("float32")
LABELS = np.array([0, 1, 2, 3, 4, 0])

each_loss = pytest.mark.parametrize(
    "loss",
    [
        losses.Decoupled(),
        losses.NormalizedTargets(),
        losses.StandardizedTargets(losses.Decoupled()),
    ],
    ids=lambda loss: loss.name,
)


@each_loss
@pytest.mark.parametrize("kind", ["int32", "float32", "float16"])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_class_ids_come_as_they_like(loss, kind, shape):
    labels = LABELS.reshape(shape).astype(kind)
    expected = loss((TEACHER, LABELS), STUDENT)
    received = loss((TEACHER, labels), STUDENT)
    np.testing.assert_array_equal(received, expected)


@each_loss
def test_one_hot_labels_are_refused(loss):
    with pytest.raises(ValueError, match="Turn one-hot labels into ids"):
        loss((TEACHER, np.eye(5)[LABELS]), STUDENT)


@each_loss
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_example_without_a_label_has_value_and_gradient_zero(loss, scale):
    labels = np.array([-1, 1, -1, 3, 4, 0])
    student = tf.constant(scale * STUDENT)
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = loss.call((scale * TEACHER, labels), student)
        total = tf.reduce_sum(values)
    expected = loss.call((scale * TEACHER, LABELS), student)
    np.testing.assert_allclose(
        values, np.where(labels < 0, 0.0, expected), rtol=1e-6
    )
    gradient = tape.gradient(total, student).numpy()
    assert np.all(np.isfinite(gradient))
    assert not gradient[labels < 0].any()
    assert scale > 1.0 or gradient[labels >= 0].any(axis=1).all()


@each_loss
def test_gradient_is_finite_where_the_student_is_certain(loss):
    """Of the label, of another class, and of both alike."""
    logits = [[1e4, 0.0, 0.0], [0.0, 1e4, 0.0], [1e4, 1e4, 0.0]]
    student = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss((tf.constant(logits[::-1]), np.zeros(3)), student)
    assert np.isfinite(value)
    assert np.all(np.isfinite(tape.gradient(value, student)))


@each_loss
def test_a_single_class_leaves_nothing_to_learn(loss):
    value = loss((TEACHER[:, :1], np.zeros(6)), STUDENT[:, :1])
    assert float(value) == 0.0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_parts_make_up_the_soft_target_loss(temperature):
    """Zhao et al. 2022, equation 7: KD = TCKD + (1 - p_y) NCKD."""
    p = reference.softmax(TEACHER / temperature)[np.arange(6), LABELS]
    target = losses.decoupled(TEACHER, STUDENT, LABELS, 1.0, 0.0, temperature)
    others = losses.decoupled(TEACHER, STUDENT, LABELS, 0.0, 1.0, temperature)
    expected = losses.soft_targets(TEACHER, STUDENT, temperature)
    np.testing.assert_allclose(target + (1 - p) * others, expected, rtol=1e-4)


def test_decoupled_sees_the_others_of_a_certain_teacher():
    """Where soft targets see nothing: the label's share is 1 - 1e-43."""
    teacher = np.array([[101.0, 1.0, 0.0]])
    student = np.array([[101.0, 0.0, 1.0]])
    assert losses.soft_targets(teacher, student, 1.0)[0] < 1e-6
    value = losses.decoupled(teacher, student, [0], 1.0, 1.0, 1.0)
    odds = 1.0 / (1.0 + np.exp(-1.0))
    np.testing.assert_allclose(value, [odds - (1.0 - odds)], rtol=1e-5)


def test_decoupled_with_two_classes_is_soft_targets():
    pair = TEACHER[:, :2], STUDENT[:, :2]
    values = losses.decoupled(*pair, LABELS % 2, 1.0, 8.0, 3.0)
    expected = losses.soft_targets(*pair, 3.0)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_normalized_targets_make_up_the_soft_cross_entropy():
    """With (1 - t_y) for gamma, the parts differ by (1 - t_y) log(1 - s_y)."""
    t, s = reference.softmax(TEACHER), reference.softmax(STUDENT)
    rows = np.arange(6)
    rest_t, rest_s = 1 - t[rows, LABELS], 1 - s[rows, LABELS]
    target = losses.normalized_targets(TEACHER, STUDENT, LABELS, 0.0)
    both = losses.normalized_targets(TEACHER, STUDENT, LABELS, 1.0)
    parts = target + rest_t * (both - target) - rest_t * np.log(rest_s)
    np.testing.assert_allclose(parts, -(t * np.log(s)).sum(-1), rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (losses.Decoupled, {"target_weight": -1.0}, "`target_weight` must be"),
        (losses.Decoupled, {"temperature": 0.0}, "`temperature` must be"),
        (losses.NormalizedTargets, {"gamma": -1.0}, "`gamma` must be"),
    ],
)
def test_wrong_numbers_are_refused(method, arguments, message):
    with pytest.raises(ValueError, match=message):
        method(**arguments)
