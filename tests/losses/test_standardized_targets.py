# SPDX-License-Identifier: Apache-2.0
"""What standardising takes away, and what it passes through."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd import losses

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(6, 5)).astype("float32")
STUDENT = RNG.normal(size=(6, 5)).astype("float32")


def test_scale_and_shift_of_an_example_do_not_matter():
    factor, shift = RNG.uniform(0.1, 9.0, (6, 1)), RNG.normal(size=(6, 1))
    moved = factor * STUDENT + shift
    np.testing.assert_allclose(
        losses.standardized_targets(TEACHER, moved),
        losses.standardized_targets(TEACHER, STUDENT),
        rtol=1e-4,
    )
    own = losses.standardized_targets(STUDENT, moved)
    np.testing.assert_allclose(own, 0.0, atol=1e-5)


def test_standardized_logits_are_left_alone():
    teacher, student = (
        (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
        for z in (TEACHER, STUDENT)
    )
    np.testing.assert_allclose(
        losses.standardized_targets(teacher, student),
        losses.soft_targets(teacher, student, 2.0),
        rtol=1e-4,
    )


def test_settings_of_the_authors_code_carry_over_as_documented():
    """Their deviation divides by C - 1: T and the weight 9 change with it."""
    classes = TEACHER.shape[1]
    scores = [
        (z - z.mean(axis=1, keepdims=True)) / z.std(1, ddof=1, keepdims=True)
        for z in (TEACHER.astype("float64"), STUDENT.astype("float64"))
    ]
    theirs = 9.0 * reference.soft_targets(*scores, temperature=2.0)
    temperature = 2.0 * np.sqrt(classes / (classes - 1))
    weight = 9.0 * (classes - 1) / classes
    ours = losses.standardized_targets(TEACHER, STUDENT, temperature)
    np.testing.assert_allclose(weight * ours, theirs, rtol=1e-4)


def test_default_equals_the_function():
    np.testing.assert_array_equal(
        losses.StandardizedTargets().call(TEACHER, STUDENT),
        losses.standardized_targets(TEACHER, STUDENT),
    )


@pytest.mark.parametrize("xla", [False, True])
def test_equal_logits_have_a_finite_gradient(xla):
    """XLA takes the gradient of a root at 0 for NaN, eager TF does not."""
    loss = losses.StandardizedTargets()

    @tf.function(jit_compile=xla)
    def gradient(student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = loss(TEACHER, student)
        return tape.gradient(value, student)

    assert np.all(np.isfinite(gradient(tf.zeros((6, 5)))))


def test_temperature_is_that_of_the_inner_loss():
    loss = losses.StandardizedTargets(losses.SoftTargets(3.0))
    assert loss.temperature == 3.0
    loss.temperature = 5.0
    assert loss.loss.temperature == 5.0
    plain = losses.StandardizedTargets(losses.HardTargets())
    assert not hasattr(plain, "temperature")


def test_taps_and_weight_default_to_those_of_the_inner_loss():
    inner = losses.Decoupled(teacher="scores", weight=3.0, name="dkd")
    loss = losses.StandardizedTargets(inner, student="logits")
    assert (loss.teacher, loss.student) == ("scores", "logits")
    assert (loss.weight, loss.name) == (3.0, "standardized_targets")
    assert loss.label_aware
    assert not losses.StandardizedTargets().label_aware
    copy = losses.deserialize(losses.serialize(loss))
    assert (copy.teacher, copy.student, copy.weight) == (
        "scores",
        "logits",
        3.0,
    )


@pytest.mark.parametrize(
    "inner",
    [losses.FeatureMatching(), keras.losses.KLDivergence(), "soft_targets"],
)
def test_other_losses_are_refused(inner):
    with pytest.raises(ValueError, match="must be a keras_kd loss on logits"):
        losses.StandardizedTargets(inner)
