# SPDX-License-Identifier: Apache-2.0
"""Warnings about a teacher with nothing to teach."""

from __future__ import annotations

import numpy as np
import pytest

from keras_kd.workflows.teacher_checks import chance_level
from keras_kd.workflows.teacher_checks import warn_of_teacher

LABELS = np.array([0] * 6 + [1] * 3 + [2] + [-1] * 5)


def test_chance_level_is_the_most_frequent_class():
    assert chance_level(LABELS) == 0.6
    assert chance_level(np.array([0.5, 1.5])) is None
    assert chance_level(np.array([-1, -1])) is None
    assert chance_level(np.eye(4, dtype=int)[[0, 0, 0, 1]]) == 0.75


def test_teacher_at_chance_is_named():
    (warning,) = warn_of_teacher(0.6, LABELS, control=0.5)
    assert "nothing to teach" in warning
    assert "60.0%" in warning


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (0.903, "is hardly better than"),
        (0.9, "is not better than"),
        (0.8, "is not better than"),
    ],
)
def test_teacher_no_better_than_control_is_named(teacher, words):
    (warning,) = warn_of_teacher(teacher, LABELS, control=0.9)
    assert words in warning


def test_good_teacher_is_not_warned_of():
    assert warn_of_teacher(0.95, LABELS, control=0.9) == []
    assert warn_of_teacher(0.95, LABELS) == []
    assert warn_of_teacher(None, LABELS) == []
