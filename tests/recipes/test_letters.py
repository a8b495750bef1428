# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import letters


def table(rows=6_600):
    """Rows that are all different, in the form of the file's table."""
    numbers = np.arange(rows)
    columns = {f"x{i}": (numbers >> i) % 2.0 for i in range(16)}
    return {letters.LABEL: np.array(list("ABCDEF"))[numbers % 6], **columns}


def rows_of(split):
    return set(map(bytes, split[0]))


def test_splits_hold_each_row_once_and_hide_labels_evenly():
    data = letters.split(table(), labelled=12)
    splits = (data.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [600, 2000, 4000]
    assert len(set.union(*map(rows_of, splits))) == 6_600
    labels = data.train[1]
    known = labels != UNLABELLED
    every = letters.split(table(), labelled=None)
    np.testing.assert_array_equal(labels[known], every.train[1][known])
    assert np.bincount(labels[known]).tolist() == [2] * 6
    assert (every.train[1] != UNLABELLED).all()
    assert data.class_names == tuple("ABCDEF")
    np.testing.assert_array_equal(data.test[1], np.arange(2600, 6600) % 6)


def test_forest_is_grown_when_it_is_asked(monkeypatch):
    asked = []

    def load_data(labelled):
        asked.append(labelled)
        return letters.split(table(), labelled)

    monkeypatch.setattr(letters, "load_data", load_data)
    monkeypatch.setattr(letters, "TREES", 3)
    teacher = letters.load_teacher()
    assert not asked
    x, y = letters.split(table(), None).train
    for _ in range(2):
        answers = teacher.function(x)
    np.testing.assert_array_equal(answers.argmax(axis=-1), y)
    assert asked == [None]  # once, with all labels


@pytest.mark.slow
def test_real_table_arrives_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))
    data = letters.load_data()
    assert data.train[0].shape == (14_000, 16)
    assert data.train[0].min() == 0 and data.train[0].max() == 15
    labels = data.train[1]
    known = labels[labels != UNLABELLED]
    assert len(known) == 520
    counts = np.bincount(known)
    assert len(counts) == 26 and counts.max() - counts.min() <= 4
    assert len(data.class_names) == 26 and len(data.test[1]) == 4000
