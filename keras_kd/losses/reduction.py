# SPDX-License-Identifier: Apache-2.0
"""From values of examples and positions to one number, as Keras does it."""

from __future__ import annotations

import keras
from keras import ops


class Reduction(keras.losses.Loss):
    """Keras' own reduction, applied to values that are computed already."""

    def call(self, y_true, y_pred):
        return y_pred


def to_rank_of(weight, values):
    """Returns weights or a mask `(batch, ...)` of the rank of `values`.

    Where it has more axes than the values, an example's weight is the mean
    over them, and an example counts if any position of it does.
    """
    surplus = tuple(range(len(values.shape), len(weight.shape)))
    if surplus:
        is_mask = keras.backend.standardize_dtype(weight.dtype) == "bool"
        weight = (ops.any if is_mask else ops.mean)(weight, axis=surplus)
    while len(weight.shape) < len(values.shape):
        weight = ops.expand_dims(weight, axis=-1)
    return weight
