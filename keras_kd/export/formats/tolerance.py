# SPDX-License-Identifier: Apache-2.0
"""How far an exported file may differ from the model it was made of."""

from __future__ import annotations

import keras

# Relative to the outputs' magnitude, by how a file was quantised.
TOLERANCES = {
    None: 1e-4,
    "float16": 1e-2,
    "dynamic": 0.1,
    "int8": 0.25,
    "full_int8": 0.25,
}
HALF_PRECISION_TOLERANCE = 1e-2


def tolerance_of(
    model: keras.Model, quantize: str | None, given: float | None = None
) -> float:
    """Returns the largest difference allowed, `given` if there is one."""
    if given is not None:
        return given
    is_half = keras.backend.standardize_dtype(model.compute_dtype) in (
        "float16",
        "bfloat16",
    )
    floor = HALF_PRECISION_TOLERANCE if is_half else 0.0
    return max(TOLERANCES[quantize], floor)
