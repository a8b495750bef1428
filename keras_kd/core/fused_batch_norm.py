# SPDX-License-Identifier: Apache-2.0
"""fused_batch_norm(): batch norm of images by TensorFlow's one kernel for it.

Keras 3 builds batch norm of a training from about 20 small operations, each
of which reads or writes the whole activation. On a CPU the kernel takes half
to a third of their time, forward and back, and gives the same numbers but for
the rounding of the last bits.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import keras
import tensorflow as tf
from keras import layers
from keras import ops

SMALLEST_EPSILON = 1.001e-5
"""The kernel's; it raises a smaller one without a word."""


@contextlib.contextmanager
def fused_batch_norm(
    model: keras.Model, training: bool | None = True
) -> Iterator[None]:
    """A block in which a model's layers of batch norm train by the kernel.

    Only plain `keras.layers.BatchNormalization` on float32 (or narrower)
    `(batch, height, width, channels)`, without a mask, renorm or statistics
    of several replicas. What is traced inside keeps it.

    Args:
        model: A built or unbuilt model; as it was, after the block.
        training: Whether it trains there; else nothing is done.

    Example:

    ```python
    from keras_kd.core.fused_batch_norm import fused_batch_norm

    with fused_batch_norm(student):
        student(images, training=True)
    ```
    """
    found = []
    # Replicas are traced by threads that take turns, in one and the same model.
    if training and tf.distribute.get_strategy().num_replicas_in_sync == 1:
        found = [
            layer
            for layer in model._flatten_layers()
            if type(layer) is layers.BatchNormalization
            and "call" not in vars(layer)
        ]
    for layer in found:
        # Past Keras' tracking: an attribute for a while, not a part.
        object.__setattr__(layer, "call", functools.partial(_call, layer))
    try:
        yield
    finally:
        for layer in found:
            object.__delattr__(layer, "call")


def _call(layer, inputs, training=None, mask=None):
    if not (training and layer.trainable and _fits(layer, inputs, mask)):
        call = layers.BatchNormalization.call
        return call(layer, inputs, training=training, mask=mask)
    x = ops.cast(inputs, "float32")
    channels = x.shape[-1]
    gamma = layer.gamma.value if layer.scale else tf.ones(channels)
    beta = layer.beta.value if layer.center else tf.zeros(channels)
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        x,
        ops.cast(gamma, "float32"),
        ops.cast(beta, "float32"),
        epsilon=layer.epsilon,
        is_training=True,
    )
    # The kernel's variance is over count - 1, the one Keras keeps over count.
    count = tf.cast(tf.size(x) // channels, "float32")
    variance *= (count - 1.0) / count
    for kept, new in (
        (layer.moving_mean, mean),
        (layer.moving_variance, variance),
    ):
        kept.assign(kept * layer.momentum + new * (1.0 - layer.momentum))
    return ops.cast(outputs, layer.compute_dtype)


def _fits(layer, inputs, mask):
    return (
        mask is None
        and len(inputs.shape) == 4
        and inputs.shape[-1] is not None
        and layer.axis in (-1, 3)
        and not (layer.renorm or layer.synchronized)
        and layer.epsilon >= SMALLEST_EPSILON
        and keras.backend.standardize_dtype(inputs.dtype) != "float64"
    )
