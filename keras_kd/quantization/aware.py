# SPDX-License-Identifier: Apache-2.0
"""quantization_aware(): a copy of a student that computes as int8 will."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.quantization.representative import SAMPLES
from keras_kd.quantization.representative import draw
from keras_kd.quantization.rewriting import rewrite

BATCH = 64


def quantization_aware(
    student: keras.Model,
    data: Data | Split | Arrays,
    samples: int = SAMPLES,
    momentum: float = 0.99,
) -> keras.Model:
    """Returns a copy of a student that rounds as int8 while it trains.

    For the case where int8 costs more accuracy than the task allows. Train
    the copy as any student, best by its teacher, for some epochs at a low
    learning rate; then `export` it with `quantize="int8"`: the file computes
    by the ranges that were learned here, and answers as the copy does.

    Kernels are rounded per channel and activations per tensor, as LiteRT
    does it; batch normalisations are folded into the layers before them. The
    student itself is not touched. Untrained, the copy answers as the
    student's int8 file does.

    Reference: [Jacob et al., 2017](https://arxiv.org/abs/1712.05877).

    Args:
        student: A Functional model, or a Sequential one that knows its input
            shape, of layers that LiteRT computes in int8: Dense, Conv1D,
            Conv2D, Conv2DTranspose, DepthwiseConv2D, and what is between
            them. Its weights are copied.
        data: What the ranges of activations begin with: `Data`, a split, or
            inputs. They are drawn at random, from a fixed seed.
        samples: How many examples to draw.
        momentum: Of the ranges' moving average in training; 1 keeps them.

    Raises:
        ValueError: If the student has no graph, or a layer of another kind,
            which is named.

    Example:

    ```python
    aware = kd.quantization_aware(student, data)
    distiller = kd.Distiller(teacher, aware, temperature=4.0)
    distiller.compile(keras.optimizers.Adam(1e-4), cross_entropy)
    distiller.fit(x, y, epochs=1)
    kd.export(aware, "saved_models", "aware", quantize="int8", inputs=x)
    ```
    """
    copy, ranges = rewrite(student, momentum)
    _observe(copy, ranges, draw(data, samples))
    return copy


def _observe(model, ranges, inputs):
    """Widens ranges to hold what these inputs make of a model."""
    for layer in ranges:
        layer.lowest.assign(0.0)
        layer.highest.assign(0.0)
        layer.observing = True
    try:
        for batch in tf.data.Dataset.from_tensor_slices(inputs).batch(BATCH):
            model(batch, training=False)
    finally:
        for layer in ranges:
            layer.observing = False
