# SPDX-License-Identifier: Apache-2.0
"""Channel-wise: what it shares with soft targets, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from keras_kd.losses import ChannelWise
from keras_kd.losses import channel_wise
from keras_kd.losses import soft_targets

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(3, 4, 2, 5)).astype("float32")
STUDENT = RNG.normal(size=(3, 4, 2, 5)).astype("float32")


def test_it_is_soft_targets_with_positions_as_classes():
    turned = [
        maps.reshape(3, 8, 5).transpose(0, 2, 1) for maps in (TEACHER, STUDENT)
    ]
    expected = np.mean(soft_targets(*turned, temperature=3.0), axis=1)
    values = channel_wise(TEACHER, STUDENT, temperature=3.0)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_constant_added_to_a_channel_changes_nothing():
    shift = RNG.normal(size=(3, 1, 1, 5)).astype("float32")
    values = channel_wise(TEACHER + shift, STUDENT - shift)
    expected = channel_wise(TEACHER, STUDENT)
    np.testing.assert_allclose(values, expected, rtol=1e-3)


def test_two_positions_by_hand():
    """KL between (s, 1 - s) and (1 - s, s) with s = sigmoid(2)."""
    values = channel_wise([[[2.0], [0.0]]], [[[0.0], [2.0]]], temperature=1.0)
    np.testing.assert_allclose(values, [2.0 * np.tanh(1.0)], rtol=1e-6)


def test_taps_without_positions_are_refused():
    """Over one position the loss would always be 0."""
    with pytest.raises(ValueError, match="needs maps with positions"):
        ChannelWise().check_shapes((None, 5), (None, 5))
    with pytest.raises(ValueError, match="needs maps with positions"):
        channel_wise([[1.0, 2.0]], [[2.0, 1.0]])


def test_taps_of_other_widths_ask_for_a_projector():
    loss = ChannelWise()
    assert loss.projector == "auto"
    loss.projector = None
    with pytest.raises(ValueError, match="projector='auto'"):
        loss.check_shapes((None, 4, 4, 8), (None, 4, 4, 6))
