# SPDX-License-Identifier: Apache-2.0
"""Students, data and settings that the tests of the search share."""

from __future__ import annotations

import functools

import keras
import keras_tuner

from distillers import tiny

X = tiny.features(32)
Y = tiny.labels(32)
VALIDATION = tiny.features(16, seed=2), tiny.labels(16, seed=3)


class Traced(keras.layers.Layer):
    """Passes its input on and counts how often Python saw it."""

    count = 0

    def call(self, x):
        if not isinstance(x, keras.KerasTensor):
            Traced.count += 1
        return x


def build_student():
    """A student whose passes differ, with weights from the global seed."""
    # Without biases: Adam takes long to trace, by the variable.
    dense = functools.partial(keras.layers.Dense, use_bias=False)
    return keras.Sequential(
        [
            keras.Input((tiny.FEATURES,)),
            dense(8, activation="relu", name="hidden"),
            keras.layers.Dropout(0.3),
            Traced(),
            dense(tiny.CLASSES),
        ]
    )


def settings(**values):
    """Hyperparameters of one trial."""
    hp = keras_tuner.HyperParameters()
    hp.values = {"temperature": 4.0, "alpha": 0.7, "learning_rate": 1e-3}
    hp.values |= values
    return hp


def train(hyper, hp, seed=0, x=X, y=Y, **kwargs):
    """Runs one trial and returns its distiller; counts traces of its fit."""
    keras.utils.set_random_seed(seed)
    distiller = hyper.build(hp)
    Traced.count = 0
    kwargs = {"epochs": 2, "batch_size": 8, "verbose": 0, **kwargs}
    hyper.fit(hp, distiller, x, y, validation_data=VALIDATION, **kwargs)
    return distiller
