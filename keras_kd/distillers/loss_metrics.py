# SPDX-License-Identifier: Apache-2.0
"""LossMetrics: the running means that only training reports."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf
from keras import ops


class LossMetrics:
    """Means over an epoch of the parts of the distiller's loss.

    A plain object beside `model.metrics`: metrics of the model would be
    reported by `evaluate` too, where nothing updates them.
    """

    def __init__(self, names: Iterable[str], agreements: Iterable[str] = ()):
        keys = ("student_loss", *names, *agreements)
        self.means = {key: keras.metrics.Mean(name=key) for key in keys}

    def update(self, values: dict, agreement: dict, batch_size) -> dict:
        """Adds one batch and returns the means so far.

        Values are as Keras losses give them: divided by the number of
        replicas. An agreement is a pair (0/1 values, mask).
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        logs = {}
        for name, value in values.items():
            self.means[name].update_state(value * replicas, batch_size)
            logs[name] = self.means[name].result()
        for name, (same, mask) in agreement.items():
            if mask is not None:
                mask = ops.cast(mask, "float32")
            self.means[name].update_state(same, mask)
            logs[name] = self.means[name].result()
        return logs

    def result(self) -> dict:
        """Returns all the means, summed up over replicas outside a step."""
        return {name: mean.result() for name, mean in self.means.items()}

    def reset(self) -> None:
        """Starts a new epoch."""
        for mean in self.means.values():
            mean.reset_state()
