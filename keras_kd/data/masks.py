# SPDX-License-Identifier: Apache-2.0
"""with_masks(): what a model masks weighs 0, whoever is judged on it.

Keras leaves masked positions out of losses and metrics. A file knows no
masks, so there they are sample weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.output_heads import outputs_by_name
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_dataset


def masks_of(outputs: Any) -> Any:
    """Returns the masks that Keras left on outputs, `None` without any.

    Args:
        outputs: What a model has just answered: a tensor or a dict of them.

    Returns:
        Booleans `(batch, ...)`; of a dict one of those that have a mask.
    """
    if not isinstance(outputs, Mapping):
        mask = getattr(outputs, "_keras_mask", None)
        # A Lambda that takes the mean of a sequence hands its mask on.
        is_of_positions = mask is not None and (
            len(mask.shape) < len(outputs.shape)
            and mask.shape.is_compatible_with(outputs.shape[: len(mask.shape)])
        )
        return mask if is_of_positions else None
    found = {name: masks_of(part) for name, part in outputs.items()}
    return {k: mask for k, mask in found.items() if mask is not None} or None


def with_masks(split: Split, model: keras.Model) -> Split:
    """Returns a split whose masked positions have the sample weight 0.

    Args:
        split: Arrays, or a batched `tf.data.Dataset`.
        model: A built model, such as one with `Embedding(mask_zero=True)`.

    Returns:
        `split` itself if the model's outputs have no mask.

    Example:

    ```python
    from keras_kd.data.masks import with_masks

    with_masks((x, y), student)  # (x, y): this student masks nothing
    ```
    """
    batches = as_dataset(split)

    def mask(x):
        outputs = model(inputs_for(model, x), training=False)
        one, *others = keras.tree.flatten(outputs)
        return masks_of(outputs_by_name(model, outputs) if others else one)

    first = next(iter(batches.take(1)), None)
    if first is None or (found := mask(first[0])) is None:
        return split
    if isinstance(found, Mapping) and not isinstance(first[1], Mapping):
        return split  # which labels are whose is for the task to say
    if isinstance(split, tf.data.Dataset):
        apart = _outside_of_graphs(mask, found)
        return split.map(lambda x, y, *w: (x, y, _weights(apart(x), y, *w)))
    every = [mask(x) for x, *_ in batches]
    found = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *every)
    x, y, *weight = split
    weights = _weights(found, y, *weight)
    return x, y, tf.nest.map_structure(np.asarray, weights)


def _outside_of_graphs(mask, like):
    """Returns `mask` for a data set, whose graph may not reach a GPU."""
    flat = tf.nest.flatten(like)

    def apart(x):
        def run(*parts):
            found = mask(tf.nest.pack_sequence_as(x, parts))
            return tf.nest.flatten(found)

        kinds = [part.dtype for part in flat]
        found = tf.py_function(run, tf.nest.flatten(x), kinds)
        for part, one in zip(found, flat, strict=True):
            part.set_shape([None] * one.shape.rank)
        return tf.nest.pack_sequence_as(like, found)

    return apart


def with_masked(data: Data, model: keras.Model) -> Data:
    """Returns `Data` whose validation and test are `with_masks`."""
    validation = with_masks(data.validation, model)
    if validation is data.validation:
        return data
    test = None
    if data.reported_split == "test":
        test = with_masks(data.test, model)
    return dataclasses.replace(data, validation=validation, test=test)


def with_labels_of(data: Data, other: Data) -> Data:
    """Returns `Data` with labels and weights of the same examples in another.

    Those of the validation and test splits.
    """

    def joined(split, labelled):
        if not isinstance(split, tf.data.Dataset):
            return (split[0], *labelled[1:])
        both = tf.data.Dataset.zip((split, labelled))
        return both.map(lambda one, two: (one[0], *two[1:]))

    validation = joined(data.validation, other.validation)
    is_test = data.reported_split == "test"
    test = joined(data.test, other.test) if is_test else None
    return dataclasses.replace(data, validation=validation, test=test)


def _weights(mask, labels, weight=None):
    """Returns sample weights of all labels, in their structure."""
    if not isinstance(labels, Mapping):
        return _product(mask, weight)
    masks = mask if isinstance(mask, Mapping) else dict.fromkeys(labels, mask)
    weights = weight
    if not isinstance(weight, Mapping):
        weights = dict.fromkeys(labels, weight)
    # An output without a mask counts whole.
    whole = {name: ops.ones(ops.shape(y)[:1]) for name, y in labels.items()}
    masks = {**whole, **masks}
    return {name: _product(masks[name], weights[name]) for name in labels}


def _product(mask, weight):
    found = ops.cast(mask, "float32")
    if weight is None:
        return found
    missing = len(found.shape) - len(weight.shape)
    if missing < 0:
        return _product(weight, mask)
    return found * ops.cast(weight, "float32")[(..., *[None] * missing)]
