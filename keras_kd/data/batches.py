# SPDX-License-Identifier: Apache-2.0
"""Batches of samples, whatever nesting of arrays or tensors they are."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def length(x: Any) -> int:
    """Returns the number of samples in a batch."""
    return len(tf.nest.flatten(x)[0])


def rows_of(x: Any, rows: Any) -> Any:
    """Returns some samples of a batch, by anything that indexes an array."""
    return tf.nest.map_structure(lambda array: array[rows], x)


def gather(x: Any, rows: Any) -> Any:
    """Returns some samples of a batch by their places, in graphs too."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), x)
