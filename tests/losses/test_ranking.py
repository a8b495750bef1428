# SPDX-License-Identifier: Apache-2.0
"""Ranking: weights by hand, items left out, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd.losses import Ranking
from keras_kd.losses import ranking
from keras_kd.targets.store.encodings import TopK

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(4, 12)).astype("float32")
STUDENT = RNG.normal(size=(4, 12)).astype("float32")


def test_static_weights_by_hand():
    """The teacher's items 2 and 0, weighing e : 1."""
    values = ranking([[2.0, 1.0, 3.0]], [[-1.0, 50.0, 2.0]], top_k=2)
    first, second = np.logaddexp(0.0, [-2.0, 1.0])
    expected = (np.e * first + second) / (np.e + 1.0)
    np.testing.assert_allclose(values, [expected], rtol=1e-6)


def test_dynamic_weight_by_hand():
    """The teacher's best item comes last: two ranks behind."""
    values = ranking(
        [[3.0, 2.0, 1.0]], [[-1.0, 0.0, 1.0]], 1, dynamic=True, discrepancy=0.5
    )
    expected = np.tanh(0.5 * 2) * np.logaddexp(0.0, 1.0)
    np.testing.assert_allclose(values, [expected], rtol=1e-6)


def test_dynamic_loss_is_zero_for_a_student_that_agrees():
    values = ranking(TEACHER, 0.1 * TEACHER - 5.0, dynamic=True)
    np.testing.assert_array_equal(values, np.zeros(4))


@pytest.mark.parametrize("left_out", [-1e9, -np.inf])
@pytest.mark.parametrize("dynamic", [False, True])
def test_items_left_out_count_nowhere(left_out, dynamic):
    """Down to fewer than top_k items, and to none."""
    teacher, student = TEACHER.copy(), STUDENT.copy()
    for row, count in enumerate([0, 5, 10, 12]):
        teacher[row, :count] = left_out
        student[row, :count] = 40.0
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = ranking(teacher, student, top_k=4, dynamic=dynamic)
    gradient = tape.gradient(values, student).numpy()
    expected = reference.ranking(
        teacher.astype("float64"),
        student.numpy().astype("float64"),
        top_k=4,
        dynamic=dynamic,
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert values[-1] == 0.0
    assert np.isfinite(gradient).all()
    assert not gradient[2, :10].any()


def test_top_k_target_gives_the_value_of_all_scores():
    """With items left out, down to one that is not."""
    teacher = np.where(np.arange(12) < [[12], [9], [3], [1]], TEACHER, -1e9)
    target = TopK(5).target(TopK(5).fields(teacher))
    values = Ranking(4, reduction=None)(target, STUDENT)
    np.testing.assert_allclose(values, ranking(teacher, STUDENT, 4), rtol=1e-6)


@pytest.mark.parametrize("dynamic", [False, True])
def test_items_that_the_student_masks_too_keep_the_loss_finite(dynamic):
    """A student that gives padding -inf, and fewer items than top_k."""
    teacher = np.where(np.arange(12) < 2, TEACHER, -np.inf)
    student = np.where(np.arange(12) < 2, STUDENT, -np.inf)
    values = ranking(teacher, student, top_k=4, dynamic=dynamic)
    expected = ranking(TEACHER[:, :2], STUDENT[:, :2], top_k=2, dynamic=dynamic)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_ties_rank_together():
    """None of the items is preferred to another, so none is behind."""
    values = ranking(TEACHER, np.zeros_like(TEACHER), dynamic=True)
    np.testing.assert_array_equal(values, np.zeros(4))


def test_more_ranks_than_items_are_refused():
    with pytest.raises(ValueError, match="Pass a smaller top_k"):
        Ranking().check_shapes((None, 9), (None, 9))
    with pytest.raises(ValueError, match="Pass a smaller top_k"):
        ranking([[1.0, 2.0]], [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0}, "`top_k` must be an integer"),
        ({"top_k": 2.5}, "`top_k` must be an integer"),
        ({"position_decay": 0.0}, "`position_decay` must be positive"),
        ({"discrepancy": -1.0}, "`discrepancy` must be positive"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ranking(**arguments)
