# SPDX-License-Identifier: Apache-2.0
"""Real digits, and a small student that has to follow its teacher on them."""

from __future__ import annotations

import functools

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_kd as kd


@functools.cache
def digits():
    """Returns 800 scans `(800, 64)` in [0, 1] and their labels."""
    x, y = load_digits(return_X_y=True)
    return (x[:800] / 16.0).astype("float32"), y[:800].astype("int32")


def network(*hidden, seed=0, activation=None, units=10):
    initializer = keras.initializers.GlorotUniform
    sizes = [*hidden, units]
    stack = [keras.Input((64,))]
    for index, size in enumerate(sizes):
        is_last = index == len(sizes) - 1
        stack.append(
            keras.layers.Dense(
                size,
                activation=activation if is_last else "relu",
                kernel_initializer=initializer(seed + index),
                name="scores" if is_last else f"hidden_{index}",
            )
        )
    return keras.Sequential(stack)


def trained(seed, rows=slice(None), epochs=12, activation=None):
    """Returns a teacher that learned from the labels of some rows."""
    model = network(32, seed=seed, activation=activation)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=activation is None
    )
    model.compile(keras.optimizers.Adam(0.01), loss)
    x, y = digits()
    model.fit(x[rows], y[rows], batch_size=64, epochs=epochs, verbose=0)
    return model


def learned_agreement(teacher, student=None, epochs=10, labels=None, **kwargs):
    """Returns `(before, after)`: how often the student says the same.

    It is measured by the teacher's own answers outside of training.
    """
    x, _ = digits()
    student = student or network(16, seed=7)
    kwargs = {"temperature": 2.0, "alpha": 1.0, **kwargs}
    distiller = kd.Distiller(teacher, student, **kwargs)
    distiller.compile(keras.optimizers.Adam(0.01))
    said = kd.teachers.get(teacher)(x)["output"]
    before = same_choice(said, student(x))
    distiller.fit(x, labels, batch_size=64, epochs=epochs, verbose=0)
    return before, same_choice(said, student(x))


def same_choice(first, second):
    return float(np.mean(np.argmax(first, -1) == np.argmax(second, -1)))
