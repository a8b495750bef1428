# SPDX-License-Identifier: Apache-2.0
"""SavedModels: loading one whatever operations it is made of."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

UNKNOWN = "Op type not registered"


def load_saved_model(path: str | os.PathLike) -> Any:
    """Returns a loaded SavedModel, also one that cuts text into tokens.

    Operations of TensorFlow Text are known once it has been imported, in each
    process anew. TensorFlow Serving has them built in.

    Args:
        path: The folder with `saved_model.pb`.

    Raises:
        ModuleNotFoundError: If TensorFlow Text may be what it lacks and is
            not installed.
    """
    try:
        return tf.saved_model.load(os.fspath(path))
    except Exception as error:  # TensorFlow raises it as one of several kinds
        if UNKNOWN not in str(error):
            raise
        try:
            import tensorflow_text  # noqa: F401
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                f"{path} is made of operations that are not in TensorFlow, as "
                "those of TensorFlow Text are: pip install tensorflow-text. "
                f"Received: {str(error)[:80]}"
            ) from missing
    return tf.saved_model.load(os.fspath(path))
