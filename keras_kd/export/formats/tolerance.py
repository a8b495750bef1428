# SPDX-License-Identifier: Apache-2.0
"""How far an exported file may differ from the model it was made of."""

from __future__ import annotations

import keras
import numpy as np

from keras_kd.core.file_formats import of_tflite

HALF_PRECISION_TOLERANCE = 1e-2
# What float32 itself cannot tell apart, relative to the answers' magnitude.
ROUNDING = 1e-6


def tolerance_of(
    quantize: str | None, given: float | None, *parts: keras.Layer | None
) -> float:
    """Returns the tolerance of a file, `given` if there is one.

    That of a SavedModel is the one of a .tflite file in float32.

    A loaded model may report float32 while its layers compute in half
    precision, so it is they who are asked.
    """
    if given is not None:
        return given
    half = any(half_precision_layers(part) for part in parts if part)
    floor = HALF_PRECISION_TOLERANCE if half else 0.0
    return max(of_tflite()[quantize].tolerance, floor)


def half_precision_layers(model: keras.Layer) -> list[keras.Layer]:
    """Returns the layers of a model that compute in half precision."""
    return [
        layer
        for layer in model._flatten_layers()
        if layer.dtype_policy.compute_dtype in ("float16", "bfloat16")
    ]


def allowed_difference(answers: np.ndarray, tolerance: float) -> float:
    """Returns how far a file's answers may be from a model's.

    That is the tolerance times the spread of the model's answers, the largest
    minus the smallest: a file that answers the same to everything is wrong
    however small its answers are. Where all are equal, or there is but one,
    it is relative to their magnitude.

    Example:

    ```python
    from keras_kd.export.formats.tolerance import allowed_difference

    allowed_difference(np.array([20.1, 20.3]), 0.25)  # about 0.05
    ```
    """
    finite = answers[np.isfinite(answers)].astype("float64")
    if not finite.size:
        return 0.0
    magnitude = np.abs(finite).max()
    spread = np.ptp(finite) or magnitude
    return float(tolerance * spread + ROUNDING * magnitude)
