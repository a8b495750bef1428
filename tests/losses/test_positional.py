# SPDX-License-Identifier: Apache-2.0
"""A loss between features takes its taps first, whatever else it takes."""

from __future__ import annotations

import pytest

from keras_kd.losses import METHODS
from keras_kd.losses import Ranking


@pytest.mark.parametrize(
    "method",
    [m for m in METHODS if not m.logits and m is not Ranking],  # on outputs
    ids=lambda m: m.__name__,
)
def test_feature_losses_take_teacher_and_student_first(method):
    names = ["a"], ["b"]
    taps = ("a", "b")
    try:
        loss = method(*taps)
    except ValueError:  # several taps of each
        loss = method(*names)
    assert loss.taps == (("a",), ("b",))
