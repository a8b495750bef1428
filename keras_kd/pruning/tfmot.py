# SPDX-License-Identifier: Apache-2.0
"""The only file that imports tfmot, and only inside functions.

Importing tfmot sets `TF_USE_LEGACY_KERAS=1`, which turns `tf.keras` into
Keras 2 for the rest of the process. Here `tf.keras` is resolved before and
the environment put back after, so `tf.keras` stays Keras 3.
"""

from __future__ import annotations

import os
import sys

import tensorflow as tf

VARIABLE = "TF_USE_LEGACY_KERAS"


def import_tfmot():
    """Returns the module `tensorflow_model_optimization`, safely imported.

    Raises:
        ImportError: If it is not installed.

    Example:

    ```python
    tfmot = kd.pruning.import_tfmot()
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0)
    ```
    """
    return _import()[0]


def import_engine():
    """Returns tfmot's class `Pruning`: masks on plain variables.

    Its module is private to tfmot, so a test watches that it is there.
    """
    return _import()[1]


class WholeModelEngine:
    """Masks the smallest weights of all kernels, wherever they are.

    tfmot's engine sees all kernels laid end to end as a single one; its mask
    is then cut up again. The arguments are the engine's own: the variable of
    the step, `(weight, mask, threshold)` of each kernel, and the schedule.
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


def _import():
    before = os.environ.get(VARIABLE)
    if "tensorflow_model_optimization" not in sys.modules:
        # Reading an attribute makes the lazy `tf.keras` decide what it is.
        _ = tf.keras.layers
    try:
        import tensorflow_model_optimization
        from tensorflow_model_optimization.python.core.sparsity.keras import (
            pruning_impl,
        )

        return tensorflow_model_optimization, pruning_impl.Pruning
    except ImportError as error:
        raise ImportError(
            "Pruning needs tensorflow-model-optimization 0.8. Install it with "
            "`pip install 'tensorflow-model-optimization~=0.8.1'`. "
            f"Received: {error}"
        ) from error
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
