# SPDX-License-Identifier: Apache-2.0
"""preprocessed(): splits of raw inputs, as a model takes them."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data

BATCH = 256


def check_preprocess(preprocess: Any) -> None:
    """Raises a `ValueError` unless it is a layer or a model, or `None`."""
    if preprocess is not None and not isinstance(preprocess, keras.Layer):
        raise ValueError(
            "`preprocess` must be a keras.Layer or keras.Model, since it goes "
            "into the exported files. Received: "
            f"{type(preprocess).__name__}. Write a function of keras.ops as "
            "keras.layers.Lambda(function)."
        )


def preprocessed(data: Data, preprocess: keras.Layer | None) -> Data:
    """Returns `Data` with what a layer makes of all inputs.

    Args:
        data: Splits of raw inputs, such as uint8 images or strings.
        preprocess: A layer or model, called with `training=False`; `None`
            returns `data`.

    Example:

    ```python
    from keras_kd.data.preprocessing import preprocessed

    scaled = preprocessed(data, keras.layers.Rescaling(1 / 255))
    ```
    """
    if preprocess is None:
        return data
    is_reported = data.reported_split == "validation"
    test = None if is_reported else _through(preprocess, data.test)
    return dataclasses.replace(
        data,
        train=_through(preprocess, data.train),
        validation=_through(preprocess, data.validation),
        test=test,
        identity=data.identity and f"{data.identity}, by {preprocess.name}",
    )


def _through(layer: keras.Layer, split: Split) -> Split:
    def answer(x):
        if isinstance(layer, keras.Model):
            x = inputs_for(layer, x)
        return layer(x, training=False)

    if isinstance(split, tf.data.Dataset):
        return split.map(lambda x, *rest: (answer(x), *rest))
    x, *rest = split
    batches = tf.data.Dataset.from_tensor_slices(x).batch(BATCH).map(answer)
    found = list(batches.as_numpy_iterator())
    x = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *found)
    return (x, *rest)
