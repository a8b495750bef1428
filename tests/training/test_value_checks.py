# SPDX-License-Identifier: Apache-2.0
"""What would spoil a training in silence is refused before it begins."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.data.splits import Data
from keras_kd.training.value_checks import check_labels
from keras_kd.training.value_checks import check_values

X = np.zeros((6, 2, 2), "float32")
Y = np.arange(6) % 3
PAIR = X, Y
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def student():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((2, 2)), layers.Flatten(), layers.Dense(3)]
    )


def one(array, value):
    array = np.array(array, "float32")
    array.flat[-1] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_one_value_of_an_array_is_refused(name, value):
    fine = Data(PAIR, PAIR, PAIR)
    check_values(fine, student())
    for split in ((one(X, value), Y), ({"a": X, "b": one(X, value)}, Y)):
        data = dataclasses.replace(fine, **{name: split})
        with pytest.raises(ValueError, match=f"`{name}`: input .* example 5"):
            check_values(data, student())
    data = dataclasses.replace(fine, **{name: (X, one(Y, value))})
    with pytest.raises(ValueError, match=f"`{name}`: label .* example 5"):
        check_values(data, student())


@pytest.mark.parametrize("value", [0.5, 3, 99, -2, np.nan])
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_label_that_is_no_class_is_refused(name, value):
    fine = Data(PAIR, PAIR, PAIR)
    check_labels(fine, student(), SPARSE)
    data = dataclasses.replace(fine, **{name: (X, one(Y, value))})
    with pytest.raises(ValueError, match=f"`{name}`: .* example 5"):
        check_labels(data, student(), SPARSE)
    check_labels(data, student(), "mse")  # numbers are what they are


def test_label_that_is_left_out_is_no_class():
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=255)
    for value in (-1, 255):
        data = Data((X, one(Y, value)), PAIR)
        check_labels(data, student(), loss)


def test_gaps_that_the_student_fills_itself_are_no_error():
    class Filled(keras.layers.Layer):
        def call(self, x):
            return keras.ops.where(keras.ops.isnan(x), 0.0, x)

    fills = keras.Sequential([keras.Input((2, 2)), Filled(), student()])
    check_values((one(X, np.nan), Y), fills)
    with pytest.raises(ValueError, match="must be finite"):
        check_values((one(X, np.inf), Y), fills)


def calls(tmp_path, data):
    teacher, settings = student(), {"epochs": 1, "verbose": 0}
    folder = tmp_path / "run"
    build = student
    return {
        "search": lambda: kd.search(teacher, build, data, 3, folder),
        "compress": lambda: kd.compress(
            teacher, build, data, folder, **settings
        ),
        "born_again": lambda: kd.born_again(build, data, 1, **settings),
        "teach_through": lambda: kd.teach_through(
            teacher, [build], data, **settings
        ),
        "prune": lambda: kd.prune(student(), data, 0.5, epochs=1),
    }


@pytest.mark.parametrize(
    "call",
    ["search", "compress", "born_again", "teach_through", "prune"],
)
def test_every_training_refuses_bad_values_first(tmp_path, call):
    data = Data((one(X, np.nan), Y), PAIR)
    with pytest.raises(ValueError, match="must be finite"):
        calls(tmp_path, data)[call]()


def test_compress_refuses_a_test_label_of_no_class(tmp_path):
    data = Data(PAIR, PAIR, (X, one(Y, 99)))
    with pytest.raises(ValueError, match="`test`"):
        calls(tmp_path, data)["compress"]()
