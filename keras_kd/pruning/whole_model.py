# SPDX-License-Identifier: Apache-2.0
"""One threshold for a whole model, by tfmot's engine for one kernel."""

from __future__ import annotations

import tensorflow as tf

from keras_kd.pruning.tfmot import import_engine


class WholeModelEngine:
    """Masks the smallest weights of all kernels, wherever they are.

    The engine sees all kernels laid end to end as a single one; its mask is
    then cut up again.

    Args:
        step: Variable that counts the steps.
        pruned: `(weight, mask, threshold)` of each kernel, as tfmot's engine
            takes them.
        schedule: A tfmot `PruningSchedule`.
    """

    def __init__(self, step, pruned, schedule):
        self._step, self._pruned, self._schedule = step, pruned, schedule
        self._sizes = [mask.shape.num_elements() for _, mask, _ in pruned]
        size, dtype = sum(self._sizes), pruned[0][0].dtype
        self._weights = tf.Variable(tf.zeros(size, dtype), trainable=False)
        self._mask = tf.Variable(tf.ones(size, dtype), trainable=False)
        whole = (self._weights, self._mask, tf.Variable(0, dtype=dtype))
        build, options = import_engine(), (schedule, (1, 1), "AVG", None)
        self._whole = build(lambda: step, [whole], *options)
        self._each = build(lambda: step, pruned, *options)

    def conditional_mask_update(self):
        """Updates the masks if the schedule says so."""
        tf.cond(self._schedule(self._step)[0], self._update, tf.no_op)

    def weight_mask_op(self):
        """Sets masked weights to zero."""
        return self._each.weight_mask_op()

    def _update(self):
        flat = [tf.reshape(weight, [-1]) for weight, _, _ in self._pruned]
        self._weights.assign(tf.concat(flat, 0))
        self._whole.conditional_mask_update()
        parts = tf.split(self._mask, self._sizes)
        for (_, mask, _), part in zip(self._pruned, parts, strict=True):
            mask.assign(tf.reshape(part, mask.shape))
        return tf.no_op()
