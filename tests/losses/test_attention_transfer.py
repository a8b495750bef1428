# SPDX-License-Identifier: Apache-2.0
"""Attention transfer: pooling, invariances and refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd.losses import AttentionTransfer
from keras_kd.losses import attention_transfer
from selection import quick

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(3, 4, 6, 5))
STUDENT = RNG.normal(size=(3, 2, 3, 2))


def test_small_values_equal_the_reference():
    """The contract compares to 1e-4, which is much beside such values."""
    expected = reference.attention_transfer(TEACHER, STUDENT)
    values = attention_transfer(TEACHER, STUDENT)
    np.testing.assert_allclose(values, expected, rtol=1e-4)


@pytest.mark.parametrize("swap", [False, True])
def test_larger_map_is_averaged_before_it_is_squared(swap):
    pooled = TEACHER.reshape(3, 2, 2, 3, 2, 5).mean(axis=(2, 4))
    expected = attention_transfer(pooled, STUDENT)
    pair = (STUDENT, TEACHER) if swap else (TEACHER, STUDENT)
    np.testing.assert_allclose(attention_transfer(*pair), expected, rtol=1e-4)


def test_scale_of_a_map_changes_nothing():
    values = attention_transfer(5.0 * TEACHER, 0.1 * STUDENT)
    expected = attention_transfer(TEACHER, STUDENT)
    np.testing.assert_allclose(values, expected, rtol=1e-4)


def test_opposite_attention_by_hand():
    """Q = (1, 0) and (0, 1): both positions are off by 1."""
    values = attention_transfer([[[3.0], [0.0]]], [[[0.0], [2.0]]])
    np.testing.assert_allclose(values, [1.0], rtol=1e-6)


def test_weight_is_the_papers():
    assert AttentionTransfer().weight == 1000.0


@pytest.mark.parametrize(
    ("teacher", "student"),
    [((None, 8), (None, 8)), ((None, 4, 4, 8), (None, 16, 8))],
)
def test_taps_without_common_positions_are_refused(teacher, student):
    with pytest.raises(ValueError, match="same number of axes"):
        AttentionTransfer().check_shapes(teacher, student)


def test_sizes_that_only_a_step_knows_are_pooled_as_known_ones():
    rng = np.random.default_rng(0)
    unknown = tf.TensorSpec((None, None, None, 3))
    compiled = tf.function(
        attention_transfer, input_signature=[unknown, unknown]
    )
    for sizes in ((4, 4), (5, 3), (2, 7)):
        maps = [rng.normal(size=(2, n, n, 3)).astype("float32") for n in sizes]
        found = compiled(*maps)
        np.testing.assert_allclose(found, attention_transfer(*maps), atol=1e-6)


SIZES = [(1, 1), (1, 6), (4, 1), (4, 3), (5, 4)]


@pytest.mark.parametrize(
    ("sizes", "jit_compile"),
    [
        *((sizes, False) for sizes in SIZES),
        *quick(1, [(sizes, True) for sizes in SIZES[::-1]]),
    ],
)
def test_maps_of_any_size_are_pooled_also_in_a_graph(sizes, jit_compile):
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(3, 8, 6, 4)).astype("float32")
    student = rng.normal(size=(3, *sizes, 5)).astype("float32")
    # Outside a graph Keras pools to every size.
    pooled = keras.ops.adaptive_average_pool(
        tf.constant(teacher), sizes, "channels_last"
    )
    expected = reference.attention_transfer(np.asarray(pooled), student)
    step = tf.function(attention_transfer, jit_compile=jit_compile)
    np.testing.assert_allclose(step(teacher, student), expected, atol=1e-6)
