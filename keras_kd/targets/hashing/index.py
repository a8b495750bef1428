# SPDX-License-Identifier: Apache-2.0
"""Where samples stand, by their fingerprints."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.data.batches import length
from keras_kd.data.batches import rows_of
from keras_kd.targets.hashing.fingerprint import fingerprints

_PART = 4096  # samples of an array that are looked at a time


def all_fingerprints(x: Any) -> tf.Tensor:
    """Returns fingerprints of arrays of any length: little is held beside."""
    parts = [
        fingerprints(rows_of(x, slice(at, at + _PART)))
        for at in range(0, length(x), _PART)
    ]
    return tf.concat([tf.zeros(0, tf.uint64), *parts], axis=0)


class FingerprintIndex:
    """Finds samples among others, in graphs too.

    A binary search in sorted numbers: as quick as a hash table, and no
    resource that a distribution strategy would have to know of.

    Args:
        marks: Fingerprints to search in, uint64 `(samples,)`.
    """

    def __init__(self, marks: np.ndarray):
        keys = marks.view("int64")
        order = np.argsort(keys, kind="stable")
        self._keys = tf.constant(keys[order])
        self._places = tf.constant(order, tf.int64)

    def find(self, marks) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `(places, known)` of fingerprints, both `(batch,)`."""
        marks = tf.bitcast(tf.convert_to_tensor(marks), tf.int64)
        at = tf.searchsorted(self._keys, marks, out_type=tf.int64)
        at = tf.minimum(at, tf.size(self._keys, tf.int64) - 1)
        known = tf.gather(self._keys, at) == marks
        return tf.gather(self._places, at), known
