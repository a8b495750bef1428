# SPDX-License-Identifier: Apache-2.0
"""FormByValues: an output of unknown form shows it in its first batches."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.output_kinds import are_distributions

_LOGITS, _PROBABILITIES = 1, 2


class FormByValues:
    """Tells logits from probabilities inside a compiled step.

    For class scores of unknown form. Rows in [0, 1] that sum to 1 are
    probabilities, a negative number is in none; a batch that shows neither
    is what the batches before were. What stays uncertain, or changes, is
    counted by the guard, and the step goes on with zeros.

    Args:
        whose: `"teacher"` or `"student"`.
    """

    def __init__(self, whose: str):
        self.whose = whose
        self._seen = keras.Variable(
            0,
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
            synchronization="on_read",
        )

    def are_probabilities(self, values, guard):
        """Returns a scalar boolean for a batch, and the values to go on with.

        Args:
            values: Tensor of shape `(batch, ..., n)`.
            guard: A `StepChecks`.
        """
        sums = are_distributions(values)
        negative = ops.min(values) < 0.0
        shown = ops.where(sums, _PROBABILITIES, ops.where(negative, _LOGITS, 0))
        shown, before = ops.cast(shown, "int32"), ops.copy(self._seen)
        form = ops.where(shown == 0, before, shown)
        changes = ops.logical_and(before != 0, form != before)
        is_probable = form == _PROBABILITIES
        broken = ops.logical_and(is_probable, ops.logical_not(sums))
        bad = ops.logical_or(ops.logical_or(form == 0, changes), broken)
        self._seen.assign(ops.where(bad, before, form))
        guard.count_range(f"{self.whose}_form", bad, values)
        values = ops.where(bad, ops.zeros_like(values), values)
        return is_probable, values
