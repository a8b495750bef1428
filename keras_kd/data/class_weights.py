# SPDX-License-Identifier: Apache-2.0
"""Class weights: what an example counts, by its label."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.type_aliases import Split


def with_class_weights(split: Split, weights: Mapping[int, float]) -> Split:
    """Returns a split whose sample weights are multiplied by class weights.

    Args:
        split: Arrays or a batched data set of `(x, y)` or `(x, y,
            sample_weight)`; `y` holds class numbers, `(examples,)` or
            `(examples, 1)`. One without a label (-1) counts 1.
        weights: Class number to weight; of a class that is not there, 1.

    Raises:
        ValueError: If a weight is none, or labels are no class numbers.
    """
    table = _table(weights)
    others = np.int64(len(table) - 1)

    def weight_of(labels):
        """Works on arrays and on tensors."""
        number = tf.reshape(tf.cast(labels, tf.int64), [-1])
        # The last place is that of all other classes, and of no label.
        is_other = (number < 0) | (number > others)
        return tf.gather(table, tf.where(is_other, others, number))

    if isinstance(split, tf.data.Dataset):
        _check_labels(split.element_spec[1])
        return split.map(
            lambda x, y, *w: (x, y, _times(weight_of(y), *w)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    x, y, *given = split
    _check_labels(y)
    return x, y, _times(weight_of(y).numpy(), *given)


def _times(by_class, given=None):
    return by_class if given is None else by_class * given


def _table(weights):
    """Returns what each class number counts, and at the end all others: 1."""
    for number, weight in weights.items():
        is_class = isinstance(number, (int, np.integer)) and number >= 0
        if not (is_class and isinstance(weight, Real) and 0 <= weight < np.inf):
            raise ValueError(
                "`class_weight` must hold a number from 0 on for each class "
                "number, such as {0: 1.0, 1: 5.0}. "
                f"Received: {{{number!r}: {weight!r}}}"
            )
    table = np.ones(max(weights) + 2, np.float32)
    table[list(weights)] = list(weights.values())
    return table


def _check_labels(labels: Any) -> None:
    shape = getattr(labels, "shape", None)
    if shape is not None and (len(shape) == 1 or tuple(shape[1:]) == (1,)):
        is_array = isinstance(labels, np.ndarray)
        if not is_array and labels.dtype.is_integer:
            return
        if is_array and labels.dtype.kind in "uif":
            if np.array_equal(labels, np.floor(labels)):
                return
    received = type(labels).__name__
    if shape is not None:
        received = f"labels of shape {tuple(shape)} and dtype {labels.dtype}"
    raise ValueError(
        "`class_weight` is for labels that are class numbers, (examples,) of "
        "whole numbers. For others, such as one-hot rows, positions or "
        f"several outputs, give (x, y, sample_weight). Received: {received}"
    )
