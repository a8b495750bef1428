# SPDX-License-Identifier: Apache-2.0
"""Gradients at zero vectors, where Keras' own are NaN under XLA."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_kd import losses
from keras_kd.losses.geometry import directions
from keras_kd.losses.geometry import lengths

VECTORS = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]], "float32")


def gradient(function, x, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def compiled(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(function(x))
        return tape.gradient(value, x)

    return compiled(tf.constant(x)).numpy()


def test_values():
    np.testing.assert_allclose(lengths(VECTORS), [[0.0], [5.0]])
    expected = [[0.0, 0.0, 0.0], [0.6, 0.0, 0.8]]
    np.testing.assert_allclose(directions(VECTORS), expected, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_is_zero_at_a_zero_vector(jit_compile):
    slope = gradient(lengths, VECTORS, jit_compile)
    np.testing.assert_allclose(slope, directions(VECTORS), rtol=1e-6)
    slope = gradient(directions, VECTORS, jit_compile)
    # (sum of ones - its part along the direction) / length
    expected = [[0.0, 0.0, 0.0], [0.032, 0.2, -0.024]]
    np.testing.assert_allclose(slope, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (losses.attention_transfer, (3, 2, 2, 4)),
        (losses.similarity_preserving, (3, 4)),
        (losses.relational, (3, 4)),
        (losses.channel_wise, (3, 4, 2)),
        (losses.hidden_states, (3, 2, 4)),
        (losses.attention_maps, (3, 2, 4, 4)),
        (losses.ranking, (3, 12)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_gradient_of_a_loss_is_finite_at_zero_under_xla(function, shape):
    features = np.random.default_rng(0).normal(size=shape).astype("float32")

    @tf.function(jit_compile=True)
    def compiled(teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = function(teacher, student)
        return tape.gradient(value, student)

    for teacher, student in itertools.product(
        [features, 0 * features], repeat=2
    ):
        slope = compiled(tf.constant(teacher), tf.constant(student))
        assert np.isfinite(slope).all()
