# SPDX-License-Identifier: Apache-2.0
"""Layer norm and GELU with gradients written by hand: fewer passes each.

What TensorFlow derives from Keras' definitions multiplies again and again; here
each backward pass uses what the forward pass has left.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf
from keras import layers

ROOT = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)


@tf.custom_gradient
def gelu(x):
    below = 0.5 + 0.5 * tf.math.erf(x * ROOT)

    def gradient(upstream):
        return upstream * (below + x * DENSITY * tf.exp(-0.5 * x * x))

    return x * below, gradient


@tf.custom_gradient
def normalised(x, epsilon):
    def mean(values):
        return tf.reduce_mean(values, axis=-1, keepdims=True)

    centred = x - mean(x)
    inverse = tf.math.rsqrt(mean(tf.square(centred)) + epsilon)
    normal = centred * inverse

    def gradient(upstream):
        along = normal * mean(upstream * normal)
        return inverse * (upstream - mean(upstream) - along), None

    return normal, gradient


class LayerNorm(layers.LayerNormalization):
    def call(self, x):
        return normalised(x, self.epsilon) * self.gamma + self.beta


def fused(model: keras.Model) -> keras.Model:
    """Returns a copy of a functional model with these in their places."""

    def clone(layer):
        if type(layer) is layers.LayerNormalization:
            return LayerNorm.from_config(layer.get_config())
        copy = layer.__class__.from_config(layer.get_config())
        if getattr(copy, "activation", None) is keras.activations.gelu:
            copy.activation = gelu
        return copy

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
