# SPDX-License-Identifier: Apache-2.0
"""The only file that imports tfmot, and only inside functions.

Importing tfmot sets `TF_USE_LEGACY_KERAS=1`, which turns `tf.keras` into
Keras 2 for the rest of the process. Here `tf.keras` is resolved before and
the environment put back after, so `tf.keras` stays Keras 3.
"""

from __future__ import annotations

import contextlib
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
    with _keeping_keras_3():
        import tensorflow_model_optimization

        return tensorflow_model_optimization


def import_engine():
    """Returns tfmot's class `Pruning`: masks on plain variables.

    Its module is private to tfmot, so a test watches that it is there.

    Raises:
        ImportError: If tfmot is not installed, or has moved the class.
    """
    with _keeping_keras_3():
        from tensorflow_model_optimization.python.core.sparsity.keras import (
            pruning_impl,
        )

        return pruning_impl.Pruning


@contextlib.contextmanager
def _keeping_keras_3():
    before = os.environ.get(VARIABLE)
    if "tensorflow_model_optimization" not in sys.modules:
        # Reading an attribute makes the lazy `tf.keras` decide what it is.
        _ = tf.keras.layers
    try:
        yield
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
