# SPDX-License-Identifier: Apache-2.0
"""Operations against closed forms: two for each multiply-add."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.evaluation.flops import count_flops


def count(shape, *stack):
    model = keras.Sequential([keras.Input(shape), *stack])
    return count_flops(model, np.zeros((5, *shape), "float32"))


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((9,), layers.Dense(8), 2 * 9 * 8 + 8),
        ((5, 9), layers.Dense(8), 5 * (2 * 9 * 8 + 8)),
        (
            (5, 9),
            layers.EinsumDense("abc,cd->abd", (5, 8)),
            5 * 2 * 9 * 8,
        ),
        ((9, 4), layers.Conv1D(8, 3), 7 * 8 * (2 * 3 * 4 + 1)),
        ((28, 28, 1), layers.Conv2D(8, 3), 26 * 26 * 8 * (2 * 9 + 1)),
        (
            (9, 9, 4),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            5 * 5 * 8 * (2 * 9 * 4 + 1),
        ),
        (
            (9, 9, 4),
            layers.SeparableConv2D(8, 3, use_bias=False),
            7 * 7 * 2 * (9 * 4 + 4 * 8),
        ),
        (
            (9, 9, 4),
            layers.Conv2DTranspose(8, 3, strides=2, use_bias=False),
            9 * 9 * 4 * 2 * 9 * 8,
        ),
        (
            (9, 9, 9, 4),
            layers.Conv3D(8, 3, use_bias=False),
            7**3 * 8 * 2 * 27 * 4,
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_flops_equal_the_closed_form(shape, layer, expected):
    assert count(shape, layer) == expected


def test_flops_of_attention_hold_its_products():
    x = keras.Input((16, 32))
    attention = layers.MultiHeadAttention(4, 8, use_bias=False)
    found = count_flops(
        keras.Model(x, attention(x, x)), np.zeros((2, 16, 32), "float32")
    )
    products = 4 * 2 * 16 * 32 * 32 + 2 * 2 * 16 * 16 * 32
    softmax_and_scale = 4 * 16 * 16 * 6
    assert found == products + softmax_and_scale


def test_flops_in_a_loop_are_not_guessed():
    steps, units = 5, 3
    assert count((steps, 9), layers.LSTM(units)) is None
    unrolled = count((steps, 9), layers.LSTM(units, unroll=True))
    products = steps * 2 * (9 + units) * 4 * units
    assert products < unrolled < 1.2 * products


@pytest.mark.parametrize("name", ["keras", "saved_model"])
def test_flops_of_a_file_are_those_of_its_model(
    name, artefacts, trained, digits
):
    expected = count_flops(trained, digits.test[0])
    found = count_flops(artefacts[name], digits.test[0])
    # The SavedModel also gives probabilities: ten through a softmax.
    softmax = 5 * 10 if name == "saved_model" else 0
    assert found == expected + softmax


def test_flops_of_a_litert_file_are_not_guessed(artefacts, digits):
    assert count_flops(artefacts["float32"], digits.test[0]) is None
