# SPDX-License-Identifier: Apache-2.0
"""The one two-replica strategy of a test process."""

from __future__ import annotations

import functools

import tensorflow as tf


@functools.cache
def two_replicas() -> tf.distribute.MirroredStrategy:
    """Returns a strategy over the two devices that conftest sets up.

    Always the same: every new strategy numbers its collectives from the same
    start, and TensorFlow remembers their shapes through the whole process.
    """
    devices = tf.config.list_logical_devices("CPU")
    assert len(devices) == 2
    return tf.distribute.MirroredStrategy([d.name for d in devices])
