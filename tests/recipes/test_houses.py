# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import houses


def table(rows=2_930):
    numbers = np.arange(rows)
    return {
        "size": numbers,
        "street": np.array(["Gravel", "Paved"])[numbers % 2],
        "rare": np.where(numbers < 5, "seldom", "often"),
        "same": np.zeros(rows),
        houses.LABEL: 1000 * numbers,
    }


def test_splits_hold_each_row_once_and_hide_prices():
    data = houses.split(table(), labelled=200)
    every = houses.split(table(), labelled=None)
    splits = (every.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [2000, 344, 586]
    prices = np.concatenate([y.ravel() for _, y in splits])
    np.testing.assert_array_equal(np.sort(prices), np.arange(2930))
    y = data.train[1]
    np.testing.assert_array_equal(y[:200], every.train[1][:200])
    assert (y[200:] == UNLABELLED).all()
    np.testing.assert_array_equal(data.train[0], every.train[0])


def test_words_become_inputs_and_numbers_are_standardised():
    x, y = houses.split(table(), labelled=None).train
    # size, two streets, "often" (not "seldom"), and what is always the same
    assert x.shape == (2000, 5) and x.dtype == "float32"
    size = (y - y.mean()) / y.std()
    np.testing.assert_allclose(x[:, 0], size[:, 0], atol=1e-4)
    np.testing.assert_array_equal(x[:, 2], y[:, 0] % 2)
    np.testing.assert_array_equal(x[:, 1] + x[:, 2], 1)
    assert set(x[:, 3]) <= {0, 1} and not x[:, 4].any()


def test_a_price_that_is_not_known_costs_nothing():
    y = np.array([[100.0], [UNLABELLED], [0.0]])
    answers = np.array([[103.0], [70.0], [2.0]])
    found = keras.ops.convert_to_numpy(houses.error_of_known(y, answers))
    np.testing.assert_allclose(found, [9, 0, 4])


def test_trees_are_grown_when_they_are_asked(monkeypatch):
    monkeypatch.setattr(
        houses, "load_data", lambda labelled: houses.split(table(), labelled)
    )
    monkeypatch.setattr(houses, "TREES", 5)
    teacher = houses.load_teacher()
    x = houses.split(table(), None).test[0]
    answers = teacher.function(x)
    assert answers.shape == (586, 1)
    assert np.corrcoef(answers[:, 0], x[:, 0])[0, 1] > 0.9


@pytest.mark.slow
def test_real_sales_arrive_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))
    data = houses.load_data()
    assert data.train[0].shape == (2000, 236)
    assert data.test[0].shape == (586, 236)
    assert (data.train[1] > 0).sum() == 200
    assert 12 < data.test[1].min() and data.test[1].max() <= 755
    assert houses.build_student().input_shape == (None, 236)
