# SPDX-License-Identifier: Apache-2.0
"""Epochs: batches that know their places in the data and their epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import tensorflow as tf


def of_stream(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the batches of a data set as `{"element", "places", "epoch"}`.

    Args:
        dataset: Batched data set; each iteration over it is an epoch.
    """
    next_epoch = _epoch_counter()

    def step(state, element):
        seen, epoch = state
        epoch = tf.cond(seen == 0, next_epoch, lambda: epoch)
        size = tf.shape(tf.nest.flatten(element)[0], tf.int64)[0]
        places = seen + tf.range(size)
        found = {"element": element, "places": places, "epoch": epoch}
        return (seen + size, epoch), found

    start = (tf.constant(0, tf.int64), tf.constant(-1, tf.int64))
    return dataset.scan(start, step)


def of_arrays(
    count: int, batch_size: int, shuffle: bool = False, seed: int = 0
) -> tf.data.Dataset:
    """Returns the places of batches as `{"places", "epoch"}`.

    All places are shuffled, so the order is a true random one at no cost in
    memory, whatever the size of a sample.

    Args:
        count: Number of samples.
        batch_size: Samples in a batch; the last one may be smaller.
        shuffle: Whether to shuffle, anew in each epoch.
        seed: Seed of the shuffling; epochs differ, runs do not.
    """
    next_epoch = _epoch_counter()

    def begin(_):
        epoch = next_epoch()
        order = tf.range(count, dtype=tf.int64)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(
                order, tf.stack([tf.constant(seed, tf.int64), epoch])
            )
        return order, epoch

    def batches(order, epoch):
        # Slices of a matrix cost half of what slicing in a `map` does.
        full = count // batch_size * batch_size
        matrix = tf.reshape(order[:full], [-1, batch_size])
        found = tf.data.Dataset.from_tensor_slices(matrix)
        if full < count:
            rest = tf.data.Dataset.from_tensors(order[full:])
            found = found.concatenate(rest)
        epochs = tf.data.Dataset.from_tensors(epoch).repeat()
        return tf.data.Dataset.zip({"places": found, "epoch": epochs})

    length = tf.data.experimental.assert_cardinality(-(-count // batch_size))
    epoch = tf.data.Dataset.range(1).map(begin)
    return epoch.flat_map(batches).apply(length)


def _epoch_counter() -> Callable[[], tf.Tensor]:
    # In Python, once an epoch: a tf.Variable would belong to whichever
    # distribution strategy is in scope.
    counter = itertools.count()

    def next_epoch():
        found = tf.numpy_function(lambda: next(counter), [], tf.int64)
        return tf.ensure_shape(found, [])

    return next_epoch
