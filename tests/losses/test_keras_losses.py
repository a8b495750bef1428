# SPDX-License-Identifier: Apache-2.0
"""Losses of keras.distillation, and where they agree with ours."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd import losses
from keras_kd.testing import check_loss
from keras_kd.testing import loss_training

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(6, 5)).astype("float32")
STUDENT = RNG.normal(size=(6, 5)).astype("float32")


def logits_distillation(temperature=3.0):
    return keras.distillation.LogitsDistillation(
        temperature=temperature, loss=keras.losses.KLDivergence()
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0, 8.0])
def test_logits_distillation_equals_soft_targets(temperature):
    adapted = losses.get(logits_distillation(temperature))
    ours = losses.SoftTargets(temperature)
    np.testing.assert_allclose(
        adapted(TEACHER, STUDENT), ours(TEACHER, STUDENT), rtol=1e-4
    )
    np.testing.assert_allclose(
        adapted.call(TEACHER, STUDENT), ours.call(TEACHER, STUDENT), rtol=1e-4
    )
    np.testing.assert_allclose(
        logits_distillation(temperature).compute_loss(TEACHER, STUDENT),
        ours(TEACHER, STUDENT),
        rtol=1e-4,
    )


def test_keras_default_is_not_hintons_loss_and_warns():
    """Keras applies the string default to raw logits (3.15)."""
    default = keras.distillation.LogitsDistillation(temperature=3.0)
    with pytest.warns(UserWarning, match="to raw outputs.*For Hinton's loss"):
        adapted = losses.get(default)
    theirs = float(default.compute_loss(TEACHER, STUDENT))
    hinton = reference.soft_targets(TEACHER, STUDENT, 3.0).mean()
    assert abs(theirs - hinton) > 0.1 * hinton
    np.testing.assert_allclose(adapted(TEACHER, STUDENT), theirs, rtol=1e-4)


class GramMatrices(keras.distillation.DistillationLoss):
    """Compares examples with each other: nothing to say of one alone."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        rows = keras.losses.CosineSimilarity(reduction=None)
        return keras.ops.mean(
            rows(teacher_outputs, keras.ops.roll(teacher_outputs, 1, axis=0))
            - rows(student_outputs, keras.ops.roll(student_outputs, 1, axis=0))
        )


def squared_range(teacher, student):
    """A function of one's own over the batch."""
    return keras.ops.square(
        keras.ops.max(teacher, axis=0)
        - keras.ops.min(student, axis=0)
        - keras.ops.mean(teacher, axis=0)
    )


@pytest.mark.parametrize(
    "loss",
    [
        GramMatrices(),
        keras.distillation.FeatureDistillation(loss=squared_range),
    ],
    ids=["class", "function"],
)
def test_batch_level_loss_is_computed_on_the_batch_and_has_its_gradient(loss):
    student = tf.Variable(STUDENT)
    gradients = []
    adapted = losses.get(loss)
    for value in (loss.compute_loss, adapted):
        with tf.GradientTape() as tape:
            received = value(TEACHER, student)
        gradients.append(tape.gradient(received, student))
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-8)
    assert np.abs(gradients[0]).max() > 1e-3
    assert adapted.call(TEACHER, student).shape == (len(STUDENT),)


def test_loss_of_ones_own_must_return_a_scalar_as_in_keras():
    class ByExample(keras.distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return keras.ops.sum(student_outputs, axis=-1)

    with pytest.raises(ValueError, match=r"scalar.*shape \(6,\)"):
        losses.get(ByExample())(TEACHER, STUDENT)


def test_hintons_loss_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.get(logits_distillation())


@pytest.mark.slow
def test_adapted_loss_keeps_the_contract():
    # Without a reference: Keras clips, so its value stops growing.
    check_loss(logits_distillation())


def test_adapted_loss_keeps_what_it_promises_of_its_values(monkeypatch):
    """The test below shows that what is adapted can be compiled."""
    monkeypatch.setattr(loss_training, "CHECKS", ())
    check_loss(logits_distillation())


def test_adapted_feature_loss_keeps_the_contract():
    loss = keras.distillation.FeatureDistillation(
        loss="mse", teacher_layer_name="big", student_layer_name="small"
    )
    check_loss(
        loss,
        teacher_shape=(4, 3, 2),
        # Keras' loss knows whole examples only, no positions.
        reference=lambda teacher, student: reference.feature_matching(
            teacher, student
        ).mean(axis=-1),
    )
    adapted = losses.get(loss)
    assert (adapted.teacher, adapted.student) == ("big", "small")


def test_adapted_loss_honours_sample_weights():
    weight = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 0.5], "float32")
    adapted = losses.get(logits_distillation())
    expected = (reference.soft_targets(TEACHER, STUDENT, 3.0) * weight).mean()
    np.testing.assert_allclose(
        adapted(TEACHER, STUDENT, weight), expected, rtol=1e-4
    )


def test_adapted_loss_survives_json():
    adapted = losses.KerasDistillationLoss(
        logits_distillation(), weight=0.5, name="theirs"
    )
    config = json.loads(json.dumps(losses.serialize(adapted)))
    copy = losses.deserialize(config)
    assert (copy.weight, copy.name, copy.logits) == (0.5, "theirs", True)
    assert copy.loss.temperature == 3.0
    np.testing.assert_array_equal(
        copy(TEACHER, STUDENT), adapted(TEACHER, STUDENT)
    )


def test_adapter_refuses_other_losses():
    with pytest.raises(ValueError, match="must be a keras.distillation loss"):
        losses.KerasDistillationLoss(keras.losses.MeanSquaredError())
