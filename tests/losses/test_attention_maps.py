# SPDX-License-Identifier: Apache-2.0
"""Attention maps: masked keys, heads, refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_kd.losses import AttentionMaps
from keras_kd.losses import attention_maps

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(2, 4, 3, 3)).astype("float32")
STUDENT = RNG.normal(size=(2, 4, 3, 3)).astype("float32")


@pytest.mark.parametrize("masked", [-1e4, -1e9, -np.inf])
def test_masked_keys_add_nothing(masked):
    """Added to the scores, as attention layers do it."""
    mask = np.array([0.0, 0.0, masked], "float32")
    values = attention_maps(TEACHER + mask, STUDENT + mask)
    squared = (TEACHER - STUDENT)[..., :2] ** 2
    expected = squared.sum(axis=-1).mean(axis=1) / 3
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_mask_of_a_keras_attention_layer_leaves_padded_queries_out():
    """Keras marks the scores of padded tokens, by query and key."""
    tokens = np.array([[3, 5, 0, 0], [2, 1, 4, 0]])
    maps = []
    for heads in (4, 2):
        states = keras.layers.Embedding(6, 8, mask_zero=True)(tokens)
        attention = keras.layers.MultiHeadAttention(heads, 4)
        _, scores = attention(states, states, return_attention_scores=True)
        maps.append(scores)
    assert maps[1]._keras_mask.shape == (2, 1, 4, 4)
    expected = np.asarray(attention_maps(*maps))[tokens != 0].mean()
    np.testing.assert_allclose(AttentionMaps()(*maps), expected, rtol=1e-5)
    # Asking does not change what the layer marked.
    assert maps[1]._keras_mask.shape == (2, 1, 4, 4)


def test_equal_numbers_of_heads_are_compared_head_by_head():
    swapped = TEACHER[:, ::-1]
    assert np.min(attention_maps(TEACHER, swapped)) > 0.0


def test_other_numbers_of_heads_are_compared_by_their_mean():
    order = RNG.permutation(4)
    values = attention_maps(TEACHER, STUDENT[:, :2])
    expected = attention_maps(TEACHER[:, order], STUDENT[:, 1::-1])
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    values = attention_maps(TEACHER, TEACHER.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(values, np.zeros((2, 3)), atol=1e-10)


@pytest.mark.parametrize(
    "student", [(None, 3, 3), (None, 4, 3, 5), (None, 4, 5, 3)]
)
def test_maps_over_other_positions_are_refused(student):
    loss = AttentionMaps()
    loss.check_shapes((None, 4, None, 3), (None, 2, 3, None))
    with pytest.raises(ValueError, match="over the same positions"):
        loss.check_shapes((None, 4, 3, 3), student)
