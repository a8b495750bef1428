# SPDX-License-Identifier: Apache-2.0
"""The samples of a data set, one batch after the other, with fingerprints."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.data.batches import length
from keras_kd.data.reading import Streams
from keras_kd.data.splits import as_dataset
from keras_kd.targets.hashing.fingerprint import fingerprints


def inputs_of(data: Any, batch_size: int) -> tf.data.Dataset:
    """Returns the inputs of a data set as `{"x": batch}`, without labels.

    Raises:
        ValueError: If the data set never ends.
    """
    dataset = as_dataset(data, batch_size, "dataset")
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "Labelling needs a data set that ends. Received: one that "
            "repeats forever. Call .repeat() after `attach`, not before."
        )
    # In a dict, since `map` would unpack inputs that are a tuple.
    return dataset.map(lambda *element: {"x": element[0]})


def batches_of(
    inputs: tf.data.Dataset, batch_size: int, shard_size: int
) -> tf.data.Dataset:
    """Returns `(x, fingerprints)` in batches that fill shards exactly."""
    sizes = [min(batch_size, shard_size)] * (shard_size // batch_size)
    if shard_size % batch_size:
        sizes.append(shard_size % batch_size)
    return (
        inputs.rebatch(sizes)
        .map(
            lambda element: (element["x"], fingerprints(element["x"])),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(2)
    )


def without(
    inputs: tf.data.Dataset, known: np.ndarray, batch_size: int
) -> tf.data.Dataset:
    """Returns inputs without the samples whose fingerprint is known."""
    keys = tf.constant(known.view("int64"))
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, tf.ones_like(keys)), 0
    )

    def is_new(element):
        one = tf.nest.map_structure(lambda t: t[tf.newaxis], element["x"])
        mark = tf.bitcast(fingerprints(one), tf.int64)
        return table.lookup(mark)[0] == 0

    return inputs.unbatch().filter(is_new).batch(batch_size)


def sample_count(data: Any, batch_size: int) -> int | None:
    """Returns how many samples a data set has, at most; `None`: unknown."""
    if not isinstance(data, Streams):
        return length(data)
    dataset = as_dataset(data, batch_size)
    batches = int(dataset.cardinality())
    if batches <= 0:
        return None
    first = next(iter(dataset))
    return batches * int(tf.shape(tf.nest.flatten(first)[0])[0])
