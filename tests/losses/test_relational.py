# SPDX-License-Identifier: Apache-2.0
"""Relational: parts, invariances and duplicates."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial import distance

from keras_kd.losses import Relational
from keras_kd.losses import relational
from selection import quick

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(6, 5)).astype("float32")
STUDENT = RNG.normal(size=(6, 3)).astype("float32")


def test_distances_are_those_of_scipy_and_the_huber_loss_that_of_keras():
    tables = []
    # Far from the others, so that the Huber loss is linear for some pairs.
    far = STUDENT + 40.0 * np.eye(6, 3, dtype="float32")[::-1]
    for points in (TEACHER, far):
        pairs = distance.pdist(points)
        tables.append(distance.squareform(pairs / pairs.mean()))
    assert abs(tables[0] - tables[1]).max() > 1.0
    huber = keras.losses.Huber(delta=1.0)(*tables)
    loss = Relational(distance_weight=25.0, angle_weight=0.0)(TEACHER, far)
    np.testing.assert_allclose(loss, 25.0 * huber, rtol=1e-5)


def test_angles_by_hand():
    """A right angle at the first point; its student is straight there."""
    right = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    straight = [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
    values = relational(right, straight, 0.0, 1.0)
    # Cosine 0 against -1 at the first, 1 / sqrt(2) against 1 at the others;
    # each angle counts twice among the 9 of a point.
    other = 0.5 * (1.0 - 0.5**0.5) ** 2
    expected = np.array([0.5, other, other]) * 2 / 9
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_motion_and_scale_change_nothing():
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    moved = (3.0 * TEACHER @ rotation + 10.0).astype("float32")
    values = relational(TEACHER, moved)
    np.testing.assert_allclose(values, np.zeros(6), atol=1e-8)


@pytest.mark.parametrize("jit_compile", quick(1, [True, False]))
def test_duplicates_in_the_batch_keep_the_gradient_finite(jit_compile):
    distance = Relational()

    @tf.function(jit_compile=jit_compile)
    def step(student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            loss = distance(TEACHER, student)
        return loss, tape.gradient(loss, student)

    student = STUDENT[[0, 0, 1, 2, 2, 2]]
    loss, gradient = step(tf.constant(student))
    assert np.isfinite(loss) and np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0.0


def test_duplicates_do_not_count_in_the_mean_distance():
    """Distances 0, 1, 1 have the mean 1 among those above 0."""
    values = relational([[0.0], [0.0], [1.0]], [[0.0], [1.0], [2.0]], 1.0, 0.0)
    # Teacher 0, 1, 1; student 3/4, 3/2, 3/4.
    parts = 0.5 * np.array([[0.75, 0.5], [0.75, 0.25], [0.5, 0.25]]) ** 2
    np.testing.assert_allclose(values, parts.sum(axis=1) / 3, rtol=1e-5)


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (0.0, 0.0), (1.0, -1.0)])
def test_weights_that_teach_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="must not be negative"):
        Relational(distance_weight=weights[0], angle_weight=weights[1])
