# SPDX-License-Identifier: Apache-2.0
"""What would spoil a training in silence is refused before it begins."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.data.splits import Data
from keras_kd.distillers.value_checks import check_labels
from keras_kd.distillers.value_checks import check_values

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


def fit(x, y, loss=SPARSE, model=None):
    model = model or student()
    distiller = kd.Distiller(
        None, model, alpha=0.5, distillation_losses=kd.losses.Regression()
    )
    x = kd.attach_targets(x, {"output": np.zeros((6, 3), "float32")}, "values")
    distiller.compile("sgd", loss, run_eagerly=True)
    distiller.fit(x, y, batch_size=6, verbose=0)
    return model


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (one(X, np.nan), Y, "`x`: input .* example 5"),
        (one(X, np.inf), Y, "`x`: input .* example 5"),
        (one(X, 3e38), Y, "`x`: input .* example 5"),
        (X, np.array(["a", "b"])[Y % 2], "`y` must be numbers.* np.unique"),
        (X, one(Y, np.nan), "`y`: label .* example 5"),
        (X, one(Y, 0.5), "`y`: a label .* 0.5 for example 5"),
        (X, one(Y, 99), "`y`: a label .* 99.0 for example 5"),
    ],
)
def test_fit_refuses_arrays_before_the_first_step(x, y, text):
    model = student()
    before = model.get_weights()
    for given in (x, y), (tf.constant(x), tf.constant(y)):
        with pytest.raises(ValueError, match=text):
            fit(*given, model=model)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def masked(y, answer):
    y = keras.ops.cast(y, "float32")
    gap = keras.ops.isnan(y)
    return keras.ops.square(keras.ops.where(gap, 0.0, y - answer[:, 0]))


@pytest.mark.parametrize(
    ("y", "loss"),
    [
        (one(Y, -1), SPARSE),
        (one(np.tile(Y[:, None], 3), 1e12), "mean_absolute_error"),
        (one(np.tile(Y[:, None], 3), 1e25), "mean_absolute_error"),
        (one(Y, np.nan), masked),
    ],
)
def test_fit_lets_pass_what_is_legal(y, loss):
    model = fit(X, y, loss)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_fit_lets_pass_huge_numbers_that_the_student_scales():
    scaled = keras.Sequential(
        [keras.Input((2, 2)), keras.layers.Rescaling(1e-30), student()]
    )
    fit(one(X, 1e30), Y, model=scaled)


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
