# SPDX-License-Identifier: Apache-2.0
"""A search that takes a second: for tests here and in other processes."""

from __future__ import annotations

import functools

import keras
import numpy as np

import keras_kd as kd
from keras_kd.data.splits import Data


def split(seed, rows=64):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype("float32")
    y = (x @ np.random.default_rng(9).normal(size=(4, 3))).argmax(1)
    return x, y.astype("int32")


DATA = Data(split(0), split(1), split(2))


def build_student(width=6):
    # Without biases: Adam takes long to trace, by the variable.
    dense = functools.partial(keras.layers.Dense, use_bias=False)
    return keras.Sequential(
        [
            keras.Input((4,)),
            dense(width, activation="relu", name="hidden"),
            keras.layers.Dropout(0.1),
            dense(3),
        ]
    )


def make_teacher():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,))
    first = keras.layers.Dense(8, activation="relu", name="first")(inputs)
    second = keras.layers.Dense(8, activation="relu", name="second")(first)
    return keras.Model(inputs, keras.layers.Dense(3)(second))


def quickly(directory, build=build_student, teacher=None, data=DATA, **kwargs):
    """Runs `kd.search` on the toy."""
    settings = {"trials": 4, "epochs": 3, "batch_size": 16, **kwargs}
    teacher = teacher or make_teacher()
    return kd.search(teacher, build, data, directory=directory, **settings)
