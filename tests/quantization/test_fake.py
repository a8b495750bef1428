# SPDX-License-Identifier: Apache-2.0
"""Fake quantisation: what int8 holds, and a gradient straight through."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.quantization import FakeQuantize
from keras_kd.quantization import FakeQuantizedKernel
from keras_kd.quantization.fake import fake_quantize_kernel
from keras_kd.quantization.fake import shared_axes


def activations_twin(x, lowest, highest):
    """Asymmetric int8, zero being one of the values."""
    x = x.astype("float64")
    scale = (highest - lowest) / 255
    zero = np.clip(np.round(-128 - lowest / scale), -128, 127)
    integers = np.clip(np.round(x / scale + zero), -128, 127)
    return (integers - zero) * scale


def kernel_twin(kernel, axes):
    """Symmetric int8 with one scale a channel."""
    kernel = kernel.astype("float64")
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    scale[scale == 0] = 1
    integers = np.round(kernel / scale)
    assert np.abs(integers).max() <= 127
    return integers * scale


@pytest.mark.parametrize("lowest, highest", [(-1.3, 2.7), (0, 6), (-4, 0)])
def test_fake_quantize_is_its_twin(lowest, highest):
    x = np.random.default_rng(0).normal(scale=3, size=5000).astype("float32")
    rounded = FakeQuantize(lowest, highest)(x).numpy()
    twin = activations_twin(x, lowest, highest)
    quantum = (highest - lowest) / 255
    off = np.abs(rounded - twin)
    # A tie of float32 may fall the other way.
    assert np.mean(off < 1e-5) > 0.998 and off.max() < 1.01 * quantum
    assert len(np.unique(rounded)) <= 256 and 0.0 in rounded


def test_fake_quantize_passes_the_gradient_inside_its_range_only():
    x = tf.constant([-2.0, -0.5, 0.0, 0.7, 1.5])
    layer = FakeQuantize(-1.0, 1.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(layer(x) * [1.0, 2, 3, 4, 5])
    np.testing.assert_array_equal(tape.gradient(total, x), [0, 2, 3, 4, 0])


def test_fake_quantize_follows_the_data_in_training_only():
    layer = FakeQuantize(-1.0, 1.0, momentum=0.9)
    x = np.array([[-3.0, 5.0]], "float32")
    layer(x)
    assert (float(layer.lowest), float(layer.highest)) == (-1.0, 1.0)
    layer(x, training=True)
    assert float(layer.lowest) == pytest.approx(-0.9 - 0.3)
    assert float(layer.highest) == pytest.approx(0.9 + 0.5)
    layer(np.array([[2.0, 3.0]], "float32"), training=True)
    assert float(layer.lowest) == pytest.approx(0.9 * -1.2)  # keeps zero in
    kept = FakeQuantize(-1.0, 1.0, momentum=1.0)
    kept(x, training=True)
    assert float(kept.highest) == 1.0


@pytest.mark.parametrize("options", [(1.0, 1.0), (0.0, 1.0, 1.5)])
def test_fake_quantize_refuses_an_empty_range(options):
    with pytest.raises(ValueError, match="`minimum` must be below"):
        FakeQuantize(*options)


KINDS = {
    "dense": (layers.Dense(5), (4, 6)),
    "conv": (layers.Conv2D(5, 3), (4, 6, 6, 3)),
    "conv1d": (layers.Conv1D(5, 3), (4, 6, 3)),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (4, 6, 6, 3)),
    "transposed": (layers.Conv2DTranspose(5, 3), (4, 6, 6, 3)),
}
CHANNELS = {"dense": 5, "conv": 5, "conv1d": 5, "depthwise": 6}


@pytest.mark.parametrize("kind", KINDS)
def test_fake_quantized_kernel_runs_its_layer_with_the_rounded_kernel(kind):
    layer, shape = KINDS[kind]
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    wrapped = FakeQuantizedKernel(layer)
    answer = wrapped(x)
    kernel = layer.kernel.numpy()
    twin = kernel_twin(kernel, shared_axes(layer))
    assert len(np.unique(np.abs(kernel / twin).round(9))) > 10  # did round
    scales = np.abs(kernel).max(axis=shared_axes(layer))
    assert scales.size == CHANNELS.get(kind, 5)
    np.testing.assert_array_equal(layer.kernel, kernel)
    layer.kernel.assign(twin)
    np.testing.assert_allclose(answer, layer(x), atol=2e-6)
    layer.kernel.assign(kernel)


def test_fake_quantized_kernel_passes_the_whole_gradient():
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 4)))
    kernel[:, 2].assign(tf.zeros(3, kernel.dtype))  # a dead channel
    weights = np.arange(12.0).reshape(3, 4)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(fake_quantize_kernel(kernel, (0,)) * weights)
    np.testing.assert_array_equal(tape.gradient(total, kernel), weights)


def test_fake_layers_survive_saving(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            FakeQuantize(-2.0, 2.0),
            FakeQuantizedKernel(layers.Dense(3)),
        ]
    )
    model.layers[0].highest.assign(1.7)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))
