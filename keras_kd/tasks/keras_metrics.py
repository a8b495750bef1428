# SPDX-License-Identifier: Apache-2.0
"""Keras metrics that Keras does not have."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.data.splits import UNLABELLED


@keras.saving.register_keras_serializable(package="keras_kd")
class UnitAccuracy(keras.metrics.Mean):
    """How often yes/no units are right; entries of -1 are left out.

    Unlike `keras.metrics.BinaryAccuracy` it takes a threshold of 0, which
    logits have.

    Args:
        threshold: Where yes begins.
        name: Its name.
        dtype: As in Keras.
    """

    def __init__(self, threshold=0.5, name="unit_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(ops.reshape(y_true, ops.shape(y_pred)), self.dtype)
        is_right = ops.equal(y_pred > self.threshold, y_true > 0.5)
        weight = ops.cast(ops.not_equal(y_true, UNLABELLED), self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.dtype)
            while len(sample_weight.shape) < len(weight.shape):
                sample_weight = ops.expand_dims(sample_weight, -1)
            weight = weight * sample_weight
        super().update_state(ops.cast(is_right, self.dtype), weight)

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="keras_kd")
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    """The exponential of the mean cross-entropy of a token."""

    def __init__(self, name="perplexity", **kwargs):
        super().__init__(name=name, **kwargs)

    def result(self):
        return ops.exp(super().result())
