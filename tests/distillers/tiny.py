# SPDX-License-Identifier: Apache-2.0
"""Tiny models, data and comparisons that the tests of the distiller share."""

from __future__ import annotations

import keras
import numpy as np

FEATURES = 4
CLASSES = 3

EXTRA_LOGS = {"student_loss", "soft_targets", "teacher_agreement"}


def features(rows=24, seed=0):
    shape = (rows, FEATURES)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def labels(rows=24, seed=1):
    return np.random.default_rng(seed).integers(0, CLASSES, rows)


def cross_entropy(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **kwargs
    )


def linear(seed=0, units=CLASSES, activation=None, **kwargs):
    """One dense layer: small enough to compute a step by hand."""
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=keras.initializers.RandomNormal(
                    0.0, 1.0, seed=seed
                ),
                bias_initializer=keras.initializers.RandomNormal(
                    0.0, 1.0, seed=seed + 100
                ),
                name="scores",
            ),
        ],
        **kwargs,
    )


def mlp(*hidden, width=8, seed=0, activation=None, units=CLASSES, **kwargs):
    """A small network; `hidden` are layers between its two dense layers."""
    initializer = keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(
                width,
                activation="relu",
                kernel_initializer=initializer(seed),
                name="hidden",
            ),
            *hidden,
            keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=initializer(seed + 100),
                name="scores",
            ),
        ],
        **kwargs,
    )


class Count(keras.layers.Layer):
    """Passes its input on and counts how often the step really ran it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0
        self.training_flags = []

    def call(self, x, training=None):
        # Tests that count run eagerly, so that Python sees each execution.
        # A symbolic call, which only infers shapes, is none.
        if not isinstance(x, keras.KerasTensor) and hasattr(x, "numpy"):
            self.calls += 1
            self.training_flags.append(training)
        return x


def weights_of(model):
    return model.get_weights()


def assert_same_weights(first, second, tolerance=0.0):
    """Compares weights, bit for bit unless a tolerance is given."""
    first, second = (
        m if isinstance(m, list) else weights_of(m) for m in (first, second)
    )
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        if tolerance:
            np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)
        else:
            np.testing.assert_array_equal(a, b)


# Independent witnesses, in float64.


def log_softmax(z):
    z = np.asarray(z, "float64")
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def softmax(z):
    return np.exp(log_softmax(z))


def kl(teacher, student, temperature):
    """T^2 KL(teacher || student), one value a row."""
    p = log_softmax(np.asarray(teacher, "float64") / temperature)
    q = log_softmax(np.asarray(student, "float64") / temperature)
    return temperature**2 * (np.exp(p) * (p - q)).sum(-1)


def nll(y, logits):
    """Cross-entropy of class ids, one value a row."""
    return -np.take_along_axis(log_softmax(logits), y[..., None], -1)[..., 0]


def dense(model, x):
    """Output of `linear` in float64."""
    kernel, bias = (np.asarray(w, "float64") for w in model.get_weights())
    return np.asarray(x, "float64") @ kernel + bias
