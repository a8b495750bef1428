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

    def __init__(self, names: Iterable[str]):
        keys = ("student_loss", *names)
        self.losses = {key: keras.metrics.Mean(name=key) for key in keys}
        self.agreement = keras.metrics.Mean(name="teacher_agreement")

    def update(self, values: dict, agreement, batch_size) -> dict:
        """Adds one batch and returns the means so far.

        Values are as Keras losses give them: divided by the number of
        replicas. The agreement is a pair (0/1 values, mask), or `None`.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        logs = {}
        for name, value in values.items():
            self.losses[name].update_state(value * replicas, batch_size)
            logs[name] = self.losses[name].result()
        if agreement is not None:
            same, mask = agreement
            if mask is not None:
                mask = ops.cast(mask, "float32")
            self.agreement.update_state(same, mask)
            logs["teacher_agreement"] = self.agreement.result()
        return logs

    def result(self) -> dict:
        """Returns all the means, summed up over replicas outside a step."""
        metrics = {**self.losses, "teacher_agreement": self.agreement}
        return {name: metric.result() for name, metric in metrics.items()}

    def reset(self) -> None:
        """Starts a new epoch."""
        for metric in (*self.losses.values(), self.agreement):
            metric.reset_state()
