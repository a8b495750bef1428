# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import digits


def images(*splits):
    return {x.tobytes() for split in splits for x in split[0]}


def test_load_data_splits_are_fixed_and_disjoint():
    data, again = digits.load_data(), digits.load_data()
    sizes = [len(s[1]) for s in (data.train, data.validation, data.test)]
    assert sizes == [1077, 270, 450]
    for part in ("train", "validation", "test"):
        for first, second in zip(
            getattr(data, part), getattr(again, part), strict=True
        ):
            np.testing.assert_array_equal(first, second)
    assert len(images(data.train, data.validation, data.test)) == 1797
    assert data.train[0].min() == 0.0 and data.train[0].max() == 1.0


@pytest.mark.parametrize("labelled", [50, 100])
def test_load_data_keeps_as_many_labels_as_asked(labelled):
    y = digits.load_data(labelled=labelled).train[1]
    every = digits.load_teacher_data().train[1]
    known = y != UNLABELLED
    assert known.sum() == labelled
    np.testing.assert_array_equal(y[known], every[known])
    counts = np.bincount(y[known], minlength=10)
    assert counts.max() - counts.min() <= 2


def test_teacher_data_has_all_labels_and_the_same_scans():
    data, teacher_data = digits.load_data(), digits.load_teacher_data()
    assert (teacher_data.train[1] != UNLABELLED).all()
    for part in ("train", "validation", "test"):
        first, second = getattr(data, part), getattr(teacher_data, part)
        np.testing.assert_array_equal(first[0], second[0])
