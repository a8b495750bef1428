# SPDX-License-Identifier: Apache-2.0
"""Batch norm by the fused kernel is Keras' own, but for the last bits."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from distillers.tiny import cross_entropy
from distillers.tiny import labels
from keras_kd.core.fused_batch_norm import fused_batch_norm
from keras_kd.core.taps import ForwardPass

IMAGES = np.random.default_rng(0).normal(1.0, 2.0, (24, 3, 2, 4))
IMAGES = IMAGES.astype("float32")


def model(shape=(3, 2, 4), **options):
    made = keras.Sequential(
        [keras.Input(shape), layers.BatchNormalization(**options)]
    )
    rng = np.random.default_rng(1)
    made.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in made.weights])
    return made


def passed(made, x, fused, training=True):
    """Returns output, gradients and averages of one pass, and its graph."""

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = made(x, training=training)
            total = tf.reduce_sum(tf.sin(y))
        sources = [x, *(w.value for w in made.trainable_weights)]
        return y, tape.gradient(total, sources)

    x = tf.constant(x)
    if fused:
        with fused_batch_norm(made):
            graph = run.get_concrete_function(x).graph
    else:
        graph = run.get_concrete_function(x).graph
    kinds = {op.type for op in graph.get_operations()}
    found = tf.nest.flatten(run(x)) + made.non_trainable_weights
    return [np.array(a) for a in found], "FusedBatchNormV3" in kinds


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({}, True),
        ({"momentum": 0.9, "epsilon": 1e-2}, True),
        ({"scale": False}, True),
        ({"center": False, "axis": 3}, True),
        ({"dtype": "mixed_float16"}, True),
        ({"axis": 1}, False),
        ({"epsilon": 1e-6}, False),
        ({"renorm": True}, False),
        ({"trainable": False}, False),
    ],
)
def test_fused_batch_norm_is_that_of_keras(options, fits):
    expected, _ = passed(model(**options), IMAGES, fused=False)
    found, is_fused = passed(model(**options), IMAGES, fused=True)
    assert is_fused is fits
    precision = 2e-3 if "dtype" in options else 2e-5
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=precision, atol=precision)


@pytest.mark.parametrize(
    ("shape", "training"), [((4,), True), ((3, 4), True), ((3, 2, 4), False)]
)
def test_other_passes_are_left_as_they_are(shape, training):
    x = IMAGES.reshape(-1, *shape)
    expected, _ = passed(model(shape), x, False, training)
    found, is_fused = passed(model(shape), x, True, training)
    assert not is_fused
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pass_of_a_loop_of_ones_own_is_fused():
    """AutoGraph, which Keras keeps out of its own steps, reads it there."""
    forward = ForwardPass(model(), ["output"])

    @tf.function
    def run(x):
        return forward(x, training=True)[0], forward(x, training=False)[0]

    graph = run.get_concrete_function(IMAGES).graph
    kinds = [op.type for op in graph.get_operations()]
    assert kinds.count("FusedBatchNormV3") == 1


def test_averages_are_the_closed_form():
    made = model(momentum=0.25)
    mean, variance = (np.array(w) for w in made.non_trainable_weights)
    passed(made, IMAGES, fused=True)
    x = IMAGES.astype("float64")
    expected = [
        0.25 * mean + 0.75 * x.mean(axis=(0, 1, 2)),
        0.25 * variance + 0.75 * x.var(axis=(0, 1, 2)),
    ]
    for found, right in zip(made.non_trainable_weights, expected, strict=True):
        np.testing.assert_allclose(np.array(found), right, rtol=1e-5)


def test_model_is_left_as_it_was_whatever_happens():
    made = model()
    with pytest.raises(KeyError), fused_batch_norm(made):
        with fused_batch_norm(made):  # a model inside a model
            assert "call" in vars(made.layers[0])
        assert "call" in vars(made.layers[0])
        raise KeyError
    assert "call" not in vars(made.layers[0])


def student():
    made = model()
    made.add(layers.Flatten())
    made.add(layers.Dense(3))
    made.layers[-1].set_weights([np.full((24, 3), 0.1), np.zeros(3)])
    return made


def test_distiller_trains_as_keras_does():
    plain, ours = student(), student()
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    y = labels(24)
    plain.compile(keras.optimizers.SGD(0.1), cross_entropy())
    plain.fit(IMAGES, y, **fit)
    distiller = kd.Distiller(student(), ours, alpha=0.0)
    distiller.compile(keras.optimizers.SGD(0.1), cross_entropy())
    distiller.fit(IMAGES, y, **fit)
    for a, b in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
