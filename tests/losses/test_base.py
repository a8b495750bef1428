# SPDX-License-Identifier: Apache-2.0
"""What the base class adds to a formula."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.losses import DistillationLoss
from keras_kd.losses import FeatureMatching
from keras_kd.losses import SoftTargets

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(4, 3, 5)).astype("float32")
STUDENT = RNG.normal(size=(4, 3, 5)).astype("float32")
VALUES = np.asarray(SoftTargets().call(TEACHER, STUDENT))


@pytest.mark.parametrize(
    ("weight", "wide"),
    [
        ([0.0, 1.0, 2.0, 3.0], [[0.0], [1.0], [2.0], [3.0]]),
        ([[0.0], [1.0], [2.0], [3.0]], [[0.0], [1.0], [2.0], [3.0]]),
        (np.arange(12.0).reshape(4, 3), np.arange(12.0).reshape(4, 3)),
        (np.arange(12.0).reshape(4, 3, 1), np.arange(12.0).reshape(4, 3)),
        (2.0, 2.0),
    ],
    ids=["rows", "column", "positions", "positions_1", "number"],
)
def test_sample_weight_of_any_usual_shape(weight, wide):
    loss = SoftTargets()(TEACHER, STUDENT, np.asarray(weight))
    np.testing.assert_allclose(loss, (VALUES * wide).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum_over_batch_size", VALUES.mean()),
        ("sum", VALUES.sum()),
        (None, VALUES),
    ],
)
def test_reduction_is_keras_own(reduction, expected):
    loss = SoftTargets(reduction=reduction)(TEACHER, STUDENT)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_mask_and_sample_weight_together():
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    weight = np.array([0.0, 1.0, 2.0, 3.0])
    student = tf.constant(STUDENT)
    student._keras_mask = tf.constant(mask)
    loss = SoftTargets()(TEACHER, student, weight)
    expected = (VALUES * mask * weight[:, None]).sum() / mask.sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_mask_without_a_position_gives_zero():
    student = tf.constant(STUDENT)
    student._keras_mask = tf.zeros((4, 3), bool)
    assert float(SoftTargets()(TEACHER, student)) == 0.0


def test_arithmetic_is_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        loss = SoftTargets()(TEACHER.astype("float16"), STUDENT)
    finally:
        keras.config.set_dtype_policy("float32")
    assert loss.dtype == "float32"


def test_gradient_reaches_the_student_only():
    teacher, student = tf.constant(TEACHER), tf.constant(STUDENT)
    with tf.GradientTape() as tape:
        tape.watch((teacher, student))
        loss = SoftTargets()(teacher, student)
    into_teacher, into_student = tape.gradient(loss, (teacher, student))
    assert into_teacher is None
    assert np.abs(into_student).max() > 0.0


def test_name_does_not_depend_on_what_ran_before():
    assert [SoftTargets().name, SoftTargets().name] == ["soft_targets"] * 2
    assert SoftTargets(name="kd").name == "kd"


def test_projector_layer_survives_the_config():
    loss = FeatureMatching(projector=keras.layers.Dense(3, name="fit"))
    copy = FeatureMatching.from_config(loss.get_config())
    assert isinstance(copy.projector, keras.layers.Dense)
    assert (copy.projector.units, copy.projector.name) == (3, "fit")


def test_label_aware_loss_gets_the_pair():
    class Masked(DistillationLoss):
        label_aware = True

        def call(self, y_true, y_pred):
            teacher, label = y_true
            return label * keras.ops.mean(abs(teacher - y_pred), axis=-1)

    teacher, student = np.ones((3, 2)), np.zeros((3, 2))
    loss = Masked()((teacher, np.array([1, 0, 1])), student)
    np.testing.assert_allclose(loss, 2 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": ""}, "`teacher` must name a tap"),
        ({"student": 3}, "`student` must name a tap"),
        ({"weight": -1.0}, "`weight` must be a finite number"),
        ({"weight": float("nan")}, "`weight` must be a finite number"),
        ({"warm_up_steps": -1}, "`warm_up_steps` must not be negative"),
        ({"teacher": ["a", ""]}, "`teacher` must name a tap"),
        ({"student": []}, "`student` must name a tap"),
        ({"projector": "dense"}, "`projector` must be None, 'auto' or"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(**arguments)


def test_call_must_be_overridden():
    with pytest.raises(NotImplementedError, match="must override call"):
        DistillationLoss()(TEACHER, STUDENT)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (FeatureMatching(projector=None), "projector='auto'"),
        (SoftTargets(), "must have the same classes.*ClassMapping"),
    ],
)
def test_shapes_that_differ_are_refused(loss, message):
    loss.check_shapes((None, None, 5), (None, 3, 5))
    with pytest.raises(ValueError, match=message):
        loss.check_shapes((None, 5), (None, 4))


def test_mask_of_positions_counts_examples_where_values_have_no_positions():
    class WholeExample(DistillationLoss):
        def call(self, y_true, y_pred):
            return keras.ops.sum(keras.ops.square(y_true - y_pred), (1, 2))

    student = keras.ops.ones((3, 3, 2))  # as many positions as examples
    student._keras_mask = keras.ops.convert_to_tensor(
        [[True, False, True], [False, False, False], [True, True, True]]
    )
    teacher = keras.ops.reshape(keras.ops.arange(18.0), (3, 3, 2))
    squares = np.square(np.arange(18.0).reshape(3, 6) - 1).sum(axis=1)
    expected = (squares[0] + squares[2]) / 2
    assert float(WholeExample()(teacher, student)) == pytest.approx(expected)


def test_weight_of_positions_is_averaged_where_values_have_none():
    class WholeExample(DistillationLoss):
        def call(self, y_true, y_pred):
            return keras.ops.sum(keras.ops.square(y_true - y_pred), (1, 2))

    student, teacher = keras.ops.zeros((2, 4, 1)), keras.ops.ones((2, 4, 1))
    weight = np.array([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    value = float(WholeExample()(teacher, student, weight))
    assert value == pytest.approx((4 * 0.25 + 4 * 2.0) / 2)


def test_projector_of_a_users_own_runs_as_in_training():
    layer = keras.layers.BatchNormalization()
    loss = FeatureMatching(projector=layer)
    layer = loss.make_projector((None, 2), (None, 2), "projector")
    features = np.array([[1.0, 5.0], [3.0, 7.0]], "float32")
    found = loss.project(layer, features, features)
    np.testing.assert_allclose(np.mean(found, axis=0), 0.0, atol=1e-6)
    assert np.all(np.asarray(layer.moving_mean) > 0.0)
