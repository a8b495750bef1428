# SPDX-License-Identifier: Apache-2.0
"""Batches of samples, whatever nesting of arrays their inputs are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.data.splits import batch_specs


def length(x: Any) -> int:
    """Returns the number of samples in a batch."""
    return len(tf.nest.flatten(x)[0])


def rows_of(x: Any, rows: Any) -> Any:
    """Returns some samples of a batch, by anything that indexes an array."""
    return tf.nest.map_structure(lambda array: array[rows], x)


def specs_of(batches: Iterable) -> tuple[Any, Iterator]:
    """Returns specs of the inputs, and an iterator over all batches.

    Raises:
        ValueError: If there are none.
    """
    specs = getattr(batches, "element_spec", None)
    batches = iter(batches)
    if specs is not None:
        return specs, batches
    first = next(batches, None)
    if first is None:
        raise ValueError("There is nothing to label: the data set is empty.")
    return batch_specs(first), itertools.chain([first], batches)


def first_samples(
    batches: Iterator, count: int, rest: int, limit: int, fewer: bool
) -> tuple[Any, list] | None:
    """Returns `count` samples as one batch, and the next `rest` in batches.

    Args:
        batches: Batches of inputs, of which the first ones are read.
        count: How many come first.
        rest: How many follow.
        limit: Bytes of inputs that are held, about; two batches at least.
        fewer: Whether less than that will do.

    Returns:
        `None` if there are fewer and they will not do. A single sample is in
        both parts.
    """
    found, samples, size = [], 0, 0
    for x in batches:
        x = tf.nest.map_structure(np.asarray, x)
        found.append(x)
        samples += length(x)
        size += sum(array.nbytes for array in tf.nest.flatten(x))
        if samples >= count + rest or (size >= limit and len(found) > 1):
            break
    else:
        if not fewer or samples == 0:
            return None
    first, others = [], []
    missing = min(count, max(1, samples // 2))
    for x in found:
        here = min(missing, length(x))
        missing -= here
        first.append(rows_of(x, slice(here)))
        x = rows_of(x, slice(here, here + rest))
        rest -= length(x)
        if length(x):
            others.append(x)
    joined = tf.nest.map_structure(lambda *a: np.concatenate(a), *first)
    return joined, others or found
