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

from keras_kd.core.versions import require

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

    As tfmot's engine does within each kernel, of which it has the arguments:
    the variable of the step, `(weight, mask, threshold)` of each kernel, and
    the schedule.
    """

    def __init__(self, step, pruned, schedule):
        self._step, self._pruned, self._schedule = step, pruned, schedule
        options = (schedule, (1, 1), "AVG", None)
        self._each = import_engine()(lambda: step, pruned, *options)

    def conditional_mask_update(self):
        """Updates the masks if the schedule says so."""
        tf.cond(self._schedule(self._step)[0], self._update, tf.no_op)

    def weight_mask_op(self):
        """Sets masked weights to zero."""
        return self._each.weight_mask_op()

    def _update(self):
        flat = [tf.reshape(weight, [-1]) for weight, _, _ in self._pruned]
        sizes = tf.sort(tf.abs(tf.concat(flat, 0)), direction="DESCENDING")
        share = 1.0 - self._schedule(self._step)[1]
        kept = tf.round(tf.cast(tf.size(sizes), "float32") * share)
        smallest = sizes[tf.cast(tf.maximum(kept, 1.0), "int32") - 1]
        for weight, mask, _ in self._pruned:
            mask.assign(tf.cast(tf.abs(weight) >= smallest, mask.dtype))
        return tf.no_op()


def _import():
    require("tensorflow-model-optimization", needed_by="Pruning")
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
